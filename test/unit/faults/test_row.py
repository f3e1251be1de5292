# SPDX-License-Identifier: Apache-2.0
"""Rows and what comes of them: bookkeeping, order, reports."""

import json
import math

import pytest

from td3_agent.faults.report import Run, failures, line, report
from td3_agent.faults.row import Outcome, Registry, Row, order


class TestOutcome:
    def test_nothing_checked_is_not_passed(self):
        assert not Outcome().passed

    def test_one_failure_fails(self):
        outcome = Outcome()
        outcome.equal('one', 1, 1)
        assert outcome.passed
        outcome.equal('two', 1, 2)
        assert not outcome.passed
        assert [check.name for check in outcome.failed] == ['two']
        assert (outcome.failed[0].found, outcome.failed[0].wanted) == ('1', '2')

    @pytest.mark.parametrize(
        ('found', 'passed'), [(0.5, True), (0.6, False), (math.nan, False), (None, False)]
    )
    def test_most(self, found, passed):
        assert Outcome().most('stop after', found, 0.5, 's') is passed

    @pytest.mark.parametrize(
        ('found', 'passed'), [(0.5, True), (0.4, False), (math.nan, False), (None, False)]
    )
    def test_least(self, found, passed):
        assert Outcome().least('pace', found, 0.5) is passed

    def test_faults_are_told_but_not_all(self):
        outcome = Outcome()
        assert outcome.none('a', [])
        assert not outcome.none('b', ['1', '2', '3', '4', '5'])
        assert outcome.failed[0].found == '1; 2; 3 and 2 more'

    def test_a_part_keeps_its_name(self):
        part, whole = Outcome(), Outcome()
        part.equal('same', 1, 1)
        part.figures['time_s'] = 2.0
        whole.add(part, 'shm full')
        assert whole.checks[0].name == 'shm full: same'
        assert whole.figures == {'shm_full_time_s': 2.0}


class TestRegistry:
    def test_order_is_the_tables(self):
        names = ['F10', 'F2', 'L2', 'F1', 'L1']
        assert sorted(names, key=order) == ['L1', 'L2', 'F1', 'F2', 'F10']

    def test_rows_come_in_order(self):
        registry = Registry()
        for name in ('F2', 'L1', 'F1'):
            registry.row(name, name)(lambda _: Outcome())
        assert [row.name for row in registry.rows()] == ['L1', 'F1', 'F2']

    def test_twice_is_refused(self):
        registry = Registry()
        registry.row('F1', 'one')(lambda _: Outcome())
        with pytest.raises(ValueError, match='row F1 is registered twice'):
            registry.row('F1', 'other')


def run_of(*, passed, repeat=0):
    outcome = Outcome(figures={'stop_s': 0.44859, 'kind': 'tmpfs'}, duration_s=3.2)
    outcome.equal('frames', 1 if passed else 2, 1)
    return Run('F1', 'killed', repeat, outcome)


class TestReport:
    def test_line(self):
        assert 'PASS' in line(run_of(passed=True))
        assert 'stop_s 0.4486, kind tmpfs' in line(run_of(passed=True))
        first, second = line(run_of(passed=False)).splitlines()
        assert 'FAIL' in first
        assert second == '  F1: frames: found 2, wanted 1'

    def test_failures(self):
        runs = [run_of(passed=True), run_of(passed=False, repeat=3)]
        assert failures(runs).splitlines() == [
            'F1 (repeat 3): frames: found 2, wanted 1',
            '1 of 2 passed',
        ]

    def test_nothing_checked_is_told(self):
        assert 'F9: nothing was checked' in failures([Run('F9', '', 0, Outcome())])

    def test_json(self):
        found = json.loads(json.dumps(report([run_of(passed=False)], {'cores': 2})))
        assert found['passed'] is False
        assert found['machine']['cores'] == 2
        (row,) = found['rows']
        assert (row['name'], row['passed'], row['figures']['kind']) == ('F1', False, 'tmpfs')
        assert row['checks'] == [{'name': 'frames', 'passed': False, 'found': '2', 'wanted': '1'}]


def test_row_is_quick_unless_it_says_otherwise():
    assert Row('F1', '', Outcome).quick

# SPDX-License-Identifier: Apache-2.0
"""The lockstep benchmark: its figures, and that it really drives."""

import json

import pytest

from td3_agent.__main__ import main
from td3_agent.bench.lockstep import Lap, case, lap, shortfalls, table
from td3_agent.nodes.runtime import executors

STAGES = {'tick': 1_000_000, 'gate': 3_000_000}


def records(count, period_ms):
    return [
        {
            'outcome': 'ok',
            'commands': 1,
            'sent': None,
            'applied': None,
            'frame_closed_ns': round(i * period_ms * 1e6),
            'stages_ns': STAGES,
        }
        for i in range(count)
    ]


def test_lap_counts_periods_and_processor_time():
    found = lap(records(101, 4.0), {'bridge': 2.0}, {'bridge': 2.202})
    assert found.frames_per_s == pytest.approx(250.0)
    assert found.cpu_ms == {'bridge': pytest.approx(2.0)}
    assert found.stages_ms['end_to_end'] == {'p50': 4.0, 'p99': 4.0}
    assert found.violations == 0


def test_case_is_the_median_of_its_turns():
    laps = [Lap(rate, {'tick': {'p50': rate}}, {}, 1) for rate in (100.0, 300.0, 200.0)]
    found = case(laps, [1000.0, 1000.0, 400.0])
    assert found['frames_per_s'] == 200.0
    assert found['times_real_time'] == 10.0
    assert found['ratio'] == 0.3
    assert found['stages_ms'] == {'tick': {'p50': 200.0}}
    assert found['violations'] == 3


def test_what_falls_short_is_said():
    slow = {'cases': {'events': {'frames_per_s': 199.0, 'violations': 2}}}
    assert shortfalls(slow) == [
        '199 frames/s, expected >= 200',
        '2 violations of the lockstep, expected 0',
    ]
    assert not shortfalls({'cases': {'events': {'frames_per_s': 200.0, 'violations': 0}}})


@pytest.mark.nightly
def test_bench_drives(capsys):
    with pytest.raises(SystemExit):
        main(['bench', 'lockstep', '--turns', '1', '--frames', '20', '--json'])
    report = json.loads(capsys.readouterr().out)
    for found in report['cases'].values():
        assert found['frames_per_s'] > 0.0
        assert found['violations'] == 0
        assert set(found['cpu_ms']) >= {'sim_bridge_node', 'td3_agent_node'}
    assert set(report['cases']) == set(executors())
    assert 'direct path' in table(report)


def test_numbers_that_make_no_sense_are_refused(capsys):
    with pytest.raises(SystemExit, match='2'):
        main(['bench', 'lockstep', '--frames', '0'])
    assert 'frames must be >= 1, got 0' in capsys.readouterr().err

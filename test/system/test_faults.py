# SPDX-License-Identifier: Apache-2.0
"""The quick rows of the table of faults, each as ``td3_agent faults NAME --quick`` runs it."""

import json
import os
from pathlib import Path
import sys
import warnings

import pytest

from td3_agent.__main__ import main
from td3_agent.faults.report import Run, failures
from td3_agent.faults.row import REGISTRY, Outcome
from td3_agent.faults.scene import Scene, SceneError
from td3_agent.faults.table import chosen, table
from td3_agent.faults.verb import run_row

pytestmark = pytest.mark.system

BY_COMMAND = 'F7'
# A recorder, an agent, a training that is killed: tests of the parts do the same.
HELD_ELSEWHERE = ('F17', 'F23', 'L4')
ROWS = [
    pytest.param(row, id=row.name, marks=[pytest.mark.nightly] * (row.name in HELD_ELSEWHERE))
    for row in chosen([], quick=True)
    if row.name != BY_COMMAND
]
PATIENCE_S = 120.0


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Other tests run beside: how soon, ``td3_agent faults`` says on a machine of its own."""
    monkeypatch.setattr(Outcome, 'patience', 4.0)


@pytest.mark.parametrize('row', ROWS)
@pytest.mark.filterwarnings('default:.*ran twice.*')
def test_row(row, tmp_path):
    """Other tests take the processor: only what fails twice is a fault of the row's own."""
    outcome = run_row(row, tmp_path / row.name, {'quick': True})
    if not outcome.passed:
        first = failures([Run(row.name, row.title, 0, outcome)])
        warnings.warn(f'ran twice: {first}', stacklevel=1)  # in the summary of pytest
        outcome = run_row(row, tmp_path / f'{row.name}_again', {'quick': True})
    assert outcome.passed, failures([Run(row.name, row.title, 1, outcome)])


class TestCommand:
    @pytest.fixture
    def faults(self, capfd):
        def run(*words):
            with pytest.raises(SystemExit) as ended:
                main(['faults', *words])
            return ended.value.code, *capfd.readouterr()

        return run

    def test_list_is_the_table(self, faults):
        lines = faults('--list')[1].splitlines()
        assert [line.split()[0] for line in lines] == [row.name for row in table()]

    def test_one_row_as_json_and_into_a_folder(self, faults, tmp_path):
        status, out, err = faults(BY_COMMAND, '--quick', '--json', '--out', str(tmp_path))
        assert status == 0, out + err
        found = json.loads(out)
        assert found == json.loads((tmp_path / 'faults.json').read_text('utf-8'))
        assert [row['name'] for row in found['rows']] == [BY_COMMAND]
        assert found['passed']
        assert found['machine']['versions']['td3_agent']
        assert (tmp_path / BY_COMMAND / 'synchronizer_node.log').exists()

    @pytest.mark.parametrize(
        ('words', 'text'),
        [
            (['F99'], 'row must be one of L1, '),
            ([], 'name rows, or give --quick, --all or --list'),
            (['F7', '--repeat', '0'], 'repeat must be >= 1, got 0'),
        ],
    )
    def test_bad_arguments_are_one_sentence(self, faults, words, text):
        status, _, err = faults(*words)
        assert status == 2
        assert err.startswith('td3_agent faults: ')
        assert text in err
        assert err.count('\n') == 1


class TestScene:
    def test_what_does_not_come_is_told(self, tmp_path):
        with Scene(tmp_path) as scene, pytest.raises(SceneError, match='rain: expected within'):
            scene.wait_for(lambda: False, 'rain', 0.1)

    def test_process_that_ends_is_told(self, tmp_path):
        with Scene(tmp_path) as scene:
            scene.start('td3_agent_node', {'rate_hz': -1.0})
            with pytest.raises(SceneError, match=r'td3_agent_node ended with 2: .*rate_hz'):
                scene.wait_for(lambda: False, 'an agent', PATIENCE_S)

    def test_uncaught_exception_is_found_in_its_log(self, tmp_path):
        with Scene(tmp_path) as scene:
            node = scene.start_command(
                'raising', [sys.executable, '-c', 'raise KeyError(7)'], (1,)
            )
            node.process.wait(PATIENCE_S)
            assert scene.uncaught() == ['raising.log: KeyError: 7']

    def test_a_row_that_raises_is_a_check_that_fails(self, tmp_path):
        def broken(_):
            raise SceneError('nothing came')

        row = REGISTRY.rows()[0].__class__('F0', 'broken', broken)
        outcome = run_row(row, Path(tmp_path), {})
        assert [check.found for check in outcome.failed] == ['nothing came']

    def test_what_libraries_say_during_a_row_is_kept_beside_its_logs(self, tmp_path, capfd):
        def talking(_):
            os.write(2, b'from a library\n')
            return Outcome()

        row = REGISTRY.rows()[0].__class__('F0', 'talking', talking)
        run_row(row, tmp_path, {})
        os.write(2, b'afterwards\n')
        assert (tmp_path / 'stderr.log').read_text('utf-8') == 'from a library\n'
        assert capfd.readouterr().err == 'afterwards\n'

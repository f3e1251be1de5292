# SPDX-License-Identifier: Apache-2.0
"""Every row turns red when a guard that it is about is taken away."""

import os
from pathlib import Path
import sys

import pytest

from td3_agent.evaluation import processes
from td3_agent.evaluation.processes import node_command
from td3_agent.faults.table import chosen
from td3_agent.faults.verb import run_row

pytestmark = [pytest.mark.system, pytest.mark.slow]

PATCHED = Path(__file__).with_name('patched_node.py')
COMMAND = node_command  # before anybody patches it


def without(guard):
    """Return what gives the command line of a node without one of its guards."""

    def command_of(*arguments):
        python, _, _, *words = COMMAND(*arguments)
        return [python, str(PATCHED), guard, arguments[0], *words]

    return command_of


def red(name, guard, folder, **options):
    """Run a row without a guard; return the names of the checks that do not hold."""
    (row,) = chosen([name])
    options = {'quick': True, 'command_of': without(guard)} | options
    outcome = run_row(row, folder, options)
    assert not outcome.passed, outcome.figures
    return [f'{check.name}: {check.found}' for check in outcome.failed]


@pytest.mark.parametrize(
    ('name', 'guard', 'words'),
    [
        ('F1', 'no_deadline', 'stop after'),
        ('F2', 'no_hold', 'the stop to be said again'),
        ('F3', 'no_jumps', 'the first good frame'),
        ('F4', 'no_hold', 'synchronizer_node: stop after'),
        ('F5', 'no_last_word', 'last command'),
        ('F6', 'no_deadline', 'image all: stop after'),
        ('F7', 'no_single_answer', 'commands'),
        ('F8', 'no_deadline', 'frames stopped at 0.5 s'),
        ('F9', 'no_stamps', 'first difference'),
        ('F11', 'no_jumps', 'frames answered by the agent'),
        ('F16', 'no_ledger_guard', 'synchronizer_node ended with 1'),
        ('F19', 'no_waiting', 'first difference'),
        ('L4', 'no_deadline', 'stop after'),
    ],
)
def test_row_is_red(tmp_path, name, guard, words):
    failed = red(name, guard, tmp_path / name)
    assert any(words in text for text in failed), failed


def test_soak_is_red_when_memory_grows(tmp_path):
    failed = red('L1', 'no_end_of_memory', tmp_path / 'L1', count=400)
    assert any('twist_to_control_node: growth of memory' in text for text in failed), failed


def test_pace_is_red_when_a_timer_is_slow(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, 'node_command', without('no_steady_pace'))
    failed = red('L2', 'no_steady_pace', tmp_path / 'L2', count=3)
    assert any('idle: rate off 20 Hz' in text for text in failed), failed


def test_large_images_are_red_when_a_reader_holds_up_the_bridge(tmp_path):
    failed = red('L3', 'no_newest_wins', tmp_path / 'L3', count=20)
    assert any('pace beside a reliable reader' in text for text in failed), failed


RECORDER_THAT_KEEPS = """
import sys
from td3_agent.bags import writing
writing.FLUSH_S = 60.0
from td3_agent.__main__ import main
sys.exit(main())
"""


def test_bag_is_red_when_the_recorder_keeps_what_it_heard(tmp_path, monkeypatch):
    (tmp_path / 'unguarded.py').write_text(RECORDER_THAT_KEEPS)
    monkeypatch.setattr('td3_agent.faults.rows_bags.PROGRAM', 'unguarded')
    paths = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', paths)
    failed = red('F17', '', tmp_path / 'F17', command_of=COMMAND)
    assert any('lost at the end' in text for text in failed), failed


def test_the_command_line_is_the_nodes_own():
    """The patched program is started as the real one is, but for its first words."""
    real = COMMAND('td3_agent_node', {'rate_hz': 20.0})
    patched = without('no_hold')('td3_agent_node', {'rate_hz': 20.0})
    assert patched[0] == real[0] == sys.executable
    assert patched[4:] == real[3:]

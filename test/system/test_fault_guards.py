# SPDX-License-Identifier: Apache-2.0
"""Every row turns red when a guard that it is about is taken away."""

import os
from pathlib import Path
import sys

import pytest

from td3_agent.evaluation import processes
from td3_agent.evaluation.processes import node_command
from td3_agent.faults.row import Outcome
from td3_agent.faults.table import chosen
from td3_agent.faults.verb import run_row

pytestmark = [pytest.mark.system, pytest.mark.nightly]

PATCHED = Path(__file__).with_name('patched_node.py')
COMMAND = node_command  # before anybody patches it
ENDED = 'ran to its end'  # the check that says what a row has raised


def without(guard):
    """Return what gives the command line of a node without one of its guards."""

    def command_of(*arguments):
        python, _, _, *words = COMMAND(*arguments)
        return [python, str(PATCHED), guard, arguments[0], *words]

    return command_of


class SeenError(ValueError):
    """The check that was to fail has failed; what the row does after it is of no interest."""


@pytest.fixture
def red(tmp_path, monkeypatch):
    """Return a function that runs a row without a guard, and expects a check to fail."""
    check = Outcome.check

    def run(name, guard, words, **options):
        def until_seen(self, what, passed, found, wanted):
            if not passed and words in f'{what}: {found}' and what != ENDED:
                raise SeenError(words)
            return check(self, what, passed, found, wanted)

        monkeypatch.setattr(Outcome, 'check', until_seen)
        (row,) = chosen([name])
        options = {'quick': True, 'command_of': without(guard)} | options
        outcome = run_row(row, tmp_path / name, options)
        monkeypatch.setattr(Outcome, 'check', check)
        failed = [f'{each.name}: {each.found}' for each in outcome.failed]
        assert any(words in text for text in failed), failed or outcome.figures

    return run


@pytest.mark.parametrize(
    ('name', 'guard', 'words'),
    [
        ('F1', 'no_deadline', 'stop after'),
        ('F2', 'no_hold', 'the stop to be said again'),
        ('F3', 'no_jumps', 'the first good frame'),
        ('F4', 'no_hold', 'stop after'),
        ('F5', 'no_last_word', 'last command'),
        ('F6', 'no_deadline', 'image all: stop after'),
        ('F6', 'no_answer_in_advance', 'ended before their command'),
        ('F7', 'no_single_answer', 'commands'),
        ('F8', 'no_deadline', 'frames stopped at 0.5 s'),
        ('F9', 'no_stamps', 'first difference'),
        ('F11', 'no_jumps', 'frames answered by the agent'),
        ('F16', 'no_ledger_guard', 'synchronizer_node ended with 1'),
        ('F19', 'no_waiting', 'first difference'),
        ('L4', 'no_deadline', 'stop after'),
    ],
)
def test_row_is_red(red, name, guard, words):
    red(name, guard, words)


def test_soak_is_red_when_memory_grows(red):
    red('L1', 'no_end_of_memory', 'twist_to_control_node: growth of memory', count=400)


def test_pace_is_red_when_a_timer_is_slow(red, monkeypatch):
    monkeypatch.setattr(processes, 'node_command', without('no_steady_pace'))
    red('L2', 'no_steady_pace', 'idle: rate off 20 Hz', count=3)


def test_large_images_are_red_when_a_reader_holds_up_the_bridge(red):
    red('L3', 'no_newest_wins', 'pace beside a reliable reader', count=20)


RECORDER_THAT_KEEPS = """
import sys
from td3_agent.bags import record
record.FLUSH_S = 60.0
from td3_agent.__main__ import main
sys.exit(main())
"""


def test_bag_is_red_when_the_recorder_keeps_what_it_heard(red, tmp_path, monkeypatch):
    (tmp_path / 'unguarded.py').write_text(RECORDER_THAT_KEEPS)
    monkeypatch.setattr('td3_agent.faults.rows_bags.PROGRAM', 'unguarded')
    paths = os.pathsep.join([str(tmp_path), os.environ.get('PYTHONPATH', '')])
    monkeypatch.setenv('PYTHONPATH', paths)
    red('F17', '', 'lost at the end', command_of=COMMAND)


def test_the_command_line_is_the_nodes_own():
    """The patched program is started as the real one is, but for its first words."""
    real = COMMAND('td3_agent_node', {'rate_hz': 20.0})
    patched = without('no_hold')('td3_agent_node', {'rate_hz': 20.0})
    assert patched[0] == real[0] == sys.executable
    assert patched[4:] == real[3:]

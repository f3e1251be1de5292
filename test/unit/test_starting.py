# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A program that is asked to end while it starts says so in one line and leaves nothing."""

import os
import signal
import subprocess
import sys

import pytest

from td3_agent.__main__ import main
from td3_agent.starting import PARENT_VARIABLE

PATIENCE_S = 20.0
WAIT = "print('ready', flush=True); threading.Event().wait()"
STARTING = f'import threading; from td3_agent.starting import begin; begin(); {WAIT}'
# Runs a subcommand whose module turns an interrupted import into another error, as NumPy does.
CONVERTING = """
import os, signal, sys, types
from td3_agent import __main__ as command_line, starting
def run(args):
    try:
        os.kill(os.getpid(), signal.SIGINT)
    except KeyboardInterrupt:
        raise ImportError('cannot be imported')
module = types.ModuleType('converting')
module.add_arguments, module.run = lambda parser: None, run
sys.modules['converting'] = module
command_line.SUBCOMMANDS['converting'] = ('converting', '')
starting.begin()
command_line.main(['converting'])
"""


def start(program, **variables):
    return subprocess.Popen(
        [sys.executable, '-c', program],
        env={**os.environ, **variables},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_signal_ends_it_at_once_with_one_line(number):
    program = start(STARTING)
    assert program.stdout.readline() == 'ready\n'
    program.send_signal(number)
    _, errors = program.communicate(timeout=PATIENCE_S)
    assert errors == 'td3_agent: interrupted\n'
    assert program.returncode == 128 + number


def test_interrupt_that_came_while_python_started_is_heard():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        program = start(STARTING)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    program.send_signal(signal.SIGINT)
    output, errors = program.communicate(timeout=PATIENCE_S)
    assert (output, errors) == ('', 'td3_agent: interrupted\n')
    assert program.returncode == 128 + signal.SIGINT


def test_interrupt_that_became_another_error_is_still_one():
    program = start(CONVERTING)
    _, errors = program.communicate(timeout=PATIENCE_S)
    assert errors == 'td3_agent: interrupted\n'
    assert program.returncode == 128 + signal.SIGINT


def test_ends_with_the_process_that_it_is_not_to_outlive():
    parent = subprocess.Popen([sys.executable, '-c', 'input()'], stdin=subprocess.PIPE)
    program = start(STARTING, **{PARENT_VARIABLE: str(parent.pid)})
    assert program.stdout.readline() == 'ready\n'
    assert program.poll() is None
    parent.kill()
    parent.communicate()
    assert program.wait(PATIENCE_S) == 128 + signal.SIGTERM
    program.communicate()


def test_module_run_by_name_takes_signals_before_it_imports_ros():
    program = (
        "import signal, sys; sys.argv[0] = '-m'; import td3_agent.nodes; "
        "print(signal.getsignal(signal.SIGINT).__module__, 'rclpy' in sys.modules)"
    )
    output, _ = start(program).communicate(timeout=PATIENCE_S)
    assert output == 'td3_agent.starting False\n'


def test_package_that_is_imported_leaves_signals_alone():
    program = 'import signal; import td3_agent.nodes; print(signal.getsignal(signal.SIGINT))'
    output, _ = start(program).communicate(timeout=PATIENCE_S)
    assert 'default_int_handler' in output


@pytest.mark.parametrize(
    ('path', 'said'),
    [
        ('~/x.jsonl', "No such file or directory: '{home}/x.jsonl'"),
        ('~no-such-user/x', "'~no-such-user/x' must begin with ~/ or an existing user"),
    ],
)
def test_home_in_a_path_is_expanded_or_refused(path, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('HOME', str(tmp_path))
    with pytest.raises(SystemExit) as ended:
        main(['ledger', 'check', path])
    assert ended.value.code == 2
    assert said.format(home=tmp_path) in capsys.readouterr().err

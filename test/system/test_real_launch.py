# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files under the real ``ros2 launch``: they end soon, with the true status, for good.

launch is not among the wheels; these tests run where ROS 2 is installed.
"""

from contextlib import contextmanager
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

from harness.programs import PATIENCE_S, processes_with, wait_until
import pytest

from td3_agent.processes import free_domain_id, ros_environment
from td3_agent.starting import PARENT_VARIABLE

pytest.importorskip('ros2launch', reason='ros2 launch is not installed (no wheels of it)')
pytest.importorskip('carla', reason='the embedded simulator needs carla')

FILES = Path(__file__).parents[2] / 'launch'
ROS2 = 'import sys; from ros2cli.cli import main; sys.exit(main())'


@contextmanager
def launched(tmp_path, name, *arguments):
    """Run ``ros2 launch``; its output is in ``output``. Nothing of it may be left."""
    domain_id = free_domain_id()
    environment = ros_environment(domain_id) | {'ROS_LOG_DIR': str(tmp_path / 'log')}
    command = [sys.executable, '-c', ROS2, 'launch', str(FILES / name), *arguments]
    with (tmp_path / 'output').open('wb') as output:
        launch = subprocess.Popen(
            command,
            cwd=tmp_path,
            env=environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield launch
        wait_until(lambda: not started_by(launch), 'the end of what it has started')
    finally:
        for process in [launch] * (launch.poll() is None) + started_by(launch):
            process.kill()
        launch.wait()


def started_by(launch):
    """Return the processes that a launch has started, also when it is gone."""
    return processes_with(PARENT_VARIABLE, str(launch.pid))


def output(tmp_path):
    return (tmp_path / 'output').read_text('utf-8', errors='replace')


def wait_for(tmp_path, text):
    wait_until(lambda: text in output(tmp_path), f'no {text!r}')


def test_good_drive_ends_with_0(tmp_path):
    with launched(tmp_path, 'demo.launch.py', 'duration:=2', 'real_time_factor:=0') as launch:
        assert launch.wait(PATIENCE_S) == 0, output(tmp_path)
    assert (tmp_path / 'ledger.jsonl').exists()
    assert 'Unexpected vehicle control command' not in output(tmp_path)


@pytest.mark.parametrize(
    ('argument', 'told'),
    [
        ('duration:=x', "duration must be a finite number >= 0, got 'x'"),
        ('polcy:=route', "unknown launch argument 'polcy', did you mean 'policy'?"),
        ('driver:=foo', "driver must be one of td3, pure_pursuit, got 'foo'"),
    ],
)
def test_bad_argument_is_reported_once_and_nothing_is_started(argument, told, tmp_path):
    with launched(tmp_path, 'demo.launch.py', argument) as launch:
        assert launch.wait(PATIENCE_S) == 1
    assert output(tmp_path).count(told) == 1
    assert 'process started' not in output(tmp_path)


def test_killed_node_ends_the_launch_with_1(tmp_path):
    with launched(tmp_path, 'agent.launch.py') as launch:
        wait_for(tmp_path, 'driver: TD3')
        started_by(launch)[0].kill()
        assert launch.wait(PATIENCE_S) == 1
    assert output(tmp_path).count('was ended by signal 9') == 1


@pytest.mark.parametrize('delay_s', [0.0, 0.5])
def test_interrupt_while_the_nodes_start(delay_s, tmp_path):
    with launched(tmp_path, 'agent.launch.py') as launch:
        wait_for(tmp_path, 'process started')
        time.sleep(delay_s)  # anywhere in the start will do
        os.killpg(launch.pid, signal.SIGINT)
        assert launch.wait(PATIENCE_S) == 0, output(tmp_path)
    assert 'Traceback' not in output(tmp_path)


def test_nodes_end_with_a_launch_that_was_killed(tmp_path):
    with launched(tmp_path, 'agent.launch.py') as launch:
        wait_for(tmp_path, 'driver: TD3')
        assert started_by(launch)
        launch.kill()

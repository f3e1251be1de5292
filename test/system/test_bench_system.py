# SPDX-License-Identifier: Apache-2.0
"""Each benchmark of the ROS path, once and short: it measures, and leaves no process behind."""

from contextlib import suppress
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import pytest

pytestmark = [pytest.mark.system, pytest.mark.nightly]
PATIENCE_S = 180.0  # a busy machine's
DOCKER = Path(__file__).parents[1] / 'standins' / 'docker'


def started(mark, *arguments):
    """A benchmark's process; it and all that it starts carry ``mark`` in their environment."""
    name, _, value = mark.partition('=')
    return subprocess.Popen(
        [sys.executable, '-m', 'td3_agent', 'bench', *arguments, '--json'],
        env=dict(os.environ, **{name: value}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def report_of(*arguments):
    """What a benchmark prints; on a busy machine a figure may be below what it must be."""
    mark = f'TD3_AGENT_TEST={os.getpid()}-{arguments[0]}'
    with started(mark, *arguments) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode in {0, 1}, err
    assert not processes_with(mark)
    return json.loads(out.splitlines()[-1])


def processes_with(mark):
    """Processes whose environment holds ``mark``."""
    found = []
    for path in Path('/proc').glob('[0-9]*/environ'):
        with suppress(OSError):  # ended, or somebody else's
            if mark.encode() in path.read_bytes().split(b'\0'):
                found.append(path.parent.name)
    return found


def test_command():
    container = ('--docker-exec', 'ros2-bridge', '--docker', str(DOCKER))
    words = ('command', '--processes', '3', '--commands', '51', *container)
    report = report_of(*words, '--setup-file', '/dev/null')
    assert report['docker'] == str(DOCKER)
    assert report['native']['commands'] == 51
    assert report['native']['lost'] == 0
    assert report['ratio'] > 1.0
    native = report['native']
    assert 0.0 < native['whole']['p50_ms'] < native['received']['p50_ms']
    for kind in ('python process', 'docker exec'):
        once = report['processes'][kind]
        assert 0.0 < once['received']['p50_ms'] < once['whole']['p50_ms']
        assert report['starts'][kind] == 3
        assert report['lost'][kind] < 3  # such a process ends 0.1 s after it has published


def test_startup():
    report = report_of('startup', '--turns', '2', '--frames', '5')
    assert all(row['first_s'] > 0.0 for row in report['starts'].values())
    names = {'sim_bridge_node', 'twist_to_control_node', 'td3_agent_node', 'synchronizer_node'}
    assert set(report['memory']) == names
    assert all(0.0 < row['resident_mb'] <= row['peak_mb'] for row in report['memory'].values())


def test_rate():
    report = report_of('rate', '--duration', '1', '--load', '1')
    for found in report['runs'].values():
        for what in ('sent', 'received', 'control', 'bare timer'):
            assert found[what]['commands'] >= 2
            assert found[what]['rate_hz'] > 0.0


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_every_process(number):
    mark = f'TD3_AGENT_TEST={os.getpid()}-{number}'
    with started(mark, 'rate', '--duration', '300') as process:
        end_s = time.monotonic() + PATIENCE_S
        while len(processes_with(mark)) < 5:  # itself, three nodes, the bare timer
            assert time.monotonic() < end_s, 'its processes'
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.splitlines()[-1] == 'td3_agent bench rate: interrupted, no figures'
    assert not processes_with(mark)

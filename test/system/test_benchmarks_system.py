# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Each benchmark of the ROS path, once and short: it measures, and leaves no process behind."""

import json
from pathlib import Path
import signal

import pytest

pytestmark = [pytest.mark.system, pytest.mark.nightly]
ROOT = Path(__file__).parents[2]
DOCKER = Path(__file__).parents[1] / 'standins' / 'docker'
NODES = {'sim_bridge_node', 'gate_node', 'td3_agent_node', 'synchronizer_node'}


@pytest.fixture
def report_of(tmp_path, program):
    """Return the record of a benchmark; on a busy machine a figure may miss its limit."""

    def measured(*arguments):
        path = tmp_path / 'record.json'
        benchmark = program('benchmarks', *arguments, '--out', path, cwd=ROOT)
        status, out, errors = benchmark.end()
        assert status in {0, 1}, errors
        assert '|---' in out
        assert not benchmark.alive()
        return json.loads(path.read_text())

    return measured


def test_command(report_of):
    container = ('--docker-exec', 'ros2-bridge', '--docker', str(DOCKER))
    words = ('command', '--processes', '3', '--commands', '17', *container)
    report = report_of(*words, '--setup-file', '/dev/null')
    native = report['native']
    assert (report['docker'], native['commands'], native['lost']) == (str(DOCKER), 51, 0)
    assert report['ratio'] > 1.0
    assert 0.0 < native['whole']['p50_ms'] < native['received']['p50_ms']
    for kind in ('python process', 'docker exec'):
        once = report['processes'][kind]
        assert 0.0 < once['received']['p50_ms'] < once['whole']['p50_ms']
        assert report['starts'][kind] == 3
        assert report['lost'][kind] < 3  # such a process ends 0.1 s after it has published


def test_startup(report_of):
    report = report_of('startup', '--turns', '2', '--frames', '5')
    assert all(row['first_s'] > 0.0 for row in report['starts'].values())
    assert set(report['memory']) == NODES
    assert all(0.0 < row['resident_mb'] <= row['peak_mb'] for row in report['memory'].values())


def test_rate(report_of):
    report = report_of('rate', '--duration', '1', '--load', '1')
    for found in report['runs'].values():
        for what in ('sent', 'received', 'control', 'bare timer'):
            assert found[what]['commands'] >= 2
            assert found[what]['rate_hz'] > 0.0


def test_latency(report_of):
    """Images of another size are a drive of their own: within a drive the agent rejects them."""
    report = report_of(
        'latency', '--case=84x84', '--case=160x120', '--blocks', '2', '--frames', '4'
    )
    assert report['frames'] == 8
    for figures in report['cases'].values():
        assert figures['lost'] == figures['plain_lost'] == 0
        assert 0.0 < figures['p50_ms'] <= figures['p99_ms'] < 1e3


def test_image_in(report_of):
    report = report_of('image_in', '--sizes', '160x120', '--blocks', '1')
    for row in report['sizes']['160x120']['latency'].values():
        assert 0.0 < row['p50_ms'] <= row['p99_ms']
        assert row['lost'] == 0


@pytest.mark.parametrize('name', ['lockstep', 'scaling'])
def test_lockstep(report_of, name):
    report = report_of(name, '--turns', '1', '--frames', '20')
    for case, row in report['cases'].items():
        assert row['frames_per_s'] > 0.0
        assert row['violations'] == 0
        nodes = {'sim_bridge_node', 'composed_node'} if case == 'composed' else NODES
        assert set(row['cpu_ms']) == nodes
        assert row['stages_ms']['end_to_end']['p50'] > 0.0


def test_frame_profile(report_of):
    report = report_of('frame_profile', '--frames', '20')
    assert set(report['nodes']) == NODES
    for parts in report['nodes'].values():
        assert parts['middleware'] > 0.0
    assert report['nodes']['sim_bridge_node']['world'] > report['nodes']['gate_node']['world']


def test_ros_env(report_of):
    report = report_of('ros_env', '--turns', '1', '--steps', '5')
    assert all(row['steps_per_s'] > 0.0 for row in report['environments'].values())


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interruption_ends_every_process(program, number):
    benchmark = program('benchmarks', 'rate', '--duration', '300', cwd=ROOT)
    # Itself, three nodes, the bare timer.
    benchmark.wait_until(lambda: len(benchmark.alive()) >= 5, 'its processes')
    status, _, errors = benchmark.end(number)
    assert status == 130
    assert errors.splitlines()[-1] == 'rate: interrupted, no figures'
    assert not benchmark.alive()

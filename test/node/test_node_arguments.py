# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Invalid arguments of a node program end it with one sentence."""

import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip('rclpy', reason='nodes need ROS 2')
pytest.importorskip('carla_msgs', reason='nodes need carla_msgs')

import rclpy
from rclpy.context import Context
from rclpy.impl.implementation_singleton import rclpy_implementation

from td3_agent.nodes.runtime import error_text, other_arguments

PATIENCE_S = 60.0
GATE = 'gate_node'


def run(*arguments, name=GATE, **variables):
    return subprocess.run(
        [sys.executable, '-m', f'td3_agent.nodes.{name}', *arguments],
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


@pytest.mark.parametrize(
    ('words', 'others'),
    [
        ([], []),
        (['--ros-args', '-p', 'a:=1'], []),
        (['--ros-args', '-p', 'a:=1', '--', 'x'], ['x']),
        (['a:=1', '--ros-args'], ['a:=1']),
        (['--ros-args', '--', '--ros-args', '-r', 'a:=b'], []),
    ],
)
def test_arguments_that_ros_does_not_take(words, others):
    assert other_arguments(words) == others


@pytest.mark.parametrize(
    ('words', 'told'),
    [
        (['--params-file', '/no.yaml'], "params file: '--params-file /no.yaml'. Error: Error o"),
        (['-r', 'nonsense'], "remap rule: '-r nonsense'"),
        (['-p', 'a:='], "parameter override rule: '-p a:='"),
        (['-p', 'a:=[1, b]'], "parameter override rule: '-p a:=[1, b]'"),
        (['-p'], 'trailing -p flag'),
        (['--log-level', 'loud'], "log level: '--log-level loud'"),
        (['--nonsense'], "unknown ROS arguments: ['--nonsense']"),
    ],
)
def test_rejected_ros_argument(words, told):
    with pytest.raises(
        (rclpy_implementation.RCLError, rclpy_implementation.UnknownROSArgsError)
    ) as rejected:
        rclpy.init(args=['--ros-args', *words], context=Context())
    text = error_text(rejected.value)
    assert told in text
    assert '\n' not in text
    assert '.c:' not in text


@pytest.mark.parametrize(
    ('words', 'variables', 'told'),
    [
        (['--ros-args', '-r', 'nonsense'], {}, "remap rule: '-r nonsense'"),
        (['mode:=lockstep'], {}, 'arguments must follow --ros-args, .*, got mode:=lockstep'),
        (['--ros-args', '-p', 'use_sim_time:=5'], {}, 'use_sim_time must be bool, got 5'),
        ([], {'ROS_DOMAIN_ID': 'abc'}, 'ROS_DOMAIN_ID must be a number from 0 to 232, got abc'),
    ],
)
def test_program_reports_it_in_one_line(words, variables, told):
    import re

    done = run(*words, **variables)
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith('[')]
    assert re.search(told if '.*' in told else re.escape(told), line)
    assert done.returncode == 2


def test_rejected_policy_ends_an_agent_that_starts_by_itself():
    done = run('--ros-args', '-p', 'policy:=/nowhere', name='td3_agent_node')
    assert done.stderr.count('policy rejected') == 1
    assert done.returncode == 2


def run_python(program):
    """Run a program given as text, and return what it wrote and how it ended."""
    return subprocess.run(
        [sys.executable, '-c', program], capture_output=True, text=True, check=False
    )


def test_missing_package_is_named_with_its_remedy():
    program = (
        "import sys; sys.modules['carla_msgs'] = None; "
        'from td3_agent.programs import gate_node as run; run()'
    )
    done = run_python(program)
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'{GATE}: carla_msgs')
    assert 'is needed and not installed: source the ROS 2' in line
    assert done.returncode == 2


def test_interrupt_while_the_node_is_made_ends_it_with_one_line():
    program = (
        'import os, signal; from td3_agent.nodes.runtime import run_program; '
        'run_program(lambda: os.kill(os.getpid(), signal.SIGINT), args=[])'
    )
    done = run_python(program)
    assert done.stderr == 'td3_agent: interrupted\n'
    assert done.returncode == 128 + signal.SIGINT

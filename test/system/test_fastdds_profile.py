# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profiles that ship are read by the middleware, and change what they say."""

import os
from pathlib import Path
import select
import socket
import subprocess
import sys

from harness.programs import PATIENCE_S, shared_memory, wait_until
import psutil
import pytest
import rclpy

from td3_agent import processes
from td3_agent.fastdds import (
    CAMERA_PROFILE,
    LOOPBACK_PROFILE,
    PROFILE_VARIABLES,
    profile_variable,
    profile_variables,
)
from td3_agent.files import shared_path
from td3_agent.processes import (
    ProcessGroup,
    free_domain_id,
    node_command,
    ros_environment,
)

PROGRAMS = ('gate_node', 'synchronizer_node', 'sim_bridge_node', 'td3_agent_node')
WITHOUT_SHARED_MEMORY = PROGRAMS[:2]
NODE = """
import sys, rclpy
rclpy.init()
node = rclpy.create_node('profiled')
print('ready', flush=True)
sys.stdin.read()
node.destroy_node()
rclpy.try_shutdown()
"""
SEGMENT_BYTES = 1 << 26  # as the profiles say
DEFAULT_BYTES = 1 << 20  # Fast DDS's own is half of it, and bookkeeping

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not Path('/proc/self/maps').exists(), reason='needs /proc'),
    pytest.mark.skipif(
        'fastrtps' not in rclpy.get_rmw_implementation_identifier(),
        reason='another middleware than Fast DDS is in use',
    ),
]


@pytest.fixture
def node():
    """Return a function that starts a node's process in an environment."""
    processes = []

    def start(environment):
        process = subprocess.Popen(
            [sys.executable, '-c', NODE],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        processes.append(process)
        said = b''  # Fast DDS logs to the same place
        while b'ready\n' not in said:
            assert select.select([process.stdout], [], [], PATIENCE_S)[0], said
            part = os.read(process.stdout.fileno(), 1 << 16)
            assert part, f'the node ended: {said}'
            said += part
        return process

    yield start
    for process in processes:
        process.communicate(timeout=PATIENCE_S)  # closes its input: the node ends


def listens(process, ports=range(1, 1 << 16)):
    """Return the addresses at which a process listens on any of some UDP ports."""
    found = [each.laddr for each in psutil.net_connections('udp') if each.pid == process.pid]
    return {address.ip for address in found if address.port in ports}


def test_nothing_listens_but_on_the_loopback_interface(node, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    domain_id = free_domain_id()
    first_port = 7400 + 250 * domain_id  # RTPS 2.2, 9.6.1.1
    process = node(ros_environment(domain_id))
    assert listens(process, range(first_port, first_port + 250)) == {'127.0.0.1'}


def test_domain_whose_first_participants_have_ended_is_in_use(monkeypatch):
    """Others of a drive may outlive them, and would be heard by whoever is given the domain."""
    domain_id = free_domain_id()
    monkeypatch.setattr(processes, 'DOMAIN_IDS', (domain_id,))
    monkeypatch.setattr(processes, '_lock_domain', lambda _: True)
    monkeypatch.setattr(processes, 'DOMAIN_WAIT_S', 0.0)
    assert free_domain_id() == domain_id
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as third:
        third.bind(('127.0.0.1', 7400 + 250 * domain_id + 10 + 2 * 3))  # RTPS 2.2, 9.6.1.1
        with pytest.raises(RuntimeError, match='all ROS domain ids'):
            free_domain_id()


def without_profile():
    environment = ros_environment(free_domain_id())
    return {name: value for name, value in environment.items() if name not in PROFILE_VARIABLES}


@pytest.mark.parametrize('profile', [LOOPBACK_PROFILE, CAMERA_PROFILE, None])
def test_segment_is_as_large_as_the_profile_says(node, profile):
    """Without one, an image would not fit."""
    environment = without_profile()
    if profile:
        environment |= profile_variables(environment, shared_path(profile))
    largest_bytes = max(shared_memory(node(environment).pid).values())
    if profile:
        assert SEGMENT_BYTES <= largest_bytes < 1.1 * SEGMENT_BYTES
    else:
        assert largest_bytes < DEFAULT_BYTES


def test_programs_of_the_package_get_the_loopback_profile(monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    environment = ros_environment(1)
    assert environment[profile_variable(environment)].endswith(LOOPBACK_PROFILE)


@pytest.mark.parametrize('named', [True, False], ids=['shipped profile', 'no profile'])
def test_who_stops_the_car_shares_no_lock(tmp_path, monkeypatch, named):
    """A process that is killed while it writes into shared memory leaves its lock closed."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    environment = ros_environment(free_domain_id()) if named else without_profile()
    with ProcessGroup(tmp_path, environment) as group:
        nodes = {name: group.run(name, node_command(name, {})).process for name in PROGRAMS}
        for name in set(PROGRAMS) - set(WITHOUT_SHARED_MEMORY):
            wait_until(lambda n=name: shared_memory(nodes[n].pid), name)
        for name in WITHOUT_SHARED_MEMORY:
            wait_until(lambda n=name: listens(nodes[n]), name)
            assert not shared_memory(nodes[name].pid), name
        group.end()


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_profile_that_the_user_named_stays(variable, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, '/of/the/user.xml')
    environment = ros_environment(1)
    named = {name: environment[name] for name in PROFILE_VARIABLES if name in environment}
    assert named == {variable: '/of/the/user.xml'}

# SPDX-License-Identifier: Apache-2.0
"""The Fast DDS profiles that ship are read by the middleware, and change what they say."""

import os
from pathlib import Path
import re
import select
import socket
import subprocess
import sys
import time

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
from td3_agent.nodes.share import shared_path
from td3_agent.processes import (
    ProcessGroup,
    free_domain_id,
    node_command,
    ros_environment,
)

PROGRAMS = ('twist_to_control_node', 'synchronizer_node', 'sim_bridge_node', 'td3_agent_node')
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
PATIENCE_S = 60.0

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


def segment_bytes(process):
    """Size of the largest shared-memory segment that a process has mapped [bytes]."""
    maps = Path(f'/proc/{process.pid}/maps').read_text('utf-8')
    mapped_as = r'^(\w+)-(\w+) .* /dev/shm/fast(?:rtps|dds)_[0-9a-f]{16}\b'
    found = re.findall(mapped_as, maps, re.MULTILINE)
    return max(int(end, 16) - int(start, 16) for start, end in found)


def mapped(process):
    """Whether a process has memory of Fast DDS in common with others."""
    maps = Path(f'/proc/{process.pid}/maps').read_text('utf-8')
    return re.search(r'/dev/shm/(sem\.)?fast(rtps|dds)_', maps) is not None


def listens(process):
    """Whether a process listens at any UDP port."""
    return bool(local_addresses(process, range(1, 1 << 16)))


def local_addresses(process, ports):
    """Addresses that a process listens at on any of some UDP ports."""
    links = [str(fd.readlink()) for fd in Path(f'/proc/{process.pid}/fd').iterdir()]
    inodes = {link[8:-1] for link in links if link.startswith('socket:[')}
    rows = [line.split() for line in Path('/proc/net/udp').read_text().splitlines()[1:]]
    mine = [row[1].split(':') for row in rows if row[9] in inodes]
    return {
        socket.inet_ntoa(bytes.fromhex(address)[::-1])
        for address, port in mine
        if int(port, 16) in ports
    }


def test_nothing_listens_but_on_the_loopback_interface(node, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    domain_id = free_domain_id()
    first_port = 7400 + 250 * domain_id  # RTPS 2.2, 9.6.1.1
    process = node(ros_environment(domain_id))
    assert local_addresses(process, range(first_port, first_port + 250)) == {'127.0.0.1'}


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


@pytest.mark.parametrize('profile', [LOOPBACK_PROFILE, CAMERA_PROFILE])
def test_segment_is_as_large_as_the_profile_says(node, profile):
    environment = without_profile()
    environment |= profile_variables(environment, shared_path(profile))
    process = node(environment)
    assert SEGMENT_BYTES <= segment_bytes(process) < 1.1 * SEGMENT_BYTES


def test_without_a_profile_an_image_would_not_fit(node):
    assert segment_bytes(node(without_profile())) < DEFAULT_BYTES


def test_programs_of_the_package_get_the_loopback_profile(node, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    environment = ros_environment(free_domain_id())
    assert environment[profile_variable(environment)].endswith(LOOPBACK_PROFILE)
    assert segment_bytes(node(environment)) >= SEGMENT_BYTES


@pytest.mark.parametrize('named', [True, False], ids=['shipped profile', 'no profile'])
def test_who_stops_the_car_shares_no_lock(tmp_path, monkeypatch, named):
    """A process that is killed while it writes into shared memory leaves its lock closed."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    environment = ros_environment(free_domain_id()) if named else without_profile()
    with ProcessGroup(tmp_path, environment) as group:
        nodes = {name: group.run(name, node_command(name, {})) for name in PROGRAMS}
        end_s = time.monotonic() + PATIENCE_S
        for name, process in nodes.items():
            if name not in WITHOUT_SHARED_MEMORY:
                while not mapped(process.process):
                    assert time.monotonic() < end_s, name
        for name in WITHOUT_SHARED_MEMORY:
            while not listens(nodes[name].process):
                assert time.monotonic() < end_s, name
            assert not mapped(nodes[name].process), name
        group.end()


@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_profile_that_the_user_named_stays(variable, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, '/of/the/user.xml')
    environment = ros_environment(1)
    named = {name: environment[name] for name in PROFILE_VARIABLES if name in environment}
    assert named == {variable: '/of/the/user.xml'}

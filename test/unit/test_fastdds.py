# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which profile a process gets, by distribution and by whether it may share memory."""

from pathlib import Path

import pytest

from td3_agent.fastdds import (
    BUILTIN_TRANSPORTS,
    DISCOVERY_RANGE,
    FAST_DDS_2,
    FAST_DDS_3,
    LOCALHOST_ONLY,
    UDP_PROFILES,
    profile_variables,
    udp_variables,
)

ROOT = Path(__file__).parents[2]
CONFIG = Path('/share/config')
LOOPBACK = {DISCOVERY_RANGE: 'SYSTEM_DEFAULT'}


@pytest.mark.parametrize(
    ('distro', 'variable'),
    [
        ('humble', FAST_DDS_2),
        ('jazzy', FAST_DDS_2),
        ('kilted', FAST_DDS_3),
        ('lyrical', FAST_DDS_3),
    ],
)
def test_variable_is_the_one_that_the_distribution_reads(distro, variable):
    profile = Path('/some.xml')
    assert profile_variables({'ROS_DISTRO': distro}, profile) == {variable: '/some.xml'}
    for name in (FAST_DDS_2, FAST_DDS_3):
        assert profile_variables({'ROS_DISTRO': distro, name: '/own.xml'}, profile) == {}


@pytest.mark.parametrize(
    ('environment', 'variables'),
    [
        ({}, {BUILTIN_TRANSPORTS: 'UDPv4'}),
        ({BUILTIN_TRANSPORTS: 'LARGE_DATA'}, {BUILTIN_TRANSPORTS: 'LARGE_DATA'}),
        ({FAST_DDS_2: '/own/profile.xml', DISCOVERY_RANGE: 'LOCALHOST'}, {}),
        (
            {FAST_DDS_2: '/ws/fastdds_camera.xml', DISCOVERY_RANGE: 'SUBNET'},
            {FAST_DDS_2: '/ws/fastdds_camera_udp.xml'},
        ),
        (
            {FAST_DDS_2: '/ws/fastdds_loopback.xml'},
            {FAST_DDS_2: '/ws/fastdds_loopback_udp.xml'},
        ),
        (
            {FAST_DDS_2: '/ws/fastdds_camera.xml', DISCOVERY_RANGE: 'localhost'},
            {FAST_DDS_2: '/share/config/fastdds_loopback_udp.xml'} | LOOPBACK,
        ),
        (
            {DISCOVERY_RANGE: 'LOCALHOST'},
            {FAST_DDS_2: '/share/config/fastdds_loopback_udp.xml'} | LOOPBACK,
        ),
        (
            {LOCALHOST_ONLY: '1'},
            {FAST_DDS_2: '/share/config/fastdds_loopback_udp.xml', LOCALHOST_ONLY: '0'} | LOOPBACK,
        ),
    ],
)
def test_process_without_shared_memory(environment, variables):
    assert udp_variables({'ROS_DISTRO': 'jazzy'} | environment, CONFIG) == variables


@pytest.mark.parametrize('name', UDP_PROFILES)
def test_profiles_differ_in_shared_memory_alone(name):
    """Whoever takes the one for the other loses nothing else."""
    with_memory, without = (
        [line for line in text.partition('<profiles')[2].splitlines() if 'shared_mem' not in line]
        for text in ((ROOT / 'config' / n).read_text('utf-8') for n in (name, UDP_PROFILES[name]))
    )
    assert [line for line in without if line not in with_memory] == []
    more = [line.strip() for line in with_memory if line not in without]
    assert all('segment_size' in line or 'port_queue' in line or 'SHM' in line for line in more)
    assert more


@pytest.mark.parametrize(
    'path', sorted((ROOT / 'config').glob('fastdds_*.xml')), ids=lambda path: path.name
)
def test_profile_keeps_the_lease_of_the_middleware(path):
    """Fast DDS does not come back from a lease that has ended on one side alone."""
    assert 'leaseDuration>' not in path.read_text('utf-8')

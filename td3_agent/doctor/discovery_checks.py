# SPDX-License-Identifier: Apache-2.0
"""Judges how a machine's nodes would find each other. Pure: facts in, findings out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from td3_agent.doctor.facts import DEFAULT_RMW
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.shm_checks import NETWORK_ONLY, builtin_transports
from td3_agent.fastdds import (
    BUILTIN_TRANSPORTS,
    CAMERA_PROFILE,
    FAST_DDS_2,
    LOOPBACK_PROFILE,
    PROFILE_VARIABLES,
    profile_variable,
    stays_on_this_machine,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.doctor.facts import Machine

RANGES = ('SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT')
SERVER_PORT = 11811  # of a discovery server that names none
LOCAL_SERVER = re.compile(r'(?:localhost|127\.[\d.]+)(?::(\d+))?')
NO_TRANSPORTS = 'NONE'
TRANSPORTS = (
    'DEFAULT',
    'DEFAULTv6',
    'SHM',
    'LARGE_DATA',
    'LARGE_DATAv6',
    'P2P',
    NO_TRANSPORTS,
    *NETWORK_ONLY,
)


def check_rmw(machine: Machine) -> Iterator[Finding]:
    """The middleware that is asked for is installed."""
    wanted = machine.environment.get('RMW_IMPLEMENTATION', '')
    installed = [name for name in machine.rmw_installed if name != 'rmw_implementation']
    if machine.lacks_rmw:
        said = f'{wanted} is not installed (installed: {", ".join(installed) or "none"})'
        yield Finding(Level.ERROR, 'rmw', said, _other_rmw(machine, wanted))
    elif not machine.uses_fast_dds:
        said = (
            f'{wanted}: every process, the bridge too, must use it; Fast DDS profiles do nothing'
        )
        yield Finding(Level.NOTE, 'rmw', said)
    else:
        yield Finding(Level.OK, 'rmw', wanted or f'{DEFAULT_RMW} (by default)')


def _other_rmw(machine: Machine, wanted: str) -> str:
    if not machine.distro:
        return 'source ROS 2 first, or unset RMW_IMPLEMENTATION'
    if machine.is_apt:
        package = f'ros-{machine.distro}-{wanted}'.replace('_', '-')
        return f'unset RMW_IMPLEMENTATION, or apt install {package}'
    return 'unset RMW_IMPLEMENTATION'


def check_discovery(machine: Machine) -> Iterator[Finding]:
    """The settings of discovery can be obeyed, and do not contradict each other."""
    faults = [*_range_faults(machine), *_peer_faults(machine)]
    if machine.uses_fast_dds:
        faults += [
            *_variable_faults(machine),
            *_profile_faults(machine),
            *_server_faults(machine),
            *_transport_faults(machine),
        ]
    yield from faults
    if not faults:
        scope = (
            'this machine only'
            if stays_on_this_machine(machine.environment)
            else 'the whole network'
        )
        yield Finding(Level.OK, 'discovery', f'{scope}; profile {machine.profile.path or "none"}')


def _range_faults(machine: Machine) -> Iterator[Finding]:
    reach = machine.environment.get('ROS_AUTOMATIC_DISCOVERY_RANGE', '')
    fix = 'export ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST (or SUBNET)'
    if not reach:
        return
    if machine.distro == 'humble':
        said, fix = 'Humble does not know ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY=1'
        yield Finding(Level.WARNING, 'discovery', said, f'export {fix} (or 0)')
    elif reach not in RANGES:
        said = f'ROS_AUTOMATIC_DISCOVERY_RANGE={reach} is none of its values'
        yield Finding(Level.ERROR, 'discovery', said, fix)
    elif reach == 'OFF':
        yield Finding(Level.ERROR, 'discovery', 'discovery is off: no node finds another', fix)
    elif _localhost_only(machine):
        said = 'ROS_LOCALHOST_ONLY=1 overrides ROS_AUTOMATIC_DISCOVERY_RANGE, and both are set'
        yield Finding(Level.WARNING, 'discovery', said, 'unset ROS_LOCALHOST_ONLY')


def _localhost_only(machine: Machine) -> bool:
    """Whether the old variable is in force; rcl heeds this one value alone."""
    return machine.environment.get('ROS_LOCALHOST_ONLY') == '1'


def _peer_faults(machine: Machine) -> Iterator[Finding]:
    peers = machine.environment.get('ROS_STATIC_PEERS', '')
    fix = 'unset ROS_STATIC_PEERS where every node is on this machine'
    if not peers:
        return
    if machine.distro == 'humble':
        fix = 'unset it; a Fast DDS profile can name them (initialPeersList)'
        yield Finding(Level.WARNING, 'discovery', 'Humble does not know ROS_STATIC_PEERS', fix)
    elif _localhost_only(machine):
        said = 'ROS_LOCALHOST_ONLY=1 overrides ROS_STATIC_PEERS, and both are set'
        yield Finding(Level.WARNING, 'discovery', said, 'unset one of them')
    elif machine.profile.loopback_only:
        said = f'ROS_STATIC_PEERS={peers}, but {machine.profile.path} keeps all traffic here'
        fix = f'{machine.shipped(CAMERA_PROFILE)} for peers elsewhere, or {fix}'
        yield Finding(Level.WARNING, 'discovery', said, fix)
    else:
        said = f'ROS_STATIC_PEERS={peers}: where a name cannot be resolved, no node starts'
        yield Finding(Level.NOTE, 'discovery', said, fix)


def _variable_faults(machine: Machine) -> Iterator[Finding]:
    """A profile is named in the variable that the distribution's Fast DDS reads."""
    right = profile_variable(machine.environment)
    other = next(name for name in PROFILE_VARIABLES if name != right)
    path = machine.environment.get(other, '')
    if not path or not machine.distro or machine.environment.get(right):
        return
    level, said = Level.ERROR, f'ROS 2 {machine.distro} does not read {other}: no profile is used'
    if other == FAST_DDS_2:
        level, said = Level.WARNING, f'{other} is read, but will not be for long'
    yield Finding(level, 'discovery', said, f'export {right}={path}')


def _profile_faults(machine: Machine) -> Iterator[Finding]:
    profile = machine.profile
    if profile.error:
        fix = f'name another, as {machine.shipped(LOOPBACK_PROFILE)}, or unset the variable'
        said = f'the Fast DDS profile {profile.path} cannot be used: {profile.error}'
        yield Finding(Level.ERROR, 'discovery', said, fix)
    elif not profile.is_default:
        said = f'nothing of {profile.path} is used: it has no default participant'
        yield Finding(
            Level.WARNING, 'discovery', said, 'write <participant is_default_profile="true" …>'
        )
    elif profile.loopback_only and not stays_on_this_machine(machine.environment):
        said = f'{profile.path} keeps all traffic on this machine, the environment does not'
        fix = (
            f'{machine.shipped(CAMERA_PROFILE)} for a bridge on another machine, '
            'ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST for one on this'
        )
        yield Finding(Level.WARNING, 'discovery', said, fix)


def _server_faults(machine: Machine) -> Iterator[Finding]:
    """Who asks a discovery server asks nobody else."""
    given = machine.environment.get('ROS_DISCOVERY_SERVER', '').strip(';')
    if not given:
        return
    local = [LOCAL_SERVER.fullmatch(server) for server in given.split(';')]
    ports = [int(server[1] or SERVER_PORT) for server in local if server]
    silent = [port for port in ports if port not in machine.udp_ports]
    if silent:
        said = f'ROS_DISCOVERY_SERVER={given}: nobody listens on port {silent[0]}'
        fix = f'fastdds discovery -i 0 -p {silent[0]}, or unset ROS_DISCOVERY_SERVER'
        yield Finding(Level.ERROR, 'discovery', f'{said}, no node finds another', fix)
    else:
        said = f'nodes find each other through the discovery server {given} alone'
        fix = 'see that it runs, and that every process names it; or unset ROS_DISCOVERY_SERVER'
        yield Finding(Level.WARNING, 'discovery', said, f'{fix}; it is the same for every process')


def _transport_faults(machine: Machine) -> Iterator[Finding]:
    name = builtin_transports(machine)
    said, fix = f'{BUILTIN_TRANSPORTS}={name}', f'unset {BUILTIN_TRANSPORTS}'
    if not name or name == 'DEFAULT':
        return
    if name not in TRANSPORTS:
        yield Finding(
            Level.WARNING, 'discovery', f'{said} is none of its values, and not obeyed', fix
        )
    elif not machine.profile.builtin or stays_on_this_machine(machine.environment):
        by = 'the discovery range' if machine.profile.builtin else machine.profile.path
        yield Finding(
            Level.NOTE, 'discovery', f'{said} does nothing: {by} sets the transports', fix
        )
    elif name == NO_TRANSPORTS:
        yield Finding(Level.ERROR, 'discovery', f'{said}: nobody is reached', fix)
    elif name not in NETWORK_ONLY:  # those are judged with shared memory
        said += ': every process, the bridge too, must have it'
        yield Finding(Level.NOTE, 'discovery', said, f'{fix}, or export it everywhere')

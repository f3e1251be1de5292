# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of middleware, shared memory, discovery and domain. Pure: facts in, faults out."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from td3_agent.doctor.facts import (
    DEFAULT_RMW,
    ERROR,
    NOTE,
    WARNING,
    megabytes,
)
from td3_agent.fastdds import (
    BUILTIN_TRANSPORTS,
    CAMERA_PROFILE,
    DISCOVERY_RANGE,
    FAST_DDS_2,
    LOCALHOST_ONLY,
    LOOPBACK_PROFILE,
    PROFILE_VARIABLES,
    profile_variable,
    stays_on_this_machine,
)
from td3_agent.ros_domain import (
    LAST_DOMAIN_ID,
    LAST_SAFE_DOMAIN,
    given_domain_id,
    read_domain_id,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from td3_agent.doctor.facts import Checks, Fault, Faults, Machine, Participant

PEERS, SERVER = 'ROS_STATIC_PEERS', 'ROS_DISCOVERY_SERVER'
RANGES = ('SUBNET', 'LOCALHOST', 'OFF', 'SYSTEM_DEFAULT')
SERVER_PORT = 11811  # of a discovery server that names none
LOCAL_SERVER = re.compile(r'(?:localhost|127\.[\d.]+)(?::(\d+))?')
NO_TRANSPORTS = 'NONE'
NETWORK_ONLY = ('UDPv4', 'UDPv6')  # built-in transports without shared memory
SHARING = ('DEFAULT', 'DEFAULTv6', 'SHM', 'LARGE_DATA', 'LARGE_DATAv6', 'P2P')
TRANSPORTS = (*SHARING, NO_TRANSPORTS, *NETWORK_ONLY)
# Of Fast DDS without a profile.
DEFAULT_SEGMENT_BYTES = 512 * 1024
BYTES_PER_PIXEL = 4  # bgra8
IMAGES_UNDER_WAY = 4
PROCESSES = 4  # bridge, agent, gate, synchronizer
SMALL_SEGMENT_BYTES = 1024 * 1024  # of a process that sends no images
SHM = '/dev/shm'  # noqa: S108  where Fast DDS keeps its segments
LEAST_CONTAINER_SHM_MIB = 512
ROOT = 0


def check_rmw(machine: Machine) -> Faults:
    """The chosen middleware is installed."""
    wanted = machine.environment.get('RMW_IMPLEMENTATION', '')
    installed = [name for name in machine.rmw_installed if name != 'rmw_implementation']
    if machine.lacks_rmw:
        said = f'{wanted} is not installed (installed: {", ".join(installed) or "none"})'
        yield ERROR, said, _other_rmw(machine, wanted)
    elif not machine.uses_fast_dds:
        said = f'{wanted}: every process, the bridge too, must use it; '
        yield NOTE, f'{said}Fast DDS profiles have no effect', ''
    return wanted or f'{DEFAULT_RMW} (by default)'


def _other_rmw(machine: Machine, wanted: str) -> str:
    if not machine.distro:
        return 'source ROS 2 first, or unset RMW_IMPLEMENTATION'
    if machine.is_apt:
        package = f'ros-{machine.distro}-{wanted}'.replace('_', '-')
        return f'unset RMW_IMPLEMENTATION, or apt install {package}'
    return 'unset RMW_IMPLEMENTATION'


def check_shared_memory(machine: Machine) -> Faults:
    """Images fit into the shared memory of a process, and all segments into /dev/shm."""
    if not machine.uses_fast_dds or machine.profile.error:
        return ''  # the check of discovery reports such a profile
    width_px, height_px = machine.camera_px
    image_bytes = width_px * height_px * BYTES_PER_PIXEL
    what = f'an image of {width_px}x{height_px} takes {megabytes(image_bytes)}'
    segment_bytes = machine.profile.segment_bytes or DEFAULT_SEGMENT_BYTES
    without = [*_no_memory_faults(machine, what)]
    yield from without
    if not without:
        yield from _segment_faults(machine, what, image_bytes, segment_bytes)
        yield from _room_faults(machine, segment_bytes)
    free = megabytes(machine.shm_free_bytes)
    return f'{what}, a segment {megabytes(segment_bytes)}, {SHM} {free} free'


def _transports(machine: Machine) -> str:
    """Return the built-in transports that the environment sets, without their options."""
    return machine.environment.get(BUILTIN_TRANSPORTS, '').partition('?')[0]


def _no_memory_faults(machine: Machine, what: str) -> Iterable[Fault]:
    """Report images without shared memory; rmw adds it if discovery stays on this machine."""
    if machine.profile.shares_memory or stays_on_this_machine(machine.environment):
        return
    said = f'{what} and goes over the network in fragments: '
    if not machine.profile.builtin:
        said += f'{machine.profile.path} configures no shared memory'
        yield WARNING, said, _use_ours(machine)
    elif (given := _transports(machine)) in NETWORK_ONLY:
        said += f'{BUILTIN_TRANSPORTS}={given} excludes shared memory'
        yield WARNING, said, f'unset {BUILTIN_TRANSPORTS}, for the bridge too'


def _use_ours(machine: Machine) -> str:
    variable = profile_variable(machine.environment)
    return f'export {variable}={machine.shipped(CAMERA_PROFILE)}, for the bridge too'


def _segment_faults(
    machine: Machine, what: str, image_bytes: int, segment_bytes: int
) -> Iterable[Fault]:
    profile, need_bytes = machine.profile, IMAGES_UNDER_WAY * image_bytes
    fix = f'segment_size of at least {need_bytes} in {profile.path}, for the bridge too'
    if not profile.shares_memory:
        fix = _use_ours(machine)
    if segment_bytes < image_bytes:
        said = f'{what}, the shared-memory segment {megabytes(segment_bytes)}: '
        yield ERROR, f'{said}images arrive late or never', fix
    elif segment_bytes < need_bytes and profile.segment_bytes:
        yield WARNING, f'{what}, the segment {megabytes(segment_bytes)}', fix


def _room_faults(machine: Machine, segment_bytes: int) -> Iterable[Fault]:
    need_bytes = 2 * segment_bytes + (PROCESSES - 2) * SMALL_SEGMENT_BYTES
    need = megabytes(need_bytes)
    if machine.shm_total_bytes < need_bytes:
        # The next power of two, at least a quarter more: other programs use it too.
        size_mib = max(LEAST_CONTAINER_SHM_MIB, 1 << (need_bytes * 5 // 4 >> 20).bit_length())
        said = f'{SHM} has {megabytes(machine.shm_total_bytes)}, bridge and agent need {need}'
        yield ERROR, said, f'docker run --shm-size={size_mib}m (compose: shm_size), or --ipc=host'
    elif machine.shm_free_bytes < need_bytes:
        fix = 'end old ROS 2 processes, then: fastdds shm clean, or rm /dev/shm/fast{rtps,dds}_*'
        said = f'{megabytes(machine.shm_free_bytes)} of {SHM} are free, {need} are needed'
        yield WARNING, said, fix


def check_discovery(machine: Machine) -> Faults:
    """The settings of discovery are valid and do not contradict each other."""
    yield from _range_faults(machine)
    yield from _peer_faults(machine)
    if machine.uses_fast_dds:
        yield from _variable_faults(machine)
        yield from _profile_faults(machine)
        yield from _server_faults(machine)
        yield from _transport_faults(machine)
    inside = stays_on_this_machine(machine.environment)
    scope = 'this machine only' if inside else 'the whole network'
    return f'{scope}; profile {machine.profile.path or "none"}'


def _range_faults(machine: Machine) -> Iterable[Fault]:
    reach = machine.environment.get(DISCOVERY_RANGE, '')
    fix = f'export {DISCOVERY_RANGE}=LOCALHOST (or SUBNET)'
    if not reach:
        return
    if machine.distro == 'humble':
        yield (
            WARNING,
            f'Humble ignores {DISCOVERY_RANGE}',
            f'export {LOCALHOST_ONLY}=1 (or 0)',
        )
    elif reach not in RANGES:
        yield ERROR, f'{DISCOVERY_RANGE}={reach} is not one of {", ".join(RANGES)}', fix
    elif reach == 'OFF':
        yield ERROR, 'discovery is off: no node finds another', fix
    elif _localhost_only(machine):
        said = f'{LOCALHOST_ONLY}=1 overrides {DISCOVERY_RANGE}, which is also set'
        yield WARNING, said, f'unset {LOCALHOST_ONLY}'


def _localhost_only(machine: Machine) -> bool:
    """Whether the old variable is in force: rcl knows no value but 1."""
    return machine.environment.get(LOCALHOST_ONLY) == '1'


def _peer_faults(machine: Machine) -> Iterable[Fault]:
    peers = machine.environment.get(PEERS, '')
    fix = f'unset {PEERS} where every node is on this machine'
    if not peers:
        return
    if machine.distro == 'humble':
        fix = 'unset it; a Fast DDS profile can name them (initialPeersList)'
        yield WARNING, f'Humble ignores {PEERS}', fix
    elif _localhost_only(machine):
        said = f'{LOCALHOST_ONLY}=1 overrides {PEERS}, which is also set'
        yield WARNING, said, 'unset one of them'
    elif machine.profile.loopback_only:
        said = f'{PEERS}={peers}, but {machine.profile.path} keeps all traffic here'
        yield WARNING, said, f'{machine.shipped(CAMERA_PROFILE)} for peers elsewhere, or {fix}'
    else:
        yield NOTE, f'{PEERS}={peers}: a node starts only if each name can be resolved', fix


def _variable_faults(machine: Machine) -> Iterable[Fault]:
    """Report a profile in a variable that the distribution's Fast DDS does not read."""
    right = profile_variable(machine.environment)
    other = next(name for name in PROFILE_VARIABLES if name != right)
    path = machine.environment.get(other, '')
    if not path or not machine.distro or machine.environment.get(right):
        return
    level, said = ERROR, f'ROS 2 {machine.distro} does not read {other}: no profile is used'
    if other == FAST_DDS_2:
        level, said = WARNING, f'{other} is deprecated, but still read'
    yield level, said, f'export {right}={path}'


def _profile_faults(machine: Machine) -> Iterable[Fault]:
    profile = machine.profile
    if profile.error:
        fix = f'name another, as {machine.shipped(LOOPBACK_PROFILE)}, or unset the variable'
        yield ERROR, f'the Fast DDS profile {profile.path} cannot be used: {profile.error}', fix
    elif not profile.is_default:
        said = f'{profile.path} has no effect: it has no default participant'
        yield WARNING, said, 'write <participant is_default_profile="true" …>'
    elif profile.loopback_only and not stays_on_this_machine(machine.environment):
        said = f'{profile.path} keeps all traffic on this machine, but {DISCOVERY_RANGE} does not'
        fix = f'{machine.shipped(CAMERA_PROFILE)} for a bridge on another machine, '
        yield WARNING, said, f'{fix}{DISCOVERY_RANGE}=LOCALHOST for one on this'


def _server_faults(machine: Machine) -> Iterable[Fault]:
    """Report a discovery server: without it, its clients find no node."""
    given = machine.environment.get(SERVER, '').strip(';')
    if not given:
        return
    local = [LOCAL_SERVER.fullmatch(server) for server in given.split(';')]
    ports = [int(server[1] or SERVER_PORT) for server in local if server]
    silent = [port for port in ports if port not in machine.udp_ports]
    if silent:
        said = f'{SERVER}={given}: port {silent[0]} is closed, so no node finds another'
        yield ERROR, said, f'fastdds discovery -i 0 -p {silent[0]}, or unset {SERVER}'
    else:
        said = f'nodes find each other only through the discovery server {given}'
        fix = f'check that it runs and that all processes have this {SERVER}, or unset it'
        yield WARNING, said, fix


def _transport_faults(machine: Machine) -> Iterable[Fault]:
    name = _transports(machine)
    said, fix = f'{BUILTIN_TRANSPORTS}={name}', f'unset {BUILTIN_TRANSPORTS}'
    if not name or name == 'DEFAULT':
        return
    if name not in TRANSPORTS:
        yield WARNING, f'{said} is ignored: it is not one of {", ".join(TRANSPORTS)}', fix
    elif not machine.profile.builtin or stays_on_this_machine(machine.environment):
        by = 'the discovery range' if machine.profile.builtin else machine.profile.path
        yield NOTE, f'{said} has no effect: {by} sets the transports', fix
    elif name == NO_TRANSPORTS:
        yield ERROR, f'{said}: no node reaches another', fix
    elif name not in NETWORK_ONLY:  # those are judged with shared memory
        said += ': every process, the bridge too, must have it'
        yield NOTE, said, f'{fix}, or export it everywhere'


def check_domain(machine: Machine) -> Faults:
    """The ROS domain id is valid, and no other user has nodes in the domain."""
    given = given_domain_id(machine.environment)
    domain_id = read_domain_id(given)
    if domain_id is None:
        said = f'ROS_DOMAIN_ID={given} must be a number from 0 to {LAST_DOMAIN_ID}'
        yield ERROR, said, _other_domain(machine)
        return ''
    if given != str(domain_id):
        said = f'ROS_DOMAIN_ID={given} is read as {domain_id} (leading 0: octal, 0x: hexadecimal)'
        yield WARNING, said, f'export ROS_DOMAIN_ID={domain_id}, or the number you meant'
    yield from _neighbour_faults(machine, domain_id)
    return f'domain {domain_id}, no other nodes on this machine'


def _neighbour_faults(machine: Machine, domain_id: int) -> Iterable[Fault]:
    here = [p for p in machine.participants if p.domain_id == domain_id]
    strangers = {p.user for p in here} - {machine.user}
    if strangers:
        yield _strangers(machine, domain_id, strangers)
    elif domain_id > LAST_SAFE_DOMAIN:
        said = f'domain {domain_id} uses ports that Linux hands out to other programs; '
        yield WARNING, f'{said}its other nodes were not looked for', _other_domain(machine)
    elif here:
        said = f'domain {domain_id} already has {len(here)} of your processes: {programs(here)}'
        yield NOTE, said, 'end them if they are left over'


def _strangers(machine: Machine, domain_id: int, strangers: set[int]) -> Fault:
    """Report other users; root beside another user is most often a bridge in a container."""
    users = ', '.join(map(str, sorted(strangers)))
    said = f'domain {domain_id} is also used by user {users} of this machine'
    other = _other_domain(machine)
    if ROOT not in {*strangers, machine.user}:
        return ERROR, said, other
    fix = f'if it is your bridge: run it as the same user (docker run --user); else {other}'
    return WARNING, said, fix


def programs(participants: Sequence[Participant]) -> str:
    return ', '.join(sorted({p.program or f'a process of user {p.user}' for p in participants}))


def _other_domain(machine: Machine) -> str:
    used = {p.domain_id for p in machine.participants}
    free = next(k for k in range(1, LAST_SAFE_DOMAIN + 1) if k not in used)
    return f'export ROS_DOMAIN_ID={free}, for every process of the system'


NETWORK_CHECKS: Checks[Machine] = {
    'rmw': check_rmw,
    'shm': check_shared_memory,
    'discovery': check_discovery,
    'domain': check_domain,
}

# SPDX-License-Identifier: Apache-2.0
"""Judges whether images fit through shared memory. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from td3_agent.doctor.findings import Finding, Level, megabytes
from td3_agent.fastdds import (
    BUILTIN_TRANSPORTS,
    CAMERA_PROFILE,
    profile_variable,
    stays_on_this_machine,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.doctor.facts import Machine

# Of Fast DDS without a profile.
DEFAULT_SEGMENT_BYTES = 512 * 1024
BYTES_PER_PIXEL = 4  # bgra8
IMAGES_UNDER_WAY = 4
PROCESSES = 4  # bridge, agent, gate, synchronizer
SMALL_SEGMENT_BYTES = 1024 * 1024  # of a process that sends no images
SHM = '/dev/shm'  # noqa: S108  where Fast DDS keeps its segments
LEAST_CONTAINER_SHM_MIB = 512
NETWORK_ONLY = ('UDPv4', 'UDPv6')  # built-in transports without shared memory


def check_shared_memory(machine: Machine) -> Iterator[Finding]:
    """Images fit into the shared memory of a process, and all segments into /dev/shm."""
    if not machine.uses_fast_dds or machine.profile.error:
        return  # the latter is reported by the check of discovery
    width_px, height_px = machine.camera_px
    image_bytes = width_px * height_px * BYTES_PER_PIXEL
    what = f'an image of {width_px}x{height_px} has {megabytes(image_bytes)}'
    segment_bytes = machine.profile.segment_bytes or DEFAULT_SEGMENT_BYTES
    faults = [*_no_memory_faults(machine, what)] or [
        *_segment_faults(machine, what, image_bytes, segment_bytes),
        *_room_faults(machine, segment_bytes),
    ]
    yield from faults
    if not faults:
        segment, free = megabytes(segment_bytes), megabytes(machine.shm_free_bytes)
        yield Finding(Level.OK, 'shm', f'{what}, a segment {segment}, {SHM} {free} free')


def builtin_transports(machine: Machine) -> str:
    """Return the built-in transports that the environment asks for, without their options."""
    return machine.environment.get(BUILTIN_TRANSPORTS, '').partition('?')[0]


def _no_memory_faults(machine: Machine, what: str) -> Iterator[Finding]:
    """Neither profile nor environment leave shared memory; within one machine, rmw adds some."""
    if machine.profile.shares_memory or stays_on_this_machine(machine.environment):
        return
    said = f'{what}, and goes through the network, piece by piece: '
    if not machine.profile.builtin:
        said += f'{machine.profile.path} names no shared memory'
        yield Finding(Level.WARNING, 'shm', said, _take_ours(machine))
    elif (given := builtin_transports(machine)) in NETWORK_ONLY:
        said += f'{BUILTIN_TRANSPORTS}={given} leaves no shared memory'
        fix = f'unset {BUILTIN_TRANSPORTS}, for the bridge too'
        yield Finding(Level.WARNING, 'shm', said, fix)


def _take_ours(machine: Machine) -> str:
    variable = profile_variable(machine.environment)
    return f'export {variable}={machine.shipped(CAMERA_PROFILE)}, for the bridge too'


def _segment_faults(
    machine: Machine, what: str, image_bytes: int, segment_bytes: int
) -> Iterator[Finding]:
    profile, need_bytes = machine.profile, IMAGES_UNDER_WAY * image_bytes
    fix = f'segment_size of at least {need_bytes} in {profile.path}, for the bridge too'
    if not profile.shares_memory:
        fix = _take_ours(machine)
    if segment_bytes < image_bytes:
        said = f'{what}, the shared-memory segment {megabytes(segment_bytes)}: '
        yield Finding(Level.ERROR, 'shm', f'{said}images come late or never', fix)
    elif segment_bytes < need_bytes and profile.segment_bytes:
        said = f'{what}, the segment {megabytes(segment_bytes)}'
        yield Finding(Level.WARNING, 'shm', said, fix)


def _room_faults(machine: Machine, segment_bytes: int) -> Iterator[Finding]:
    need_bytes = 2 * segment_bytes + (PROCESSES - 2) * SMALL_SEGMENT_BYTES
    need = megabytes(need_bytes)
    if machine.shm_total_bytes < need_bytes:
        # The next power of two, a quarter more at least: others put something there as well.
        size_mib = max(LEAST_CONTAINER_SHM_MIB, 1 << (need_bytes * 5 // 4 >> 20).bit_length())
        fix = f'docker run --shm-size={size_mib}m (compose: shm_size), or --ipc=host'
        said = f'{SHM} has {megabytes(machine.shm_total_bytes)}, bridge and agent need {need}'
        yield Finding(Level.ERROR, 'shm', said, fix)
    elif machine.shm_free_bytes < need_bytes:
        fix = 'end old ROS 2 processes, then: fastdds shm clean, or rm /dev/shm/fast{rtps,dds}_*'
        said = f'{megabytes(machine.shm_free_bytes)} of {SHM} are free, {need} are needed'
        yield Finding(Level.WARNING, 'shm', said, fix)

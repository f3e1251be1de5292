# SPDX-License-Identifier: Apache-2.0
"""Judges the ROS domain and who else is in it. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from td3_agent.doctor.facts import LAST_SAFE_DOMAIN
from td3_agent.doctor.findings import Finding, Level
from td3_agent.ros_domain import LAST_DOMAIN_ID, given_domain_id, read_domain_id

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from td3_agent.doctor.facts import Machine, Participant

ROOT = 0


def check_domain(machine: Machine) -> Iterator[Finding]:
    """The ROS domain is a number that works, and nobody else's."""
    given = given_domain_id(machine.environment)
    domain_id = read_domain_id(given)
    if domain_id is None:
        said = f'ROS_DOMAIN_ID={given} must be a number from 0 to {LAST_DOMAIN_ID}'
        yield Finding(Level.ERROR, 'domain', said, _other_domain(machine))
        return
    faults = [*_spelling_faults(given, domain_id), *_neighbour_faults(machine, domain_id)]
    yield from faults
    if not faults:
        yield Finding(Level.OK, 'domain', f'domain {domain_id}, nobody else on this machine')


def _spelling_faults(given: str, domain_id: int) -> Iterator[Finding]:
    if given != str(domain_id):
        said = f'ROS_DOMAIN_ID={given} is read as {domain_id} (leading 0: octal, 0x: hexadecimal)'
        fix = f'export ROS_DOMAIN_ID={domain_id}, or the number that you mean'
        yield Finding(Level.WARNING, 'domain', said, fix)


def _neighbour_faults(machine: Machine, domain_id: int) -> Iterator[Finding]:
    here = [p for p in machine.participants if p.domain_id == domain_id]
    strangers = {p.user for p in here} - {machine.user}
    if strangers:
        yield _strangers(machine, domain_id, strangers)
    elif domain_id > LAST_SAFE_DOMAIN:
        said = f'domain {domain_id} uses ports that Linux hands out to other programs; '
        said += 'who else is in it was not looked at'
        yield Finding(Level.WARNING, 'domain', said, _other_domain(machine))
    elif here:
        said = f'domain {domain_id} already has {len(here)} of your processes: {programs(here)}'
        yield Finding(Level.NOTE, 'domain', said, 'end them if they are not meant to be heard')


def _strangers(machine: Machine, domain_id: int, strangers: set[int]) -> Finding:
    """Root beside another user is most often a bridge in a container."""
    users = ', '.join(map(str, sorted(strangers)))
    said = f'domain {domain_id} is also used by user {users} of this machine'
    other = _other_domain(machine)
    if ROOT not in {*strangers, machine.user}:
        return Finding(Level.ERROR, 'domain', said, other)
    fix = f'if it is your bridge: run it as the same user (docker run --user); else {other}'
    return Finding(Level.WARNING, 'domain', said, fix)


def programs(participants: Sequence[Participant]) -> str:
    """Return the names of their programs, each once."""
    return ', '.join(sorted({p.program or f'a process of user {p.user}' for p in participants}))


def _other_domain(machine: Machine) -> str:
    used = {p.domain_id for p in machine.participants}
    free = next(k for k in range(1, LAST_SAFE_DOMAIN + 1) if k not in used)
    return f'export ROS_DOMAIN_ID={free}, for every process of the system'

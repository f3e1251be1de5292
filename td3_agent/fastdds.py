# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Fast DDS profiles: which one a process gets, and which of its settings Fast DDS uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from xml.etree import ElementTree as ET

FAST_DDS_2, FAST_DDS_3 = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILE_VARIABLES = (FAST_DDS_2, FAST_DDS_3)
DISTROS_WITH_FAST_DDS_2 = ('humble', 'iron', 'jazzy')
LOOPBACK_PROFILE = 'config/fastdds_loopback.xml'  # nothing leaves the machine
CAMERA_PROFILE = 'config/fastdds_camera.xml'  # the bridge may run on another machine
# The same without shared memory, in the same folder.
UDP_LOOPBACK = 'fastdds_loopback_udp.xml'
UDP_PROFILES = {
    'fastdds_loopback.xml': UDP_LOOPBACK,
    'fastdds_camera.xml': 'fastdds_camera_udp.xml',
}
DISCOVERY_RANGE, LOCALHOST_ONLY = 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY'
BUILTIN_TRANSPORTS = 'FASTDDS_BUILTIN_TRANSPORTS'  # used if no profile names transports


def profile_variables(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the variable that selects the profile at ``path``; empty if one is selected already.

    The name depends on ``ROS_DISTRO``: Fast DDS 3 warns about the variable of Fast DDS 2.
    """
    if any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return {profile_variable(environment): str(path)}


def profile_variable(environment: Mapping[str, str]) -> str:
    """Return the name of the variable that the Fast DDS of ``ROS_DISTRO`` reads."""
    distro = environment.get('ROS_DISTRO')
    return FAST_DDS_2 if distro in DISTROS_WITH_FAST_DDS_2 else FAST_DDS_3


def udp_variables(environment: Mapping[str, str], config: Path) -> dict[str, str]:
    """Return the variables with which a process shares no memory with others.

    A process killed while writing leaves its segment locked for up to 3 s; every publisher to
    that reader blocks until then. A profile of the user's own stays.

    Args:
        environment: of the process.
        config: folder of the shipped profiles.
    """
    named = [environment[name] for name in PROFILE_VARIABLES if environment.get(name)]
    if any(Path(path).name not in UDP_PROFILES for path in named):
        return {}
    if stays_on_this_machine(environment):
        # The profile keeps discovery on this machine. With the variables rmw_fastrtps would do so
        # too, but add shared memory.
        profile = {profile_variable(environment): str(config / UDP_LOOPBACK)}
        old = {LOCALHOST_ONLY: '0'} if environment.get(LOCALHOST_ONLY) else {}
        return profile | old | {DISCOVERY_RANGE: 'SYSTEM_DEFAULT'}
    if named:
        path = Path(named[0])
        return {profile_variable(environment): str(path.with_name(UDP_PROFILES[path.name]))}
    return {BUILTIN_TRANSPORTS: environment.get(BUILTIN_TRANSPORTS) or 'UDPv4'}


def stays_on_this_machine(environment: Mapping[str, str]) -> bool:
    """Whether discovery is limited to this machine."""
    if environment.get(LOCALHOST_ONLY) == '1':
        return True
    return environment.get(DISCOVERY_RANGE, '').upper() == 'LOCALHOST'


@dataclass(frozen=True)
class Profile:
    """The settings of a Fast DDS profile that apply to a participant without a profile name."""

    path: str = ''  # empty: none is selected
    segment_bytes: int | None = None  # of shared memory; None: not set
    loopback_only: bool = False  # its network is bound to this machine
    error: str = ''  # why it could not be read; empty: it was read
    is_default: bool = True  # it has a default participant profile
    shares_memory: bool = False  # it has a shared memory transport
    builtin: bool = True  # Fast DDS's built-in transports are in use


def read_profile(environment: Mapping[str, str]) -> Profile:
    """Return the Fast DDS profile that the environment selects.

    Fast DDS 3 reads the variable of Fast DDS 2 too, before its own.
    """
    read = PROFILE_VARIABLES[: 1 + (profile_variable(environment) == FAST_DDS_3)]
    path = next((environment[name] for name in read if environment.get(name)), '')
    if not path:
        return Profile()
    from xml.etree import ElementTree as ET  # noqa: PLC0415  nodes start without it

    try:
        return _profile(path, ET.parse(path).getroot())  # noqa: S314  the user's own file
    except (OSError, ET.ParseError, ValueError) as error:
        return Profile(path, error=str(error))


def _profile(path: str, root: ET.Element) -> Profile:
    if _tag(root) not in {'profiles', 'dds'}:
        raise ValueError(f'its root must be <profiles> or <dds>, got <{_tag(root)}>')
    profiles = [root] if _tag(root) == 'profiles' else [*_below(root, 'profiles')]
    participants = [found for part in profiles for found in _below(part, 'participant')]
    # Of several defaults the last one counts.
    default = [p for p in participants if p.get('is_default_profile') == 'true'][-1:]
    if not default:
        return Profile(path, is_default=False)
    transports = _transports_of(default[0], profiles)
    shared = [t for t in transports if _text(t, 'type') == 'SHM']
    networks = [t for t in transports if _text(t, 'type').startswith(('UDP', 'TCP'))]
    builtin = _text(default[0], 'rtps', 'useBuiltinTransports') != 'false'
    return Profile(
        path,
        max(filter(None, map(_segment_bytes, shared)), default=None),
        loopback_only=not builtin and all(map(_is_loopback, networks)),
        shares_memory=bool(shared),
        builtin=builtin,
    )


def _transports_of(participant: ET.Element, profiles: list[ET.Element]) -> list[ET.Element]:
    """Return the transport descriptors of a participant."""
    path = ('transport_descriptors', 'transport_descriptor')
    known = {_text(one, 'transport_id'): one for part in profiles for one in _below(part, *path)}
    names = [_text(one) for one in _below(participant, 'rtps', 'userTransports', 'transport_id')]
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f'no transport_descriptor has the transport_id {unknown[0]!r}')
    return [known[name] for name in names]


def _segment_bytes(transport: ET.Element) -> int | None:
    text = _text(transport, 'segment_size')
    if text and not (text.isdecimal() and int(text)):
        raise ValueError(f'segment_size must be a number of bytes, got {text!r}')
    return int(text) if text else None


def _is_loopback(transport: ET.Element) -> bool:
    allowed = {_text(one) for one in _below(transport, 'interfaceWhiteList', '*')}
    return bool(allowed) and allowed <= {'127.0.0.1', 'lo'}


def _tag(element: ET.Element) -> str:
    """Return its name without the namespace, which Fast DDS ignores."""
    return element.tag.rpartition('}')[2]


def _below(element: ET.Element, *path: str) -> Iterator[ET.Element]:
    """Yield the elements at a path below an element; ``*`` is any name."""
    for child in element:
        if path[0] in {_tag(child), '*'}:
            yield from _below(child, *path[1:]) if path[1:] else (child,)


def _text(element: ET.Element, *path: str) -> str:
    """Return the text of an element, or of the first at a path below it; else empty."""
    found = next(_below(element, *path), None) if path else element
    return (found.text or '').strip() if found is not None else ''

# SPDX-License-Identifier: Apache-2.0
"""Reads a Fast DDS profile as Fast DDS does for a participant that asks for none by name."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from td3_agent.doctor.facts import Profile
from td3_agent.fastdds import FAST_DDS_2, FAST_DDS_3, profile_variable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LOOPBACK = {'127.0.0.1', 'lo'}
NETWORKS = ('UDP', 'TCP')


def read_profile(environment: Mapping[str, str]) -> Profile:
    """Return the Fast DDS profile that the environment names, in a variable that is read.

    Fast DDS 3 takes the variable of its predecessor as well, before its own.
    """
    read = (FAST_DDS_2, FAST_DDS_3)[: 1 + (profile_variable(environment) == FAST_DDS_3)]
    path = next((environment[name] for name in read if environment.get(name)), '')
    if not path:
        return Profile()
    try:
        return _profile(path, ET.parse(path).getroot())  # noqa: S314  the user's own file
    except (OSError, ET.ParseError, ValueError) as error:
        return Profile(path, error=str(error))


def _profile(path: str, root: ET.Element) -> Profile:
    if _tag(root) not in {'profiles', 'dds'}:
        raise ValueError(f'its root must be <profiles> or <dds>, got <{_tag(root)}>')
    profiles = [root] if _tag(root) == 'profiles' else [*_below(root, 'profiles')]
    participants = [found for part in profiles for found in _below(part, 'participant')]
    # Where several say so, the last one counts.
    default = [p for p in participants if p.get('is_default_profile') == 'true'][-1:]
    if not default:
        return Profile(path, is_default=False)
    transports = _transports_of(default[0], profiles)
    kinds = [_text(transport, 'type') for transport in transports]
    sizes = [_segment_bytes(t) for t, kind in zip(transports, kinds, strict=True) if kind == 'SHM']
    networks = [t for t, kind in zip(transports, kinds, strict=True) if kind.startswith(NETWORKS)]
    builtin = _text(default[0], 'rtps', 'useBuiltinTransports') != 'false'
    return Profile(
        path,
        max((size for size in sizes if size is not None), default=None),
        loopback_only=not builtin and all(map(_is_loopback, networks)),
        shares_memory=bool(sizes),
        builtin=builtin,
    )


def _transports_of(participant: ET.Element, profiles: list[ET.Element]) -> list[ET.Element]:
    """Return the descriptors of the transports that a participant names."""
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
    return bool(allowed) and allowed <= LOOPBACK


def _tag(element: ET.Element) -> str:
    """Return its name without a namespace: Fast DDS heeds none."""
    return element.tag.rpartition('}')[2]


def _below(element: ET.Element, *path: str) -> Iterator[ET.Element]:
    """Yield what lies at a path below an element; ``*`` is any name."""
    for child in element:
        if path[0] in {_tag(child), '*'}:
            yield from _below(child, *path[1:]) if path[1:] else (child,)


def _text(element: ET.Element, *path: str) -> str:
    """Return the text of an element, or of the first at a path below it; empty where none is."""
    found = next(_below(element, *path), None) if path else element
    return (found.text or '').strip() if found is not None else ''

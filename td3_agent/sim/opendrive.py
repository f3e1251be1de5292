# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE text, checked before ``carla.Map`` sees it.

``carla.Map`` is C++ that trusts its input: it accepts an empty road network in silence and may
abort on a damaged one. Files come from anywhere, so what it relies on is checked here first.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

MAX_FILE_BYTES = 256 * 1024 * 1024
MAX_EXTENT_M = 1e5
MAX_LANES_PER_SECTION = 64


class MapError(ValueError):
    """A map cannot be used; the text says which and why."""


class LaneSpan(NamedTuple):
    """One lane within one lane section.

    Attributes:
        road_id: OpenDRIVE road id.
        lane_id: negative right of the reference line, positive left of it, never 0.
        kind: OpenDRIVE lane type, such as ``'driving'``.
        s_start_m: start of the section along the road's reference line [m].
        s_end_m: end of the section [m].
        in_junction: whether the road connects others inside a junction.
        section: number of the section on its road, from 0.
        left_hand: whether the road's traffic keeps to the left.
    """

    road_id: int
    lane_id: int
    kind: str
    s_start_m: float
    s_end_m: float
    in_junction: bool
    section: int = 0
    left_hand: bool = False

    @property
    def along_s(self) -> bool:
        """Whether the lane is driven along the reference line, not against it."""
        return (self.lane_id > 0) == self.left_hand


def read_opendrive(path: str | Path) -> str:
    """Read an ``.xodr`` file.

    Raises:
        MapError: no such file, not readable as text, empty, or far too large.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MapError(f'map file {path} has {size} bytes, limit is {MAX_FILE_BYTES}')
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise MapError(f'map file {path} cannot be read: {error}') from error
    if not text.strip():
        raise MapError(f'map file {path} is empty')
    return text


def lane_spans(opendrive: str) -> list[LaneSpan]:
    """Check OpenDRIVE text and list its lanes.

    Raises:
        MapError: not XML, not OpenDRIVE, or without anything to drive on; roads that lack an
            id, a length, a geometry or lanes, and numbers that are not finite.
    """
    root = _parse(opendrive)
    spans: list[LaneSpan] = []
    for road in root.findall('road'):
        spans += _road_spans(road)
    if not any(span.kind == 'driving' for span in spans):
        raise MapError('OpenDRIVE map has no driving lane')
    return spans


def _parse(opendrive: str) -> ET.Element:
    """Return the root element; document types are refused, so no entity is ever expanded."""
    if '<!DOCTYPE' in opendrive or '<!ENTITY' in opendrive:
        raise MapError('OpenDRIVE text must not declare a document type or entities')
    try:
        root = ET.fromstring(opendrive)  # noqa: S314  entities are refused above
    except (ET.ParseError, ValueError) as error:
        raise MapError(f'not an OpenDRIVE map, XML does not parse: {error}') from error
    if root.tag != 'OpenDRIVE':
        raise MapError(f'not an OpenDRIVE map, root element is {root.tag!r}')
    return root


def _road_spans(road: ET.Element) -> list[LaneSpan]:
    road_id = _integer(road, 'id', 'road')
    where = f'road {road_id}'
    length_m = _number(road, 'length', where)
    if not length_m > 0.0:
        raise MapError(f'{where}: length must be > 0 [m], got {length_m}')
    _check_geometry(road, where)
    sections = road.findall('lanes/laneSection')
    if not sections:
        raise MapError(f'{where}: has no laneSection')
    starts = [_number(section, 's', f'{where} laneSection') for section in sections]
    if sorted(starts) != starts or starts[0] != 0.0 or starts[-1] > length_m + 0.01:
        raise MapError(f'{where}: laneSection starts {starts} do not fit length {length_m} [m]')
    in_junction = road.get('junction', '-1') != '-1'
    left_hand = road.get('rule') == 'LHT'
    spans = []
    for number, section in enumerate(sections):
        start, end = starts[number], [*starts[1:], length_m][number]
        lanes = section.findall('left/lane') + section.findall('right/lane')
        if len(lanes) > MAX_LANES_PER_SECTION:
            raise MapError(f'{where}: {len(lanes)} lanes in one section')
        for lane in lanes:
            lane_id = _integer(lane, 'id', where)
            if end > start:
                kind = lane.get('type', 'none')
                spans.append(
                    LaneSpan(road_id, lane_id, kind, start, end, in_junction, number, left_hand)
                )
    return spans


def _check_geometry(road: ET.Element, where: str) -> None:
    geometries = road.findall('planView/geometry')
    if not geometries:
        raise MapError(f'{where}: has no planView geometry')
    for geometry in geometries:
        for name in ('s', 'x', 'y', 'hdg', 'length'):
            _number(geometry, name, f'{where} geometry')
        if not len(geometry):
            raise MapError(f'{where}: a geometry has no shape')


def _number(element: ET.Element, name: str, where: str) -> float:
    text = element.get(name)
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        value = math.nan
    if not abs(value) <= MAX_EXTENT_M:  # written so that NaN fails too
        raise MapError(f'{where}: {name} must be a number within +-{MAX_EXTENT_M:g}, got {text!r}')
    return value


def _integer(element: ET.Element, name: str, where: str) -> int:
    text = element.get(name)
    try:
        return int(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise MapError(f'{where}: {name} must be an integer, got {text!r}') from None

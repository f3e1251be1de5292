# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of an OpenDRIVE map, each with its place: road, section, lane, attribute.

``carla.Map`` crashes on most of the errors, or refuses them without a place. All faults are
found at once. The tree is one that :func:`td3_agent.sim.opendrive_repair.repaired` has cured.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
import math
from typing import TYPE_CHECKING

from td3_agent.sim.opendrive_repair import (
    DRIVING,
    NO_JUNCTION,
    SHAPES,
    plan_length_m,
)
from td3_agent.sim.opendrive_sections import SHORTEST_M
from td3_agent.sim.opendrive_tree import ROUNDING_M, lane_links, read_records, station, steps

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree import ElementTree as ET

LARGEST_NUMBER = 1e9  # northing in UTM is 1e7 m
MAX_LANES_PER_SECTION = 64
GAP_M = 0.1  # wider: one sees, and drives over, a step
CUBIC = ('a', 'b', 'c', 'd')
# Attributes that hold numbers: those that must be there, and those that are 0 otherwise.
NUMBERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    'road': (('length',), ()),
    'geometry': (('s', 'x', 'y', 'hdg', 'length'), ()),
    'arc': (('curvature',), ()),
    'spiral': (('curvStart', 'curvEnd'), ()),
    'poly3': ((), CUBIC),
    'paramPoly3': ((), ('aU', 'bU', 'cU', 'dU', 'aV', 'bV', 'cV', 'dV')),
    'elevation': (('s',), CUBIC),
    'superelevation': (('s',), CUBIC),
    'laneOffset': (('s',), CUBIC),
    'laneSection': (('s',), ()),
    'width': ((), ('sOffset', *CUBIC)),
    'border': ((), ('sOffset', *CUBIC)),
    'offset': ((), ('x', 'y', 'z', 'hdg')),
}


@dataclass(frozen=True)
class MapFault:
    """One fault of a map.

    Attributes:
        place: road, section and lane, as in the file.
        text: what is wrong there.
        error: whether the map is refused for it; a warning otherwise.
    """

    place: str
    text: str
    error: bool = True

    def __str__(self) -> str:
        return f'{self.place}: {self.text}'


# ---- Numbers -----------------------------------------------------------------------------------


def number_faults(root: ET.Element) -> list[MapFault]:
    """Return attributes that must be numbers and are not; zeros stand in for them afterwards."""
    return [
        fault
        for place, element in _places(root)
        for fault in (*_bad_numbers(place, element), *_bad_lane_id(place, element))
    ]


def _places(root: ET.Element) -> Iterator[tuple[str, ET.Element]]:
    """Yield every element that holds numbers, after the place it is at."""
    for offset in root.iterfind('header/offset'):
        yield 'header, offset', offset
    for road in root.findall('road'):
        where = _road(road)
        yield where, road
        for geometry in road.iterfind('planView/geometry'):
            yield _geometry(where, geometry), geometry
            yield from ((_geometry(where, geometry), shape) for shape in geometry)
        for path in ('elevationProfile/*', 'lateralProfile/*', 'lanes/laneOffset'):
            yield from ((f'{where}, {record.tag}', record) for record in road.iterfind(path))
        for section in road.iterfind('lanes/laneSection'):
            yield _section(where, section), section
            for lane in section.iterfind('*/lane'):
                here = _lane(_section(where, section), lane)
                yield here, lane
                yield from ((f'{here}, {record.tag}', record) for record in lane)


def _road(road: ET.Element) -> str:
    return f'road {road.get("id")}'


def _geometry(where: str, geometry: ET.Element) -> str:
    return f'{where}, geometry s={station(geometry)}'


def _section(where: str, section: ET.Element) -> str:
    return f'{where}, section s={station(section)}'


def _lane(where: str, lane: ET.Element) -> str:
    return f'{where}, lane {lane.get("id")}'


def _bad_numbers(place: str, element: ET.Element) -> Iterator[MapFault]:
    required, optional = NUMBERS.get(element.tag, ((), ()))
    for name in (*required, *optional):
        text = element.get(name)
        if text is None and name in optional:
            continue
        if not is_number(text):
            yield MapFault(place, f'{name} must be a number, got {_shown(text)}')
            element.set(name, '0')


def is_number(text: str | None) -> bool:
    """Whether an attribute is a finite number of a size that a map can have."""
    try:
        return text is not None and '_' not in text and abs(float(text)) <= LARGEST_NUMBER
    except ValueError:
        return False


def _shown(text: str | None) -> str:
    return 'nothing' if text is None else repr(text)


def _bad_lane_id(place: str, element: ET.Element) -> Iterator[MapFault]:
    if element.tag != 'lane':
        return
    for end in (element, *element.iterfind('link/*')):
        text = (end.get('id') or '').strip()
        if not text.lstrip('+-').isdecimal():
            name = 'id' if end is element else f'{end.tag} id'
            yield MapFault(place, f'{name} must be a whole number, got {_shown(end.get("id"))}')
            text = '0'
        end.set('id', str(int(text)))


# ---- Structure ---------------------------------------------------------------------------------


def structure_faults(root: ET.Element) -> list[MapFault]:
    """Return what is missing, doubled or leads nowhere."""
    roads = {road.get('id', ''): road for road in root.findall('road')}
    junctions = {junction.get('id', ''): junction for junction in root.findall('junction')}
    faults = [*_no_driving_lane(root), *_doubled(root)]
    for road in root.findall('road'):
        faults += _plan_faults(road)
        faults += _section_faults(road)
        faults += _step_faults(road)
        faults += _road_link_faults(road, roads, junctions)
        for section in road.iterfind('lanes/laneSection'):
            faults += _lane_faults(_section(_road(road), section), section)
    faults += _lane_link_faults(root)
    for junction in junctions.values():
        faults += _junction_faults(junction, roads)
    return faults


def _no_driving_lane(root: ET.Element) -> Iterator[MapFault]:
    kinds = Counter(lane.get('type', 'none') for lane in root.iterfind('road/lanes/*/*/lane'))
    if DRIVING not in kinds:
        there = ', '.join(f'{kind} ({number} x)' for kind, number in sorted(kinds.items()))
        yield MapFault('map', f'has no driving lane; lanes are of type {there or "none at all"}')


def _doubled(root: ET.Element) -> Iterator[MapFault]:
    for tag in ('road', 'junction'):
        ids = Counter(element.get('id') for element in root.findall(tag))
        for name, number in ids.items():
            if not (name or '').strip():
                yield MapFault(tag, 'has no id')
            elif number > 1:
                yield MapFault(f'{tag} {name}', f'occurs {number} times: ids must be unique')


def _plan_faults(road: ET.Element) -> Iterator[MapFault]:
    where, length_m = _road(road), float(road.get('length', '0'))
    geometries = road.findall('planView/geometry')
    if not length_m > 0.0:
        yield MapFault(where, f'length must be > 0 [m], got {road.get("length")}')
    if not geometries:
        yield MapFault(where, 'has no planView geometry')
        return
    for geometry in geometries:
        if not len(geometry):
            shapes = ', '.join(SHAPES)
            yield MapFault(_geometry(where, geometry), f'has no shape: expected one of {shapes}')
        if float(geometry.get('length', '0')) < 0.0:
            length = geometry.get('length')
            yield MapFault(_geometry(where, geometry), f'length must be >= 0 [m], got {length}')
    start = float(geometries[0].get('s', '0'))
    if abs(start) > ROUNDING_M:
        yield MapFault(_geometry(where, geometries[0]), 'the first geometry must start at s=0')
    yield from _length_faults(where, length_m, plan_length_m(road))
    yield from _gap_faults(where, geometries)


def _length_faults(where: str, length_m: float, plan_m: float) -> Iterator[MapFault]:
    if abs(length_m - plan_m) > SHORTEST_M:
        text = f'is {length_m:g} m long, its planView {plan_m:g} m'
        if plan_m < SHORTEST_M:
            yield MapFault(where, f'{text}: they must be equal')
        else:
            end = f'the road ends at s={min(length_m, plan_m):g}'
            yield MapFault(where, f'{text}: {end}', error=False)


def _gap_faults(where: str, geometries: list[ET.Element]) -> Iterator[MapFault]:
    for before, geometry in pairwise(geometries):
        end, here = _end_pose(before), _geometry(where, geometry)
        start_m = float(before.get('s', '0')) + float(before.get('length', '0'))
        apart_m = float(geometry.get('s', '0')) - start_m
        if abs(apart_m) > SHORTEST_M:
            text = f'must start at s={start_m:g}, where the one before ends'
            yield MapFault(here, text, error=False)
        if end is None:
            continue
        start = float(geometry.get('x', '0')), float(geometry.get('y', '0'))
        gap_m = math.dist(end[:2], start)
        if gap_m > GAP_M:
            yield MapFault(
                here, f'starts {gap_m:.2f} m from where the one before ends', error=False
            )


def _end_pose(geometry: ET.Element) -> tuple[float, float] | None:
    """Return where a geometry ends [m]; None for shapes that are not followed here."""
    x, y, heading, length = (
        float(geometry.get(name, '0')) for name in ('x', 'y', 'hdg', 'length')
    )
    shape = geometry[0] if len(geometry) else None
    if shape is None or shape.tag == 'poly3':
        return None
    if shape.tag == 'paramPoly3':
        p = length if shape.get('pRange') == 'arcLength' else 1.0
        u, v = (
            sum(float(shape.get(f'{k}{axis}', '0')) * p**n for n, k in enumerate('abcd'))
            for axis in 'UV'
        )
    else:
        u, v = _clothoid_end(shape, length)
    cos, sin = math.cos(heading), math.sin(heading)
    return x + cos * u - sin * v, y + sin * u + cos * v


def _clothoid_end(shape: ET.Element, length_m: float) -> tuple[float, float]:
    """Return the end of a line, arc or spiral that starts along x (midpoint rule) [m]."""
    start = float(shape.get('curvStart') or shape.get('curvature') or '0')
    end = float(shape.get('curvEnd') or shape.get('curvature') or '0')
    pieces = 8 + int(8.0 * max(abs(start), abs(end)) * length_m) if shape.tag != 'line' else 1
    pieces, ds = min(pieces, 10_000), length_m / min(pieces, 10_000)
    u = v = 0.0
    for i in range(pieces):
        s = (i + 0.5) * ds
        angle = s * (start + 0.5 * s * (end - start) / max(length_m, 1e-9))
        u, v = u + ds * math.cos(angle), v + ds * math.sin(angle)
    return u, v


def _section_faults(road: ET.Element) -> Iterator[MapFault]:
    where, length_m = _road(road), float(road.get('length', '0'))
    sections = road.findall('lanes/laneSection')
    if not sections:
        yield MapFault(where, 'has no laneSection')
        return
    starts = [float(section.get('s', '0')) for section in sections]
    if starts[0] != 0.0:
        yield MapFault(_section(where, sections[0]), 'the first laneSection must start at s=0')
    if starts[-1] > length_m + SHORTEST_M:
        yield MapFault(
            _section(where, sections[-1]), f'starts beyond the end of the road, {length_m:g} m'
        )
    for section in sections:
        if section.get('singleSide', '').strip().lower() in ('true', '1'):
            yield MapFault(
                _section(where, section),
                'singleSide is true, which carla.Map does not know: give every section both sides',
            )


def _step_faults(road: ET.Element) -> Iterator[MapFault]:
    """Check that the lanes go on where laneOffset steps: where a section begins, others may."""
    lanes = road.find('lanes')
    if lanes is None:
        return
    begun_m = [float(section.get('s', '0')) for section in lanes.findall('laneSection')]
    for s_m, step_m in steps(read_records(lanes, 'laneOffset')):
        if abs(step_m) > GAP_M and min(abs(s_m - begin_m) for begin_m in begun_m) > SHORTEST_M:
            yield MapFault(
                f'{_road(road)}, laneOffset s={s_m:g}',
                f'the road steps sideways by {abs(step_m):.2f} m',
                error=False,
            )


def _lane_faults(where: str, section: ET.Element) -> Iterator[MapFault]:
    """Check ids and widths of the lanes of a section."""
    for side, sign in (('left', 1), ('right', -1)):
        ids = [int(lane.get('id', '0')) for lane in section.iterfind(f'{side}/lane')]
        expected = [sign * number for number in range(1, len(ids) + 1)]
        if sorted(ids, key=abs) != expected:
            shown = ', '.join(map(str, sorted(ids, key=abs)))
            wanted = f'{expected[0]} to {expected[-1]}' if len(ids) > 1 else f'{expected[0]}'
            yield MapFault(where, f'ids of the {side} lanes must be {wanted}, got {shown}')
        if len(ids) > MAX_LANES_PER_SECTION:
            yield MapFault(where, f'has {len(ids)} lanes, limit is {MAX_LANES_PER_SECTION}')
    for lane in section.iterfind('*/lane'):
        if lane.get('type') == DRIVING and lane.get('id') != '0' and lane.find('width') is None:
            yield MapFault(_lane(where, lane), 'has no width')


# ---- Links -------------------------------------------------------------------------------------


def _road_link_faults(
    road: ET.Element, roads: dict[str, ET.Element], junctions: dict[str, ET.Element]
) -> Iterator[MapFault]:
    where, within = _road(road), road.get('junction', NO_JUNCTION)
    if within != NO_JUNCTION and within not in junctions:
        yield MapFault(where, f'junction {within} does not exist: it is outside', error=False)
    for end in road.findall('link/*'):
        is_junction = end.get('elementType') == 'junction'
        if end.get('elementId', '') not in (junctions if is_junction else roads):
            target = f'{"junction" if is_junction else "road"} {end.get("elementId")}'
            text = f'{end.tag} {target} does not exist: the road ends there'
            yield MapFault(where, text, error=False)


def _lane_link_faults(root: ET.Element) -> Iterator[MapFault]:
    """Check that each lane is linked to lanes that exist."""
    for found in lane_links(root):
        if found.leads_nowhere:
            where = _lane(_section(_road(found.road), found.section), found.lane)
            wanted = f'{found.link.tag} {found.link.get("id")}'
            yield MapFault(where, f'{wanted} does not exist in {found.where}')


def _junction_faults(junction: ET.Element, roads: dict[str, ET.Element]) -> Iterator[MapFault]:
    where = f'junction {junction.get("id")}'
    if junction.get('type') == 'direct':
        text = 'is a direct junction, which carla.Map does not know: the roads end there'
        yield MapFault(where, text, error=False)
        return
    for connection in junction.findall('connection'):
        here = f'{where}, connection {connection.get("id")}'
        ends = {name: connection.get(name, '') for name in ('incomingRoad', 'connectingRoad')}
        missing = [name for name, road in ends.items() if road not in roads]
        for name in missing:
            text = f'{name} {_shown(connection.get(name))} does not exist: it is left out'
            yield MapFault(here, text, error=False)
        if not missing:
            yield from _lane_links(here, connection, junction, roads)


def _lane_links(
    where: str, connection: ET.Element, junction: ET.Element, roads: dict[str, ET.Element]
) -> Iterator[MapFault]:
    """Check lane links, and cut those to lanes that do not exist."""
    incoming = roads[connection.get('incomingRoad', '')]
    connecting = roads[connection.get('connectingRoad', '')]
    known = {
        'from': _lanes_at(incoming, _ends_at(incoming, junction.get('id', ''))),
        'to': _lanes_at(connecting, [connection.get('contactPoint') or 'start']),
    }
    names = {'from': incoming.get('id'), 'to': connecting.get('id')}
    for link in connection.findall('laneLink'):
        for name, lanes in known.items():
            if lanes and (link.get(name) or '').strip() not in lanes:
                text = f'laneLink {name} {_shown(link.get(name))}: road {names[name]} has no'
                yield MapFault(where, f'{text} such lane there: it is left out', error=False)
                connection.remove(link)
                break


def _ends_at(road: ET.Element, junction_id: str) -> list[str]:
    """Return the ends of a road that meet a junction."""
    ends = {'predecessor': 'start', 'successor': 'end'}
    return [
        ends[link.tag]
        for link in road.findall('link/*')
        if link.get('elementType') == 'junction' and link.get('elementId') == junction_id
    ]


def _lanes_at(road: ET.Element, ends: list[str]) -> set[str]:
    """Return the ids of the lanes at some ends of a road."""
    sections = road.findall('lanes/laneSection')
    if not sections:
        return set()
    return {
        lane.get('id', '')
        for end in ends
        for lane in sections[0 if end == 'start' else -1].iterfind('*/lane')
    }

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cures what other tools write and ``carla.Map`` does not take; nothing here changes a road.

Each function takes the tree as :func:`td3_agent.sim.opendrive.parsed` returns it, changes
it in place, and returns what it changed, for people. Numbers are finite: see
:func:`td3_agent.sim.opendrive_faults.number_faults`.
"""

from __future__ import annotations

from collections import Counter
import math
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from td3_agent.sim.opendrive_sections import (
    SHORTEST_M,
    driven_lanes,
    without_short_sections,
)
from td3_agent.sim.opendrive_tree import (
    ROUNDING_M,
    Cubic,
    added,
    in_order,
    lane_links,
    read_records,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPES = ('line', 'arc', 'spiral', 'poly3', 'paramPoly3')
# What plays a role here, by the element that holds it; all else is left out.
KEPT = {
    'OpenDRIVE': ('header', 'road', 'junction'),
    'header': ('geoReference', 'offset'),
    'road': ('link', 'type', 'planView', 'elevationProfile', 'lateralProfile', 'lanes'),
    'link': ('predecessor', 'successor'),
    'type': ('speed', 'line'),  # of a road, of a road mark
    'planView': ('geometry',),
    'geometry': SHAPES,
    'elevationProfile': ('elevation',),
    'lateralProfile': ('superelevation',),
    'lanes': ('laneOffset', 'laneSection'),
    'laneSection': ('left', 'center', 'right'),
    'left': ('lane',),
    'center': ('lane',),
    'right': ('lane',),
    'lane': ('link', 'width', 'border', 'roadMark'),
    'roadMark': ('type',),
    'junction': ('connection',),
    'connection': ('laneLink',),
}
DRIVING = 'driving'
# Lane types on which cars drive as on any other lane.
RAMPS = {
    kind.lower()
    for kind in (
        'entry', 'exit', 'onRamp', 'offRamp', 'connectingRamp', 'slipLane', 'mwyEntry', 'mwyExit'
    )
}  # fmt: skip
# Driven on where a road has nothing else: CARLA's towns have them between two directions.
SHARED = {'bidirectional'}
NO_JUNCTION = '-1'
BENT_M = 1e-3  # a bend that leaves a straight line by less is none
CARLAS_PROJECTION = '+proj=tmerc +lat_0=42 +lon_0=2 +datum=WGS84'
LARGEST_LOCAL_M = 20_000.0  # beyond, float32 no longer keeps millimetres


def without_extras(root: ET.Element) -> None:
    """Leave out signals, objects, user data and all else that plays no role."""
    kept = KEPT.get(root.tag, ())
    for child in list(root):
        if child.tag in kept:
            without_extras(child)
        else:
            root.remove(child)


def repaired(root: ET.Element) -> list[str]:
    """Apply all cures; return what was done, one line per kind of thing."""
    done = Counter[str]()
    done.update(_virtual_junctions(root))
    for road in root.findall('road'):
        done.update(_rule(road))
        done.update(_shapes(road))
        done.update(_profiles(road))
    done.update(without_short_sections(root))
    for road in root.findall('road'):
        done.update(_lane_types(road))
        for section in road.iterfind('lanes/laneSection'):
            done.update(_lanes(section))
    done.update(_loose_links(root))
    return [f'{text} ({times} x)' if times > 1 else text for text, times in done.items()]


# ---- Roads and junctions -----------------------------------------------------------------------


def _virtual_junctions(root: ET.Element) -> Iterator[str]:
    """Leave out virtual junctions, with the roads inside and the links to them."""
    virtual = {
        junction.get('id'): junction
        for junction in root.findall('junction')
        if junction.get('type') == 'virtual'
    }
    gone = set()
    for road in root.findall('road'):
        if (road.get('junction') or '').strip() in ('', 'none'):
            road.set('junction', NO_JUNCTION)
        elif road.get('junction') in virtual:
            gone.add(road.get('id'))
            root.remove(road)
    for name, junction in virtual.items():
        root.remove(junction)
        yield f'junction {name} is virtual: left out with the roads inside'
    for road in root.findall('road'):
        link = road.find('link')
        for end in list(link) if link is not None else []:
            targets = virtual if end.get('elementType') == 'junction' else gone
            if end.get('elementId') in targets and link is not None:
                link.remove(end)


def _rule(road: ET.Element) -> Iterator[str]:
    rule = road.get('rule')
    if rule is None:
        return
    known = rule.strip().upper()
    road.set('rule', known if known in ('LHT', 'RHT') else 'RHT')
    if road.get('rule') != known and known:
        yield f'rule {rule!r} is neither RHT nor LHT: taken as RHT'


# ---- Reference line and profiles ---------------------------------------------------------------


def _shapes(road: ET.Element) -> Iterator[str]:
    plan = road.find('planView')
    if plan is None:
        return
    found = plan.findall('geometry')
    found.sort(key=lambda geometry: float(geometry.get('s', '0')))
    for geometry in found:
        if float(geometry.get('length', '0')) <= ROUNDING_M and len(found) > 1:
            yield 'geometry without length left out'
        else:
            yield from _straightened(geometry)
    begun = bool(found) and abs(float(found[0].get('s', '0'))) <= ROUNDING_M
    plan[:] = [g for g in found if float(g.get('length', '0')) > ROUNDING_M] or found
    if begun and float(plan[0].get('s', '0')) != 0.0:
        plan[0].set('s', '0.0')  # those before it, if any, had no length


def _straightened(geometry: ET.Element) -> Iterator[str]:
    """Replace a shape whose formula has no solution where it does not bend, or bend further."""
    shape = geometry[0] if len(geometry) else None
    length_m = float(geometry.get('length', '0'))
    if shape is None:
        return
    before = shape.tag
    if shape.tag == 'spiral':
        start, end = float(shape.get('curvStart', '0')), float(shape.get('curvEnd', '0'))
        if abs(end - start) * length_m**2 / 6.0 < BENT_M:
            _reshape(shape, 'arc', curvature=repr(0.5 * (start + end)))
    if shape.tag == 'arc' and abs(float(shape.get('curvature', '0'))) * length_m**2 < 2.0 * BENT_M:
        _reshape(shape, 'line')
    if shape.tag == 'paramPoly3':
        _straighten_polynomial(shape)
    if shape.tag != before:
        yield f'{before} that hardly bends read as {shape.tag}'


def _reshape(shape: ET.Element, tag: str, **attributes: str) -> None:
    shape.attrib.clear()
    shape.tag = tag
    shape.attrib.update(attributes)


def _straighten_polynomial(shape: ET.Element) -> None:
    names = ('bU', 'cU', 'dU', 'bV', 'cV', 'dV')
    if all(float(shape.get(name, '0')) == 0.0 for name in names):
        _reshape(shape, 'line')
    else:
        by_length = shape.get('pRange', '').strip().lower() == 'arclength'
        shape.set('pRange', 'arcLength' if by_length else 'normalized')


def _profiles(road: ET.Element) -> Iterator[str]:
    places = {
        'elevation': road.find('elevationProfile'),
        'superelevation': road.find('lateralProfile'),
        'laneOffset': road.find('lanes'),
    }
    for tag, parent in places.items():
        if parent is None:
            continue
        before = read_records(parent, tag)
        after = in_order(before)
        if after != before:
            write_records(parent, tag, after)
            yield f'{tag} records sorted and begun at 0'


def plan_length_m(road: ET.Element) -> float:
    """Return where the planView of a road ends [m]; its geometries are in order."""
    last = road.findall('planView/geometry')[-1]
    return float(last.get('s', '0')) + float(last.get('length', '0'))


def ended_with_plan(root: ET.Element) -> None:
    """End roads where their planView does; links at that end stay."""
    for road in root.findall('road'):
        end_m = plan_length_m(road)
        if float(road.get('length', '0')) - end_m > SHORTEST_M:
            road.set('length', repr(end_m))
            for section in road.iterfind('lanes/laneSection'):
                section.set('s', repr(min(float(section.get('s', '0')), end_m)))
    for _ in without_short_sections(root):  # those that have no length now
        pass


# ---- Sections and lanes ------------------------------------------------------------------------


def _lanes(section: ET.Element) -> Iterator[str]:
    if section.find('center/lane') is None:
        for empty in section.findall('center'):
            section.remove(empty)
        center = ET.Element('center')
        center.append(ET.Element('lane', {'id': '0', 'type': 'none', 'level': 'false'}))
        section.insert(1 if section.find('left') is not None else 0, center)
        yield 'centre lane added'
    for side, sign in (('left', 1.0), ('right', -1.0)):
        yield from _widths(section.findall(f'{side}/lane'), sign)


def _widths(lanes: list[ET.Element], sign: float) -> Iterator[str]:
    """Give every lane of one side width records from 0; borders become widths.

    Args:
        lanes: of one side.
        sign: of the lateral coordinate on that side.
    """
    edge: list[Cubic] = []  # lateral place of the outer edge of the lanes further in
    for lane in sorted(lanes, key=lambda lane: abs(int(lane.get('id', '0')))):
        widths, border = in_order(read_records(lane, 'width')), read_records(lane, 'border')
        if border and not widths:
            widths = [
                Cubic(one.s_m, *(sign * value for value in one[1:]))
                for one in added(in_order(border), edge, -1.0)
            ]
            yield 'lane borders made widths'
        for record in lane.findall('border'):
            lane.remove(record)
        if widths != read_records(lane, 'width'):
            write_records(lane, 'width', widths)
        edge = added(edge, widths, sign)
        if not widths and lane.get('type') != DRIVING:
            write_records(lane, 'width', [Cubic(0.0)])
            yield f'lane of type {lane.get("type")} without width taken as 0 m wide'


def _lane_types(road: ET.Element) -> Iterator[str]:
    lanes = [
        lane for section in road.iterfind('lanes/laneSection') for lane in driven_lanes(section)
    ]
    kinds = {(lane.get('type') or 'none').strip().lower() for lane in lanes}
    driven = RAMPS if kinds & (RAMPS | {DRIVING}) else RAMPS | SHARED
    for lane in lanes:
        kind = (lane.get('type') or 'none').strip()
        if kind.lower() in driven:
            yield f'lanes of type {kind} taken as driving lanes'
        lane.set('type', DRIVING if kind.lower() in {*driven, DRIVING} else kind)


def _loose_links(root: ET.Element) -> Iterator[str]:
    """Cut links to nowhere that no traffic takes, and those beyond the end of a road."""
    for found in list(lane_links(root)):
        if not found.leads_nowhere or (found.target is not None and found.is_driven):
            continue
        for link in found.lane.findall('link'):
            link[:] = [end for end in link if end is not found.link]
        if found.target is not None:
            kind = found.lane.get('type')
            yield f'{found.link.tag} of a {kind} lane that does not exist left out'


def without_loose_ends(root: ET.Element) -> None:
    """Cut links to what does not exist, or not for ``carla.Map``: there the road ends."""
    for junction in root.findall('junction'):
        if junction.get('type') == 'direct':
            root.remove(junction)
    roads, junctions = ({e.get('id') for e in root.findall(tag)} for tag in ('road', 'junction'))
    for link in root.iterfind('road/link'):
        link[:] = [
            end
            for end in link
            if end.get('elementId')
            in (junctions if end.get('elementType') == 'junction' else roads)
        ]
    for junction in root.findall('junction'):
        for connection in junction.findall('connection'):
            if not {connection.get('incomingRoad'), connection.get('connectingRoad')} <= roads:
                junction.remove(connection)
    for _ in _loose_links(root):
        pass


# ---- Names and places --------------------------------------------------------------------------


def renumber(root: ET.Element) -> None:
    """Give roads and junctions whole numbers as ids, no two alike; good ones stay.

    ``carla.Map`` reads ids as int32 and looks junctions up by the number of a road.
    """
    roads, junctions = root.findall('road'), root.findall('junction')
    taken: set[str] = set()
    names = [_numbered(roads, taken), _numbered(junctions, taken)]
    road_ids, junction_ids = names
    for road in roads:
        road.set('id', road_ids[road.get('id', '')])
        within = road.get('junction', NO_JUNCTION)
        road.set('junction', junction_ids.get(within, NO_JUNCTION))
        for end in road.findall('link/*'):
            ids = junction_ids if end.get('elementType') == 'junction' else road_ids
            target = end.get('elementId', '')
            end.set('elementId', ids.get(target, target))
    for junction in junctions:
        junction.set('id', junction_ids[junction.get('id', '')])
        for number, connection in enumerate(junction.findall('connection')):
            connection.set('id', str(number))
            for name in ('incomingRoad', 'connectingRoad'):
                target = connection.get(name, '')
                connection.set(name, road_ids.get(target, target))


def _numbered(elements: list[ET.Element], taken: set[str]) -> dict[str, str]:
    """Return the number of each element by its id; ``taken`` grows."""
    numbers: dict[str, str] = {}
    names = [element.get('id', '') for element in elements]
    for name in names:
        plain = name.strip().lstrip('0') or '0'
        if plain.isdecimal() and plain.isascii() and int(plain) < 2**31 and plain not in taken:
            numbers[name] = plain
            taken.add(plain)
    following = max((int(number) for number in taken), default=0) + 1
    if following >= 2**31 - len(names):
        following = 1
    for name in names:
        while name not in numbers:
            if str(following) not in taken:
                numbers[name] = str(following)
                taken.add(str(following))
            following += 1
    return numbers


def with_geo_reference(root: ET.Element) -> None:
    """Name CARLA's default projection where the map names none: it would warn at each load."""
    header = root.find('header')
    if header is None:
        header = ET.Element('header')
        root.insert(0, header)
    found = header.find('geoReference')
    if found is None:
        found = ET.SubElement(header, 'geoReference')
    if not (found.text or '').strip():
        found.text = CARLAS_PROJECTION


def moved_to_origin(root: ET.Element) -> tuple[float, float]:
    """Move a map that lies far out to where it is drivable; return by how much [m].

    Positions are float32 in ``carla.Map``: in UTM coordinates they would be steps of 0.5 m. The
    header's offset says where the map was, as it does in OpenDRIVE.

    Returns:
        x and y of the new origin in the old coordinates, whole metres; zeros where it stays.
    """
    geometries = root.findall('road/planView/geometry')
    xs = [float(geometry.get('x', '0')) for geometry in geometries]
    ys = [float(geometry.get('y', '0')) for geometry in geometries]
    if not xs or max(map(abs, xs + ys)) <= LARGEST_LOCAL_M:
        return 0.0, 0.0
    x_m, y_m = round(0.5 * (min(xs) + max(xs))), round(0.5 * (min(ys) + max(ys)))
    for geometry in geometries:
        geometry.set('x', repr(float(geometry.get('x', '0')) - x_m))
        geometry.set('y', repr(float(geometry.get('y', '0')) - y_m))
    header = root.find('header')
    if header is not None:
        _note_offset(header, x_m, y_m)
    return float(x_m), float(y_m)


def _note_offset(header: ET.Element, x_m: float, y_m: float) -> None:
    offset = header.find('offset')
    if offset is None:
        offset = ET.SubElement(header, 'offset', {'z': '0', 'hdg': '0'})
    turned = float(offset.get('hdg', '0') or 0)
    cos, sin = math.cos(turned), math.sin(turned)
    offset.set('x', repr(float(offset.get('x', '0') or 0) + cos * x_m - sin * y_m))
    offset.set('y', repr(float(offset.get('y', '0') or 0) + sin * x_m + cos * y_m))

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lane sections put in order, and those left out that are too short for ``carla.Map``.

CARLA's own towns have sections a few micrometres long in which a road renumbers its lanes. What
refers to lanes by number is updated: links of lanes, connections of junctions, the lane offset.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from td3_agent.sim.opendrive_tree import (
    ROUNDING_M,
    lane_links,
    part_at,
    read_records,
    write_records,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree import ElementTree as ET

SHORTEST_M = 1e-2  # sections that are shorter are left out


class _Cut(NamedTuple):
    """A road's sections in order, where each ends [m], and the numbers of the short ones."""

    road: ET.Element
    sections: list[ET.Element]
    ends_m: list[float]
    gone: list[int]


def driven_lanes(section: ET.Element) -> list[ET.Element]:
    """Return the lanes beside the centre."""
    return section.findall('left/lane') + section.findall('right/lane')


def without_short_sections(root: ET.Element) -> Iterator[str]:
    """Put the sections of all roads in order and leave out short ones; say what was left out."""
    cuts = [
        _cut(road) for road in root.findall('road') if road.find('lanes/laneSection') is not None
    ]
    _follow(root, cuts)
    for cut in cuts:
        yield from _leave_out(cut)


def _cut(road: ET.Element) -> _Cut:
    found = road.findall('lanes/laneSection')
    found.sort(key=_start_m)
    for lanes in road.findall('lanes'):
        lanes[:] = [*lanes.findall('laneOffset'), *found]
    ends_m = [*map(_start_m, found[1:]), float(road.get('length', '0'))]
    short = [
        number
        for number, (section, end_m) in enumerate(zip(found, ends_m, strict=False))
        if abs(end_m - _start_m(section)) < SHORTEST_M
    ]
    return _Cut(road, found, ends_m, short[: len(found) - 1])


def _start_m(section: ET.Element) -> float:
    return float(section.get('s', '0'))


def _follow(root: ET.Element, cuts: list[_Cut]) -> None:
    """Update links from other roads and junctions to the numbers at the new ends of each road."""
    renumbered = {
        (cut.road.get('id'), contact): ids
        for cut in cuts
        for contact in ('start', 'end')
        if (ids := _renumbered(cut, contact))
    }
    if not renumbered:
        return
    ends = {
        id(section): (cut.road.get('id'), contact)
        for cut in cuts
        if cut.gone
        for contact, section in (('start', cut.sections[0]), ('end', cut.sections[-1]))
    }
    for found in list(lane_links(root)):
        end = ends.get(id(found.target))
        if end in renumbered and end[0] != found.road.get('id'):
            _rename(found.lane.find('link'), found.link, 'id', renumbered[end])
    roads = {cut.road.get('id'): cut.road for cut in cuts}
    for connection in root.iterfind('junction/connection'):
        contact = connection.get('contactPoint') or 'start'
        path, incoming = connection.get('connectingRoad'), connection.get('incomingRoad')
        way = 'predecessor' if contact == 'start' else 'successor'
        before = roads[path].find(f'link/{way}') if path in roads else None
        at = '' if before is None else before.get('contactPoint', '')
        for link in connection.findall('laneLink'):
            _rename(connection, link, 'to', renumbered.get((path, contact), {}))
            _rename(connection, link, 'from', renumbered.get((incoming, at), {}))


def _renumbered(cut: _Cut, contact: str) -> dict[str, str | None]:
    """Return the ids of lanes at an end of a road once short sections are left out there.

    Returns:
        New ids by those before, None of lanes that end; empty where nothing is left out.
    """
    numbers = list(range(len(cut.sections)))
    name = 'successor'
    if contact == 'end':
        numbers.reverse()
        name = 'predecessor'
    if numbers[0] not in cut.gone:
        return {}
    ids: dict[str, str | None] = {
        one.get('id', ''): one.get('id', '') for one in driven_lanes(cut.sections[numbers[0]])
    }
    for number in numbers:
        if number not in cut.gone:
            break
        links = {
            lane.get('id', ''): link.get('id')
            for lane in driven_lanes(cut.sections[number])
            if (link := lane.find(f'link/{name}')) is not None
        }
        ids = {old: None if new is None else links.get(new) for old, new in ids.items()}
    return ids


def _rename(
    parent: ET.Element | None, link: ET.Element, name: str, ids: dict[str, str | None]
) -> None:
    """Give a link the new id of a lane, or take it out where the lane ends."""
    old = link.get(name, '')
    new = ids.get(old, old)
    if new is not None:
        link.set(name, new)
    elif parent is not None and link in list(parent):
        parent.remove(link)


def _leave_out(cut: _Cut) -> Iterator[str]:
    road, sections = cut.road, cut.sections
    for lanes in road.findall('lanes'):
        _move_offsets(lanes, cut)
    for number in reversed(cut.gone):
        _unlink(sections, number)
        yield f'lane section shorter than {SHORTEST_M} m left out'
    if 0.0 < abs(_start_m(sections[0])) <= ROUNDING_M:
        sections[0].set('s', '0.0')
    for lanes in road.findall('lanes'):
        lanes[:] = [*lanes.findall('laneOffset'), *sections]


def _move_offsets(lanes: ET.Element, cut: _Cut) -> None:
    """Move the steps of laneOffset to where the remaining sections renumber the lanes.

    The section before a short one takes its place, and at the start of a road the one after it.
    """
    records = read_records(lanes, 'laneOffset')
    length_m = end_m = cut.ends_m[-1]
    for number in reversed(cut.gone if records else []):
        end_m = end_m if number + 1 in cut.gone else cut.ends_m[number]
        there = part_at(records, end_m + ROUNDING_M).begun_at(end_m if number else 0.0)
        begin_m = _start_m(cut.sections[number]) - ROUNDING_M
        before = [record for record in records if record.s_m < begin_m]
        after = [there, *(record for record in records if record.s_m > end_m + ROUNDING_M)]
        records = before + after if end_m < length_m else before
    write_records(lanes, 'laneOffset', records)


def _unlink(sections: list[ET.Element], number: int) -> None:
    """Take a section out; the lanes before it go on into those after it."""
    gone = {lane.get('id'): lane for lane in driven_lanes(sections[number])}
    for beside, name in ((number - 1, 'successor'), (number + 1, 'predecessor')):
        for lane in driven_lanes(sections[beside]) if 0 <= beside < len(sections) else []:
            link = lane.find(f'link/{name}')
            if link is None or link.get('id') not in gone:
                continue
            further = gone[link.get('id')].find(f'link/{name}')
            if further is not None:
                link.set('id', further.get('id', '0'))
            else:
                lane.find('link').remove(link)  # type: ignore[union-attr]
    if number == 0 and len(sections) > 1:
        sections[1].set('s', sections[0].get('s', '0'))
    del sections[number]

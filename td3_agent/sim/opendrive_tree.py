# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Links and records of an OpenDRIVE tree.

Links say which lanes a lane is joined to. Records are cubic: elevation, superelevation, lane
offset, lane width and border. A record ``(s, a, b, c, d)`` holds from its start to that of the
next one: ``a + b ds + c ds^2 + d ds^3`` with ``ds`` from its start.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ENDS = (('predecessor', -1, 'end'), ('successor', 1, 'start'))  # name, step, usual contact
START_OF = {
    'elevation': 's',
    'superelevation': 's',
    'laneOffset': 's',
    'width': 'sOffset',
    'border': 'sOffset',
}
ROUNDING_M = 1e-3  # starts that are nearer to each other than this are one


class LaneLink(NamedTuple):
    """One link of one lane.

    Attributes:
        road: that the lane is on.
        section: that the lane is in.
        lane: whose link this is.
        link: ``predecessor`` or ``successor`` of the lane.
        target: section that it leads into; None where the road leads nowhere, or to a junction.
        where: name of the target.
        at_junction: whether a junction decides instead.
    """

    road: ET.Element
    section: ET.Element
    lane: ET.Element
    link: ET.Element
    target: ET.Element | None
    where: str
    at_junction: bool

    @property
    def leads_nowhere(self) -> bool:
        """Whether there is no such lane."""
        if self.target is None:
            return not self.at_junction
        return all(
            lane.get('id') != self.link.get('id') for lane in self.target.iterfind('*/lane')
        )

    @property
    def is_driven(self) -> bool:
        """Whether traffic would take the link."""
        left_hand = self.road.get('rule') == 'LHT'
        along_s = (int(self.lane.get('id', '0')) > 0) == left_hand
        return self.lane.get('type') == 'driving' and (self.link.tag == 'successor') == along_s


def lane_links(root: ET.Element) -> Iterator[LaneLink]:
    """Yield the links of all lanes."""
    roads = {road.get('id', ''): road for road in root.findall('road')}
    for road in root.findall('road'):
        sections = road.findall('lanes/laneSection')
        for index, section in enumerate(sections):
            for name, step, contact in ENDS:
                if 0 <= index + step < len(sections):
                    target: ET.Element | None = sections[index + step]
                    where, at_junction = f'section s={station(target)}', False
                else:
                    target, where, at_junction = _beyond(road, name, contact, roads)
                for lane in section.iterfind('*/lane'):
                    for link in lane.findall(f'link/{name}'):
                        yield LaneLink(road, section, lane, link, target, where, at_junction)


def _beyond(
    road: ET.Element, name: str, contact: str, roads: dict[str, ET.Element]
) -> tuple[ET.Element | None, str, bool]:
    """Return the section of another road that follows at an end of this one, and its name."""
    end = road.find(f'link/{name}')
    if end is None or end.get('elementType') == 'junction':
        return None, '', end is not None
    beyond = roads.get(end.get('elementId', ''))
    sections = [] if beyond is None else beyond.findall('lanes/laneSection')
    if beyond is None or not sections:
        return None, '', True  # a fault of its own
    contact = end.get('contactPoint') or contact
    where = f'the {contact} of road {beyond.get("id")}'
    return sections[0 if contact == 'start' else -1], where, False


def station(element: ET.Element | None) -> str:
    """Return the start of a section or geometry as people read it."""
    text = '' if element is None else element.get('s') or ''
    try:
        return f'{float(text):g}'
    except ValueError:
        return text


class Cubic(NamedTuple):
    """One record, from ``s_m`` on."""

    s_m: float
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0

    def at(self, s_m: float) -> float:
        """Return its value at a station [m]."""
        ds = s_m - self.s_m
        return self.a + ds * (self.b + ds * (self.c + ds * self.d))

    def begun_at(self, s_m: float) -> Cubic:
        """Return the same polynomial as a record that starts elsewhere."""
        ds = s_m - self.s_m
        return Cubic(
            s_m,
            self.at(s_m),
            self.b + ds * (2.0 * self.c + 3.0 * ds * self.d),
            self.c + 3.0 * ds * self.d,
            self.d,
        )


ZERO = Cubic(0.0)


def read_records(parent: ET.Element, tag: str) -> list[Cubic]:
    """Return the records of a kind below an element, in the order of the file."""
    key = START_OF[tag]
    return [
        Cubic(*(float(record.get(name, '0')) for name in (key, 'a', 'b', 'c', 'd')))
        for record in parent.findall(tag)
    ]


def write_records(parent: ET.Element, tag: str, records: Sequence[Cubic]) -> None:
    """Replace the records of a kind below an element, where they change."""
    before = parent.findall(tag)
    if list(records) == read_records(parent, tag) or not (before or records):
        return
    index = list(parent).index(before[0]) if before else 0
    for element in before:
        parent.remove(element)
    for place, record in enumerate(records):
        attributes = zip((START_OF[tag], 'a', 'b', 'c', 'd'), map(repr, record), strict=True)
        parent.insert(index + place, ET.Element(tag, dict(attributes)))


def in_order(records: Sequence[Cubic]) -> list[Cubic]:
    """Return records sorted, the first at 0, and 0 before the first.

    Of those that start at one place, the last one holds.
    """
    ordered = sorted(records, key=lambda record: record.s_m)
    kept = [
        one for one, following in pairwise(ordered) if following.s_m - one.s_m > ROUNDING_M
    ] + ordered[-1:]
    begun = [record for record in kept if record.s_m <= ROUNDING_M]
    later = [record for record in kept if record.s_m > ROUNDING_M]
    if not begun:
        return [ZERO, *later] if later else []
    first = begun[-1]
    return [first if first.s_m == 0.0 else first.begun_at(0.0), *later]


def added(one: Sequence[Cubic], other: Sequence[Cubic], factor: float = 1.0) -> list[Cubic]:
    """Return ``one + factor * other``, both ordered from 0."""
    starts = sorted({record.s_m for record in (*one, *other)})
    total = []
    for s_m in starts:
        mine, theirs = part_at(one, s_m), part_at(other, s_m)
        total.append(
            Cubic(s_m, *(a + factor * b for a, b in zip(mine[1:], theirs[1:], strict=True)))
        )
    return total


def part_at(records: Sequence[Cubic], s_m: float) -> Cubic:
    """Return the record that holds at a station, begun there; 0 where none does."""
    begun = [record for record in records if record.s_m <= s_m]
    return begun[-1].begun_at(s_m) if begun else Cubic(s_m)


def steps(records: Sequence[Cubic]) -> list[tuple[float, float]]:
    """Return where ordered records are not continuous: station and change of value [m]."""
    return [
        (following.s_m, following.a - one.at(following.s_m))
        for one, following in pairwise(records)
    ]

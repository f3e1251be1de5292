# SPDX-License-Identifier: Apache-2.0
"""Links between lanes: which lanes a lane of an OpenDRIVE tree says it is joined to."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator
    from xml.etree import ElementTree as ET

ENDS = (('predecessor', -1, 'end'), ('successor', 1, 'start'))  # name, step, usual contact


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

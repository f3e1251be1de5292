# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE text, made fit for ``carla.Map`` before it sees it.

``carla.Map`` is C++ that trusts its input: it accepts an empty road network in silence and may
abort on a damaged one. Files come from anywhere, so what it does not take is cured where the
meaning is plain, and named with its place where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass
import re
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

from td3_agent.sim.opendrive_faults import MapFault, number_faults, structure_faults
from td3_agent.sim.opendrive_repair import (
    CARLAS_PROJECTION,
    DRIVING,
    NO_JUNCTION,
    ended_with_plan,
    moved_to_origin,
    renumber,
    repaired,
    with_geo_reference,
    without_extras,
    without_loose_ends,
)
from td3_agent.sim.opendrive_text import MapError, parsed, read_opendrive

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    'LaneSpan',
    'MapError',
    'PreparedMap',
    'checked',
    'lane_spans',
    'prepared',
    'read_opendrive',
]

MAX_EXTENT_M = 1e5
GEO_REFERENCE = re.compile('<geoReference>(.*?)</geoReference>', re.DOTALL)
NAMED_FAULTS = 3  # in a refusal; the doctor lists all


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


@dataclass(frozen=True)
class PreparedMap:
    """An OpenDRIVE map as ``carla.Map`` takes it, and what was found on the way.

    Attributes:
        opendrive: OpenDRIVE text; empty where an error was found.
        faults: errors and warnings, in the order of the file.
        cures: what was changed, one line each.
        origin_m: place of the origin in the coordinates of the file, x and y; zeros unless the
            map was moved.
    """

    opendrive: str
    faults: tuple[MapFault, ...] = ()
    cures: tuple[str, ...] = ()
    origin_m: tuple[float, float] = (0.0, 0.0)

    @property
    def errors(self) -> tuple[MapFault, ...]:
        """The faults for which the map is refused."""
        return tuple(fault for fault in self.faults if fault.error)


def prepared(text: str) -> PreparedMap:
    """Make the text of a map fit for ``carla.Map``, and list its faults.

    Raises:
        MapError: not XML, not OpenDRIVE, or with a document type.
    """
    root = parsed(text)
    without_extras(root)
    faults = number_faults(root)
    cures = repaired(root)
    faults += structure_faults(root)
    if any(fault.error for fault in faults):
        return PreparedMap('', tuple(faults), tuple(cures))
    ended_with_plan(root)
    without_loose_ends(root)
    renumber(root)
    with_geo_reference(root)
    origin_m = moved_to_origin(root)
    return PreparedMap(
        ET.tostring(root, encoding='unicode'), tuple(faults), tuple(cures), origin_m
    )


def checked(name: str, text: str) -> PreparedMap:
    """Return the map made fit for ``carla.Map``.

    Raises:
        MapError: not an OpenDRIVE map, or one with errors; the first few are named.
    """
    found = prepared(text)
    if found.errors:
        raise MapError(refusal(name, found.errors))
    return found


def refusal(name: str, errors: Sequence[MapFault]) -> str:
    """Return one sentence about the errors of a map."""
    return f'map {name!r} is refused: {_first_few(errors)}'


def warning(name: str, faults: Sequence[MapFault]) -> str:
    """Return one sentence about the faults of a map that is loaded all the same."""
    return f'map {name!r} has faults: {_first_few(faults)}'


def _first_few(faults: Sequence[MapFault]) -> str:
    named = '; '.join(map(str, faults[:NAMED_FAULTS]))
    more = len(faults) - NAMED_FAULTS
    rest = f'; and {more} more, "td3_agent doctor --map FILE" lists all' if more > 0 else ''
    return named + rest


def with_projection(opendrive: str) -> str:
    """Return the text with a projection that ``carla.Map`` reads; others make it warn.

    Nothing here asks for latitude and longitude.
    """
    return GEO_REFERENCE.sub(
        lambda found: (
            found[0]
            if '+lat_0=' in found[1] and '+lon_0=' in found[1]
            else f'<geoReference>{CARLAS_PROJECTION}</geoReference>'
        ),
        opendrive,
    )


def lane_spans(opendrive: str) -> list[LaneSpan]:
    """List the lanes of OpenDRIVE text.

    Raises:
        MapError: not an OpenDRIVE map, or one without anything to drive on.
    """
    spans = [span for road in parsed(opendrive).findall('road') for span in _road_spans(road)]
    if not any(span.kind == DRIVING for span in spans):
        raise MapError('OpenDRIVE map has no driving lane')
    return spans


def _road_spans(road: ET.Element) -> list[LaneSpan]:
    try:
        road_id, length_m = int(road.attrib['id']), float(road.attrib['length'])
        sections = road.findall('lanes/laneSection')
        ends = [*(float(section.attrib['s']) for section in sections), length_m][1:]
        return [
            LaneSpan(
                road_id,
                int(lane.attrib['id']),
                lane.get('type', 'none'),
                float(section.attrib['s']),
                end,
                road.get('junction', NO_JUNCTION) != NO_JUNCTION,
                number,
                road.get('rule') == 'LHT',
            )
            for number, (section, end) in enumerate(zip(sections, ends, strict=True))
            for lane in section.findall('left/lane') + section.findall('right/lane')
            if end > float(section.attrib['s'])
        ]
    except (KeyError, ValueError) as error:
        raise MapError(f'road {road.get("id")}: {error}') from error

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE text, read in any encoding and made fit for ``carla.Map`` before it sees it.

``carla.Map`` is C++ that trusts its input: it accepts an empty road network in silence and may
abort on a damaged one. Files come from anywhere, so what it does not take is cured where the
meaning is plain, and named with its place where it is not.

Document types are refused before anything of them is read, so entities are never expanded.
"""

from __future__ import annotations

import codecs
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import re
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET
from xml.parsers import expat

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

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_FILE_BYTES = 256 * 1024 * 1024
ROOT = 'OpenDRIVE'
DECLARED = re.compile(r'<\?xml[^>]*?encoding\s*=\s*["\']([A-Za-z0-9._:-]+)["\']')
BYTE_ORDER_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, 'utf-32'),
    (codecs.BOM_UTF32_BE, 'utf-32'),
    (codecs.BOM_UTF8, 'utf-8-sig'),
    (codecs.BOM_UTF16_LE, 'utf-16'),
    (codecs.BOM_UTF16_BE, 'utf-16'),
)
UNMARKED = ((b'<\0', 'utf-16-le'), (b'\0<', 'utf-16-be'))
WIDE = ('utf-16', 'utf16', 'utf-32', 'utf32', 'ucs')
LOOKED_AT_BYTES = 1024  # a declaration stands at the very start
MAX_EXTENT_M = 1e5
GEO_REFERENCE = re.compile('<geoReference>(.*?)</geoReference>', re.DOTALL)
NAMED_FAULTS = 3  # in a refusal; the doctor lists all


class MapError(ValueError):
    """A map cannot be used; the text says which and why."""


def read_opendrive(path: str | Path) -> str:
    """Read an ``.xodr`` file, in the encoding that it declares.

    Raises:
        MapError: no such file, not readable as text, empty, or far too large.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise MapError(f'map file {path} has {size} bytes, limit is {MAX_FILE_BYTES}')
        text = decoded(path.read_bytes())
    except (OSError, ValueError, LookupError) as error:
        if isinstance(error, MapError):
            raise
        raise MapError(f'map file {path} cannot be read: {error}') from error
    if not text.strip():
        raise MapError(f'map file {path} is empty')
    return text


def decoded(data: bytes) -> str:
    """Decode by byte order mark, else by the XML declaration, else as UTF-8.

    Raises:
        ValueError: the bytes are no text of that encoding.
        LookupError: the declaration names an encoding that does not exist.
    """
    encoding = _encoding(data)
    is_utf8 = codecs.lookup(encoding).name.startswith('utf-8')
    # A name with a letter of another encoding is no reason to refuse the roads.
    text = data.decode(encoding, errors='replace' if is_utf8 else 'strict')
    if '\0' in text:
        raise ValueError(f'it is no text in {encoding}')
    return text


def _encoding(data: bytes) -> str:
    for mark, encoding in (*BYTE_ORDER_MARKS, *UNMARKED):
        if data.startswith(mark):
            return encoding
    declared = DECLARED.match(data[:LOOKED_AT_BYTES].lstrip().decode('latin-1'))
    wide = declared is not None and declared[1].lower().startswith(WIDE)
    return 'utf-8' if declared is None or wide else declared[1]  # wide bytes would not match


def parsed(text: str) -> ET.Element:
    """Return the root element; namespaces are dropped.

    Raises:
        MapError: not XML, not OpenDRIVE, or with a document type.
    """
    bare = text.lstrip('\ufeff \t\r\n')
    _refuse_document_type(bare, first_line=text[: len(text) - len(bare)].count('\n'))
    text = bare
    try:
        root = ET.fromstring(text)  # noqa: S314  entities are refused above
    except (ET.ParseError, ValueError) as error:
        raise MapError(f'not an OpenDRIVE map, XML does not parse: {error}') from error
    for element in root.iter():
        element.tag = element.tag.rpartition('}')[2]
    if root.tag.lower() != ROOT.lower():
        raise MapError(f'not an OpenDRIVE map, root element is {root.tag!r}')
    root.tag = ROOT
    return root


def _refuse_document_type(text: str, *, first_line: int) -> None:
    """Raise MapError if the text declares a document type; stops at the first element."""
    parser = expat.ParserCreate()
    lines: list[int] = []

    def note_line(*_: object) -> None:
        lines.append(first_line + parser.CurrentLineNumber)

    def stop(*_: object) -> None:
        raise StopIteration

    parser.StartDoctypeDeclHandler = parser.EndDoctypeDeclHandler = note_line
    parser.StartElementHandler = stop
    # What does not parse is told of by the parser that builds the tree.
    with suppress(StopIteration, expat.ExpatError, ValueError):
        parser.Parse(text, True)  # noqa: FBT003  the whole text
    if lines:
        where = f'line {lines[0]}' if lines[0] == lines[-1] else f'lines {lines[0]} to {lines[-1]}'
        raise MapError(
            f'an OpenDRIVE map must not declare a document type (<!DOCTYPE>): delete {where}'
        )


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

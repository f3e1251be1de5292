# SPDX-License-Identifier: Apache-2.0
"""OpenDRIVE files as XML trees: bytes of any encoding in, elements without namespaces out.

Document types are refused before anything of them is read, so entities are never expanded.
"""

from __future__ import annotations

import codecs
from contextlib import suppress
from pathlib import Path
import re
from xml.etree import ElementTree as ET
from xml.parsers import expat

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

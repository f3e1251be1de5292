# SPDX-License-Identifier: Apache-2.0
"""Reads MCAP from front to back: needs no index, so a file whose writer was killed is read too.

Every size is compared with what is left of the file before memory is taken.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
import zlib

from td3_agent.bags.errors import BagError
from td3_agent.bags.raw import MAX_BYTES, RawMessage, RawTopic, decompressed

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

MAGIC = b'\x89MCAP0\r\n'
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 3, 4, 5, 6, 15
PRIVATE = 0x80
MESSAGE_HEAD = struct.Struct('<HIQQ')
CHUNK_HEAD = struct.Struct('<QQQI')


class _Record(NamedTuple):
    """One record: what it is, where it begins in its file or chunk, and what is in it."""

    code: int
    offset: int
    body: memoryview


class _CutOff(Exception):  # noqa: N818  an ending, not an error
    """The file ends in the middle of a record."""


class McapFile:
    """One MCAP file.

    Attributes:
        path: the file.
        torn: after it was read: where it ends before its time, as a sentence; empty if it does
            not.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path`` and look at both of its ends.

        Raises:
            BagError: it is no MCAP file.
            OSError: it cannot be read.
        """
        self.path = path
        self.torn = ''
        with path.open('rb') as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise BagError(f'{path}: not an MCAP file')
            self._size = file.seek(0, 2)
            file.seek(max(self._size - len(MAGIC), 0))
            self._closed = self._size > len(MAGIC) and file.read() == MAGIC
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, RawTopic] = {}

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file.

        Raises:
            BagError: something in it contradicts itself.
        """
        self._schemas, self._channels, self.torn = {}, {}, ''
        with self.path.open('rb') as file:
            file.seek(len(MAGIC))
            for record in self._records(file):
                yield from self._messages_of(record, topics)

    def _records(self, file: BinaryIO) -> Iterator[_Record]:
        """Yield the records up to the end of the data; note where the file is cut off."""
        offset = len(MAGIC)
        while True:
            try:
                record = self._next_record(file, offset)
            except _CutOff:
                self.torn = f'{self.path}: cut off at byte {offset} of {self._size}'
                return
            if record.code == DATA_END:
                return
            yield record
            offset += 9 + len(record.body)

    def _next_record(self, file: BinaryIO, offset: int) -> _Record:
        """Read one record.

        Raises:
            _CutOff: the rest of the file is missing; its writer did not close it.
            BagError: it was closed, and yet this cannot be a record.
        """
        head = file.read(9)
        code, size = (head[0], int.from_bytes(head[1:], 'little')) if len(head) == 9 else (0, 0)
        wrong = code == 0 or DATA_END < code < PRIVATE or offset + 9 + size > self._size
        if wrong and not self._closed:
            raise _CutOff
        if wrong:
            raise BagError(f'{self.path}: no valid record at byte {offset} (type {code})')
        if size > MAX_BYTES:
            raise BagError(
                f'{self.path}: record at byte {offset} must hold at most {MAX_BYTES} bytes, '
                f'says {size}'
            )
        return _Record(code, offset, memoryview(file.read(size)))

    def _messages_of(
        self, record: _Record, topics: Collection[str] | None
    ) -> Iterator[RawMessage]:
        """Yield what is in a record of the file."""
        if record.code == CHUNK:
            content = self._chunk(record)
            for inner in self._inner_records(content, record.offset):
                message = self._take(inner, topics)
                if message is not None:
                    yield message
            return
        message = self._take(record, topics)
        if message is not None:
            yield message

    def _chunk(self, record: _Record) -> memoryview:
        """Return the records of a chunk, decompressed and checked."""
        where = f'{self.path}: chunk at byte {record.offset}'
        fields = _Fields(record.body, where)
        _, _, size, crc = fields.unpack(CHUNK_HEAD)
        form = fields.text()
        content = decompressed(fields.take(fields.integer(8)), form, size, where)
        if crc and zlib.crc32(content) != crc:
            raise BagError(f'{where}: its checksum does not match: the file was damaged')
        return memoryview(content)

    def _inner_records(self, content: memoryview, chunk: int) -> Iterator[_Record]:
        """Yield the records of a chunk."""
        offset = 0
        while offset < len(content):
            end = offset + 9 + int.from_bytes(content[offset + 1 : offset + 9], 'little')
            if offset + 9 > len(content) or end > len(content):
                raise BagError(f'{self.path}: chunk at byte {chunk}: a record goes beyond its end')
            yield _Record(content[offset], chunk, content[offset + 9 : end])
            offset = end

    def _take(self, record: _Record, topics: Collection[str] | None) -> RawMessage | None:
        """Learn from a record; return its message, if it is one that is wanted."""
        if record.code == MESSAGE:
            return self._message(record, topics)
        if record.code not in {SCHEMA, CHANNEL}:
            return None
        fields = _Fields(record.body, f'{self.path}: record at byte {record.offset}')
        if record.code == SCHEMA:
            number = fields.integer(2)
            self._schemas[number] = fields.text()
        else:
            self._add_channel(fields)
        return None

    def _add_channel(self, fields: _Fields) -> None:
        """Learn of a topic."""
        number, schema = fields.integer(2), fields.integer(2)
        topic, encoding = fields.text(), fields.text()
        if encoding != 'cdr':
            raise fields.error(f'messages of {topic[:80]!r} must be cdr, got {encoding[:20]!r}')
        about = _Fields(fields.take(fields.integer(4)), fields.where)
        pairs = {}
        while about.left:
            key = about.text()
            pairs[key] = about.text()
        qos = pairs.get('offered_qos_profiles', '')
        self._channels[number] = RawTopic(topic, self._schemas.get(schema, ''), qos)

    def _message(self, record: _Record, topics: Collection[str] | None) -> RawMessage | None:
        """Return a message, unless its topic is not wanted; there are many of them."""
        if len(record.body) < MESSAGE_HEAD.size:
            raise BagError(f'{self.path}: message at byte {record.offset} is too short')
        channel, _, received_ns, _ = MESSAGE_HEAD.unpack_from(record.body)
        topic = self._channels.get(channel)
        if topic is None:
            raise BagError(
                f'{self.path}: message at byte {record.offset} of channel {channel}, '
                'which was not introduced'
            )
        if topics is not None and topic.name not in topics:
            return None
        return RawMessage(topic, received_ns, record.body[MESSAGE_HEAD.size :])


class _Fields:
    """Reads the fields of one record, one after the other, within its bounds."""

    def __init__(self, body: memoryview, where: str) -> None:
        self._body = body
        self._at = 0
        self.where = where

    @property
    def left(self) -> int:
        """Bytes that were not read yet."""
        return len(self._body) - self._at

    def error(self, text: str) -> BagError:
        """Return an error that says where it is."""
        return BagError(f'{self.where}: {text}')

    def take(self, size: int) -> memoryview:
        """Return the next ``size`` bytes."""
        if size > self.left:
            raise self.error(f'must hold {size} more bytes, holds {self.left}')
        taken = self._body[self._at : self._at + size]
        self._at += size
        return taken

    def integer(self, size: int) -> int:
        """Return an unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), 'little')

    def unpack(self, form: struct.Struct) -> tuple[int, ...]:
        """Return several numbers."""
        return form.unpack(self.take(form.size))

    def text(self) -> str:
        """Return a string."""
        try:
            return str(self.take(self.integer(4)), 'utf-8')
        except UnicodeDecodeError as error:
            raise self.error('text must be UTF-8') from error

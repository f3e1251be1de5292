# SPDX-License-Identifier: Apache-2.0
"""Reads MCAP from front to back: needs no index, so a file whose writer was killed is read too.

Every size is compared with what is left of the file before memory is taken. Reading ends where
the file is damaged; the zeros that a power cut leaves at the end of a file are no part of it.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
import zlib

from td3_agent.bags.errors import BagError, DamageError
from td3_agent.bags.raw import (
    MAX_BYTES,
    RawMessage,
    RawTopic,
    decompressed,
    decompressed_part,
    not_a,
    size_without_zeros,
)

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from pathlib import Path

MAGIC = b'\x89MCAP0\r\n'
HEAD_BYTES = 64
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 3, 4, 5, 6, 15
PRIVATE = 0x80
MESSAGE_HEAD = struct.Struct('<HIQQ')
CHUNK_HEAD = struct.Struct('<QQQI')


class _Record(NamedTuple):
    """One record: what it is, where it begins in its file or chunk, and what is in it.

    ``whole`` is False for the last chunk of a file that is cut off within it.
    """

    code: int
    offset: int
    body: memoryview
    whole: bool = True


class McapFile:
    """One MCAP file.

    Attributes:
        path: the file.
        torn: after it was read: where it is cut off or damaged, as a sentence; empty if it is
            neither.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; the file is read by :meth:`messages`."""
        self.path = path
        self.torn = ''
        self._size = self._data_size = 0
        self._checked = False  # whether the record read last was compared with its checksum
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, RawTopic] = {}

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file.

        Ends at the first damage, which :attr:`torn` names.

        Raises:
            BagError: it holds something else than messages of ROS 2.
            OSError: it cannot be read.
        """
        self._schemas, self._channels, self.torn = {}, {}, ''
        with self.path.open('rb') as file:
            try:
                yield from self._undamaged(file, topics)
            except DamageError as error:
                self.torn = str(error)

    def _undamaged(self, file: BinaryIO, topics: Collection[str] | None) -> Iterator[RawMessage]:
        """Yield the messages before the first damage.

        What is overwritten begins in the middle of something, and messages alone have no
        checksum: the last one before the damage is left out, unless its chunk was checked.

        Raises:
            DamageError: where it begins.
        """
        held: list[RawMessage] = []
        for record in self._records(file):
            for message in self._messages_of(record, topics):
                yield from held
                held = [message]
            if self._checked:
                yield from held
                held = []
        yield from held

    def _records(self, file: BinaryIO) -> Iterator[_Record]:
        """Yield the records up to the end of the data; note where the file is cut off.

        Raises:
            DamageError: there is something else than a record.
        """
        head = file.read(HEAD_BYTES)
        if not head.startswith(MAGIC):
            raise DamageError(f'{self.path}: {not_a("an MCAP", head)}')
        self._size = file.seek(0, 2)
        self._data_size = size_without_zeros(file)
        file.seek(max(self._data_size - len(MAGIC), 0))
        closed = file.read(len(MAGIC)) == MAGIC
        offset = file.seek(len(MAGIC))
        while True:
            record = self._next_record(file, offset, closed=closed)
            if record.code == DATA_END:
                return
            if record.whole or record.code == CHUNK:
                yield record
            if not record.whole:
                zeros = ', zeros follow' if self._data_size < self._size else ''
                end = f'byte {self._data_size}, in the record at byte {offset}{zeros}'
                self.torn = f'{self.path}: cut off at {end}'
                return
            offset += 9 + len(record.body)

    def _next_record(self, file: BinaryIO, offset: int, *, closed: bool) -> _Record:
        """Read one record, which is not whole where its writer did not close the file.

        Raises:
            DamageError: this cannot be a record.
        """
        left = self._data_size - offset - 9
        head = file.read(9) if left >= 0 else b''
        code, size = (head[0], int.from_bytes(head[1:], 'little')) if head else (0, 0)
        known = 0 < code <= DATA_END or code >= PRIVATE
        if (head and not known) or (closed and size > left):
            raise DamageError(f'{self.path}: no valid record at byte {offset} (type {code})')
        if size > MAX_BYTES:
            raise DamageError(
                f'{self.path}: record at byte {offset} must hold at most {MAX_BYTES} bytes, '
                f'says {size}'
            )
        whole = left >= 0 and size <= left
        return _Record(code, offset, memoryview(file.read(max(min(size, left), 0))), whole)

    def _messages_of(
        self, record: _Record, topics: Collection[str] | None
    ) -> Iterator[RawMessage]:
        """Yield what is in a record of the file."""
        records: Iterable[_Record] = (record,)
        self._checked = False
        if record.code == CHUNK:
            content = self._chunk(record)
            records = self._inner_records(content, record)
        for inner in records:
            message = self._take(inner, topics)
            if message is not None:
                yield message

    def _chunk(self, record: _Record) -> memoryview:
        """Return the records of a chunk, decompressed and checked.

        Raises:
            DamageError: it cannot be decompressed, or its checksum does not match.
        """
        where = f'{self.path}: chunk at byte {record.offset}'
        fields = _Fields(record.body, where)
        if not record.whole and fields.left < CHUNK_HEAD.size + 4 + 4 + 8:
            return memoryview(b'')
        _, _, size, crc = fields.unpack(CHUNK_HEAD)
        form = fields.text()
        stored = fields.integer(8)
        if not record.whole:
            return memoryview(decompressed_part(fields.take(fields.left), form, where))
        try:
            content = decompressed(fields.take(stored), form, size, where)
        except BagError as error:
            raise DamageError(str(error)) from error
        if crc and zlib.crc32(content) != crc:
            raise DamageError(f'{where}: its checksum does not match')
        self._checked = bool(crc or form)
        return memoryview(content)

    def _inner_records(self, content: memoryview, chunk: _Record) -> Iterator[_Record]:
        """Yield the records of a chunk; of one that is cut off, the whole ones.

        Raises:
            DamageError: there is something else than a record.
        """
        offset = 0
        while offset < len(content):
            where = f'{self.path}: chunk at byte {chunk.offset}'
            end = offset + 9 + int.from_bytes(content[offset + 1 : offset + 9], 'little')
            beyond = offset + 9 > len(content) or end > len(content)
            if content[offset] == 0:
                raise DamageError(f'{where}: no valid record at byte {offset} of it (type 0)')
            if beyond and not chunk.whole:
                return
            if beyond:
                raise DamageError(f'{where}: a record goes beyond its end')
            yield _Record(content[offset], chunk.offset, content[offset + 9 : end])
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
            text = f'messages of {topic[:80]!r} must be cdr, got {encoding[:20]!r}'
            raise BagError(f'{fields.where}: {text}')
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
            raise DamageError(f'{self.path}: message at byte {record.offset} is too short')
        channel, _, received_ns, _ = MESSAGE_HEAD.unpack_from(record.body)
        topic = self._channels.get(channel)
        if topic is None:
            raise DamageError(
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

    def error(self, text: str) -> DamageError:
        """Return an error that says where it is."""
        return DamageError(f'{self.where}: {text}')

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

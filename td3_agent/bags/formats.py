# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the two file formats of rosbag2, MCAP and SQLite3, whatever state a file is in.

Bags are not trusted, and their writers may be killed: every size is compared with a limit before
memory is allocated, and no index is needed. Reading ends at the first damage and names it.
``rosbags`` and ``mcap`` read only intact files.
"""

from __future__ import annotations

from array import array
from contextlib import closing
import io
import sqlite3
import struct
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from urllib.parse import quote
import zlib

import numpy as np

from td3_agent.bags.storage import (
    BLOCK_BYTES,
    MAX_BYTES,
    BagError,
    DamageError,
    RawMessage,
    RawTopic,
    Storage,
    decompressed,
)
from td3_agent.files import IS_LFS, LFS_HEAD

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

HEAD_BYTES = 100

MCAP_MAGIC = b'\x89MCAP0\r\n'
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END = 3, 4, 5, 6, 15
PRIVATE = 0x80
RECORD_HEAD = struct.Struct('<BQ')  # type, length
MESSAGE_HEAD = struct.Struct('<HIQQ')  # channel, number, times of log and of publication
CHUNK_HEAD = struct.Struct('<QQQII')  # two times, size, checksum, length of the compression's name

SQLITE_MAGIC = b'SQLite format 3\x00'
TOPICS = "SELECT id, name, type, serialization_format, '' FROM topics"
TOPICS_WITH_QOS = 'SELECT id, name, type, serialization_format, offered_qos_profiles FROM topics'
KEYS = 'SELECT rowid, timestamp, topic_id FROM messages NOT INDEXED ORDER BY rowid'
# The size is looked up before the content is read.
ROW = (
    'SELECT topic_id, timestamp, length(data), CASE WHEN length(data) <= ? THEN data END '
    'FROM messages WHERE rowid = ?'
)
# What SQLite raises on damaged bytes.
SQLITE_ERRORS = (sqlite3.Error, OverflowError, UnicodeDecodeError, DamageError)


def not_a(kind: str, head: bytes) -> str:
    """Return the error for a file with another magic number."""
    return IS_LFS if head.startswith(LFS_HEAD) else f'not {kind} file'


class _Record(NamedTuple):
    """One record of MCAP: type, offset in its file, content."""

    code: int
    offset: int
    body: memoryview
    whole: bool = True  # False for the last chunk of a file that is cut off within it


class McapFile(Storage):
    """One MCAP file, without the zeros that a power cut leaves at its end."""

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        self.torn = ''
        self._schemas: dict[int, str] = {}
        self._channels: dict[int, RawTopic] = {}
        with self.path.open('rb') as file:
            try:
                yield from self._undamaged(file, topics)
            except DamageError as error:
                self.torn = str(error)

    def _undamaged(self, file: BinaryIO, topics: Collection[str] | None) -> Iterator[RawMessage]:
        held: list[RawMessage] = []
        for record in self._records(file):
            records, is_checked = self._opened(record)
            for message in filter(None, (self._message(one, topics) for one in records)):
                yield from held
                held = [message]
            if is_checked:
                yield from held
                held = []
        yield from held

    def _records(self, file: BinaryIO) -> Iterator[_Record]:
        """Yield the records up to the end of the data; note where the file is cut off.

        Raises:
            DamageError: a record is invalid.
        """
        head = file.read(HEAD_BYTES)
        if not head.startswith(MCAP_MAGIC):
            raise DamageError(f'{self.path}: {not_a("an MCAP", head)}')
        size, end = file.seek(0, io.SEEK_END), _size_without_zeros(file)
        file.seek(max(end - len(MCAP_MAGIC), 0))
        closed = file.read(len(MCAP_MAGIC)) == MCAP_MAGIC
        offset = file.seek(len(MCAP_MAGIC))
        while True:
            left = end - offset - RECORD_HEAD.size
            code, length = RECORD_HEAD.unpack(file.read(RECORD_HEAD.size)) if left >= 0 else (0, 0)
            known = 0 < code <= DATA_END or code >= PRIVATE or left < 0
            if not known or (closed and length > left):
                raise DamageError(f'{self.path}: no valid record at byte {offset} (type {code})')
            if length > MAX_BYTES:
                where = f'{self.path}: record at byte {offset}'
                raise DamageError(f'{where} must hold at most {MAX_BYTES} bytes, says {length}')
            whole = length <= left
            body = memoryview(file.read(max(min(length, left), 0)))
            if code == DATA_END:
                return
            if whole or code == CHUNK:
                yield _Record(code, offset, body, whole)
            if not whole:
                zeros = ', zeros follow' if end < size else ''
                where = f'byte {end}, in the record at byte {offset}{zeros}'
                self.torn = f'{self.path}: cut off at {where}'
                return
            offset += RECORD_HEAD.size + length

    def _opened(self, record: _Record) -> tuple[Iterable[_Record], bool]:
        """Return the records of a chunk, or the record itself; and whether a checksum matched.

        Raises:
            DamageError: a chunk cannot be decompressed, or its checksum does not match.
        """
        if record.code != CHUNK:
            return (record,), False
        where = f'{self.path}: chunk at byte {record.offset}'
        body = record.body
        try:
            _, _, size, crc, length = CHUNK_HEAD.unpack_from(body)
            form = str(body[CHUNK_HEAD.size : CHUNK_HEAD.size + length], 'utf-8')
            (stored,) = struct.unpack_from('<Q', body, CHUNK_HEAD.size + length)
        except (struct.error, UnicodeDecodeError) as error:
            if not record.whole:
                return (), False
            raise DamageError(f'{where}: {error}') from error
        packed = body[CHUNK_HEAD.size + length + 8 :]
        if stored > len(packed) and record.whole:
            text = f'must hold {stored} more bytes, holds {len(packed)}'
            raise DamageError(f'{where}: {text}')
        try:
            if not record.whole:
                content = decompressed(packed, form, where, whole=False)
                return self._inner_records(content, record), False
            content = decompressed(packed[:stored], form, where, size)
        except BagError as error:
            raise DamageError(str(error)) from error
        if crc and zlib.crc32(content) != crc:
            raise DamageError(f'{where}: its checksum does not match')
        return self._inner_records(content, record), bool(crc or form)

    def _inner_records(self, content: bytes, chunk: _Record) -> Iterator[_Record]:
        """Yield the complete records of a chunk.

        Raises:
            DamageError: a record is invalid.
        """
        view, offset = memoryview(content), 0
        where = f'{self.path}: chunk at byte {chunk.offset}'
        while offset < len(content):
            begin = offset + RECORD_HEAD.size
            end = begin + int.from_bytes(view[offset + 1 : begin], 'little')
            if content[offset] == 0:
                raise DamageError(f'{where}: no valid record at byte {offset} of it (type 0)')
            if max(begin, end) > len(content):
                if chunk.whole:
                    raise DamageError(f'{where}: a record goes beyond its end')
                return
            yield _Record(content[offset], chunk.offset, view[begin:end])
            offset = end

    def _message(self, record: _Record, topics: Collection[str] | None) -> RawMessage | None:
        """Return the message of a record, if it has a wanted one; keep schemas and channels.

        Raises:
            DamageError: the record's content is invalid.
        """
        try:
            if record.code == MESSAGE:
                channel, _, received_ns, _ = MESSAGE_HEAD.unpack_from(record.body)
                topic = self._channels[channel]
                if topics is None or topic.name in topics:
                    return RawMessage(topic, received_ns, record.body[MESSAGE_HEAD.size :])
            elif record.code in {SCHEMA, CHANNEL}:
                self._learn(record)
        except KeyError as error:
            text = f'of channel {error}, which has no record'
            raise DamageError(f'{self.path}: message at byte {record.offset} {text}') from error
        except (struct.error, EOFError, UnicodeDecodeError) as error:
            what = f'record of type {record.code} at byte {record.offset} is too short, or no text'
            raise DamageError(f'{self.path}: {what}') from error
        return None

    def _learn(self, record: _Record) -> None:
        fields = io.BytesIO(record.body)
        number = int.from_bytes(_taken(fields, 2), 'little')
        if record.code == SCHEMA:
            self._schemas[number] = _text(fields)
            return
        schema = int.from_bytes(_taken(fields, 2), 'little')
        topic, encoding = _text(fields), _text(fields)
        if encoding != 'cdr':
            what = f'messages of {topic[:80]!r} must be cdr, got {encoding[:20]!r}'
            raise BagError(f'{self.path}: record at byte {record.offset}: {what}')
        end = int.from_bytes(_taken(fields, 4), 'little') + fields.tell()
        about = {}
        while fields.tell() < end:
            key = _text(fields)
            about[key] = _text(fields)
        qos = about.get('offered_qos_profiles', '')
        self._channels[number] = RawTopic(topic, self._schemas.get(schema, ''), qos)


def _taken(fields: io.BytesIO, size: int) -> bytes:
    """Return the next bytes; EOFError if there are fewer."""
    found = fields.read(size)
    if len(found) < size:
        raise EOFError
    return found


def _text(fields: io.BytesIO) -> str:
    return str(_taken(fields, int.from_bytes(_taken(fields, 4), 'little')), 'utf-8')


def _size_without_zeros(file: BinaryIO) -> int:
    """Return the size of a file without the zeros at its end [bytes]."""
    end = file.seek(0, io.SEEK_END)
    while end > 0:
        begin = max(end - BLOCK_BYTES, 0)
        file.seek(begin)
        if kept := file.read(end - begin).rstrip(b'\0'):
            return begin + len(kept)
        end = begin
    return 0


class SqliteFile(Storage):
    """One SQLite3 file with tables ``topics`` and ``messages``, read by the time of arrival.

    Rows are read one by one, without an index, so a damaged index loses nothing. SQLite rolls back
    uncommitted rows, which is no damage.
    """

    # Time and row of the first damaged message, and the error: every reading ends there.
    _damage: tuple[tuple[int, int], Exception] | None = None

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of arrival."""
        self.torn = ''
        try:
            with closing(self._connect()) as connection:
                yield from self._rows(connection, topics)
        except SQLITE_ERRORS as error:
            self._tear('', error)

    def _tear(self, where: str, error: Exception) -> None:
        """Note the damage, with the first line of the library's text."""
        self.torn = f'{self.torn or self.path}: {where}{"".join(str(error).splitlines()[:1])}'

    def _connect(self) -> sqlite3.Connection:
        """Open the file, read-only unless a killed writer has left a journal.

        Raises:
            DamageError: it is no SQLite3 file.
            sqlite3.Error: it cannot be opened.
        """
        with self.path.open('rb') as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, io.SEEK_END)
        if not head.startswith(SQLITE_MAGIC):
            raise DamageError(not_a('an SQLite3', head))
        journal, wal = (self.path.with_name(self.path.name + end) for end in ('-journal', '-wal'))
        whole = 0 if journal.exists() or wal.exists() else _size_in_header(head)
        if size < whole:
            self.torn = f'{self.path}: cut off at byte {size} of {whole}'
        mode = 'rw' if journal.exists() else 'ro'
        connection = sqlite3.connect(f'file:{quote(str(self.path))}?mode={mode}', uri=True)
        connection.execute('PRAGMA trusted_schema = OFF')
        try:
            connection.execute('SELECT count(*) FROM sqlite_master').fetchone()  # rolls back
        except sqlite3.DatabaseError:
            # Opens a file that is shorter than its first page says.
            connection.execute('PRAGMA writable_schema = ON')
        connection.execute('PRAGMA query_only = ON')
        return connection

    def _rows(
        self, connection: sqlite3.Connection, topics: Collection[str] | None
    ) -> Iterator[RawMessage]:
        """Yield the rows of ``messages`` before the first damage, by their times.

        The last message before the damage may be damaged too, and is left out.
        """
        known = self._topics(connection)
        wanted = {n for n, topic in known.items() if topics is None or topic.name in topics}
        held: list[RawMessage] = []
        for key in self._keys(connection, known, wanted):
            try:
                if self._damage is not None and key >= self._damage[0]:
                    raise self._damage[1]
                message = self._message(connection, key[1], known)
            except SQLITE_ERRORS as error:
                self._damage = self._damage or (key, error)
                self._tear(f'message {self._damage[0][1]} is damaged: ', error)
                break
            yield from held
            held = [message]
        if not self.torn:
            yield from held

    def _keys(
        self, connection: sqlite3.Connection, known: Collection[int], wanted: Collection[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield times and rows of the wanted messages, sorted, up to the first damage."""
        rows, times_ns = array('q'), array('q')
        last = 0
        try:
            for row, received_ns, number in connection.execute(KEYS):
                if number not in known or not isinstance(received_ns, int):
                    raise DamageError(f'a message of topic {number!r}, which does not exist')
                if number in wanted:
                    rows.append(row)
                    times_ns.append(received_ns)
                last = row
        except SQLITE_ERRORS as error:
            self._tear(f'damaged after message {last}: ', error)
        for i in np.lexsort((np.array(rows), np.array(times_ns))):
            yield times_ns[i], rows[i]

    def _message(
        self, connection: sqlite3.Connection, row: int, known: dict[int, RawTopic]
    ) -> RawMessage:
        """Return one message.

        Raises:
            DamageError: it is missing, or its data are no BLOB.
            sqlite3.Error: it cannot be read.
        """
        found = connection.execute(ROW, (MAX_BYTES, row)).fetchone()
        if found is None:
            raise DamageError('not found')
        number, received_ns, size, data = found
        topic = known[number]
        if not isinstance(data, bytes):
            raise DamageError(
                f'a message of {topic.name} must be a BLOB of at most {MAX_BYTES} bytes, '
                f'got {size!r}'
            )
        return RawMessage(topic, received_ns, data)

    def _topics(self, connection: sqlite3.Connection) -> dict[int, RawTopic]:
        tables = connection.execute(
            'SELECT name FROM sqlite_master '
            "WHERE type = 'table' AND name IN ('topics', 'messages')"
        ).fetchall()
        if len(tables) != 2:
            raise DamageError('must have tables topics and messages')
        columns = {row[1] for row in connection.execute('PRAGMA table_info(topics)')}
        query = TOPICS_WITH_QOS if 'offered_qos_profiles' in columns else TOPICS
        topics = {}
        for number, name, msgtype, form, qos in connection.execute(query):
            if not all(isinstance(text, str) for text in (name, msgtype, form, qos)):
                raise DamageError(f'topic {number!r} must be described by text')
            if form != 'cdr':
                raise BagError(f'{self.path}: messages of {name} must be cdr, got {form[:20]!r}')
            topics[number] = RawTopic(name, msgtype, qos)
        return topics


def _size_in_header(head: bytes) -> int:
    """Return the file size in the header [bytes]; 0 if that is invalid."""
    if len(head) < HEAD_BYTES or head[24:28] != head[92:96]:
        return 0
    page_size = int.from_bytes(head[16:18], 'big')
    return (65536 if page_size == 1 else page_size) * int.from_bytes(head[28:32], 'big')

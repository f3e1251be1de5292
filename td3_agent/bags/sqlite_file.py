# SPDX-License-Identifier: Apache-2.0
"""Reads the SQLite3 files of rosbag2, also of a writer that was killed, or damaged ones.

The rows of the table are read one by one, never through its index: where the index is damaged
nothing is missing, and where the table is, what comes before is read.
"""

from __future__ import annotations

from array import array
from contextlib import closing
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np

from td3_agent.bags.errors import BagError, DamageError
from td3_agent.bags.raw import MAX_BYTES, RawMessage, RawTopic, not_a

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

HEADER = b'SQLite format 3\x00'
HEAD_BYTES = 100
TOPICS = "SELECT id, name, type, serialization_format, '' FROM topics"
TOPICS_WITH_QOS = 'SELECT id, name, type, serialization_format, offered_qos_profiles FROM topics'
KEYS = 'SELECT rowid, timestamp, topic_id FROM messages NOT INDEXED ORDER BY rowid'
# The size is looked up before the content is read.
MESSAGE = (
    'SELECT topic_id, timestamp, length(data), CASE WHEN length(data) <= ? THEN data END '
    'FROM messages WHERE rowid = ?'
)
# What the library raises on damaged bytes.
ERRORS = (sqlite3.Error, OverflowError, UnicodeDecodeError, DamageError)


class SqliteFile:
    """One file with tables ``topics`` and ``messages``.

    Attributes:
        path: the file.
        torn: after it was read: where it is damaged, as a sentence; empty if it is not. What was
            not committed is taken back by SQLite, and is no damage.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; the file is read by :meth:`messages`."""
        self.path = path
        self.torn = ''
        self._end: tuple[int, int] | None = None  # time and row of the first that is damaged

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of arrival.

        Ends at the first damage, which :attr:`torn` names.

        Raises:
            BagError: it holds something else than messages of ROS 2.
            OSError: it cannot be read.
        """
        try:
            with closing(self._connect()) as connection:
                yield from self._rows(connection, topics)
        except ERRORS as error:
            self._tear('', error)

    def _tear(self, where: str, error: Exception) -> None:
        """Note the damage; the library's text may hold what it could not read."""
        what = str(error) if isinstance(error, DamageError) else _first_line(error)
        self.torn = f'{self.torn or self.path}: {where}{what}'

    def _connect(self) -> sqlite3.Connection:
        """Open the file; only a journal that a killed writer has left makes it be written.

        Raises:
            DamageError: it is no such file.
            sqlite3.Error: it cannot be opened.
        """
        with self.path.open('rb') as file:
            head = file.read(HEAD_BYTES)
            size = file.seek(0, 2)
        if not head.startswith(HEADER):
            raise DamageError(not_a('an SQLite3', head))
        journal, wal = (self.path.with_name(self.path.name + end) for end in ('-journal', '-wal'))
        whole = 0 if journal.exists() or wal.exists() else _size_said(head)
        if size < whole:
            self.torn = f'{self.path}: cut off at byte {size} of {whole}'
        mode = 'rw' if journal.exists() else 'ro'
        connection = sqlite3.connect(f'file:{quote(str(self.path))}?mode={mode}', uri=True)
        connection.execute('PRAGMA trusted_schema = OFF')
        try:
            connection.execute('SELECT count(*) FROM sqlite_master').fetchone()  # takes back
        except sqlite3.DatabaseError:
            # Lets a file be opened that is shorter than its first page says.
            connection.execute('PRAGMA writable_schema = ON')
        connection.execute('PRAGMA query_only = ON')
        return connection

    def _rows(
        self, connection: sqlite3.Connection, topics: Collection[str] | None
    ) -> Iterator[RawMessage]:
        """Yield the rows of ``messages`` before the first damage, by their times.

        What is overwritten begins in the middle of something: the last message before the
        damage is left out.
        """
        known = self._topics(connection)
        wanted = {n for n, topic in known.items() if topics is None or topic.name in topics}
        held: list[RawMessage] = []
        for key in self._keys(connection, known, wanted):
            if self._end is not None and key >= self._end:
                break
            try:
                message = self._message(connection, key[1], known)
            except ERRORS as error:
                self._end = key
                self._tear(f'message {key[1]} is damaged: ', error)
                break
            yield from held
            held = [message]
        if not self.torn:
            yield from held

    def _keys(
        self, connection: sqlite3.Connection, known: Collection[int], wanted: Collection[int]
    ) -> Iterator[tuple[int, int]]:
        """Yield times and rows of the messages that are wanted, sorted, up to the first damage."""
        rows, times_ns = array('q'), array('q')
        last = 0
        try:
            for row, received_ns, number in connection.execute(KEYS):
                if number not in known or not isinstance(received_ns, int):
                    raise DamageError(f'a message of topic {number!r}, which is not there')
                if number in wanted:
                    rows.append(row)
                    times_ns.append(received_ns)
                last = row
        except ERRORS as error:
            self._tear(f'damaged after message {last}: ', error)
        for i in np.lexsort((np.array(rows), np.array(times_ns))):
            yield times_ns[i], rows[i]

    def _message(
        self, connection: sqlite3.Connection, row: int, known: dict[int, RawTopic]
    ) -> RawMessage:
        """Return one message.

        Raises:
            DamageError: it is gone, or its data are no BLOB.
            sqlite3.Error: it cannot be read.
        """
        found = connection.execute(MESSAGE, (MAX_BYTES, row)).fetchone()
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
        """Return the topics by number."""
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


def _size_said(head: bytes) -> int:
    """Return the size of the file that its head names [bytes]; 0 if the head does not hold."""
    if len(head) < HEAD_BYTES or head[24:28] != head[92:96]:
        return 0
    page_size = int.from_bytes(head[16:18], 'big')
    return (65536 if page_size == 1 else page_size) * int.from_bytes(head[28:32], 'big')


def _first_line(error: Exception) -> str:
    return ''.join(str(error).splitlines()[:1])

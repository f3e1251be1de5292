# SPDX-License-Identifier: Apache-2.0
"""Reads the SQLite3 files of rosbag2, also of a writer that was killed."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from td3_agent.bags.errors import BagError
from td3_agent.bags.raw import MAX_BYTES, RawMessage, RawTopic

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

HEADER = b'SQLite format 3\x00'
TOPICS = "SELECT id, name, type, serialization_format, '' FROM topics"
TOPICS_WITH_QOS = 'SELECT id, name, type, serialization_format, offered_qos_profiles FROM topics'
# The size is looked up before the content is read.
MESSAGES = (
    'SELECT topic_id, timestamp, length(data), CASE WHEN length(data) <= ? THEN data END '
    'FROM messages ORDER BY timestamp, id'
)


class SqliteFile:
    """One file with tables ``topics`` and ``messages``.

    Attributes:
        path: the file.
        torn: always empty: SQLite takes back what was not committed.
    """

    def __init__(self, path: Path) -> None:
        """Look whether ``path`` can be such a file.

        Raises:
            BagError: it cannot.
            OSError: it cannot be read.
        """
        self.path = path
        self.torn = ''
        with path.open('rb') as file:
            if file.read(len(HEADER)) != HEADER:
                raise BagError(f'{path}: not an SQLite3 file')

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of arrival.

        Raises:
            BagError: it is damaged, or holds something else than messages.
        """
        try:
            connection = self._connect()
            try:
                yield from self._rows(connection, topics)
            finally:
                connection.close()
        except (sqlite3.Error, OverflowError, UnicodeDecodeError) as error:
            # The library's text may hold what it could not read.
            what = ''.join(str(error).splitlines()[:1])
            raise BagError(f'{self.path}: cannot be read: {what}') from error

    def _connect(self) -> sqlite3.Connection:
        """Open the file; only a journal that a killed writer has left makes it be written."""
        journal = self.path.with_name(self.path.name + '-journal')
        mode = 'rw' if journal.exists() else 'ro'
        connection = sqlite3.connect(f'file:{quote(str(self.path))}?mode={mode}', uri=True)
        connection.execute('PRAGMA trusted_schema = OFF')
        connection.execute('SELECT count(*) FROM sqlite_master').fetchone()  # takes back
        connection.execute('PRAGMA query_only = ON')
        return connection

    def _rows(
        self, connection: sqlite3.Connection, topics: Collection[str] | None
    ) -> Iterator[RawMessage]:
        """Yield the rows of ``messages``."""
        known = self._topics(connection)
        for number, received_ns, size, data in connection.execute(MESSAGES, (MAX_BYTES,)):
            topic = known.get(number)
            if topic is None or not isinstance(received_ns, int):
                raise BagError(f'{self.path}: a message of topic {number!r}, which is not there')
            if topics is not None and topic.name not in topics:
                continue
            if not isinstance(data, bytes):
                raise BagError(
                    f'{self.path}: a message of {topic.name} must be a BLOB of at most '
                    f'{MAX_BYTES} bytes, got {size!r}'
                )
            yield RawMessage(topic, received_ns, data)

    def _topics(self, connection: sqlite3.Connection) -> dict[int, RawTopic]:
        """Return the topics by number."""
        tables = connection.execute(
            'SELECT name FROM sqlite_master '
            "WHERE type = 'table' AND name IN ('topics', 'messages')"
        ).fetchall()
        if len(tables) != 2:
            raise BagError(f'{self.path}: must have tables topics and messages')
        columns = {row[1] for row in connection.execute('PRAGMA table_info(topics)')}
        query = TOPICS_WITH_QOS if 'offered_qos_profiles' in columns else TOPICS
        topics = {}
        for number, name, msgtype, form, qos in connection.execute(query):
            if not all(isinstance(text, str) for text in (name, msgtype, form, qos)):
                raise BagError(f'{self.path}: topic {number!r} must be described by text')
            if form != 'cdr':
                raise BagError(f'{self.path}: messages of {name} must be cdr, got {form[:20]!r}')
            topics[number] = RawTopic(name, msgtype, qos)
        return topics

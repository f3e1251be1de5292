# SPDX-License-Identifier: Apache-2.0
"""Reads what ``ros2 bag record --compression-mode`` has compressed: a whole file, or each message.

A whole file is decompressed into a temporary one for each reading, and removed after it.
"""

from __future__ import annotations

from pathlib import Path
import shutil
import tempfile
from typing import TYPE_CHECKING

from td3_agent.bags.errors import BagError
from td3_agent.bags.raw import decompressed, zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    from td3_agent.bags.raw import RawMessage, Storage

SUFFIXES = ('.zstd', '.zst')
BLOCK_BYTES = 1024 * 1024
# Recordings become 1.5 to 20 times smaller; a decompression bomb thousands of times.
MOST_TIMES = 200
ALWAYS_BYTES = 256 * 1024 * 1024
MIN_FREE_BYTES = 256 * 1024 * 1024


class CompressedFile:
    """One file, compressed with zstd.

    Attributes:
        path: the file.
        torn: after it was read: where it is cut off or damaged, as a sentence; empty if it is
            neither.
    """

    def __init__(self, path: Path, open_plain: Callable[[Path], Storage]) -> None:
        """Take the path, and what reads the file when it is decompressed."""
        self.path = path
        self.torn = ''
        self._open_plain = open_plain

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file.

        Raises:
            BagError: it is larger than it may be, or holds something else than messages.
            OSError: it cannot be read, or there is no room for what is in it.
        """
        with tempfile.TemporaryDirectory(prefix='td3_agent_bag_') as folder:
            plain = Path(folder) / self.path.stem
            damage = self._decompress(plain)
            file = self._open_plain(plain)
            try:
                yield from file.messages(topics)
            except BagError as error:
                raise BagError(str(error).replace(str(plain), str(self.path))) from error
        found = file.torn.replace(str(plain), f'{self.path}, decompressed')
        self.torn = '; '.join(text for text in (damage, found) if text)

    def _decompress(self, plain: Path) -> str:
        """Write what is in the file to ``plain``; return where it is damaged.

        Raises:
            BagError: it is larger than it may be, or than there is room for.
        """
        limit = max(self.path.stat().st_size * MOST_TIMES, ALWAYS_BYTES)
        size = 0
        with zstd.open(self.path) as source, plain.open('wb') as target:
            while True:
                try:
                    block = source.read(BLOCK_BYTES)
                except (zstd.ZstdError, EOFError) as error:
                    return f'{self.path}: cannot be decompressed beyond byte {size}: {error}'
                if not block:
                    return ''
                size += len(block)
                if size > limit:
                    raise self._refused(f'must hold at most {limit} bytes, holds more')
                if shutil.disk_usage(plain.parent).free < MIN_FREE_BYTES + len(block):
                    where = f'there is no room in {plain.parent.parent}'
                    raise self._refused(f'{where}: set TMPDIR to another folder')
                target.write(block)

    def _refused(self, reason: str) -> BagError:
        """Return the error, with what can be done beside."""
        return BagError(f'{self.path}: {reason}; or decompress it first: zstd -d {self.path}')


class CompressedMessages:
    """A file whose messages are compressed one by one.

    Attributes:
        torn: after it was read: where it is cut off or damaged, as a sentence; empty if it is
            neither.
    """

    def __init__(self, file: Storage, form: str, path: Path) -> None:
        """Take the file, and how its messages are compressed; the path is for errors."""
        self.torn = ''
        self._file, self._form, self._path = file, form, path

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file."""
        for number, message in enumerate(self._file.messages(topics)):
            where = f'{self._path}: message {number}, of {message.topic.name}'
            try:
                data = decompressed(message.data, self._form, None, where)
            except BagError as error:
                self.torn = str(error)
                return
            yield message._replace(data=data)
        self.torn = self._file.torn

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every file of a bag yields, and what is compressed: a whole file, or each message.

Bags are not trusted: no size is believed before it is compared with a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from lz4 import frame as lz4_frame

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

# The largest image that the agent takes is 8192 x 8192 of four bytes, 268 MB.
MAX_BYTES = 512 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024
# Recordings become 1.5 to 20 times smaller; a decompression bomb thousands of times.
MOST_TIMES = 200
ALWAYS_BYTES = 256 * 1024 * 1024
MIN_FREE_BYTES = 256 * 1024 * 1024


class BagError(ValueError):
    """A bag cannot be read or written; the text names file, place and what was expected."""


class DamageError(BagError):
    """A file of a bag cannot be read from some place on; what comes before it can."""


@dataclass(frozen=True)
class RawTopic:
    """A topic as a file of a bag describes it: its name, and its message type.

    Attributes:
        qos: its publishers' profiles as YAML text; may be empty, or wrong.
    """

    name: str
    msgtype: str
    qos: str = ''


class RawMessage(NamedTuple):
    """A message as it was received: where, when [ns since 1970], and CDR with its header."""

    topic: RawTopic
    received_ns: int
    data: bytes | memoryview


class Storage:
    """One file of a bag.

    Attributes:
        torn: after it was read: where it is cut off or damaged, as a sentence; empty if it is
            neither.
    """

    def __init__(self, path: Path) -> None:
        """Take the path; the file is read by :meth:`messages`."""
        self.path = path
        self.torn = ''

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file.

        Ends at the first damage, which :attr:`torn` names. What is overwritten begins in the
        middle of something: the last message before it is left out, unless a checksum holds.

        Raises:
            BagError: it holds something else than messages of ROS 2.
            OSError: it cannot be read.
        """
        raise NotImplementedError


def decompressed(
    data: bytes | memoryview, form: str, where: str, size: int | None = None, *, whole: bool = True
) -> bytes:
    """Return what was compressed; never more than was announced, or than is allowed.

    Args:
        data: what was compressed.
        form: ``zstd``, ``lz4``, or empty for none.
        where: for the error's text.
        size: announced size [bytes]; None if there is none.
        whole: False where the end of the data is missing.

    Raises:
        BagError: it is too large, not what was announced, or cannot be read.
    """
    limit = MAX_BYTES if size is None else size
    if limit > MAX_BYTES:
        raise BagError(f'{where}: must hold at most {MAX_BYTES} bytes, says {size}')
    if form not in DECOMPRESSORS:
        raise BagError(f'{where}: compression must be zstd or lz4, got {form[:20]!r}')
    try:
        found = DECOMPRESSORS[form](data, limit + 1)
    except (RuntimeError, zstd.ZstdError, EOFError) as error:
        raise BagError(f'{where}: cannot be decompressed ({form}): {error}') from error
    if whole and (len(found) > limit or size not in {None, len(found)}):
        raise BagError(f'{where}: {form or "data"} must hold {limit} bytes, holds another number')
    return found[:limit]


# Each returns at most so many bytes.
DECOMPRESSORS: dict[str, Callable[[bytes | memoryview, int], bytes]] = {
    '': lambda data, _: bytes(data),
    'zstd': lambda data, most: zstd.ZstdDecompressor().decompress(data, most),
    'lz4': lambda data, most: lz4_frame.LZ4FrameDecompressor().decompress(data, most),
}


class CompressedFile(Storage):
    """One file, compressed with zstd; decompressed into a temporary one for each reading."""

    def __init__(self, path: Path, open_plain: Callable[[Path], Storage]) -> None:
        """Take the path, and what reads the file when it is decompressed."""
        super().__init__(path)
        self._open_plain = open_plain

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file.

        Raises:
            BagError: it is larger than it may be, or than there is room for.
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


class CompressedMessages(Storage):
    """A file whose messages are compressed one by one."""

    def __init__(self, file: Storage, form: str, path: Path) -> None:
        """Take the file, and how its messages are compressed; the path is for errors."""
        super().__init__(path)
        self._file, self._form = file, form

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file."""
        for number, message in enumerate(self._file.messages(topics)):
            where = f'{self.path}: message {number}, of {message.topic.name}'
            try:
                data = decompressed(message.data, self._form, where)
            except BagError as error:
                self.torn = str(error)
                return
            yield message._replace(data=data)
        self.torn = self._file.torn

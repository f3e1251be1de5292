# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Base class of the readers, and compression of whole files and of messages.

Bags are not trusted: every size is compared with a limit before it is used.
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
# Recordings compress 1.5 to 20 times, a decompression bomb thousands of times.
MOST_TIMES = 200
ALWAYS_BYTES = 256 * 1024 * 1024
MIN_FREE_BYTES = 256 * 1024 * 1024


class BagError(ValueError):
    """A bag cannot be read or written; the text names file, place and what was expected."""


class DamageError(BagError):
    """A file of a bag is damaged; what comes before the damage can be read."""


@dataclass(frozen=True)
class RawTopic:
    """Name and message type of a topic.

    Attributes:
        qos: its publishers' profiles as YAML text; may be empty or invalid.
    """

    name: str
    msgtype: str
    qos: str = ''


class RawMessage(NamedTuple):
    """A received message: topic, time [ns since 1970], and CDR with its header."""

    topic: RawTopic
    received_ns: int
    data: bytes | memoryview


class Storage:
    """One file of a bag.

    Attributes:
        torn: after reading: where the file is cut off or damaged; empty if it is intact.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.torn = ''

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, in the order of the file.

        Ends at the first damage, which :attr:`torn` names. The last message before it may be
        damaged too, and is left out unless a checksum matches.

        Raises:
            BagError: the file does not hold messages of ROS 2.
            OSError: the file cannot be read.
        """
        raise NotImplementedError


def decompressed(
    data: bytes | memoryview, form: str, where: str, size: int | None = None, *, whole: bool = True
) -> bytes:
    """Decompress data, up to the expected size and the limit.

    Args:
        data: compressed bytes.
        form: ``zstd``, ``lz4``, or empty for none.
        where: begins the error's text.
        size: expected size [bytes], if known.
        whole: False if the end of the data is missing.

    Raises:
        BagError: the data are too large, of another size, or damaged.
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


# The second argument is the maximum size [bytes].
DECOMPRESSORS: dict[str, Callable[[bytes | memoryview, int], bytes]] = {
    '': lambda data, _: bytes(data),
    'zstd': lambda data, most: zstd.ZstdDecompressor().decompress(data, most),
    'lz4': lambda data, most: lz4_frame.LZ4FrameDecompressor().decompress(data, most),
}


class CompressedFile(Storage):
    """A file compressed with zstd; each reading decompresses it into a temporary file."""

    def __init__(self, path: Path, open_plain: Callable[[Path], Storage]) -> None:
        super().__init__(path)
        self._open_plain = open_plain

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
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
        """Decompress the file into ``plain``; return where it is damaged.

        Raises:
            BagError: the result is too large for the limit or the disk.
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
                    raise self._rejected(f'must hold at most {limit} bytes, holds more')
                if shutil.disk_usage(plain.parent).free < MIN_FREE_BYTES + len(block):
                    where = f'there is no room in {plain.parent.parent}'
                    raise self._rejected(f'{where}: set TMPDIR to another folder')
                target.write(block)

    def _rejected(self, reason: str) -> BagError:
        return BagError(f'{self.path}: {reason}; or decompress it first: zstd -d {self.path}')


class CompressedMessages(Storage):
    """A file whose messages are compressed one by one."""

    def __init__(self, file: Storage, form: str, path: Path) -> None:
        super().__init__(path)
        self._file, self._form = file, form

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        for number, message in enumerate(self._file.messages(topics)):
            where = f'{self.path}: message {number}, of {message.topic.name}'
            try:
                data = decompressed(message.data, self._form, where)
            except BagError as error:
                self.torn = str(error)
                return
            yield message._replace(data=data)
        self.torn = self._file.torn

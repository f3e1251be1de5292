# SPDX-License-Identifier: Apache-2.0
"""What every storage of a bag yields, and the limits that it keeps: bags are not trusted."""

from __future__ import annotations

from dataclasses import dataclass
import sys
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from lz4 import frame as lz4_frame

from td3_agent.bags.errors import BagError
from td3_agent.nearby import IS_LFS, LFS_HEAD

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Protocol

    class Storage(Protocol):
        """One file of a bag."""

        torn: str

        def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
            """Yield the messages of these topics, of all if None, in the order of the file."""


# The largest image that the agent takes is 8192 x 8192 of four bytes, 268 MB.
MAX_BYTES = 512 * 1024 * 1024
BLOCK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class RawTopic:
    """A topic as a file of a bag describes it.

    Attributes:
        name: such as ``/clock``.
        msgtype: such as ``rosgraph_msgs/msg/Clock``.
        qos: its publishers' profiles as YAML text; may be empty, or wrong.
    """

    name: str
    msgtype: str
    qos: str = ''


class RawMessage(NamedTuple):
    """A message as it was received.

    Attributes:
        topic: where.
        received_ns: when [ns since 1970].
        data: CDR with its header.
    """

    topic: RawTopic
    received_ns: int
    data: bytes | memoryview


def not_a(kind: str, head: bytes) -> str:
    """Return what is to be said of a file that does not begin as its kind does."""
    return IS_LFS if head.startswith(LFS_HEAD) else f'not {kind} file'


def size_without_zeros(file: BinaryIO) -> int:
    """Return the size of a file without the zeros at its end [bytes]."""
    end = file.seek(0, 2)
    while end > 0:
        begin = max(end - BLOCK_BYTES, 0)
        file.seek(begin)
        if kept := file.read(end - begin).rstrip(b'\0'):
            return begin + len(kept)
        end = begin
    return 0


def decompressed(data: bytes | memoryview, form: str, size: int | None, where: str) -> bytes:
    """Return what was compressed; never more than was announced, or than is allowed.

    Args:
        data: what was compressed.
        form: ``zstd``, ``lz4``, or empty for none.
        size: announced size [bytes]; None if nobody has.
        where: for the error's text.

    Raises:
        BagError: it is too large, not what was announced, or cannot be read.
    """
    limit = MAX_BYTES if size is None else size
    if limit > MAX_BYTES:
        raise BagError(f'{where}: must hold at most {MAX_BYTES} bytes, says {size}')
    found = _expanded(data, form, limit, where)
    if len(found) > limit or (size is not None and len(found) != size):
        raise BagError(f'{where}: {form or "data"} must hold {limit} bytes, holds another number')
    return found


def decompressed_part(data: bytes | memoryview, form: str, where: str) -> bytes:
    """Return what can be had of data whose end is missing.

    Raises:
        BagError: it cannot be read.
    """
    return _expanded(data, form, MAX_BYTES, where)[:MAX_BYTES]


def _expanded(data: bytes | memoryview, form: str, limit: int, where: str) -> bytes:
    """Return at most one byte more than the limit."""
    if form not in DECOMPRESSORS:
        raise BagError(f'{where}: compression must be zstd or lz4, got {form[:20]!r}')
    try:
        return DECOMPRESSORS[form](data, limit + 1)
    except (RuntimeError, zstd.ZstdError, EOFError) as error:
        raise BagError(f'{where}: cannot be decompressed ({form}): {error}') from error


DECOMPRESSORS: dict[str, Callable[[bytes | memoryview, int], bytes]] = {
    '': lambda data, _: bytes(data),
    'zstd': lambda data, most: zstd.ZstdDecompressor().decompress(data, most),
    'lz4': lambda data, most: lz4_frame.LZ4FrameDecompressor().decompress(data, most),
}

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Record the loop to a bag that ros2 bag plays: every topic, latched ones too, until Ctrl-C.

The recorder is a separate process at low priority; the loop never waits for it. A thread writes
the bag and flushes it once a second; flushed messages survive a kill. The queue is bounded: if the
disk cannot keep up, messages are dropped and counted.
"""

from __future__ import annotations

from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from importlib import import_module
import json
import os
from pathlib import Path
import shutil
import sqlite3
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
import zlib

from rosbags.interfaces import Nodetype
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.rosbag2.storage_mcap import McapWriter
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from td3_agent.bags.storage import BagError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from rclpy.node import Node
    from rosbags.interfaces import Connection, Qos
    from rosbags.rosbag2.writer import StorageWriter
    from rosbags.typesys.store import Typestore


STORAGES = ('mcap', 'sqlite3')
# Metadata as ROS 2 Jazzy writes it; Humble reads no later version.
METADATA_VERSION = 8
CRC_OFFSET = 9 + 24  # in a chunk: after type, length, two times and the size
FLUSH_S = 1.0
MEGABYTE = 1_000_000
QUEUE_BYTES = 256 * MEGABYTE
NICENESS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        '--out', type=Path, default=None, help='folder of the bag (default: bag_<date>_<time>)'
    )
    parser.add_argument('--storage', choices=STORAGES, default='mcap', help='file format')
    parser.add_argument(
        '--compression', choices=('none', 'zstd'), default='none', help='within MCAP'
    )
    parser.add_argument(
        '--topics',
        nargs='+',
        default=None,
        metavar='PATTERN',
        help="shell patterns of topic names, such as '/carla/*' (default: all of the loop)",
    )
    parser.add_argument(
        '--role-name', default='', help='leave out the topics of other vehicles; empty: record all'
    )
    parser.add_argument(
        '--max-size', type=float, default=0.0, help='end at this size [MB]; 0: no limit'
    )
    parser.add_argument(
        '--min-free-space', type=float, default=256.0, help='end when less is free [MB]'
    )


def run(args: argparse.Namespace) -> int:
    """Record until asked to end; return the exit status.

    1 if the disk was (nearly) full.

    Raises:
        BagError: an argument is invalid, or the folder exists already.
    """
    params = WriterParams(
        storage=args.storage,
        compressed=args.compression == 'zstd',
        max_size_mb=args.max_size,
        min_free_mb=args.min_free_space,
    )
    args.out = args.out or Path(f'bag_{datetime.now().astimezone():%Y%m%d_%H%M%S}')
    os.nice(NICENESS)  # the loop goes first
    from td3_agent.nodes.runtime import run_program  # noqa: PLC0415  --help needs no ROS

    run_program(lambda: _recorder(args, partial(BagWriter, args.out, params)), args=[])
    return 0


def _recorder(
    args: argparse.Namespace, make_writer: Callable[[Callable[[], None]], BagWriter]
) -> Node:
    from td3_agent.bags.recorder_node import LOOP_TOPICS, RecorderNode  # noqa: PLC0415

    node = RecorderNode(make_writer, args.topics or LOOP_TOPICS, args.role_name)
    sys.stdout.write(f'recording to {args.out}; Ctrl-C ends it\n')
    sys.stdout.flush()
    return node


@dataclass(frozen=True, kw_only=True)
class WriterParams:
    """How to write a bag.

    Raises:
        BagError: a value is invalid.
    """

    storage: str = 'mcap'  # or sqlite3
    compressed: bool = False  # zstd within MCAP; sqlite3 knows none
    max_size_mb: float = 0.0  # end at this size; 0: no limit
    min_free_mb: float = 256.0  # end when less than this is free on the disk
    queue_bytes: int = QUEUE_BYTES  # limit of messages that wait for the disk

    def __post_init__(self) -> None:
        if self.storage not in STORAGES:
            raise BagError(f'storage must be one of {", ".join(STORAGES)}, got {self.storage!r}')
        if self.compressed and self.storage != 'mcap':
            raise BagError(f'compression needs storage mcap, got {self.storage!r}')
        for name in ('max_size_mb', 'min_free_mb'):
            if not getattr(self, name) >= 0.0:
                raise BagError(f'{name} must be >= 0 [MB], got {getattr(self, name)}')


@dataclass(frozen=True)
class RecordedTopic:
    """A topic to record."""

    name: str
    msgtype: str
    types: Typestore  # contains the type
    qos: tuple[Qos, ...] = ()  # of its publishers


class _Mcap(McapWriter):
    """Names file and ROS distribution as rosbag2 does; ``ros2 bag reindex`` needs that name.

    Chunks get a checksum, which rosbags leaves out: it reveals damage within an image.
    """

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self.path = _renamed_as_rosbag2(self.path)

    def close_chunk(self) -> None:
        crc = zlib.crc32(self.chunk.bio.getvalue())
        begin = self.bio.tell()
        super().close_chunk()
        end = self.bio.tell()
        self.bio.seek(begin + CRC_OFFSET)
        self.bio.write(crc.to_bytes(4, 'little'))
        self.bio.seek(end)

    def close(self, version: int, metadata: str) -> None:
        super().close(version, _with_distro(metadata))


class _Sqlite3(Sqlite3Writer):
    """The same for SQLite3; the journal of a killed writer must have the file's final name."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        self.conn.close()
        self.path = _renamed_as_rosbag2(self.path)
        self.conn = sqlite3.connect(self.path)
        self.conn.execute('UPDATE schema SET ros_distro = ?', (_distro(),))
        self.cursor = self.conn.cursor()

    def close(self, version: int, metadata: str) -> None:
        super().close(version, _with_distro(metadata))


class _Rosbag2Writer(Writer):
    """Writes bags by rosbags with the file names of rosbag2."""

    STORAGE_PLUGINS: Mapping[StoragePlugin, type[StorageWriter]] = {
        StoragePlugin.MCAP: _Mcap,
        StoragePlugin.SQLITE3: _Sqlite3,
    }

    def close(self) -> None:
        super().close()
        beside = self.metapath.with_suffix('.yaml.tmp')
        beside.write_text(_with_distro(self.metapath.read_text('utf-8')), 'utf-8')
        beside.replace(self.metapath)


def _renamed_as_rosbag2(path: Path) -> Path:
    """Rename ``bag/bag.mcap`` to ``bag/bag_0.mcap``; return the new path."""
    return path.rename(path.with_name(f'{path.stem}_0{path.suffix}'))


def _distro() -> str:
    return os.environ.get('ROS_DISTRO') or 'unknown'


def _with_distro(metadata: str) -> str:
    return metadata.replace('ros_distro: rosbags', f'ros_distro: {json.dumps(_distro())}')


class BagWriter:
    """Takes messages from any thread and writes them in their order of arrival.

    Attributes:
        written, dropped: numbers of messages so far, by topic.
        failure: the error that ended it; empty without one.
        limit_reached: whether the bag has reached its maximum size, which ends it.
    """

    def __init__(
        self,
        path: Path,
        params: WriterParams | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:
        """Create the bag.

        Args:
            path: folder of the bag; must not exist.
            params: how to write it.
            on_end: called from the writing thread when the writer ends by itself.

        Raises:
            BagError: the folder exists already, or the disk is too full to begin.
            OSError: it cannot be created.
        """
        self.path = path
        self.params = params or WriterParams()
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.failure = ''
        self.limit_reached = False
        self._on_end = on_end
        self._queue: deque[RecordedTopic | tuple[str, int, bytes]] = deque()
        self._queued_bytes = 0
        self._wake = threading.Condition()
        self._closing = self._ended = False
        self._connections: dict[str, Connection] = {}
        self._size_bytes = 0
        self._next_flush_s = time.monotonic() + FLUSH_S
        self._writer = self._created()
        self._opened = threading.Event()
        self._thread = threading.Thread(target=self._run, name='bag writer', daemon=True)
        self._thread.start()
        self._opened.wait()
        if self.failure:
            raise BagError(self.failure)

    def add_topic(self, topic: RecordedTopic) -> None:
        """Add a topic, before its first message."""
        with self._wake:
            self._queue.append(topic)
            self._wake.notify()

    def put(self, topic: str, received_ns: int, data: bytes) -> bool:
        """Hand over a serialised message; return False if it was dropped.

        Args:
            topic: its name, added before.
            received_ns: time of arrival [ns since 1970].
            data: CDR with its header.
        """
        with self._wake:
            if self._ended or self._closing:
                return False
            if self._queued_bytes + len(data) > self.params.queue_bytes:
                self.dropped[topic] += 1
                return False
            self._queue.append((topic, received_ns, data))
            self._queued_bytes += len(data)
            self._wake.notify()
        return True

    def close(self) -> None:
        """Write the queue, the index and the metadata; a second call does nothing."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join()

    def _created(self) -> Writer:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.path.exists():
            raise BagError(f'{self.path} exists already: name a new folder for the bag')
        if error := self._disk_error(self.path.parent):
            raise BagError(error)
        plugin = StoragePlugin[self.params.storage.upper()]
        writer = _Rosbag2Writer(self.path, version=METADATA_VERSION, storage_plugin=plugin)
        if self.params.compressed:
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        return writer

    def _run(self) -> None:
        """Write until :meth:`close`, a limit or an error."""
        try:
            self._writer.open()  # here: SQLite is for one thread
            self._flush()
            self._opened.set()
            while self._work():
                pass
            self._finish()
        except Exception as error:  # noqa: BLE001  any error of the storage is reported
            why = getattr(error, 'strerror', None) or error
            self.failure = f'{self.path}: cannot be written: {why}'
            with suppress(Exception):  # flushed messages stay readable
                self._writer.abort()
        was_open = self._opened.is_set()
        with self._wake:
            self._ended = True
            self._queue.clear()
            by_itself = was_open and not self._closing
        self._opened.set()
        if by_itself:
            self._on_end()

    def _work(self) -> bool:
        """Write the queue; return whether to continue."""
        with self._wake:
            if not self._queue and not self._closing:
                self._wake.wait(FLUSH_S)
            batch, self._queue = self._queue, deque()
            closing = self._closing
        for item in batch:
            self._write(item)
        if time.monotonic() >= self._next_flush_s:
            self._flush()
            self.failure = self._disk_error(self.path)
            self._next_flush_s = time.monotonic() + FLUSH_S
        return not (self.failure or self.limit_reached or (closing and not self._queue))

    def _write(self, item: RecordedTopic | tuple[str, int, bytes]) -> None:
        if isinstance(item, RecordedTopic):
            self._connections[item.name] = self._writer.add_connection(
                item.name, item.msgtype, typestore=item.types, offered_qos_profiles=item.qos
            )
            return
        topic, received_ns, data = item
        with self._wake:
            self._queued_bytes -= len(data)
        if self.limit_reached:
            return
        self._writer.write(self._connections[topic], received_ns, data)
        self.written[topic] += 1
        self._size_bytes += len(data)
        limit = self.params.max_size_mb * MEGABYTE
        self.limit_reached = 0.0 < limit <= self._size_bytes

    def _flush(self) -> None:
        """Give everything to the operating system, where it survives a kill."""
        storage = self._writer.storage
        if isinstance(storage, McapWriter):
            if storage.chunk.msgs:
                storage.close_chunk()
            storage.bio.flush()
        elif isinstance(storage, Sqlite3Writer):
            storage.conn.commit()

    def _disk_error(self, folder: Path) -> str:
        """Return an error if the disk has too little space, else an empty text."""
        free_mb, least_mb = shutil.disk_usage(folder).free / MEGABYTE, self.params.min_free_mb
        found = f'recording stopped: {free_mb:.1f} MB free on the disk'
        text = f'{self.path}: {found}, at least {least_mb:.1f} MB must stay free'
        return '' if free_mb >= least_mb else text

    def _finish(self) -> None:
        """Write index and metadata."""
        self._writer.set_custom_data('recorded_by', 'td3_agent')
        self._writer.set_custom_data('dropped', json.dumps(self.dropped, sort_keys=True))
        self._writer.close()


class InstalledTypes:
    """The message types that are installed on this machine, read on demand."""

    def __init__(self) -> None:
        self._store = get_typestore(Stores.EMPTY)

    def knowing(self, msgtype: str) -> Typestore:
        """Return a store that contains a type such as ``sensor_msgs/msg/Image``.

        Raises:
            BagError: its package, or the package of a nested type, is not installed.
        """
        self._learn(msgtype)
        return self._store

    def _learn(self, msgtype: str) -> None:
        """Read a type, after its nested types."""
        if msgtype in self._store.fielddefs:
            return
        found = get_types_from_msg(_definition_file(msgtype).read_text('utf-8'), msgtype)
        for _, fields in found.values():
            for _, kind in fields:
                for name in _named(kind):
                    self._learn(name)
        self._store.register(found)


def _named(kind: Any) -> list[str]:  # noqa: ANN401  rosbags' nested tuples
    """Return the message types that a field's type names."""
    node, about = kind
    if node == Nodetype.NAME:
        return [about]
    if node in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
        return _named(about[0])
    return []


def _definition_file(msgtype: str) -> Path:
    """Return the installed ``.msg`` file of a type; BagError without one."""
    from ament_index_python.packages import (  # noqa: PLC0415  not installed everywhere
        PackageNotFoundError,
        get_package_share_directory,
    )

    package, _, name = msgtype.split('/')
    try:
        path = Path(get_package_share_directory(package)) / 'msg' / f'{name}.msg'
    except PackageNotFoundError as error:
        raise BagError(
            f'package {package!r} of message type {msgtype} is not installed'
        ) from error
    if not path.is_file():
        raise BagError(f'message type {msgtype} has no definition at {path}')
    return path


def message_class(msgtype: str) -> type:
    """Return the Python class of a message type; BagError if it is not installed."""
    package, _, name = msgtype.split('/')
    try:
        return getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError) as error:
        raise BagError(f'message type {msgtype} is not installed') from error

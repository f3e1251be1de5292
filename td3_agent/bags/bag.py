# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A bag: a folder with metadata.yaml and files, a folder without it, or a single file."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
import re
from typing import TYPE_CHECKING, Any

import yaml

from td3_agent.bags.formats import McapFile, SqliteFile
from td3_agent.bags.storage import BagError, CompressedFile, CompressedMessages
from td3_agent.files import BAG_FILES, did_you_mean, if_policy

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from td3_agent.bags.storage import RawMessage, RawTopic, Storage

COMPRESSED = ('.zstd', '.zst')
METADATA = 'metadata.yaml'
WITHOUT = 'remove metadata.yaml to read the existing files'
MAX_METADATA_BYTES = 16 * 1024 * 1024
MAX_QOS_BYTES = 64 * 1024
STORAGES: dict[str, type[McapFile | SqliteFile]] = {'.mcap': McapFile, '.db3': SqliteFile}
REMEDIES = {
    '.bag': 'a bag of ROS 1: convert it with rosbags-convert --src {file} --dst FOLDER',
    '.bz2': 'decompress it first: bunzip2 {file}',
    '.gz': 'unpack it first: gunzip {file}',
    '.lz4': 'decompress it first: lz4 -d {file}',
    '.tar': 'unpack it first: tar xf {file}',
    '.xz': 'decompress it first: unxz {file}',
    '.yaml': 'name its folder instead',
    '.zip': 'unpack it first: unzip {file}',
}


@dataclass(frozen=True)
class Contents:
    """Topics, counts and times of a bag."""

    topics: dict[str, RawTopic]
    counts: Counter[str]  # messages by topic
    first_ns: int  # arrival of the first message, since 1970; 0 without messages
    last_ns: int
    torn: list[str] = field(default_factory=list)  # where files are cut off or damaged

    def of_type(self, *msgtypes: str) -> list[str]:
        """Return the names of the topics of these types that have messages, sorted."""
        return sorted(name for name, t in self.topics.items() if t.msgtype in msgtypes)


class Bag:
    """Reads a bag, any number of times; keeps nothing in memory."""

    def __init__(self, path: Path) -> None:
        """Find the files of ``path``.

        Raises:
            BagError: there is no bag, or its metadata is invalid.
            OSError: it cannot be read.
        """
        self.path = path
        self._message_compression = ''
        self._files = [self._opened(file) for file in self._find()]

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield the messages of these topics, of all if None, file by file.

        Ends each file at its first damage, which :meth:`contents` names.

        Raises:
            BagError: a file does not hold messages of ROS 2.
            OSError: a file cannot be read.
        """
        for file in self._files:
            yield from file.messages(topics)

    def contents(self) -> Contents:
        """Read the whole bag once and return its contents.

        Raises:
            BagError: no message is readable, or a file does not hold messages of ROS 2.
            OSError: a file cannot be read.
        """
        topics: dict[str, RawTopic] = {}
        counts: Counter[str] = Counter()
        first_ns, last_ns = 0, 0
        torn: list[str] = []
        for file in self._files:
            for topic, received_ns, _ in file.messages():
                topics.setdefault(topic.name, topic)
                counts[topic.name] += 1
                first_ns = min(first_ns or received_ns, received_ns)
                last_ns = max(last_ns, received_ns)
            if file.torn:
                there = f'{counts.total()} messages, {(last_ns - first_ns) / 1e9:.3f} s'
                torn.append(f'{file.torn}; read before that: {there}')
        if torn and not counts:
            raise BagError(torn[0])
        return Contents(topics, counts, first_ns, last_ns, torn)

    def _find(self) -> list[Path]:
        if self.path.is_file():
            return [self.path]
        if not self.path.is_dir():
            raise BagError(f'{self.path}: there is no bag')
        metadata = self.path / METADATA
        files = self._listed() if _is_blank(metadata) else self._named_in(metadata)
        if not files:
            meant = if_policy(self.path) or did_you_mean(self.path, BAG_FILES)
            there = _unread(self.path)
            raise BagError(
                f'{self.path}: there is no .mcap or .db3 file in the folder{there}{meant}'
            )
        return files

    def _listed(self) -> list[Path]:
        """Return the files of a folder without metadata, as a killed recorder leaves it."""
        names = {_plain_name(path.name) for path in self.path.iterdir()}
        found = [Path(name) for name in names if Path(name).suffix in STORAGES]
        return [self._inside(path.name) for path in sorted(found, key=_split_number)]

    def _named_in(self, metadata: Path) -> list[Path]:
        """Return the files that the metadata names."""
        about = _information(metadata)
        names = about.get('relative_file_paths')
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise BagError(f'{metadata}: relative_file_paths must be a list of names; {WITHOUT}')
        mode = str(about.get('compression_mode') or '').lower()
        if mode == 'message':
            self._message_compression = str(about.get('compression_format') or '')
        return [self._inside(name) for name in names]

    def _inside(self, name: str) -> Path:
        """Return the path of a file of the bag; BagError for a path outside its folder."""
        parts = PurePosixPath(name).parts
        # Until Foxy the paths began with the name of the folder.
        old_style = len(parts) == 2 and parts[0] == self.path.resolve().name
        path = self.path / (parts[-1] if parts else '')
        outside = (len(parts) != 1 and not old_style) or parts[-1] in {'..', '/'}
        # Under its name, or since decompressed or compressed.
        plain = _plain_name(path.name)
        names = dict.fromkeys((plain, path.name, *(plain + end for end in COMPRESSED)))
        found = [path.with_name(name) for name in names if not outside]
        if outside or any(p.resolve().parent != self.path.resolve() for p in found):
            raise BagError(f'{self.path}: its files must lie in the folder, got {name[:120]!r}')
        for path in found:
            if path.is_file():
                return path
        raise BagError(
            f'{self.path}: {name[:120]!r} is named in {METADATA}, but missing; {WITHOUT}'
        )

    def _opened(self, path: Path) -> Storage:
        plain = Path(_plain_name(path.name))
        if plain.suffix not in STORAGES:
            remedy = REMEDIES.get(path.suffix, f'must end in {" or ".join(STORAGES)}')
            raise BagError(f'{path}: {remedy.format(file=path)}{if_policy(path)}')
        storage = STORAGES[plain.suffix]
        whole = plain.name == path.name
        file: Storage = storage(path) if whole else CompressedFile(path, storage)
        form = self._message_compression
        return CompressedMessages(file, form, path) if form else file


def _plain_name(name: str) -> str:
    """Return the name of a file when it is decompressed."""
    return name.removesuffix(next((end for end in COMPRESSED if name.endswith(end)), ''))


def is_latched(topic: RawTopic) -> bool:
    """Whether a topic's publishers keep their last message for late subscribers."""
    if len(topic.qos) > MAX_QOS_BYTES:
        return False
    with suppress(yaml.YAMLError, RecursionError):
        profiles = yaml.safe_load(topic.qos)
        if isinstance(profiles, list):
            durable = [p.get('durability') for p in profiles if isinstance(p, dict)]
            return bool(durable) and all(value in {1, 'transient_local'} for value in durable)
    return False


def _information(path: Path) -> dict[str, Any]:
    """Return the content of a ``metadata.yaml``; BagError if it is invalid or too large."""
    if path.stat().st_size > MAX_METADATA_BYTES:
        raise BagError(f'{path}: must hold at most {MAX_METADATA_BYTES} bytes')
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        text = ' '.join(str(error).split())[:160]
        raise BagError(f'{path}: not YAML: {text}; {WITHOUT}') from error
    about = content.get('rosbag2_bagfile_information') if isinstance(content, dict) else None
    if not isinstance(about, dict):
        raise BagError(f'{path}: must hold rosbag2_bagfile_information; {WITHOUT}')
    return about


def _is_blank(path: Path) -> bool:
    """Whether a metadata.yaml is missing, or empty after a power cut."""
    if not path.exists():
        return True
    with path.open('rb') as file:
        return not file.read(MAX_METADATA_BYTES).strip(b'\0 \n')


def _unread(folder: Path) -> str:
    """Return how to convert a file that cannot be read; empty without such a file."""
    for path in sorted(folder.iterdir()):
        if path.suffix in REMEDIES and path.name != METADATA:
            return f'; {path}: {REMEDIES[path.suffix].format(file=path)}'
    return ''


def _split_number(path: Path) -> tuple[int, str]:
    """Return the sort key of a part of a bag: ``bag_10`` comes after ``bag_9``."""
    number = re.search(r'_(\d{1,9})$', path.stem)
    return (int(number[1]) if number else -1, path.name)

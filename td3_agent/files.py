# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Files: those that ship, writing them whole or not at all, and hints about a wrong path."""

from __future__ import annotations

from contextlib import suppress
from fnmatch import fnmatch
import json
import os
from pathlib import Path
import secrets
import sysconfig
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

POLICY_SUFFIX = '.safetensors'
SNAPSHOT = 'state.safetensors'  # of a training run that can be resumed
BAG_FILES = ('metadata.yaml', '*.mcap', '*.db3', '*.mcap.zst*', '*.db3.zst*')
LFS_HEAD = b'version https://git-lfs'
IS_LFS = 'a Git LFS pointer in the place of the file: git lfs pull'
MOST_DEPTH = 4
MOST_LOOKED_AT = 2000  # folders; bounds the search of a home directory
MOST_NAMED = 5


def shared_path(name: str) -> Path:
    """Return the path of a shipped file or folder, such as ``config/demo.yaml``.

    Raises:
        FileNotFoundError: it is neither beside the sources nor in the package's share folder.
    """
    candidates = [
        Path(__file__).resolve().parents[1] / name,  # a checkout
        Path(sysconfig.get_path('data')) / 'share' / 'td3_agent' / name,  # pip install
    ]
    # No ROS 2, none that is sourced, or a checkout that is not installed.
    with suppress(ImportError, OSError, LookupError):
        from ament_index_python.packages import get_package_share_directory  # noqa: PLC0415

        candidates.append(Path(get_package_share_directory('td3_agent')) / name)
    for path in candidates:
        if path.exists():
            return path
    places = ' or '.join(str(path) for path in candidates)
    raise FileNotFoundError(f'{name!r} must exist as {places}')


def write_json(path: Path, value: Any) -> None:  # noqa: ANN401  whatever JSON holds
    """Write a value as JSON, atomically.

    Raises:
        OSError: it cannot be written; an older file is unchanged.
    """
    replace_file(path, f'{json.dumps(value, indent=2)}\n'.encode())


def replace_file(path: Path, data: bytes, check: Callable[[Path], None] = lambda _: None) -> None:
    """Write a file atomically: to a temporary name, synced to disk, checked, renamed.

    Raises:
        OSError: it cannot be written; an older file is unchanged.
    """
    beside = path.with_name(f'.{path.stem}.{secrets.token_hex(4)}.tmp{path.suffix}')
    try:
        handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
        with os.fdopen(handle, 'wb') as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        check(beside)
        beside.replace(path)
        sync(path.parent)
    finally:
        beside.unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Force a file or the entries of a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def holds(folder: Path, patterns: tuple[str, ...]) -> bool:
    """Whether a folder has a file that matches; False if it cannot be read."""
    try:
        names = os.listdir(folder)  # noqa: PTH208  names alone
    except OSError:
        return False
    return any(fnmatch(name, pattern) for name in names for pattern in patterns)


def if_policy(path: Path) -> str:
    """Return a hint that a file, or the first file in a folder, is a policy; else empty."""
    found = _policies(path) if path.is_dir() else [path] if path.suffix == POLICY_SUFFIX else []
    return f'; {found[0]} is a policy: --policy {found[0]}' if found else ''


def if_bag(path: Path) -> str:
    """Return a hint that a folder, or the folder of a file, is a bag; else empty."""
    folder = path if path.is_dir() else path.parent
    return f'; {folder} is a bag: td3_agent replay {folder}' if holds(folder, BAG_FILES) else ''


def did_you_mean(path: Path, patterns: tuple[str, ...]) -> str:
    """Return a hint with the folders below ``path`` that have a file that matches; else empty."""
    return _meant(_below(path, lambda folder: [folder] if holds(folder, patterns) else []))


def which_policy(path: Path) -> str:
    """Return a hint with the policies in a folder or below it; else empty."""
    return _meant((_policies(path) + _below(path, _policies))[:MOST_NAMED])


def _meant(found: list[Path]) -> str:
    if not found:
        return ''
    more = f' also there: {", ".join(map(str, found[1:]))}' if found[1:] else ''
    return f'; did you mean {found[0]}?{more}'


def _policies(folder: Path) -> list[Path]:
    """Return the policies in a folder, sorted; hidden files may be incomplete."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208  names alone
    except OSError:
        return []
    return [
        folder / name
        for name in names
        if name.endswith(POLICY_SUFFIX) and name != SNAPSHOT and not name.startswith('.')
    ]


def _below(path: Path, find: Callable[[Path], list[Path]]) -> list[Path]:
    """Return at most MOST_NAMED results of ``find`` in the folders below, the nearest first."""
    level, found, looked_at = [path], list[Path](), 0
    for _ in range(MOST_DEPTH):
        level = [child for folder in level for child in _folders(folder)][:MOST_LOOKED_AT]
        looked_at += len(level)
        found += [each for folder in level for each in find(folder)]
        if len(found) >= MOST_NAMED or looked_at >= MOST_LOOKED_AT:
            break
    return found[:MOST_NAMED]


def _folders(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted, without links and hidden folders."""
    try:
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return [folder / name for name in sorted(names) if not name.startswith('.')]

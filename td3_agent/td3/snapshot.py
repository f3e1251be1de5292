# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots of a whole training run: ``state.safetensors`` and ``state.json``, never a pickle.

A snapshot is written to a temporary name, synced to disk and renamed. Its hash shows whether it is
whole.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import stat
from typing import TYPE_CHECKING, Any

import safetensors
import safetensors.torch

from td3_agent.files import sync

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

SCHEMA = 2
FACTS_NAME = 'state.json'
TENSORS_NAME = 'state.safetensors'
HASH_BLOCK_BYTES = 1 << 20
MAX_FACTS_BYTES = 1 << 26  # a run of five million steps needs 20 kB


class SnapshotError(ValueError):
    """A snapshot cannot be read; the text names it and what is wrong."""


def save_snapshot(
    parent: Path, step: int, tensors: dict[str, Tensor], facts: dict[str, Any], *, keep: int
) -> Path:
    """Write ``parent/step_<step>`` atomically, then delete all but the last ``keep``.

    Args:
        parent: folder of all snapshots of a run.
        step: environment steps so far.
        tensors: on any device.
        facts: plain JSON.
        keep: >= 1.

    Raises:
        OSError: it cannot be written; older ones are unchanged.
    """
    parent.mkdir(parents=True, exist_ok=True)
    target = parent / f'step_{step:010d}'
    beside = parent / f'.{target.name}.tmp'
    for leftover in parent.glob('.step_*.tmp'):
        shutil.rmtree(leftover)
    shutil.rmtree(target, ignore_errors=True)  # unreadable, or the run had resumed from it
    beside.mkdir()
    try:
        _write(beside, tensors, facts)
        beside.rename(target)
    except (OSError, safetensors.SafetensorError) as error:
        shutil.rmtree(beside, ignore_errors=True)  # a partial one would keep the disk full
        if isinstance(error, OSError):
            raise
        raise OSError(f'{target}: {error}') from error
    sync(parent)
    for old in snapshots(parent)[:-keep]:
        shutil.rmtree(old)
    return target


def _write(beside: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(contiguous, str(beside / TENSORS_NAME))
    digest = _sha256(beside / TENSORS_NAME)
    text = json.dumps({'schema': SCHEMA, 'sha256': digest, 'facts': facts}, allow_nan=False)
    (beside / FACTS_NAME).write_text(text, encoding='utf-8')
    for path in (beside / TENSORS_NAME, beside / FACTS_NAME, beside):
        sync(path)


def snapshots(parent: Path) -> list[Path]:
    """Return the snapshots of a run, oldest first."""
    found = parent.iterdir() if parent.is_dir() else ()
    return sorted(path for path in found if re.fullmatch(r'step_\d+', path.name))


def load_newest(parent: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts of the newest snapshot that is whole.

    Raises:
        SnapshotError: none is whole; the text has the reason for each.
    """
    faults = []
    for path in reversed(snapshots(parent)):
        try:
            return load_snapshot(path)
        except SnapshotError as error:  # noqa: PERF203  a handful of files
            faults.append(str(error))
    raise SnapshotError('; '.join(faults) or f'{parent} holds no snapshot to resume from')


def load_snapshot(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts.

    Raises:
        SnapshotError: a part is missing, damaged or of another version.
    """
    try:
        return _checked(path)
    except SnapshotError:
        raise
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise SnapshotError(f'{path}: {type(error).__name__}: {error}') from error
    except safetensors.SafetensorError as error:
        raise SnapshotError(f'{path}: {error}') from error


def _checked(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors and facts, after checks of file types and sizes.

    Raises:
        SnapshotError: this is no snapshot of this version.
    """
    for name in (FACTS_NAME, TENSORS_NAME):
        _reject_special_file(path / name)
    if (size := (path / FACTS_NAME).stat().st_size) > MAX_FACTS_BYTES:
        limit = f'expected <= {MAX_FACTS_BYTES}'
        raise SnapshotError(f'{path}: {FACTS_NAME} has {size} bytes, {limit}')
    content = json.loads((path / FACTS_NAME).read_text(encoding='utf-8'))
    schema, wanted, facts = content['schema'], content['sha256'], content['facts']
    if schema != SCHEMA:
        raise SnapshotError(f'{path}: schema is {schema}, expected {SCHEMA}')
    digest = _sha256(path / TENSORS_NAME)
    if digest != wanted:
        raise SnapshotError(f'{path}: SHA-256 is {digest}, expected {wanted}')
    return safetensors.torch.load_file(str(path / TENSORS_NAME)), facts


def _reject_special_file(path: Path) -> None:
    """Reject links, pipes and devices.

    Raises:
        SnapshotError: naming the file.
        OSError: it does not exist.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise SnapshotError(f'{path} is no regular file')


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while block := file.read(HASH_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Policy files: which ones ship, and the header before their tensors. No torch.

A policy is one safetensors file: 8 bytes with the length of the header, little-endian; the header,
JSON; the tensors. The metadata of the header holds the manifest, a JSON string. A file is
untrusted input: nothing in it is executed or unpickled, and every size is checked before use.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
import hashlib
from importlib import resources
import math
import os
from pathlib import Path
import stat
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from td3_agent.driving.parameters import did_you_mean, expanded
from td3_agent.files import IS_LFS, LFS_HEAD, POLICY_SUFFIX, if_bag, which_policy
from td3_agent.policy.manifest import SCHEMA, Manifest, contract_faults, short, tensor_shapes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    Weights = dict[str, NDArray[np.float32]]

UNTRAINED = 'untrained'
SHIPPED = ('lane', 'route')
SHIPPED_NAMES = ', '.join(SHIPPED)  # for help texts
# Younger than the format; the default is what older files mean.
MAY_LACK = {'speed_smoothing_s', 'yaw_rate_smoothing_s'}
MANIFEST_KEY = 'manifest'  # in the metadata of the file
MAX_HEADER_BYTES = 1 << 20  # a driving policy needs 6 kB
MAX_WEIGHTS_BYTES = 1 << 28
FLOAT32_BYTES = 4
LENGTH_BYTES = 8
OPEN = (
    'writable by everyone, expected chmod o-w; where that changes nothing, as on a Windows drive '
    'or some volumes, copy the file to a Linux disk first'
)
PICKLE_SUFFIXES = frozenset({'.pt', '.pth', '.pkl', '.pickle', '.ckpt', '.bin', '.joblib'})


class CheckpointError(ValueError):
    """A checkpoint was rejected or could not be written.

    Attributes:
        path: the checkpoint.
        faults: what is wrong, each with field, value and what was expected.
    """

    def __init__(self, path: str | os.PathLike[str], faults: list[str]) -> None:
        self.path = Path(path)
        self.faults = tuple(faults)
        super().__init__(f'checkpoint {str(path)!r} rejected: ' + '; '.join(faults))


def policy_file(name: str) -> Path:
    """Return the file of a shipped policy, or the file of that name."""
    if name not in SHIPPED:
        return Path(expanded(name))
    return Path(str(resources.files('td3_agent') / 'weights' / f'{name}{POLICY_SUFFIX}'))


def reject_missing_policy(name: str) -> None:
    """Reject a policy name that is neither shipped nor an existing file; the file is not read.

    Raises:
        ValueError: naming it and the nearest shipped policy.
    """
    if name != UNTRAINED and not policy_file(name).exists():
        raise ValueError(
            f'policy must be one of {SHIPPED_NAMES}, {UNTRAINED}, or a {POLICY_SUFFIX} file, '
            f'got {name!r}{did_you_mean(name, (*SHIPPED, UNTRAINED))}'
        )


@dataclass(frozen=True)
class Head:
    """The checked header of a checkpoint.

    Attributes:
        manifest: the manifest.
        size: of the header [bytes]; the tensors follow.
    """

    manifest: Manifest
    size: int


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read and check the manifest alone.

    Raises:
        CheckpointError: naming every fault that was found.
    """
    with opened(path) as (handle, size):
        return read_head(path, handle, size).manifest


def read_policy(
    path: str | os.PathLike[str], *, kind: str | None = None
) -> tuple[Weights, Manifest]:
    """Read and check weights and manifest; nothing in the file is executed.

    Args:
        path: the file.
        kind: the only kind wanted, or None for any.

    Raises:
        CheckpointError: naming every fault that was found.
    """
    if (suffix := Path(path).suffix.lower()) in PICKLE_SUFFIXES:
        what = f'a {suffix} file can hold a pickle, and a pickle can run any code: it is never'
        raise CheckpointError(path, [f'{what} opened, expected a {POLICY_SUFFIX} file'])
    with opened(path) as (handle, size):
        reject_open_folder(path)
        return read_all(path, handle, size, kind)


def read_all(
    path: str | os.PathLike[str], handle: int, size: int, kind: str | None = None
) -> tuple[Weights, Manifest]:
    """Read and check an open file; arguments as of :func:`read_head`.

    Raises:
        CheckpointError: as :func:`read_head`; or the weights are others than the manifest says,
            overlap, or are not finite.
    """
    head = read_head(path, handle, size, kind)
    os.lseek(handle, 0, os.SEEK_SET)
    data = read_exactly(handle, size)
    digest, expected = hashlib.sha256(data[head.size :]).hexdigest(), head.manifest.weights_sha256
    if digest != expected:
        fault = f'SHA-256 of the weights is {digest}, expected {expected!r:.80}'
        raise CheckpointError(path, [fault])
    try:
        weights = safetensors.numpy.load(data)
    except safetensors.SafetensorError as error:
        raise CheckpointError(path, [str(error)]) from error
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise CheckpointError(path, [f'weight {name} is not finite'])
    return weights, head.manifest


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[tuple[int, int]]:
    """Open one regular file; yields (descriptor, size [bytes]).

    Raises:
        CheckpointError: missing, no regular file, empty, open to everyone, or a Git LFS pointer.
    """
    try:
        # O_NONBLOCK: a pipe in the place of the file must not block.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CheckpointError(path, [f'{reason}, expected a {POLICY_SUFFIX} file']) from error
    try:
        status = os.fstat(handle)
        if faults := _file_faults(Path(path), status):
            raise CheckpointError(path, faults)
        if os.pread(handle, len(LFS_HEAD), 0) == LFS_HEAD:
            raise CheckpointError(path, [IS_LFS])
        yield handle, status.st_size
    finally:
        os.close(handle)


def reject_open_folder(path: str | os.PathLike[str]) -> None:
    """Reject a file that every user of the machine could replace.

    Raises:
        CheckpointError: its folder is writable by everyone, without the sticky bit.
    """
    mode = Path(path).resolve().parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise CheckpointError(path, [f'its folder is {OPEN}'])


def _file_faults(path: Path, status: os.stat_result) -> list[str]:
    if stat.S_ISDIR(status.st_mode):
        return [f'a folder, expected a {POLICY_SUFFIX} file{if_bag(path) or which_policy(path)}']
    if not stat.S_ISREG(status.st_mode):
        return ['not a regular file']
    faults = []
    if status.st_mode & stat.S_IWOTH:
        faults.append(OPEN)
    if status.st_size == 0:
        faults.append('empty (0 bytes)')
    return faults


def read_exactly(handle: int, size: int) -> bytes:
    """Return up to ``size`` bytes; fewer when the file shrank meanwhile."""
    parts = []
    while size > 0 and (part := os.read(handle, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b''.join(parts)


def read_head(
    path: str | os.PathLike[str], handle: int, size: int, kind: str | None = None
) -> Head:
    """Read and check the header, and that the size of the file fits its tensors.

    Args:
        path: for error texts.
        handle: descriptor, at the beginning of the file.
        size: of the file [bytes].
        kind: the only kind wanted, or None for any.

    Raises:
        CheckpointError: naming every fault that was found.
    """
    length = int.from_bytes(read_exactly(handle, LENGTH_BYTES), 'little')
    if not 0 < length <= min(MAX_HEADER_BYTES, size - LENGTH_BYTES):
        limit = f'expected 1 to {MAX_HEADER_BYTES} and no more than the file has'
        raise CheckpointError(path, [f'header length is {length}, {limit}'])
    try:
        header = decoded(read_exactly(handle, length), dict[str, dict[str, Any]])
    except ValueError as error:
        raise CheckpointError(path, [f'header: {error}']) from error
    manifest = _manifest_of(path, header.pop('__metadata__', {}))
    faults = [f'manifest: {fault}' for fault in contract_faults(manifest)]
    if kind is not None and manifest.kind != kind:
        faults.append(f'kind is {manifest.kind!r}, expected {kind!r}')
    start = LENGTH_BYTES + length
    if faults := faults or _tensor_faults(header, tensor_shapes(manifest.actor), size - start):
        raise CheckpointError(path, faults)
    return Head(manifest, start)


def decoded(text: bytes | str, kind: Any) -> Any:  # noqa: ANN401  an instance of kind
    """Return parsed JSON as the type ``kind``; only whole numbers are converted, to float.

    Raises:
        ValueError: it is no JSON, or a field does not fit; the text names the first such field.
    """
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f'not valid: {error}') from error


def _manifest_of(path: str | os.PathLike[str], metadata: dict[str, Any]) -> Manifest:
    text = metadata.get(MANIFEST_KEY)
    if not isinstance(text, str):
        raise CheckpointError(path, [f'its metadata has no {MANIFEST_KEY!r}: a policy has one'])
    try:
        content = decoded(text, dict[str, Any])
        _reject_other_schema(content)
        manifest: Manifest = decoded(text, Manifest)
        faults = list(_unlike(content, asdict(manifest), ''))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, [f'manifest: {error}']) from error
    if faults:
        raise CheckpointError(path, [f'manifest: {fault}' for fault in faults])
    return manifest


def _reject_other_schema(content: dict[str, Any]) -> None:
    """Reject another schema before its unknown fields are named.

    Raises:
        ValueError: it is not the schema of this version.
    """
    found = content.get('schema', SCHEMA)
    if type(found) is not int or found != SCHEMA:
        raise ValueError(f'schema is {short(found)}, expected {SCHEMA}')


def _unlike(given: Any, known: Any, where: str) -> Iterator[str]:  # noqa: ANN401  JSON
    """Name fields that a manifest has and its type lacks, or the reverse."""
    if isinstance(known, dict):
        lacking = known.keys() - given.keys() - MAY_LACK
        for name in sorted((given.keys() - known.keys()) | lacking):
            yield f'{where}{short(name)} is {"unknown" if name in given else "missing"}'
        for name in given.keys() & known.keys():
            yield from _unlike(given[name], known[name], f'{where}{name}.')
    elif isinstance(known, tuple):
        for i, (mine, its) in enumerate(zip(given, known, strict=True)):
            yield from _unlike(mine, its, f'{where}{i}.')


def _tensor_faults(
    header: dict[str, dict[str, Any]], shapes: dict[str, tuple[int, ...]], size: int
) -> list[str]:
    """Compare the tensors of a header, and the size of their data, with the actor's."""
    wanted = {name: ('F32', list(shape)) for name, shape in shapes.items()}
    found = {name: (entry.get('dtype'), entry.get('shape')) for name, entry in header.items()}
    faults = [
        f'tensor {short(name)} is {short(found.get(name, "missing"))}, '
        f'expected {wanted.get(name, "no such tensor")}'
        for name in sorted(wanted.keys() | found.keys())
        if wanted.get(name) != found.get(name)
    ]
    needed = FLOAT32_BYTES * sum(math.prod(shape) for shape in shapes.values())
    if not size == needed <= MAX_WEIGHTS_BYTES:
        faults.append(
            f'{size} bytes of weights, but the architecture needs {needed}, '
            f'at most {MAX_WEIGHTS_BYTES}'
        )
    return faults

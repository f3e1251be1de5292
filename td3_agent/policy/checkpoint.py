# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: a directory with ``manifest.json`` and ``actor.safetensors``.

The manifest says what the policy must be given, what its answer means, how the network is built
and which bytes its weights are. A checkpoint is untrusted input: nothing in it is ever executed
or unpickled, no size in it is believed before it is checked, and everything that is wrong with
it is named at once. It is written beside its place and moved there whole.
"""

from __future__ import annotations

from contextlib import contextmanager
import ctypes
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
import errno
import hashlib
import importlib.metadata
import json
import math
import os
from pathlib import Path
import re
import secrets
import shutil
import stat
import sys
from types import UnionType
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
import safetensors
import safetensors.torch
import torch

from td3_agent.driving.command import (
    CONTROL_MAX_SPEED_MPS,
    CONTROL_MAX_YAW_RATE_RADPS,
    TwistConvention,
)
from td3_agent.driving.loop_check import CameraView, Contract
from td3_agent.driving.observation import (
    ENCODINGS,
    PATH_POINTS,
    PATH_SCALE_M,
    STATE_SIZE,
    ObservationSpec,
)
from td3_agent.nearby import IS_LFS, LFS_HEAD, POLICY_FILES, did_you_mean, if_bag, if_policy
from td3_agent.policy.networks import Actor, ActorConfig, tensor_shapes
from td3_agent.policy.policy import Policy, PolicyError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RecordT = TypeVar('RecordT')

SCHEMA = 1
MANIFEST_NAME = 'manifest.json'
WEIGHTS_NAME = 'actor.safetensors'
MAX_MANIFEST_BYTES = 1 << 20
MAX_HEADER_BYTES = 1 << 16  # the driving actor needs 1.5 kB
MAX_WEIGHTS_BYTES = 1 << 28
FLOAT32_BYTES = 4
DRIVING = 'driving'
GYMNASIUM = 'gymnasium'
KINDS = (DRIVING, GYMNASIUM)
COLOUR = 'grey, ITU-R BT.601'
NORMALISATION = 'x / 255 - 0.5'
OPEN = (
    'writable by everyone, expected chmod o-w; where that changes nothing, as on a Windows drive '
    'or some volumes, copy the directory to a Linux disk first'
)
PICKLE_SUFFIXES = frozenset({'.pt', '.pth', '.pkl', '.pickle', '.ckpt', '.bin', '.joblib'})


class CheckpointError(ValueError):
    """A checkpoint was refused or could not be written.

    Attributes:
        path: the checkpoint.
        faults: what is wrong, each with file, field, value and what was expected.
    """

    def __init__(self, path: str | os.PathLike[str], faults: list[str]) -> None:
        """Name the checkpoint and all its faults."""
        self.path = Path(path)
        self.faults = tuple(faults)
        super().__init__(f'checkpoint {str(path)!r} refused: ' + '; '.join(faults))


@dataclass(frozen=True, kw_only=True)
class ImageContract:
    """How the image stack is made; fields as in :class:`ObservationSpec`, and these.

    Attributes:
        encodings: camera encodings that may be fed.
        colour: what becomes of colours.
        normalisation: what the network does to a pixel x in 0 ... 255.
        camera: what the camera showed in training; None where nobody wrote it down.
    """

    encodings: tuple[str, ...]
    image_height_px: int
    image_width_px: int
    frame_stack: int
    crop_top: float
    colour: str = COLOUR
    normalisation: str = NORMALISATION
    camera: CameraView | None = None

    def observation_spec(self) -> ObservationSpec:
        """Return the settings of the observation builder that this contract asks for."""
        return ObservationSpec(
            image_height_px=self.image_height_px,
            image_width_px=self.image_width_px,
            frame_stack=self.frame_stack,
            crop_top=self.crop_top,
        )


@dataclass(frozen=True, kw_only=True)
class StateField:
    """One number of the state vector: the network is given the quantity / ``scale``."""

    name: str
    unit: str
    scale: float = 1.0


@dataclass(frozen=True, kw_only=True)
class InputContract:
    """What the policy must be given, and how often [Hz]; None where it does not apply."""

    image: ImageContract | None
    state: tuple[StateField, ...]
    rate_hz: float | None

    def contract(self) -> Contract:
        """Return what is compared with the running loop."""
        if self.image is None:
            return Contract(rate_hz=self.rate_hz)
        return Contract(
            rate_hz=self.rate_hz, camera=self.image.camera, encodings=self.image.encodings
        )


@dataclass(frozen=True, kw_only=True)
class ActionField:
    """One action: the actor's own range maps linearly onto [``low``, ``high``] [``unit``]."""

    name: str
    unit: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class OutputContract:
    """What the policy's answer means."""

    actions: tuple[ActionField, ...]
    twist_convention: str | None


@dataclass(frozen=True, kw_only=True)
class WeightsFile:
    """The file that holds the weights, byte for byte."""

    file: str
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True)
class CreatedBy:
    """Versions of the software that wrote the checkpoint."""

    td3_agent: str
    torch: str
    numpy: str


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """All that is known of a checkpoint besides its weights.

    Attributes:
        schema: version of this format.
        kind: one of :data:`KINDS`.
        trained: whether the weights come from training.
        training: free notes of the trainer (task, seed, steps, settings), plain JSON.
    """

    schema: int
    kind: str
    trained: bool
    created_by: CreatedBy
    inputs: InputContract
    outputs: OutputContract
    actor: ActorConfig
    weights: WeightsFile
    training: dict[str, Any]

    @property
    def observation_spec(self) -> ObservationSpec:
        """Settings of the observation builder that this policy needs.

        Raises:
            ValueError: the policy takes no image; one of kind 'driving' always does.
        """
        if self.inputs.image is None:
            raise ValueError(f'a policy of kind {self.kind!r} takes no image')
        # A driving policy sees its route exactly where its state has more than the vehicle's own.
        return replace(self.inputs.image.observation_spec(), path=_has_path(self.inputs.state))


def _has_path(state: tuple[StateField, ...]) -> bool:
    return len(state) > STATE_SIZE


def driving_inputs(
    spec: ObservationSpec | None = None, rate_hz: float = 20.0, camera: CameraView | None = None
) -> InputContract:
    """Return the input contract of a policy that drives from camera and odometry."""
    spec = spec or ObservationSpec()
    settings = asdict(spec)
    has_path = settings.pop('path')
    image = ImageContract(encodings=tuple(ENCODINGS), camera=camera, **settings)
    state: tuple[StateField, ...] = (
        StateField(name='speed', unit='m/s', scale=CONTROL_MAX_SPEED_MPS),
        StateField(name='yaw_rate', unit='rad/s'),
        StateField(name='previous_action_0', unit='1'),
        StateField(name='previous_action_1', unit='1'),
    )
    if has_path:
        state += tuple(
            StateField(name=f'route_{axis}_{i}', unit='m', scale=PATH_SCALE_M)
            for i in range(PATH_POINTS)
            for axis in ('x', 'y')
        )
    return InputContract(image=image, state=state, rate_hz=rate_hz)


def driving_outputs() -> OutputContract:
    """Return the output contract of every driving policy."""
    limit = CONTROL_MAX_YAW_RATE_RADPS
    actions = (
        ActionField(name='linear_x', unit='m/s', low=0.0, high=CONTROL_MAX_SPEED_MPS),
        ActionField(name='angular_z', unit='rad/s', low=-limit, high=limit),
    )
    return OutputContract(actions=actions, twist_convention=TwistConvention.VELOCITY.value)


def save_checkpoint(  # noqa: PLR0913  the parts of a manifest
    path: str | os.PathLike[str],
    actor: Actor,
    *,
    kind: str,
    trained: bool,
    inputs: InputContract,
    outputs: OutputContract,
    training: dict[str, Any] | None = None,
) -> Manifest:
    """Write a checkpoint whole or not at all.

    It is written beside its place, forced to disk, read back and checked, and only then moved;
    an older checkpoint there is replaced in one step and stays as it was when anything fails.

    Args:
        path: the directory to be; its parent must exist.
        actor: the network whose weights are saved.
        kind: one of :data:`KINDS`.
        trained: whether the weights come from training.
        inputs: what the policy must be given.
        outputs: what its answer means.
        training: free notes, plain JSON.

    Returns:
        The manifest as it was written.

    Raises:
        CheckpointError: it would be refused when loaded, cannot be written, or something that
            is no checkpoint stands in its place.
    """
    target = Path(path)
    tensors = {name: t.detach().cpu().contiguous() for name, t in actor.state_dict().items()}
    data = safetensors.torch.save(tensors)
    manifest = Manifest(
        schema=SCHEMA,
        kind=kind,
        trained=trained,
        created_by=_versions(),
        inputs=inputs,
        outputs=outputs,
        actor=actor.config,
        weights=WeightsFile(
            file=WEIGHTS_NAME, sha256=hashlib.sha256(data).hexdigest(), bytes=len(data)
        ),
        training=training or {},
    )
    try:
        text = json.dumps(asdict(manifest), indent=2, allow_nan=False) + '\n'
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(target, [f'{MANIFEST_NAME}: {error}']) from error
    _refuse_foreign(target)
    files = {WEIGHTS_NAME: data, MANIFEST_NAME: text.encode()}
    try:
        return _write_checked(target, files)
    except OSError as error:
        raise CheckpointError(target, [f'cannot be written: {error}']) from error


def load_checkpoint(
    path: str | os.PathLike[str], *, kind: str | None = None, device: str = 'cpu'
) -> tuple[Policy, Manifest]:
    """Read, check and rebuild a policy; nothing in the checkpoint is executed.

    Args:
        path: the checkpoint directory.
        kind: the only kind wanted, or None for any.
        device: torch device that will compute.

    Raises:
        CheckpointError: naming every fault that was found.
    """
    with _directory(path) as folder:
        manifest = _load_manifest(folder, kind)
        actor = _load_actor(folder, manifest)
    try:
        return Policy(actor, trained=manifest.trained, device=device), manifest
    except PolicyError as error:
        raise CheckpointError(path, [f'{WEIGHTS_NAME}: {error}']) from error


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Read and check the manifest alone.

    Raises:
        CheckpointError: naming every fault that was found.
    """
    with _directory(path) as folder:
        return _load_manifest(folder, None)


def read_beside(path: str | os.PathLike[str], name: str, limit_bytes: int) -> bytes:
    """Read another file of a checkpoint directory, as carefully as its own.

    Raises:
        CheckpointError: missing, a link, no regular file, empty, open to everyone, or larger
            than ``limit_bytes``.
    """
    with _directory(path) as folder, folder.file(name) as (handle, size):
        if size > limit_bytes:
            raise folder.refused(f'{name}: {size} bytes, expected <= {limit_bytes} bytes')
        return _read_exactly(handle, size)


def read_record(path: str | os.PathLike[str], name: str, kind: type[RecordT]) -> RecordT:
    """Read a JSON file of a checkpoint directory into the dataclass ``kind``.

    Raises:
        CheckpointError: naming every field that does not fit.
    """
    try:
        content = _strict_json(read_beside(path, name, MAX_MANIFEST_BYTES))
    except CheckpointError:
        raise
    except (ValueError, RecursionError) as error:
        raise CheckpointError(path, [f'{name}: not valid JSON: {error}']) from error
    faults: list[str] = []
    record: RecordT = _decode(kind, content, '', faults)
    if faults:
        raise CheckpointError(path, [f'{name}: {fault}' for fault in faults])
    return record


# ---- Writing ------------------------------------------------------------------------------------


def _versions() -> CreatedBy:
    try:
        own = importlib.metadata.version('td3_agent')
    except importlib.metadata.PackageNotFoundError:
        own = 'unknown'  # run from a source tree
    return CreatedBy(td3_agent=own, torch=torch.__version__, numpy=np.__version__)


def _refuse_foreign(target: Path) -> None:
    """Never replace something that is not a checkpoint.

    Raises:
        CheckpointError: a file, a link or a directory of something else stands there.
    """
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_dir():
        raise CheckpointError(target, ['a file or link stands there, expected a directory'])
    if any(target.iterdir()) and not (target / MANIFEST_NAME).exists():
        raise CheckpointError(target, [f'a directory without {MANIFEST_NAME} stands there'])


def _write_checked(target: Path, files: dict[str, bytes]) -> Manifest:
    """Write the files to a neighbour directory, read them back, and move it into place."""
    beside = target.parent / f'.{target.name}.{secrets.token_hex(4)}.tmp'
    beside.mkdir(mode=0o755)
    try:
        for name, data in files.items():
            _write_synced(beside / name, data)
        _sync_directory(beside)
        try:
            _, manifest = load_checkpoint(beside)
        except CheckpointError as error:
            raise CheckpointError(target, list(error.faults)) from error
        _move_into_place(beside, target)
        _sync_directory(target.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)  # after a swap this is the old checkpoint
    return manifest


def _write_synced(path: Path, data: bytes) -> None:
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    with os.fdopen(handle, 'wb') as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _move_into_place(beside: Path, target: Path) -> None:
    """Rename, or exchange with an older checkpoint; at no instant is there half of one."""
    try:
        beside.rename(target)  # also over an empty directory
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
            raise
    else:
        return
    if not _exchange(beside, target):
        _replace_in_two_steps(beside, target)


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories in one step; False where kernel or file system cannot."""
    if not sys.platform.startswith('linux'):
        return False
    rename = getattr(ctypes.CDLL(None, use_errno=True), 'renameat2', None)
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE of linux/fs.h
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def _replace_in_two_steps(beside: Path, target: Path) -> None:
    """Move the old checkpoint aside first; it is put back when the new one cannot follow."""
    aside = beside.with_suffix('.old')
    target.rename(aside)
    try:
        beside.rename(target)
    except OSError:
        aside.rename(target)
        raise
    shutil.rmtree(aside, ignore_errors=True)


# ---- Reading files ------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Folder:
    """An open checkpoint directory: files are opened in it, never by a path of their own."""

    path: str | os.PathLike[str]
    handle: int

    def refused(self, *faults: str) -> CheckpointError:
        return CheckpointError(self.path, list(faults))

    @contextmanager
    def file(self, name: str) -> Iterator[tuple[int, int]]:
        """Open one regular file; yields (descriptor, size [bytes]).

        Raises:
            CheckpointError: missing, a link, no regular file, empty, or open to everyone.
        """
        # O_NONBLOCK: a pipe in the place of the file must not block.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            handle = os.open(name, flags, dir_fd=self.handle)
        except OSError as error:
            is_link = error.errno == errno.ELOOP
            what = 'is a symbolic link, expected a regular file' if is_link else error.strerror
            if name == MANIFEST_NAME and error.errno == errno.ENOENT:
                path = Path(self.path)
                what = f'{what}{if_bag(path) or did_you_mean(path, POLICY_FILES)}'
            raise self.refused(f'{name}: {what}') from error
        try:
            status = os.fstat(handle)
            if faults := _status_faults(name, status):
                raise self.refused(*faults)
            if os.pread(handle, len(LFS_HEAD), 0) == LFS_HEAD:
                raise self.refused(f'{name}: {IS_LFS}')
            yield handle, status.st_size
        finally:
            os.close(handle)


@contextmanager
def _directory(path: str | os.PathLike[str]) -> Iterator[_Folder]:
    """Open a checkpoint directory.

    Raises:
        CheckpointError: it is no directory, is open to everyone, or holds pickles.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise CheckpointError(path, [_not_a_directory(Path(path), error)]) from error
    try:
        faults = []
        if os.fstat(handle).st_mode & stat.S_IWOTH:
            faults.append(f'the directory is {OPEN}')
        faults += [
            f'{name}: {_pickle_text(name)}'
            for name in sorted(os.listdir(handle))  # noqa: PTH208  by descriptor
            if Path(name).suffix.lower() in PICKLE_SUFFIXES
        ]
        if faults:
            raise CheckpointError(path, faults)
        yield _Folder(path, handle)
    finally:
        os.close(handle)


def _not_a_directory(path: Path, error: OSError | ValueError) -> str:
    if path.suffix.lower() in PICKLE_SUFFIXES:
        return _pickle_text(path.name)
    reason = error.strerror if isinstance(error, OSError) else str(error)
    meant = if_policy(path) or if_bag(path) if path.is_file() else ''
    return f'{reason}, expected a directory with {MANIFEST_NAME} and {WEIGHTS_NAME}{meant}'


def _pickle_text(name: str) -> str:
    return (
        f'a {Path(name).suffix} file can hold a pickle, and a pickle can run any code:'
        f' it is never opened, expected {WEIGHTS_NAME}'
    )


def _status_faults(name: str, status: os.stat_result) -> list[str]:
    if not stat.S_ISREG(status.st_mode):
        return [f'{name}: not a regular file']
    faults = []
    if status.st_mode & stat.S_IWOTH:
        faults.append(f'{name}: {OPEN}')
    if status.st_size == 0:
        faults.append(f'{name}: empty (0 bytes)')
    return faults


def _read_exactly(handle: int, size: int) -> bytes:
    """Return up to ``size`` bytes; fewer when the file shrank meanwhile."""
    parts = []
    while size > 0 and (part := os.read(handle, min(size, 1 << 20))):
        parts.append(part)
        size -= len(part)
    return b''.join(parts)


# ---- Reading the manifest -----------------------------------------------------------------------


def _load_manifest(folder: _Folder, kind: str | None) -> Manifest:
    with folder.file(MANIFEST_NAME) as (handle, size):
        if size > MAX_MANIFEST_BYTES:
            limit = f'expected <= {MAX_MANIFEST_BYTES} bytes'
            raise folder.refused(f'{MANIFEST_NAME}: {size} bytes, {limit}')
        data = _read_exactly(handle, size)
    try:
        content = _strict_json(data)
    except (ValueError, RecursionError) as error:
        raise folder.refused(f'{MANIFEST_NAME}: not valid JSON: {error}') from error
    faults: list[str] = []
    _refuse_other_schema(folder, content)
    manifest = _decode(Manifest, content, '', faults)
    if not faults:
        faults = _contract_faults(manifest)
        if kind is not None and manifest.kind != kind:
            faults.append(f'kind is {manifest.kind!r}, expected {kind!r}')
    if faults:
        raise folder.refused(*(f'{MANIFEST_NAME}: {fault}' for fault in faults))
    checked: Manifest = manifest
    return checked


def _refuse_other_schema(folder: _Folder, content: object) -> None:
    """Name another schema alone: its fields are not known here."""
    found = content.get('schema', SCHEMA) if isinstance(content, dict) else SCHEMA
    if type(found) is not int or found != SCHEMA:
        raise folder.refused(f'{MANIFEST_NAME}: schema is {_short(found)}, expected {SCHEMA}')


def _strict_json(data: bytes) -> object:
    """Parse JSON without what only Python understands: NaN, Infinity, repeated keys."""

    def unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError('an object has a key twice')
        return dict(pairs)

    def refuse(name: str) -> None:
        raise ValueError(f'{name} is not JSON')

    content: object = json.loads(
        data.decode(), object_pairs_hook=unique, parse_constant=refuse, parse_float=_finite
    )
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f'number {text[:20]} is beyond every float')
    return number


def _decode(kind: Any, value: Any, where: str, faults: list[str]) -> Any:  # noqa: ANN401
    """Turn parsed JSON into ``kind``, noting in ``faults`` whatever does not fit.

    Returns:
        The decoded value, or None after a fault.
    """
    if is_dataclass(kind):
        return _decode_dataclass(kind, value, where, faults)
    if get_origin(kind) is UnionType:
        inner = next(arg for arg in get_args(kind) if arg is not type(None))
        return None if value is None else _decode(inner, value, where, faults)
    if get_origin(kind) is tuple:
        return _decode_tuple(get_args(kind), value, where, faults)
    if get_origin(kind) is dict:
        kind = dict
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    if type(value) is kind:
        return value
    faults.append(f'{where} is {_short(value)}, expected {_JSON_NAMES[kind]}')
    return None


_JSON_NAMES = {
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    bool: 'true or false',
    dict: 'an object',
}


def _decode_dataclass(kind: Any, value: Any, where: str, faults: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        faults.append(f'{where or "content"} is {_short(value)}, expected an object')
        return None
    hints, known = get_type_hints(kind), [field.name for field in fields(kind)]
    optional = {field.name for field in fields(kind) if field.default is None}
    prefix = f'{where}.' if where else ''
    before = len(faults)
    faults += [f'{prefix}{_short(n)} is unknown' for n in sorted(value.keys() - set(known))]
    faults += [
        f'{prefix}{name} is missing' for name in known if name not in value.keys() | optional
    ]
    decoded = {
        name: _decode(hints[name], value[name], prefix + name, faults)
        for name in known
        if name in value
    }
    if len(faults) > before:
        return None
    try:
        return kind(**decoded)
    except ValueError as error:
        faults.append(f'{where}: {error}')
        return None


def _decode_tuple(kinds: tuple[Any, ...], value: Any, where: str, faults: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(value, list):
        faults.append(f'{where} is {_short(value)}, expected a list')
        return None
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    elif len(value) != len(kinds):
        faults.append(f'{where} has {len(value)} elements, expected {len(kinds)}')
        return None
    return tuple(
        _decode(kind, item, f'{where}[{i}]', faults)
        for i, (kind, item) in enumerate(zip(kinds, value, strict=True))
    )


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'


# ---- Contracts ----------------------------------------------------------------------------------


def _contract_faults(manifest: Manifest) -> list[str]:
    """Name where the parts of a manifest contradict each other or this software."""
    faults = _expect('kind', manifest.kind, KINDS, lambda value, known: value in known)
    faults += _weights_faults(manifest.weights)
    faults += _shape_faults(manifest)
    faults += _range_faults(manifest)
    if manifest.kind == DRIVING:
        faults += _driving_faults(manifest)
    return faults


def _expect(
    where: str,
    value: object,
    expected: Any,  # noqa: ANN401
    holds: Callable[[Any, Any], bool] = lambda value, expected: bool(value == expected),
) -> list[str]:
    if holds(value, expected):
        return []
    return [f'{where} is {_short(value)}, expected {expected}']


def _weights_faults(weights: WeightsFile) -> list[str]:
    faults = _expect('weights.file', weights.file, WEIGHTS_NAME)
    if not re.fullmatch('[0-9a-f]{64}', weights.sha256):
        faults.append(f'weights.sha256 is {_short(weights.sha256)}, expected 64 hex digits')
    if not 0 < weights.bytes <= MAX_WEIGHTS_BYTES:
        faults.append(f'weights.bytes is {weights.bytes}, expected 1 to {MAX_WEIGHTS_BYTES}')
    return faults


def _shape_faults(manifest: Manifest) -> list[str]:
    image, actor = manifest.inputs.image, manifest.actor
    stack = (
        None if image is None else (image.frame_stack, image.image_height_px, image.image_width_px)
    )
    return [
        *_expect('actor.image_shape', actor.image_shape, stack),
        *_expect('actor.state_size', actor.state_size, len(manifest.inputs.state)),
        *_expect(
            'length of actor.action_low', len(actor.action_low), len(manifest.outputs.actions)
        ),
    ]


def _range_faults(manifest: Manifest) -> list[str]:
    rate_hz = manifest.inputs.rate_hz
    faults = []
    if rate_hz is not None and not 0.0 < rate_hz <= 1000.0:
        faults.append(f'inputs.rate_hz is {rate_hz}, expected > 0 and <= 1000 [Hz]')
    faults += [
        f'inputs.state[{i}].scale is {field.scale}, expected > 0'
        for i, field in enumerate(manifest.inputs.state)
        if not field.scale > 0.0
    ]
    faults += [
        f'outputs.actions[{i}].low is {field.low}, expected < high = {field.high}'
        for i, field in enumerate(manifest.outputs.actions)
        if not field.low < field.high
    ]
    if manifest.inputs.image is not None:
        try:
            manifest.inputs.image.observation_spec()
        except ValueError as error:
            faults.append(f'inputs.image: {error}')
    return faults


def _driving_faults(manifest: Manifest) -> list[str]:
    """Name where a driving policy means something else than this software does."""
    actor, outputs = manifest.actor, driving_outputs()
    expected = driving_inputs(ObservationSpec(path=_has_path(manifest.inputs.state)))
    faults = _expect('inputs.state', manifest.inputs.state, expected.state)
    faults += _expect('outputs.actions', manifest.outputs.actions, outputs.actions)
    faults += _expect(
        'outputs.twist_convention', manifest.outputs.twist_convention, outputs.twist_convention
    )
    ones = tuple(1.0 for _ in outputs.actions)
    faults += _expect('actor.action_high', actor.action_high, ones)
    faults += _expect('actor.action_low', actor.action_low, tuple(-one for one in ones))
    image = manifest.inputs.image
    if image is None:
        return [*faults, 'inputs.image is None, expected an image for driving']
    faults += _expect('inputs.image.colour', image.colour, COLOUR)
    faults += _expect('inputs.image.normalisation', image.normalisation, NORMALISATION)
    if not image.encodings or not set(image.encodings) <= set(ENCODINGS):
        known = ', '.join(ENCODINGS)
        faults.append(f'inputs.image.encodings is {_short(image.encodings)}, expected of {known}')
    if manifest.inputs.rate_hz is None:
        faults.append('inputs.rate_hz is None, expected a rate [Hz] for driving')
    return faults


# ---- Reading the weights ------------------------------------------------------------------------


def _load_actor(folder: _Folder, manifest: Manifest) -> Actor:
    """Return the actor with its weights; memory is taken only after all sizes agree."""
    shapes = tensor_shapes(manifest.actor)
    data = _read_weights(folder, manifest, shapes)
    faults = []
    digest = hashlib.sha256(data).hexdigest()
    if digest != manifest.weights.sha256:
        faults.append(f'SHA-256 is {digest}, expected {manifest.weights.sha256}')
    faults += _header_faults(data, shapes)
    if faults:
        raise folder.refused(*(f'{WEIGHTS_NAME}: {fault}' for fault in faults))
    try:
        tensors = safetensors.torch.load(data)
    except safetensors.SafetensorError as error:
        raise folder.refused(f'{WEIGHTS_NAME}: {error}') from error
    if faults := _not_finite(tensors):
        raise folder.refused(*(f'{WEIGHTS_NAME}: {fault}' for fault in faults))
    with torch.random.fork_rng(devices=[]):
        actor = Actor(manifest.actor)
    actor.load_state_dict(tensors, strict=True)
    return actor


def _read_weights(
    folder: _Folder, manifest: Manifest, shapes: dict[str, tuple[int, ...]]
) -> bytes:
    """Return the whole file, once its size fits both the manifest and the architecture."""
    needed = FLOAT32_BYTES * sum(math.prod(shape) for shape in shapes.values())
    with folder.file(WEIGHTS_NAME) as (handle, size):
        faults = []
        if size != manifest.weights.bytes:
            faults.append(f'{size} bytes, expected {manifest.weights.bytes}')
        if not needed < size <= needed + MAX_HEADER_BYTES:
            faults.append(f'{size} bytes, but the architecture needs {needed} and a header')
        if faults:
            raise folder.refused(*(f'{WEIGHTS_NAME}: {fault}' for fault in faults))
        return _read_exactly(handle, size)


def _header_faults(data: bytes, shapes: dict[str, tuple[int, ...]]) -> list[str]:
    """Compare the safetensors header with the tensors that the architecture has.

    Format: 8 bytes little-endian header length, JSON header, tensors without gaps.
    """
    length = int.from_bytes(data[:8], 'little')
    if not 0 < length <= min(MAX_HEADER_BYTES, len(data) - 8):
        return [f'header length is {length}, expected 1 to {MAX_HEADER_BYTES}']
    try:
        header = _strict_json(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        return [f'header is not valid JSON: {error}']
    if not isinstance(header, dict):
        return [f'header is {_short(header)}, expected an object']
    entries = {name: entry for name, entry in header.items() if name != '__metadata__'}
    foreign = sorted(entries.keys() - shapes.keys())
    faults = [f'tensor {_short(name)} is not part of the actor' for name in foreign]
    faults += [f'tensor {name} is missing' for name in shapes if name not in entries]
    for name, shape in shapes.items():
        if name in entries:
            faults += _entry_faults(name, entries[name], shape)
    return faults or _offset_faults(entries, len(data) - 8 - length)


def _entry_faults(name: str, entry: object, shape: tuple[int, ...]) -> list[str]:
    if not isinstance(entry, dict) or entry.keys() != {'dtype', 'shape', 'data_offsets'}:
        return [f'tensor {name} is {_short(entry)}, expected dtype, shape and data_offsets']
    faults = _expect(f'dtype of {name}', entry['dtype'], 'F32')
    return faults + _expect(f'shape of {name}', entry['shape'], list(shape))


def _offset_faults(entries: dict[str, Any], size: int) -> list[str]:
    """Check that the tensors follow each other without gap or overlap."""
    end = 0
    try:
        for name, entry in sorted(entries.items(), key=lambda item: item[1]['data_offsets']):
            length = FLOAT32_BYTES * math.prod(entry['shape'])
            if entry['data_offsets'] != [end, end + length]:
                given = _short(entry['data_offsets'])
                return [f'data_offsets of {name} is {given}, expected {[end, end + length]}']
            end += length
    except TypeError:
        return ['data_offsets are not all lists of two numbers']
    return [] if end == size else [f'tensors end at byte {end}, the data at byte {size}']


def _not_finite(tensors: dict[str, torch.Tensor]) -> list[str]:
    return [
        f'tensor {name} holds {int((~torch.isfinite(tensor)).sum())} values that are not finite'
        for name, tensor in tensors.items()
        if not bool(torch.isfinite(tensor).all())
    ]

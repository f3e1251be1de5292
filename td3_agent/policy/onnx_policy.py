# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The policy under ONNX Runtime: the same answers in a fraction of PyTorch's time.

An export is two more files beside a policy: for ``lane.safetensors`` these are ``lane.onnx``, and
``lane.onnx.json``, which says from which weights it was made and how far its answers were from
PyTorch's. It is written only where they agree, and refused where weights or export have changed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import hashlib
import importlib
import json
import math
import os
from pathlib import Path
import tempfile
from typing import TYPE_CHECKING, Any
import warnings

import numpy as np
import torch

from td3_agent.policy.checkpoint import load_checkpoint, replace_file
from td3_agent.policy.policy import Policy
from td3_agent.policy.policy_file import (
    MAX_HEADER_BYTES,
    MAX_WEIGHTS_BYTES,
    CheckpointError,
    decoded,
    opened,
    read_exactly,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from td3_agent.policy.manifest import ActorConfig, Manifest
    from td3_agent.policy.policy import Actor

    Inputs = tuple[NDArray[np.float32], NDArray[np.uint8] | None]

SCHEMA = 1
OPSET = 17  # the first with LayerNormalization; ONNX Runtime 1.12 and later
# Largest difference of an action from PyTorch's, as a share of half its range. Both compute in
# float32 and sum in different orders: some 1e-6 is the rule.
TOLERANCE = 1e-4
RANDOM_OBSERVATIONS = 64
SPOT_CHECKS = 8  # of them, at every start
EXPORT_SEED = 0
EDGE_STATES = (0.0, 1.0, -1.0, 10.0, -10.0, 100.0, -100.0)
EDGE_LEVELS = (0, 255, 0, 128, 255, 1, 254)


@dataclass(frozen=True, kw_only=True)
class OnnxRecord:
    """What is known of an export.

    Attributes:
        schema: version of this format.
        weights_sha256: the weights it was made from, as the manifest names them.
        onnx_sha256: the export itself.
        opset: version of the ONNX operators.
        observations: how many were answered by both, random ones and edges.
        tolerance: largest allowed difference, as a share of half an action's range.
        largest_difference: largest difference that was found, in the same unit.
        torch: version that exported.
        onnxruntime: version that was compared.
    """

    schema: int
    weights_sha256: str
    onnx_sha256: str
    opset: int
    observations: int
    tolerance: float
    largest_difference: float
    torch: str
    onnxruntime: str


class OnnxPolicy(Policy):
    """A policy whose network runs under ONNX Runtime, on one thread."""

    def __init__(self, actor: Actor, model: bytes, *, trained: bool) -> None:
        """Take over an actor and its export, and warm up.

        Args:
            actor: the network that was exported; it says what fits and what is compared.
            model: its export.
            trained: whether the weights come from training; for the reader of a report.

        Raises:
            ValueError: the model cannot be loaded, or has other inputs or outputs.
            PolicyError: a weight is not finite.
        """
        self._session = _session(model, actor.config)
        super().__init__(actor, trained=trained)

    def _answer(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        feeds: dict[str, NDArray[Any]] = {'state': state[np.newaxis]}
        if image is not None:
            feeds['image'] = image[np.newaxis]
        answer: NDArray[np.float32] = self._session.run(None, feeds)[0][0]
        return answer


# ---- Reading ------------------------------------------------------------------------------------


def load_onnx_policy(
    path: str | os.PathLike[str], *, kind: str | None = None
) -> tuple[OnnxPolicy, Manifest]:
    """Read and check a checkpoint and its export.

    Args:
        path: the file of the policy.
        kind: the only kind wanted, or None for any.

    Raises:
        CheckpointError: naming what is wrong with the checkpoint, or with its export: missing,
            made from other weights, changed, or answering differently than PyTorch.
        ValueError: ONNX Runtime is not installed.
    """
    _library('onnxruntime')
    policy, manifest = load_checkpoint(path, kind=kind)
    if not record_file(path).exists():
        raise CheckpointError(path, [f'{record_file(path)}: missing; {_export_again(path)}'])
    model = _read(onnx_file(path), MAX_WEIGHTS_BYTES)
    try:
        _refuse_other(_read(record_file(path), MAX_HEADER_BYTES), manifest, model)
        onnx_policy = OnnxPolicy(policy.actor, model, trained=policy.trained)
        _refuse_different(policy, onnx_policy, SPOT_CHECKS)
    except ValueError as error:
        raise CheckpointError(path, [f'export: {error}', _export_again(path)]) from error
    return onnx_policy, manifest


def onnx_file(policy: str | os.PathLike[str]) -> Path:
    """Return where the export of a policy is."""
    return Path(policy).with_suffix('.onnx')


def record_file(policy: str | os.PathLike[str]) -> Path:
    """Return where the record of the export of a policy is."""
    return Path(policy).with_suffix('.onnx.json')


def _read(path: Path, limit_bytes: int) -> bytes:
    with opened(path) as (handle, size):
        if size > limit_bytes:
            raise CheckpointError(path, [f'{size} bytes, expected <= {limit_bytes} bytes'])
        return read_exactly(handle, size)


def _refuse_other(text: bytes, manifest: Manifest, model: bytes) -> None:
    """Refuse an export that does not belong to these weights, by its record.

    Raises:
        ValueError: naming what differs.
    """
    record: OnnxRecord = decoded(text, OnnxRecord)
    if record.schema != SCHEMA:
        raise ValueError(f'schema is {record.schema}, expected {SCHEMA}')
    if record.weights_sha256 != manifest.weights_sha256:
        raise ValueError(
            f'stale, exported from weights {record.weights_sha256[:12]}, '
            f'expected {manifest.weights_sha256[:12]}'
        )
    digest = hashlib.sha256(model).hexdigest()
    if digest != record.onnx_sha256:
        raise ValueError(f'SHA-256 is {digest}, expected {record.onnx_sha256}')


def _export_again(path: str | os.PathLike[str]) -> str:
    return f'"td3_agent export {os.fspath(path)}" makes it'


def _session(model: bytes, config: ActorConfig) -> Any:  # noqa: ANN401  an optional library's
    """Return a session on one thread.

    Raises:
        ValueError: the model cannot be loaded, or has other inputs or outputs.
    """
    runtime = _library('onnxruntime')
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3  # errors
    try:
        session = runtime.InferenceSession(model, options, providers=['CPUExecutionProvider'])
    except Exception as error:  # the library raises as it likes
        raise ValueError(f'ONNX Runtime refused it: {error}') from error
    found = {entry.name: entry.shape for entry in (*session.get_inputs(), *session.get_outputs())}
    expected = {'state': [1, config.state_size], 'action': [1, len(config.action_low)]}
    if config.image_shape is not None:
        expected['image'] = [1, *config.image_shape]
    if found != expected:
        raise ValueError(f'inputs and outputs are {found}, expected {expected}')
    return session


def _library(name: str) -> Any:  # noqa: ANN401  a module
    """Import an optional library.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f'inference by ONNX needs the package {name}, which is not installed: '
            '"pip install onnx onnxruntime"'
        ) from error


# ---- Writing ------------------------------------------------------------------------------------


def export_policy(path: str | os.PathLike[str]) -> OnnxRecord:
    """Export a policy, compare, and write both files beside it.

    Returns:
        What was recorded.

    Raises:
        CheckpointError: the checkpoint was refused, or the export answers differently.
        ValueError: a library is not installed.
    """
    for name in ('onnx', 'onnxruntime'):
        _library(name)
    policy, manifest = load_checkpoint(path)
    model = onnx_model(policy.actor)
    try:
        onnx_policy = OnnxPolicy(policy.actor, model, trained=policy.trained)
        difference, observations = _refuse_different(policy, onnx_policy, RANDOM_OBSERVATIONS)
    except ValueError as error:
        raise CheckpointError(path, [f'not exported: {error}']) from error
    record = OnnxRecord(
        schema=SCHEMA,
        weights_sha256=manifest.weights_sha256,
        onnx_sha256=hashlib.sha256(model).hexdigest(),
        opset=OPSET,
        observations=observations,
        tolerance=TOLERANCE,
        largest_difference=difference,
        torch=str(torch.__version__),
        onnxruntime=_library('onnxruntime').__version__,
    )
    # In this order: with half of an export in place the digests do not match.
    replace_file(onnx_file(path), model)
    replace_file(record_file(path), json.dumps(asdict(record), indent=2).encode() + b'\n')
    return record


def onnx_model(actor: Actor) -> bytes:
    """Return an actor as an ONNX model for one observation at a time.

    Inputs ``state`` (1, state_size) float32 and, where the actor has eyes, ``image`` (1, C, H, W)
    uint8; output ``action`` (1, actions) float32.
    """
    config = actor.config
    names, example = ['state'], [torch.zeros(1, config.state_size)]
    if config.image_shape is not None:
        names.append('image')
        example.append(torch.zeros((1, *config.image_shape), dtype=torch.uint8))
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # The exporter that needs no further package is called legacy, and traces with warnings.
        warnings.simplefilter('ignore')
        path = Path(folder) / 'policy.onnx'
        torch.onnx.export(
            actor,
            tuple(example),
            path,
            input_names=names,
            output_names=['action'],
            opset_version=OPSET,
            dynamo=False,
        )
        return path.read_bytes()


def _refuse_different(one: Policy, other: Policy, count: int) -> tuple[float, int]:
    """Return (largest difference of actions, as a share of half their range; observations).

    Raises:
        ValueError: it is beyond :data:`TOLERANCE`; the text has the observation.
    """
    config = one.config
    half_range = (np.array(config.action_high) - np.array(config.action_low)) / 2.0
    largest, number = 0.0, 0
    for number, (state, image) in enumerate(sample_observations(config, count), start=1):
        answers = one.action(state, image), other.action(state, image)
        difference = float(np.max(np.abs(answers[0] - answers[1]) / half_range))
        if not difference <= TOLERANCE:  # written so that NaN fails too
            raise ValueError(
                f'observation {number} is answered {answers[1].tolist()}, by PyTorch '
                f'{answers[0].tolist()}: {difference:.2g} of half the range, '
                f'expected <= {TOLERANCE:g}'
            )
        largest = max(largest, difference)
    return largest, number


def sample_observations(config: ActorConfig, count: int) -> Iterator[Inputs]:
    """Yield observations of a network: the edges of what it may see, then ``count`` at random."""
    rng = np.random.default_rng(EXPORT_SEED)
    size, shape = config.state_size, config.image_shape or (0,)

    def pair(state: NDArray[Any], image: NDArray[Any]) -> Inputs:
        pixels = None if config.image_shape is None else image.astype(np.uint8)
        return state.astype(np.float32), pixels

    for value, level in zip(EDGE_STATES, EDGE_LEVELS, strict=True):
        yield pair(np.full(size, value), np.full(shape, level))
    ramp = np.arange(math.prod(shape)).reshape(shape) % 256
    yield pair(np.zeros(size), ramp)
    yield pair(np.zeros(size), 255 - np.flip(ramp))
    for _ in range(count):
        yield pair(rng.normal(0.0, 1.0, size), rng.integers(0, 256, shape))

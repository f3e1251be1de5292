# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: writes an actor with its manifest to one file, and rebuilds a policy from it.

A file is written to a temporary name, synced to disk, read back, and renamed.
"""

from __future__ import annotations

from dataclasses import asdict, replace
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import safetensors.torch
import torch

from td3_agent.files import POLICY_SUFFIX, replace_file
from td3_agent.policy.manifest import SCHEMA, CreatedBy, InputContract, Manifest, OutputContract
from td3_agent.policy.network_driver import PolicyError
from td3_agent.policy.policy import Actor, Policy
from td3_agent.policy.policy_file import (
    LENGTH_BYTES,
    MANIFEST_KEY,
    CheckpointError,
    opened,
    read_all,
    read_manifest,
    read_policy,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from td3_agent.policy.policy_file import Weights


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
    """Write a checkpoint atomically; it replaces an older one.

    Args:
        path: of the new file, ``.safetensors``; its folder must exist.
        actor: the network whose weights are saved.
        kind: one of :data:`~td3_agent.policy.manifest.KINDS`.
        trained: whether the weights come from training.
        inputs: what the policy must be given.
        outputs: what its actions mean.
        training: notes, plain JSON.

    Returns:
        The manifest as it was written.

    Raises:
        CheckpointError: it would be rejected when loaded, cannot be written, or something that
            is no checkpoint is in its place.
    """
    manifest = Manifest(
        schema=SCHEMA,
        kind=kind,
        trained=trained,
        created_by=_versions(),
        inputs=inputs,
        outputs=outputs,
        actor=actor.config,
        weights_sha256='',
        training=training or {},
    )
    return write_checkpoint(path, actor.state_dict(), manifest)


def write_checkpoint(
    path: str | os.PathLike[str], weights: Mapping[str, Tensor], manifest: Manifest
) -> Manifest:
    """Write weights and their manifest; as :func:`save_checkpoint`.

    Returns:
        The manifest with the hash of the weights.
    """
    target = Path(path)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    plain = safetensors.torch.save(tensors)
    start = LENGTH_BYTES + int.from_bytes(plain[:LENGTH_BYTES], 'little')
    manifest = replace(manifest, weights_sha256=hashlib.sha256(plain[start:]).hexdigest())
    try:
        text = json.dumps(asdict(manifest), indent=2, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(target, [f'manifest: {error}']) from error
    _reject_foreign(target)
    try:
        replace_file(
            target, safetensors.torch.save(tensors, {MANIFEST_KEY: text}), _reject_unreadable
        )
    except CheckpointError as error:
        raise CheckpointError(target, list(error.faults)) from error
    except OSError as error:
        raise CheckpointError(target, [f'cannot be written: {error}']) from error
    return manifest


def load_checkpoint(
    path: str | os.PathLike[str], *, kind: str | None = None, device: str = 'cpu'
) -> tuple[Policy, Manifest]:
    """Read, check and rebuild a policy; nothing in the file is executed.

    Args:
        path: the file.
        kind: the only kind wanted, or None for any.
        device: torch device that will compute.

    Raises:
        CheckpointError: naming every fault that was found.
    """
    weights, manifest = read_policy(path, kind=kind)
    return build_policy(path, weights, manifest, device), manifest


def build_policy(
    path: str | os.PathLike[str], weights: Weights, manifest: Manifest, device: str = 'cpu'
) -> Policy:
    """Return the policy of weights that :func:`~td3_agent.policy.policy_file.read_policy` read.

    Args:
        path: the file, for error texts.
        weights: by name.
        manifest: of the file.
        device: torch device that will compute.

    Raises:
        CheckpointError: the actions of the network are not finite.
    """
    with torch.random.fork_rng(devices=[]):
        actor = Actor(manifest.actor)
    actor.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
    try:
        return Policy(actor, trained=manifest.trained, device=device)
    except PolicyError as error:
        raise CheckpointError(path, [str(error)]) from error


# ---- Writing ------------------------------------------------------------------------------------


def _versions() -> CreatedBy:
    try:
        own = importlib.metadata.version('td3_agent')
    except importlib.metadata.PackageNotFoundError:
        own = 'unknown'  # run from a source tree
    return CreatedBy(td3_agent=own, torch=torch.__version__, numpy=np.__version__)


def _reject_foreign(target: Path) -> None:
    """Reject a target that is not a checkpoint.

    Raises:
        CheckpointError: naming what is there.
    """
    if target.suffix != POLICY_SUFFIX:
        fault = f'its name ends in {target.suffix!r}, expected {POLICY_SUFFIX}'
        raise CheckpointError(target, [fault])
    if not os.path.lexists(target):
        return
    if target.is_symlink() or not target.is_file():
        raise CheckpointError(target, ['a folder or link is there, expected a file'])
    try:
        read_manifest(target)
    except CheckpointError as error:
        fault = f'a file that is no policy is there: {"; ".join(error.faults)}'
        raise CheckpointError(target, [fault]) from error


def _reject_unreadable(path: Path) -> None:
    with opened(path) as (handle, size):
        read_all(path, handle, size)

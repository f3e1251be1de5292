#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Makes one file of a policy that is a folder with ``manifest.json`` and ``actor.safetensors``.

``scripts/convert_policy.py train/best best.safetensors``. The new file is written only where its
policy answers sample observations as the old one does, bit for bit; the hash of these actions is
printed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING

import msgspec
import safetensors.torch

from td3_agent.policy.checkpoint import load_checkpoint, write_checkpoint
from td3_agent.policy.manifest import SCHEMA, Manifest
from td3_agent.policy.onnx_policy import sample_observations
from td3_agent.policy.policy import Actor, Policy

if TYPE_CHECKING:
    from torch import Tensor

OBSERVATIONS = 64


def read_folder(folder: Path) -> tuple[dict[str, Tensor], Manifest]:
    """Return weights and manifest of the old form.

    Raises:
        ValueError: a file is missing or damaged, or another version wrote it.
    """
    try:
        content = json.loads((folder / 'manifest.json').read_text(encoding='utf-8'))
        data = (folder / 'actor.safetensors').read_bytes()
        schema, weights = content.pop('schema'), content.pop('weights')
        digest = hashlib.sha256(data).hexdigest()
        expected = 1, weights['sha256']
        tensors = safetensors.torch.load(data)
        manifest = msgspec.convert(content | {'schema': SCHEMA, 'weights_sha256': ''}, Manifest)
    except (OSError, ValueError, LookupError, TypeError, safetensors.SafetensorError) as error:
        raise ValueError(f'{folder}: {type(error).__name__}: {error}') from error
    if (schema, digest) != expected:
        raise ValueError(f'{folder}: schema and SHA-256 are {schema, digest}, expected {expected}')
    return tensors, manifest


def actions_sha256(policy: Policy) -> str:
    """Return the hash of a policy's answers to edges and random observations."""
    digest = hashlib.sha256()
    for state, image in sample_observations(policy.config, OBSERVATIONS):
        digest.update(policy.action(state, image).tobytes())
    return digest.hexdigest()


def convert(folder: Path, file: Path) -> str:
    """Write the policy of a folder as one file; return the hash of its actions.

    Raises:
        ValueError: the folder was refused, or the file cannot be written.
    """
    weights, manifest = read_folder(folder)
    actor = Actor(manifest.actor)
    actor.load_state_dict(weights)
    before = actions_sha256(Policy(actor, trained=manifest.trained))
    write_checkpoint(file, weights, manifest)
    after = actions_sha256(load_checkpoint(file)[0])
    if before != after:
        file.unlink()
        raise ValueError(f'{file}: actions have SHA-256 {after}, those of {folder} {before}')
    return after


def main() -> int:
    """Convert one folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', type=Path, help='policy of two files')
    parser.add_argument('file', type=Path, help='policy to be written, .safetensors')
    args = parser.parse_args()
    try:
        digest = convert(args.folder, args.file)
    except ValueError as error:
        print(f'convert_policy: {error}', file=sys.stderr)
        return 1
    print(f'{args.file}: actions as before, SHA-256 {digest}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

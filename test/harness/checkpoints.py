# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints that tests write, and break."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import safetensors.torch
import torch

from td3_agent.policy.checkpoint import load_checkpoint, save_checkpoint
from td3_agent.policy.manifest import (
    DRIVING,
    DRIVING_ACTOR,
    ActorConfig,
    driving_inputs,
    driving_outputs,
)
from td3_agent.policy.policy import build_actor
from td3_agent.policy.policy_file import CheckpointError

SMALL = dataclasses.replace(DRIVING_ACTOR, conv=((4, 8, 4), (4, 4, 2)), features=4, hidden=(8,))
PENDULUM = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0,), action_high=(2.0,), hidden=(8,)
)
RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 256, (4, 84, 84), dtype=np.uint8)
STATE = np.array([0.5, 0.1, -1.0, 0.0], dtype=np.float32)
NAME = 'policy.safetensors'


def actor_of(config=SMALL, seed=0):
    return build_actor(config, torch.Generator().manual_seed(seed))


def save(path, actor=None, **changes):
    parts = {
        'kind': DRIVING,
        'trained': True,
        'inputs': driving_inputs(),
        'outputs': driving_outputs(),
        'training': {'steps': 1000, 'seed': 3},
    }
    return save_checkpoint(path, actor or actor_of(), **{**parts, **changes})


def rejection(path, **kwargs):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **kwargs)
    assert repr(str(path)) in str(caught.value)
    return '; '.join(caught.value.faults)


def parts_of(path):
    """Return header and tensors' bytes of a file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], 'little')
    return json.loads(data[8:end]), data[end:]


def write(path, header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + body)


def edit(path, change):
    """Change the manifest with ``change(content)`` and write it back."""
    header, body = parts_of(path)
    content = json.loads(header['__metadata__']['manifest'])
    change(content)
    header['__metadata__']['manifest'] = json.dumps(content)
    write(path, header, body)


def vouch(path):
    """Have the manifest vouch for the bytes that are there."""
    digest = hashlib.sha256(parts_of(path)[1]).hexdigest()
    edit(path, lambda content: content.update(weights_sha256=digest))


def set_tensors(path, tensors):
    """Put other tensors there, with a manifest that vouches for them."""
    manifest = parts_of(path)[0]['__metadata__']
    path.write_bytes(safetensors.torch.save(tensors, manifest))
    vouch(path)


def tensors_of(path):
    return safetensors.torch.load(path.read_bytes())


def nested(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Processor time of one update of the learner, beside another checkout's, in one process.

``--beside ../other`` takes turns, one update of each, on equal batches and one thread; a ratio is
the median over pairs of updates.
"""

from __future__ import annotations

import importlib
from pathlib import Path
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml

from benchmarks.harness import ROOT, check_least
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.td3.params import Td3Params

if TYPE_CHECKING:
    import argparse

WARM_UP = 4
LANE = yaml.safe_load((ROOT / 'config' / 'train_lane.yaml').read_text('utf-8'))
# Settings of TD3, sizes of an observation, and how many numbers are an action.
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    'pixels': (
        {key: value for key, value in LANE.items() if key in Td3Params.__dataclass_fields__},
        {
            'state_size': 4,
            'image_shape': (4, 84, 84),
            'frame_stack': 4,
            'privileged_size': 60,
            'expert_size': 2,
        },
        2,
    ),
    'vector': ({}, {'state_size': 17}, 6),  # those of HalfCheetah
}


def learner_of(root: Path, case: str) -> Any:  # noqa: ANN401  a class of either checkout
    """Return the learner of a checkout, whose modules are loaded apart from those of others."""
    settings, shape, actions = CASES[case]
    for name in [name for name in sys.modules if name.partition('.')[0] == 'td3_agent']:
        del sys.modules[name]
    sys.path.insert(0, str(root))
    try:
        learner, params, replay = (
            importlib.import_module(f'td3_agent.td3.{name}')
            for name in ('learner', 'params', 'replay')
        )
    finally:
        sys.path.remove(str(root))
    low, high = (-1.0,) * actions, (1.0,) * actions
    sizes = replay.ObservationShape(**shape)
    return learner.Learner(params.Td3Params(**settings), sizes, low, high, seed=0)


def batch_of(learner: Any, case: str, rng: np.random.Generator) -> Any:  # noqa: ANN401  as above
    """Return a random batch."""
    settings, shape, actions = CASES[case]
    size, image = settings.get('batch_size', 256), shape.get('image_shape')
    states = shape['state_size'] + shape.get('privileged_size', 0)

    def observed() -> tuple[Any, Any]:
        pixels = None if image is None else rng.integers(0, 256, (size, *image), np.uint8)
        return rng.normal(size=(size, states)).astype(np.float32), pixels

    (state, pixels), (next_state, next_pixels) = observed(), observed()
    action = rng.uniform(-1.0, 1.0, (size, actions)).astype(np.float32)
    reward, bootstrap = rng.normal(size=(2, size, 1)).astype(np.float32)
    return learner.batch(
        (state, pixels, action, reward, np.ones_like(bootstrap), next_state, next_pixels)
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--beside', type=Path, default=ROOT, help='root of another checkout')
    parser.add_argument('--updates', type=int, default=60, help='of each learner and case')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return the processor times [ms] of both, and the median of their ratios."""
    check_least(args, updates=2)
    torch.set_num_threads(1)
    keep_freed_memory()
    cases = {}
    for case in CASES:
        learners = [learner_of(root.resolve(), case) for root in (ROOT, args.beside)]
        spent_ms = np.zeros((2, args.updates // 2 * 2))
        for turn in range(-WARM_UP, spent_ms.shape[1]):
            for i, learner in enumerate(learners):
                batch = batch_of(learner, case, np.random.default_rng(turn + WARM_UP))
                start_s = time.process_time()
                learner.update(batch)
                spent_ms[i, max(turn, 0)] = 1e3 * (time.process_time() - start_s)
        # Every second update may be one of the actor too.
        mine, other = spent_ms.reshape(2, -1, 2).mean(axis=2)
        medians = {'here_ms': float(np.median(mine)), 'beside_ms': float(np.median(other))}
        cases[case] = medians | {'ratio': float(np.median(mine / other))}
    return {'cases': cases, 'updates': args.updates, 'torch': torch.__version__}

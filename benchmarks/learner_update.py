#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Processor time of the learner's updates, beside another checkout's, in one process.

``benchmarks/learner_update.py --beside ../other`` takes turns, one update of each, on equal
batches and one thread. Prints a table with medians, and those of the ratios to the last checkout.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np
import torch
import yaml

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.td3.params import Td3Params

ROOT = Path(__file__).resolve().parents[1]
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--beside', type=Path, help='root of another checkout')
    parser.add_argument('--updates', type=int, default=40, help='of each learner and case')
    args = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    roots = [ROOT, *([args.beside.resolve()] if args.beside else [])]
    print(f'{"case":<10}' + ''.join(f'{root.name + " [ms]":>20}' for root in roots) + '   ratio')
    for case in CASES:
        learners = [learner_of(root, case) for root in roots]
        spent_s: list[list[float]] = [[] for _ in roots]
        for turn in range(WARM_UP + args.updates):
            for i, learner in enumerate(learners):
                batch = batch_of(learner, case, np.random.default_rng(turn))
                start_s = time.process_time()
                learner.update(batch)
                if turn >= WARM_UP:
                    spent_s[i].append(time.process_time() - start_s)
        # An update of the actor follows each update of the critics alone: pairs, then the median.
        pairs_ms = [1e3 * np.reshape(times, (-1, 2)).mean(axis=1) for times in spent_s]
        medians = [float(np.median(pairs)) for pairs in pairs_ms]
        ratio = float(np.median(pairs_ms[0] / pairs_ms[-1]))
        print(f'{case:<10}' + ''.join(f'{each:>20.2f}' for each in medians) + f'{ratio:>8.2f}')


if __name__ == '__main__':
    main()

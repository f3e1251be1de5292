#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Updates per second of the learner, beside Stable-Baselines3's TD3 on the same data.

Both in one process on one thread, in turns of a few updates, sampling included; the ratio is
the median over the turns. Needs stable-baselines3, which the package itself does not.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium import spaces
import numpy as np
import stable_baselines3
from stable_baselines3.common.logger import Logger
import torch

from td3_agent.td3.learner import Learner
from td3_agent.td3.params import Td3Params
from td3_agent.td3.replay import ObservationShape, Observed, ReplayBuffer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Name: observation, actions, batch, stored transitions, updates per turn, their policy.
VECTOR = (ObservationShape(state_size=17), 6, 256, 10_000, 20, 'MlpPolicy')
IMAGE_SHAPE = ObservationShape(state_size=0, image_shape=(4, 84, 84), frame_stack=4)
IMAGE = (IMAGE_SHAPE, 2, 128, 1000, 2, 'CnnPolicy')
CASES = {'vector': VECTOR, 'image': IMAGE}


class Stream(gymnasium.Env):  # type: ignore[type-arg]
    """A seeded stream of observations; the same for both."""

    def __init__(self, shape: ObservationShape, actions: int) -> None:
        """Make the spaces."""
        image = shape.image_shape
        self.observation_space = (
            spaces.Box(-np.inf, np.inf, (shape.state_size,), np.float32)
            if image is None
            else spaces.Box(0, 255, image, np.uint8)
        )
        self.action_space = spaces.Box(-1.0, 1.0, (actions,), np.float32)
        self._rng = np.random.default_rng(0)
        self._image: NDArray[np.uint8] = np.zeros(image or (0,), np.uint8)

    def observe(self, *, first: bool) -> NDArray[Any]:
        """Return the next observation; images are moved on by one frame."""
        if self._image.size == 0:
            return self._rng.normal(size=self.observation_space.shape).astype(np.float32)
        frame = self._rng.integers(0, 256, (1, *self._image.shape[1:]), dtype=np.uint8)
        kept = np.repeat(frame, len(self._image) - 1, axis=0) if first else self._image[1:]
        self._image = np.concatenate((kept, frame))
        return self._image


def ours(case: str) -> Callable[[int], None]:
    """Return a function that makes that many updates with this package's learner."""
    shape, actions, batch_size, stored, _, _ = CASES[case]
    params = Td3Params(batch_size=batch_size)
    learner = Learner(params, shape, (-1.0,) * actions, (1.0,) * actions, seed=0)
    buffer = ReplayBuffer(shape, actions, capacity=stored + 1, seed=0)
    stream = Stream(shape, actions)
    no_state = np.zeros(0, np.float32)

    def observed(*, first: bool) -> Observed:
        seen = stream.observe(first=first)
        return Observed(seen) if shape.image_shape is None else Observed(no_state, seen)

    buffer.begin(observed(first=True))
    for action in np.random.default_rng(1).uniform(-1.0, 1.0, (stored, actions)):
        buffer.add(action, 0.1, observed(first=False), terminated=False, truncated=False)

    def update(count: int) -> None:
        for _ in range(count):
            learner.update(learner.batch(buffer.sample(batch_size)))

    return update


def theirs(case: str) -> Callable[[int], None]:
    """Return the same for Stable-Baselines3."""
    shape, actions, batch_size, stored, _, policy = CASES[case]
    stream = Stream(shape, actions)
    networks = {'net_arch': [256, 256]} if case == 'vector' else {}
    model = stable_baselines3.TD3(
        policy,
        stream,
        batch_size=batch_size,
        buffer_size=stored,
        learning_rate=3e-4,
        policy_kwargs=networks,
        device='cpu',
    )
    model.set_logger(Logger(None, []))
    before = stream.observe(first=True)
    reward, done = np.array([0.1]), np.array([False])
    for action in np.random.default_rng(1).uniform(-1.0, 1.0, (stored, 1, actions)):
        after = stream.observe(first=False)
        model.replay_buffer.add(before[None], after[None], action, reward, done, [{}])
        before = after
    return lambda count: model.train(count, batch_size)


def rate(update: Callable[[int], None], count: int) -> float:
    """Return updates per second of one turn."""
    start_s = time.perf_counter()
    update(count)
    return count / (time.perf_counter() - start_s)


def compare(case: str, turns: int) -> dict[str, float]:
    """Return the median rates of both and the median of their ratios."""
    updates = CASES[case][4]
    mine, other = ours(case), theirs(case)
    for update in (mine, other):
        update(updates)  # warm up
    rates = [(rate(mine, updates), rate(other, updates)) for _ in range(turns)]
    return {
        'updates_per_s': statistics.median(pair[0] for pair in rates),
        'sb3_updates_per_s': statistics.median(pair[1] for pair in rates),
        'ratio': statistics.median(pair[0] / pair[1] for pair in rates),
    }


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--turns', type=int, default=30, help='turns of each')
    arguments.add_argument('--case', choices=tuple(CASES), help='only this one')
    arguments.add_argument('--json', action='store_true', help='print JSON')
    args = arguments.parse_args()
    torch.set_num_threads(1)
    cases = [args.case] if args.case else list(CASES)
    figures = {case: compare(case, args.turns) for case in cases}
    if args.json:
        about = {'machine': platform.processor(), 'torch': torch.__version__}
        about['stable_baselines3'] = stable_baselines3.__version__
        print(json.dumps({**about, 'cases': figures}))
        return
    print(f'{"case":<8}{"updates/s":>12}{"SB3":>12}{"ratio":>8}')
    for case, row in figures.items():
        print(
            f'{case:<8}{row["updates_per_s"]:>12.1f}'
            f'{row["sb3_updates_per_s"]:>12.1f}{row["ratio"]:>8.2f}'
        )


if __name__ == '__main__':
    main()

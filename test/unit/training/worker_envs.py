# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Environments for worker processes, which import them by name; see test_workers.py."""

import os
from pathlib import Path

import gymnasium
import numpy as np

STEPS = 12  # of an episode


def folder():
    return Path(os.environ['WORKER_ENVS_FOLDER'])


class Counting(gymnasium.Env):
    """Shows its kind, the number of its episode and the steps taken in it."""

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    kind = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.count, self.episode = 0, seed % 1000
        return self.shown(), {}

    def step(self, action):  # noqa: ARG002  named as in Gymnasium
        self.count += 1
        return self.shown(), 0.0, False, self.count == STEPS, {}

    def shown(self):
        return np.array([self.kind, self.episode, self.count], np.float32)


class Left(Counting):
    """Its steps end only when :class:`Right` takes the same step at the same time."""

    kind = 1
    way = os.O_WRONLY  # to open a named pipe waits for the other end

    def step(self, action):
        os.close(os.open(folder() / f'step_{self.count}', self.way))
        return super().step(action)


class Right(Left):
    kind = 2
    way = os.O_RDONLY


class Mortal(Counting):
    """Takes its process along at the fifth step of its first episode."""

    kind = 3

    def step(self, action):
        if self.count == 4 and not (folder() / 'died').exists():
            (folder() / 'died').touch()
            os._exit(3)
        return super().step(action)


for cls in (Counting, Left, Right, Mortal):
    gymnasium.register(id=f'{cls.__name__}-v0', entry_point=cls)

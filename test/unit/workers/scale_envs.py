# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Environments for workers of Ray, which import them by name; see test_ray.py."""

import os
from pathlib import Path

import gymnasium
import numpy as np

STEPS = 12  # of an episode


def folder():
    return Path(os.environ['SCALE_ENVS_FOLDER'])


class Counting(gymnasium.Env):
    """Shows its kind, the seed of its episode and the steps taken in it."""

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    kind = 0
    episode = -1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        self.count, self.seed = 0, seed % (1 << 20)
        self.episode += 1
        return self.shown(), {}

    def step(self, action):  # noqa: ARG002  named as in Gymnasium
        self.count += 1
        return self.shown(), 1.0, False, self.count == STEPS, {}

    def shown(self):
        return np.array([self.kind, self.seed, self.count], np.float32)


class Doomed(Counting):
    """Tells the number of its process in the middle of its third episode, and waits for its end.

    Its successor finds that somebody has died, and wakes :class:`Waiting`.
    """

    kind = 1

    def step(self, action):
        if (folder() / 'died').exists():
            if (self.episode, self.count) == (0, 0):
                (folder() / 'succeeded').write_text('')  # a named pipe, as those below
        elif (self.episode, self.count) == (2, 5):
            (folder() / 'process').write_text(str(os.getpid()))
            (folder() / 'never').read_text()
        return super().step(action)


class Waiting(Counting):
    """Waits in the middle of its third episode for the successor of :class:`Doomed`."""

    kind = 2

    def step(self, action):
        if (self.episode, self.count) == (2, 6):
            (folder() / 'succeeded').read_text()
        return super().step(action)


class Breaking(Counting):
    """Its server goes away once."""

    broken = False

    def step(self, action):
        if self.count == 3 and not self.broken:
            type(self).broken = True
            raise ConnectionError('server is gone')
        return super().step(action)


class Ruined(Counting):
    """Its server goes away in the third episode, for good."""

    def reset(self, **options):
        shown = super().reset(**options)
        if (folder() / 'gone').exists():
            raise ConnectionError('server is gone')
        return shown

    def step(self, action):
        if (self.episode, self.count) == (2, 5):
            (folder() / 'gone').touch()
            raise ConnectionError('server is gone')
        return super().step(action)


class Wide(Counting):
    """Shows so much that Ray keeps a fragment on the machine where it was made."""

    observation_space = gymnasium.spaces.Box(-1e9, 1e9, (4096,), np.float32)

    def shown(self):
        return np.resize(super().shown(), self.observation_space.shape)


class Wrong(Counting):
    """Pays a reward that is no number."""

    def step(self, action):
        return super().step(action)[0], float('nan'), False, False, {}


for cls in (Counting, Doomed, Waiting, Breaking, Ruined, Wide, Wrong):
    gymnasium.register(id=f'scale/{cls.__name__}-v0', entry_point=cls)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Gymnasium tasks for the cases about training: one that is small, one whose server dies.

Named as ``faults.training_envs:ID``, which imports this module.
"""

import gymnasium
import numpy as np

EPISODE_STEPS = 23
SERVER_STEPS = 50
MARKED, DYING = 'faults/Marked-v0', 'faults/Dying-v0'


class Marked(gymnasium.Env):
    """Shows the mark of its episode, the number of its step, and the last action."""

    observation_space = gymnasium.spaces.Box(-1e6, 1e6, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        """Begin an episode, with a mark drawn from the seed."""
        super().reset(seed=seed, options=options)
        self._mark, self._at = float(self.np_random.integers(1, 1000)), 0.0
        return self._shown(0.0), {}

    def step(self, action):
        """Go one step; the reward grows as the action approaches the drawn value."""
        self._at += 1.0
        wanted = float(self.np_random.uniform(-1.0, 1.0))
        reward = -((float(action[0]) - wanted) ** 2)
        return self._shown(float(action[0])), reward, False, self._at >= EPISODE_STEPS, {}

    def _shown(self, last):
        return np.array([self._mark, self._at, last], np.float32)


class Dying(Marked):
    """Its server dies at every 50th step, counted over all episodes."""

    steps = 0

    def step(self, action):
        Dying.steps += 1
        if Dying.steps % SERVER_STEPS == 0:
            raise ConnectionError('server is gone')
        return super().step(action)


for name, kind in ((MARKED, Marked), (DYING, Dying)):
    if name not in gymnasium.registry:
        gymnasium.register(id=name, entry_point=kind)

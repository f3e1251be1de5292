# SPDX-License-Identifier: Apache-2.0
"""Gymnasium tasks for the rows about training: one that is small, one whose server dies.

Named as ``td3_agent.faults.training_envs:ID``, which imports this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPISODE_STEPS = 23
SERVER_STEPS = 50
LIMITS = gymnasium.spaces.Box(-1e6, 1e6, (3,), np.float32)


class Marked(gymnasium.Env):
    """Shows the mark of its episode, how far it is, and the last action."""

    observation_space = LIMITS
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self) -> None:
        """Be in no episode yet."""
        self._mark = self._at = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """Begin an episode, with a mark drawn from the seed."""
        super().reset(seed=seed, options=options)
        self._mark, self._at = float(self.np_random.integers(1, 1000)), 0.0
        return self._shown(0.0), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Go one step; the reward is the nearer the action is to what was drawn, the more."""
        self._at += 1.0
        wanted = float(self.np_random.uniform(-1.0, 1.0))
        reward = -((float(action[0]) - wanted) ** 2)
        return self._shown(float(action[0])), reward, False, self._at >= EPISODE_STEPS, {}

    def _shown(self, last: float) -> NDArray[np.float32]:
        return np.array([self._mark, self._at, last], np.float32)


class Dying(Marked):
    """Its server dies at every 50th step, whatever episode that is in."""

    steps = 0
    deaths = 0

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        """Go one step, or find the server gone."""
        cls = type(self)
        cls.steps += 1
        if cls.steps % SERVER_STEPS == 0:
            cls.deaths += 1
            raise ConnectionError('server is gone')
        return super().step(action)


for _kind in (Marked, Dying):
    if f'td3_agent_faults/{_kind.__name__}-v0' not in gymnasium.registry:
        gymnasium.register(
            id=f'td3_agent_faults/{_kind.__name__}-v0',
            entry_point=f'{__name__}:{_kind.__name__}',
        )

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Two tasks with a known optimum, learned in seconds, to test training as a whole.

``td3_agent.training.tasks:td3_agent/Identity-v0`` and ``...:td3_agent/Spot-v0``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium import spaces
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

EPISODE_STEPS = 10


class Identity(gymnasium.Env['NDArray[np.float32]', 'NDArray[np.float32]']):
    """The action must equal the observation, scaled to each action's own range.

    The reward is minus the squared error in half ranges; the best return is 0, that of a constant
    action about -10 * 2 / 3.
    """

    def __init__(self) -> None:
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        low, high = np.array([-2.0, 0.0], np.float32), np.array([2.0, 0.5], np.float32)
        self.action_space = spaces.Box(low, high)
        self._bounds = low, high

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[NDArray[np.float32], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps = 0
        return self._ask(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], float, bool, bool, dict[str, Any]]:
        low, high = self._bounds
        normalised = (2.0 * action - low - high) / (high - low)
        reward = -float(np.sum((normalised - self._shown) ** 2))
        self._steps += 1
        return self._ask(), reward, False, self._steps == EPISODE_STEPS, {}

    def _ask(self) -> NDArray[np.float32]:
        self._shown = self.np_random.uniform(-1.0, 1.0, 2).astype(np.float32)
        return self._shown


class Spot(gymnasium.Env[dict[str, 'NDArray[Any]'], 'NDArray[np.float32]']):
    """The action must point at the bright spot in the newest of two frames.

    The reward is minus the squared distance of action and column, both in [-1, 1]; the best return
    is 0, that of a constant action about -10 / 3. ``privileged`` holds the column.
    """

    SIDE_PX = 12
    frame_stack = 2

    def __init__(self) -> None:
        image = (self.frame_stack, self.SIDE_PX, self.SIDE_PX)
        # Gymnasium's types cannot express a Dict of Boxes.
        self.observation_space = spaces.Dict(
            {  # type: ignore[assignment]
                'image': spaces.Box(0, 255, image, np.uint8),
                'state': spaces.Box(0.0, 1.0, (1,), np.float32),
                'privileged': spaces.Box(-1.0, 1.0, (1,), np.float32),
            }
        )
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        super().reset(seed=seed, options=options)
        self._steps = 0
        frame = self._draw()
        self._image = np.stack([frame] * self.frame_stack)
        return self._observed(), {}

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        reward = -float((action[0] - self._column) ** 2)
        self._steps += 1
        self._image = np.concatenate((self._image[1:], self._draw()[np.newaxis]))
        return self._observed(), reward, False, self._steps == EPISODE_STEPS, {}

    def _draw(self) -> NDArray[np.uint8]:
        column = int(self.np_random.integers(self.SIDE_PX))
        row = int(self.np_random.integers(1, self.SIDE_PX - 1))
        frame = np.zeros((self.SIDE_PX, self.SIDE_PX), np.uint8)
        frame[row - 1 : row + 2, max(column - 1, 0) : column + 2] = 255
        self._column = np.float32(2.0 * column / (self.SIDE_PX - 1) - 1.0)
        return frame

    def _observed(self) -> dict[str, NDArray[Any]]:
        return {
            'image': self._image,
            'state': np.array([self._steps / EPISODE_STEPS], np.float32),
            'privileged': np.array([self._column], np.float32),
        }


def register() -> None:
    """Register the tasks with Gymnasium; doing it twice is harmless."""
    for cls in (Identity, Spot):
        name = f'td3_agent/{cls.__name__}-v0'
        gymnasium.registry.pop(name, None)  # registered by td3_agent.envs
        gymnasium.register(id=name, entry_point=f'{__name__}:{cls.__name__}')


register()

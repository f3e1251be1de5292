# SPDX-License-Identifier: Apache-2.0
"""Exploration: random actions first, then the policy with noise on its actions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.policy.networks import Actor
    from td3_agent.td3.params import Td3Params
    from td3_agent.td3.transitions import Observed


def greedy(actor: Actor, observed: Observed) -> NDArray[np.float32]:
    """Return the policy's own action for one observation, (actions,) in [-1, 1]."""
    device = actor.scale.device
    with torch.no_grad():
        state = torch.from_numpy(np.array(observed.state, np.float32)[np.newaxis])
        image = None
        if observed.image is not None:
            image = torch.from_numpy(np.array(observed.image)[np.newaxis]).to(device)
        pre_tanh = actor.pre_tanh(state.to(device), image)
        return np.asarray(torch.tanh(pre_tanh)[0].cpu().numpy())


def noise_at(step: int, params: Td3Params) -> float:
    """Return the standard deviation of the noise at a step of the run, in half ranges."""
    if params.exploration_decay_steps == 0:
        return params.exploration_noise
    share = min(step / params.exploration_decay_steps, 1.0)
    change = params.exploration_noise_end - params.exploration_noise
    return params.exploration_noise + share * change


class Explorer:
    """Chooses the actions of training; noise is per dimension, in half ranges of the action."""

    def __init__(
        self,
        actor: Actor,
        params: Td3Params,
        *,
        streams: int,
        seed: np.random.SeedSequence,
        random_steps: int,
    ) -> None:
        """Explore around a policy, with a generator of its own.

        Args:
            actor: the policy.
            params: how it explores.
            streams: episodes that go on side by side.
            seed: of the noise.
            random_steps: first steps of the run, taken with random actions.
        """
        self._actor, self._params = actor, params
        self._random_steps = random_steps
        self._rng = np.random.default_rng(seed)
        self._noise = np.zeros((streams, len(actor.config.action_low)))

    def begin(self, stream: int) -> None:
        """Forget the noise of the last episode."""
        self._noise[stream] = 0.0

    def action(self, observed: Observed, step: int, stream: int) -> NDArray[np.float32]:
        """Return an action in [-1, 1]; ``step`` is that of the whole run."""
        params, size = self._params, self._noise.shape[1]
        if step < self._random_steps:
            return self._rng.uniform(-1.0, 1.0, size).astype(np.float32)
        # Stationary: the variance is the same for every correlation.
        kept = params.exploration_correlation
        fresh = self._rng.normal(0.0, noise_at(step, params), size)
        self._noise[stream] = kept * self._noise[stream] + math.sqrt(1.0 - kept**2) * fresh
        noisy = greedy(self._actor, observed) + self._noise[stream]
        return np.asarray(np.clip(noisy, -1.0, 1.0), np.float32)

    def state(self) -> tuple[NDArray[np.float64], dict[str, Any]]:
        """Return everything there is to save."""
        return self._noise, {'rng': self._rng.bit_generator.state}

    def restore(self, noise: NDArray[np.float64], facts: dict[str, Any]) -> None:
        """Go on as the explorer that :meth:`state` was taken of."""
        self._noise[:] = noise
        self._rng.bit_generator.state = facts['rng']

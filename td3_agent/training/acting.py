# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a policy acts: in training at random and with noise, in evaluations without noise."""

from __future__ import annotations

from contextlib import suppress
import math
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from td3_agent.training.envs import (
    EVALUATION,
    FAILURES,
    LARGEST_FAILURES,
    EnvFailureError,
    StepResult,
    episode_seed,
    perform,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gymnasium
    from numpy.typing import NDArray

    from td3_agent.policy.policy import Actor
    from td3_agent.td3.params import Td3Params
    from td3_agent.td3.transitions import Observed
    from td3_agent.training.spaces import TaskSpaces

EVALUATION_SEED = 20180226  # the same episodes in every run


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
    fraction = min(step / params.exploration_decay_steps, 1.0)
    change = params.exploration_noise_end - params.exploration_noise
    return params.exploration_noise + fraction * change


class Explorer:
    """Chooses the actions of training; noise is per dimension, in half ranges of the action.

    Args:
        actor: the policy.
        params: how it explores.
        streams: parallel episodes.
        seed: of the noise.
        random_steps: steps taken with random actions before learning starts.
    """

    def __init__(
        self,
        actor: Actor,
        params: Td3Params,
        *,
        streams: int,
        seed: np.random.SeedSequence,
        random_steps: int,
    ) -> None:
        self._actor, self._params = actor, params
        self._random_steps = random_steps
        self._rng = np.random.default_rng(seed)
        self._noise = np.zeros((streams, len(actor.config.action_low)))

    def begin(self, stream: int) -> None:
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
        return self._noise, {'rng': self._rng.bit_generator.state}

    def restore(self, noise: NDArray[np.float64], facts: dict[str, Any]) -> None:
        """Continue from :meth:`state`."""
        self._noise[:] = noise
        self._rng.bit_generator.state = facts['rng']


def evaluate(  # noqa: PLR0913  keywords only
    actor: Actor,
    spaces: TaskSpaces,
    envs: Sequence[gymnasium.Env[Any, Any]],
    *,
    episodes: int,
    longest: int,
    step: int,
) -> dict[str, float]:
    """Run the policy without noise through fixed episodes, in each environment in turn.

    An environment may report ``is_success`` in the info of an episode's last step. An episode
    that breaks is repeated.

    Args:
        actor: the policy that is evaluated.
        spaces: of the task.
        envs: used by the evaluation only.
        episodes: how many.
        longest: steps after which an episode is cut.
        step: environment steps trained so far.

    Returns:
        The figures to log; a success rate where environments report success.

    Raises:
        EnvFailureError: an episode broke several times in a row.
    """
    returns, lengths, successes = [], [], []
    for episode in range(episodes):
        rewards, info = _whole_episode(actor, spaces, envs[episode % len(envs)], episode, longest)
        returns.append(sum(rewards))
        lengths.append(len(rewards))
        if 'is_success' in info:
            successes.append(bool(info['is_success']))
    return {
        'step': step,
        'return_mean': statistics.fmean(returns),
        'return_std': statistics.pstdev(returns),
        'return_min': min(returns),
        'return_max': max(returns),
        'length_mean': statistics.fmean(lengths),
        'episodes': len(returns),
        **({'success_rate': statistics.fmean(successes)} if successes else {}),
    }


def _whole_episode(
    actor: Actor, spaces: TaskSpaces, env: gymnasium.Env[Any, Any], number: int, longest: int
) -> tuple[list[float], dict[str, Any]]:
    """Return the rewards of an unbroken episode, and the info of its last step."""
    for _ in range(LARGEST_FAILURES - 1):
        with suppress(EnvFailureError):
            return _episode(actor, spaces, env, number, longest)
    return _episode(actor, spaces, env, number, longest)


def _episode(
    actor: Actor, spaces: TaskSpaces, env: gymnasium.Env[Any, Any], number: int, longest: int
) -> tuple[list[float], dict[str, Any]]:
    seed = episode_seed(EVALUATION_SEED, EVALUATION, 0, number)
    rewards: list[float] = []
    outcome = _asked(env, 'reset', seed)
    while not (outcome.terminated or outcome.truncated or len(rewards) == longest):
        action = spaces.action(greedy(actor, spaces.observed(outcome.observation)))
        outcome = _asked(env, 'step', action)
        rewards.append(outcome.reward)
    return rewards, outcome.info


def _asked(env: gymnasium.Env[Any, Any], command: str, argument: Any) -> StepResult:  # noqa: ANN401
    """Step or reset an environment. Its own errors become EnvFailureError; bugs propagate."""
    try:
        return perform(env, command, argument)
    except FAILURES as error:
        raise EnvFailureError(f'evaluation: {type(error).__name__}: {error}') from error

# SPDX-License-Identifier: Apache-2.0
"""Evaluation during training: an environment of its own, fixed seeds, no noise."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
import statistics
from typing import TYPE_CHECKING, Any

from td3_agent.training.envs import (
    EVALUATION,
    FAILURES,
    LARGEST_FAILURES,
    EnvFailureError,
    Outcome,
    episode_seed,
    perform,
)
from td3_agent.training.exploration import greedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gymnasium

    from td3_agent.policy.networks import Actor
    from td3_agent.training.spaces import TaskSpaces

EVALUATION_SEED = 20180226  # the same episodes in every run, whatever its seed


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Returns of the evaluation episodes at one point of the training.

    Attributes:
        step: environment steps trained so far.
        returns: sum of rewards of each episode.
        lengths: steps of each episode.
        successes: whether each reached its goal; empty where the environment does not tell.
    """

    step: int
    returns: tuple[float, ...]
    lengths: tuple[int, ...]
    successes: tuple[bool, ...] = ()

    def row(self) -> dict[str, float]:
        """Return the figures that are logged."""
        success = {'success_rate': statistics.fmean(self.successes)} if self.successes else {}
        return {
            'step': self.step,
            'return_mean': statistics.fmean(self.returns),
            'return_std': statistics.pstdev(self.returns),
            'return_min': min(self.returns),
            'return_max': max(self.returns),
            'length_mean': statistics.fmean(self.lengths),
            'episodes': len(self.returns),
            **success,
        }


def evaluate(  # noqa: PLR0913  what an evaluation is made of
    actor: Actor,
    spaces: TaskSpaces,
    envs: Sequence[gymnasium.Env[Any, Any]],
    *,
    episodes: int,
    longest: int,
    step: int,
) -> Evaluation:
    """Run the policy as it is through the fixed episodes, in turn in each environment.

    An environment may tell success by ``is_success`` in the info of an episode's last step. An
    episode that breaks is begun again.

    Args:
        actor: the policy that is evaluated.
        spaces: of the task.
        envs: of the evaluation alone.
        episodes: how many.
        longest: steps after which an episode is cut; some tasks never end by themselves.
        step: environment steps trained so far.

    Raises:
        EnvFailureError: an episode broke again and again.
    """
    returns, lengths, successes = [], [], []
    for episode in range(episodes):
        rewards, info = _whole_episode(actor, spaces, envs[episode % len(envs)], episode, longest)
        returns.append(sum(rewards))
        lengths.append(len(rewards))
        if 'is_success' in info:
            successes.append(bool(info['is_success']))
    return Evaluation(
        step=step, returns=tuple(returns), lengths=tuple(lengths), successes=tuple(successes)
    )


def _whole_episode(
    actor: Actor, spaces: TaskSpaces, env: gymnasium.Env[Any, Any], number: int, longest: int
) -> tuple[list[float], dict[str, Any]]:
    """Return the rewards of an episode that has not broken, and the info of its last step."""
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


def _asked(env: gymnasium.Env[Any, Any], command: str, argument: Any) -> Outcome:  # noqa: ANN401
    """Return the answer of an environment, whose failure is told from one of the program."""
    try:
        return perform(env, command, argument)
    except FAILURES as error:
        raise EnvFailureError(f'evaluation: {type(error).__name__}: {error}') from error

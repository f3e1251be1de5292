# SPDX-License-Identifier: Apache-2.0
"""Evaluation during training: an environment of its own, fixed seeds, no noise."""

from __future__ import annotations

from dataclasses import dataclass
import statistics
from typing import TYPE_CHECKING, Any

from td3_agent.training.envs import EVALUATION, episode_seed
from td3_agent.training.exploration import greedy

if TYPE_CHECKING:
    from collections.abc import Sequence

    import gymnasium

    from td3_agent.td3.networks import Actor
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

    An environment may tell success by ``is_success`` in the info of an episode's last step.

    Args:
        actor: the policy that is evaluated.
        spaces: of the task.
        envs: of the evaluation alone.
        episodes: how many.
        longest: steps after which an episode is cut; some tasks never end by themselves.
        step: environment steps trained so far.
    """
    returns, lengths, successes = [], [], []
    for episode in range(episodes):
        env = envs[episode % len(envs)]
        total, length, over = 0.0, 0, False
        observation, _ = env.reset(seed=episode_seed(EVALUATION_SEED, EVALUATION, 0, episode))
        while not over:
            action = spaces.action(greedy(actor, spaces.observed(observation)))
            observation, reward, terminated, truncated, info = env.step(action)
            total += float(reward)
            length += 1
            over = terminated or truncated or length == longest
        returns.append(total)
        lengths.append(length)
        if 'is_success' in info:
            successes.append(bool(info['is_success']))
    return Evaluation(
        step=step, returns=tuple(returns), lengths=tuple(lengths), successes=tuple(successes)
    )

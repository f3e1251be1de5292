# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Figures that show early what is wrong with a learner or its buffer, and their alarms."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, starmap
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

    from td3_agent.td3.learner import Batch, Learner

SATURATED = 0.99  # |tanh| beyond this leaves 2 % of the gradient
LARGEST_SATURATION = 0.2
LARGEST_Q_GAP = 1e-3
BEYOND_ANY_RETURN = 2.0
EDGES_MPS = (-math.inf, 0.5, 2.0, 4.0, 6.0, 8.0, math.inf)
PARKED = 'speed_below_0.5_mps'
LARGEST_PARKED_FRACTION = 0.8


@dataclass(frozen=True, kw_only=True)
class Health:
    """The state of a learner, measured on one batch.

    Attributes:
        saturation: fraction of the policy's actions beyond 0.99 of their range, in [0, 1].
        pre_tanh: mean magnitude of the last layer's output.
        head_gradient: norm of the last gradient of that layer.
        q_actor: mean Q1 of the policy's actions, as the actor's loss computes it.
        q_critic: mean Q1 of the stored actions, as the critics' loss computes it.
        q_gap: largest relative difference of the two computations on the *same* actions; beyond
            rounding, actor and critics use different features.
        critic_loss: of the last update.
        actor_loss: of the last update of the actor.
        largest_return: bound of any return, given the rewards so far.
    """

    saturation: float
    pre_tanh: float
    head_gradient: float
    q_actor: float
    q_critic: float
    q_gap: float
    critic_loss: float
    actor_loss: float
    largest_return: float

    def alarms(self) -> dict[str, str]:
        """Return the alarms that are on, a sentence by name."""
        limit = BEYOND_ANY_RETURN * self.largest_return
        checks = {
            'saturation': (
                self.saturation <= LARGEST_SATURATION,
                f'{self.saturation:.0%} of actions saturated',
            ),
            'head_gradient': (self.head_gradient > 0.0, "no gradient reaches the actor's head"),
            'q_gap': (self.q_gap <= LARGEST_Q_GAP, f'actor sees Q off by {self.q_gap:.2g}'),
            'q_actor': (
                abs(self.q_actor) <= limit,
                f'Q of {self.q_actor:.3g} is beyond any return of {self.largest_return:.3g}',
            ),
        }
        # Written so that NaN fails every check.
        return {name: text for name, (holds, text) in checks.items() if not holds}


def examine(learner: Learner, batch: Batch, largest_reward: float) -> Health:
    """Return the health of a learner, which stays as it is.

    Args:
        learner: after at least one update of its actor.
        batch: transitions, for example of the last update.
        largest_reward: largest magnitude of a reward so far.
    """
    networks, discount = learner.networks, learner.params.discount
    with torch.no_grad():
        pre_tanh = networks.actor.pre_tanh_from(networks.views(batch.state, batch.image).actor)
        action = torch.tanh(pre_tanh)
        view = networks.critic_views(batch.state, batch.image).critic
        by_critic = networks.critic(view, action)[0]
        by_actor = learner.actor_values(batch)
        gap = ((by_actor - by_critic).abs() / (1.0 + by_critic.abs())).max()
        return Health(
            saturation=float((action.abs() > SATURATED).float().mean()),
            pre_tanh=float(pre_tanh.abs().mean()),
            head_gradient=learner.head_gradient(),
            q_actor=float(by_actor.mean()),
            q_critic=float(networks.critic(view, batch.action)[0].mean()),
            q_gap=float(gap),
            critic_loss=float(learner.critic_loss),
            actor_loss=float(learner.actor_loss),
            largest_return=largest_reward / (1.0 - discount),
        )


@dataclass(frozen=True)
class SpeedState:
    """Where a state vector holds the speed.

    Attributes:
        index: of the number.
        scale_mps: what 1.0 means [m/s].
    """

    index: int
    scale_mps: float

    def fractions(self, states: NDArray[np.float32]) -> dict[str, float]:
        """Return the fraction of states in each range of speed, by name; half-open ranges.

        Args:
            states: (N, state_size), N >= 1.
        """
        speeds_mps = states[:, self.index] * self.scale_mps
        counts = np.histogram(speeds_mps, EDGES_MPS)[0] / len(speeds_mps)
        return dict(zip(starmap(_name, pairwise(EDGES_MPS)), counts.tolist(), strict=True))


def _name(low_mps: float, high_mps: float) -> str:
    if math.isinf(low_mps):
        return f'speed_below_{high_mps:g}_mps'
    return f'speed_from_{low_mps:g}_mps'


def speed_state_of(env: gymnasium.Env[Any, Any]) -> SpeedState | None:
    """Return where the state of an environment holds a vehicle's speed; None without a vehicle.

    Its attribute ``speed_state`` (index, scale [m/s]) comes first.
    """
    inner = env.unwrapped
    given = getattr(inner, 'speed_state', None)
    if given is not None:
        return SpeedState(*given)
    # The vector of td3_agent.driving.observation begins with the speed.
    drives = hasattr(inner, 'spec_of_observation')
    return SpeedState(0, CONTROL_MAX_SPEED_MPS) if drives else None


def parked_alarm(fractions: dict[str, float]) -> dict[str, str]:
    """Return an alarm, by name, if the buffer holds little but a standing car."""
    fraction = fractions.get(PARKED, 0.0)
    if fraction <= LARGEST_PARKED_FRACTION:
        return {}
    return {'parked': f'the car stands in {fraction:.0%} of the buffer'}

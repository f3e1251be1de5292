# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of TD3: every number of the algorithm, declared once and all of them read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from td3_agent.driving.parameters import ParameterError, Params, param

if TYPE_CHECKING:
    from td3_agent.policy.manifest import Conv

OBSERVATION, PRIVILEGED, BOTH = 'observation', 'privileged', 'both'

# First: that of Mnih et al. 2013 (arXiv:1312.5602) with a third layer. Second: Mnih et al. 2015.
ENCODERS: dict[str, tuple[Conv, ...]] = {
    'lean': ((16, 8, 4), (32, 4, 2), (32, 3, 1)),
    'nature': ((32, 8, 4), (64, 4, 2), (64, 3, 1)),
    'compact': ((16, 4, 4), (32, 3, 2), (32, 3, 2)),
    'fine': ((24, 5, 3), (32, 3, 2), (48, 3, 2)),
    'small_images': ((16, 3, 2), (16, 3, 2)),
}


@dataclass(frozen=True, kw_only=True)
class Td3Params(Params):
    """TD3 as in Fujimoto et al. 2018 and the authors' code; deviations in ``docs/td3.md``."""

    discount: float = param(0.99, 'weight of the next step (gamma)', low=0.0, high=0.9999)
    tau: float = param(0.005, 'weight of the networks in the soft target update', low=0, high=1)
    policy_delay: int = param(2, 'critic updates per actor update (d)', low=1, high=100)
    actor_start_updates: int = param(
        0, 'critic updates before the first of the actor, for one that can do something', low=0
    )
    target_noise: float = param(
        0.2, 'smoothing of the target policy, in half ranges of the action', low=0.0, high=2.0
    )
    target_noise_clip: float = param(
        0.5, 'limit of that noise (c), in half ranges of the action', low=0.0, high=2.0
    )
    actor_lr: float = param(3e-4, 'learning rate of the actor', low=0.0, high=1.0)
    actor_lr_decay_updates: int = param(
        0, 'updates in which that falls to a tenth, evenly; 0 keeps actor_lr', low=0
    )
    critic_lr: float = param(3e-4, 'learning rate of critics and encoder', low=0.0, high=1.0)
    batch_size: int = param(256, 'transitions per update', low=1, high=65536)
    hidden_units: int = param(256, 'units of each hidden layer', low=1, high=4096)
    hidden_layers: int = param(2, 'hidden layers of actor and critics', low=1, high=8)
    encoder: str = param('lean', 'convolutions for images', choices=tuple(ENCODERS))
    features: int = param(64, 'size of the image features', low=1, high=4096)
    still_share: float = param(
        0.0, 'fraction of sampled image stacks that repeat their newest frame', low=0.0, high=1.0
    )
    tone_share: float = param(
        0.0,
        'fraction of sampled transitions whose grey levels go through a random curve',
        low=0.0,
        high=1.0,
    )
    critic_input: str = param(
        OBSERVATION,
        'what the critics see: what the actor sees, simulator state in place of images, or both',
        choices=(OBSERVATION, PRIVILEGED, BOTH),
    )
    imitation_weight: float = param(
        0.0,
        'of the squared difference to the action of an expert, in the loss of the actor',
        low=0.0,
    )
    n_step: int = param(1, 'steps summed before the target takes over', low=1, high=100)
    buffer_capacity: int = param(
        1_000_000, 'observations kept by the replay buffer', low=4, high=100_000_000
    )
    start_steps: int = param(1000, 'steps with random actions before training', low=1)
    updates_per_step: float = param(
        1.0, 'updates per environment step after that', low=0.0, high=100.0
    )
    exploration_noise: float = param(
        0.1, 'noise on actions, in half ranges of the action', low=0.0, high=2.0
    )
    exploration_noise_end: float = param(
        0.05, 'that noise after exploration_decay_steps', low=0.0, high=2.0
    )
    exploration_decay_steps: int = param(
        0, 'steps in which it gets there, evenly; 0 keeps exploration_noise', low=0
    )
    exploration_correlation: float = param(
        0.0, 'correlation of successive exploration noise', low=0.0, high=0.999
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_step >= self.buffer_capacity:
            raise ParameterError(
                f'n_step must be < buffer_capacity, got {self.n_step} and {self.buffer_capacity}'
            )

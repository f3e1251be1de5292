# SPDX-License-Identifier: Apache-2.0
"""The driving task among other cars, to train on and to validate with.

The route ahead is part of the observation. The traffic is drawn for every episode: how many
vehicles, and in some a lead vehicle that is slow, stops or stands.

==============================  =================================================
td3_agent/RouteTraining-v0      roads of every kind of the training family, 0 to 50 vehicles
td3_agent/RouteValidation-v0    towns and country roads of the validation family, always 20
==============================  =================================================

``gymnasium.make('td3_agent.sim.traffic_env:td3_agent/RouteTraining-v0')`` imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from td3_agent.sim.env import register_envs
from td3_agent.sim.leading import HABITS, NO_LEADER
from td3_agent.sim.random_env import TASK, VALIDATION, random_env
from td3_agent.sim.randomisation import Randomisation
from td3_agent.sim.traffic import TrafficConfig

if TYPE_CHECKING:
    import numpy as np

USUAL_VEHICLES, MOST_VEHICLES = 20, 50
CROWDED_SHARE = 0.15  # of the episodes; many vehicles cost time
LEADER_SHARE = 0.5
# An accident costs more than the way that is gained by not braking: some metres earn several
# rewards at once, and what comes after a long stand is discounted.
TRAFFIC_TASK = replace(
    TASK,
    lateral_weight=0.35,
    jerk_weight=0.3,
    headway_weight=0.25,
    collision_penalty=8.0,
    stall_time_s=30.0,
)


@dataclass(frozen=True, kw_only=True)
class DrawnTraffic:
    """Draws how many vehicles there are in an episode, and who is ahead.

    Attributes:
        least: fewest vehicles of an episode.
        most: most vehicles, but in few episodes.
        crowd: most vehicles in those few.
        leader_share: fraction of the episodes with a vehicle ahead that slows or stops.
    """

    least: int = 0
    most: int = USUAL_VEHICLES
    crowd: int = MOST_VEHICLES
    leader_share: float = LEADER_SHARE

    def __call__(self, rng: np.random.Generator) -> TrafficConfig:
        """Draw the traffic of an episode."""
        habits = list(HABITS)
        habit = habits[int(rng.integers(len(habits)))]
        led = rng.random() < self.leader_share
        most = max(self.crowd, self.most) if rng.random() < CROWDED_SHARE else self.most
        vehicles = int(rng.integers(self.least, most, endpoint=True))
        return TrafficConfig(vehicles=vehicles, leader=habit if led else NO_LEADER)


ENVS: dict[str, dict[str, Any]] = {
    'td3_agent/RouteTraining-v0': {
        'maps': ('town', 'arterial', 'town', 'country', 'town', 'highway'),
        'roads': 36,
        'path': True,
        'task': TRAFFIC_TASK,
        'traffic': DrawnTraffic(),
        'time_limit_s': 2.0,
        'random': Randomisation(episode_shortest_s=0.1, approach_share=0.8),
    },
    'td3_agent/RouteValidation-v0': {
        **VALIDATION,
        'maps': ('town', 'country'),
        'path': True,
        'task': TRAFFIC_TASK,
        'traffic': DrawnTraffic(least=USUAL_VEHICLES, crowd=USUAL_VEHICLES),
    },
}


def register() -> None:
    """Make the environments of this module known to ``gymnasium.make``."""
    register_envs(ENVS, random_env)


register()

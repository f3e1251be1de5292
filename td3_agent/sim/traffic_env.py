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

from dataclasses import replace
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS
from td3_agent.sim.env import PRIVILEGED_SIZE
from td3_agent.sim.leading import HABITS, NO_LEADER
from td3_agent.sim.lookout import lead_of
from td3_agent.sim.random_env import TASK, VALIDATION, RandomDrivingEnv, register_tasks
from td3_agent.sim.randomisation import Randomisation
from td3_agent.sim.task import Ending
from td3_agent.sim.traffic import TrafficConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.task import Situation

USUAL_VEHICLES, MOST_VEHICLES = 20, 50
CROWDED_SHARE = 0.15  # of the episodes; many vehicles cost time
LEADER_SHARE = 0.5
NEIGHBOURS, NEIGHBOUR_SIZE = 3, 5
LEAD_SIZE = 4
CLOSEST_M = 2.0  # to the vehicle ahead, where an episode begins
SLOWEST_MPS = 0.5  # headway is of interest to those who move
NEAR_M, CLOSING_MPS = 10.0, 5.0
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


class TrafficDrivingEnv(RandomDrivingEnv):
    """The random driving task with other cars.

    The ``privileged`` part goes on with what the simulator knows of them: whether somebody is
    ahead on the route, how near, closing speed and speed; then the nearest three vehicles, each
    present or not, forward, left, and its velocity in the car's axes.

    ``is_success`` in the info of the last step is whether the episode went on to its goal or its
    time limit: who collides now and then can have the higher return.

    Args:
        least: fewest vehicles of an episode.
        most: most vehicles, but in few episodes.
        crowd: most vehicles in those few.
        leader_share: share of the episodes with a vehicle ahead that slows or stops.
        arguments: see :class:`~td3_agent.sim.random_env.RandomDrivingEnv`.
    """

    privileged_size = PRIVILEGED_SIZE + LEAD_SIZE + NEIGHBOURS * NEIGHBOUR_SIZE

    def __init__(
        self,
        *,
        least: int = 0,
        most: int = USUAL_VEHICLES,
        crowd: int = MOST_VEHICLES,
        leader_share: float = LEADER_SHARE,
        **arguments: Any,  # noqa: ANN401  of the task without traffic
    ) -> None:
        """Load the first road; the others when they are drawn."""
        self._least, self._most, self._crowd = least, most, max(crowd, most)
        self._leader_share = leader_share
        super().__init__(task=TRAFFIC_TASK, **arguments)

    def _traffic(self, rng: np.random.Generator) -> TrafficConfig:
        """Draw how many vehicles there are, and who is ahead."""
        habits = list(HABITS)
        habit = habits[int(rng.integers(len(habits)))]
        led = rng.random() < self._leader_share
        most = self._crowd if rng.random() < CROWDED_SHARE else self._most
        vehicles = int(rng.integers(self._least, most, endpoint=True))
        return TrafficConfig(vehicles=vehicles, leader=habit if led else NO_LEADER)

    def _first_situation(self) -> Situation:
        first = super()._first_situation()
        self._lead = lead_of(self.world, self.world.ego, first.s_m)
        return first

    def _start_m(self, rng: np.random.Generator) -> float:
        """Return a place behind the vehicle ahead in some episodes: few would get there."""
        lead = lead_of(self.world, self.world.ego, 0.0)
        if lead is None or rng.random() >= self._random.approach_share:
            return 0.0
        return rng.uniform(0.0, max(lead.gap_m - CLOSEST_M, 0.0))

    def _headway_s(self) -> float:
        """Return the time to the vehicle ahead [s], and remember the vehicle."""
        world = self.world
        self._lead = lead_of(world, world.ego, self.situation.s_m)
        if self._lead is None:
            return math.inf
        return max(self._lead.gap_m, 0.0) / max(world.ego.state.speed_mps, SLOWEST_MPS)

    def _info(self, how: Ending) -> dict[str, Any]:
        """Tell success too: nobody was touched, no lane lost, and nobody stood still for good."""
        return super()._info(how) | {'is_success': how in {Ending.GOAL, Ending.TIME_LIMIT}}

    def _known(self) -> NDArray[np.float32]:
        """Return what only the simulator knows, each number around [-1, 1]."""
        known = np.concatenate((super()._known(), self._known_lead(), self._known_neighbours()))
        return np.clip(known.astype(np.float32), -5.0, 5.0)

    def _known_lead(self) -> tuple[float, ...]:
        lead, speed_mps = self._lead, self.world.ego.state.speed_mps
        if lead is None:
            return (0.0,) * LEAD_SIZE
        near = NEAR_M / (NEAR_M + max(lead.gap_m, 0.0))
        closing = (speed_mps - lead.speed_mps) / CLOSING_MPS
        return 1.0, near, closing, lead.speed_mps / CONTROL_MAX_SPEED_MPS

    def _known_neighbours(self) -> NDArray[np.float64]:
        """Return the nearest vehicles, (NEIGHBOURS * NEIGHBOUR_SIZE,)."""
        known = np.zeros((NEIGHBOURS, NEIGHBOUR_SIZE))
        traffic, motion = self.world.traffic, self.world.ego.motion
        if traffic is not None:
            bodies = traffic.bodies()
            offset = (bodies[:, 0] - motion.x_m) + 1j * (bodies[:, 1] - motion.y_m)
            nearest = np.argsort(np.abs(offset), kind='stable')[:NEIGHBOURS]
            turn = np.exp(-1j * motion.yaw_rad)
            place = offset[nearest] * turn / (3.0 * NEAR_M)
            velocity = (bodies[nearest, 5] + 1j * bodies[nearest, 6]) * turn
            velocity /= CONTROL_MAX_SPEED_MPS
            rows = (np.ones(len(nearest)), place.real, place.imag, velocity.real, velocity.imag)
            known[: len(nearest)] = np.column_stack(rows)
        return known.ravel()


def register() -> None:
    """Make the tasks known to ``gymnasium.make``."""
    tasks: dict[str, dict[str, Any]] = {
        'td3_agent/RouteTraining-v0': {
            'maps': ('town', 'arterial', 'town', 'country', 'town', 'highway'),
            'roads': 36,
            'path': True,
            'time_limit_s': 2.0,
            'random': Randomisation(episode_shortest_s=0.1, approach_share=0.8),
        },
        'td3_agent/RouteValidation-v0': VALIDATION
        | {
            'maps': ('town', 'country'),
            'path': True,
            'least': USUAL_VEHICLES,
            'crowd': USUAL_VEHICLES,
        },
    }
    register_tasks(tasks, TrafficDrivingEnv)


register()

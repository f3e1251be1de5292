# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What only the simulator knows: shown in training to the critic and to the expert."""

from __future__ import annotations

from dataclasses import replace
import math
from typing import TYPE_CHECKING, Any

from gymnasium import spaces
import numpy as np

from td3_agent.driving.command import ACTION_SIZE, CONTROL_MAX_SPEED_MPS, action_from_twist
from td3_agent.driving.observation import STATE_SIZE
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.sim.lead import lead_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.driving.idm import Lead
    from td3_agent.driving.observation import Observation
    from td3_agent.driving.task import Situation
    from td3_agent.driving.vehicle import VehicleState
    from td3_agent.sim.embedded import EmbeddedWorld

CURVATURE_STEP_M = 5.0
CURVATURE_AHEAD_M = np.arange(0.0, 41.0, CURVATURE_STEP_M)
PRIVILEGED_SIZE = 9 + len(CURVATURE_AHEAD_M)
NEIGHBOURS, NEIGHBOUR_SIZE = 3, 5
LEAD_SIZE = 4
TRAFFIC_SIZE = LEAD_SIZE + NEIGHBOURS * NEIGHBOUR_SIZE
GOAL_IN_SIGHT_M = 50.0
SLOWEST_MPS = 0.5  # headway is of interest to those who move
NEAR_M, CLOSING_MPS = 10.0, 5.0
LARGEST = 5.0

# The expert: how far ahead of the speed a target is (the gate's loop makes about twice as much
# acceleration of it), the least from a standstill, and how it stops behind a vehicle.
RISE_MPS, FIRST_MPS = 0.9, 1.2
BRAKING_MPS2, REACTION_S, STANDING_GAP_M = 3.5, 1.0, 4.0
CURVE_REACTION_S = 1.0  # before curves: the policy's smoothed target follows later than this one


def stopping_speed(gap_m: float) -> float:
    """Return the speed from which a car stops behind a vehicle as if that one stood [m/s].

    Gipps, *A behavioural car-following model for computer simulation*, Transp. Res. B 15 (1981)
    105, with a vehicle ahead that stands: ``v = -b tau + sqrt(b^2 tau^2 + 2 b (s - s0))``.

    Args:
        gap_m: from bumper to bumper [m].
    """
    reaction_mps = BRAKING_MPS2 * REACTION_S
    way_m = max(gap_m - STANDING_GAP_M, 0.0)
    return math.sqrt(reaction_mps**2 + 2.0 * BRAKING_MPS2 * way_m) - reaction_mps


class Privileged:
    """Parts of an observation that a policy never sees.

    ``privileged``, each number around [-1, 1]: lateral error, sine and cosine of the heading
    error, slip, both accelerations, way to the goal, steer, throttle less brake, then the
    curvature of the route from here to 40 m ahead. Among traffic it goes on with the lead
    vehicle: whether there is one, how near, closing speed and speed; then the nearest three
    vehicles, each present or not, forward, left, and its velocity in the car's axes.

    ``expert``, (2,) float32: the action that the learner may imitate. It depends only on what a
    policy sees too, so that it can be learned: planned speed and steering of pure pursuit without
    ramp and trim, at most ``RISE_MPS`` above the present speed, and behind a vehicle at most
    :func:`stopping_speed`. The speed of the vehicle ahead has no part in it: four small pictures
    within 0.15 s do not show that, and a policy that imitates takes the mean of what may be.

    Args:
        world: that is driven in.
        expert: whether its action is shown.
        traffic: whether other vehicles are looked for.
    """

    def __init__(
        self, world: EmbeddedWorld, *, expert: bool = False, traffic: bool = False
    ) -> None:
        """Watch a world."""
        self._world = world
        self._traffic = traffic
        self._lead: Lead | None = None
        self._expert = PurePursuitDriver(reaction_time_s=CURVE_REACTION_S) if expert else None

    @property
    def spaces(self) -> dict[str, spaces.Space[Any]]:
        """Bounds of the parts."""
        size = PRIVILEGED_SIZE + (TRAFFIC_SIZE if self._traffic else 0)
        parts: dict[str, spaces.Space[Any]] = {
            'privileged': spaces.Box(-LARGEST, LARGEST, (size,), np.float32)
        }
        if self._expert is not None:
            parts['expert'] = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        return parts

    def begin(self, first: Situation) -> None:
        """Begin an episode."""
        if self._expert is not None:
            self._expert.reset()
            self._expert.set_route(self._world.route)
        self.look(first)

    def look(self, before: Situation) -> float:
        """Look for the vehicle ahead in a new frame; return the time to it [s].

        Args:
            before: situation of the frame before, near which the car is on its route.
        """
        if not self._traffic:
            return math.inf
        simulator = self._world.simulator
        self._lead = lead_of(simulator, simulator.ego, before.s_m)
        if self._lead is None:
            return math.inf
        speed_mps = max(simulator.ego.state.speed_mps, SLOWEST_MPS)
        return max(self._lead.gap_m, 0.0) / speed_mps

    def parts(self, seen: Observation, situation: Situation) -> dict[str, NDArray[np.float32]]:
        """Return the parts of the present frame.

        Where the episode disguises yaw rate and last action, ``state`` is among them.

        Args:
            seen: what the policy sees of it.
            situation: of the car in it.
        """
        known = self._known(situation)
        if self._traffic:
            known = np.concatenate((known, self._known_lead(), self._known_neighbours()))
            known = np.clip(known.astype(np.float32), -LARGEST, LARGEST)
        parts = {'privileged': known}
        disguise = self._world.setup.disguise()
        if disguise is not None:
            parts['state'] = seen.state.copy()
            parts['state'][1:STATE_SIZE] = disguise
        if self._expert is not None:
            parts['expert'] = self._expert_action(self._expert, seen.vehicle)
        return parts

    def _expert_action(
        self, pursuit: PurePursuitDriver, state: VehicleState
    ) -> NDArray[np.float32]:
        plan = pursuit.plan(state)
        fastest_mps = max(state.speed_mps + RISE_MPS, FIRST_MPS)
        if self._lead is not None:
            fastest_mps = min(fastest_mps, stopping_speed(self._lead.gap_m))
        return action_from_twist(replace(plan, linear_x=min(plan.linear_x, fastest_mps)))

    def _known(self, situation: Situation) -> NDArray[np.float32]:
        ego = self._world.simulator.ego
        error_rad = ego.state.yaw_rad - ego.route.sample(situation.s_m)[2]
        forward, left = situation.acceleration_mps2
        ahead = ego.route.curvature_array(situation.s_m + CURVATURE_AHEAD_M, CURVATURE_STEP_M)
        known = (
            situation.lateral_m / 2.0,
            math.sin(error_rad),
            math.cos(error_rad),
            ego.motion.slip_rad * 10.0,
            forward / 5.0,
            left / 5.0,
            min(situation.to_goal_m, GOAL_IN_SIGHT_M) / GOAL_IN_SIGHT_M,
            ego.control.steer * 2.0,
            ego.control.throttle - ego.control.brake,
            *(ahead * 20.0),
        )
        return np.clip(np.array(known, dtype=np.float32), -LARGEST, LARGEST)

    def _known_lead(self) -> tuple[float, ...]:
        lead = self._lead
        if lead is None:
            return (0.0,) * LEAD_SIZE
        near = NEAR_M / (NEAR_M + max(lead.gap_m, 0.0))
        closing = (self._world.simulator.ego.state.speed_mps - lead.speed_mps) / CLOSING_MPS
        return 1.0, near, closing, lead.speed_mps / CONTROL_MAX_SPEED_MPS

    def _known_neighbours(self) -> NDArray[np.float64]:
        """Return the nearest vehicles, (NEIGHBOURS * NEIGHBOUR_SIZE,)."""
        known = np.zeros((NEIGHBOURS, NEIGHBOUR_SIZE))
        traffic, motion = self._world.simulator.traffic, self._world.simulator.ego.motion
        if traffic is not None:
            bodies = traffic.bodies(self._world.simulator.ego.state.z_m)
            offset = (bodies[:, 0] - motion.x_m) + 1j * (bodies[:, 1] - motion.y_m)
            nearest = np.argsort(np.abs(offset), kind='stable')[:NEIGHBOURS]
            turn = np.exp(-1j * motion.yaw_rad)
            place = offset[nearest] * turn / (3.0 * NEAR_M)
            velocity = (bodies[nearest, 5] + 1j * bodies[nearest, 6]) * turn
            velocity /= CONTROL_MAX_SPEED_MPS
            rows = (np.ones(len(nearest)), place.real, place.imag, velocity.real, velocity.imag)
            known[: len(nearest)] = np.column_stack(rows)
        return known.ravel()

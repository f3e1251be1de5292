# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lead vehicles: how one drives, by name, and which vehicle leads a driven car.

============  =====================================================================
none          there is no such vehicle
slow          drives at 3 m/s
stop_and_go   drives for 6 to 10 s, brakes gently and stands for 4 to 8 s, and so on
sudden_stop   drives for 8 to 14 s, brakes at 6 m/s^2 and stands for 5 s, and so on
standing      stands in the lane, 60 m ahead, for 25 s; then it drives away
============  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.idm import Lead

if TYPE_CHECKING:
    from td3_agent.sim.boxes import Box
    from td3_agent.sim.car import Car
    from td3_agent.sim.lane_network import FloatArray
    from td3_agent.sim.simulator import Simulator

CYCLES = 200
NO_LEADER = 'none'
SEEN_M = 60.0
SPACING_M = 1.0
AIR_M = 0.25  # beside the car, on either side


@dataclass(frozen=True, kw_only=True)
class LeadBehaviour:
    """How a lead vehicle drives.

    Attributes:
        ahead_m: where it starts, on the route before the driven car [m].
        speed_mps: fastest while it drives; infinite: as fast as other traffic.
        drives_s: shortest and longest time that it drives [s].
        stands_s: shortest and longest time that it brakes and stands [s].
        braking_mps2: how it comes to a stand.
        stands_first: whether it begins standing.
    """

    ahead_m: float = 25.0
    speed_mps: float = math.inf
    drives_s: tuple[float, float] = (math.inf, math.inf)
    stands_s: tuple[float, float] = (0.0, 0.0)
    braking_mps2: float = 2.0
    stands_first: bool = False


BEHAVIOURS = {
    'slow': LeadBehaviour(speed_mps=3.0),
    'stop_and_go': LeadBehaviour(drives_s=(6.0, 10.0), stands_s=(4.0, 8.0)),
    'sudden_stop': LeadBehaviour(drives_s=(8.0, 14.0), stands_s=(5.0, 5.0), braking_mps2=6.0),
    'standing': LeadBehaviour(ahead_m=60.0, stands_s=(25.0, 25.0), stands_first=True),
}
LEADERS = (NO_LEADER, *BEHAVIOURS)


class LeadVehicle:
    """One lead vehicle in one episode.

    Args:
        behaviour: how it drives.
        rng: draws when it stands.
    """

    def __init__(self, behaviour: LeadBehaviour, rng: np.random.Generator) -> None:
        self.behaviour = behaviour
        self._changes_s = _changes_s(behaviour, rng)

    def limit_mps(self, elapsed_s: float) -> float:
        """Return the speed that it wants at most [m/s], ``elapsed_s`` after the start [s]."""
        changes = int(np.searchsorted(self._changes_s, elapsed_s, side='right'))
        stands = (changes % 2 == 1) != self.behaviour.stands_first
        return 0.0 if stands else self.behaviour.speed_mps


def _changes_s(behaviour: LeadBehaviour, rng: np.random.Generator) -> FloatArray:
    """Return when driving and standing take turns [s]."""
    if behaviour.stands_first:
        return np.array([rng.uniform(*behaviour.stands_s)])
    if math.isinf(behaviour.drives_s[0]):
        return np.empty(0)
    drives = rng.uniform(*behaviour.drives_s, CYCLES)
    stands = rng.uniform(*behaviour.stands_s, CYCLES)
    return np.cumsum(np.column_stack((drives, stands)).ravel())


def lead_of(simulator: Simulator, car: Car, near_s_m: float | None = None) -> Lead | None:
    """Return the nearest vehicle in the way of a car that follows its route, or None.

    Args:
        simulator: where it is.
        car: one of the world's.
        near_s_m: about where on its route the car is [m]; None searches all of it.
    """
    motion, route = car.motion, car.route
    others = _others(simulator, car)
    near = np.hypot(others[:, 0] - motion.x_m, others[:, 1] - motion.y_m) < SEEN_M
    if not near.any():
        return None
    at_m = route.project(motion.x_m, motion.y_m, near_s_m).s_m
    ahead_m = np.arange(0.0, SEEN_M, SPACING_M)
    if not route.closed:
        ahead_m = ahead_m[ahead_m < max(route.length_m - at_m, SPACING_M)]
    gap_m, speed_mps = _in_the_way(route.sample_array(at_m + ahead_m), others[near], car)
    if not np.isfinite(gap_m).any():
        return None
    nearest = int(gap_m.argmin())
    return Lead(float(gap_m[nearest]), float(speed_mps[nearest]))


def _others(simulator: Simulator, car: Car) -> FloatArray:
    """Return all other vehicles, (B, 7): x, y, yaw, length, width, and velocity in map axes."""
    rows = [_row(box, (0.0, 0.0)) for box in simulator.parked]
    rows += [
        _row(one.outline, one.motion.velocity_mps) for one in simulator.cars if one is not car
    ]
    standing = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return (
        standing
        if simulator.traffic is None
        else np.vstack((standing, simulator.traffic.bodies(car.state.z_m)))
    )


def _row(box: Box, velocity_mps: tuple[float, float]) -> tuple[float, ...]:
    return (box.x_m, box.y_m, box.yaw_rad, box.length_m, box.width_m, *velocity_mps)


def _in_the_way(way: FloatArray, others: FloatArray, car: Car) -> tuple[FloatArray, FloatArray]:
    """Return gap [m], infinite for vehicles not in the way, and speed along the route, (B,) each.

    Args:
        way: (K, 3) x, y, heading of the route, ``SPACING_M`` apart, from the car on.
        others: (B, 7) as from :func:`_others`.
        car: the driven car.
    """
    x, y, yaw, length, width, vx, vy = others.T
    apart = np.hypot(x[:, np.newaxis] - way[:, 0], y[:, np.newaxis] - way[:, 1])
    nearest = apart.argmin(axis=1)
    heading = way[nearest, 2]
    cos, sin = np.cos(heading), np.sin(heading)
    dx, dy = x - way[nearest, 0], y - way[nearest, 1]
    along, lateral = cos * dx + sin * dy, cos * dy - sin * dx
    turned_cos, turned_sin = np.abs(np.cos(yaw - heading)), np.abs(np.sin(yaw - heading))
    half_along = 0.5 * (length * turned_cos + width * turned_sin)
    half_across = 0.5 * (length * turned_sin + width * turned_cos)
    place = nearest * SPACING_M + along
    info = car.vehicle_info
    meets = np.abs(lateral) < half_across + 0.5 * info.width_m + AIR_M
    ahead = (place > 0.0) & (along < half_along + SPACING_M)  # not beyond the end of the route
    gap = place - half_along - 0.5 * info.length_m
    return np.where(meets & ahead, gap, np.inf), cos * vx + sin * vy

# SPDX-License-Identifier: Apache-2.0
"""Vehicles on the lanes of a map as arrays, and driven cars as those vehicles see them."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

from td3_agent.sim.bodies import WIDEST_M

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.sim.car import Car
    from td3_agent.sim.lane_network import FloatArray, IntArray, LaneNetwork, Place

OFF_MAP = -1
SEEN_WITHIN_M = 4.0  # of an edge: more than half a car and half a lane
AIR_M = 0.15  # beside a car that is passed
FOLLOWS_WITHIN_M = 1.95  # of a lane's centre a car follows the lane
COSINE_ALONG = 0.7


@dataclass
class Fleet:
    """Vehicles that drive by themselves.

    Attributes:
        edge: (N,) intp, edge that each is on; ``OFF_MAP`` while it is away.
        s_m: (N,) place of its middle on the edge [m].
        speed_mps: (N,) its speed, >= 0.
        length_m: (N,) of its body.
        plan: (N, K) intp, edges that it takes next; ``OFF_MAP`` where there is none.
    """

    edge: IntArray
    s_m: FloatArray
    speed_mps: FloatArray
    length_m: FloatArray
    plan: IntArray

    def __len__(self) -> int:
        """Return how many vehicles there are."""
        return len(self.edge)

    @property
    def half_m(self) -> FloatArray:
        """(N,) half of each body's length [m]."""
        return 0.5 * self.length_m


@dataclass(frozen=True, kw_only=True)
class Sighting:
    """A driven car as it stands on an edge; one that stands on several is seen on each.

    Attributes:
        edge: number of the edge.
        s_m: place of its middle [m].
        half_m: half of what it covers along the edge [m].
        speed_mps: along the edge, negative against it.
        drives_along: whether it follows this lane.
    """

    edge: int
    s_m: float
    half_m: float
    speed_mps: float
    drives_along: bool


def sightings(network: LaneNetwork, cars: Sequence[Car]) -> list[Sighting]:
    """Return all edges that driven cars stand on or would be touched on."""
    seen = []
    for car in cars:
        motion = car.motion
        for place in network.near(motion.x_m, motion.y_m, SEEN_WITHIN_M):
            sighting = _sighting(place, car)
            in_the_way = sighting is not None and (
                -sighting.half_m < sighting.s_m
                and sighting.s_m - sighting.half_m < network.length_m[place.edge]
            )
            if sighting is not None and in_the_way:
                seen.append(sighting)
    return seen


def _sighting(place: Place, car: Car) -> Sighting | None:
    """Return a car as seen from a lane, None where it leaves room to pass."""
    motion, info = car.motion, car.vehicle_info
    turned = motion.yaw_rad - place.heading_rad
    cos, sin = abs(math.cos(turned)), abs(math.sin(turned))
    across_m = 0.5 * (info.length_m * sin + info.width_m * cos)
    if abs(place.lateral_m) > across_m + 0.5 * WIDEST_M + AIR_M:
        return None
    course = motion.yaw_rad + motion.slip_rad - place.heading_rad
    return Sighting(
        edge=place.edge,
        s_m=place.s_m,
        half_m=0.5 * (info.length_m * cos + info.width_m * sin),
        speed_mps=motion.speed_mps * math.cos(course),
        drives_along=math.cos(turned) > COSINE_ALONG and abs(place.lateral_m) < FOLLOWS_WITHIN_M,
    )

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicles on the lanes of a map as arrays, driven cars on those lanes, and their order."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.sim.boxes import WIDEST_M

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

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
        return len(self.edge)

    @property
    def half_m(self) -> FloatArray:
        """(N,) half of each body's length [m]."""
        return 0.5 * self.length_m


@dataclass(frozen=True, kw_only=True)
class CarOnEdge:
    """A driven car on an edge; a car may be on several edges at once.

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


def cars_on_edges(network: LaneNetwork, cars: Sequence[Car]) -> list[CarOnEdge]:
    """Return driven cars on every edge where another vehicle would touch them."""
    seen = []
    for car in cars:
        motion = car.motion
        for place in network.near(motion.x_m, motion.y_m, SEEN_WITHIN_M, car.state.z_m):
            on_edge = _on_edge(place, car)
            in_the_way = on_edge is not None and (
                -on_edge.half_m < on_edge.s_m
                and on_edge.s_m - on_edge.half_m < network.length_m[place.edge]
            )
            if on_edge is not None and in_the_way:
                seen.append(on_edge)
    return seen


def _on_edge(place: Place, car: Car) -> CarOnEdge | None:
    """Return a car on a lane, None where it leaves room to pass."""
    motion, info = car.motion, car.vehicle_info
    turned = motion.yaw_rad - place.heading_rad
    cos, sin = abs(math.cos(turned)), abs(math.sin(turned))
    across_m = 0.5 * (info.length_m * sin + info.width_m * cos)
    if abs(place.lateral_m) > across_m + 0.5 * WIDEST_M + AIR_M:
        return None
    course = motion.yaw_rad + motion.slip_rad - place.heading_rad
    return CarOnEdge(
        edge=place.edge,
        s_m=place.s_m,
        half_m=0.5 * (info.length_m * cos + info.width_m * sin),
        speed_mps=motion.speed_mps * math.cos(course),
        drives_along=math.cos(turned) > COSINE_ALONG and abs(place.lateral_m) < FOLLOWS_WITHIN_M,
    )


class Queues:
    """A fleet of N vehicles, then M - N driven cars, sorted by edge and place.

    Args:
        fleet: vehicles that drive by themselves.
        seen: driven cars.
        length_m: (E,) of every edge.
    """

    def __init__(self, fleet: Fleet, seen: Sequence[CarOnEdge], length_m: FloatArray) -> None:
        self._fleet, self._length_m = fleet, length_m
        cars_edge = np.array([car.edge for car in seen], dtype=np.intp)
        cars = np.array([(car.s_m, car.half_m, car.speed_mps) for car in seen]).reshape(-1, 3).T
        self._edge = np.concatenate((fleet.edge, cars_edge))
        self._s_m = np.concatenate((fleet.s_m, cars[0]))
        self._rear_m = self._s_m - np.concatenate((fleet.half_m, cars[1]))
        self._speed_mps = np.concatenate((fleet.speed_mps, cars[2]))
        self._order = np.lexsort((self._s_m, self._edge))
        self._sorted_edge = self._edge[self._order]

    def ahead(self) -> tuple[FloatArray, FloatArray]:
        """Return gap [m] and speed [m/s] of the next vehicle ahead of each of the fleet, (N,).

        It is looked for on a vehicle's own edge and on those of its plan; the gap is infinite
        where there is none, and the speed 0.
        """
        fleet, number = self._fleet, len(self._fleet)
        rank = np.empty(len(self._order), dtype=np.intp)
        rank[self._order] = np.arange(len(self._order))
        gap, speed = np.full(number, np.inf), np.zeros(number)
        seeking = fleet.edge >= 0
        self._look(rank[:number] + 1, fleet.edge, -fleet.s_m, seeking, (gap, speed))
        beyond_m = self._length_m[fleet.edge] - fleet.s_m
        for following in fleet.plan.T:
            seeking = seeking & np.isinf(gap) & (following >= 0)
            if not seeking.any():
                break
            first = np.searchsorted(self._sorted_edge, following)
            self._look(first, following, beyond_m, seeking, (gap, speed))
            beyond_m = beyond_m + self._length_m[following]
        return np.asarray(gap - fleet.half_m), speed

    def _look(
        self,
        rank: IntArray,
        edge: IntArray,
        offset_m: FloatArray,
        seeking: NDArray[np.bool_],
        into: tuple[FloatArray, FloatArray],
    ) -> None:
        """Enter the vehicle of a rank for every seeking vehicle, if it is on an edge."""
        there = np.minimum(rank, len(self._order) - 1)
        found = seeking & (rank < len(self._order)) & (self._sorted_edge[there] == edge)
        ahead = self._order[there[found]]
        gap, speed = into
        gap[found] = offset_m[found] + self._rear_m[ahead]
        speed[found] = self._speed_mps[ahead]

    def room_m(self) -> FloatArray:
        """Return how much of every edge is free before its last vehicle, (E,) [m]."""
        room: FloatArray = self._length_m.copy()
        edge = self._sorted_edge
        last = self._order[np.append(True, edge[1:] != edge[:-1])] if len(edge) else self._order
        last = last[self._edge[last] >= 0]
        room[self._edge[last]] = self._rear_m[last]
        return room

    def foremost(self, chosen: NDArray[np.bool_]) -> IntArray:
        """Return the foremost of the chosen vehicles on every edge that has any.

        Args:
            chosen: (M,) which vehicles count.
        """
        order = self._order[chosen[self._order]]
        edge = self._edge[order]
        first = order[np.append(edge[1:] != edge[:-1], True)] if len(order) else order
        return np.asarray(first[self._edge[first] >= 0])

    def behind(self, others: IntArray) -> NDArray[np.bool_]:
        """Whether each of the fleet is behind one of ``others`` on the same edge, (N,)."""
        front_m = np.full(len(self._length_m), -np.inf)
        front_m[self._edge[others]] = self._s_m[others]
        return np.asarray((self._fleet.edge >= 0) & (self._fleet.s_m < front_m[self._fleet.edge]))

# SPDX-License-Identifier: Apache-2.0
"""Who is behind whom: vehicles in their order along every edge, at one instant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.fleet import Fleet, Sighting
    from td3_agent.sim.lane_network import FloatArray, IntArray


class Queues:
    """A fleet of N vehicles and then M - N sightings of driven cars, sorted by edge and place.

    Args:
        fleet: vehicles that drive by themselves.
        seen: driven cars.
        length_m: (E,) of every edge.
    """

    def __init__(self, fleet: Fleet, seen: Sequence[Sighting], length_m: FloatArray) -> None:
        """Sort."""
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
        """Enter, for those who seek, the vehicle of a rank if it is on an edge."""
        there = np.minimum(rank, len(self._order) - 1)
        found = seeking & (rank < len(self._order)) & (self._sorted_edge[there] == edge)
        who = self._order[there[found]]
        gap, speed = into
        gap[found] = offset_m[found] + self._rear_m[who]
        speed[found] = self._speed_mps[who]

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
        who = order[np.append(edge[1:] != edge[:-1], True)] if len(order) else order
        return np.asarray(who[self._edge[who] >= 0])

    def behind(self, whom: IntArray) -> NDArray[np.bool_]:
        """Whether each of the fleet is behind one of ``whom`` on the same edge, (N,)."""
        front_m = np.full(len(self._length_m), -np.inf)
        front_m[self._edge[whom]] = self._s_m[whom]
        return np.asarray((self._fleet.edge >= 0) & (self._fleet.s_m < front_m[self._fleet.edge]))

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a route planner knows of a map: lanes, what follows them, and where to change lanes.

Arrays and tuples only: the graph is built once per map, in a child process if need be, and is
sent to where it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.sim.lane_network import arc_lengths, lane_network

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.lane_network import FloatArray, IntArray, LaneNetwork
    from td3_agent.sim.road import LaneGeometry, RoadMap

NOWHERE = -1
# CARLA's LaneMarkingType of lines that may be crossed: OTHER, BROKEN, BROKENBROKEN, BOTTSDOTS,
# NONE. A line that is solid on either side is not crossed.
CROSSED = (0, 1, 6, 7, 10)
BLOCK = 256  # rows compared at a time: lanes are kilometres long
WINDOW = 64  # rows by which lanes side by side may differ in length


@dataclass(frozen=True, eq=False)
class RoadGraph:
    """Lanes of a map, for planning routes.

    Attributes:
        name: of the map.
        network: edges, their rows, and what follows what.
        beside: (2, R) intp, row of the lane to the left and to the right that may be changed to
            here; ``NOWHERE`` where there is none, or paint or a junction forbids it.
        spawn_points: (P, 4) x, y, z [m] and heading [rad] of the map's spawn points.
    """

    name: str
    network: LaneNetwork
    beside: NDArray[np.intp]
    spawn_points: FloatArray

    def row(self, edge: int, s_m: float) -> float:
        """Return the row of a place on an edge, rows in between included."""
        return float(self.network.first_row[edge] + s_m * self.network.rows_per_m[edge])

    def s_of_row(self, edge: int, row: int) -> float:
        """Return the place of a row on its edge [m]."""
        return float((row - self.network.first_row[edge]) / self.network.rows_per_m[edge])

    def position(self, edge: int, s_m: float) -> tuple[float, float, float, float]:
        """Return x, y, z [m] and heading [rad] of a place on an edge."""
        place = np.array([edge]), np.array([s_m])
        x, y, heading = self.network.poses(*place)
        z = self.network.heights_m(*place)
        return float(x[0]), float(y[0]), float(z[0]), float(heading[0])

    def along(self, edge: int, from_m: float, to_m: float) -> FloatArray:
        """Return the centre of an edge between two places, (n, 4): x, y, z [m], heading [rad]."""
        low, high = math.floor(self.row(edge, from_m)) + 1, math.ceil(self.row(edge, to_m))
        ends = self.position(edge, from_m), self.position(edge, to_m)
        return np.vstack((ends[:1], self.rows[low : max(low, high)], ends[1:]))

    @cached_property
    def rows(self) -> FloatArray:
        """(R, 4) x, y, z [m] and heading [rad] of all rows."""
        network = self.network
        return np.column_stack((network.x_m, network.y_m, network.z_m, network.heading_rad))


def road_graph(road_map: RoadMap) -> RoadGraph:
    """Return the graph of a map.

    Raises:
        MapError: none of its lanes is long enough to drive on.
    """
    network = lane_network(road_map)
    lanes = road_map.driving_lanes
    tables = [
        _edge_table(edge, lanes, count + 1)
        for edge, count in zip(network.lanes, network.count.tolist(), strict=True)
    ]
    lane_of_row, sample_of_row = (np.concatenate(columns) for columns in zip(*tables, strict=True))
    return RoadGraph(
        name=road_map.name,
        network=network,
        beside=_beside(network, lanes, lane_of_row, sample_of_row),
        spawn_points=np.array(road_map.spawn_points),
    )


def _edge_table(
    edge: Sequence[int], lanes: Sequence[LaneGeometry], count: int
) -> tuple[IntArray, IntArray]:
    """Return of an edge's rows, (count,) each: lane, and nearest sample of it."""
    points = np.concatenate([lanes[i].centre for i in edge])
    lane = np.concatenate([np.full(len(lanes[i].centre), i) for i in edge])
    sample = np.concatenate([np.arange(len(lanes[i].centre)) for i in edge])
    along = arc_lengths(points)
    s = np.linspace(0.0, along[-1], count)
    nearest = np.clip(np.searchsorted(along, s), 0, len(points) - 1)
    return lane[nearest], sample[nearest]


def _beside(
    network: LaneNetwork,
    lanes: Sequence[LaneGeometry],
    lane_of_row: IntArray,
    sample_of_row: IntArray,
) -> NDArray[np.intp]:
    """Return for each row the row to its left and right that may be changed to, (2, R)."""
    beside = np.full((2, len(network.x_m)), NOWHERE, dtype=np.intp)
    places = np.column_stack((network.x_m, network.y_m))
    rows_of_lane = {
        number: np.flatnonzero(lane_of_row == number) for number in np.unique(lane_of_row).tolist()
    }
    for one, other in _neighbours(lanes):
        rows, others = rows_of_lane.get(one), rows_of_lane.get(other)
        if rows is None or others is None:
            continue
        nearest = _nearest(places[rows], places[others])
        dx, dy = (places[others[nearest]] - places[rows]).T
        heading = network.heading_rad[rows]
        is_left = np.cos(heading) * dy - np.sin(heading) * dx > 0.0
        lane, sample = lanes[one], sample_of_row[rows]
        paint = np.where(is_left, lane.left_marking[sample, 0], lane.right_marking[sample, 0])
        may = np.isin(paint, CROSSED)
        beside[np.where(is_left, 0, 1)[may], rows[may]] = others[nearest[may]]
    return beside


def _nearest(places: FloatArray, others: FloatArray) -> IntArray:
    """Return for each place of a lane the nearest row of the lane beside it."""
    nearest = np.empty(len(places), dtype=np.intp)
    for first in range(0, len(places), BLOCK):
        last = min(first + BLOCK, len(places))
        low = max(first * len(others) // len(places) - WINDOW, 0)
        window = others[low : last * len(others) // len(places) + WINDOW]
        offsets = window[np.newaxis] - places[first:last, np.newaxis]
        nearest[first:last] = low + np.hypot(offsets[..., 0], offsets[..., 1]).argmin(axis=1)
    return nearest


def _neighbours(lanes: Sequence[LaneGeometry]) -> Iterator[tuple[int, int]]:
    """Return pairs of lanes of one road, side by side, that are driven the same way."""
    numbers = {
        (lane.span.road_id, lane.span.s_start_m, lane.span.lane_id): i
        for i, lane in enumerate(lanes)
    }
    for i, lane in enumerate(lanes):
        span = lane.span
        if span.in_junction:
            continue
        for lane_id in (span.lane_id - 1, span.lane_id + 1):
            other = numbers.get((span.road_id, span.s_start_m, lane_id))
            if other is not None and _same_way(lane, lanes[other]):
                yield i, other


def _same_way(one: LaneGeometry, other: LaneGeometry) -> bool:
    """Whether two lanes of one section are driven in the same direction."""
    return math.cos(float(one.heading_rad[0] - other.heading_rad[0])) > 0.0

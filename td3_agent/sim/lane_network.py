# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The lanes of a map as tables: what traffic drives on, looked up by edge and arc length.

An edge is a run of lanes without a choice: a street from junction to junction, or one path
through a junction. The map is asked once, when the tables are built.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from td3_agent.sim.lane_runs import over_short_streets, streets_and_paths
from td3_agent.sim.opendrive import MapError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.sim.road import LaneGeometry, RoadMap

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]

ROW_SPACING_M = 1.0
FASTEST_MPS = 50.0 / 3.6  # in built-up areas
LATERAL_ACCELERATION_MPS2 = 2.0  # taken in a bend
PLANNED_DECELERATION_MPS2 = 1.5  # before a bend
# Two paths this close cannot be used at once: the width of the widest vehicle, and some air.
CLEARANCE_M = 2.6
FREE = -math.inf  # two paths that never meet
GAP_M = 0.05  # between lanes that follow each other: driven across, not jumped over
STOREY_M = 2.5  # roads that cross without meeting lie farther apart in height
CELL_M = 8.0  # rows are looked up by cells of this edge


class Pose(NamedTuple):
    """Where a car is, or can start, in the map frame [m], and its heading [rad]."""

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float


class Place(NamedTuple):
    """A place on an edge.

    Attributes:
        edge: number of the edge.
        s_m: arc length from its start [m].
        lateral_m: signed distance from its centre, left positive [m].
        heading_rad: its direction there [rad], not wrapped.
    """

    edge: int
    s_m: float
    lateral_m: float
    heading_rad: float


class ByCell:
    """Numbers of points, found by place.

    Args:
        points: (N, 2) [m].
        cell_m: edge of the square cells that they are sorted into.
    """

    def __init__(self, points: FloatArray, cell_m: float) -> None:
        self._cell_m, self._count = cell_m, len(points)
        cells = np.floor(points / cell_m).astype(np.int64)
        order = np.lexsort((cells[:, 1], cells[:, 0]))
        firsts = np.flatnonzero(np.any(np.diff(cells[order], axis=0) != 0, axis=1)) + 1
        self._numbers = {
            (int(cells[part[0], 0]), int(cells[part[0], 1])): part
            for part in np.split(order, firsts)
            if len(part)
        }

    def within(self, x0: float, y0: float, x1: float, y1: float) -> IntArray:
        """Return the points in the cells that touch a rectangle [m], in their order."""
        columns = range(math.floor(x0 / self._cell_m), math.floor(x1 / self._cell_m) + 1)
        rows = range(math.floor(y0 / self._cell_m), math.floor(y1 / self._cell_m) + 1)
        if len(columns) * len(rows) > len(self._numbers):
            return np.arange(self._count)
        found = [self._numbers[i, j] for i in columns for j in rows if (i, j) in self._numbers]
        return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.intp)


@dataclass(frozen=True, eq=False)
class LaneNetwork:
    """Edges, the rows of their tables, and where paths through junctions meet.

    Attributes:
        length_m: (E,) of every edge [m].
        count: (E,) intp, steps of its table, which has one row more.
        rows_per_m: (E,) steps by length [1/m].
        first_row: (E,) intp, where its rows begin.
        x_m: (R,) centre of the lane, rows evenly spaced along each edge [m].
        y_m: (R,) the same [m].
        heading_rad: (R,) driving direction [rad], continuous along an edge, not wrapped.
        z_m: (R,) height [m].
        limit_mps: (R,) speed that the bends here and further along the edge allow [m/s].
        edge_of_row: (R,) intp.
        lanes: for each edge the numbers of its lanes in :attr:`RoadMap.driving_lanes`, in order.
        followers: edges that go on from each edge.
        in_junction: (E,) bool.
        entries: edges outside junctions that nothing leads to: where the map is entered.
        path_of_edge: (E,) intp, number of a path through a junction; -1 for other edges.
        cleared_at_m: (C, C), arc length on path i beyond which it no longer meets path j [m];
            ``FREE`` where they never do.
        is_joined: (C,) bool, whether a path leads through several junctions.
    """

    length_m: FloatArray
    count: IntArray
    rows_per_m: FloatArray
    first_row: IntArray
    x_m: FloatArray
    y_m: FloatArray
    heading_rad: FloatArray
    z_m: FloatArray
    limit_mps: FloatArray
    edge_of_row: IntArray
    lanes: tuple[tuple[int, ...], ...]
    followers: tuple[tuple[int, ...], ...]
    in_junction: NDArray[np.bool_]
    entries: tuple[int, ...]
    path_of_edge: IntArray
    cleared_at_m: FloatArray
    is_joined: NDArray[np.bool_]

    def poses(self, edge: IntArray, s_m: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return x [m], y [m] and heading [rad] of places on the lanes, (N,) each."""
        place = self._rows(edge, s_m)
        return (
            _between(self.x_m, *place),
            _between(self.y_m, *place),
            _between(self.heading_rad, *place),
        )

    def limits_mps(self, edge: IntArray, s_m: FloatArray) -> FloatArray:
        """Return the speed limit at places on the lanes, (N,) [m/s]."""
        return _between(self.limit_mps, *self._rows(edge, s_m))

    def entry_limits_mps(self, edge: IntArray) -> FloatArray:
        """Return the speed limit at the start of edges, (N,) [m/s]."""
        return np.asarray(self.limit_mps[self.first_row[edge]])

    @cached_property
    def leads_on(self) -> NDArray[np.bool_]:
        """Whether one can drive on from each edge for ever, (E,)."""
        leads_on = np.ones(len(self.followers), dtype=np.bool_)
        while True:
            ends = [
                edge
                for edge in np.flatnonzero(leads_on).tolist()
                if not any(leads_on[after] for after in self.followers[edge])
            ]
            if not ends:
                return leads_on
            leads_on[ends] = False

    @cached_property
    def _rows_by_cell(self) -> ByCell:
        return ByCell(np.column_stack((self.x_m, self.y_m)), CELL_M)

    @cached_property
    def has_storeys(self) -> bool:
        """Whether roads may cross at different heights."""
        return float(np.ptp(self.z_m)) > STOREY_M

    def heights_m(self, edge: IntArray, s_m: FloatArray) -> FloatArray:
        """Return the height of places on the lanes, (N,) [m]."""
        return _between(self.z_m, *self._rows(edge, s_m))

    def near(
        self, x_m: float, y_m: float, reach_m: float, z_m: float | None = None
    ) -> list[Place]:
        """Return the place on every edge that passes a position within ``reach_m`` [m].

        Args:
            x_m: position in the map frame [m].
            y_m: position in the map frame [m].
            reach_m: horizontally [m].
            z_m: height of the position, where edges above and below do not count [m].
        """
        rows = self._rows_by_cell.within(
            x_m - reach_m, y_m - reach_m, x_m + reach_m, y_m + reach_m
        )
        dx, dy = x_m - self.x_m[rows], y_m - self.y_m[rows]
        squared = dx * dx + dy * dy
        close = squared < reach_m * reach_m
        if z_m is not None and self.has_storeys:
            close &= np.abs(z_m - self.z_m[rows]) < STOREY_M
        nearest: dict[int, int] = {}
        for row in rows[close][np.argsort(squared[close], kind='stable')].tolist():
            nearest.setdefault(int(self.edge_of_row[row]), row)
        return [self._place(edge, row, x_m, y_m) for edge, row in sorted(nearest.items())]

    def _place(self, edge: int, row: int, x_m: float, y_m: float) -> Place:
        heading = float(self.heading_rad[row])
        dx, dy = x_m - float(self.x_m[row]), y_m - float(self.y_m[row])
        cos, sin = math.cos(heading), math.sin(heading)
        table_m = (row - int(self.first_row[edge])) / float(self.rows_per_m[edge])
        along_m = table_m + cos * dx + sin * dy
        return Place(edge, along_m, cos * dy - sin * dx, heading)

    def meets_from_m(self, edge: int, other: int) -> float:
        """Return the arc length at which an edge first comes near another [m], or infinity."""
        ends = np.stack((self.first_row, self.first_row + self.count + 1))
        mine, theirs = (slice(*ends[:, number].tolist()) for number in (edge, other))
        places = np.column_stack((self.x_m, self.y_m))
        close = _meeting(places[mine], places[theirs])
        return float(close[0] / self.rows_per_m[edge]) if len(close) else math.inf

    def _rows(self, edge: IntArray, s_m: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the row before each place, and how far on to the next one it lies."""
        place = s_m * self.rows_per_m[edge]
        step = np.minimum(place.astype(np.intp), self.count[edge] - 1)
        return self.first_row[edge] + step, place - step


def _between(table: FloatArray, row: IntArray, fraction: FloatArray) -> FloatArray:
    """Return the values of a table a fraction of the way from each row to the next, (N,)."""
    here = table[row]
    return np.asarray(here + fraction * (table[row + 1] - here))


def arc_lengths(points: FloatArray) -> FloatArray:
    """Return (N,) how far along a line each of its (N, 2 or 3) points is [m], seen from above."""
    steps = np.hypot(*np.diff(points[:, :2], axis=0).T)
    return np.concatenate(([0.0], np.cumsum(steps)))


@lru_cache(maxsize=64)  # training goes round among three dozen roads
def lane_network(road_map: RoadMap, shortest_street_m: float = 0.0) -> LaneNetwork:
    """Return the tables of a map; asking again for the same map is free.

    Args:
        road_map: the map.
        shortest_street_m: shorter streets between two junctions are parts of the paths through
            these junctions [m].

    Raises:
        MapError: none of its lanes is long enough to drive on.
    """
    lanes = road_map.driving_lanes
    runs, followers = streets_and_paths(lanes, road_map.lane_followers)
    is_path = [lanes[run[0]].span.in_junction for run in runs]
    short = {
        number
        for number, run in enumerate(runs)
        if not is_path[number] and _length_m(lanes, run) < shortest_street_m
    }
    runs, followers, is_path = over_short_streets(runs, followers, is_path, short)
    in_junction = np.array(is_path)
    tables = [_table(rows) for rows in _bridged([_rows_of(lanes, run) for run in runs], followers)]
    length_m = np.array([length for length, _ in tables])
    if not length_m.max(initial=0.0) > ROW_SPACING_M:
        raise MapError(f'map {road_map.name!r} has no lane longer than {ROW_SPACING_M:g} m')
    count = np.array([len(rows) - 1 for _, rows in tables], dtype=np.intp)
    rows = np.vstack([rows for _, rows in tables])
    first_row = np.concatenate(([0], np.cumsum(count + 1)[:-1])).astype(np.intp)
    path_of_edge = np.where(in_junction, np.cumsum(in_junction) - 1, -1).astype(np.intp)
    led_to = {edge for ways in followers for edge in ways}
    return LaneNetwork(
        length_m=length_m,
        count=count,
        rows_per_m=count / length_m,
        first_row=first_row,
        x_m=rows[:, 0].copy(),
        y_m=rows[:, 1].copy(),
        heading_rad=rows[:, 2].copy(),
        z_m=rows[:, 3].copy(),
        limit_mps=np.concatenate([_limits(table[:, 2], length) for length, table in tables]),
        edge_of_row=np.repeat(np.arange(len(runs)), count + 1),
        lanes=tuple(tuple(run) for run in runs),
        followers=followers,
        in_junction=in_junction,
        entries=tuple(
            edge for edge in range(len(runs)) if edge not in led_to and not in_junction[edge]
        ),
        path_of_edge=path_of_edge,
        cleared_at_m=_cleared_at(
            [
                (length, table)
                for (length, table), is_path in zip(tables, in_junction, strict=True)
                if is_path
            ]
        ),
        is_joined=np.array(
            [
                not all(lanes[number].span.in_junction for number in run)
                for run, is_path in zip(runs, in_junction, strict=True)
                if is_path
            ],
            dtype=np.bool_,
        ),
    )


def _length_m(lanes: Sequence[LaneGeometry], run: Sequence[int]) -> float:
    return float(arc_lengths(np.concatenate([lanes[number].centre for number in run]))[-1])


def _rows_of(lanes: Sequence[LaneGeometry], run: Sequence[int]) -> FloatArray:
    """Return (N, 4) x, y, heading, z of lanes that follow each other, heading not wrapped."""
    points = np.concatenate([lanes[number].centre for number in run])
    heading = np.unwrap(np.concatenate([lanes[number].heading_rad for number in run]))
    return np.column_stack((points[:, :2], heading, points[:, 2]))


def _bridged(rows: list[FloatArray], followers: Sequence[Sequence[int]]) -> list[FloatArray]:
    """Lengthen runs so that each begins where the one before it ends, as far as it can.

    A run with one leader begins at that leader's end; a run with one follower that has several
    leaders ends at that follower's start.
    """
    leaders: list[list[int]] = [[] for _ in rows]
    for run, ways in enumerate(followers):
        for way in ways:
            leaders[way].append(run)
    bridged = list(rows)
    for run, ways in enumerate(followers):
        for way in ways:
            end, start = rows[run][-1], rows[way][0]
            if math.dist(end[:2], start[:2]) < GAP_M:
                continue
            if len(leaders[way]) == 1:
                bridged[way] = np.vstack(([*end[:2], start[2], end[3]], bridged[way]))
            elif len(ways) == 1:
                bridged[run] = np.vstack((bridged[run], [*start[:2], end[2], start[3]]))
    return bridged


def _table(points: FloatArray) -> tuple[float, FloatArray]:
    """Return length [m] and evenly spaced rows (x, y, heading, z) along a run's points."""
    along = arc_lengths(points)
    count = max(1, round(float(along[-1]) / ROW_SPACING_M))
    s = np.linspace(0.0, along[-1], count + 1)
    return float(along[-1]), np.column_stack(
        [np.interp(s, along, points[:, column]) for column in range(4)]
    )


def _limits(heading: FloatArray, length_m: float) -> FloatArray:
    """Return the speeds that a lane's bends allow, braking before them included, (R,) [m/s]."""
    spacing_m = length_m / (len(heading) - 1)
    curvature = np.abs(np.diff(heading)) / spacing_m
    bend = np.maximum(np.append(curvature, 0.0), np.append(0.0, curvature))
    squared = np.minimum(FASTEST_MPS**2, LATERAL_ACCELERATION_MPS2 / np.maximum(bend, 1e-9))
    gain = 2.0 * PLANNED_DECELERATION_MPS2 * spacing_m * np.arange(len(heading))
    # v^2 <= v1^2 + 2 b ds for every later place at once: a minimum from the end of v^2 + 2 b s.
    return np.asarray(np.sqrt(np.minimum.accumulate((squared + gain)[::-1])[::-1] - gain))


def _cleared_at(paths: Sequence[tuple[float, FloatArray]]) -> FloatArray:
    """Return where each path through a junction has left every other one behind, (C, C) [m]."""
    cleared = np.full((len(paths), len(paths)), FREE)
    if not paths:
        return cleared
    middle = np.array([rows[:, :2].mean(axis=0) for _, rows in paths])
    reach = np.array(
        [
            np.hypot(*(rows[:, :2] - at).T).max()
            for (_, rows), at in zip(paths, middle, strict=True)
        ]
    )
    apart = np.hypot(*(middle[:, np.newaxis] - middle).transpose(2, 0, 1))
    for one, other in np.argwhere(apart < reach[:, np.newaxis] + reach + CLEARANCE_M).tolist():
        if one != other:
            cleared[one, other] = _meets_until(paths[one], paths[other][1])
    return cleared


def _meets_until(path: tuple[float, FloatArray], other: FloatArray) -> float:
    """Return the arc length [m] at which a path is last near another one's rows, or ``FREE``."""
    length_m, rows = path
    close = _meeting(rows[:, :2], other[:, :2])
    return float(close[-1]) * length_m / (len(rows) - 1) if len(close) else FREE


def _meeting(places: FloatArray, others: FloatArray) -> IntArray:
    """Return the numbers of the (N, 2) places that are near any of the (M, 2) others."""
    offsets = places[:, np.newaxis] - others
    return np.flatnonzero((np.hypot(*offsets.transpose(2, 0, 1)) < CLEARANCE_M).any(axis=1))

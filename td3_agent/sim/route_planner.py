# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Routes from a car to a goal: along lanes, by the turns that a map allows.

Dijkstra's algorithm over the edges of a :class:`~td3_agent.sim.road_graph.RoadGraph`. A lane
change is made as early as paint allows, and counts like a detour: a route stays in its lane
unless the goal, or the way to it, asks for another one.
"""

from __future__ import annotations

from functools import cached_property
import heapq
from itertools import pairwise, product
import math
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np

from td3_agent.driving.geometry import wrap_angle
from td3_agent.sim.lane_network import STOREY_M, Pose, arc_lengths
from td3_agent.sim.road_graph import NOWHERE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from td3_agent.sim.lane_network import FloatArray
    from td3_agent.sim.road_graph import RoadGraph

POINT_SPACING_M = 1.0
LANE_CHANGE_M = 30.0  # 1.3 m/s^2 across a lane of 3.5 m at 8.33 m/s
SHORT_LANE_CHANGE_M = 15.0  # where no longer one fits
LANE_CHANGE_COST_M = 200.0  # a detour as long as this is driven instead
BESIDE_M = 0.5  # places that are this much farther than the nearest one count too
TURNED_M = 3.0  # a start whose lane is turned by 1 rad from the car counts as so much farther
FROM_END_M = 8.0  # of an edge, where no goal is drawn
FAR_M, NEAR_M = 100.0, 15.0  # a drawn goal should be as far as the one, at least as the other
LEAST_STEP_M = 0.01  # closer points of a lane are one
LEAST_POINTS = 2  # of a route


class RouteError(ValueError):
    """There is no route; the text says why."""


class GoalError(RouteError):
    """No route leads to the goal from anywhere: it lies off the road."""


class StartError(RouteError):
    """No route begins at the car: it stands off the road."""


class PlannedRoute(NamedTuple):
    """A route from a car to a goal.

    Attributes:
        points: (N, 3) in the map frame [m], 1 m apart but for the last, which is the goal.
        heading_rad: (N,) direction of the route [rad], in [-pi, pi).
        lane_changes: how often it leaves a lane for the one beside it.
        start_offset_m: distance of the car from the first point [m].
        goal_offset_m: distance of the goal that was asked for from the last point [m].
    """

    points: FloatArray
    heading_rad: FloatArray
    lane_changes: int
    start_offset_m: float
    goal_offset_m: float

    @property
    def length_m(self) -> float:
        """Length of the route [m]."""
        return float(np.hypot(*np.diff(self.points[:, :2], axis=0).T).sum())


class _EdgePlace(NamedTuple):
    """A place on the centre of an edge, and how far away what it stands for is."""

    edge: int
    s_m: float
    offset_m: float


class _Stretch(NamedTuple):
    """Rows of an edge along which one other edge lies beside it and may be changed to."""

    side: int
    first_row: int
    last_row: int
    target: int


class _Change(NamedTuple):
    """A lane change: where it begins, over how many rows, and where it ends."""

    side: int
    first_row: int
    rows: int


class _Label(NamedTuple):
    """A place that a search has come to, and how."""

    edge: int
    s_m: float
    parent: int
    change: _Change | None


# For each edge that a search has reached: where it was entered [m], and the cost of that less it.
_Settled: TypeAlias = 'dict[int, list[tuple[float, float]]]'
# What a search found: labels from the start on, and the place of the goal.
_Path: TypeAlias = 'tuple[Sequence[_Label], _EdgePlace]'


class RoutePlanner:
    """Plans routes on one map.

    Args:
        graph: of the map.
        snap_distance_m: farthest that a car or a goal may be from a driving lane [m].
    """

    def __init__(self, graph: RoadGraph, snap_distance_m: float = 10.0) -> None:
        self.graph = graph
        self._network = graph.network
        self._snap_distance_m = snap_distance_m

    def plan(self, car: Pose, goal_xy_m: tuple[float, float]) -> PlannedRoute:
        """Return the shortest legal route from a car to a goal.

        Args:
            car: where it stands; lanes that are driven the other way are not its own.
            goal_xy_m: the goal in the map frame [m].

        Raises:
            StartError: no driving lane is near enough to the car.
            GoalError: none is near enough to the goal, or the goal is not finite.
            RouteError: no legal way leads from the one to the other, or the goal is at the car.
        """
        starts = self._starts(car)
        goals = self._goals(goal_xy_m)
        for change_m in (LANE_CHANGE_M, SHORT_LANE_CHANGE_M):
            path = self._search(starts, goals, change_m)
            if path is not None:
                return self._route(path, car)
        raise RouteError(
            f'no legal way leads from the car at ({car.x_m:.1f}, {car.y_m:.1f}) to the goal at '
            f'({goal_xy_m[0]:.1f}, {goal_xy_m[1]:.1f}) on map {self.graph.name!r}'
        )

    def random_goal(self, rng: np.random.Generator, car: Pose) -> tuple[float, float]:
        """Draw a place that the car can reach, on a lane outside junctions [m].

        One from which it can go on, some way off, and reached without a lane change, where there
        is any.

        Raises:
            StartError: no driving lane is near enough to the car.
            RouteError: there is no such place.
        """
        starts = self._starts(car)
        reached: list[_Settled] = [{}, {}]
        for change_m, settled in zip((None, LANE_CHANGE_M), reached, strict=True):
            self._search(starts, (), change_m, settled)
        for leads_on, least_m, settled in product((True, False), (FAR_M, NEAR_M), reached):
            spans = np.array(list(self._spans(settled, least_m, leads_on=leads_on)))
            if len(spans):
                room_m = spans[:, 2] - spans[:, 1]
                edge, from_m, to_m = spans[rng.choice(len(spans), p=room_m / room_m.sum())]
                x, y, *_ = self.graph.position(int(edge), float(rng.uniform(from_m, to_m)))
                return x, y
        raise RouteError(
            f'no goal on map {self.graph.name!r} can be reached from the car at '
            f'({car.x_m:.1f}, {car.y_m:.1f}): its road ends here'
        )

    def _spans(
        self, settled: _Settled, least_m: float, *, leads_on: bool
    ) -> Iterator[tuple[int, float, float]]:
        """Return the parts of streets that lie at least so far away: edge, from, to [m]."""
        network = self._network
        for edge, entries in settled.items():
            if network.in_junction[edge] or network.leads_on[edge] < leads_on:
                continue
            for s_m, ahead_m in entries:
                # Up to where the car gets sooner by another way: it may stand on this very edge.
                sooner = [s for s, ahead in entries if s > s_m and ahead < ahead_m]
                from_m = max(s_m, least_m - ahead_m)
                to_m = min([float(network.length_m[edge]) - FROM_END_M, *sooner])
                if from_m < to_m:
                    yield edge, from_m, to_m

    def spawn_point(self, index: int) -> tuple[float, float]:
        """Return one of the map's spawn points [m].

        Raises:
            GoalError: there is no such one.
        """
        count = len(self.graph.spawn_points)
        if not 0 <= index < count:
            raise GoalError(
                f'the spawn point must be in [0, {count - 1}] on map {self.graph.name!r}, '
                f'got {index}'
            )
        x, y = self.graph.spawn_points[index, :2].tolist()
        return x, y

    # ---- Places on the lanes -------------------------------------------------------------------

    def _starts(self, car: Pose) -> list[_EdgePlace]:
        """Return the places on lanes that are nearest to the car and lead its way."""
        places = self._network.near(car.x_m, car.y_m, self._snap_distance_m)
        near = []
        for place in places:
            turned_rad = abs(wrap_angle(place.heading_rad - car.yaw_rad))
            if turned_rad < 0.5 * math.pi:
                found = self._clamped(place.edge, place.s_m, car.x_m, car.y_m)
                near.append(found._replace(offset_m=found.offset_m + TURNED_M * turned_rad))
        if not near:
            raise StartError(
                f'the car at ({car.x_m:.1f}, {car.y_m:.1f}) has no driving lane of its direction '
                f'({math.degrees(car.yaw_rad):.0f} deg) within {self._snap_distance_m:g} m'
            )
        level = [
            place for place in near if abs(self.graph.position(*place[:2])[2] - car.z_m) < STOREY_M
        ]
        return _nearest(level or near)

    def _goals(self, goal_xy_m: tuple[float, float]) -> list[_EdgePlace]:
        """Return the nearest places to a goal; in a junction several paths share them."""
        x_m, y_m = goal_xy_m
        if not (math.isfinite(x_m) and math.isfinite(y_m)):
            raise GoalError(f'the goal must be finite [m], got ({x_m}, {y_m})')
        near = [
            self._clamped(place.edge, place.s_m, x_m, y_m)
            for place in self._network.near(x_m, y_m, self._snap_distance_m)
        ]
        if not near:
            network = self._network
            nearest_m = float(np.hypot(network.x_m - x_m, network.y_m - y_m).min())
            raise GoalError(
                f'the goal at ({x_m:.1f}, {y_m:.1f}) is {nearest_m:.1f} m from the nearest '
                f'driving lane of map {self.graph.name!r}, expected <= '
                f'{self._snap_distance_m:g} m (snap_distance_m): send one on a road'
            )
        return _nearest(near)

    def _clamped(self, edge: int, s_m: float, x_m: float, y_m: float) -> _EdgePlace:
        s_m = min(max(s_m, 0.0), float(self._network.length_m[edge]))
        x, y, *_ = self.graph.position(edge, s_m)
        return _EdgePlace(edge, s_m, math.hypot(x - x_m, y - y_m))

    # ---- The search ----------------------------------------------------------------------------

    def _search(
        self,
        starts: Sequence[_EdgePlace],
        goals: Sequence[_EdgePlace],
        change_m: float | None,
        settled: _Settled | None = None,
    ) -> _Path | None:
        """Return the cheapest way, if there is one; without ``change_m`` lanes are not changed."""
        labels = [_Label(place.edge, place.s_m, NOWHERE, None) for place in starts]
        queue = [(place.offset_m, i) for i, place in enumerate(starts)]
        heapq.heapify(queue)
        settled = {} if settled is None else settled
        best_m, best = math.inf, None
        while queue and queue[0][0] < best_m:
            cost_m, i = heapq.heappop(queue)
            label = labels[i]
            if _is_no_better(settled.setdefault(label.edge, []), label.s_m, cost_m):
                continue
            for goal in goals:
                total_m = cost_m + goal.s_m - label.s_m
                if goal.edge == label.edge and goal.s_m >= label.s_m and total_m < best_m:
                    best_m, best = total_m, (i, goal)
            for more_m, after in self._moves(label, i, change_m):
                heapq.heappush(queue, (cost_m + more_m, len(labels)))
                labels.append(after)
        if best is None:
            return None
        return _chain(labels, best[0]), best[1]

    def _moves(
        self, label: _Label, parent: int, change_m: float | None
    ) -> Iterator[tuple[float, _Label]]:
        """Return what a place leads to, and what that costs [m]."""
        edge = label.edge
        rest_m = float(self._network.length_m[edge]) - label.s_m
        for after in self._network.followers[edge]:
            yield rest_m, _Label(after, 0.0, parent, None)
        if change_m is None:
            return
        row, rows = (
            self.graph.row(edge, label.s_m),
            change_m * float(self._network.rows_per_m[edge]),
        )
        for stretch in self._stretches[edge]:
            change = _Change(stretch.side, max(stretch.first_row, math.ceil(row)), math.ceil(rows))
            if change.first_row + change.rows > stretch.last_row:
                continue
            way_m = (change.first_row - row) / float(self._network.rows_per_m[edge]) + change_m
            s_m = self._end_of(change, stretch.target)
            if s_m <= self._network.length_m[stretch.target]:
                yield way_m + LANE_CHANGE_COST_M, _Label(stretch.target, s_m, parent, change)

    @cached_property
    def _stretches(self) -> list[list[_Stretch]]:
        """Where one can change lanes, edge by edge."""
        network, stretches = self._network, [list[_Stretch]() for _ in self._network.followers]
        for side, rows in enumerate(self.graph.beside):
            target = np.where(rows == NOWHERE, NOWHERE, network.edge_of_row[rows])
            other = (np.diff(target) != 0) | (np.diff(network.edge_of_row) != 0)
            firsts = np.concatenate(([0], np.flatnonzero(other) + 1))
            lasts = np.concatenate((firsts[1:] - 1, [len(rows) - 1]))
            for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True):
                if target[first] != NOWHERE:
                    stretch = _Stretch(side, first, last, int(target[first]))
                    stretches[int(network.edge_of_row[first])].append(stretch)
        return stretches

    # ---- From a way to points ------------------------------------------------------------------

    def _route(self, path: _Path, car: Pose) -> PlannedRoute:
        """Return the points of a way."""
        labels, goal = path
        pieces = []
        for label, after in pairwise(labels):
            if after.change is None:
                end_m = float(self._network.length_m[label.edge])
                pieces.append(self.graph.along(label.edge, label.s_m, end_m))
                continue
            at_m = self.graph.s_of_row(label.edge, after.change.first_row)
            pieces.append(self.graph.along(label.edge, label.s_m, at_m))
            pieces.append(self._across(after.change))
        last = labels[-1]
        pieces.append(self.graph.along(last.edge, last.s_m, goal.s_m))
        line = _forwards(np.concatenate(pieces))
        if math.dist(line[0], line[-1]) <= LEAST_STEP_M and len(line) == LEAST_POINTS:
            raise RouteError('the car stands at the goal')
        points = _evenly_spaced(line)
        return PlannedRoute(
            points=points,
            heading_rad=headings(points),
            lane_changes=sum(label.change is not None for label in labels),
            start_offset_m=math.dist(points[0, :2], car[:2]),
            goal_offset_m=goal.offset_m,
        )

    def _across(self, change: _Change) -> FloatArray:
        """Return the points of a lane change, as ``along`` does; no curvature at its ends."""
        rows = change.first_row + np.arange(change.rows + 1)
        line, target = self.graph.rows[rows], self.graph.rows[self.graph.beside[change.side, rows]]
        left = np.column_stack((-np.sin(line[:, 3]), np.cos(line[:, 3])))
        across_m = ((target[:, :2] - line[:, :2]) * left).sum(axis=1)
        t = np.linspace(0.0, 1.0, len(rows))
        share = t**3 * (10.0 - 15.0 * t + 6.0 * t**2)
        line[:, :2] += (share * across_m)[:, np.newaxis] * left
        line[:, 2] += share * (target[:, 2] - line[:, 2])
        return line

    def _end_of(self, change: _Change, target: int) -> float:
        """Return the arc length on the other edge at which a lane change ends [m]."""
        network = self._network
        from_row = change.first_row + change.rows
        row = int(self.graph.beside[change.side, from_row])
        heading = float(network.heading_rad[row])
        ahead_m = math.cos(heading) * float(network.x_m[from_row] - network.x_m[row])
        ahead_m += math.sin(heading) * float(network.y_m[from_row] - network.y_m[row])
        return max(self.graph.s_of_row(target, row) + ahead_m, 0.0)


def _nearest(places: Sequence[_EdgePlace]) -> list[_EdgePlace]:
    """Return the nearest places, and those as near."""
    nearest_m = min(place.offset_m for place in places)
    return [place for place in places if place.offset_m <= nearest_m + BESIDE_M]


def _is_no_better(settled: list[tuple[float, float]], s_m: float, cost_m: float) -> bool:
    """Note where an edge was entered and at what cost; whether an earlier visit covers it.

    Driving on from an earlier place costs the way between the two.
    """
    ahead_m = cost_m - s_m
    if any(s <= s_m and ahead <= ahead_m for s, ahead in settled):
        return True
    settled.append((s_m, ahead_m))
    return False


def _chain(labels: Sequence[_Label], last: int) -> list[_Label]:
    """Return the labels that lead to the last one, from the start on."""
    chain = []
    while last != NOWHERE:
        chain.append(labels[last])
        last = labels[last].parent
    return chain[::-1]


def _forwards(line: FloatArray) -> FloatArray:
    """Return x, y, z of the points of a line (n, 4) that lie ahead of those before them, (n, 3).

    Lanes repeat the points where they meet, and those of real maps overlap a little.
    """
    kept: list[list[float]] = []
    for x, y, z, heading in line.tolist():
        cos, sin = math.cos(heading), math.sin(heading)
        if not kept or cos * (x - kept[-1][0]) + sin * (y - kept[-1][1]) > LEAST_STEP_M:
            kept.append([x, y, z])
    while len(kept) > 1 and cos * (x - kept[-1][0]) + sin * (y - kept[-1][1]) <= LEAST_STEP_M:
        kept.pop()
    kept.append([x, y, z])  # the goal
    return np.array(kept)


def _evenly_spaced(line: FloatArray) -> FloatArray:
    """Return points 1 m apart along a line; the last gap is 0.5 m to 1.5 m."""
    along = arc_lengths(line)
    length_m = float(along[-1])
    wanted = np.arange(0.0, max(length_m - 0.5 * POINT_SPACING_M, 1e-9), POINT_SPACING_M)
    wanted = np.append(wanted, length_m)
    return np.column_stack([np.interp(wanted, along, values) for values in line.T])


def headings(points: FloatArray) -> FloatArray:
    """Return the direction at each point [rad], in [-pi, pi)."""
    dx, dy = np.gradient(points[:, 0]), np.gradient(points[:, 1])
    return np.array([wrap_angle(angle) for angle in np.arctan2(dy, dx).tolist()])

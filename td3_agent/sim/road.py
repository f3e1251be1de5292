# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The road network: lanes, markings, spawn points and routes, read by ``carla.Map`` offline.

The only module that meets CARLA's left-handed degrees; what leaves it is in ROS convention.
Geometry is sampled once into NumPy arrays; the one query per tick, :meth:`RoadMap.locate`, is a
single ``get_waypoint`` (some 5 microseconds).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
import math
from typing import TYPE_CHECKING, NamedTuple

import carla
import numpy as np

from td3_agent.driving.geometry import (
    carla_from_ros_location,
    ros_from_carla_location,
    ros_from_carla_rotation,
    wrap_angle,
)
from td3_agent.driving.route import Route
from td3_agent.sim.lane_network import STOREY_M, Pose, arc_lengths
from td3_agent.sim.lane_runs import runs_of
from td3_agent.sim.markings import NO_MARKING, markings_of
from td3_agent.sim.opendrive import MAX_EXTENT_M, LaneSpan, MapError, lane_spans, with_projection

if TYPE_CHECKING:
    from numpy.typing import NDArray

SAMPLE_SPACING_M = 1.0
MAX_LANE_WIDTH_M = 50.0
SPAWN_SPACING_M = 25.0
SPAWN_MARGIN_M = 8.0  # from either end of a lane
CAR_M = 5.0  # length of a lane on which a car can stand
ROUTE_STEP_M = 1.0
TURN_ANGLE_RAD = 0.5  # a path through a junction that turns by less goes straight on
ON_ROAD_TOLERANCE_M = 1e-3
END_MARGIN_M = 1e-4  # what belongs to the neighbour begins there
BEYOND_END_M = 0.01  # far enough to be in the lane that follows, too short to leap over one


@dataclass(frozen=True, eq=False)
class LaneGeometry:
    """One lane of one section, sampled about every metre in its driving direction.

    Attributes:
        span: which lane this is.
        centre: (N, 3) centre line in the map frame [m].
        heading_rad: (N,) driving direction [rad], in [-pi, pi).
        width_m: (N,) lane width [m].
        left: (N, 2) left boundary [m].
        right: (N, 2) right boundary [m].
        left_marking: (N, 2) int, marking type and colour (CARLA enums) on the left boundary.
        right_marking: (N, 2) int, the same on the right boundary.
    """

    span: LaneSpan
    centre: NDArray[np.float64]
    heading_rad: NDArray[np.float64]
    width_m: NDArray[np.float64]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    left_marking: NDArray[np.int64]
    right_marking: NDArray[np.int64]


class LaneFix(NamedTuple):
    """A position seen from the nearest driving lane.

    Attributes:
        z_m: height of the road there [m].
        heading_rad: driving direction of the lane [rad], in [-pi, pi).
        lateral_m: signed offset from the lane's centre [m], left positive.
        on_road: whether the position lies on that lane.
        in_junction: whether the lane crosses a junction.
    """

    z_m: float
    heading_rad: float
    lateral_m: float
    on_road: bool
    in_junction: bool


@dataclass(frozen=True, eq=False)
class RouteTrace:
    """A route as found on the map.

    Attributes:
        points: (N, 3) lane centre in the map frame [m], about 1 m apart.
        closed: it comes back to its start.
        turns: kinds of the junction paths taken, each ``'left'``, ``'right'``, ``'straight'``.
    """

    points: NDArray[np.float64]
    closed: bool
    turns: tuple[str, ...]

    @cached_property
    def route(self) -> Route:
        """The same as a route to drive."""
        return Route(self.points[:, :2], closed=self.closed)


class RoadMap:
    """A road network.

    Args:
        name: shown as the map's name.
        opendrive: OpenDRIVE text.
        origin_m: place of the map's origin in the coordinates of the file that it comes from.

    Raises:
        MapError: the text is not a usable OpenDRIVE map. Text from outside should come through
            :func:`td3_agent.sim.maps.load_map`, which also survives what crashes ``carla.Map``.
    """

    def __init__(
        self,
        name: str,
        opendrive: str,
        *,
        origin_m: tuple[float, float] = (0.0, 0.0),
    ) -> None:
        spans = lane_spans(opendrive)
        self.name = name
        self.opendrive = opendrive
        self.origin_m = origin_m
        try:
            self._map = carla.Map(name, with_projection(opendrive))
            sampled = [self._sample(span) for span in spans]
        except (RuntimeError, LookupError, ArithmeticError) as error:
            raise MapError(f'map {name!r} was refused by carla.Map: {error}') from error
        self.lanes: tuple[LaneGeometry, ...] = tuple(lane for lane in sampled if lane is not None)
        self.driving_lanes = tuple(lane for lane in self.lanes if lane.span.kind == 'driving')
        if not self.driving_lanes:
            raise MapError(f'map {name!r}: carla.Map finds no driving lane')
        self.markings = tuple(markings_of(self.driving_lanes))
        self.spawn_points = tuple(_spawn_points(self.driving_lanes, self.lane_followers))
        if not self.spawn_points:
            raise MapError(f'map {name!r} has no lane outside junctions of {CAR_M} m or more')

    @property
    def bounds_m(self) -> tuple[float, float, float, float]:
        """Smallest x, smallest y, largest x, largest y of all lanes [m]."""
        edges = np.concatenate([np.vstack((lane.left, lane.right)) for lane in self.lanes])
        (x0, y0), (x1, y1) = edges.min(axis=0), edges.max(axis=0)
        return float(x0), float(y0), float(x1), float(y1)

    @cached_property
    def storeys_m(self) -> tuple[float, ...]:
        """Heights from the lowest lane to the highest, near enough to tell storeys apart [m]."""
        z = np.concatenate([lane.centre[:, 2] for lane in self.driving_lanes])
        low_m, high_m = float(z.min()), float(z.max())
        return tuple(np.arange(low_m, high_m + STOREY_M, 2.0 * STOREY_M).tolist())

    def locate(self, x_m: float, y_m: float, z_m: float = 0.0) -> LaneFix:
        """Return the nearest driving lane, seen from a position in the map frame [m]."""
        point = carla.Location(*carla_from_ros_location(x_m, y_m, z_m))
        waypoint = self._map.get_waypoint(point)
        x, y, z, heading = _pose(waypoint)
        dx, dy = x_m - x, y_m - y
        half_width = 0.5 * waypoint.lane_width
        return LaneFix(
            z,
            heading,
            math.cos(heading) * dy - math.sin(heading) * dx,
            math.hypot(dx, dy) <= half_width + ON_ROAD_TOLERANCE_M,
            waypoint.is_junction,
        )

    def route(self, spawn: Pose, rng: np.random.Generator, max_length_m: float) -> RouteTrace:
        """Follow the lane from a spawn point.

        Junctions are taken in turn: of the ways on offer, the kind (left, right, straight) used
        least so far; ties are drawn from ``rng``. The route ends at ``max_length_m``, at the
        end of the road, or, on a circuit without junctions, where it began.

        Args:
            spawn: where to start.
            rng: decides ties at junctions.
            max_length_m: upper bound of the length [m].
        """
        waypoint = self._waypoint_at(spawn)
        points = [_place(waypoint)]
        used = {'left': 0, 'right': 0, 'straight': 0}
        turns: list[str] = []
        inside = False
        for count in range(1, int(max_length_m / ROUTE_STEP_M) + 1):
            ways = waypoint.next(ROUTE_STEP_M)
            if not ways:
                break
            entered = not inside
            waypoint, inside = ways[0], ways[0].is_junction
            if inside and (entered or len(ways) > 1):
                waypoint, kind = self._choose(ways, used, rng)
                inside = waypoint.is_junction
                if inside and entered:
                    used[kind] += 1
                    turns.append(kind)
            point = _place(waypoint)
            back = not turns and count > 10 and math.dist(point, points[0]) < ROUTE_STEP_M
            if back:
                return RouteTrace(np.array(points), closed=True, turns=())
            points.append(point)
        return RouteTrace(np.array(points), closed=False, turns=tuple(turns))

    @cached_property
    def lane_followers(self) -> tuple[tuple[int, ...], ...]:
        """For each of :attr:`driving_lanes`, the numbers of the lanes that go on from it.

        Empty where the road ends; several where a junction gives a choice.
        """
        return tuple(
            tuple(
                sorted(
                    {n for way in self._beyond(lane.span) if (n := self._number(way)) is not None}
                )
            )
            for lane in self.driving_lanes
        )

    @cached_property
    def _lane_numbers(self) -> dict[tuple[int, int, int], int]:
        """Number of each driving lane by road, section and lane id."""
        return {
            (lane.span.road_id, lane.span.section, lane.span.lane_id): number
            for number, lane in enumerate(self.driving_lanes)
        }

    def _number(self, waypoint: carla.Waypoint) -> int | None:
        """Return the number of the driving lane that a waypoint is on."""
        return self._lane_numbers.get((waypoint.road_id, waypoint.section_id, waypoint.lane_id))

    def _beyond(self, span: LaneSpan) -> list[carla.Waypoint]:
        """Return where one gets to just beyond the end of a lane."""
        first_m, last_m = _ends_m(span)
        end = self._map.get_waypoint_xodr(
            span.road_id, span.lane_id, last_m if span.along_s else first_m
        )
        return [] if end is None else list(end.next(BEYOND_END_M))

    def _choose(
        self, ways: list[carla.Waypoint], used: dict[str, int], rng: np.random.Generator
    ) -> tuple[carla.Waypoint, str]:
        """Return the way whose kind was taken least often, and its kind."""
        kinds = [self._kind(way) for way in ways]
        least = min(used[kind] for kind in kinds)
        best = [i for i, kind in enumerate(kinds) if used[kind] == least]
        # One way on offer is no choice: nothing is drawn, so longer steps do not shift the draws.
        index = best[int(rng.integers(len(best)))] if len(best) > 1 else best[0]
        return ways[index], kinds[index]

    def _kind(self, way: carla.Waypoint) -> str:
        """Say whether a junction path turns left, right or goes straight on."""
        number = self._number(way)
        if number is None:
            return 'straight'
        lanes = self.driving_lanes
        for _ in lanes:  # to the end of the connecting road, which may have several sections
            ahead = self.lane_followers[number]
            if len(ahead) != 1 or lanes[ahead[0]].span.road_id != way.road_id:
                break
            number = ahead[0]
        turn = wrap_angle(float(lanes[number].heading_rad[-1]) - _pose(way)[3])
        if abs(turn) < TURN_ANGLE_RAD:
            return 'straight'
        return 'left' if turn > 0.0 else 'right'

    def _waypoint_at(self, spawn: Pose) -> carla.Waypoint:
        return self._map.get_waypoint(
            carla.Location(*carla_from_ros_location(spawn.x_m, spawn.y_m, spawn.z_m))
        )

    def _sample(self, span: LaneSpan) -> LaneGeometry | None:
        """Sample one lane in its driving direction; None where CARLA has no such lane."""
        count = max(2, math.ceil((span.s_end_m - span.s_start_m) / SAMPLE_SPACING_M) + 1)
        stations = np.linspace(*_ends_m(span), count)
        if not span.along_s:
            stations = stations[::-1]
        found = [
            self._map.get_waypoint_xodr(span.road_id, span.lane_id, float(s)) for s in stations
        ]
        waypoints = [w for w in found if w is not None and w.lane_width > 0.0]
        if len(waypoints) < 2:
            return None
        return _lane_geometry(span, waypoints)


def _ends_m(span: LaneSpan) -> tuple[float, float]:
    """Return the first and the last station that belong to a lane alone [m].

    The very ends belong to the neighbours as well; stay a hair inside. ``carla.Map`` takes
    stations as float32: on a long road, a hair is more than a tenth of a millimetre.
    """
    margin_m = max(END_MARGIN_M, 2.0 * float(np.spacing(np.float32(span.s_end_m))))
    return span.s_start_m + margin_m, span.s_end_m - margin_m


def _place(waypoint: carla.Waypoint) -> tuple[float, float, float]:
    """Return x, y, z of a waypoint in ROS axes [m]."""
    place = waypoint.transform.location
    return ros_from_carla_location(place.x, place.y, place.z)


def _pose(waypoint: carla.Waypoint) -> tuple[float, float, float, float]:
    """Return x, y, z [m] and heading [rad] of a waypoint, in ROS axes."""
    transform = waypoint.transform
    place, turn = transform.location, transform.rotation
    x, y, z = ros_from_carla_location(place.x, place.y, place.z)
    return x, y, z, wrap_angle(ros_from_carla_rotation(0.0, 0.0, turn.yaw)[2])


def _lane_geometry(span: LaneSpan, waypoints: list[carla.Waypoint]) -> LaneGeometry:
    poses = np.array([_pose(waypoint) for waypoint in waypoints])
    width = np.array([waypoint.lane_width for waypoint in waypoints])
    if not (np.abs(poses).max() <= MAX_EXTENT_M and width.max() <= MAX_LANE_WIDTH_M):
        raise MapError(
            f'road {span.road_id}, lane {span.lane_id}: positions must be within +-'
            f'{MAX_EXTENT_M:g} m and widths within {MAX_LANE_WIDTH_M:g} m, got '
            f'{np.abs(poses).max()} and {width.max()}'
        )
    heading = poses[:, 3]
    to_left = np.column_stack((-np.sin(heading), np.cos(heading))) * (0.5 * width)[:, np.newaxis]
    left = np.array([_paint(waypoint.left_lane_marking) for waypoint in waypoints])
    right = np.array([_paint(waypoint.right_lane_marking) for waypoint in waypoints])
    return LaneGeometry(
        span=span,
        centre=poses[:, :3],
        heading_rad=heading,
        width_m=width,
        left=poses[:, :2] + to_left,
        right=poses[:, :2] - to_left,
        left_marking=left,
        right_marking=right,
    )


def _paint(marking: carla.LaneMarking | None) -> tuple[int, int]:
    """Return type and colour of a marking; a border may have none."""
    return (NO_MARKING, 0) if marking is None else (int(marking.type), int(marking.color))


def _spawn_points(
    lanes: tuple[LaneGeometry, ...], followers: tuple[tuple[int, ...], ...]
) -> list[Pose]:
    """Return evenly spaced places on every lane outside junctions, road by road.

    Sections of a road that follow each other count as one lane. Where that gives no place at
    all, as on a map of many short roads, so do roads, and a lane of a car's length will do.
    """
    spans = [lane.span for lane in lanes]

    def road(before: int, after: int) -> bool:
        return spans[before].road_id == spans[after].road_id

    def street(before: int, after: int) -> bool:
        return spans[before].in_junction == spans[after].in_junction

    for may_join, shortest_m in ((road, 2.0 * SPAWN_MARGIN_M), (street, CAR_M)):
        runs = [run for run in runs_of(followers, may_join) if not spans[run[0]].in_junction]
        # Lanes along their road first: the first spawn point is the natural start of the map.
        runs.sort(key=lambda run: (spans[run[0]].road_id, not spans[run[0]].along_s))
        points = [point for run in runs for point in _places([lanes[n] for n in run], shortest_m)]
        if points:
            return points
    return []


def _places(run: list[LaneGeometry], shortest_m: float) -> list[Pose]:
    """Return evenly spaced places on lanes that follow each other.

    Args:
        run: the lanes.
        shortest_m: that they must be together; the middle is the place of shorter ones.
    """
    centre = np.concatenate([lane.centre for lane in run])
    heading = np.concatenate([lane.heading_rad for lane in run])
    along = arc_lengths(centre)
    wanted = np.arange(SPAWN_MARGIN_M, along[-1] - SPAWN_MARGIN_M, SPAWN_SPACING_M)
    if not len(wanted) and along[-1] >= shortest_m:
        wanted = np.array([0.5 * along[-1]])
    points = []
    for index in np.searchsorted(along, wanted):
        x, y, z = centre[index].tolist()
        points.append(Pose(x, y, z, float(heading[index])))
    return points

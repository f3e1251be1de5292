# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""One driven car of the embedded world: its motion, its route, and what happens to it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from functools import lru_cache
from itertools import pairwise
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.geometry import carla_from_ros_location, wrap_angle
from td3_agent.driving.vehicle import VehicleState
from td3_agent.sim.boxes import Box, overlap
from td3_agent.sim.vehicle import Motion, Vehicle, VehicleInfo, vehicle_info

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.lane_network import Pose
    from td3_agent.sim.markings import Marking
    from td3_agent.sim.road import LaneFix, RoadMap, RouteTrace

CELL_M = 4.0
JOIN_M = 0.25  # ends of markings this close belong together
CONTACT_REACH_M = 9.0  # more than the half diagonals of a car and the longest vehicle


class _Segment(NamedTuple):
    """A piece of a line: both ends [m], the line it belongs to, and its marking type."""

    x0: float
    y0: float
    x1: float
    y1: float
    line: int
    kind: int


class LaneWatch:
    """Remembers which lines the car touches, and reports the new ones.

    Args:
        markings: all painted lines of the map.
        length_m: of the car [m].
        width_m: of the car [m].
    """

    def __init__(self, markings: tuple[Marking, ...], length_m: float, width_m: float) -> None:
        self._half_l, self._half_w = 0.5 * length_m, 0.5 * width_m
        self._reach_m = math.hypot(self._half_l, self._half_w)
        self._cells = _grid(markings)
        self._touched: frozenset[int] = frozenset()

    def start(self, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Begin at a pose: lines touched there are no invasion."""
        self._touched = frozenset(self._touching(x_m, y_m, yaw_rad))

    def update(self, x_m: float, y_m: float, yaw_rad: float) -> tuple[int, ...]:
        """Return the marking types (CARLA enum) of the lines newly touched at a pose."""
        touching = self._touching(x_m, y_m, yaw_rad)
        new = (kind for line, kind in sorted(touching.items()) if line not in self._touched)
        crossed = tuple(new)
        self._touched = frozenset(touching)
        return crossed

    def _touching(self, x_m: float, y_m: float, yaw_rad: float) -> dict[int, int]:
        """Return the lines under the car's outline, with their types."""
        reach = self._reach_m
        half_l, half_w = self._half_l, self._half_w
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        found: dict[int, int] = {}
        for i in range(math.floor((x_m - reach) / CELL_M), math.floor((x_m + reach) / CELL_M) + 1):
            for j in range(
                math.floor((y_m - reach) / CELL_M), math.floor((y_m + reach) / CELL_M) + 1
            ):
                for segment in self._cells.get((i, j), ()):
                    if segment.line in found:
                        continue
                    dx, dy = segment.x0 - x_m, segment.y0 - y_m
                    ax, ay = cos * dx + sin * dy, cos * dy - sin * dx
                    dx, dy = segment.x1 - x_m, segment.y1 - y_m
                    bx, by = cos * dx + sin * dy, cos * dy - sin * dx
                    if _meets_rectangle((ax, ay), (bx, by), half_l, half_w):
                        found[segment.line] = segment.kind
        return found


def _meets_rectangle(
    a: tuple[float, float], b: tuple[float, float], half_l: float, half_w: float
) -> bool:
    """Whether the segment a-b meets the rectangle |x| <= half_l, |y| <= half_w.

    Separating axes of a segment and an axis-aligned box: x, y, and the segment's normal.
    """
    (ax, ay), (bx, by) = a, b
    if (ax > half_l and bx > half_l) or (ax < -half_l and bx < -half_l):
        return False
    if (ay > half_w and by > half_w) or (ay < -half_w and by < -half_w):
        return False
    normal_x, normal_y = by - ay, ax - bx
    reach = abs(normal_x) * half_l + abs(normal_y) * half_w
    return abs(normal_x * ax + normal_y * ay) <= reach


@lru_cache(maxsize=64)
def _grid(markings: tuple[Marking, ...]) -> dict[tuple[int, int], tuple[_Segment, ...]]:
    cells: dict[tuple[int, int], list[_Segment]] = defaultdict(list)
    for marking, line in zip(markings, _line_numbers(markings), strict=True):
        points = marking.points.tolist()
        for (x0, y0), (x1, y1) in pairwise(points):
            segment = _Segment(x0, y0, x1, y1, line, marking.kind)
            for cell in _cells_of(segment):
                cells[cell].append(segment)
    return {cell: tuple(segments) for cell, segments in cells.items()}


def _cells_of(segment: _Segment) -> Iterable[tuple[int, int]]:
    columns = sorted((math.floor(segment.x0 / CELL_M), math.floor(segment.x1 / CELL_M)))
    rows = sorted((math.floor(segment.y0 / CELL_M), math.floor(segment.y1 / CELL_M)))
    return ((i, j) for i in range(columns[0], columns[1] + 1) for j in range(rows[0], rows[1] + 1))


def _line_numbers(markings: Sequence[Marking]) -> list[int]:
    """Number the lines: markings of one type whose ends meet share a number (union-find)."""
    parent = list(range(len(markings)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    ends: dict[tuple[int, int, int], list[tuple[float, float, int]]] = defaultdict(list)
    for index, marking in enumerate(markings):
        for x, y in (marking.points[0].tolist(), marking.points[-1].tolist()):
            i, j = math.floor(x / JOIN_M), math.floor(y / JOIN_M)
            for cell in ((i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)):
                for other_x, other_y, other in ends.get((*cell, marking.kind), ()):
                    if math.hypot(x - other_x, y - other_y) <= JOIN_M:
                        parent[root(index)] = root(other)
            ends[i, j, marking.kind].append((x, y, index))
    return [root(index) for index in range(len(markings))]


class Collision(NamedTuple):
    """The car touched something in its last step.

    Attributes:
        other_actor_id: what it touched.
        normal_impulse: on the car, (x, y, z) in CARLA's map axes [N s].
    """

    other_actor_id: int
    normal_impulse: tuple[float, float, float]


class Car:
    """One driven car; the world calls :meth:`start`, then :meth:`move` and :meth:`settle`.

    Args:
        road_map: where it drives.
        actor_id: CARLA actor id.
        bgr: colour, 0 .. 255 each, as other cars' cameras see it.

    Attributes:
        actor_id: CARLA actor id.
        vehicle_info: what the bridge publishes about the car.
        state: motion of the car in this frame, as odometry carries it.
        lane: where the car is on the map.
        acceleration: (x, y, z) over the last tick, in map axes [m/s^2].
        control: command of the last tick, as rounded by the wire.
        collisions: contacts of the last tick, one per obstacle touched.
        crossed_markings: of the lines that the outline began to touch in the last tick: CARLA
            ``LaneMarkingType`` each: OTHER 0, BROKEN 1, SOLID 2, ...
        route: the way to drive, from the spawn point.
        route_points: (N, 3) the same as points about 1 m apart [m].
        route_turns: 'left', 'right' or 'straight' at each junction of the route.
    """

    def __init__(self, road_map: RoadMap, actor_id: int, bgr: tuple[int, int, int]) -> None:
        self.actor_id = actor_id
        self.vehicle_info: VehicleInfo = vehicle_info()
        self.collisions: list[Collision] = []
        self.crossed_markings: tuple[int, ...] = ()
        self._bgr = bgr
        self._map = road_map
        self._vehicle = Vehicle()
        self._lanes = LaneWatch(
            road_map.markings, self.vehicle_info.length_m, self.vehicle_info.width_m
        )

    def start(self, spawn: Pose, trace: RouteTrace, stamp_ns: int) -> None:
        """Stand at the begin of a route at simulated time ``stamp_ns``."""
        self.route = trace.route
        self.route_points: NDArray[np.float64] = trace.points
        self.route_turns = trace.turns
        self.control = VehicleControl()
        self._stamp_ns = stamp_ns
        self.set_pose(spawn.x_m, spawn.y_m, spawn.yaw_rad, spawn.z_m)

    @property
    def on_road(self) -> bool:
        """Whether the car's origin lies on a driving lane."""
        return self.lane.on_road

    @property
    def motion(self) -> Motion:
        """Full state of the car's model."""
        return self._vehicle.motion

    @property
    def velocity(self) -> tuple[float, float, float]:
        """Velocity of the car in map axes [m/s]."""
        return (*self._vehicle.motion.velocity_mps, 0.0)

    def as_carla_has_it(self) -> tuple[VehicleState, float, tuple[float, float]]:
        """Return the state with CARLA's precision: metres, degrees and m/s in float32.

        Returns:
            The state, the speed to the left [m/s], and the velocity in map axes [m/s].
        """
        state = self.state
        vx, vy = map(_float32, self._vehicle.motion.velocity_mps)
        yaw_rad = math.radians(_float32(math.degrees(state.yaw_rad)))
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        rounded = replace(
            state,
            x_m=_float32(state.x_m),
            y_m=_float32(state.y_m),
            z_m=_float32(state.z_m),
            yaw_rad=yaw_rad,
            speed_mps=cos * vx + sin * vy,
            yaw_rate_radps=math.radians(_float32(math.degrees(state.yaw_rate_radps))),
        )
        return rounded, cos * vy - sin * vx, (vx, vy)

    @property
    def outline(self) -> Box:
        """The car as a box, where it stands now."""
        motion, info = self._vehicle.motion, self.vehicle_info
        return Box(
            x_m=motion.x_m,
            y_m=motion.y_m,
            yaw_rad=motion.yaw_rad,
            length_m=info.length_m,
            width_m=info.width_m,
            height_m=info.height_m,
            bgr=self._bgr,
            actor_id=self.actor_id,
        )

    def set_pose(self, x_m: float, y_m: float, yaw_rad: float, z_m: float | None = None) -> None:
        """Put the car somewhere, at rest; events of the last tick are forgotten.

        Args:
            x_m: position in the map frame [m].
            y_m: position in the map frame [m].
            yaw_rad: heading [rad], left positive.
            z_m: picks the road where roads cross on several levels; the car stands on it [m].

        Raises:
            ValueError: a value is not finite.
        """
        if not all(math.isfinite(v) for v in (x_m, y_m, yaw_rad, z_m or 0.0)):
            raise ValueError(f'pose must be finite [m, rad], got {(x_m, y_m, yaw_rad, z_m)}')
        self._vehicle.motion = Motion(x_m=x_m, y_m=y_m, yaw_rad=yaw_rad)
        self._lanes.start(x_m, y_m, yaw_rad)
        self._height_m = z_m or 0.0
        self._forget_events()

    def set_velocity(
        self, vx_mps: float, vy_mps: float = 0.0, yaw_rate_radps: float = 0.0
    ) -> None:
        """Set the car in motion.

        Args:
            vx_mps: forward speed in the car's axes [m/s].
            vy_mps: speed to the left in the car's axes [m/s].
            yaw_rate_radps: turning rate [rad/s], left positive.

        Raises:
            ValueError: a value is not finite.
        """
        if not all(math.isfinite(v) for v in (vx_mps, vy_mps, yaw_rate_radps)):
            raise ValueError(
                f'velocity must be finite [m/s, rad/s], got {(vx_mps, vy_mps, yaw_rate_radps)}'
            )
        backwards = vx_mps < 0.0
        speed = math.hypot(vx_mps, vy_mps)
        slip = math.atan2(-vy_mps if backwards else vy_mps, abs(vx_mps)) if speed else 0.0
        self._vehicle.motion = self._vehicle.motion._replace(
            speed_mps=-speed if backwards else speed,
            slip_rad=slip,
            yaw_rate_radps=yaw_rate_radps,
        )
        self._forget_events()

    def move(self, control: VehicleControl, step_s: float, stamp_ns: int) -> None:
        """Drive one step [s]; contacts come next, then :meth:`settle`.

        Args:
            control: rounded and checked; values beyond their range are clamped.
            step_s: length of the step [s].
            stamp_ns: simulated time that the step leads to [ns].
        """
        self._stamp_ns = stamp_ns
        self._before_mps = self._vehicle.motion.velocity_mps
        self._vehicle.step(control, step_s)
        self.control = control
        self.collisions = []

    def run_into(self, obstacles: Iterable[Box]) -> None:
        """Part the car from what does not give way; inelastic, no friction along the wall."""
        for box in obstacles:
            motion = self._vehicle.motion
            if math.hypot(box.x_m - motion.x_m, box.y_m - motion.y_m) > CONTACT_REACH_M:
                continue  # most are far away; an outline costs more than this
            contact = overlap(self.outline, box)
            if contact is not None:
                normal = contact.normal_x, contact.normal_y
                self._part(normal, contact.depth_m, self._approach_mps(normal), box.actor_id)

    def meet(self, other: Car) -> None:
        """Part two cars that ran into each other; inelastic, equal masses, no friction."""
        here, there = self._vehicle.motion, other._vehicle.motion
        if math.hypot(there.x_m - here.x_m, there.y_m - here.y_m) > CONTACT_REACH_M:
            return
        contact = overlap(self.outline, other.outline)
        if contact is None:
            return
        normal = contact.normal_x, contact.normal_y
        opposite = -contact.normal_x, -contact.normal_y
        # What nears the other is lost: half of it by each, as both weigh the same.
        lost_mps = 0.5 * (self._approach_mps(normal) + other._approach_mps(opposite))
        self._part(normal, 0.5 * contact.depth_m, lost_mps, other.actor_id)
        other._part(opposite, 0.5 * contact.depth_m, lost_mps, self.actor_id)

    def settle(self, step_s: float) -> None:
        """Note acceleration, crossed lines, lane and state at the end of a step [s]."""
        motion, before = self._vehicle.motion, self._before_mps
        after = motion.velocity_mps
        self.acceleration = ((after[0] - before[0]) / step_s, (after[1] - before[1]) / step_s, 0.0)
        self.crossed_markings = self._lanes.update(motion.x_m, motion.y_m, motion.yaw_rad)
        self._observe()

    def _approach_mps(self, normal: tuple[float, float]) -> float:
        """Speed against a direction: into what lies behind it [m/s]."""
        vx, vy = self._vehicle.motion.velocity_mps
        return -(vx * normal[0] + vy * normal[1])

    def _part(
        self, normal: tuple[float, float], distance_m: float, lost_mps: float, other_actor_id: int
    ) -> None:
        """Move the car out of a contact, take away speed into it, and note the collision."""
        motion = self._vehicle.motion
        vx, vy = motion.velocity_mps
        cos, sin = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
        if lost_mps > 0.0:
            vx += lost_mps * normal[0]
            vy += lost_mps * normal[1]
        self._vehicle.motion = motion._replace(
            x_m=motion.x_m + distance_m * normal[0],
            y_m=motion.y_m + distance_m * normal[1],
            speed_mps=cos * vx + sin * vy,  # tyres take up what would slide sideways
            yaw_rate_radps=0.0,
            slip_rad=0.0,
        )
        impulse = self.vehicle_info.mass * max(lost_mps, 0.0)
        self.collisions.append(
            Collision(
                other_actor_id,
                carla_from_ros_location(impulse * normal[0], impulse * normal[1], 0.0),
            )
        )

    def _forget_events(self) -> None:
        self.acceleration = (0.0, 0.0, 0.0)
        self.collisions = []
        self.crossed_markings = ()
        self._observe()

    def _observe(self) -> None:
        """Note where the car is on the map, and its state as odometry carries it."""
        motion = self._vehicle.motion
        self.lane: LaneFix = self._map.locate(motion.x_m, motion.y_m, self._height_m)
        self._height_m = self.lane.z_m
        self.state = VehicleState(
            stamp_ns=self._stamp_ns,
            x_m=motion.x_m,
            y_m=motion.y_m,
            z_m=self._height_m,
            yaw_rad=wrap_angle(motion.yaw_rad),
            speed_mps=motion.forward_mps,
            yaw_rate_radps=motion.yaw_rate_radps,
        )


def _float32(value: float) -> float:
    return float(np.float32(value))

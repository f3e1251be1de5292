# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""When a car needs a route, and where to: goals given or drawn, arrival, a car off its route."""

from __future__ import annotations

from dataclasses import dataclass
import math
import re
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.geometry import NANOSECONDS_PER_SECOND
from td3_agent.driving.parameters import ParameterError, Params, param
from td3_agent.driving.route import Route, RouteTracker
from td3_agent.sim.lane_network import Pose
from td3_agent.sim.route_planner import (
    GoalError,
    PlannedRoute,
    RouteError,
    RoutePlanner,
)

if TYPE_CHECKING:
    from td3_agent.driving.vehicle import VehicleState
    from td3_agent.sim.road_graph import RoadGraph

RANDOM, TOPIC = 'random', 'topic'
NUMBER = r'[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?'
POSITION = re.compile(rf'\s*({NUMBER})\s*,\s*({NUMBER})\s*')
SPAWN = re.compile(r'\s*spawn\s+(\d+)\s*')
JUMP_M = 5.0  # beyond what the car can drive between two messages, it was moved
RETRY_M = 1.0  # without a route, another attempt is made when the car has moved this far
SAME_GOAL_M = 0.1


@dataclass(frozen=True, kw_only=True)
class NavigatorParams(Params):
    """Settings of a navigator."""

    goal: str = param(
        RANDOM,
        'first goal: random draws one, and the next on arrival; topic waits for one; '
        "'x, y' in the map frame [m]; 'spawn N', a spawn point",
    )
    seed: int = param(0, 'of the goals that are drawn', low=0)
    snap_distance_m: float = param(
        10.0,
        'farthest that goal and car may be from a driving lane',
        unit='m',
        low=0.5,
        high=200.0,
    )
    replan_distance_m: float = param(
        4.0, 'farther off the route, another one is planned', unit='m', low=1.0, high=100.0
    )
    arrival_distance_m: float = param(
        5.0, 'this near to its end, a route is done', unit='m', low=0.5, high=100.0
    )

    def __post_init__(self) -> None:
        """Refuse values out of range, and a goal that is none of the forms.

        Raises:
            ParameterError: naming each field and value.
        """
        super().__post_init__()
        if self.goal not in (TOPIC, RANDOM) and not self.position and self.spawn_index is None:
            raise ParameterError(
                f"goal must be random, topic, 'x, y' [m] or 'spawn N', got {self.goal!r}"
            )

    @property
    def position(self) -> tuple[float, float] | None:
        """The goal as a position [m], if it is one."""
        found = POSITION.fullmatch(self.goal)
        return (float(found[1]), float(found[2])) if found else None

    @property
    def spawn_index(self) -> int | None:
        """The goal as a number of a spawn point, if it is one."""
        found = SPAWN.fullmatch(self.goal)
        return int(found[1]) if found else None


class Navigator:
    """Plans a route whenever one is needed, and only then: a new route makes drivers start over.

    Every method that may plan returns the new route, or None where the one before stays.

    Attributes:
        goal: what is driven to, or will be once map and pose are known [m]; None without.
        route: the route in force.
        fault: why there is no route, or no other one; empty if all is well.
        arrived: whether the goal was reached.
        remaining_m: length of the route before the car [m].
    """

    def __init__(self, params: NavigatorParams) -> None:
        self._params = params
        self._rng = np.random.default_rng(params.seed)
        self._planner: RoutePlanner | None = None
        self._state: VehicleState | None = None
        self._tried_at: tuple[float, float] | None = None
        self._tracker: RouteTracker | None = None
        self._draws = params.goal == RANDOM
        self._spawn_index = params.spawn_index
        self.goal = params.position
        self.route: PlannedRoute | None = None
        self.fault = ''
        self.arrived = False
        self.remaining_m = 0.0

    @property
    def knows_map(self) -> bool:
        """Whether a map is known."""
        return self._planner is not None

    @property
    def knows_pose(self) -> bool:
        """Whether the car's pose is known."""
        return self._state is not None

    def set_graph(self, graph: RoadGraph) -> PlannedRoute | None:
        """Plan on another map from now on."""
        self._planner = RoutePlanner(graph, self._params.snap_distance_m)
        self._forget_route()
        if self._draws:
            self.goal = None
        if self._spawn_index is not None:
            return self._set_spawn_goal(self._planner, self._spawn_index)
        return self._plan()

    def forget_graph(self) -> None:
        """Wait for another map; a pose in the old town is invalid in the new one."""
        self._planner = self._state = None
        self._forget_route()

    def set_goal(self, x_m: float, y_m: float) -> PlannedRoute | None:
        """Drive to a goal; no more goals are drawn from now on.

        Raises:
            RouteError: the goal is refused; goal and route stay as they were.
        """
        goal = (x_m, y_m)
        if self._drives_to(goal):
            return None
        if self._planner is None or self._state is None:
            if not all(map(math.isfinite, goal)):
                raise GoalError(f'the goal must be finite [m], got {goal}')
            self._take(goal, drawn=False)
            return None
        route = self._route_to(goal)
        self._take(goal, drawn=False)
        return self._follow(route)

    def update(self, state: VehicleState) -> PlannedRoute | None:
        """Take the newest pose of the car."""
        before, self._state = self._state, state
        if self._planner is None:
            return None
        if before is not None and _has_jumped(before, state):
            self._forget_route()
            return self._plan()
        if self._tracker is None:
            return self._plan() if self._has_moved(state) else None
        return self._go_on(self._tracker, state)

    def _drives_to(self, goal: tuple[float, float]) -> bool:
        """Whether a goal is the one in force: it may be published again and again."""
        driving = self.route is not None and not self.arrived
        return driving and self.goal is not None and math.dist(goal, self.goal) < SAME_GOAL_M

    def _go_on(self, tracker: RouteTracker, state: VehicleState) -> PlannedRoute | None:
        """Look how far the car has come on the route in force."""
        if self.arrived:
            draws = self._draws and self._has_moved(state)
            return self._plan() if draws else None
        s_m = tracker.locate(state.x_m, state.y_m)
        if s_m is None:  # until there is another route, this one may lead the car back
            return self._plan() if self._has_moved(state) else None
        self.fault = ''
        self.remaining_m = tracker.route.length_m - s_m
        if self.remaining_m > self._params.arrival_distance_m:
            return None
        self.arrived = True
        if not self._draws:
            return None
        self.goal = None
        return self._plan()

    def _plan(self) -> PlannedRoute | None:
        """Plan if map, pose and goal are known; a failure is kept as :attr:`fault`."""
        state = self._state
        if self._planner is None or state is None or (self.goal is None and not self._draws):
            return None
        self._tried_at = (state.x_m, state.y_m)
        try:
            if self.goal is None:
                return self._draw(self._planner, state)
            return self._follow(self._route_to(self.goal))
        except RouteError as error:
            self.fault = str(error)
            dropped = self.goal is not None and (self._draws or isinstance(error, GoalError))
            if dropped:
                self.goal = None
        return self._plan() if dropped and self._draws else None

    def _draw(self, planner: RoutePlanner, state: VehicleState) -> PlannedRoute:
        """Draw a goal.

        Raises:
            RouteError: none can be reached, or the car stands off the road.
        """
        goal = planner.random_goal(self._rng, _pose(state))
        route = self._route_to(goal)
        self._take(goal, drawn=True)
        return self._follow(route)

    def _route_to(self, goal: tuple[float, float]) -> PlannedRoute:
        """Return the route from the car to a goal.

        Raises:
            RouteError: there is none, or the car is at the goal.
        """
        planner, state = self._planner, self._state
        assert planner is not None  # noqa: S101  the callers have looked
        assert state is not None  # noqa: S101
        away_m = math.dist(goal, (state.x_m, state.y_m))
        if away_m <= self._params.arrival_distance_m:
            raise RouteError(
                f'the goal at ({goal[0]:.1f}, {goal[1]:.1f}) is {away_m:.1f} m from the car: '
                f'nearer than {self._params.arrival_distance_m:g} m counts as arrived'
            )
        return planner.plan(_pose(state), goal)

    def _set_spawn_goal(self, planner: RoutePlanner, index: int) -> PlannedRoute | None:
        try:
            self.goal = planner.spawn_point(index)
        except GoalError as error:
            self.fault = str(error)
            return None
        return self._plan()

    def _take(self, goal: tuple[float, float], *, drawn: bool) -> None:
        self.goal, self.fault = goal, ''
        self._draws = self._draws and drawn
        self._spawn_index = None

    def _follow(self, route: PlannedRoute) -> PlannedRoute:
        """Put a route in force."""
        lost_m = self._params.replan_distance_m + route.start_offset_m
        self._tracker = RouteTracker(Route(route.points[:, :2]), lost_m)
        self.route, self.arrived, self.fault = route, False, ''
        self.remaining_m = route.length_m
        return route

    def _forget_route(self) -> None:
        self.route = self._tracker = self._tried_at = None
        self.arrived = False

    def _has_moved(self, state: VehicleState) -> bool:
        """Whether the last attempt to plan was made elsewhere."""
        return (
            self._tried_at is None or math.dist(self._tried_at, (state.x_m, state.y_m)) > RETRY_M
        )


def _pose(state: VehicleState) -> Pose:
    return Pose(state.x_m, state.y_m, state.z_m, state.yaw_rad)


def _has_jumped(before: VehicleState, now: VehicleState) -> bool:
    """Whether the car was put elsewhere, or time ran back: a new drive."""
    step_s = (now.stamp_ns - before.stamp_ns) / NANOSECONDS_PER_SECOND
    fastest_mps = max(abs(before.speed_mps), abs(now.speed_mps))
    way_m = math.dist((before.x_m, before.y_m), (now.x_m, now.y_m))
    return step_s < 0.0 or way_m > JUMP_M + 2.0 * fastest_mps * step_s

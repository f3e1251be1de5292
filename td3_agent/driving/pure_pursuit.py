# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Pure pursuit with a speed profile: the classical driver, and the reference for a learned one.

Steering is pure pursuit (Coulter 1992, CMU-RI-TR-92-01): the arc from the rear axle through a
point of the route ahead. Speed follows a profile, computed once per route: a limit on lateral
acceleration in each curve, comfortable braking before it, standstill at the end of an open route;
a PI loop trims the set point by the measured speed.
"""

from __future__ import annotations

from dataclasses import replace
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.command import (
    CONTROL_MAX_SPEED_MPS,
    CONTROL_MAX_YAW_RATE_RADPS,
    STOP,
    TwistCommand,
    action_from_twist,
    clamp,
)
from td3_agent.driving.geometry import NANOSECONDS_PER_SECOND
from td3_agent.driving.route import Route, RouteTracker
from td3_agent.driving.velocity_control import LONGEST_STEP_S, MIN_STEERING_SPEED_MPS

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from td3_agent.driving.observation import Observation
    from td3_agent.driving.vehicle import VehicleState


CRUISE_SPEED_MPS = 8.0
LOOKAHEAD_TIME_S = 0.8  # of the pursued point, within these distances
LOOKAHEAD_MIN_M, LOOKAHEAD_MAX_M = 3.5, 12.0
REAR_AXLE_M = 1.4  # behind the point that odometry reports
LATERAL_ACCELERATION_MPS2 = 2.0  # at most, in a curve of the route
RETURN_ACCELERATION_MPS2 = 3.0  # lateral, at most, in the curve back to it
ACCELERATION_MPS2 = 2.0  # fastest rise of the set point
DECELERATION_MPS2 = 1.5  # that the speed profile plans with
REACTION_TIME_S = 0.5  # how far ahead in time the profile is read
STOP_DISTANCE_M = 1.0  # the end counts as reached at this distance
LOST_DISTANCE_M = 5.0  # farther away the whole route is searched, then the car stops
PROFILE_STEP_M = 0.5
# The gate treats a target below 0.05 m/s as standstill: the last metre is driven faster.
CREEP_SPEED_MPS = 0.5
# The gate's loop integrates too; a faster integral around it would overshoot.
SPEED_KP, SPEED_KI = 0.5, 0.02  # [1], [1/s]
SPEED_TRIM_MAX_MPS = 0.8


class SpeedTrim:
    """PI trim of the set point [m/s]; the integral stops at saturation."""

    def __init__(self) -> None:
        self.integral_mps = 0.0

    def update(self, error_mps: float, step_s: float) -> float:
        """Return the trim for set point minus speed, ``step_s`` after the last one."""
        direct_mps = SPEED_KP * error_mps
        growth_mps = SPEED_KI * error_mps * step_s
        wanted_mps = direct_mps + self.integral_mps + growth_mps
        if not (abs(wanted_mps) > SPEED_TRIM_MAX_MPS and wanted_mps * growth_mps > 0.0):
            self.integral_mps = _trim(self.integral_mps + growth_mps)
        return _trim(direct_mps + self.integral_mps)


def _trim(value_mps: float) -> float:
    return clamp(value_mps, -SPEED_TRIM_MAX_MPS, SPEED_TRIM_MAX_MPS)


class PurePursuitDriver:
    """Follows a route; without one, or far away from it, it commands a stop."""

    def __init__(
        self,
        *,
        cruise_speed_mps: float = CRUISE_SPEED_MPS,
        reaction_time_s: float = REACTION_TIME_S,
        route: Route | None = None,
    ) -> None:
        self._cruise_speed_mps = cruise_speed_mps
        self._reaction_time_s = reaction_time_s
        self._tracker: RouteTracker | None = None
        self._profile_mps: list[float] = []
        self.reset()
        if route is not None:
            self.set_route(route)

    @property
    def route(self) -> Route | None:
        return None if self._tracker is None else self._tracker.route

    @property
    def arrived(self) -> bool:
        """Whether the end of an open route was reached since the last reset."""
        return self._arrived

    def set_route(self, points: Route | ArrayLike, *, closed: bool = False) -> None:
        """Follow a new route.

        Args:
            points: (N, 2) positions in the map frame [m], or a :class:`Route`.
            closed: whether the last point joins the first; ignored for a :class:`Route`.

        Raises:
            ValueError: the points make no route; the old route stays.
        """
        route = points if isinstance(points, Route) else Route(points, closed=closed)
        self._profile_mps = speed_profile(route, self._cruise_speed_mps)
        self._tracker = RouteTracker(route, LOST_DISTANCE_M)
        self.reset()

    def reset(self) -> None:
        """Forget progress, set point and trim; the route stays."""
        self._trim = SpeedTrim()
        if self._tracker is not None:
            self._tracker.reset()
        self._set_point_mps: float | None = None
        self._last_stamp_ns: int | None = None
        self._arrived = False

    def act(self, observation: Observation) -> NDArray[np.float32]:
        return action_from_twist(self.twist(observation.vehicle))

    def twist(self, state: VehicleState) -> TwistCommand:
        """Return target speed [m/s] and yaw rate [rad/s] for the motion of one frame.

        The speed of :meth:`plan`, approached by a ramp and trimmed.
        """
        step_s = self._step_s(state.stamp_ns)
        plan = self.plan(state)
        if plan == STOP:
            return self._halt()
        return replace(plan, linear_x=self._ramped(plan.linear_x, state.speed_mps, step_s))

    def plan(self, state: VehicleState) -> TwistCommand:
        """Return planned speed [m/s] and yaw rate [rad/s], a function of place and motion alone.

        ``STOP`` without a route, far away from it, and from its end on.
        """
        if self._tracker is None:
            return STOP
        route = self._tracker.route
        x_m = state.x_m - REAR_AXLE_M * math.cos(state.yaw_rad)
        y_m = state.y_m - REAR_AXLE_M * math.sin(state.yaw_rad)
        s_m = self._tracker.locate(x_m, y_m)
        if s_m is None:
            return STOP
        curvature = self._pursue(route, s_m, x_m, y_m, state)
        speed_mps = self._planned_speed(route, s_m, curvature, state.speed_mps)
        if self._arrived:
            return STOP
        return TwistCommand(speed_mps, _yaw_rate(curvature, state.speed_mps))

    def _step_s(self, stamp_ns: int) -> float:
        """Return the time since the last frame [s], bounded; time that runs back resets."""
        last_ns = self._last_stamp_ns
        if last_ns is not None and stamp_ns < last_ns:
            self.reset()
            last_ns = None
        self._last_stamp_ns = stamp_ns
        if last_ns is None:
            return 0.0
        return min((stamp_ns - last_ns) / NANOSECONDS_PER_SECOND, LONGEST_STEP_S)

    def _halt(self) -> TwistCommand:
        self._trim = SpeedTrim()
        self._set_point_mps = None
        return STOP

    def _pursue(
        self, route: Route, s_m: float, x_m: float, y_m: float, state: VehicleState
    ) -> float:
        """Return the curvature of the arc from the rear axle to the point ahead [1/m]."""
        lookahead_m = clamp(
            LOOKAHEAD_TIME_S * abs(state.speed_mps), LOOKAHEAD_MIN_M, LOOKAHEAD_MAX_M
        )
        goal_x_m, goal_y_m = _point_ahead(route, s_m + lookahead_m)
        dx, dy = goal_x_m - x_m, goal_y_m - y_m
        ahead_m = math.cos(state.yaw_rad) * dx + math.sin(state.yaw_rad) * dy
        left_m = math.cos(state.yaw_rad) * dy - math.sin(state.yaw_rad) * dx
        distance_m = max(math.hypot(dx, dy), 0.1)
        if ahead_m < 0.0:  # behind the car: turn around as tightly as for a point beside it
            left_m = math.copysign(distance_m, left_m)
        return 2.0 * left_m / distance_m**2  # Coulter 1992, section 2

    def _planned_speed(
        self, route: Route, s_m: float, curvature: float, speed_mps: float
    ) -> float:
        """Return the speed of the profile [m/s], less in a tight bend back to the route."""
        if not route.closed:
            remaining_m = route.length_m - s_m - REAR_AXLE_M
            self._arrived = self._arrived or remaining_m <= STOP_DISTANCE_M
        # The curve back to the route may be sharper than the route: both count.
        bend_mps = math.sqrt(RETURN_ACCELERATION_MPS2 / max(abs(curvature), 1e-6))
        ahead_m = REAR_AXLE_M + self._reaction_time_s * max(speed_mps, 0.0)
        here_mps, ahead_mps = (self._profile_at(route, s_m + m) for m in (REAR_AXLE_M, ahead_m))
        return min(here_mps, ahead_mps, bend_mps)  # no speeding up within the curve

    def _ramped(self, planned_mps: float, speed_mps: float, step_s: float) -> float:
        """Return the target speed [m/s]: a ramp to the planned one, and trim."""
        last_mps = max(speed_mps, 0.0) if self._set_point_mps is None else self._set_point_mps
        ramp_mps = last_mps + ACCELERATION_MPS2 * step_s
        set_point_mps = min(planned_mps, max(ramp_mps, CREEP_SPEED_MPS))
        self._set_point_mps = set_point_mps
        trim_mps = self._trim.update(set_point_mps - speed_mps, step_s)
        return clamp(set_point_mps + trim_mps, 0.5 * set_point_mps, CONTROL_MAX_SPEED_MPS)

    def _profile_at(self, route: Route, s_m: float) -> float:
        """Return the planned speed at an arc length [m/s]."""
        profile = self._profile_mps
        place = route.normalise(s_m) / route.length_m * (len(profile) - 1)
        i = min(int(place), len(profile) - 2)
        return profile[i] + (profile[i + 1] - profile[i]) * (place - i)


def _yaw_rate(curvature: float, speed_mps: float) -> float:
    """Return the yaw rate [rad/s] that stands for a curvature [1/m].

    The gate's bicycle model divides by max(|v|, 1 m/s); multiplied by the same speed here, it
    arrives at exactly the wheel angle atan(curvature * wheelbase).
    """
    yaw_rate_radps = curvature * max(abs(speed_mps), MIN_STEERING_SPEED_MPS)
    return clamp(yaw_rate_radps, -CONTROL_MAX_YAW_RATE_RADPS, CONTROL_MAX_YAW_RATE_RADPS)


def speed_profile(route: Route, cruise_speed_mps: float) -> list[float]:
    """Plan the speed along a route.

    Cruise speed, at most ``sqrt(a_lateral / |curvature|)`` in curves, and nowhere faster than
    braking evenly at ``DECELERATION_MPS2`` allows: ``v1^2 <= v2^2 + 2 a ds``.

    Returns:
        Speeds [m/s] at evenly spaced arc lengths, ends included.
    """
    count = max(math.ceil(route.length_m / PROFILE_STEP_M), 1) + 1
    s_m = np.linspace(0.0, route.length_m, count)
    bend = np.maximum(np.abs(route.curvature_array(s_m)), 1e-9)
    squared = np.minimum(cruise_speed_mps**2, LATERAL_ACCELERATION_MPS2 / bend)
    gain = 2.0 * DECELERATION_MPS2 * route.length_m / (count - 1)
    limits: list[float] = squared.tolist()
    if not route.closed:
        _plan_stop(limits, route.length_m / (count - 1))
    for _ in range(2 if route.closed else 1):  # the second lap carries braking over the seam
        limits[-1] = min(limits[-1], limits[0]) if route.closed else limits[-1]
        for i in range(count - 2, -1, -1):
            limits[i] = min(limits[i], limits[i + 1] + gain)
    return [math.sqrt(limit) for limit in limits]


def _plan_stop(squared_limits: list[float], step_m: float) -> None:
    """Limit the end of the profile to a crawl, in place [m^2/s^2]."""
    last = len(squared_limits) - 1
    for i in range(max(last - math.ceil(STOP_DISTANCE_M / step_m), 0), last + 1):
        squared_limits[i] = CREEP_SPEED_MPS**2


def _point_ahead(route: Route, s_m: float) -> tuple[float, float]:
    """Return a point of the route; an open one goes on straight beyond its end [m]."""
    x_m, y_m, heading_rad = route.sample(s_m)
    beyond_m = 0.0 if route.closed else max(s_m - route.length_m, 0.0)
    return x_m + beyond_m * math.cos(heading_rad), y_m + beyond_m * math.sin(heading_rad)

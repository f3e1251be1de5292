# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The driving task: progress on the route, reward, and the end of an episode.

Reward and rules are pure functions of two successive situations. :class:`Task` tracks an episode,
the same for training, evaluation and replay.

Reward of one step::

    progress = new ground along the route / (8.33 m/s * dt), in [0, 1]
    quality  = 1 - w_lateral * min(1, (lateral / scale)^2) - w_steer * |steer change| / 2
                 - w_jerk * min(1, |jerk| / scale) - w_headway * max(0, 1 - headway / scale)
    reward   = progress * quality                      while driving
    reward   = -collision_penalty or -off_route_penalty   where the episode ends badly
    reward   = progress * quality + goal_bonus, at most 1   at the goal

Standing has reward 0: a penalty per step would make a quick crash better than waiting, a reward
would make parking pay. Faults scale the reward of progress, so driving badly still beats standing.
Only new ground counts as progress, so driving back and forth earns nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
import math
from typing import TYPE_CHECKING

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS
from td3_agent.driving.parameters import ParameterError, Params, param

if TYPE_CHECKING:
    from td3_agent.driving.route import Route

STEP_S = 0.05  # of a drive at 20 Hz
LARGEST_STEER_CHANGE = 2.0
ROUNDING = 1e-9


@dataclass(frozen=True, kw_only=True)
class TaskConfig(Params):
    """Weights and limits; weights are magnitudes without signs."""

    reference_speed_mps: float = param(
        CONTROL_MAX_SPEED_MPS,
        'speed at which a step earns the full reward',
        unit='m/s',
        low=0.1,
        high=60.0,
    )
    lateral_weight: float = param(
        0.5, 'fraction of the reward lost at lateral_scale_m', low=0.0, high=1.0
    )
    lateral_scale_m: float = param(
        1.75, 'lateral error that costs the full fraction', unit='m', low=0.1, high=20.0
    )
    steer_weight: float = param(
        0.2, 'fraction of the reward lost to a full change of steer', low=0.0, high=1.0
    )
    jerk_weight: float = param(
        0.3, 'fraction of the reward lost at jerk_scale_mps3', low=0.0, high=1.0
    )
    jerk_scale_mps3: float = param(
        10.0, 'jerk that costs the full fraction', unit='m/s^3', low=0.1, high=1000.0
    )
    headway_weight: float = param(
        0.0, 'fraction of the reward lost bumper to bumper', low=0.0, high=1.0
    )
    headway_scale_s: float = param(
        1.0, 'time to the lead vehicle beyond which nothing is lost', unit='s', low=0.1, high=10
    )
    collision_penalty: float = param(1.0, 'cost of a collision', low=0.0, high=10.0)
    off_route_penalty: float = param(0.8, 'cost of leaving the route', low=0.0, high=10.0)
    goal_bonus: float = param(1.0, 'reward at the end of an open route', low=0.0, high=10.0)
    off_route_m: float = param(
        3.5, 'lateral error that ends the episode', unit='m', low=0.5, high=100.0
    )
    goal_distance_m: float = param(
        3.0, 'distance to the end of the route that counts as there', unit='m', low=0.1, high=50.0
    )
    stall_speed_mps: float = param(
        0.3, 'slower progress than this is standing', unit='m/s', low=0.0, high=5.0
    )
    stall_time_s: float = param(
        6.0, 'standing this long ends the episode', unit='s', low=0.5, high=600.0
    )
    time_limit_s: float = param(90.0, 'longest episode', unit='s', low=0.1, high=1e5)

    def __post_init__(self) -> None:
        super().__post_init__()
        weights = (self.lateral_weight, self.steer_weight, self.jerk_weight, self.headway_weight)
        if sum(weights) > 1.0 + ROUNDING:
            raise ParameterError(
                'lateral_weight + steer_weight + jerk_weight + headway_weight must be <= 1, or '
                f'driving badly would cost more than standing, got {" + ".join(map(str, weights))}'
            )
        if self.collision_penalty < self.off_route_penalty:
            raise ParameterError(
                f'collision_penalty must be >= off_route_penalty, got {self.collision_penalty} '
                f'and {self.off_route_penalty}'
            )


class Ending(Enum):
    """Whether and why an episode has ended; the value has Gymnasium's term."""

    NONE = 'driving'
    COLLISION = 'terminated: collision'
    OFF_ROUTE = 'terminated: off route'
    GOAL = 'terminated: goal reached'
    STALLED = 'truncated: stalled'
    TIME_LIMIT = 'truncated: time limit'

    @property
    def terminated(self) -> bool:
        """Whether values do not bootstrap from the last observation."""
        return self in (Ending.COLLISION, Ending.OFF_ROUTE, Ending.GOAL)

    @property
    def truncated(self) -> bool:
        """Whether the episode was cut off: values bootstrap."""
        return self in (Ending.STALLED, Ending.TIME_LIMIT)


@dataclass(frozen=True, kw_only=True)
class Situation:
    """The inputs of reward and rules at one frame.

    Attributes:
        elapsed_s: since the episode began [s].
        s_m: arc length of the car's projection on the route [m].
        travelled_m: signed distance along the route since the episode began [m]; laps add up.
        progress_m: largest ``travelled_m`` so far; never falls.
        standing_s: how long progress has been slower than ``stall_speed_mps`` [s].
        lateral_m: signed offset from the route [m], left positive.
        steer: last steer command, in [-1, 1].
        acceleration_mps2: (forward, left) over the last step [m/s^2].
        headway_s: time to the vehicle ahead on the route at the car's speed [s].
        collided: whether the car touched something in this step.
        to_goal_m: distance to the end of an open route [m]; infinite on a closed one.
    """

    elapsed_s: float = 0.0
    s_m: float = 0.0
    travelled_m: float = 0.0
    progress_m: float = 0.0
    standing_s: float = 0.0
    lateral_m: float = 0.0
    steer: float = 0.0
    acceleration_mps2: tuple[float, float] = (0.0, 0.0)
    headway_s: float = float('inf')
    collided: bool = False
    to_goal_m: float = float('inf')


def follow(  # noqa: PLR0913  keywords only
    previous: Situation,
    config: TaskConfig,
    *,
    step_s: float,
    advance_m: float,
    s_m: float,
    lateral_m: float,
    steer: float,
    acceleration_mps2: tuple[float, float] = (0.0, 0.0),
    headway_s: float = math.inf,
    collided: bool,
    to_goal_m: float,
) -> Situation:
    """Return the situation one step later.

    Args:
        previous: situation before the step.
        config: limits.
        step_s: length of the step [s].
        advance_m: signed distance along the route in this step [m].
        s_m: arc length now [m].
        lateral_m: signed offset from the route now [m].
        steer: command of this step.
        acceleration_mps2: (forward, left) over this step [m/s^2].
        headway_s: time to the vehicle ahead [s].
        collided: whether the car touched something in this step.
        to_goal_m: distance left [m].
    """
    travelled = previous.travelled_m + advance_m
    progress = max(previous.progress_m, travelled)
    gained_m = progress - previous.progress_m
    standing = gained_m < config.stall_speed_mps * step_s
    return Situation(
        elapsed_s=previous.elapsed_s + step_s,
        s_m=s_m,
        travelled_m=travelled,
        progress_m=progress,
        standing_s=previous.standing_s + step_s if standing else 0.0,
        lateral_m=lateral_m,
        steer=steer,
        acceleration_mps2=acceleration_mps2,
        headway_s=headway_s,
        collided=collided,
        to_goal_m=to_goal_m,
    )


def ending(current: Situation, config: TaskConfig) -> Ending:
    """Return whether and why the episode ends; termination comes before truncation."""
    if current.collided:
        return Ending.COLLISION
    if not abs(current.lateral_m) <= config.off_route_m:  # written so that NaN ends it too
        return Ending.OFF_ROUTE
    if current.to_goal_m <= config.goal_distance_m:
        return Ending.GOAL
    # A small tolerance: times are sums of steps.
    if current.standing_s >= config.stall_time_s - 1e-9:
        return Ending.STALLED
    if current.elapsed_s >= config.time_limit_s - 1e-9:
        return Ending.TIME_LIMIT
    return Ending.NONE


def reward(previous: Situation, current: Situation, config: TaskConfig) -> float:
    """Return the reward of the step between two situations; see the module's formula."""
    how = ending(current, config)
    if how is Ending.COLLISION:
        return -config.collision_penalty
    if how is Ending.OFF_ROUTE:
        return -config.off_route_penalty
    earned = progress_fraction(previous, current, config) * quality(previous, current, config)
    return min(1.0, earned + config.goal_bonus) if how is Ending.GOAL else earned


def progress_fraction(previous: Situation, current: Situation, config: TaskConfig) -> float:
    """New ground per reference speed, in [0, 1]."""
    step_s = current.elapsed_s - previous.elapsed_s
    if step_s <= 0.0:
        return 0.0
    gained_m = current.progress_m - previous.progress_m
    return min(max(gained_m / (config.reference_speed_mps * step_s), 0.0), 1.0)


def quality(previous: Situation, current: Situation, config: TaskConfig) -> float:
    """How well the step was driven, in [0, 1]: close to the route, steady, with distance."""
    off = abs(current.lateral_m) / config.lateral_scale_m
    turned = abs(current.steer - previous.steer) / LARGEST_STEER_CHANGE
    jolt = jerk_mps3(previous, current) / config.jerk_scale_mps3
    lost = config.lateral_weight * min(1.0, off * off)
    lost += config.steer_weight * min(1.0, turned)
    lost += config.jerk_weight * min(1.0, jolt)
    lost += config.headway_weight * max(0.0, 1.0 - current.headway_s / config.headway_scale_s)
    return max(1.0 - lost, 0.0)


def jerk_mps3(previous: Situation, current: Situation) -> float:
    """Magnitude of the change of acceleration over the step [m/s^3]."""
    step_s = current.elapsed_s - previous.elapsed_s
    if step_s <= 0.0:
        return 0.0
    return math.dist(current.acceleration_mps2, previous.acceleration_mps2) / step_s


class Task:
    """Tracks one episode along its route.

    Attributes:
        config: weights and limits.
        situation: at the newest frame.
        ending: whether and why the episode has ended.
    """

    def __init__(
        self, config: TaskConfig | None = None, *, step_s: float = STEP_S, one_lap: bool = False
    ) -> None:
        """Prepare; :meth:`begin` starts an episode.

        Args:
            config: weights and limits.
            step_s: length of a step [s].
            one_lap: whether a closed route ends after one lap; otherwise it has no end.
        """
        self.config = config or TaskConfig()
        self._step_s = step_s
        self._one_lap = one_lap
        self.situation = Situation()
        self.ending = Ending.NONE

    def begin(self, route: Route, place: tuple[float, float]) -> None:
        """Start an episode on a route, at a place (x [m], y [m])."""
        self._route = route
        seen = route.project(*place)
        self._start_s_m = seen.s_m
        to_goal_m = self._to_goal_m(seen.s_m, 0.0)
        self.situation = Situation(s_m=seen.s_m, lateral_m=seen.lateral_m, to_goal_m=to_goal_m)
        self.ending = Ending.NONE

    def step(
        self,
        place: tuple[float, float] | None,
        *,
        collided: bool,
        steer: float = 0.0,
        acceleration_mps2: tuple[float, float] = (0.0, 0.0),
        headway_s: float = math.inf,
    ) -> float:
        """Take the next frame and return the reward of the step that led there.

        Args:
            place: x, y [m]; None in a frame without odometry.
            collided: whether the car touched something in this step.
            steer: command of this step.
            acceleration_mps2: (forward, left) over this step [m/s^2].
            headway_s: time to the vehicle ahead [s].
        """
        before, route = self.situation, self._route
        s_m, lateral_m = before.s_m, before.lateral_m
        if place is not None:
            s_m, lateral_m = route.project(*place, before.s_m)[:2]
        advance_m = route.advance(before.s_m, s_m)
        self.situation = follow(
            before,
            self.config,
            step_s=self._step_s,
            advance_m=advance_m,
            s_m=s_m,
            lateral_m=lateral_m,
            steer=steer,
            acceleration_mps2=acceleration_mps2,
            headway_s=headway_s,
            collided=collided,
            to_goal_m=self._to_goal_m(s_m, before.travelled_m + advance_m),
        )
        self.ending = ending(self.situation, self.config)
        return reward(before, self.situation, self.config)

    @property
    def route_completion(self) -> float:
        """Fraction of the route that has been covered, in [0, 1]; at the goal it is all of it."""
        if self.ending is Ending.GOAL:
            return 1.0
        closed = self._route.closed
        whole_m = self._route.length_m - (0.0 if closed else self._start_s_m)
        return min(self.situation.progress_m / whole_m, 1.0) if whole_m > 0.0 else 0.0

    def _to_goal_m(self, s_m: float, travelled_m: float) -> float:
        """Return the distance left [m]."""
        if not self._route.closed:
            return self._route.length_m - s_m
        return self._route.length_m - travelled_m if self._one_lap else math.inf

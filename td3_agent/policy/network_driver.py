# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A network as a driver: one checked observation in, one checked action out. No torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS
from td3_agent.driving.observation import PATH_SCALE_M, STATE_SIZE
from td3_agent.driving.pure_pursuit import DECELERATION_MPS2, LATERAL_ACCELERATION_MPS2

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.driving.agent import Driver
    from td3_agent.driving.observation import Observation
    from td3_agent.driving.route import Route
    from td3_agent.policy.manifest import ActorConfig, Manifest

WARM_UP_CALLS = 3
STAGES = 2  # of the low-pass on targets
CURVE_REACTION_S = 0.7  # until the car slows down: smoothing, speed loop, brake
SMALLEST = 1e-9
FALLING = 1.0 / 3.0  # lag of a falling speed, as a fraction of that of a rising one


class PolicyError(RuntimeError):
    """The observation does not fit the policy, or its action is not finite."""


class NetworkDriver:
    """Runs a network on single observations; implements the Driver protocol.

    The action depends on the observation alone: :meth:`reset` does nothing.

    Attributes:
        config: architecture of the network.
        trained: whether the weights come from training; for the reader of a report.
    """

    def __init__(self, config: ActorConfig, *, trained: bool) -> None:
        """Warm up; a subclass must be able to infer before it calls this."""
        self.config = config
        self.trained = trained
        self._low = np.array(config.action_low, dtype=np.float32)
        self._high = np.array(config.action_high, dtype=np.float32)
        self.warm_up()

    def _infer(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None
    ) -> NDArray[np.float32]:
        """Return the network's action, (actions,), for checked inputs."""
        raise NotImplementedError

    def reset(self) -> None:
        """Do nothing: the policy has no memory."""

    def set_route(self, route: Route) -> None:
        """Do nothing: the observation holds what the policy uses of the route."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action, (actions,) float32 within the bounds.

        Raises:
            PolicyError: shape or type does not fit, or the action is not finite.
        """
        return self.action(observation.state, observation.image)

    def action(
        self, state: NDArray[np.float32], image: NDArray[np.uint8] | None = None
    ) -> NDArray[np.float32]:
        """Return the action for a state vector and, where the actor takes images, an image stack.

        Args:
            state: (state_size,) float32.
            image: (C, H, W) uint8, ignored by an actor without image input.

        Raises:
            PolicyError: shape or type does not fit, or the action is not finite.
        """
        _check('state', state, (self.config.state_size,), np.float32)
        if self.config.image_shape is None:
            image = None
        else:
            _check('image', image, self.config.image_shape, np.uint8)
        action = self._infer(state, image)
        if not np.isfinite(action).all():
            raise PolicyError(f'action is not finite: {action.tolist()}')
        clipped: NDArray[np.float32] = np.clip(action, self._low, self._high)
        return clipped

    def warm_up(self, calls: int = WARM_UP_CALLS) -> None:
        """Infer a few empty observations: the first calls are the slowest."""
        state = np.zeros(self.config.state_size, dtype=np.float32)
        shape = self.config.image_shape
        image = None if shape is None else np.zeros(shape, dtype=np.uint8)
        for _ in range(calls):
            self.action(state, image)


def comfortable(driver: Driver, manifest: Manifest) -> Driver:
    """Return a driving policy with the filters of its manifest, and slower before curves.

    Only a policy that knows the route ahead can slow down for its curves (:class:`CurveDriver`).
    """
    if manifest.observation_spec.path:
        driver = CurveDriver(driver)
    outputs, rate_hz = manifest.outputs, manifest.inputs.rate_hz
    speed_s, yaw_rate_s = outputs.speed_smoothing_s, outputs.yaw_rate_smoothing_s
    if rate_hz is None or not (speed_s or yaw_rate_s):
        return driver
    return SmoothedDriver(driver, speed_frames=rate_hz * speed_s, yaw_frames=rate_hz * yaw_rate_s)


class CurveDriver:
    """A driver that enters no curve of its route faster than pure pursuit plans to.

    A network handles curves like those it was trained on. It enters tighter ones, as at some
    junctions of CARLA's towns, too fast.
    """

    def __init__(self, driver: Driver) -> None:
        self._driver = driver

    def reset(self) -> None:
        self._driver.reset()

    def set_route(self, route: Route) -> None:
        self._driver.set_route(route)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the driver's action, its speed limited by the route ahead."""
        action: NDArray[np.float32] = self._driver.act(observation).copy()
        speed_mps = float(observation.state[0]) * CONTROL_MAX_SPEED_MPS
        path_m = observation.state[STATE_SIZE:].reshape(-1, 2) * PATH_SCALE_M
        limit_mps = curve_speed(path_m, CURVE_REACTION_S * speed_mps)
        action[0] = min(action[0], 2.0 * limit_mps / CONTROL_MAX_SPEED_MPS - 1.0)
        return action


def curve_speed(path_m: NDArray[np.floating[Any]], reaction_m: float) -> float:
    """Return the speed from which a car can slow down for each curve ahead [m/s].

    The curvature at each point is that of the circle through it and its neighbours (Menger
    curvature); the vehicle is the first point. The limits are pure pursuit's.

    Args:
        path_m: (N, 2) forward and left of the vehicle [m].
        reaction_m: distance before it begins to slow down [m].
    """
    points = np.concatenate((np.zeros((1, 2)), path_m))
    first, last = points[1:-1] - points[:-2], points[2:] - points[1:-1]
    sides = np.hypot(*first.T), np.hypot(*last.T), np.hypot(*(first + last).T)
    twice_area = np.abs(first[:, 0] * last[:, 1] - first[:, 1] * last[:, 0])
    # After the end of a route its last point is repeated, which makes no circle.
    curvature = 2.0 * twice_area / np.maximum(sides[0] * sides[1] * sides[2], SMALLEST)
    distance_m = np.maximum(np.cumsum(sides[0]) - reaction_m, 0.0)
    squared = LATERAL_ACCELERATION_MPS2 / np.maximum(curvature, SMALLEST)
    return float(np.sqrt(np.min(squared + 2.0 * DECELERATION_MPS2 * distance_m)))


class SmoothedDriver:
    """A driver whose target speed and yaw rate each pass through a second-order low-pass.

    The network judges every picture on its own, so its targets jitter from frame to frame, and
    jitter becomes jerk. Two equal first-order stages in series begin a step gently; one alone
    would begin it with its steepest slope. A falling speed is filtered less: braking is urgent.
    """

    def __init__(self, driver: Driver, *, speed_frames: float, yaw_frames: float) -> None:
        """Wrap a driver.

        Args:
            driver: whose actions are target speed and yaw rate.
            speed_frames: lag of a rising speed, in frames; a falling one has ``FALLING`` of it.
            yaw_frames: lag of the yaw rate, in frames; 0 does not filter.
        """
        self._driver = driver
        self._rising = _gains(speed_frames, yaw_frames)
        self._falling = _gains(FALLING * speed_frames, yaw_frames)
        self._stages: list[NDArray[np.float32]] = []

    def reset(self) -> None:
        """Forget the past: the first targets count as they are."""
        self._stages = []
        self._driver.reset()

    def set_route(self, route: Route) -> None:
        self._driver.set_route(route)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the driver's action, smoothed."""
        action: NDArray[np.float32] = self._driver.act(observation)
        self._stages = self._stages or [action.copy() for _ in range(STAGES)]
        for last in self._stages:
            change = action - last
            last[:] += (self._rising if change[0] > 0.0 else self._falling) * change
            action = last.copy()
        return action


def _gains(*lags_frames: float) -> NDArray[np.float32]:
    """Return the gain per frame of one stage, given the lag of all stages."""
    lags = np.array(lags_frames, dtype=np.float32) / STAGES
    with np.errstate(divide='ignore'):
        return -np.expm1(-1.0 / lags)


def _check(name: str, value: object, shape: tuple[int, ...], dtype: type[np.generic]) -> None:
    """Reject what the network would misread.

    Raises:
        PolicyError: naming what was given and what was expected.
    """
    if isinstance(value, np.ndarray) and value.shape == shape and value.dtype == dtype:
        return
    got = f'{value.shape} {value.dtype}' if isinstance(value, np.ndarray) else type(value).__name__
    raise PolicyError(f'{name} must be {shape} {dtype.__name__}, got {got}')

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""From a Twist, in either convention, to throttle, brake and steer.

Speed: a PI loop on throttle and a proportional brake, with a band between them in which the car
coasts, so that the two never fight. The brake starts from zero at the end of the band: a step
there would be felt at every light braking. Steering: the kinematic bicycle model (Rajamani,
*Vehicle Dynamics and Control*, 2nd ed., eq. 2.4 without slip), ``tan(delta) = yaw_rate * L / v``.
The gate node and the in-process environment run the same code.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

from td3_agent.driving.command import (
    CONTROL_MAX_SPEED_MPS,
    FULL_BRAKE,
    TwistCommand,
    TwistConvention,
    VehicleControl,
    clamp,
    control_from_upstream_twist,
)
from td3_agent.driving.geometry import NANOSECONDS_PER_SECOND
from td3_agent.driving.parameters import Params, param

if TYPE_CHECKING:
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState

# Below this speed the yaw rate does not determine the wheel angle (division by v).
MIN_STEERING_SPEED_MPS = 1.0
STANDSTILL_MPS = 0.05  # a slower target means standstill
COASTING_MPS = 1.0  # below this target the band narrows: a car that coasts to a stop takes metres
STOP_BRAKE_RATE = 2.0  # rise of the holding brake while the car still rolls [1/s]
DIRECTION_CHANGE_MPS = 0.5  # gear changes between forward and reverse only below this speed
DEFAULT_STEP_S = 0.05
LONGEST_STEP_S = 0.2  # bounds the integral and ramps after a gap in the frames


@dataclass(frozen=True, kw_only=True)
class VelocityControlParams(Params):
    """Settings of the speed loop, the rate limits and the speed cap."""

    max_speed_mps: float = param(
        CONTROL_MAX_SPEED_MPS,
        'largest target speed, forward or reverse',
        unit='m/s',
        low=0.1,
        high=60.0,
    )
    throttle_gain: float = param(
        0.5, 'throttle per speed error', unit='1/(m/s)', low=0.0, high=10.0
    )
    throttle_integral_gain: float = param(
        0.15, 'throttle per integrated speed error', unit='1/m', low=0.0, high=10.0
    )
    brake_gain: float = param(
        0.25, 'brake per speed excess beyond the coast band', unit='1/(m/s)', low=0.0, high=10.0
    )
    coast_band_mps: float = param(
        0.4, 'speed excess without braking: the car coasts', unit='m/s', low=0.0, high=5.0
    )
    hold_brake: float = param(0.5, 'brake that holds the car at a zero target', low=0.0, high=1.0)
    max_throttle_rate: float = param(
        4.0, 'fastest rise of throttle', unit='1/s', low=0.1, high=1000.0
    )
    max_steer_rate: float = param(6.0, 'fastest change of steer', unit='1/s', low=0.1, high=1000.0)


class VelocityController:
    """Speed loop with proportional braking, and the bicycle model for steering.

    Holds the integral and the last command; one per vehicle.
    """

    def __init__(self, params: VelocityControlParams | None = None) -> None:
        self._params = params or VelocityControlParams()
        self.reset()

    def reset(self) -> None:
        """Forget integral, last command and time: a new drive begins."""
        self._integral = 0.0
        self._last = VehicleControl()
        self._last_stamp_ns: int | None = None

    def control(
        self, twist: TwistCommand, state: VehicleState, geometry: VehicleGeometry
    ) -> VehicleControl:
        """Return the command that brings the vehicle towards ``twist``.

        Args:
            twist: target speed [m/s] and yaw rate [rad/s], left positive.
            state: motion at the frame that is answered.
            geometry: wheelbase and largest wheel angle.

        Raises:
            ValueError: the Twist is not finite.
        """
        if not twist.is_finite:
            raise ValueError(f'twist must be finite, got {twist}')
        step_s = self._step_s(state.stamp_ns)
        limit = self._params.max_speed_mps
        target_mps = clamp(twist.linear_x, -limit, limit)
        throttle, brake, reverse = self._pedals(target_mps, state.speed_mps, step_s)
        steer = self._steer(twist.angular_z, target_mps, state.speed_mps, geometry)
        self._last = self._rate_limited(throttle, brake, steer, reverse=reverse, step_s=step_s)
        return self._last

    def override(self, control: VehicleControl) -> None:
        """Note that a stop was sent instead: ramps start from it."""
        self._last = control
        self._integral = 0.0

    def _step_s(self, stamp_ns: int) -> float:
        """Return the time since the last frame [s], bounded; time that runs back resets."""
        last_ns, self._last_stamp_ns = self._last_stamp_ns, stamp_ns
        if last_ns is None:
            return DEFAULT_STEP_S
        if stamp_ns < last_ns:
            self.reset()
            self._last_stamp_ns = stamp_ns
            return DEFAULT_STEP_S
        return min((stamp_ns - last_ns) / NANOSECONDS_PER_SECOND, LONGEST_STEP_S)

    def _pedals(
        self, target_mps: float, speed_mps: float, step_s: float
    ) -> tuple[float, float, bool]:
        """Return (throttle, brake, reverse) for a target and the measured speed [m/s]."""
        params = self._params
        reverse = target_mps < 0.0
        along_mps = -speed_mps if reverse else speed_mps  # speed in the wanted direction
        if abs(target_mps) < STANDSTILL_MPS:
            self._integral = 0.0
            return 0.0, self._stopping_brake(abs(speed_mps), step_s), self._last.reverse
        if along_mps < -DIRECTION_CHANGE_MPS:  # rolling the wrong way: stop first
            self._integral = 0.0
            return 0.0, clamp(params.brake_gain * -along_mps + 0.2, 0.0, 1.0), self._last.reverse
        error_mps = abs(target_mps) - along_mps
        band_mps = params.coast_band_mps * min(abs(target_mps) / COASTING_MPS, 1.0)
        excess_mps = -error_mps - band_mps
        if excess_mps > 0.0:
            self._integral = 0.0
            return 0.0, clamp(params.brake_gain * excess_mps, 0.0, 1.0), reverse
        return self._throttle(error_mps, step_s), 0.0, reverse

    def _stopping_brake(self, speed_mps: float, step_s: float) -> float:
        """Return the brake at a zero target: by speed, plus a holding part that ramps up."""
        by_speed = self._params.brake_gain * speed_mps
        most = self._params.hold_brake + by_speed
        if speed_mps > STANDSTILL_MPS:
            most = max(by_speed, min(most, self._last.brake + STOP_BRAKE_RATE * step_s))
        return clamp(most, 0.0, 1.0)

    def _throttle(self, error_mps: float, step_s: float) -> float:
        """Return throttle in [0, 1] of the PI loop; the integral stops at saturation."""
        params = self._params
        wanted = params.throttle_gain * error_mps + self._integral
        growing = params.throttle_integral_gain * error_mps * step_s
        if 0.0 < wanted < 1.0 or (wanted >= 1.0) != (growing > 0.0):
            self._integral = clamp(self._integral + growing, 0.0, 1.0)
        return clamp(wanted, 0.0, 1.0)

    @staticmethod
    def _steer(
        yaw_rate_radps: float, target_mps: float, speed_mps: float, geometry: VehicleGeometry
    ) -> float:
        """Return CARLA steer in [-1, 1], right positive, for a yaw rate [rad/s]."""
        moving = abs(speed_mps) > DIRECTION_CHANGE_MPS
        backwards = speed_mps < 0.0 if moving else target_mps < 0.0
        wheel_angle_rad = math.atan(
            yaw_rate_radps * geometry.wheelbase_m / max(abs(speed_mps), MIN_STEERING_SPEED_MPS)
        )
        steer = -wheel_angle_rad / geometry.max_steer_angle_rad  # left positive to right positive
        return clamp(-steer if backwards else steer, -1.0, 1.0)

    def _rate_limited(
        self, throttle: float, brake: float, steer: float, *, reverse: bool, step_s: float
    ) -> VehicleControl:
        """Limit the rise of throttle and the change of steer; braking is immediate."""
        steer_step = self._params.max_steer_rate * step_s
        return VehicleControl(
            throttle=min(throttle, self._last.throttle + self._params.max_throttle_rate * step_s),
            brake=brake,
            steer=clamp(steer, self._last.steer - steer_step, self._last.steer + steer_step),
            reverse=reverse,
        )


class TwistConverter:
    """Turns the Twist of a frame into a vehicle command, in either convention."""

    def __init__(
        self, convention: TwistConvention, params: VelocityControlParams | None = None
    ) -> None:
        """Convert Twists of ``convention``; ``params`` apply to the velocity convention."""
        self._convention = convention
        self._controller = VelocityController(params)

    def reset(self) -> None:
        self._controller.reset()

    def convert(
        self, twist: TwistCommand, state: VehicleState, geometry: VehicleGeometry | None
    ) -> VehicleControl:
        """Return the command, rounded to the wire's float32; full brake without a geometry.

        Raises:
            ValueError: the Twist is not finite.
        """
        if geometry is None:
            return self.stopped()
        if self._convention is TwistConvention.CARLA_TWIST_TO_CONTROL:
            control = control_from_upstream_twist(twist, geometry.max_steer_angle_rad)
        else:
            control = self._controller.control(twist, state, geometry)
        return control.as_float32()

    def stopped(self) -> VehicleControl:
        """Return full brake; the next ramp starts from it."""
        self._controller.override(FULL_BRAKE)
        return FULL_BRAKE

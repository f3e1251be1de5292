# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands: policy action, Twist and CARLA vehicle control, and the maps between them.

Three representations:

========================  =====================================================================
action, (2,) in [-1, 1]   the policy's output: target speed, yaw rate, both normalised
:class:`TwistCommand`     what travels over ROS, in one of the two :class:`TwistConvention` s
:class:`VehicleControl`   what CARLA executes: throttle, brake, steer (right positive), reverse
========================  =====================================================================

ROS yaw is left positive, CARLA steer is right positive: this module changes the sign between Twist
and control, and the vehicle model of the simulator changes it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CONTROL_MAX_SPEED_MPS = 8.33  # 30 km/h: target speed at full throttle or action 1
STOP_BELOW_MPS = 0.05
CONTROL_MAX_YAW_RATE_RADPS = 1.0  # yaw rate at full steer or action 1
UPSTREAM_THROTTLE_SCALE = 10.0  # carla_twist_to_control: MAX_LON_ACCELERATION
ACTION_SIZE = 2


class TwistConvention(Enum):
    """The meaning of ``linear.x`` and ``angular.z`` of a Twist."""

    VELOCITY = 'velocity'
    CARLA_TWIST_TO_CONTROL = 'carla_twist_to_control'


@dataclass(frozen=True, kw_only=True)
class VehicleControl:
    """One CARLA vehicle command; field meaning as in carla_msgs/CarlaEgoVehicleControl.

    Attributes:
        throttle: in [0, 1].
        steer: in [-1, 1], fraction of the largest wheel angle, right positive.
        brake: in [0, 1].
        hand_brake: parking brake.
        reverse: gearbox in reverse.
        gear: used only with ``manual_gear_shift``.
        manual_gear_shift: the command chooses the gear.
    """

    throttle: float = 0.0
    steer: float = 0.0
    brake: float = 0.0
    hand_brake: bool = False
    reverse: bool = False
    gear: int = 0
    manual_gear_shift: bool = False

    def as_float32(self) -> VehicleControl:
        """Return the command as it arrives: rounded to the message's float32 fields."""
        return replace(
            self,
            throttle=float(np.float32(self.throttle)),
            steer=float(np.float32(self.steer)),
            brake=float(np.float32(self.brake)),
        )

    @property
    def is_finite(self) -> bool:
        return all(math.isfinite(value) for value in (self.throttle, self.steer, self.brake))

    def faults(self) -> list[str]:
        """Name every field with a value outside CARLA's range; CARLA itself does not check."""
        return [
            f'{name} must be in [{low}, {high}], got {value}'
            for name, value, low, high in (
                ('throttle', self.throttle, 0.0, 1.0),
                ('steer', self.steer, -1.0, 1.0),
                ('brake', self.brake, 0.0, 1.0),
            )
            if not low <= value <= high
        ]


FULL_BRAKE = VehicleControl(brake=1.0)


@dataclass(frozen=True)
class TwistCommand:
    """The two components of a geometry_msgs/Twist that drive a car.

    Attributes:
        linear_x: [m/s] in the velocity convention; throttle x 10 in upstream's.
        angular_z: yaw rate [rad/s], left positive; wheel angle [rad] in upstream's.
        off_axis: whether one of the other four components is not zero; upstream checks it.
    """

    linear_x: float
    angular_z: float
    off_axis: bool = False

    @property
    def is_finite(self) -> bool:
        return math.isfinite(self.linear_x) and math.isfinite(self.angular_z)


STOP = TwistCommand(0.0, 0.0)


def clamp(value: float, low: float, high: float) -> float:
    """Return the value limited to [low, high]; the caller rejects NaN."""
    return min(max(value, low), high)


def twist_from_action(action: NDArray[np.float32]) -> TwistCommand:
    """Map a policy action to a velocity-convention Twist.

    ====  ==================  ========  =====  =====
    Num   meaning             unit      at -1  at +1
    ====  ==================  ========  =====  =====
    0     target speed        m/s       0      8.33
    1     yaw rate, left +    rad/s     -1     +1
    ====  ==================  ========  =====  =====

    A target below ``STOP_BELOW_MPS`` is a stop: a network never quite reaches -1, and a car behind
    a standing vehicle must not keep creeping. The threshold is low, because a policy that is
    unsure whether the road is free asks for a small speed, and moving a little shows it more.

    Args:
        action: (2,), each in [-1, 1]; values beyond are clamped.

    Raises:
        ValueError: wrong shape, or a component is not finite.
    """
    if np.shape(action) != (ACTION_SIZE,):
        raise ValueError(f'action must have shape (2,), got {np.shape(action)}')
    speed, yaw_rate = float(action[0]), float(action[1])
    if not (math.isfinite(speed) and math.isfinite(yaw_rate)):
        raise ValueError(f'action must be finite, got {(speed, yaw_rate)}')
    speed_mps = (clamp(speed, -1.0, 1.0) + 1.0) / 2.0 * CONTROL_MAX_SPEED_MPS
    return TwistCommand(
        speed_mps if speed_mps >= STOP_BELOW_MPS else 0.0,
        clamp(yaw_rate, -1.0, 1.0) * CONTROL_MAX_YAW_RATE_RADPS,
    )


def action_from_twist(twist: TwistCommand) -> NDArray[np.float32]:
    """Return the (2,) float32 action whose Twist is nearest to ``twist``."""
    return np.array(
        [
            clamp(twist.linear_x / CONTROL_MAX_SPEED_MPS * 2.0 - 1.0, -1.0, 1.0),
            clamp(twist.angular_z / CONTROL_MAX_YAW_RATE_RADPS, -1.0, 1.0),
        ],
        dtype=np.float32,
    )


def twist_from_control(control: VehicleControl) -> TwistCommand:
    """Map throttle, brake, steer and reverse to a velocity-convention Twist.

    ``v = throttle * 8.33 * (1 - brake)``, negative in reverse; yaw rate 1.0 rad/s at full
    steer, with the sign changed from CARLA's right positive to ROS's left positive.

    Raises:
        ValueError: a field is outside its range; every fault is named.
    """
    if faults := control.faults():
        raise ValueError('; '.join(faults))
    speed_mps = control.throttle * CONTROL_MAX_SPEED_MPS * (1.0 - control.brake)
    return TwistCommand(
        -speed_mps if control.reverse else speed_mps,
        -control.steer * CONTROL_MAX_YAW_RATE_RADPS,
    )


def control_from_upstream_twist(twist: TwistCommand, max_steer_angle_rad: float) -> VehicleControl:
    """Convert a Twist exactly as the upstream carla_twist_to_control node does.

    Upstream brakes only when all six Twist components are exactly zero; everything else with
    ``linear.x <= 0`` selects reverse, a pure steering Twist included.

    Args:
        twist: in upstream's convention.
        max_steer_angle_rad: wheel angle at full steer [rad], from vehicle_info.

    Raises:
        ValueError: the Twist is not finite (upstream would send full reverse throttle).
    """
    if not twist.is_finite:
        raise ValueError(f'twist must be finite, got {twist}')
    if twist == STOP:
        return FULL_BRAKE
    scale = UPSTREAM_THROTTLE_SCALE
    forward = twist.linear_x > 0.0
    throttle = (
        min(scale, twist.linear_x) / scale if forward else max(-scale, twist.linear_x) / -scale
    )
    wheel_angle_rad = clamp(twist.angular_z, -max_steer_angle_rad, max_steer_angle_rad)
    steer = -wheel_angle_rad / max_steer_angle_rad
    return VehicleControl(throttle=throttle, steer=steer, reverse=not forward)


def upstream_twist_from_control(
    control: VehicleControl, max_steer_angle_rad: float, brake_threshold: float = 0.1
) -> TwistCommand:
    """Return the Twist that makes upstream's converter produce ``control``, as nearly as it can.

    Upstream has no partial brake and no coasting at rest: braking above the threshold becomes the
    all-zero Twist (full brake, wheels straight); coasting keeps a minimal forward throttle,
    because ``linear.x = 0`` with steering would select reverse.
    """
    if control.brake > brake_threshold:
        return STOP
    least = 1e-3
    linear_x = max(control.throttle * UPSTREAM_THROTTLE_SCALE, least)
    return TwistCommand(
        -linear_x if control.reverse else linear_x, -control.steer * max_steer_angle_rad
    )

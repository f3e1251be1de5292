# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The vehicle for agent and gate: its motion and its geometry."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
import math
from typing import TYPE_CHECKING

from td3_agent.driving.geometry import quaternion_from_rpy, yaw_from_quaternion

if TYPE_CHECKING:
    from collections.abc import Sequence

# A planet-sized bound: a coordinate or speed beyond it is a corrupt message, not a drive.
MAX_COORDINATE_M = 1e7
MAX_SPEED_MPS = 200.0
MAX_YAW_RATE_RADPS = 100.0


@dataclass(frozen=True, kw_only=True)
class VehicleState:
    """Planar motion of the vehicle in one frame, as odometry carries it.

    Attributes:
        stamp_ns: simulated time [ns].
        x_m: position in the map frame, x [m].
        y_m: position in the map frame, y [m], left of x.
        z_m: position in the map frame, z up [m].
        yaw_rad: heading in the map frame [rad], left positive.
        speed_mps: signed forward speed [m/s], negative when rolling backwards.
        yaw_rate_radps: yaw rate [rad/s], left positive.

    Raises:
        ValueError: a field is not finite or beyond any real vehicle; every fault is named.
    """

    stamp_ns: int
    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float
    speed_mps: float
    yaw_rate_radps: float

    def __post_init__(self) -> None:
        faults = [
            f'{name} must be finite and within +-{limit:g}, got {value}'
            for name, value, limit in (
                ('x_m', self.x_m, MAX_COORDINATE_M),
                ('y_m', self.y_m, MAX_COORDINATE_M),
                ('z_m', self.z_m, MAX_COORDINATE_M),
                ('yaw_rad', self.yaw_rad, 2.0 * math.pi),
                ('speed_mps', self.speed_mps, MAX_SPEED_MPS),
                ('yaw_rate_radps', self.yaw_rate_radps, MAX_YAW_RATE_RADPS),
            )
            if not abs(value) <= limit  # written so that NaN fails too
        ]
        if faults:
            raise ValueError('; '.join(faults))

    def as_odometry(self) -> VehicleState:
        """Return the state as odometry carries it, with the yaw as a quaternion."""
        x, y, z, w = quaternion_from_rpy(0.0, 0.0, self.yaw_rad)
        return replace(self, yaw_rad=yaw_from_quaternion(x, y, z, w))


@dataclass(frozen=True, kw_only=True)
class VehicleGeometry:
    """The geometry that relates wheel angle and yaw rate.

    Attributes:
        wheelbase_m: distance between the axles [m].
        max_steer_angle_rad: wheel angle at full steer [rad].

    Raises:
        ValueError: a value that no road vehicle has.
    """

    wheelbase_m: float
    max_steer_angle_rad: float

    def __post_init__(self) -> None:
        limits = {'wheelbase_m': (0.5, 20.0, 'm'), 'max_steer_angle_rad': (0.05, 1.57, 'rad')}
        for field in fields(self):
            value = getattr(self, field.name)
            low, high, unit = limits[field.name]
            if not low <= value <= high:
                raise ValueError(f'{field.name} must be in [{low}, {high}] [{unit}], got {value}')


DEFAULT_WHEELBASE_M = 2.87  # where vehicle_info has no usable wheels
# Axle distances outside this range are not those of a road vehicle.
SHORTEST_WHEELBASE_M = 1.0
LONGEST_WHEELBASE_M = 10.0
WHEELS = 4


def geometry_from_wheels(
    positions: Sequence[tuple[float, float]],
    max_steer_angle_rad: float,
    default_wheelbase_m: float,
) -> VehicleGeometry:
    """Return wheelbase and largest wheel angle from the wheels in vehicle_info.

    The wheelbase is the distance between the centres of the first and the last two wheels, in any
    frame and heading; the default replaces an implausible one.

    Args:
        positions: (x, y) of each wheel [m], front wheels first.
        max_steer_angle_rad: of wheel 0 [rad], as upstream's converter takes it.
        default_wheelbase_m: used where the positions are unusable [m].

    Raises:
        ValueError: the steering angle is not usable.
    """
    wheelbase_m = default_wheelbase_m
    if len(positions) == WHEELS:
        (x0, y0), (x1, y1), (x2, y2), (x3, y3) = positions
        length_m = math.hypot((x0 + x1 - x2 - x3) / 2.0, (y0 + y1 - y2 - y3) / 2.0)
        if SHORTEST_WHEELBASE_M <= length_m <= LONGEST_WHEELBASE_M:
            wheelbase_m = length_m
    return VehicleGeometry(wheelbase_m=wheelbase_m, max_steer_angle_rad=max_steer_angle_rad)

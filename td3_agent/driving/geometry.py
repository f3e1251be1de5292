# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Coordinate frames and time stamps: the one place where CARLA's conventions meet ROS's.

CARLA is left-handed (x forward, y right, z up) and speaks degrees; ROS (REP 103) is
right-handed (x forward, y left, z up) and speaks radians. Turning one into the other flips y,
pitch and yaw. Steering has a sign of its own (CARLA: right positive) and is turned in
:mod:`td3_agent.driving.command`.
"""

from __future__ import annotations

import math

NANOSECONDS_PER_SECOND = 1_000_000_000
# Stamps that run back by more than this are a restarted simulator or a looped bag, not reordering.
JUMP_BACK_NS = 500_000_000
# A frame this much later than the last one does not continue its frame stack.
GAP_NS = 1_000_000_000


def ros_from_carla_location(x_m: float, y_m: float, z_m: float) -> tuple[float, float, float]:
    """Turn a CARLA location or velocity into ROS axes: (x, -y, z), same unit."""
    return x_m, -y_m, z_m


def carla_from_ros_location(x_m: float, y_m: float, z_m: float) -> tuple[float, float, float]:
    """Turn a ROS position or velocity into CARLA axes: (x, -y, z), same unit."""
    return x_m, -y_m, z_m


def ros_from_carla_rotation(
    roll_deg: float, pitch_deg: float, yaw_deg: float
) -> tuple[float, float, float]:
    """Turn CARLA roll, pitch, yaw [deg] into ROS fixed-axis roll, pitch, yaw [rad]."""
    return math.radians(roll_deg), -math.radians(pitch_deg), -math.radians(yaw_deg)


def carla_from_ros_rotation(
    roll_rad: float, pitch_rad: float, yaw_rad: float
) -> tuple[float, float, float]:
    """Turn ROS fixed-axis roll, pitch, yaw [rad] into CARLA roll, pitch, yaw [deg]."""
    return math.degrees(roll_rad), -math.degrees(pitch_rad), -math.degrees(yaw_rad)


def wrap_angle(angle_rad: float) -> float:
    """Bring an angle into [-pi, pi) [rad]."""
    wrapped = (angle_rad + math.pi) % (2.0 * math.pi) - math.pi
    return wrapped if wrapped < math.pi else -math.pi  # rounding can reach the open end


def quaternion_from_rpy(
    roll_rad: float, pitch_rad: float, yaw_rad: float
) -> tuple[float, float, float, float]:
    """Return the unit quaternion (x, y, z, w) of fixed-axis roll, pitch, yaw [rad]."""
    cr, sr = math.cos(roll_rad / 2.0), math.sin(roll_rad / 2.0)
    cp, sp = math.cos(pitch_rad / 2.0), math.sin(pitch_rad / 2.0)
    cy, sy = math.cos(yaw_rad / 2.0), math.sin(yaw_rad / 2.0)
    return (
        sr * cp * cy - cr * sp * sy,
        cr * sp * cy + sr * cp * sy,
        cr * cp * sy - sr * sp * cy,
        cr * cp * cy + sr * sp * sy,
    )


def yaw_from_quaternion(x: float, y: float, z: float, w: float) -> float:
    """Return the yaw [rad] of a quaternion; its length does not matter.

    Raises:
        ValueError: the quaternion has no direction (all zero) or is not finite.
    """
    norm_squared = x * x + y * y + z * z + w * w
    if not (math.isfinite(norm_squared) and norm_squared > 0.0):
        raise ValueError(f'orientation must be a finite non-zero quaternion, got {(x, y, z, w)}')
    return math.atan2(2.0 * (w * z + x * y), w * w + x * x - y * y - z * z)


def stamp_from_seconds(seconds: float) -> tuple[int, int]:
    """Split simulated time [s] into (sec, nanosec) as the CARLA ROS bridge does.

    The bridge truncates, so a stamp is often 1 ns short of the ideal grid: compare stamps of
    one frame with each other, never with ``k * dt``.

    Raises:
        ValueError: the time is negative or not finite.
    """
    if not (math.isfinite(seconds) and seconds >= 0.0):
        raise ValueError(f'time must be finite and >= 0 [s], got {seconds}')
    whole = int(seconds)
    return whole, int((seconds - whole) * NANOSECONDS_PER_SECOND)


def nanoseconds_from_stamp(sec: int, nanosec: int) -> int:
    """Return the stamp as integer nanoseconds.

    Raises:
        ValueError: ``sec`` is negative or ``nanosec`` is outside [0, 1e9).
    """
    if sec < 0:
        raise ValueError(f'stamp.sec must be >= 0 [s], got {sec}')
    if not 0 <= nanosec < NANOSECONDS_PER_SECOND:
        raise ValueError(f'stamp.nanosec must be in [0, 1e9) [ns], got {nanosec}')
    return sec * NANOSECONDS_PER_SECOND + nanosec

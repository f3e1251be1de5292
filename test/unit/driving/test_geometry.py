# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Frames and stamps: one test per axis and angle, and the bridge's truncated time."""

from fractions import Fraction
from itertools import pairwise
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.geometry import (
    carla_from_ros_location,
    carla_from_ros_rotation,
    nanoseconds_from_stamp,
    quaternion_from_rpy,
    ros_from_carla_location,
    ros_from_carla_rotation,
    stamp_from_seconds,
    wrap_angle,
    yaw_from_quaternion,
)

STEP_S = 0.05
STEP_NS = 50_000_000
FRAMES = 20_000
coordinates = st.floats(-1e6, 1e6)
degrees = st.floats(-360.0, 360.0)
angles = st.floats(-math.pi, math.pi)


@pytest.mark.parametrize(
    ('carla', 'ros'),
    [
        ((1.0, 0.0, 0.0), (1.0, 0.0, 0.0)),  # forward stays forward
        ((0.0, 1.0, 0.0), (0.0, -1.0, 0.0)),  # right becomes minus left
        ((0.0, 0.0, 1.0), (0.0, 0.0, 1.0)),  # up stays up
    ],
    ids=['x', 'y', 'z'],
)
def test_each_axis(carla, ros):
    assert ros_from_carla_location(*carla) == ros
    assert carla_from_ros_location(*ros) == carla


@pytest.mark.parametrize(
    ('carla_deg', 'ros_rad'),
    [
        ((90.0, 0.0, 0.0), (math.pi / 2.0, 0.0, 0.0)),
        ((0.0, 90.0, 0.0), (0.0, -math.pi / 2.0, 0.0)),  # CARLA: nose up; ROS: nose down
        ((0.0, 0.0, 90.0), (0.0, 0.0, -math.pi / 2.0)),  # CARLA: to the right; ROS: to the left
    ],
    ids=['roll', 'pitch', 'yaw'],
)
def test_each_angle(carla_deg, ros_rad):
    assert ros_from_carla_rotation(*carla_deg) == pytest.approx(ros_rad, abs=1e-15)
    assert carla_from_ros_rotation(*ros_rad) == pytest.approx(carla_deg, abs=1e-13)


@given(degrees)
def test_heading_and_location_are_turned_alike(yaw_deg):
    yaw = math.radians(yaw_deg)
    x, y, _ = ros_from_carla_location(math.cos(yaw), math.sin(yaw), 0.0)
    _, _, ros_yaw = ros_from_carla_rotation(0.0, 0.0, yaw_deg)
    assert (math.cos(ros_yaw), math.sin(ros_yaw)) == pytest.approx((x, y), abs=1e-12)


@given(coordinates, coordinates, coordinates)
def test_locations_survive_the_round_trip_exactly(x, y, z):
    assert carla_from_ros_location(*ros_from_carla_location(x, y, z)) == (x, y, z)


@given(degrees, degrees, degrees)
def test_rotations_survive_the_round_trip(roll, pitch, yaw):
    there_and_back = carla_from_ros_rotation(*ros_from_carla_rotation(roll, pitch, yaw))
    assert there_and_back == pytest.approx((roll, pitch, yaw), abs=1e-9)


@pytest.mark.parametrize(
    ('angle', 'wrapped'),
    [
        (0.0, 0.0),
        (math.pi, -math.pi),  # the interval is half open
        (-math.pi, -math.pi),
        (1.5 * math.pi, -0.5 * math.pi),
        (-1.5 * math.pi, 0.5 * math.pi),
        (7.0 * math.pi / 2.0, -math.pi / 2.0),
    ],
)
def test_wrapped_angles(angle, wrapped):
    assert wrap_angle(angle) == pytest.approx(wrapped, abs=1e-12)


@given(st.floats(-1e3, 1e3))
def test_wrapping_keeps_the_direction_and_stays_in_the_half_open_interval(angle):
    wrapped = wrap_angle(angle)
    assert -math.pi <= wrapped < math.pi
    assert math.cos(wrapped - angle) == pytest.approx(1.0, abs=1e-12)


def test_wrapping_just_below_minus_pi_does_not_round_to_plus_pi():
    assert wrap_angle(math.nextafter(-math.pi, -4.0)) < math.pi


HALF = math.sqrt(0.5)


@pytest.mark.parametrize(
    ('rpy', 'quaternion'),
    [
        ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.0)),
        ((math.pi / 2.0, 0.0, 0.0), (HALF, 0.0, 0.0, HALF)),
        ((0.0, math.pi / 2.0, 0.0), (0.0, HALF, 0.0, HALF)),
        ((0.0, 0.0, math.pi / 2.0), (0.0, 0.0, HALF, HALF)),
        ((0.0, 0.0, -math.pi / 2.0), (0.0, 0.0, -HALF, HALF)),
    ],
    ids=['identity', 'roll', 'pitch', 'yaw', 'minus yaw'],
)
def test_quaternion_of_each_angle(rpy, quaternion):
    assert quaternion_from_rpy(*rpy) == pytest.approx(quaternion, abs=1e-15)


def matrix_from_rpy(roll, pitch, yaw):
    """Return the rotation matrix of fixed-axis roll, then pitch, then yaw."""

    def around(axis, angle):
        i, j = [k for k in range(3) if k != axis]
        if axis == 1:
            i, j = j, i
        matrix = np.eye(3)
        matrix[i, i] = matrix[j, j] = math.cos(angle)
        matrix[i, j], matrix[j, i] = -math.sin(angle), math.sin(angle)
        return matrix

    return around(2, yaw) @ around(1, pitch) @ around(0, roll)


def matrix_from_quaternion(x, y, z, w):
    """Return the rotation matrix as v -> v + 2 w (u x v) + 2 u x (u x v)."""
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.eye(3) + 2.0 * w * cross + 2.0 * cross @ cross


@given(angles, angles, angles)
def test_quaternion_turns_vectors_as_the_three_fixed_axes_do(roll, pitch, yaw):
    got = matrix_from_quaternion(*quaternion_from_rpy(roll, pitch, yaw))
    np.testing.assert_allclose(got, matrix_from_rpy(roll, pitch, yaw), atol=1e-12)


@given(
    angles, st.floats(-1.5, 1.5), st.floats(-math.pi, math.pi), st.sampled_from([-3.0, 1.0, 0.01])
)
def test_yaw_survives_roll_pitch_length_and_sign_of_the_quaternion(roll, pitch, yaw, scale):
    scaled = (scale * part for part in quaternion_from_rpy(roll, pitch, yaw))
    error = yaw_from_quaternion(*scaled) - yaw
    assert math.remainder(error, 2.0 * math.pi) == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize(
    'quaternion',
    [
        (0.0, 0.0, 0.0, 0.0),
        (math.nan, 0.0, 0.0, 1.0),
        (0.0, math.inf, 0.0, 1.0),
        (0.0, 0.0, -math.inf, 1.0),
        (0.0, 0.0, 0.0, math.nan),
    ],
)
def test_orientation_without_a_direction_is_rejected(quaternion):
    with pytest.raises(ValueError, match='finite non-zero quaternion'):
        yaw_from_quaternion(*quaternion)


@pytest.mark.parametrize(
    ('seconds', 'stamp'),
    [
        (0.0, (0, 0)),
        (10.05, (10, 50_000_000)),
        (1.15, (1, 149_999_999)),  # 1.15 - 1 is a hair below 0.15
        (3.0 * 0.05, (0, 150_000_000)),  # a hair above
        (math.nextafter(1.0, 0.0), (0, 999_999_999)),  # never a whole second of nanoseconds
        (123456.75, (123456, 750_000_000)),
    ],
)
def test_time_is_truncated_to_nanoseconds(seconds, stamp):
    assert stamp_from_seconds(seconds) == stamp


def accumulated_stamps_ns():
    seconds, stamps = 0.0, []
    for _ in range(FRAMES):
        seconds += STEP_S
        stamps.append(nanoseconds_from_stamp(*stamp_from_seconds(seconds)))
    return stamps


def test_about_half_of_the_accumulated_stamps_are_one_nanosecond_short():
    short = sum(stamp % 100_000 == 99_999 for stamp in accumulated_stamps_ns())
    assert 0.45 * FRAMES < short < 0.60 * FRAMES


def test_truncation_never_moves_a_stamp_by_more_than_a_nanosecond_nor_out_of_order():
    stamps = accumulated_stamps_ns()
    assert {stamp - (i + 1) * STEP_NS for i, stamp in enumerate(stamps)} == {-1, 0}
    assert all(later > earlier for earlier, later in pairwise(stamps))


@given(st.floats(0.0, 1e6))
def test_stamp_is_valid_and_not_later_than_the_time(seconds):
    short_ns = Fraction(seconds) * 10**9 - nanoseconds_from_stamp(*stamp_from_seconds(seconds))
    assert -Fraction(1, 10**6) <= short_ns < 1  # the product itself may round up


@pytest.mark.parametrize('seconds', [-0.05, -1e-12, math.nan, math.inf, -math.inf])
def test_time_that_no_simulator_has_is_rejected(seconds):
    with pytest.raises(ValueError, match=r'time must be finite and >= 0 \[s\]'):
        stamp_from_seconds(seconds)


def test_stamp_as_integer_nanoseconds():
    assert nanoseconds_from_stamp(0, 0) == 0
    assert nanoseconds_from_stamp(12, 345) == 12_000_000_345
    assert nanoseconds_from_stamp(2**31 - 1, 999_999_999) == (2**31 - 1) * 10**9 + 999_999_999


@pytest.mark.parametrize(
    ('sec', 'nanosec', 'text'),
    [
        (-1, 0, r'stamp\.sec must be >= 0 \[s\], got -1'),
        (0, 1_000_000_000, r'stamp\.nanosec must be in .* got 1000000000'),
        (0, 2**32 - 1, r'stamp\.nanosec must be in .* got 4294967295'),
        (0, -1, r'stamp\.nanosec must be in .* got -1'),
    ],
)
def test_stamps_that_are_no_time_are_rejected(sec, nanosec, text):
    with pytest.raises(ValueError, match=text):
        nanoseconds_from_stamp(sec, nanosec)

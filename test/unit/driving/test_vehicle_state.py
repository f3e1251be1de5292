# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicle state and geometry: what is rejected, and what the wheels tell."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.vehicle import VehicleGeometry, VehicleState, geometry_from_wheels

AT_REST = {
    'stamp_ns': 0,
    'x_m': 0.0,
    'y_m': 0.0,
    'z_m': 0.0,
    'yaw_rad': 0.0,
    'speed_mps': 0.0,
    'yaw_rate_radps': 0.0,
}
LIMITS = {
    'x_m': 1e7,
    'y_m': 1e7,
    'z_m': 1e7,
    'yaw_rad': 2.0 * math.pi,
    'speed_mps': 200.0,
    'yaw_rate_radps': 100.0,
}
WHEELBASE_M = 2.7
DEFAULT_M = 2.87
MAX_STEER_RAD = 1.22


def wheels(heading_rad=0.0, centre=(0.0, 0.0), length_m=WHEELBASE_M, track_m=1.5, mirrored=1.0):
    """Return front left, front right, rear left, rear right, seen from any frame."""
    places = []
    for along, across in ((0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)):
        x, y = along * length_m, across * track_m
        cos, sin = math.cos(heading_rad), math.sin(heading_rad)
        places.append((centre[0] + cos * x - sin * y, mirrored * (centre[1] + sin * x + cos * y)))
    return places


@pytest.mark.parametrize('name', LIMITS)
@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf, 1e30, -1e30])
def test_no_field_takes_what_is_no_measurement(name, value):
    with pytest.raises(ValueError, match=f'^{name} must be finite'):
        VehicleState(**{**AT_REST, name: value})


@pytest.mark.parametrize(('name', 'limit'), LIMITS.items())
@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_limits_belong_to_the_range(name, limit, sign):
    assert getattr(VehicleState(**{**AT_REST, name: sign * limit}), name) == sign * limit
    with pytest.raises(ValueError, match=name):
        VehicleState(**{**AT_REST, name: sign * math.nextafter(limit, math.inf)})


def test_all_faults_of_a_state_are_named_at_once():
    with pytest.raises(ValueError, match='x_m') as caught:
        VehicleState(**{**AT_REST, 'x_m': math.nan, 'speed_mps': 1e30, 'yaw_rate_radps': -200.0})
    text = str(caught.value)
    assert all(name in text for name in ('x_m', 'speed_mps', 'yaw_rate_radps'))
    assert 'y_m' not in text


@given(st.floats(-math.pi, math.pi))
def test_odometry_carries_the_yaw_as_a_quaternion_and_all_else_as_it_is(yaw):
    state = VehicleState(**{**AT_REST, 'stamp_ns': 7, 'x_m': 1.5, 'yaw_rad': yaw})
    arrived = state.as_odometry()
    assert math.remainder(arrived.yaw_rad - yaw, 2.0 * math.pi) == pytest.approx(0.0, abs=1e-12)
    assert (arrived.stamp_ns, arrived.x_m) == (7, 1.5)


@pytest.mark.parametrize(
    ('field', 'value'),
    [
        ('wheelbase_m', 0.49),
        ('wheelbase_m', 20.1),
        ('wheelbase_m', math.nan),
        ('max_steer_angle_rad', 0.0),
        ('max_steer_angle_rad', -1.22),
        ('max_steer_angle_rad', 70.0),  # degrees
        ('max_steer_angle_rad', math.nan),
    ],
)
def test_geometry_of_no_road_vehicle_is_rejected(field, value):
    values = {'wheelbase_m': WHEELBASE_M, 'max_steer_angle_rad': MAX_STEER_RAD, field: value}
    with pytest.raises(ValueError, match=rf'{field} must be in .* \[(m|rad)\], got'):
        VehicleGeometry(**values)


@given(
    st.floats(-math.pi, math.pi),
    st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)),
    st.floats(1.1, 9.9),
    st.sampled_from([1.0, -1.0]),
)
def test_wheelbase_is_found_in_any_frame_heading_and_hand(heading, centre, length, mirrored):
    places = wheels(heading, centre, length, mirrored=mirrored)
    geometry = geometry_from_wheels(places, MAX_STEER_RAD, DEFAULT_M)
    assert geometry.wheelbase_m == pytest.approx(length, abs=1e-6)
    assert geometry.max_steer_angle_rad == MAX_STEER_RAD


@pytest.mark.parametrize(
    'places',
    [
        [],
        [(0.0, 0.0)] * 4,  # as some bridges fill it
        wheels(length_m=0.9),
        wheels(length_m=270.0),  # centimetres
        wheels()[:2],
        [*wheels(), (0.0, 0.0)],
        [(math.nan, 0.0)] * 4,
        [(math.inf, 0.0)] * 4,
    ],
    ids=['none', 'all zero', 'short', 'centimetres', 'two', 'five', 'nan', 'inf'],
)
def test_default_wheelbase_stands_in_where_the_wheels_do_not_tell(places):
    assert geometry_from_wheels(places, MAX_STEER_RAD, DEFAULT_M).wheelbase_m == DEFAULT_M


@pytest.mark.parametrize('angle', [0.0, math.nan, 70.0])
def test_unusable_wheel_angle_is_rejected_whatever_the_wheels(angle):
    with pytest.raises(ValueError, match='max_steer_angle_rad'):
        geometry_from_wheels(wheels(), angle, DEFAULT_M)

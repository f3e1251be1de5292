# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands: the action map, the one turn of the steering sign, and upstream's conversion."""

from dataclasses import replace
import math
import struct

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.command import (
    FULL_BRAKE,
    STOP,
    TwistCommand,
    VehicleControl,
    action_from_twist,
    clamp,
    control_from_upstream_twist,
    twist_from_action,
    twist_from_control,
    upstream_twist_from_control,
)

MAX_STEER_RAD = 1.22
fractions = st.floats(0.0, 1.0)
signed = st.floats(-1.0, 1.0)
finite = st.floats(allow_nan=False, allow_infinity=False)
controls = st.builds(
    VehicleControl, throttle=fractions, steer=signed, brake=fractions, reverse=st.booleans()
)


def bits(*values):
    """Return the bytes of some floats: unlike ``==`` they tell -0.0 from 0.0."""
    return struct.pack(f'<{len(values)}d', *values)


def action(*values):
    return np.array(values, dtype=np.float32)


@pytest.mark.parametrize(
    ('values', 'speed', 'yaw_rate'),
    [
        ((-1.0, 0.0), 0.0, 0.0),
        ((0.0, 0.0), 4.165, 0.0),
        ((1.0, 0.0), 8.33, 0.0),
        ((-1.0, -1.0), 0.0, -1.0),
        ((1.0, 1.0), 8.33, 1.0),
        ((0.5, 0.25), 6.2475, 0.25),
        ((-7.0, 3.0), 0.0, 1.0),  # beyond the bounds: clamped
        ((7.0, -3.0), 8.33, -1.0),
        ((-0.9875, 0.0), 0.0520625, 0.0),
        ((-0.9885, 0.5), 0.0, 0.5),  # near to the limit is a stop
    ],
)
def test_action_map(values, speed, yaw_rate):
    twist = twist_from_action(action(*values))
    assert (twist.linear_x, twist.angular_z) == pytest.approx((speed, yaw_rate))
    assert not twist.off_axis


def test_least_action_is_the_exact_stop():
    assert twist_from_action(action(-1.0, 0.0)) == STOP


@pytest.mark.parametrize('shape', [(), (1,), (3,), (1, 2), (2, 1)])
def test_action_of_another_shape_is_rejected(shape):
    with pytest.raises(ValueError, match=r'shape \(2,\)'):
        twist_from_action(np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', [0, 1])
def test_action_that_is_not_finite_is_rejected(bad, place):
    values = action(0.0, 0.0)
    values[place] = bad
    with pytest.raises(ValueError, match='action must be finite'):
        twist_from_action(values)


@given(st.floats(-0.921875, 1.0, width=32), st.floats(-1.0, 1.0, width=32))
def test_actions_survive_the_round_trip(speed, yaw_rate):
    got = action_from_twist(twist_from_action(action(speed, yaw_rate)))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, [speed, yaw_rate], atol=1e-6)


@given(finite, finite)
def test_nearest_action_is_always_an_action(speed, yaw_rate):
    got = action_from_twist(TwistCommand(speed, yaw_rate))
    assert got.shape == (2,)
    assert (np.abs(got) <= 1.0).all()


@pytest.mark.parametrize(
    ('control', 'speed', 'yaw_rate'),
    [
        (VehicleControl(), 0.0, 0.0),
        (VehicleControl(throttle=1.0), 8.33, 0.0),
        (VehicleControl(throttle=0.5), 4.165, 0.0),
        (VehicleControl(throttle=1.0, brake=0.25), 6.2475, 0.0),
        (VehicleControl(throttle=1.0, brake=1.0), 0.0, 0.0),
        (FULL_BRAKE, 0.0, 0.0),
        (VehicleControl(throttle=1.0, reverse=True), -8.33, 0.0),
        (VehicleControl(throttle=1.0, steer=1.0), 8.33, -1.0),  # CARLA right is ROS minus
        (VehicleControl(throttle=1.0, steer=-0.5), 8.33, 0.5),
        (VehicleControl(throttle=0.5, steer=1.0, reverse=True), -4.165, -1.0),
    ],
)
def test_velocity_of_a_control(control, speed, yaw_rate):
    twist = twist_from_control(control)
    assert (twist.linear_x, twist.angular_z) == pytest.approx((speed, yaw_rate))


@given(controls)
def test_velocity_formula(control):
    twist = twist_from_control(control)
    speed = control.throttle * 8.33 * (1.0 - control.brake)
    assert abs(twist.linear_x) == pytest.approx(speed)
    assert twist.linear_x == 0.0 or (twist.linear_x < 0.0) == control.reverse
    assert twist.angular_z == -control.steer


@pytest.mark.parametrize('bad', [-0.01, 1.01, math.nan, math.inf])
@pytest.mark.parametrize('field', ['throttle', 'brake'])
def test_pedal_out_of_range_is_rejected(field, bad):
    with pytest.raises(ValueError, match=rf'{field} must be in \[0\.0, 1\.0\], got'):
        twist_from_control(VehicleControl(**{field: bad}))


def test_all_faults_of_a_control_are_named_at_once():
    control = VehicleControl(throttle=2.0, steer=math.nan, brake=-1.0)
    assert not control.is_finite
    assert len(control.faults()) == 3
    with pytest.raises(ValueError, match=r'throttle .*; steer .*; brake '):
        twist_from_control(control)


@given(controls)
def test_control_in_range_has_no_faults_and_keeps_its_flags_on_the_wire(control):
    arrived = replace(control, hand_brake=True, gear=3, manual_gear_shift=True).as_float32()
    assert arrived.faults() == []
    assert (arrived.hand_brake, arrived.gear, arrived.manual_gear_shift) == (True, 3, True)
    assert arrived.reverse == control.reverse
    for name in ('throttle', 'steer', 'brake'):
        assert getattr(arrived, name) == np.float32(getattr(control, name))
    assert arrived.as_float32() == arrived


def upstream(linear_x, angular_z, off_axis, max_steer):
    """Restate carla_twist_to_control: (throttle, brake, steer, reverse) of six components."""
    if linear_x == 0.0 and angular_z == 0.0 and not off_axis:
        return 0.0, 1.0, 0.0, False
    limited = linear_x if abs(linear_x) <= 10.0 else math.copysign(10.0, linear_x)
    angle = angular_z if abs(angular_z) <= max_steer else math.copysign(max_steer, angular_z)
    forward = linear_x > 0.0
    return limited / (10.0 if forward else -10.0), 0.0, -angle / max_steer, not forward


def check_against_upstream(twist, max_steer):
    got = control_from_upstream_twist(twist, max_steer)
    throttle, brake, steer, reverse = upstream(
        twist.linear_x, twist.angular_z, twist.off_axis, max_steer
    )
    assert bits(got.throttle, got.brake, got.steer) == bits(throttle, brake, steer)
    assert got.reverse is reverse
    assert (got.hand_brake, got.manual_gear_shift, got.gear) == (False, False, 0)
    assert got.faults() == []


@given(
    st.builds(TwistCommand, finite | st.floats(-12.0, 12.0), finite | signed, st.booleans()),
    st.floats(0.05, 1.57),
)
def test_upstream_conversion_bit_for_bit(twist, max_steer):
    check_against_upstream(twist, max_steer)


@pytest.mark.parametrize('linear_x', [0.0, -0.0, 1.0, -1.0, 10.0, -10.0])
@pytest.mark.parametrize('angular_z', [0.0, -0.0, MAX_STEER_RAD, -MAX_STEER_RAD])
@pytest.mark.parametrize('off_axis', [False, True])
def test_upstream_conversion_of_either_zero_bit_for_bit(linear_x, angular_z, off_axis):
    check_against_upstream(TwistCommand(linear_x, angular_z, off_axis), MAX_STEER_RAD)


@pytest.mark.parametrize(
    ('twist', 'control'),
    [
        (TwistCommand(0.0, 0.0), VehicleControl(brake=1.0)),
        (TwistCommand(5.0, 0.0), VehicleControl(throttle=0.5)),
        (TwistCommand(5.0, 0.61), VehicleControl(throttle=0.5, steer=-0.5)),  # left
        (TwistCommand(5.0, -0.61), VehicleControl(throttle=0.5, steer=0.5)),  # right
        (TwistCommand(-5.0, 0.61), VehicleControl(throttle=0.5, steer=-0.5, reverse=True)),
        (TwistCommand(-5.0, -0.61), VehicleControl(throttle=0.5, steer=0.5, reverse=True)),
        (TwistCommand(0.0, 0.61), VehicleControl(throttle=0.0, steer=-0.5, reverse=True)),
        (TwistCommand(-1e-9, 0.0), VehicleControl(throttle=1e-10, reverse=True)),
        (TwistCommand(1e-9, 0.0), VehicleControl(throttle=1e-10)),  # noise defeats the stop
        (TwistCommand(0.0, 0.0, off_axis=True), VehicleControl(reverse=True)),
        (TwistCommand(40.0, 9.0), VehicleControl(throttle=1.0, steer=-1.0)),
        (TwistCommand(-40.0, -9.0), VehicleControl(throttle=1.0, steer=1.0, reverse=True)),
    ],
)
def test_upstream_quadrants(twist, control):
    assert control_from_upstream_twist(twist, MAX_STEER_RAD) == control


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
def test_upstream_conversion_rejects_what_is_not_finite(bad):
    for twist in (TwistCommand(bad, 0.0), TwistCommand(0.0, bad)):
        assert not twist.is_finite
        with pytest.raises(ValueError, match='twist must be finite'):
            control_from_upstream_twist(twist, MAX_STEER_RAD)


@given(controls.filter(lambda c: c.brake <= 0.1), st.floats(0.05, 1.57))
def test_upstream_understands_what_was_said_to_it(control, max_steer):
    said = upstream_twist_from_control(control, max_steer)
    heard = control_from_upstream_twist(said, max_steer)
    assert heard.throttle == pytest.approx(max(control.throttle, 1e-4))
    assert heard.steer == pytest.approx(control.steer, abs=1e-9)
    assert heard.reverse == control.reverse
    assert heard.brake == 0.0


@pytest.mark.parametrize('steer', [0.0, 0.7])
def test_braking_said_to_upstream_is_the_all_zero_twist(steer):
    said = upstream_twist_from_control(VehicleControl(brake=0.11, steer=steer), MAX_STEER_RAD)
    assert said == STOP
    assert control_from_upstream_twist(said, MAX_STEER_RAD) == FULL_BRAKE


@pytest.mark.parametrize('steer', [-0.5, 0.0, 0.5])
def test_coasting_said_to_upstream_never_selects_reverse(steer):
    said = upstream_twist_from_control(VehicleControl(steer=steer), MAX_STEER_RAD)
    assert not control_from_upstream_twist(said, MAX_STEER_RAD).reverse


def test_clamp():
    assert [clamp(value, -1.0, 2.0) for value in (-5.0, -1.0, 0.5, 2.0, 9.0)] == [
        -1.0,
        -1.0,
        0.5,
        2.0,
        2.0,
    ]

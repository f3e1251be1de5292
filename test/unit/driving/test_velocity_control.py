# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Velocity control: the bicycle model's closed form, and a speed loop that neither winds up,
overshoots nor leaves CARLA's ranges."""

import math

from harness import images
from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import FULL_BRAKE, STOP, TwistCommand, VehicleControl
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.vehicle import VehicleGeometry
from td3_agent.driving.velocity_control import VelocityController, VelocityControlParams

STEP_NS = 50_000_000
STEP_S = 0.05
GEOMETRY = VehicleGeometry(wheelbase_m=2.7, max_steer_angle_rad=1.22)
# Limits out of the way: what the loops want is what comes out.
AT_ONCE = VelocityControlParams(max_throttle_rate=1000.0, max_steer_rate=1000.0)
GAIN = VelocityControlParams().throttle_gain
# Where the coast band of 0.4 m/s ends the brake takes over.
MOST_OVERSHOOT_MPS = 0.3
FULL_THROTTLE_MPS2, FULL_BRAKE_MPS2 = 4.0, 8.0
finite = st.floats(allow_nan=False, allow_infinity=False)


def moving(speed_mps=0.0, stamp_ns=0):
    return images.moving(speed_mps, stamp_ns=stamp_ns)


def first_control(target_mps, yaw_rate_radps, speed_mps, params=AT_ONCE):
    twist = TwistCommand(target_mps, yaw_rate_radps)
    return VelocityController(params).control(twist, moving(speed_mps), GEOMETRY)


class PointMass:
    """A car on a line: throttle and brake are accelerations, drag grows with speed."""

    def __init__(self, speed_mps=0.0, params=None):
        self.speed_mps, self.stamp_ns = speed_mps, 0
        self.controller = VelocityController(params)
        self.controls, self.speeds = [], []

    def drive(self, target_mps, seconds):
        for _ in range(round(seconds / STEP_S)):
            state = moving(self.speed_mps, self.stamp_ns)
            control = self.controller.control(TwistCommand(target_mps, 0.0), state, GEOMETRY)
            self._step(control)
            self.controls.append(control)
            self.speeds.append(self.speed_mps)
        return self

    def _step(self, control):
        pull = FULL_THROTTLE_MPS2 * control.throttle * (-1.0 if control.reverse else 1.0)
        self.speed_mps += STEP_S * (pull - 0.03 * self.speed_mps)
        resistance = STEP_S * (FULL_BRAKE_MPS2 * control.brake + 0.15)
        self.speed_mps -= math.copysign(min(resistance, abs(self.speed_mps)), self.speed_mps)
        self.stamp_ns += STEP_NS


@pytest.mark.parametrize('speed', [1.0, 3.0, 8.0, 25.0])
@pytest.mark.parametrize('yaw_rate', [-0.8, -0.2, 0.0, 0.2, 0.8])
def test_steering_is_the_kinematic_bicycle(speed, yaw_rate):
    steer = first_control(speed, yaw_rate, speed).steer
    wheel_angle = -steer * GEOMETRY.max_steer_angle_rad  # CARLA steers right positive
    turned = speed * math.tan(wheel_angle) / GEOMETRY.wheelbase_m
    assert turned == pytest.approx(yaw_rate, abs=1e-12)


def test_left_is_negative_steer_and_right_is_positive():
    assert first_control(5.0, 0.5, 5.0).steer < 0.0 < first_control(5.0, -0.5, 5.0).steer


@pytest.mark.parametrize('yaw_rate', [-0.4, 0.4])
def test_the_same_yaw_rate_needs_the_opposite_wheels_backwards(yaw_rate):
    forwards = first_control(3.0, yaw_rate, 3.0).steer
    assert first_control(-3.0, yaw_rate, -3.0).steer == -forwards
    assert first_control(3.0, yaw_rate, -3.0).steer == -forwards  # it still rolls backwards
    assert first_control(-3.0, yaw_rate, 3.0).steer == forwards  # it still rolls forwards


def test_at_rest_the_target_tells_which_way_the_wheels_will_turn_the_car():
    assert first_control(-3.0, 0.4, 0.0).steer == -first_control(3.0, 0.4, 0.0).steer > 0.0


def test_below_one_metre_per_second_the_wheels_do_not_go_wild():
    assert first_control(3.0, 0.4, 0.0).steer == first_control(3.0, 0.4, 0.99).steer
    assert abs(first_control(3.0, 0.4, 0.0).steer) < 1.0


@pytest.mark.parametrize(('yaw_rate', 'steer'), [(1.0, -1.0), (-1.0, 1.0)])
def test_more_than_the_wheels_can_do_is_full_steer(yaw_rate, steer):
    geometry = VehicleGeometry(wheelbase_m=2.7, max_steer_angle_rad=0.5)
    twist = TwistCommand(1.0, yaw_rate)
    assert VelocityController(AT_ONCE).control(twist, moving(1.0), geometry).steer == steer


@pytest.mark.parametrize('target', [1.0, 3.0, 5.0, 8.0, -2.0, -4.0])
def test_speed_loop_converges_without_much_overshoot(target):
    car = PointMass().drive(target, 30.0)
    assert max(abs(speed) for speed in car.speeds) < abs(target) + MOST_OVERSHOOT_MPS
    assert max(abs(speed - target) for speed in car.speeds[-100:]) < 0.05


@pytest.mark.parametrize('target', [1.0, 3.0, 5.0, -2.0, -4.0])
def test_speed_loop_comes_down_without_undershoot(target):
    car = PointMass(math.copysign(8.0, target)).drive(target, 30.0)
    assert min(abs(speed) for speed in car.speeds) > abs(target) - 0.3
    assert max(abs(speed - target) for speed in car.speeds[-100:]) < 0.05


def test_throttle_and_brake_are_never_pressed_together():
    car = PointMass().drive(8.0, 5.0).drive(2.0, 5.0).drive(-3.0, 8.0).drive(0.0, 5.0)
    assert not [c for c in car.controls if c.throttle > 0.0 and c.brake > 0.0]


def test_target_beyond_the_cap_is_the_cap():
    params = VelocityControlParams(max_speed_mps=5.0)
    assert max(PointMass(params=params).drive(50.0, 30.0).speeds) < 5.0 + MOST_OVERSHOOT_MPS
    assert min(PointMass(params=params).drive(-50.0, 30.0).speeds) > -5.0 - MOST_OVERSHOOT_MPS


@pytest.mark.parametrize(
    ('excess', 'brake'), [(0.41, 0.0025), (1.4, 0.25), (2.4, 0.5), (6.0, 1.0)]
)
@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_brake_is_proportional_to_the_excess_beyond_the_coast_band(excess, brake, sign):
    control = first_control(sign * 2.0, 0.0, sign * (2.0 + excess))
    assert (control.throttle, control.brake) == (0.0, pytest.approx(brake))


@pytest.mark.parametrize('excess', [0.0, 0.2, 0.39])
def test_small_excess_is_left_to_coasting(excess):
    control = first_control(4.0, 0.0, 4.0 + excess)
    assert (control.throttle, control.brake) == (0.0, 0.0)


def test_coast_band_narrows_towards_standstill():
    assert first_control(0.5, 0.0, 1.0).brake == pytest.approx(0.25 * (0.5 - 0.2))
    assert first_control(0.1, 0.0, 0.8).brake == pytest.approx(0.25 * (0.7 - 0.04))


def test_proportional_throttle_of_the_first_step():
    control = first_control(5.0, 0.0, 4.0)
    assert (control.throttle, control.brake) == (pytest.approx(GAIN), 0.0)


def test_integral_adds_the_area_under_the_error():
    controller = VelocityController(AT_ONCE)
    for i in range(11):
        throttle = controller.control(
            TwistCommand(5.0, 0.0), moving(4.0, i * STEP_NS), GEOMETRY
        ).throttle
    assert throttle == pytest.approx(GAIN + 0.15 * 10 * STEP_S)


@pytest.mark.parametrize('target', [0.0, 0.04, -0.04])
@pytest.mark.parametrize(('speed', 'brake'), [(0.0, 0.5), (1.0, 0.25), (-1.0, 0.25), (8.0, 1.0)])
def test_target_of_zero_holds_the_car(target, speed, brake):
    control = first_control(target, 0.0, speed)
    assert (control.throttle, control.brake) == (0.0, pytest.approx(brake))


def test_holding_brake_grows_while_the_car_rolls():
    controller = VelocityController()
    brakes = [controller.control(STOP, moving(1.0, i * STEP_NS), GEOMETRY).brake for i in range(8)]
    assert brakes == pytest.approx([0.25, 0.35, 0.45, 0.55, 0.65, 0.75, 0.75, 0.75])


def test_car_stops_and_stays():
    car = PointMass().drive(8.0, 10.0).drive(0.0, 4.0)
    assert car.speeds[-1] == 0.0
    assert car.controls[-1].brake >= 0.5


@pytest.mark.parametrize(('before', 'after'), [(6.0, -3.0), (-6.0, 3.0)])
def test_direction_changes_only_below_half_a_metre_per_second(before, after):
    car = PointMass().drive(before, 10.0)
    known = len(car.speeds)
    car.drive(after, 10.0)
    for speed, last, now in zip(
        car.speeds[known - 1 :], car.controls[known - 1 :], car.controls[known:], strict=False
    ):
        if last.reverse != now.reverse:
            assert abs(speed) <= 0.5
    assert car.controls[-1].reverse == (after < 0.0)
    assert car.speeds[-1] == pytest.approx(after, abs=0.25)


@pytest.mark.parametrize(('target', 'speed'), [(3.0, -0.51), (-3.0, 0.51)])
def test_rolling_the_wrong_way_is_braked_before_the_throttle_opens(target, speed):
    control = first_control(target, 0.0, speed)
    assert control.throttle == 0.0
    assert control.brake >= 0.2


def test_throttle_rises_at_its_limit_and_falls_at_once():
    controller = VelocityController(VelocityControlParams(max_throttle_rate=2.0))
    throttles = [
        controller.control(TwistCommand(8.0, 0.0), moving(0.0, i * STEP_NS), GEOMETRY).throttle
        for i in range(1, 13)
    ]
    assert throttles == pytest.approx([min(0.1 * i, 1.0) for i in range(1, 13)])
    assert controller.control(STOP, moving(0.0, 13 * STEP_NS), GEOMETRY).throttle == 0.0


def test_steer_moves_at_its_limit_either_way():
    controller = VelocityController(VelocityControlParams(max_steer_rate=2.0))
    wanted = [1.0] * 3 + [-1.0] * 4
    steers = [
        controller.control(TwistCommand(1.0, w), moving(1.0, i * STEP_NS), GEOMETRY).steer
        for i, w in enumerate(wanted, start=1)
    ]
    assert steers == pytest.approx([-0.1, -0.2, -0.3, -0.2, -0.1, 0.0, 0.1])


def test_brake_is_not_limited_in_rate():
    controller = VelocityController()
    controller.control(TwistCommand(8.0, 0.0), moving(8.0), GEOMETRY)
    assert controller.control(STOP, moving(8.0, STEP_NS), GEOMETRY).brake == 1.0


def test_repeated_stamp_moves_neither_ramp_nor_integral():
    controller = VelocityController()
    twist, state = TwistCommand(8.0, 1.0), moving(1.0, STEP_NS)
    first = controller.control(twist, state, GEOMETRY)
    assert all(controller.control(twist, state, GEOMETRY) == first for _ in range(20))


def test_ramps_start_from_the_command_that_was_sent_instead():
    controller = VelocityController()
    for i in range(20):
        controller.control(TwistCommand(8.0, -1.0), moving(2.0, i * STEP_NS), GEOMETRY)
    controller.override(FULL_BRAKE)
    control = controller.control(TwistCommand(8.0, -1.0), moving(2.0, 20 * STEP_NS), GEOMETRY)
    assert control.throttle == pytest.approx(4.0 * STEP_S)
    assert control.steer == pytest.approx(6.0 * STEP_S)


def test_saturation_does_not_wind_the_integral_up():
    controller = VelocityController(AT_ONCE)
    for i in range(1000):  # 50 s against a wall
        controller.control(TwistCommand(8.0, 0.0), moving(0.0, i * STEP_NS), GEOMETRY)
    control = controller.control(TwistCommand(8.0, 0.0), moving(7.9, 1000 * STEP_NS), GEOMETRY)
    assert control.throttle == pytest.approx(GAIN * 0.1, abs=0.01)


def test_braking_forgets_the_integral():
    controller = VelocityController(AT_ONCE)
    for i in range(100):
        controller.control(TwistCommand(4.0, 0.0), moving(3.0, i * STEP_NS), GEOMETRY)
    controller.control(TwistCommand(1.0, 0.0), moving(3.0, 100 * STEP_NS), GEOMETRY)
    control = controller.control(TwistCommand(4.0, 0.0), moving(3.0, 101 * STEP_NS), GEOMETRY)
    assert control.throttle == pytest.approx(GAIN)


def test_time_that_runs_back_begins_anew():
    controller, fresh = VelocityController(), VelocityController()
    for i in range(40):
        controller.control(TwistCommand(8.0, 1.0), moving(2.0, 10**10 + i * STEP_NS), GEOMETRY)
    twist, state = TwistCommand(5.0, -0.3), moving(1.0, 5 * STEP_NS)
    assert controller.control(twist, state, GEOMETRY) == fresh.control(twist, state, GEOMETRY)


def test_gap_in_time_counts_as_a_fifth_of_a_second():
    params = VelocityControlParams(max_throttle_rate=1.0, max_steer_rate=1.0)
    controller = VelocityController(params)
    controller.control(STOP, moving(1.0), GEOMETRY)
    far_ns = 100 * 10**9
    control = controller.control(TwistCommand(8.0, -1.0), moving(1.0, far_ns), GEOMETRY)
    assert (control.throttle, control.steer) == pytest.approx((0.2, 0.2))


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize('place', ['linear_x', 'angular_z'])
def test_twist_that_is_not_finite_is_rejected_and_leaves_no_trace(bad, place):
    controller, untouched = VelocityController(), VelocityController()
    with pytest.raises(ValueError, match='twist must be finite'):
        controller.control(
            TwistCommand(**{'linear_x': 1.0, 'angular_z': 0.0, place: bad}), moving(), GEOMETRY
        )
    twist, state = TwistCommand(3.0, 0.2), moving(1.0, STEP_NS)
    assert controller.control(twist, state, GEOMETRY) == untouched.control(twist, state, GEOMETRY)


drives = st.lists(
    st.tuples(
        st.builds(TwistCommand, finite | st.floats(-10.0, 10.0), finite | st.floats(-2.0, 2.0)),
        st.floats(-200.0, 200.0) | st.floats(-9.0, 9.0),
        st.integers(-(10**9), 10**11),  # time may jump either way
    ),
    min_size=1,
    max_size=30,
)
geometries = st.builds(
    VehicleGeometry,
    wheelbase_m=st.floats(0.5, 20.0),
    max_steer_angle_rad=st.floats(0.05, 1.57),
)


def commands_of(drive, geometry, params):
    controller, stamp_ns, commands = VelocityController(params), 0, []
    for twist, speed_mps, step_ns in drive:
        stamp_ns = max(stamp_ns + step_ns, 0)
        commands.append(controller.control(twist, moving(speed_mps, stamp_ns), geometry))
    return commands


@given(drives, geometries, st.sampled_from([None, AT_ONCE]))
def test_whatever_is_asked_the_command_is_in_range_and_repeatable(drive, geometry, params):
    commands = commands_of(drive, geometry, params)
    assert [command.faults() for command in commands] == [[]] * len(drive)
    assert not [c for c in commands if c.throttle > 0.0 and c.brake > 0.0]
    assert commands_of(drive, geometry, params) == commands


def test_two_controllers_do_not_share_anything():
    one, other = VelocityController(), VelocityController()
    for i in range(20):
        one.control(TwistCommand(8.0, 1.0), moving(2.0, i * STEP_NS), GEOMETRY)
    assert other.control(STOP, moving(), GEOMETRY) == VehicleControl(brake=0.5)


def test_settings_out_of_range_are_rejected():
    with pytest.raises(ParameterError, match=r'max_speed_mps must be in \[0\.1, 60\] \[m/s\]'):
        VelocityControlParams(max_speed_mps=0.0)

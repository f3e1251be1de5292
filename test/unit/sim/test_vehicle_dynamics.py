# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The car against closed forms."""

from itertools import pairwise
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import VehicleControl
from td3_agent.sim.vehicle import (
    AIR_DENSITY_KGPM3,
    DRAG_COEFFICIENT,
    ENGINE_FORCE_N,
    FRONTAL_AREA_M2,
    GRAVITY_MPS2,
    GRIP_FRACTION,
    HAND_BRAKE_FRACTION,
    KINEMATIC_BELOW_MPS,
    MAX_STEER_RATE_RADPS,
    ROLLING_RESISTANCE,
    Motion,
    Vehicle,
    vehicle_info,
)

STEP_S = 0.05
INFO = vehicle_info()
WHEELBASE_M = INFO.geometry.wheelbase_m
MAX_STEER_RAD = INFO.geometry.max_steer_angle_rad
FRICTION = INFO.wheels[0].tire_friction
GRIP_MPS2 = GRIP_FRACTION * FRICTION * GRAVITY_MPS2


def drive(vehicle, control, seconds):
    for _ in range(round(seconds / STEP_S)):
        vehicle.step(control, STEP_S)
    return vehicle.motion


def test_full_throttle_from_rest_gains_force_over_mass():
    motion = drive(Vehicle(), VehicleControl(throttle=1.0), 1.0)
    expected = ENGINE_FORCE_N / INFO.mass - ROLLING_RESISTANCE * GRAVITY_MPS2
    assert motion.speed_mps == pytest.approx(expected, rel=0.01)
    assert motion.x_m == pytest.approx(0.5 * expected, rel=0.01)
    assert motion.y_m == 0.0


def test_top_speed_is_where_power_meets_drag():
    motion = drive(Vehicle(Motion(speed_mps=49.0)), VehicleControl(throttle=0.3), 200.0)
    drag_n = 0.5 * AIR_DENSITY_KGPM3 * DRAG_COEFFICIENT * FRONTAL_AREA_M2 * motion.speed_mps**2
    rolling_n = ROLLING_RESISTANCE * GRAVITY_MPS2 * INFO.mass
    engine_drag_n = 0.7 * 0.08 * motion.speed_mps * INFO.mass
    push_n = 0.3 * min(ENGINE_FORCE_N, 100_000.0 / motion.speed_mps)
    assert push_n == pytest.approx(drag_n + rolling_n + engine_drag_n, rel=1e-3)


@pytest.mark.parametrize('brake', [0.3, 0.6, 1.0])
def test_braking_distance_is_v_squared_over_two_a(brake):
    motion = drive(Vehicle(Motion(speed_mps=8.0)), VehicleControl(brake=brake), 8.0)
    least = brake * GRIP_MPS2 + ROLLING_RESISTANCE * GRAVITY_MPS2
    most = least + 0.08 * 8.0 + 0.03  # engine and air drag only shorten it
    assert motion.speed_mps == 0.0
    assert 8.0**2 / (2.0 * most) <= motion.x_m <= 8.0**2 / (2.0 * least)


@pytest.mark.parametrize('speed', [7.0, -3.0])
def test_brakes_stop_the_car_and_hold_it(speed):
    vehicle = Vehicle(Motion(speed_mps=speed))
    stopped = drive(vehicle, VehicleControl(brake=1.0, steer=0.4), 3.0)
    assert stopped.speed_mps == 0.0
    assert stopped.yaw_rate_radps == 0.0
    held = drive(vehicle, VehicleControl(brake=1.0, throttle=0.5, steer=0.4), 3.0)
    assert (held.x_m, held.y_m, held.yaw_rad) == (stopped.x_m, stopped.y_m, stopped.yaw_rad)


def test_coasting_ends_at_rest_and_never_turns_back():
    vehicle = Vehicle(Motion(speed_mps=2.0))
    speeds = [vehicle.step(VehicleControl(), STEP_S).speed_mps for _ in range(800)]
    assert all(a >= b >= 0.0 for a, b in pairwise(speeds))
    assert speeds[-1] == 0.0


def test_hand_brake_takes_its_share_of_grip():
    vehicle = Vehicle(Motion(speed_mps=10.0))
    lost = 10.0 - vehicle.step(VehicleControl(hand_brake=True), STEP_S).speed_mps
    assert lost == pytest.approx(HAND_BRAKE_FRACTION * GRIP_MPS2 * STEP_S, rel=0.4)
    assert drive(vehicle, VehicleControl(hand_brake=True), 5.0).speed_mps == 0.0


def test_reverse_drives_backwards_and_steers_the_other_way_round():
    vehicle = Vehicle()
    motion = drive(vehicle, VehicleControl(throttle=0.4, reverse=True, steer=-0.3), 2.0)
    assert motion.speed_mps < -1.0
    assert motion.x_m < -1.0
    assert motion.yaw_rate_radps < 0.0  # wheels to the left, backwards: the nose goes right


def test_manual_gears_choose_the_direction():
    neutral = VehicleControl(throttle=1.0, manual_gear_shift=True, gear=0)
    backwards = VehicleControl(throttle=1.0, manual_gear_shift=True, gear=-1)
    assert drive(Vehicle(), neutral, 1.0).speed_mps == 0.0
    assert drive(Vehicle(), backwards, 1.0).speed_mps < 0.0


@pytest.mark.parametrize(('steer', 'sign'), [(-0.2, 1.0), (0.2, -1.0)])
def test_carla_steer_is_right_positive(steer, sign):
    motion = drive(Vehicle(Motion(speed_mps=4.0)), VehicleControl(throttle=0.1, steer=steer), 1.0)
    assert sign * motion.yaw_rad > 0.1
    assert sign * motion.y_m > 0.1


@pytest.mark.parametrize('speed', [1.5, 4.0, 8.0])
def test_circle_has_the_bicycle_models_radius(speed):
    angle = 0.1
    steer = VehicleControl(steer=-angle / MAX_STEER_RAD)
    vehicle = Vehicle(Motion(speed_mps=speed))
    for _ in range(40):
        vehicle.motion = vehicle.step(steer, STEP_S)._replace(speed_mps=speed)
    radius = speed / vehicle.motion.yaw_rate_radps
    assert radius == pytest.approx(WHEELBASE_M / math.tan(angle), rel=0.02)


def test_full_steer_reaches_the_published_angle_at_the_rack_s_pace():
    vehicle = Vehicle()
    first = vehicle.step(VehicleControl(steer=-1.0), STEP_S).steer_angle_rad
    assert first == pytest.approx(MAX_STEER_RATE_RADPS * STEP_S)
    assert drive(vehicle, VehicleControl(steer=-1.0), 2.0).steer_angle_rad == MAX_STEER_RAD
    assert [wheel.max_steer_angle for wheel in INFO.wheels] == [MAX_STEER_RAD] * 2 + [0.0] * 2


@pytest.mark.parametrize('speed', [8.33, 15.0, 30.0])
def test_lateral_acceleration_stays_within_grip(speed):
    vehicle = Vehicle(Motion(speed_mps=speed))
    for _ in range(60):
        motion = vehicle.step(VehicleControl(throttle=0.3, steer=1.0), STEP_S)
        assert abs(motion.speed_mps * motion.yaw_rate_radps) < 1.01 * GRIP_MPS2


def test_braking_hard_in_a_fast_bend_does_not_spin_the_car():
    vehicle = Vehicle(Motion(speed_mps=38.0))
    drive(vehicle, VehicleControl(brake=1.0, steer=1.0), 0.5)
    motion = drive(vehicle, VehicleControl(brake=1.0), 5.0)
    assert abs(motion.yaw_rad) < 1.0
    assert motion.speed_mps == 0.0


def test_models_agree_where_one_takes_over_from_the_other():
    rates = []
    for offset in (-0.02, 0.02):
        speed = KINEMATIC_BELOW_MPS + offset
        vehicle = Vehicle(Motion(speed_mps=speed))
        for _ in range(20):
            vehicle.motion = vehicle.step(VehicleControl(steer=-0.2), STEP_S)._replace(
                speed_mps=speed
            )
        rates.append(vehicle.motion.yaw_rate_radps)
    assert rates[0] == pytest.approx(rates[1], rel=0.05)


def test_a_step_is_its_two_halves():
    """Sub-steps are equal parts, so 0.05 s is two times 0.02 s and once 0.01 s."""
    control = VehicleControl(throttle=0.5, steer=0.2)
    whole, parts = Vehicle(), Vehicle()
    for _ in range(40):
        whole.step(control, 0.05)
        for part in (0.02, 0.02, 0.01):
            parts.step(control, part)
    assert parts.motion == pytest.approx(whole.motion, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(
    commands=st.lists(
        st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0), st.floats(-2.0, 2.0), st.booleans()),
        min_size=1,
        max_size=8,
    ),
    speed=st.floats(-10.0, 40.0),
)
def test_any_command_keeps_the_motion_sane(commands, speed):
    vehicle = Vehicle(Motion(speed_mps=speed))
    for throttle, steer, brake, reverse in commands:
        control = VehicleControl(throttle=throttle, steer=steer, brake=brake, reverse=reverse)
        motion = drive(vehicle, control, 0.5)
        assert all(math.isfinite(value) for value in motion)
        assert abs(motion.speed_mps) < 52.0
        assert abs(motion.slip_rad) < 1.0
        assert abs(motion.yaw_rate_radps) < 5.0


def test_wheels_stand_left_and_right_of_the_axles():
    front_left, front_right, rear_left, rear_right = INFO.wheels
    assert front_left.position[0] - rear_left.position[0] == pytest.approx(WHEELBASE_M)
    assert front_left.position[1] == -front_right.position[1] > 0.0
    assert rear_left.position[1] == -rear_right.position[1] > 0.0
    assert all(20.0 < wheel.radius < 50.0 for wheel in INFO.wheels)  # centimetres

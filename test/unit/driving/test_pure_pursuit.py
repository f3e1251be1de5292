# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Pure pursuit on a kinematic bicycle, through the gate's own speed and steering loops."""

import math
from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving import pure_pursuit
from td3_agent.driving.command import TwistCommand, twist_from_action
from td3_agent.driving.observation import Observation
from td3_agent.driving.pure_pursuit import (
    CRUISE_SPEED_MPS,
    REAR_AXLE_M,
    SPEED_TRIM_MAX_MPS,
    PurePursuitDriver,
    SpeedTrim,
    speed_profile,
)
from td3_agent.driving.route import Route
from td3_agent.driving.vehicle import VehicleGeometry, VehicleState
from td3_agent.driving.velocity_control import VelocityController

STEP_NS = 50_000_000
STEP_S = 0.05
GEOMETRY = VehicleGeometry(wheelbase_m=2.8, max_steer_angle_rad=1.22)
STOP_ACTION = np.array([-1.0, 0.0], dtype=np.float32)


def observe(x=0.0, y=0.0, yaw=0.0, speed=0.0, stamp_ns=0):
    vehicle = VehicleState(
        stamp_ns=stamp_ns,
        x_m=x,
        y_m=y,
        z_m=0.0,
        yaw_rad=math.remainder(yaw, 2.0 * math.pi),
        speed_mps=speed,
        yaw_rate_radps=0.0,
    )
    return Observation(
        image=np.zeros((4, 84, 84), np.uint8), state=np.zeros(4, np.float32), vehicle=vehicle
    )


class DrivenPath(NamedTuple):
    """One row per tick, of the point that odometry reports."""

    x: np.ndarray
    y: np.ndarray
    speed: np.ndarray
    lateral: np.ndarray
    acceleration: np.ndarray

    @property
    def lateral_acceleration(self):
        heading = np.unwrap(np.arctan2(np.diff(self.y), np.diff(self.x)))
        return np.diff(heading) / STEP_S * self.speed[1:-1]


def drive(  # noqa: PLR0913  a start pose and a vehicle
    driver, x, y, yaw, seconds, *, speed=0.0, throttle_mps2=3.5
):
    """DrivenPath a kinematic bicycle with drag; (x, y) is where odometry starts."""
    gate, rows, s_m = VelocityController(), [], None
    rear = np.array([x - REAR_AXLE_M * math.cos(yaw), y - REAR_AXLE_M * math.sin(yaw)])
    for tick in range(int(seconds / STEP_S)):
        x, y = rear + REAR_AXLE_M * np.array([math.cos(yaw), math.sin(yaw)])
        observation = observe(x, y, yaw, speed, tick * STEP_NS)
        twist = twist_from_action(driver.act(observation))
        control = gate.control(twist, observation.vehicle, GEOMETRY)
        seen = driver.route.project(x, y, s_m)
        s_m = seen.s_m
        gain = control.throttle * throttle_mps2 - control.brake * 8.0 * np.sign(speed)
        gain -= 0.02 * speed
        rows.append((x, y, speed, seen.lateral_m, gain))
        wheel = -control.steer * GEOMETRY.max_steer_angle_rad
        middle = yaw + 0.5 * STEP_S * speed * math.tan(wheel) / GEOMETRY.wheelbase_m
        rear = rear + STEP_S * speed * np.array([math.cos(middle), math.sin(middle)])
        yaw += STEP_S * speed * math.tan(wheel) / GEOMETRY.wheelbase_m
        speed = max(speed + STEP_S * gain, 0.0)
    return DrivenPath(*np.array(rows).T)


def line(length_m=200.0):
    return Route(np.column_stack((np.arange(0.0, length_m + 1.0), np.zeros(int(length_m) + 1))))


def circle(radius_m, *, clockwise=False):
    angle = np.linspace(0.0, 2.0 * np.pi, 300, endpoint=False) * (-1.0 if clockwise else 1.0)
    return Route(radius_m * np.column_stack((np.cos(angle), np.sin(angle))), closed=True)


def s_curve():
    x = np.arange(0.0, 300.0)
    return Route(np.column_stack((x, 12.0 * np.sin(x / 22.0))))


def test_without_a_route_it_asks_for_a_stop():
    driver = PurePursuitDriver()
    assert driver.route is None
    np.testing.assert_array_equal(driver.act(observe(speed=5.0)), STOP_ACTION)


def test_action_is_a_float32_pair():
    action = PurePursuitDriver(route=line()).act(observe())
    assert action.dtype == np.float32
    assert action.shape == (2,)


def test_straight_at_cruise_speed():
    run = drive(PurePursuitDriver(route=line(400.0)), 0.0, 0.0, 0.0, 30.0)
    assert np.abs(run.lateral).max() < 1e-6
    cruise = run.speed[int(15.0 / STEP_S) :]
    np.testing.assert_allclose(cruise, 8.0, atol=0.15)
    assert run.speed.max() < 8.33


def test_offset_start_comes_back_without_overshoot():
    run = drive(PurePursuitDriver(route=line(400.0)), 0.0, 1.5, 0.0, 20.0, speed=6.0)
    assert run.lateral.min() > -0.15
    assert np.abs(run.lateral[200:]).max() < 0.03


@pytest.mark.parametrize('clockwise', [False, True])
@pytest.mark.parametrize(('radius_m', 'bound_m'), [(12.0, 0.25), (50.0, 0.1)])
def test_circle(clockwise, radius_m, bound_m):
    driver = PurePursuitDriver(route=circle(radius_m, clockwise=clockwise))
    run = drive(driver, radius_m, 0.0, math.pi / 2.0 * (-1.0 if clockwise else 1.0), 40.0)
    assert np.abs(run.lateral).max() < bound_m
    fastest = min(8.0, math.sqrt(2.0 * radius_m))
    np.testing.assert_allclose(run.speed[-200:], fastest, atol=0.3)
    assert not driver.arrived


def test_s_curve_stays_in_its_lane_and_comfortable():
    run = drive(PurePursuitDriver(route=s_curve()), 0.0, 0.0, math.atan(12.0 / 22.0), 60.0)
    assert np.abs(run.lateral).max() < 0.3
    assert np.abs(run.lateral_acceleration).max() < 2.8


def test_corner_is_taken_slowly():
    route = Route([[0.0, 0.0], [80.0, 0.0], [80.0, 80.0]])
    run = drive(PurePursuitDriver(route=route), 0.0, 0.0, 0.0, 50.0)
    assert np.abs(run.lateral).max() < 1.2
    assert np.abs(run.lateral_acceleration).max() < 3.5
    assert run.x[-1] == pytest.approx(80.0, abs=0.1)


@pytest.mark.parametrize('length_m', [15.0, 60.0, 200.0])
def test_stops_at_the_end_and_stays(length_m):
    driver = PurePursuitDriver(route=line(length_m))
    run = drive(driver, 0.0, 0.0, 0.0, 10.0 + length_m / 3.0)
    assert driver.arrived
    assert length_m - 2.0 < run.x[-1] < length_m
    assert run.speed[-1] < 0.01
    rolling = run.speed > 1.0  # below, the holding brake of the gate ends the ride
    assert run.acceleration[rolling].min() > -3.0
    np.testing.assert_array_equal(
        driver.act(observe(run.x[-1], 0.0, stamp_ns=10**12))[:1], STOP_ACTION[:1]
    )


def test_closed_route_is_driven_lap_after_lap():
    route = circle(15.0)
    run = drive(PurePursuitDriver(route=route), 15.0, 0.0, math.pi / 2.0, 60.0)
    assert run.speed.sum() * STEP_S > 2.5 * route.length_m
    assert np.abs(run.lateral).max() < 0.2


def test_lap_drawn_as_an_open_route_is_driven_from_its_start():
    angle = np.linspace(0.0, 2.0 * np.pi, 301)
    route = Route(30.0 * np.column_stack((np.cos(angle), np.sin(angle))))
    driver = PurePursuitDriver(route=route)
    run = drive(driver, 30.0, 0.0, math.pi / 2.0, 60.0)
    assert driver.arrived
    assert run.speed.sum() * STEP_S > 0.95 * route.length_m


def test_weak_vehicle_does_not_wind_up():
    """Full throttle for 15 s, far below the set point: nothing is left over at cruise speed."""
    run = drive(PurePursuitDriver(route=line(600.0)), 0.0, 0.0, 0.0, 60.0, throttle_mps2=0.6)
    assert run.speed.max() < 8.33
    np.testing.assert_allclose(run.speed[1000:1100], 8.0, atol=0.1)


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.0, 1.0)), max_size=50))
def test_trim_and_its_integral_stay_within_the_limit_both_ways_alike(calls):
    trim, mirror = SpeedTrim(), SpeedTrim()
    for error_mps, step_s in calls:
        found = trim.update(error_mps, step_s)
        assert max(abs(found), abs(trim.integral_mps)) <= SPEED_TRIM_MAX_MPS
        assert mirror.update(-error_mps, step_s) == -found


@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_saturation_does_not_wind_the_trim_up(sign):
    trim = SpeedTrim()
    for _ in range(1000):  # 50 s against a wall
        assert trim.update(sign * 10.0, STEP_S) == sign * SPEED_TRIM_MAX_MPS
    assert trim.integral_mps == 0.0
    assert trim.update(-sign * 1.0, STEP_S) * sign < 0.0


def test_trim_brings_a_lazy_vehicle_to_the_set_point(monkeypatch):
    """A plant that holds 0.3 m/s less than it is told comes to hold the set point."""
    monkeypatch.setattr(pure_pursuit, 'SPEED_KI', 0.1)
    driver = PurePursuitDriver(route=circle(50.0))
    speed = 0.0
    for tick in range(1200):
        twist = driver.twist(observe(50.0, 0.0, math.pi / 2.0, speed, tick * STEP_NS).vehicle)
        speed += STEP_S * (max(twist.linear_x - 0.3, 0.0) - speed)
    assert speed == pytest.approx(8.0, abs=0.1)


def test_heading_the_wrong_way_turns_round():
    run = drive(PurePursuitDriver(route=line(300.0)), 50.0, 0.5, math.pi, 40.0)
    assert np.abs(run.lateral[-100:]).max() < 0.1
    assert run.x[-1] > 100.0


def test_far_from_the_route_it_stops_and_finds_it_again_when_moved_back():
    driver = PurePursuitDriver(route=line())
    assert driver.twist(observe(50.0, 0.0, speed=5.0).vehicle).linear_x > 2.0
    assert driver.twist(observe(50.0, 30.0, speed=5.0).vehicle) == TwistCommand(0.0, 0.0)
    assert driver.twist(observe(150.0, 0.0, speed=5.0).vehicle).linear_x > 2.0


def test_wheel_angle_is_the_one_of_the_pursued_arc():
    """On a circle the gate must arrive at atan(L / R), below 1 m/s too."""
    route = circle(20.0)
    for speed in (0.0, 0.5, 3.0, 6.0):
        driver = PurePursuitDriver(route=route)
        state = observe(20.0, REAR_AXLE_M, math.pi / 2.0, speed).vehicle
        twist = driver.twist(state)
        angle = math.atan(twist.angular_z * GEOMETRY.wheelbase_m / max(speed, 1.0))
        assert angle == pytest.approx(math.atan(GEOMETRY.wheelbase_m / 20.0), rel=1e-2)


def test_time_that_runs_back_starts_a_new_drive():
    driver = PurePursuitDriver(route=line())
    first = driver.twist(observe(speed=0.0).vehicle)
    driver.twist(observe(100.0, 0.0, speed=8.0, stamp_ns=10**9).vehicle)
    assert driver.twist(observe(speed=0.0).vehicle) == first


def test_reset_makes_the_next_drive_equal():
    driver = PurePursuitDriver(route=s_curve())
    runs = []
    for _ in range(2):
        driver.reset()
        runs.append(drive(driver, 0.0, 0.0, 0.5, 10.0))
    np.testing.assert_array_equal(runs[0], runs[1])


def test_bad_route_is_rejected_and_the_old_one_kept():
    driver = PurePursuitDriver(route=line())
    before = driver.route
    with pytest.raises(ValueError, match='finite'):
        driver.set_route([[0.0, 0.0], [math.nan, 1.0]])
    assert driver.route is before
    driver.set_route([[0.0, 0.0], [10.0, 0.0], [10.0, 10.0]], closed=True)
    assert driver.route.closed


@pytest.mark.parametrize('route', [line(), s_curve(), circle(8.0), Route([[0, 0], [0.3, 0]])])
def test_profile_keeps_every_limit(route):
    speed = np.array(speed_profile(route, CRUISE_SPEED_MPS))
    s_m = np.linspace(0.0, route.length_m, len(speed))
    assert speed.max() <= CRUISE_SPEED_MPS + 1e-9
    lateral = speed**2 * np.abs(route.curvature_array(s_m))
    assert lateral.max() <= pure_pursuit.LATERAL_ACCELERATION_MPS2 + 1e-9
    braking = -np.diff(speed**2) / (2.0 * np.diff(s_m))
    assert braking.max() <= pure_pursuit.DECELERATION_MPS2 + 1e-9
    assert speed[-1] == (pytest.approx(speed[0]) if route.closed else 0.5)


def test_profile_brakes_over_the_seam_of_a_closed_route():
    bend = np.linspace(-np.pi / 2.0, np.pi / 2.0, 40)
    ends = np.column_stack((100.0 + 5.0 * np.cos(bend), 5.0 + 5.0 * np.sin(bend)))
    stadium = np.vstack((ends, 100.0 - ends * [1.0, -1.0] + [0.0, -90.0]))[::-1]
    route = Route(np.roll(stadium, 40, axis=0), closed=True)
    speed = np.array(speed_profile(route, CRUISE_SPEED_MPS))
    both_laps = np.concatenate((speed[:-1], speed))
    braking = -np.diff(both_laps**2) / (2.0 * route.length_m / (len(speed) - 1))
    assert braking.max() <= 1.5 + 1e-9

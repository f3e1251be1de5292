# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Pure pursuit with IDM following: free road, queue, and what is told of the vehicle ahead."""

import numpy as np
import pytest

from td3_agent.driving.command import twist_from_action
from td3_agent.driving.idm import PARAMS, FollowingDriver, Lead, equilibrium_gap_m
from td3_agent.driving.observation import Observation
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.driving.route import Route
from td3_agent.driving.vehicle import VehicleState

ROAD = Route(np.column_stack((np.arange(0.0, 300.0), np.zeros(300))))


def observation(frame, x_m, speed_mps):
    state = VehicleState(
        stamp_ns=frame * 50_000_000,
        x_m=x_m,
        y_m=0.0,
        z_m=0.0,
        yaw_rad=0.0,
        speed_mps=speed_mps,
        yaw_rate_radps=0.0,
    )
    nothing = np.zeros((4, 84, 84), np.uint8)
    return Observation(image=nothing, state=np.zeros(4, np.float32), vehicle=state)


def drive(lead_speed_mps, gap_m, seconds=60.0):
    """Follow a vehicle that drives evenly; the car takes a target as the gate's loop does."""
    x_m, speed_mps, lead_m = 0.0, 6.0, gap_m
    driver = FollowingDriver(PurePursuitDriver(), lambda: Lead(lead_m - x_m, lead_speed_mps))
    driver.set_route(ROAD)
    smallest_m = gap_m
    for frame in range(round(seconds / 0.05)):
        target = twist_from_action(driver.act(observation(frame, x_m, speed_mps))).linear_x
        speed_mps = max(speed_mps + (target - speed_mps) / 0.45 * 0.05, 0.0)
        x_m += speed_mps * 0.05
        lead_m += lead_speed_mps * 0.05
        smallest_m = min(smallest_m, lead_m - x_m)
    return speed_mps, lead_m - x_m, smallest_m


def test_without_anything_ahead_it_is_pure_pursuit():
    alone, driver = PurePursuitDriver(), FollowingDriver(PurePursuitDriver(), lambda: None)
    for one in (alone, driver):
        one.set_route(ROAD)
    for frame in range(50):
        seen = observation(frame, 0.3 * frame, 0.1 * frame)
        assert (alone.act(seen) == driver.act(seen)).all()


@pytest.mark.parametrize('speed_mps', [2.0, 4.0])
def test_equilibrium_gap_of_the_model_is_kept(speed_mps):
    speed, gap_m, smallest_m = drive(speed_mps, 30.0)
    assert speed == pytest.approx(speed_mps, abs=0.02)
    assert gap_m == pytest.approx(equilibrium_gap_m(PARAMS, speed_mps), rel=0.05)
    assert smallest_m > PARAMS.minimum_gap_m


def test_it_stops_behind_what_stands():
    speed, gap_m, _ = drive(0.0, 40.0)
    assert speed == pytest.approx(0.0, abs=0.05)
    assert PARAMS.minimum_gap_m - 0.5 < gap_m < PARAMS.minimum_gap_m + 1.0


def test_steering_is_that_of_pure_pursuit():
    plain, driver = PurePursuitDriver(), FollowingDriver(PurePursuitDriver(), lambda: Lead(5.0, 0))
    for one in (plain, driver):
        one.set_route(ROAD)
    seen = observation(0, 10.0, 5.0)
    assert driver.act(seen)[1] == plain.act(seen)[1]
    assert driver.act(seen)[0] < plain.act(seen)[0]

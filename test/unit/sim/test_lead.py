# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is ahead of a car on its route, against distances worked out by hand."""

import math

import pytest

from td3_agent.sim.boxes import Box
from td3_agent.sim.lead import SEEN_M, lead_of
from td3_agent.sim.simulator import Simulator, SimulatorConfig
from td3_agent.sim.traffic import TrafficConfig


@pytest.fixture
def world():
    return Simulator(SimulatorConfig(map='oval', spawn_index=0, parked_vehicles=0))


def put(world, ahead_m, left_m, **more):
    """Park a car at a place of the route."""
    x_m, y_m, yaw_rad = world.ego.route.sample(ahead_m)
    box = Box(
        x_m=x_m - left_m * math.sin(yaw_rad),
        y_m=y_m + left_m * math.cos(yaw_rad),
        **({'yaw_rad': yaw_rad} | more),
    )
    world.parked = (*world.parked, box)
    return box


def test_nothing_is_ahead_on_an_empty_road(world):
    assert lead_of(world, world.ego) is None


@pytest.mark.parametrize('ahead_m', [10.0, 25.0, 50.0])
def test_gap_is_from_bumper_to_bumper(world, ahead_m):
    box = put(world, ahead_m, 0.0)
    lead = lead_of(world, world.ego)
    bodies_m = 0.5 * (box.length_m + world.ego.vehicle_info.length_m)
    assert lead.gap_m == pytest.approx(ahead_m - bodies_m, abs=0.05)
    assert lead.speed_mps == 0.0


def test_nearest_counts(world):
    put(world, 40.0, 0.0)
    near = put(world, 20.0, 0.0)
    assert lead_of(world, world.ego).gap_m < 20.0 - 0.5 * near.length_m


@pytest.mark.parametrize('left_m', [-3.0, 3.5])
def test_vehicle_that_leaves_room_is_not_in_the_way(world, left_m):
    put(world, 20.0, left_m)
    assert lead_of(world, world.ego) is None


def test_vehicle_across_the_lane_is_in_the_way_sooner(world):
    put(world, 20.0, 3.0, yaw_rad=0.5 * math.pi)
    assert lead_of(world, world.ego) is not None


def test_what_is_behind_or_far_away_is_not_ahead(world):
    put(world, world.ego.route.length_m - 15.0, 0.0)
    put(world, SEEN_M + 10.0, 0.0)
    assert lead_of(world, world.ego) is None


def test_another_driven_car_is_seen_with_its_speed():
    world = Simulator(SimulatorConfig(map='oval', vehicles=2, spawn_index=0, parked_vehicles=0))
    other = world.cars[1]
    other.set_pose(*world.ego.route.sample(30.0))
    other.set_velocity(4.0)
    assert lead_of(world, world.ego).speed_mps == pytest.approx(4.0)


def test_traffic_is_seen_where_it_is():
    traffic = TrafficConfig(leader='standing')
    world = Simulator(SimulatorConfig(map='winding', traffic=traffic, parked_vehicles=0, seed=1))
    lead = lead_of(world, world.ego)
    assert lead is None or lead.gap_m > 50.0
    place = world.ego.route.project(world.traffic.x_m[0], world.traffic.y_m[0]).s_m
    world.ego.set_pose(*world.ego.route.sample(place - 20.0))
    bodies_m = 0.5 * (world.traffic.fleet.length_m[0] + world.ego.vehicle_info.length_m)
    assert lead_of(world, world.ego).gap_m == pytest.approx(20.0 - bodies_m, abs=0.1)

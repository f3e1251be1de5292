# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lane queries in ROS convention: left is positive, angles in radians."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.sim.maps import load_map

HALF_WIDTH_M = 1.75


def beside(spawn, left_m):
    return (
        spawn.x_m - left_m * math.sin(spawn.yaw_rad),
        spawn.y_m + left_m * math.cos(spawn.yaw_rad),
    )


def test_first_straight_runs_along_x_with_its_lane_on_the_right():
    spawn = load_map('oval').spawn_points[0]
    assert tuple(spawn) == pytest.approx((8.5, -HALF_WIDTH_M, 0.0, 0.0), abs=0.5)


@given(
    name=st.sampled_from(['oval', 'winding', 'town']),
    draw=st.integers(0, 10**6),
    left_m=st.floats(-1.6, 1.6),
)
def test_offset_from_any_lane_is_left_positive(name, draw, left_m):
    road = load_map(name)
    spawn = road.spawn_points[draw % len(road.spawn_points)]
    fix = road.locate(*beside(spawn, left_m))
    assert fix.on_road
    assert fix.lateral_m == pytest.approx(left_m, abs=0.01)
    assert math.cos(fix.heading_rad - spawn.yaw_rad) > 0.999


def test_right_of_the_edge_is_off_the_road():
    road = load_map('oval')
    spawn = road.spawn_points[0]
    fix = road.locate(*beside(spawn, -HALF_WIDTH_M - 0.5))
    assert not fix.on_road
    assert fix.lateral_m == pytest.approx(-HALF_WIDTH_M - 0.5, abs=0.01)


def test_left_of_the_centre_line_is_the_oncoming_lane():
    road = load_map('oval')
    spawn = road.spawn_points[0]
    fix = road.locate(*beside(spawn, 2.0 * HALF_WIDTH_M))
    assert fix.on_road
    assert math.cos(fix.heading_rad - spawn.yaw_rad) < -0.999


@pytest.mark.parametrize('name', ['oval', 'winding', 'town'])
def test_boundaries_lie_half_a_width_from_the_centre_on_their_sides(name):
    for lane in load_map(name).driving_lanes:
        to_left = lane.left - lane.centre[:, :2]
        normal = np.column_stack((-np.sin(lane.heading_rad), np.cos(lane.heading_rad)))
        assert np.allclose((to_left * normal).sum(axis=1), 0.5 * lane.width_m)
        assert np.allclose(lane.left + lane.right, 2.0 * lane.centre[:, :2])


def test_heading_is_the_direction_of_the_samples():
    for lane in load_map('town').driving_lanes:
        step = np.diff(lane.centre[:, :2], axis=0)
        along = step[:, 0] * np.cos(lane.heading_rad[:-1])
        along += step[:, 1] * np.sin(lane.heading_rad[:-1])
        assert (along > 0.9 * np.hypot(*step.T)).all()


def test_route_starts_at_the_spawn_point_and_follows_it():
    road = load_map('town')
    for spawn in road.spawn_points[::7]:
        points = road.route(spawn, np.random.default_rng(0), 50.0).points
        assert math.dist(points[0][:2], spawn[:2]) < 0.2
        direction = points[1][:2] - points[0][:2]
        turned = math.atan2(direction[1], direction[0]) - spawn.yaw_rad
        assert math.cos(turned) > 0.998


def test_route_follows_its_seed():
    road = load_map('town')
    routes = [
        road.route(road.spawn_points[0], np.random.default_rng(seed), 600.0).points
        for seed in (0, 0, 1, 2, 3)
    ]
    assert np.array_equal(routes[0], routes[1])
    assert any(
        routes[0].shape != other.shape or not np.allclose(routes[0], other) for other in routes[2:]
    )

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Who may drive: the rules on made-up junctions, then paths of real ones."""

import numpy as np
import pytest

from td3_agent.sim.lane_network import CLEARANCE_M, FREE, lane_network
from td3_agent.sim.maps import load_map
from td3_agent.sim.right_of_way import Request, blocked_paths, granted
from td3_agent.sim.simulator import Simulator, SimulatorConfig
from td3_agent.sim.traffic import TrafficConfig

# Paths 0 and 1 cross; 2 meets neither; 3 meets all.
CLEARED_AT_M = np.array(
    [
        [FREE, 10.0, FREE, 20.0],
        [12.0, FREE, FREE, 20.0],
        [FREE, FREE, FREE, 5.0],
        [8.0, 9.0, 6.0, FREE],
    ]
)
NOTHING = np.zeros(4, dtype=bool)


def given(*requests, blocked=NOTHING):
    asked = [Request(float(since), vehicle, path) for since, vehicle, path in requests]
    return [request.vehicle for request in granted(asked, CLEARED_AT_M, blocked)]


def test_paths_that_never_meet_are_used_at_once():
    assert given((5, 0, 0), (5, 1, 2)) == [0, 1]


def test_of_two_that_cross_the_first_to_come_goes_first():
    assert given((6, 0, 0), (5, 1, 1)) == [1]
    assert given((5, 0, 0), (5, 1, 1)) == [0]


def test_order_of_the_requests_does_not_matter():
    requests = [(4, 2, 1), (3, 0, 0), (9, 1, 2)]
    assert given(*requests) == given(*reversed(requests)) == [0, 1]


def test_waiting_request_holds_back_later_ones_that_it_would_meet():
    """Vehicle 0 waits for path 1 to be cleared; vehicle 1 must not slip in before it."""
    blocked = np.array([False, False, False, True])
    assert given((1, 0, 3), (2, 1, 0), blocked=blocked) == []
    assert given((3, 0, 3), (2, 1, 0), blocked=blocked) == [1]


def test_path_is_blocked_until_the_rear_has_left_the_place():
    held = np.array([0])
    assert blocked_paths(CLEARED_AT_M, held, np.array([-5.0])).tolist() == [0, 1, 0, 1]
    assert blocked_paths(CLEARED_AT_M, held, np.array([10.5])).tolist() == [0, 0, 0, 1]
    assert blocked_paths(CLEARED_AT_M, held, np.array([20.5])).tolist() == [0, 0, 0, 0]


class TestNetwork:
    """Tables of real maps."""

    def test_oval_is_two_endless_lanes(self):
        network = lane_network(load_map('oval'))
        assert network.followers == ((0,), (1,))
        assert len(network.entries) == 0
        assert network.cleared_at_m.shape == (0, 0)

    def test_winding_road_is_a_lane_each_way_entered_at_either_end(self):
        network = lane_network(load_map('winding'))
        assert network.followers == ((), ())
        assert network.entries == (0, 1)
        assert (network.length_m > 900.0).all()

    @pytest.mark.parametrize('name', ['oval', 'winding', 'town'])
    def test_places_lie_on_lanes_and_point_along_them(self, name):
        road = load_map(name)
        network = lane_network(road)
        rng = np.random.default_rng(0)
        edge = rng.integers(len(network.length_m), size=200)
        s_m = rng.uniform(0.0, network.length_m[edge])
        x_m, y_m, heading = network.poses(edge, s_m)
        for i in range(len(edge)):
            fix = road.locate(x_m[i], y_m[i])
            assert fix.on_road
            if not fix.in_junction:
                assert abs(fix.lateral_m) < 0.05
                assert np.cos(fix.heading_rad - heading[i]) > 0.999

    @pytest.mark.parametrize('reach_m', [0.5, 4.0, 30.0])
    def test_near_a_position_each_edge_has_the_nearest_of_all_its_rows(self, reach_m):
        network = lane_network(load_map('town'))
        rng = np.random.default_rng(2)
        for x_m, y_m in rng.uniform(-120.0, 250.0, (60, 2)).tolist():
            away_m = np.hypot(x_m - network.x_m, y_m - network.y_m)
            edges = np.unique(network.edge_of_row[away_m < reach_m])
            found = network.near(x_m, y_m, reach_m)
            assert [place.edge for place in found] == edges.tolist()
            for place in found:
                rows = np.flatnonzero(network.edge_of_row == place.edge)
                nearest = rows[away_m[rows].argmin()]
                assert place.heading_rad == network.heading_rad[nearest]

    def test_edges_follow_each_other_without_a_gap(self):
        network = lane_network(load_map('town'))
        for edge, ways in enumerate(network.followers):
            assert ways
            end = np.array(network.poses(np.array([edge]), network.length_m[[edge]])).ravel()
            for way in ways:
                begin = np.array(network.poses(np.array([way]), np.zeros(1))).ravel()
                assert np.hypot(*(end - begin)[:2]) < 0.05
                assert np.cos(end[2] - begin[2]) > 0.999

    def test_speed_limit_brakes_before_bends(self):
        network = lane_network(load_map('town'))
        for edge in range(len(network.length_m)):
            first, last = network.first_row[edge], network.first_row[edge] + network.count[edge]
            squared = network.limit_mps[first : last + 1] ** 2
            spacing_m = network.length_m[edge] / network.count[edge]
            assert (-np.diff(squared) / (2.0 * spacing_m)).max() < 1.5 + 1e-9

    def test_meeting_is_mutual_and_measured(self):
        network = lane_network(load_map('town'))
        meets = network.cleared_at_m > FREE
        assert (meets == meets.T).all()
        paths = np.flatnonzero(network.in_junction)
        rng = np.random.default_rng(1)
        for one, other in rng.integers(len(paths), size=(200, 2)):
            if one == other:
                continue
            rows = [
                np.column_stack((network.x_m, network.y_m))[network.edge_of_row == paths[i]]
                for i in (one, other)
            ]
            apart = np.hypot(*(rows[0][:, np.newaxis] - rows[1]).transpose(2, 0, 1))
            assert meets[one, other] == (apart.min() < CLEARANCE_M)


def test_path_is_kept_free_for_a_driven_car_that_arrives():
    """No vehicle is on a path that meets the car's own when it comes to the junction."""
    config = SimulatorConfig(
        map='town', seed=2, traffic=TrafficConfig(vehicles=40), route_length_m=400.0
    )
    world = Simulator(config)
    network = lane_network(world.map)
    route, s_m = world.ego.route, 0.0
    contacts = 0
    while s_m < route.length_m - 5.0:
        x_m, y_m, yaw_rad = route.sample(s_m)
        world.ego.set_pose(x_m, y_m, yaw_rad)
        world.ego.set_velocity(6.0)
        world.traffic.step(world.cars, 0.05)
        s_m += 0.3
        sides = [(yaw_rad, 0.0)]
        near = world.traffic.outlines(x_m, y_m, 8.0)
        ahead = [b for b in near if _beside(b, x_m, y_m, sides[0][0])]
        contacts += bool(ahead)
    assert network.in_junction.any()
    assert contacts == 0


def _beside(box, x_m, y_m, yaw_rad):
    """Whether a vehicle comes from the side and is less than 2 m away from the car's middle."""
    crossing = abs(np.sin(box.yaw_rad - yaw_rad)) > 0.7
    return crossing and np.hypot(box.x_m - x_m, box.y_m - y_m) < 3.0

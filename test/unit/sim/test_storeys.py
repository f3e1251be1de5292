# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Roads that cross at different heights: they have nothing to do with each other."""

import math

import numpy as np
import pytest
from xodr_texts import opendrive, road, two_way

from td3_agent.sim.lane_network import lane_network
from td3_agent.sim.placement import park
from td3_agent.sim.road import RoadMap
from td3_agent.sim.simulator import Simulator, SimulatorConfig
from td3_agent.sim.traffic import Traffic, TrafficConfig

HEIGHT_M = 6.0
HALF_M = 3.5  # of either road


def crossing(height_m):
    """A road along x from -200 to 200 m, and another across it at y = 0, higher or not."""
    plans = [f'<geometry s="0" x="{x}" y="{y}" hdg="{turned}" length="400"><line/></geometry>'
             for x, y, turned in ((-200.0, 0.0, 0.0), (0.0, -200.0, 0.5 * math.pi))]  # fmt: skip
    height = f'<elevationProfile><elevation s="0" a="{height_m}"/></elevationProfile>'
    across = road([two_way(0, before=False, after=False)], 2, 400.0, plan=plans[1])
    return opendrive(
        road([two_way(0, before=False, after=False)], 1, 400.0, plan=plans[0]),
        across.replace('<lanes>', f'{height}<lanes>'),
    )


@pytest.fixture(scope='module')
def bridge(tmp_path_factory):
    path = tmp_path_factory.mktemp('maps') / 'bridge.xodr'
    path.write_text(crossing(HEIGHT_M), 'utf-8')
    return path


@pytest.mark.parametrize(('height_m', 'bare'), [(0.0, False), (2.0, False), (HEIGHT_M, True)])
def test_neither_has_lines_where_one_passes_over_the_other(height_m, bare):
    markings = RoadMap('crossing', crossing(height_m)).markings
    points = np.concatenate([marking.points for marking in markings])
    inside = (np.abs(points) < HALF_M - 0.1).all(axis=1)
    assert inside.any() != bare
    for axis in (0, 1):  # and all the rest of both has them
        along = np.sort(points[np.abs(points[:, 1 - axis]) < 0.1, axis])
        gaps = np.diff(along)
        assert along[[0, -1]] == pytest.approx([-200.0, 200.0], abs=0.1)
        assert (gaps > 1.5).sum() == bare
        assert gaps.max() < 2.0 * HALF_M + 5.0


def test_a_car_crosses_no_line_of_the_other_road(bridge):
    simulator = Simulator(SimulatorConfig(map=str(bridge), parked_vehicles=0))
    car = simulator.ego
    for place in ((-20.0, -1.75, 0.0, 0.0), (1.75, -20.0, 0.5 * math.pi, HEIGHT_M)):
        car.set_pose(*place)
        car.set_velocity(10.0)
        crossed = []
        for _ in range(80):
            simulator.tick(car.control)
            crossed += car.crossed_markings
        assert math.dist(car.motion[:2], place[:2]) > 30.0
        assert crossed == []
        assert car.state.z_m == pytest.approx(place[3])


def test_nothing_is_parked_on_either():
    road_map = RoadMap('bridge', crossing(HEIGHT_M))
    rng = np.random.default_rng(0)
    places = [
        (box.x_m, box.y_m)
        for _ in range(40)
        for box in park(road_map, 12, (1000.0, 1000.0), 200, rng)
    ]
    assert len(places) > 400
    assert np.abs(places).min() > HALF_M


def test_car_begins_at_the_height_of_its_road(bridge):
    heights = set()
    for index in range(len(RoadMap('bridge', crossing(HEIGHT_M)).spawn_points)):
        simulator = Simulator(SimulatorConfig(map=str(bridge), spawn_index=index))
        car = simulator.ego
        assert car.on_road
        assert abs(car.lane.lateral_m) < 0.1
        assert car.state.z_m == pytest.approx(HEIGHT_M if abs(car.motion.x_m) < 2.0 else 0.0)
        heights.add(round(car.state.z_m))
    assert heights == {0, round(HEIGHT_M)}


def test_traffic_passes_below_a_car_that_stands_above(bridge):
    simulator = Simulator(SimulatorConfig(map=str(bridge), parked_vehicles=0))
    simulator.ego.set_pose(1.75, -1.75, 0.5 * math.pi, HEIGHT_M)
    traffic = Traffic(simulator.map, 400)
    traffic.start(TrafficConfig(vehicles=12), 0, simulator.cars)
    passed = set()
    for _ in range(1200):
        traffic.step(simulator.cars, 0.05)
        near = np.hypot(traffic.x_m - 1.75, traffic.y_m + 1.75) < 1.0
        below = np.flatnonzero(near & (traffic.z_m < 1.0))
        passed |= set(below.tolist())
        if len(below):
            everything = traffic.outlines(1.75, -1.75, 3.0)
            assert len(everything) > len(traffic.outlines(1.75, -1.75, 3.0, HEIGHT_M))
            assert len(traffic.bodies()) > len(traffic.bodies(HEIGHT_M))
    assert passed


def test_lanes_near_a_place_are_those_of_its_storey():
    network = lane_network(RoadMap('bridge', crossing(HEIGHT_M)))
    assert network.has_storeys
    assert [len(network.near(0.0, 0.0, 3.0, z_m)) for z_m in (None, 0.0, HEIGHT_M)] == [4, 2, 2]

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Planned routes follow lanes and legal turns, and are as long as geometry says."""

from functools import lru_cache
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
from xodr_texts import cut, lane, link, mirrored, opendrive, road, section

from td3_agent.driving.geometry import wrap_angle
from td3_agent.sim.lane_network import Pose
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.road import RoadMap
from td3_agent.sim.road_graph import road_graph
from td3_agent.sim.route_planner import (
    FAR_M,
    NEAR_M,
    GoalError,
    RouteError,
    RoutePlanner,
    StartError,
)

LANE_M = 3.5
MAPS = ('oval', 'winding', 'town')


@lru_cache
def planner_of(name, seed=0):
    return RoutePlanner(road_graph(load_map(name, seed)))


@lru_cache
def one_way(*marks, length_m=300.0):
    """Return a straight one-way road along x; ``marks`` are the outer lines of its lanes."""
    lanes = ''.join(lane(-i, mark=mark) for i, mark in enumerate(marks, start=1))
    text = opendrive(road([section(0, right=lanes)], length_m=length_m))
    return RoutePlanner(road_graph(RoadMap('one way', text)))


def middle(number):
    """Return y of a lane's centre on :func:`one_way` [m]."""
    return -LANE_M * (number - 0.5)


def anywhere(planner, rng, *, in_junction=False):
    """Return a pose on a lane."""
    network = planner.graph.network
    allowed = np.flatnonzero(in_junction | ~network.in_junction[network.edge_of_row])
    row = int(rng.choice(allowed))
    return Pose(
        float(network.x_m[row]),
        float(network.y_m[row]),
        float(planner.graph.network.z_m[row]),
        wrap_angle(float(network.heading_rad[row])),
    )


def steps(route):
    return np.hypot(*np.diff(route.points[:, :2], axis=0).T)


def turns(route):
    change = np.diff(route.heading_rad)
    return np.abs((change + np.pi) % (2.0 * np.pi) - np.pi)


class TestStraightRoad:
    planner = one_way('broken', 'solid', 'none')

    def test_points_are_a_metre_apart_from_the_car_to_the_goal(self):
        route = self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (120.0, middle(1)))
        assert route.points == pytest.approx(
            np.column_stack((np.arange(20.0, 121.0), np.full(101, middle(1)), np.zeros(101))),
            abs=1e-3,
        )
        assert route.heading_rad == pytest.approx(np.zeros(101), abs=1e-6)
        assert route.length_m == pytest.approx(100.0, abs=1e-3)
        assert (route.lane_changes, route.start_offset_m) == (0, pytest.approx(0.0, abs=1e-3))

    def test_last_step_takes_what_is_left(self):
        route = self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (27.3, middle(1)))
        assert route.points[:, 0] == pytest.approx([20, 21, 22, 23, 24, 25, 26, 27.3], abs=1e-3)

    def test_goal_and_car_are_taken_to_the_middle_of_their_lane(self):
        route = self.planner.plan(Pose(20.0, middle(1) + 1.2, 0.0, 0.3), (120.0, middle(1) - 0.9))
        assert route.points[:, 1] == pytest.approx(middle(1), abs=1e-3)
        assert route.start_offset_m == pytest.approx(1.2, abs=1e-3)
        assert route.goal_offset_m == pytest.approx(0.9, abs=1e-3)

    def test_changes_lanes_where_the_goal_asks_for_it(self):
        route = self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (220.0, middle(2)))
        assert route.lane_changes == 1
        x, y = route.points[:, 0], route.points[:, 1]
        assert y[0] == pytest.approx(middle(1), abs=1e-3)
        assert y[x > 20.0 + 31.0] == pytest.approx(middle(2), abs=1e-3)
        assert (np.diff(y) <= 1e-9).all()
        assert np.abs(route.heading_rad).max() < 0.3  # rad: 3.5 m across over 30 m

    def test_changes_in_less_room_where_there_is_no_more(self):
        route = self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (38.0, middle(2)))
        assert route.points[-1, :2] == pytest.approx((38.0, middle(2)), abs=0.05)
        with pytest.raises(RouteError, match='no legal way'):
            self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (30.0, middle(2)))

    def test_goal_behind_a_one_way_road_is_out_of_reach(self):
        with pytest.raises(RouteError, match=r'to the goal at \(20.0, -1.8\)'):
            self.planner.plan(Pose(120.0, middle(1), 0.0, 0.0), (20.0, middle(1)))

    def test_goal_off_the_road_is_refused_with_its_distance(self):
        with pytest.raises(GoalError, match=r'is 50\.0 m from the nearest .*, expected <= 10 m'):
            self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (100.0, 50.0 + middle(1)))

    @pytest.mark.parametrize('goal', [(math.nan, 0.0), (0.0, math.inf)])
    def test_goal_must_be_finite(self, goal):
        with pytest.raises(GoalError, match='must be finite'):
            self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), goal)

    def test_car_against_the_only_direction_has_no_lane(self):
        with pytest.raises(StartError, match=r'no driving lane of its direction \(180 deg\)'):
            self.planner.plan(Pose(20.0, middle(1), 0.0, math.pi), (120.0, middle(1)))

    def test_car_off_the_road_has_no_lane(self):
        with pytest.raises(StartError, match=r'the car at \(20.0, 60.0\)'):
            self.planner.plan(Pose(20.0, 60.0, 0.0, 0.0), (120.0, middle(1)))

    def test_car_at_the_goal_needs_no_route(self):
        with pytest.raises(RouteError, match='at the goal'):
            self.planner.plan(Pose(20.0, middle(1), 0.0, 0.0), (20.0, middle(1)))


def test_goal_behind_on_a_circuit_is_a_lap_away():
    oval, planner = load_map('oval'), planner_of('oval')
    spawn = oval.spawn_points[0]
    lap = oval.route(spawn, np.random.default_rng(0), 1e4)
    goal = tuple(lap.points[-20, :2])
    ring = np.vstack((lap.points, lap.points[:1]))
    lap_m, rest_m = (
        np.hypot(*np.diff(part[:, :2], axis=0).T).sum() for part in (ring, ring[-21:])
    )
    route = planner.plan(spawn, goal)
    assert route.length_m == pytest.approx(lap_m - rest_m, abs=0.1)


@settings(max_examples=30)
@given(
    marks=st.lists(st.sampled_from(['broken', 'solid', 'none']), min_size=1, max_size=4),
    start=st.integers(1, 5),
    end=st.integers(1, 5),
)
def test_as_many_lane_changes_as_lanes_between_and_none_over_a_solid_line(marks, start, end):
    count = len(marks) + 1
    start, end = min(start, count), min(end, count)
    planner = one_way(*marks, 'solid')
    between = marks[min(start, end) - 1 : max(start, end) - 1]
    if 'solid' in between:
        with pytest.raises(RouteError, match='no legal way'):
            planner.plan(Pose(10.0, middle(start), 0.0, 0.0), (290.0, middle(end)))
        return
    route = planner.plan(Pose(10.0, middle(start), 0.0, 0.0), (290.0, middle(end)))
    assert route.lane_changes == len(between)
    assert steps(route).max() < 1.5
    assert (np.diff(route.points[:, 0]) > 0.0).all()
    assert route.points[-1, :2] == pytest.approx((290.0, middle(end)), abs=0.05)


@settings(max_examples=40)
@given(
    name=st.sampled_from(MAPS),
    seed=st.integers(0, 3),
    drawn=st.integers(0, 2**32),
)
def test_every_route_is_continuous_legal_and_ends_at_its_goal(name, seed, drawn):
    road_map, planner = load_map(name, seed), planner_of(name, seed)
    rng = np.random.default_rng(drawn)
    car, goal = anywhere(planner, rng, in_junction=True), anywhere(planner, rng)[:2]
    try:
        route = planner.plan(car, goal)
    except RouteError:
        assert name != 'town'  # there every street leads everywhere
        return
    assert steps(route).max() < 1.5
    assert turns(route).max(initial=0.0) < 0.35  # rad: a bend of 3 m
    assert math.dist(route.points[-1, :2], goal) < 1.0
    assert math.dist(route.points[0, :2], car[:2]) < 0.5
    assert math.cos(route.heading_rad[0] - car.yaw_rad) > 0.97  # of paths that cross, the car's
    for (x_m, y_m, _), heading in zip(route.points[1:-1], route.heading_rad[1:-1], strict=True):
        fix = road_map.locate(x_m, y_m)
        assert fix.on_road
        if not fix.in_junction:  # paths overlap there
            assert abs(fix.lateral_m) < 0.1
            assert math.cos(fix.heading_rad - heading) > 0.9


@pytest.mark.parametrize('seed', range(4))
def test_no_longer_than_a_known_route(seed):
    town, planner = load_map('town', seed), planner_of('town', seed)
    rng = np.random.default_rng(seed)
    for spawn in town.spawn_points[::7]:
        trace = town.route(spawn, rng, 300.0).points
        way_m = np.hypot(*np.diff(trace[:, :2], axis=0).T).sum()
        goal = tuple(trace[-1, :2])
        if math.dist(goal, spawn[:2]) > 1.0:
            route = planner.plan(spawn, goal)
            assert route.length_m < way_m + 3.0  # a goal in a junction belongs to several paths


def test_left_hand_traffic_drives_the_same_routes_in_a_mirror():
    text = built_in_opendrive('town', 1)
    mirror = RoutePlanner(road_graph(RoadMap('mirror', mirrored(text))))
    town, planner = load_map('town', 1), planner_of('town', 1)
    rng = np.random.default_rng(0)
    for spawn in town.spawn_points[::11]:
        x_m, y_m = anywhere(planner, rng)[:2]
        route = planner.plan(spawn, (x_m, y_m))
        other = mirror.plan(Pose(spawn.x_m, -spawn.y_m, 0.0, -spawn.yaw_rad), (x_m, -y_m))
        assert other.points[:, :2] == pytest.approx(route.points[:, :2] * (1, -1), abs=0.02)


def test_sections_change_nothing():
    text = built_in_opendrive('town', 1)
    sections = RoutePlanner(road_graph(RoadMap('cut', cut(text, 7.0))))
    town, planner = load_map('town', 1), planner_of('town', 1)
    rng = np.random.default_rng(0)
    for spawn in town.spawn_points[::11]:
        goal = anywhere(planner, rng)[:2]
        whole = planner.plan(spawn, goal)
        route = sections.plan(spawn, goal)
        assert route.length_m == pytest.approx(whole.length_m, abs=0.5)


class TestDrawnGoals:
    @settings(max_examples=40)
    @given(name=st.sampled_from(MAPS), drawn=st.integers(0, 2**32))
    def test_can_be_reached_and_lie_on_streets_some_way_off(self, name, drawn):
        road_map, planner = load_map(name), planner_of(name)
        rng = np.random.default_rng(drawn)
        car = anywhere(planner, rng, in_junction=True)
        try:
            goal = planner.random_goal(rng, car)
        except RouteError as error:
            assert name == 'winding'
            assert 'its road ends here' in str(error)  # noqa: PT017
            return
        fix = road_map.locate(*goal)
        assert not fix.in_junction
        assert abs(fix.lateral_m) < 0.1
        length_m = planner.plan(car, goal).length_m
        assert length_m >= (NEAR_M if name == 'winding' else FAR_M) - 2.0

    def test_lie_on_the_lane_of_the_car(self):
        planner, rng = one_way('broken', 'solid', 'solid'), np.random.default_rng(0)
        goals = [planner.random_goal(rng, Pose(20.0, middle(1), 0.0, 0.0)) for _ in range(10)]
        assert {round(y_m, 2) for _, y_m in goals} == {middle(1)}
        assert min(x_m for x_m, _ in goals) > 20.0 + FAR_M - 1.0

    def test_lie_beyond_where_that_lane_ends(self):
        """Of two lanes the right one ends after 150 m: a car on it changes to the other."""
        both = lane(-1, link=link(after=-1), mark='broken') + lane(-2)
        parts = [section(0, right=both), section(150, right=lane(-1, link=link(before=-1)))]
        planner = RoutePlanner(road_graph(RoadMap('ends', opendrive(road(parts, length_m=400.0)))))
        car, rng = Pose(60.0, middle(2), 0.0, 0.0), np.random.default_rng(0)
        goals = [planner.random_goal(rng, car) for _ in range(10)]
        assert max(x_m for x_m, _ in goals) > 150.0
        assert all(planner.plan(car, goal).points[-1, 1] > middle(2) - 0.1 for goal in goals)

    def test_spawn_points_have_numbers(self):
        planner = planner_of('town')
        count = len(load_map('town').spawn_points)
        assert planner.spawn_point(3) == load_map('town').spawn_points[3][:2]
        with pytest.raises(GoalError, match=rf'in \[0, {count - 1}\] on map .town., got {count}'):
            planner.spawn_point(count)


def test_a_car_below_a_bridge_does_not_begin_on_it():
    """A road along x and another 6 m above it; the heading of the car is between the two."""
    one_lane, turned_rad = section(0, right=lane(-1)), 0.8
    plan = f'<geometry s="0" x="100" y="-60" hdg="{turned_rad}" length="200"><line/></geometry>'
    height = '<elevationProfile><elevation s="0" a="6" b="0" c="0" d="0"/></elevationProfile>'
    above = road([one_lane], 2, plan=plan).replace('<lanes>', f'{height}<lanes>')
    text = opendrive(road([one_lane], length_m=300.0), above)
    planner = RoutePlanner(road_graph(RoadMap('bridge', text)))
    cos, sin = math.cos(turned_rad), math.sin(turned_rad)

    def on_bridge(s_m):
        return 100.0 + s_m * cos - middle(1) * sin, -60.0 + s_m * sin + middle(1) * cos

    crossing_m = (middle(1) * (1.0 - cos) + 60.0) / sin
    x_m, y_m = on_bridge(crossing_m)
    assert y_m == pytest.approx(middle(1))
    goals = {0.0: (250.0, middle(1)), 6.0: on_bridge(150.0)}
    for z_m, goal in goals.items():
        car = Pose(x_m, y_m, z_m, 0.5 * turned_rad)
        assert planner.plan(car, goal).points[:, 2] == pytest.approx(z_m, abs=1e-3)
        with pytest.raises(RouteError, match='no legal way'):
            planner.plan(car, goals[6.0 - z_m])

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A route is planned when it is needed, in whatever order things become known, and only then."""

from functools import lru_cache
from itertools import permutations
import math

import pytest

from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.vehicle import VehicleState
from td3_agent.sim.maps import load_map
from td3_agent.sim.navigator import Navigator, NavigatorParams
from td3_agent.sim.road_graph import road_graph
from td3_agent.sim.route_planner import FAR_M, RouteError

STEP_NS = 50_000_000
GOAL_AHEAD_M = 60


@lru_cache
def graph_of(name):
    return road_graph(load_map(name))


def spawn(name, index=0):
    return load_map(name).spawn_points[index]


class Car:
    """A car that is put where a test wants it, one frame after the other."""

    def __init__(self, navigator, place):
        self.navigator, self.stamp_ns = navigator, 0
        self.place = place

    def at(self, x_m, y_m, yaw_rad, speed_mps=8.0):
        self.stamp_ns += STEP_NS
        return self.navigator.update(
            VehicleState(
                stamp_ns=self.stamp_ns,
                x_m=x_m,
                y_m=y_m,
                z_m=0.0,
                yaw_rad=yaw_rad,
                speed_mps=speed_mps,
                yaw_rate_radps=0.0,
            )
        )

    def stand(self):
        return self.at(self.place.x_m, self.place.y_m, self.place.yaw_rad, 0.0)

    def drive(self, route, left_m=0.0, first=0, last=None):
        """Go from point to point of a route, ``left_m`` beside it; return what is planned."""
        planned = []
        points = zip(route.points, route.heading_rad, strict=True)
        for (x, y, _), yaw in list(points)[first:last]:
            new = self.at(x - left_m * math.sin(yaw), y + left_m * math.cos(yaw), yaw, 20.0)
            planned += [] if new is None else [new]
        return planned


@pytest.fixture
def started():
    """Return a navigator on the oval and its car, on a route to a goal 60 m ahead."""
    navigator = Navigator(NavigatorParams(goal='topic'))
    navigator.set_graph(graph_of('oval'))
    car = Car(navigator, spawn('oval'))
    assert car.stand() is None
    return navigator, car, navigator.set_goal(*ahead('oval'))


def ahead(name, way_m=GOAL_AHEAD_M, index=0):
    """Return a place on the way of a spawn point."""
    at = spawn(name, index)
    return at.x_m + way_m * math.cos(at.yaw_rad), at.y_m + way_m * math.sin(at.yaw_rad)


class TestStart:
    @pytest.mark.parametrize('order', permutations(['map', 'pose', 'goal']))
    def test_any_order_ends_in_one_route(self, order):
        navigator = Navigator(NavigatorParams(goal='topic'))
        car = Car(navigator, spawn('oval'))
        steps = {
            'map': lambda: navigator.set_graph(graph_of('oval')),
            'pose': car.stand,
            'goal': lambda: navigator.set_goal(*ahead('oval')),
        }
        *first, last = (steps[name]() for name in order)
        assert first == [None, None]
        assert last.length_m == pytest.approx(GOAL_AHEAD_M, abs=0.1)
        assert [car.stand() for _ in range(3)] == [None] * 3
        assert (navigator.route, navigator.fault, navigator.arrived) == (last, '', False)

    def test_goal_of_the_parameter(self):
        x_m, y_m = ahead('oval')
        navigator = Navigator(NavigatorParams(goal=f'{x_m}, {y_m}'))
        navigator.set_graph(graph_of('oval'))
        assert Car(navigator, spawn('oval')).stand().length_m == pytest.approx(60.0, abs=0.1)

    def test_spawn_point_of_the_parameter(self):
        navigator = Navigator(NavigatorParams(goal='spawn 2'))
        navigator.set_graph(graph_of('oval'))
        route = Car(navigator, spawn('oval')).stand()
        assert route.points[-1, :2] == pytest.approx(spawn('oval', 2)[:2], abs=0.01)

    def test_spawn_point_that_is_not_there(self):
        navigator = Navigator(NavigatorParams(goal='spawn 999'))
        navigator.set_graph(graph_of('oval'))
        assert Car(navigator, spawn('oval')).stand() is None
        assert 'the spawn point must be in [0, ' in navigator.fault

    @pytest.mark.parametrize(
        'goal', ['', 'somewhere', '1', '1, 2, 3', 'spawn', 'spawn -1', 'nan, 0']
    )
    def test_other_texts_are_no_goals(self, goal):
        with pytest.raises(ParameterError, match=r"goal must be random, topic, 'x, y' \[m\]"):
            NavigatorParams(goal=goal)

    def test_goal_off_the_road_is_said_once_the_map_is_known(self):
        navigator = Navigator(NavigatorParams(goal='5000, 5000'))
        navigator.set_graph(graph_of('oval'))
        car = Car(navigator, spawn('oval'))
        assert car.stand() is None
        assert 'the goal at (5000.0, 5000.0) is' in navigator.fault
        assert navigator.goal is None
        assert navigator.set_goal(*ahead('oval')) is not None
        assert navigator.fault == ''


class TestOnTheWay:
    def test_nothing_is_planned_on_the_route(self, started):
        navigator, car, route = started
        assert car.drive(route, left_m=1.0, last=40) == []
        assert navigator.remaining_m == pytest.approx(GOAL_AHEAD_M - 39, abs=0.1)

    def test_off_the_route_one_is_planned_and_only_one(self, started):
        navigator, car, route = started
        planned = car.drive(route, left_m=-4.5, last=40)
        assert len(planned) == 1
        assert planned[0].points[-1] == pytest.approx(route.points[-1])
        assert navigator.route is planned[0]

    def test_where_none_can_be_planned_the_route_stays_and_may_lead_back(self, started):
        navigator, car, route = started
        car.drive(route, last=10)
        yaw = spawn('oval').yaw_rad
        x_m, y_m = ahead('oval', 12)
        for right_m in (2.0, 6.0, 9.0, 12.0, 9.0, 5.0):
            at = x_m + right_m * math.sin(yaw), y_m - right_m * math.cos(yaw)
            assert car.at(*at, yaw + math.pi) is None
        assert navigator.route is route
        assert 'no legal way leads from the car' in navigator.fault
        assert car.at(x_m, y_m, yaw) is None
        assert (navigator.route, navigator.fault) == (route, '')

    def test_the_same_goal_again_changes_nothing(self, started):
        navigator, car, route = started
        car.drive(route, last=10)
        assert navigator.set_goal(*ahead('oval')) is None
        assert navigator.route is route

    def test_another_goal_is_another_route(self, started):
        navigator, car, route = started
        car.drive(route, last=10)
        other = navigator.set_goal(*ahead('oval', 40))
        assert other.length_m == pytest.approx(31.0, abs=0.1)
        assert navigator.route is other

    @pytest.mark.parametrize(
        ('goal', 'words'),
        [
            ((5000.0, 0.0), 'from the nearest driving lane'),
            ((math.nan, 0.0), 'must be finite'),
            (spawn('oval')[:2], 'from the car: nearer than 5 m counts as arrived'),
        ],
    )
    def test_a_refused_goal_leaves_route_and_goal(self, started, goal, words):
        navigator, _, route = started
        with pytest.raises(RouteError, match=words):
            navigator.set_goal(*goal)
        assert (navigator.route, navigator.goal) == (route, ahead('oval'))

    def test_arrival(self, started):
        navigator, car, route = started
        assert car.drive(route) == []
        assert navigator.arrived
        assert car.at(0.0, 500.0, 0.0) is None  # moved away by hand: far more than a step
        assert 'no driving lane' in navigator.fault

    def test_after_arrival_a_car_may_go_anywhere(self, started):
        navigator, car, route = started
        car.drive(route)
        assert car.drive(route, left_m=-4.5, first=-1) == []
        assert navigator.arrived


class TestMoved:
    def test_a_car_put_elsewhere_gets_another_route(self, started):
        _, car, route = started
        other = spawn('oval', 2)
        planned = car.at(other.x_m, other.y_m, other.yaw_rad, 0.0)
        assert planned.points[0, :2] == pytest.approx(other[:2], abs=0.01)
        assert planned.points[-1] == pytest.approx(route.points[-1])

    def test_so_does_one_whose_time_has_run_back(self, started):
        _, car, route = started
        car.drive(route, last=10)
        car.stamp_ns = -STEP_NS
        planned = car.stand()
        assert planned.length_m == pytest.approx(route.length_m, abs=0.1)

    def test_off_the_road_is_said_and_over_when_the_car_is_back(self, started):
        navigator, car, _ = started
        assert car.at(0.0, 300.0, 0.0) is None
        assert 'no driving lane' in navigator.fault
        assert car.at(0.0, 300.0, 0.0) is None
        assert car.stand() is not None
        assert navigator.fault == ''

    def test_another_town(self, started):
        navigator, car, _ = started
        navigator.forget_graph()
        assert (navigator.knows_map, navigator.route) == (False, None)
        navigator.set_graph(graph_of('town'))
        goal = spawn('town', 9)
        assert navigator.set_goal(*goal[:2]) is None  # where the car is there, is not known yet
        car.place = spawn('town')
        planned = car.stand()
        assert math.dist(planned.points[0, :2], car.place[:2]) < 0.01
        assert math.dist(planned.points[-1, :2], goal[:2]) < 0.01

    def test_a_pose_in_a_town_that_was_never_read_is_no_pose_in_the_next(self):
        navigator = Navigator(NavigatorParams())
        Car(navigator, spawn('oval')).stand()
        navigator.forget_graph()
        assert navigator.set_graph(graph_of('town')) is None
        assert not navigator.knows_pose
        assert Car(navigator, spawn('town')).stand() is not None


class TestDrawnGoals:
    def drawn(self, seed, name='town'):
        navigator = Navigator(NavigatorParams(seed=seed))
        navigator.set_graph(graph_of(name))
        return navigator, Car(navigator, spawn(name))

    def test_equal_seeds_drive_equal_routes(self):
        routes = [self.drawn(4)[1].stand() for _ in range(2)]
        assert (routes[0].points == routes[1].points).all()
        assert (routes[0].points[-1] != self.drawn(5)[1].stand().points[-1]).any()

    def test_the_next_one_comes_on_arrival(self):
        navigator, car = self.drawn(0)
        route = car.stand()
        for _ in range(3):
            assert route.length_m >= FAR_M
            (following,) = car.drive(route, last=-3)
            assert not navigator.arrived
            assert math.dist(following.points[0, :2], route.points[-1, :2]) < 6.0
            route = following

    def test_none_is_drawn_after_a_goal_that_was_given(self):
        navigator, car = self.drawn(0)
        car.stand()
        route = navigator.set_goal(*spawn('town', 9)[:2])
        assert car.drive(route) == []
        assert navigator.arrived

    def test_at_the_end_of_a_road_there_is_none(self):
        navigator, car = self.drawn(0, 'winding')
        route = car.stand()
        for _ in range(20):
            planned = car.drive(route, last=-1)
            if not planned:
                break
            route = planned[-1]
        assert navigator.fault.startswith("no goal on map 'winding' can be reached")
        assert navigator.arrived

    def test_a_goal_drawn_in_one_town_is_not_for_another(self):
        navigator, car = self.drawn(0)
        car.stand()
        navigator.forget_graph()
        place = spawn('oval')
        navigator.set_graph(graph_of('oval'))
        route = car.at(*place[:2], place.yaw_rad) or navigator.route
        fix = load_map('oval').locate(*route.points[-1, :2])
        assert fix.on_road

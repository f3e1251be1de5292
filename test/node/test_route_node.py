# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""route_node on its topics: town, pose and goal in any order, one latched path."""

import math

from carla_msgs.msg import CarlaWorldInfo
from geometry_msgs.msg import PoseStamped
from harness.messages import ROLE, odometry
from nav_msgs.msg import Odometry, Path
import numpy as np
import pytest

from td3_agent.driving.geometry import quaternion_from_rpy, yaw_from_quaternion
from td3_agent.nodes import route_node, topics
from td3_agent.nodes.conversions import route_from_path
from td3_agent.nodes.route_node import RouteNode
from td3_agent.nodes.runtime import LATCHED
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.opendrive import MapError


class Bench:
    """A route node, and a peer in the place of bridge and user."""

    def __init__(self, ros, **parameters):
        self.ros = ros
        self.paths = ros.listen(Path, topics.waypoints(ROLE), LATCHED)
        self.world_info = ros.talk(CarlaWorldInfo, topics.WORLD_INFO, LATCHED)
        self.odometry = ros.talk(Odometry, topics.odometry(ROLE))
        self.goal = ros.talk(PoseStamped, topics.goal(ROLE))
        self.stamp_s = 10
        self.node = ros.make(RouteNode, **{'goal': 'topic'} | parameters)
        ros.spin_until_matched()

    def say_town(self, name='oval'):
        self.world_info.publish(
            CarlaWorldInfo(map_name=name, opendrive=built_in_opendrive(name, 0))
        )

    def say_pose(self, name='oval', index=0):
        at = load_map(name).spawn_points[index]
        self.stamp_s += 1
        msg = odometry(self.stamp_s * 10**9, at.x_m, at.y_m, speed_mps=0.0)
        q = msg.pose.pose.orientation
        q.x, q.y, q.z, q.w = quaternion_from_rpy(0.0, 0.0, at.yaw_rad)
        self.odometry.publish(msg)

    def say_goal(self, x_m=None, frame_id='map', index=2, name='oval'):
        at = load_map(name).spawn_points[index]
        msg = PoseStamped()
        msg.header.frame_id = frame_id
        msg.pose.position.x, msg.pose.position.y = x_m or at.x_m, at.y_m
        self.goal.publish(msg)

    def wait_for_paths(self, count):
        self.ros.spin_until(lambda: len(self.paths) >= count, f'{count} paths')
        assert len(self.paths) == count
        return self.paths[-1]


def said(diagnosed, part=''):
    status = diagnosed('route' + part)
    return '' if status is None else status.message


@pytest.mark.parametrize('order', [('town', 'pose', 'goal'), ('goal', 'pose', 'town')])
def test_any_order_ends_in_one_latched_path(ros, order):
    bench = Bench(ros)
    said = {'town': bench.say_town, 'pose': bench.say_pose, 'goal': bench.say_goal}
    for name in order:
        said[name]()
    path = bench.wait_for_paths(1)
    late = ros.listen(Path, topics.waypoints(ROLE), LATCHED)  # an agent that starts last
    ros.spin_until(lambda: late, 'the latched path')
    assert late == [path]
    route, oval = route_from_path(path), load_map('oval')
    assert path.header.frame_id == 'map'
    assert route.points_xy[0] == pytest.approx(oval.spawn_points[0][:2], abs=0.01)
    assert route.points_xy[-1] == pytest.approx(oval.spawn_points[2][:2], abs=0.01)
    places = np.array([(p.pose.position.x, p.pose.position.y) for p in path.poses])
    steps = np.hypot(*np.diff(places, axis=0).T)
    assert steps[:-1] == pytest.approx(np.ones(len(steps) - 1), abs=0.02)
    for pose, (x_m, y_m) in list(zip(path.poses, places, strict=True))[1:-1]:
        q = pose.pose.orientation
        heading = oval.locate(x_m, y_m).heading_rad
        assert math.cos(yaw_from_quaternion(q.x, q.y, q.z, q.w) - heading) > 0.99


def test_what_is_missing_is_named(ros, diagnosed):
    bench = Bench(ros)
    ros.spin_until(lambda: 'no town yet on /carla/world_info' in said(diagnosed), 'the town')
    bench.say_town()
    ros.spin_until(lambda: "reading the map 'oval'" in said(diagnosed), 'reading')
    pose = f'no odometry yet on {topics.odometry(ROLE)}'
    ros.spin_until(lambda: pose in said(diagnosed), 'the pose')
    bench.say_pose()
    goal = f'no goal yet on {topics.goal(ROLE)}'
    ros.spin_until(lambda: goal in said(diagnosed), 'the goal')
    bench.say_goal()
    ros.spin_until(lambda: said(diagnosed).startswith('route to ('), 'the route')


@pytest.mark.parametrize(
    ('goal', 'words'),
    [
        ({'x_m': 5000.0}, 'from the nearest driving lane'),
        ({'frame_id': 'ego_vehicle'}, "frame_id must be map or carla_map, got 'ego_vehicle'"),
    ],
    ids=['off the road', 'frame'],
)
def test_rejected_goal_is_reported_and_changes_nothing(ros, diagnosed, goal, words):
    bench = Bench(ros)
    bench.say_town('winding')
    bench.say_pose('winding', 2)
    bench.say_goal(name='winding', index=3)
    bench.wait_for_paths(1)
    bench.say_goal(**{'name': 'winding', 'index': 3} | goal)
    ros.spin_until(lambda: words in said(diagnosed, ': inputs'), words)
    assert said(diagnosed).startswith('route to (')
    assert len(bench.paths) == 1


def test_text_that_is_no_map_is_rejected(ros, diagnosed):
    bench = Bench(ros)
    for say in (bench.say_town, bench.say_pose, bench.say_goal):
        say()
    bench.wait_for_paths(1)
    bench.world_info.publish(CarlaWorldInfo(map_name='empty'))
    empty = "opendrive of map 'empty' must be an OpenDRIVE text, got ''"
    ros.spin_until(lambda: empty in said(diagnosed, ': inputs'), empty)
    assert len(bench.paths) == 1


def test_another_town_is_another_graph_and_the_same_one_is_not(ros, diagnosed):
    bench = Bench(ros, goal='random')
    bench.say_town()
    bench.say_pose()
    bench.wait_for_paths(1)
    bench.say_town()  # a bridge that has come back
    bench.say_town('town')
    assert not bench.wait_for_paths(2).poses  # agents would go on by the old town's
    bench.say_pose('town')
    path = bench.wait_for_paths(3)
    start = path.poses[0].pose.position
    assert (start.x, start.y) == pytest.approx(load_map('town').spawn_points[0][:2], abs=0.01)
    bench.world_info.publish(CarlaWorldInfo(map_name='broken', opendrive='<OpenDRIVE/>'))
    ros.spin_until(lambda: 'no driving lane' in said(diagnosed), 'the fault of the map')
    assert not bench.wait_for_paths(4).poses
    late = ros.listen(Path, topics.waypoints(ROLE), LATCHED)
    ros.spin_until(lambda: late, 'the latched path')
    assert not late[-1].poses


def test_without_the_wheel_one_sentence(monkeypatch):
    monkeypatch.setattr(route_node, 'find_spec', lambda _: None)
    with pytest.raises(MapError, match=r'pip install carla==0\.9\.16') as rejected:
        RouteNode()
    assert '\n' not in str(rejected.value)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Invalid message fields are rejected by name, value and limit."""

import array
import math
import tracemalloc

from carla_msgs.msg import (
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleInfoWheel,
    CarlaLaneInvasionEvent,
)
from geometry_msgs.msg import PoseStamped
from harness.messages import changed, odometry, path
from nav_msgs.msg import Path
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Header

from td3_agent.driving.geometry import yaw_from_quaternion
from td3_agent.nodes.conversions import (
    announced_route,
    checked_control,
    crossed_markings,
    geometry_from_info,
    goal_from_pose,
    header_stamp_ns,
    image_view,
    path_from_points,
    route_from_path,
    state_from_odometry,
)


@pytest.mark.parametrize('bad', [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize(
    ('field', 'name'),
    [
        ('pose.pose.position.x', 'x_m'),
        ('pose.pose.position.y', 'y_m'),
        ('pose.pose.position.z', 'z_m'),
        ('twist.twist.linear.x', 'speed_mps'),
        ('twist.twist.angular.z', 'yaw_rate_radps'),
    ],
)
def test_odometry_that_no_vehicle_has_is_rejected_by_field(field, name, bad):
    with pytest.raises(ValueError, match=f'{name} must be finite and within'):
        state_from_odometry(changed(odometry(0), **{field: bad}))


@pytest.mark.parametrize('component', 'xyzw')
@pytest.mark.parametrize('bad', [math.nan, math.inf, 1e200])
def test_invalid_orientation_is_rejected(component, bad):
    with pytest.raises(ValueError, match='orientation must be a finite non-zero quaternion'):
        state_from_odometry(changed(odometry(0), **{f'pose.pose.orientation.{component}': bad}))


@pytest.mark.parametrize(
    ('fields', 'text'),
    [
        ({'header.frame_id': ''}, 'header.frame_id must have 1 to 255 characters, got 0'),
        ({'header.frame_id': 'x' * 256}, 'got 256'),
        ({'header.stamp.sec': -1}, r'stamp.sec must be >= 0 \[s\], got -1'),
        ({'header.stamp.nanosec': 10**9}, r'stamp.nanosec must be in \[0, 1e9\) \[ns\]'),
        ({'pose.pose.orientation.w': 0.0}, 'orientation'),
    ],
)
def test_headers_and_orientations_are_checked(fields, text):
    with pytest.raises(ValueError, match=text):
        state_from_odometry(changed(odometry(0), **fields))


def test_good_header_gives_its_stamp():
    assert header_stamp_ns(odometry(3_000_000_007).header) == 3_000_000_007


@pytest.mark.parametrize(
    'fields',
    [
        {'height': 65535, 'width': 65535, 'step': 4 * 65535},
        {'height': 8192, 'width': 8192, 'step': 4 * 8192},
        {'height': 2**32 - 1, 'width': 1, 'step': 4},
        {'height': 0, 'width': 0, 'step': 0},
        {'encoding': 'x' * 10**6, 'height': 8192, 'width': 8192},
    ],
    ids=str,
)
def test_no_memory_is_taken_for_what_a_header_claims(fields):
    msg = Image(**({'encoding': 'bgra8'} | fields), data=array.array('B', bytes(64)))
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r'must') as rejection:
            image_view(msg)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100_000
    assert len(str(rejection.value)) < 200


@pytest.mark.parametrize('bad', [math.nan, math.inf, 1e30, -1e8])
@pytest.mark.parametrize('axis', 'xy')
def test_route_point_that_is_nowhere_on_earth_is_named(bad, axis):
    msg = path(3)
    setattr(msg.poses[1].pose.position, axis, bad)
    with pytest.raises(ValueError, match=r'position of poses\[1\] must be finite'):
        route_from_path(msg)


def test_an_empty_path_withdraws_the_route_and_one_of_a_single_point_is_rejected():
    assert announced_route(path(0)) is None
    assert announced_route(path(6)).length_m == pytest.approx(5.0)
    with pytest.raises(ValueError, match='needs at least 2 distinct points, got 1'):
        announced_route(path(1))


def test_endless_lists_are_rejected_before_anything_is_made_of_them():
    pose, wheel = PoseStamped(), CarlaEgoVehicleInfoWheel(max_steer_angle=1.0)
    with pytest.raises(ValueError, match='poses must have at most 100000 elements, got 100001'):
        route_from_path(Path(poses=[pose] * 100_001))
    with pytest.raises(ValueError, match=r'vehicle_info.wheels must have at most 64 elements'):
        geometry_from_info(CarlaEgoVehicleInfo(wheels=[wheel] * 65), 2.8)
    with pytest.raises(ValueError, match='crossed_lane_markings must have at most 64 elements'):
        crossed_markings(CarlaLaneInvasionEvent(crossed_lane_markings=[1] * 65))
    assert crossed_markings(CarlaLaneInvasionEvent(crossed_lane_markings=[1, 2])) == [1, 2]


@pytest.mark.parametrize('field', ['throttle', 'steer', 'brake'])
@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_control_that_is_not_finite_is_rejected(field, bad):
    with pytest.raises(ValueError, match='throttle, steer and brake must be finite'):
        checked_control(CarlaEgoVehicleControl(**{field: bad}))


class TestGoal:
    @staticmethod
    def goal(x_m=3.0, y_m=-4.0, frame_id='map'):
        msg = PoseStamped()
        msg.header.frame_id = frame_id
        msg.pose.position.x, msg.pose.position.y = x_m, y_m
        return msg

    @pytest.mark.parametrize('frame_id', ['map', 'carla_map'])
    def test_is_a_place_on_the_map(self, frame_id):
        assert goal_from_pose(self.goal(frame_id=frame_id)) == (3.0, -4.0)

    @pytest.mark.parametrize('frame_id', ['', 'ego_vehicle', 'odom', 'x' * 10_000])
    def test_in_another_frame_is_rejected(self, frame_id):
        with pytest.raises(ValueError, match='frame_id must be map or carla_map, got') as rejected:
            goal_from_pose(self.goal(frame_id=frame_id))
        assert len(str(rejected.value)) < 400

    @pytest.mark.parametrize('bad', [math.nan, math.inf, -1e8])
    def test_nowhere_on_earth_is_rejected(self, bad):
        for msg in (self.goal(x_m=bad), self.goal(y_m=bad)):
            with pytest.raises(ValueError, match=r'position must be finite and within .* \[m\]'):
                goal_from_pose(msg)


def test_path_has_points_and_directions():
    header = Header(frame_id='map')
    msg = path_from_points([(0.0, 0.0, 1.0), (3.0, 4.0, 2.0)], [0.5, -2.0], header)
    assert [(p.pose.position.x, p.pose.position.z) for p in msg.poses] == [(0.0, 1.0), (3.0, 2.0)]
    turns = [p.pose.orientation for p in msg.poses]
    assert [yaw_from_quaternion(q.x, q.y, q.z, q.w) for q in turns] == pytest.approx([0.5, -2.0])
    assert route_from_path(msg).length_m == pytest.approx(5.0)

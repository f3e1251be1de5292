# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded bridge on its topics: what an agent may rely on."""

import math

from carla_msgs.msg import (
    CarlaActorList,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaWorldInfo,
)
from geometry_msgs.msg import Pose, Quaternion, Twist
from harness.messages import ROLE
from harness.sim_bench import ORDER, Bench, spied
from nav_msgs.msg import Path
import numpy as np
import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from std_msgs.msg import Bool

from td3_agent.driving.geometry import yaw_from_quaternion
from td3_agent.driving.parameters import ParameterError
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.runtime import LATCHED
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.sim.simulator import EGO_ACTOR_ID

VOLATILE, TRANSIENT_LOCAL = DurabilityPolicy.VOLATILE, DurabilityPolicy.TRANSIENT_LOCAL
PUBLISHED = {
    '/clock': ('rosgraph_msgs/msg/Clock', VOLATILE),
    '/carla/status': ('carla_msgs/msg/CarlaStatus', VOLATILE),
    '/carla/world_info': ('carla_msgs/msg/CarlaWorldInfo', TRANSIENT_LOCAL),
    f'/carla/{ROLE}/odometry': ('nav_msgs/msg/Odometry', VOLATILE),
    f'/carla/{ROLE}/vehicle_status': ('carla_msgs/msg/CarlaEgoVehicleStatus', VOLATILE),
    f'/carla/{ROLE}/vehicle_info': ('carla_msgs/msg/CarlaEgoVehicleInfo', TRANSIENT_LOCAL),
    f'/carla/{ROLE}/camera/image': ('sensor_msgs/msg/Image', VOLATILE),
    f'/carla/{ROLE}/camera/camera_info': ('sensor_msgs/msg/CameraInfo', VOLATILE),
    f'/carla/{ROLE}/speedometer': ('std_msgs/msg/Float32', VOLATILE),
    f'/carla/{ROLE}/collision': ('carla_msgs/msg/CarlaCollisionEvent', VOLATILE),
    f'/carla/{ROLE}/lane_invasion': ('carla_msgs/msg/CarlaLaneInvasionEvent', VOLATILE),
    f'/carla/{ROLE}/waypoints': ('nav_msgs/msg/Path', TRANSIENT_LOCAL),
}
SUBSCRIBED = {
    '/carla/control': ('carla_msgs/msg/CarlaControl', VOLATILE),
    f'/carla/{ROLE}/vehicle_control_cmd': ('carla_msgs/msg/CarlaEgoVehicleControl', VOLATILE),
    f'/carla/{ROLE}/vehicle_control_cmd_manual': (
        'carla_msgs/msg/CarlaEgoVehicleControl',
        VOLATILE,
    ),
    f'/carla/{ROLE}/vehicle_control_manual_override': ('std_msgs/msg/Bool', TRANSIENT_LOCAL),
    f'/carla/{ROLE}/control/set_transform': ('geometry_msgs/msg/Pose', VOLATILE),
    f'/carla/{ROLE}/control/set_target_velocity': ('geometry_msgs/msg/Twist', VOLATILE),
}
ONCE = ('/carla/world_info', f'/carla/{ROLE}/vehicle_info')


@pytest.fixture
def bench(ros):
    return Bench(ros)


def override(bench, value):
    """Turn the manual override on or off, as TRANSIENT_LOCAL publisher."""
    publisher = bench.ros.talk(
        Bool, topics.of(ROLE, 'vehicle_control_manual_override'), qos=LATCHED
    )
    publisher.publish(Bool(data=value))
    bench.ros.spin_until(lambda: bench.bridge.vehicles[ROLE].manual_override is value, 'override')


class TestTopics:
    def test_publishers(self, ros, bench):
        for topic, (kind, durability) in PUBLISHED.items():
            (info,) = ros.peer.get_publishers_info_by_topic(topic)
            assert info.topic_type == kind, topic
            assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE, topic
            assert info.qos_profile.durability == durability, topic
            assert info.node_name == 'carla_ros_bridge'
        assert bench.bridge.get_name() == 'carla_ros_bridge'

    def test_subscriptions(self, ros, bench):
        for topic, (kind, durability) in SUBSCRIBED.items():
            ros.spin_until(
                lambda topic=topic: ros.peer.get_subscriptions_info_by_topic(topic), topic
            )
            (info,) = ros.peer.get_subscriptions_info_by_topic(topic)
            assert info.topic_type == kind, topic
            assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE, topic
            assert info.qos_profile.durability == durability, topic
        assert bench.bridge.count_subscribers('/carla/control') == 1

    def test_latched_topics_reach_late_joiners(self, ros, bench):
        bench.step()
        info = ros.listen(CarlaEgoVehicleInfo, topics.vehicle_info(ROLE), LATCHED)
        world = ros.listen(CarlaWorldInfo, topics.WORLD_INFO, LATCHED)
        path = ros.listen(Path, topics.waypoints(ROLE), LATCHED)
        ros.spin_until(lambda: info and world and path, 'latched messages')
        assert info[0].id == EGO_ACTOR_ID
        assert info[0].rolename == ROLE
        assert info[0].type.startswith('vehicle.')
        assert len(info[0].wheels) == 4
        assert 0.3 < info[0].wheels[0].max_steer_angle < 1.5  # radians
        expected = bench.simulator.ego.vehicle_info.wheels[0].max_steer_angle
        assert info[0].wheels[0].max_steer_angle == pytest.approx(expected, rel=1e-6)
        assert info[0].mass > 500.0
        assert world[0].map_name == bench.simulator.map.name
        assert '<OpenDRIVE>' in world[0].opendrive

    @pytest.mark.parametrize('map_name', ['oval', 'winding'])
    def test_waypoints_are_a_metre_apart(self, ros, map_name):
        bench = Bench(ros, map=map_name)
        path = ros.listen(Path, topics.waypoints(ROLE), LATCHED)
        ros.spin_until(lambda: path, 'the path')
        assert path[0].header.frame_id == 'map'
        assert {pose.header.frame_id for pose in path[0].poses} == {'map'}
        places = np.array([(p.pose.position.x, p.pose.position.y) for p in path[0].poses])
        gaps = np.hypot(*np.diff(places, axis=0).T)
        assert gaps.min() > 0.5
        assert gaps[:-1].max() < 1.2
        assert gaps[-1] < 1.5  # what is left of a lap
        assert abs(np.median(gaps) - 1.0) < 0.05
        assert np.array_equal(places[0], places[-1]) == bench.simulator.ego.route.closed
        state = bench.simulator.ego.state
        assert np.hypot(*(places[0] - (state.x_m, state.y_m))) < 1.0
        q = path[0].poses[5].pose.orientation
        ahead = places[6] - places[4]
        assert yaw_from_quaternion(q.x, q.y, q.z, q.w) == pytest.approx(np.arctan2(*ahead[::-1]))


class TestFrame:
    def test_order_on_the_wire(self, bench, monkeypatch):
        sent = spied(bench.bridge.output, monkeypatch)
        for _ in range(3):
            bench.step()
        later = [topic for topic in ORDER if topic not in ONCE]
        acknowledged, asked = ['/carla/status'], ['/carla/status']
        assert sent == [
            *(asked + ORDER + acknowledged),
            *(asked + later + acknowledged) * 2,
        ]

    def test_one_stamp_per_frame(self, bench):
        bench.step(throttle=1.0)
        bench.step(throttle=1.0)
        for i in range(2):
            stamps = [
                bench.clock[i].clock,
                bench.vehicle_status[i].header.stamp,
                bench.camera_info[i].header.stamp,
                bench.images[i].header.stamp,
                bench.odometry[i].header.stamp,
            ]
            assert all(stamp == stamps[0] for stamp in stamps)
        assert bench.clock[0].clock != bench.clock[1].clock

    def test_stamps_are_truncated(self, bench):
        for _ in range(30):
            bench.step()
        frames = [m.frame for m in bench.status if m.synchronous_mode_running]
        seconds = [10.0 + frame * 0.05 for frame in sorted(set(frames))[-30:]]
        wanted = [(int(s), int((s - int(s)) * 1e9)) for s in seconds]
        stamps = [m.header.stamp for m in bench.odometry]
        assert [(stamp.sec, stamp.nanosec) for stamp in stamps] == wanted
        assert any(stamp.nanosec % 10 == 9 for stamp in stamps)  # 1 ns short, as upstream

    def test_frame_ids(self, bench):
        bench.step()
        assert bench.vehicle_status[0].header.frame_id == 'map'
        assert bench.odometry[0].header.frame_id == 'map'
        assert bench.odometry[0].child_frame_id == ROLE
        assert bench.images[0].header.frame_id == f'{ROLE}/camera'
        assert bench.camera_info[0].header.frame_id == f'{ROLE}/camera'

    def test_status_fields(self, bench):
        bench.step()
        status = bench.status[-1]
        assert status.fixed_delta_seconds == pytest.approx(0.0500000007, abs=1e-10)
        assert status.synchronous_mode
        assert not status.synchronous_mode_running

    def test_vehicle_status_echoes_the_command_executed(self, bench):
        bench.step(throttle=0.7, steer=-0.25)
        bench.step(brake=0.3, reverse=True)
        bench.step()
        first, second, third = (m.control for m in bench.vehicle_status)
        assert (first.throttle, first.brake) == (0.0, 0.0)  # before the first command
        assert second.throttle == np.float32(0.7)
        assert second.steer == np.float32(-0.25)
        assert (third.throttle, third.brake) == (0.0, np.float32(0.3))
        assert third.reverse
        assert (third.header.stamp.sec, third.header.stamp.nanosec) == (0, 0)

    def test_motion(self, bench):
        for _ in range(10):
            bench.step(throttle=1.0, steer=-0.3)
        bench.step()
        odometry, status = bench.odometry[-1], bench.vehicle_status[-1]
        assert odometry.twist.twist.linear.x > 0.5
        assert odometry.twist.twist.angular.z > 0.0  # CARLA steer is right positive
        linear = odometry.twist.twist.linear
        assert abs(linear.y) > 0.01
        assert status.velocity == pytest.approx(math.hypot(linear.x, linear.y), abs=1e-6)
        assert bench.speedometer[-1].data == pytest.approx(linear.x, abs=1e-6)
        place = odometry.pose.pose.position
        assert (place.x, place.y) == (np.float32(place.x), np.float32(place.y))
        assert not np.any(odometry.pose.covariance)
        assert odometry.pose.pose.orientation == status.orientation

    def test_reverse_speed_is_positive_in_status_and_signed_elsewhere(self, bench):
        bench.push(-3.0)
        bench.step()
        assert bench.odometry[-1].twist.twist.linear.x < -2.0
        assert bench.speedometer[-1].data < -2.0
        assert bench.vehicle_status[-1].velocity > 2.0


class TestCamera:
    @pytest.mark.parametrize(('width', 'height', 'fov'), [(160, 120, 90.0), (800, 600, 60.0)])
    def test_image_and_intrinsics(self, ros, width, height, fov):
        bench = Bench(ros, camera_width=width, camera_height=height, camera_fov_deg=fov)
        bench.step()
        image, info = bench.images[0], bench.camera_info[0]
        assert (image.width, image.height, image.encoding) == (width, height, 'bgra8')
        assert (image.step, image.is_bigendian) == (4 * width, 0)
        assert len(image.data) == 4 * width * height
        pixels = np.frombuffer(image.data, np.uint8).reshape(height, width, 4)
        assert (pixels[:, :, 3] == 255).all()
        assert pixels[:, :, :3].std() > 10.0
        assert np.array_equal(pixels, bench.simulator.render())
        focal = width / (2.0 * math.tan(math.radians(fov) / 2.0))
        k = [focal, 0.0, width / 2, 0.0, focal, height / 2, 0.0, 0.0, 1.0]
        assert info.k == pytest.approx(k)
        assert info.p.reshape(3, 4)[:, :3].ravel() == pytest.approx(k)
        assert info.p.reshape(3, 4)[:, 3] == pytest.approx(0.0)
        assert info.r == pytest.approx(np.eye(3).ravel())
        assert (info.width, info.height) == (width, height)
        assert info.distortion_model == 'plumb_bob'
        assert list(info.d) == [0.0] * 5

    def test_ten_hertz_is_every_second_frame(self, ros):
        bench = Bench(ros, camera_rate_hz=10.0)
        for _ in range(6):
            bench.step()
        ros.spin_until(lambda: len(bench.images) == 3, 'three images')
        with_image = {stamp_ns(m.header.stamp) for m in bench.images}
        stamps = [stamp_ns(m.header.stamp) for m in bench.odometry]
        assert [stamp in with_image for stamp in stamps] == [True, False] * 3
        assert [m.header for m in bench.camera_info] == [m.header for m in bench.images]

    @pytest.mark.parametrize('rate_hz', [7.0, 15.0, 40.0])
    def test_a_rate_that_does_not_divide_is_rejected(self, ros, rate_hz):
        with pytest.raises(ParameterError, match=f'step rate of 20 .* got {rate_hz:g}'):
            ros.make(SimBridgeNode, camera_rate_hz=rate_hz)


class TestControl:
    def test_transform_teleports(self, bench):
        bench.put(40.0, 3.0, 1.0)
        bench.step(brake=1.0)
        pose = bench.odometry[-1].pose.pose
        assert (pose.position.x, pose.position.y) == pytest.approx((40.0, 3.0), abs=1e-3)
        assert 2 * math.atan2(pose.orientation.z, pose.orientation.w) == pytest.approx(1.0)
        assert bench.odometry[-1].twist.twist.linear.x == 0.0

    def test_bad_transform_is_rejected(self, ros, bench, capfd):
        x_m = bench.simulator.ego.state.x_m
        bench.pose.publish(Pose(orientation=Quaternion(w=0.0)))
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'rejected')
        pose = Pose(orientation=Quaternion())
        pose.position.x = math.nan
        bench.pose.publish(pose)
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 2, 'rejected')
        assert bench.simulator.ego.state.x_m == x_m
        assert (
            'control/set_transform: message rejected (1 so far): orientation'
            in capfd.readouterr().err
        )

    def test_bad_target_velocity_is_rejected(self, ros, bench):
        twist = Twist()
        twist.linear.x = math.inf
        bench.velocity.publish(twist)
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'rejected')
        assert bench.simulator.ego.state.speed_mps == 0.0

    def test_manual_override(self, bench):
        override(bench, value=True)
        bench.begin_step()
        bench.control.publish(CarlaEgoVehicleControl(throttle=1.0))
        bench.manual.publish(CarlaEgoVehicleControl(brake=0.5))
        bench.ros.spin_until(bench.is_idle, 'acknowledged')
        bench.begin_step()
        assert bench.vehicle_status[-1].control.throttle == 0.0
        assert bench.vehicle_status[-1].control.brake == 0.5
        override(bench, value=False)
        bench.manual.publish(CarlaEgoVehicleControl(brake=0.1))
        bench.end_step(throttle=0.25)
        bench.step()
        assert bench.vehicle_status[-1].control.throttle == 0.25
        assert bench.vehicle_status[-1].control.brake == 0.0

    def test_target_velocity_is_ignored_under_override(self, bench):
        override(bench, value=True)
        twist = Twist()
        twist.linear.x = 5.0
        bench.velocity.publish(twist)
        bench.begin_step()
        bench.manual.publish(CarlaEgoVehicleControl())
        bench.ros.spin_until(bench.is_idle, 'acknowledged')
        assert bench.odometry[-1].twist.twist.linear.x == 0.0

    def test_override_needs_a_latched_publisher(self, ros, bench):
        topic = topics.of(ROLE, 'vehicle_control_manual_override')
        plain = ros.talk(Bool, topic)
        latched = ros.talk(Bool, topic, qos=LATCHED)
        ros.spin_until(lambda: latched.get_subscription_count() == 1, 'matched')
        assert plain.get_subscription_count() == 0
        assert bench.bridge.vehicles[ROLE].manual_override is False

    @pytest.mark.parametrize(('field', 'value'), [('throttle', math.nan), ('steer', math.inf)])
    def test_control_that_is_not_finite_is_rejected(self, ros, capfd, field, value):
        bench = Bench(ros)
        bench.begin_step()
        bench.control.publish(CarlaEgoVehicleControl(**{field: value}))
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'rejected')
        assert 'must be finite' in capfd.readouterr().err
        assert not bench.is_idle()  # the frame is still unanswered
        bench.end_step(brake=0.5)
        bench.step()
        assert bench.vehicle_status[-1].control.brake == 0.5


class TestEvents:
    @pytest.mark.parametrize('others', [{'parked_vehicles': 6}, {'traffic_leader': 'standing'}])
    def test_collision_with_another_vehicle(self, ros, others):
        bench = Bench(ros, **others)
        world = bench.simulator
        box = (world.parked or world.traffic.outlines(0.0, 0.0, 1e3))[0]
        away = 6.0
        x_m = box.x_m - away * math.cos(box.yaw_rad)
        y_m = box.y_m - away * math.sin(box.yaw_rad)
        bench.put(x_m, y_m, box.yaw_rad)
        bench.push(8.0)
        for _ in range(20):
            bench.step()
        ros.spin_until(lambda: bench.collisions, 'the collision')
        event = bench.collisions[0]
        assert event.other_actor_id == box.actor_id
        assert event.header.frame_id == f'{ROLE}/collision'
        stamps = [stamp_ns(m.header.stamp) for m in bench.odometry]
        at = stamps.index(stamp_ns(event.header.stamp))
        assert bench.odometry[at].twist.twist.linear.x < 1.0
        assert math.hypot(event.normal_impulse.x, event.normal_impulse.y) > 1000.0  # [N s]

    def test_lane_invasion(self, ros):
        bench = Bench(ros)
        state = bench.simulator.ego.state
        bench.put(state.x_m + 5.0, state.y_m, state.yaw_rad + 0.3)
        bench.push(8.0)
        for _ in range(20):
            bench.step()
        ros.spin_until(lambda: bench.invasions, 'the lane invasion')
        event = bench.invasions[0]
        assert event.header.frame_id == f'{ROLE}/lane_invasion'
        assert len(event.crossed_lane_markings) > 0
        assert stamp_ns(event.header.stamp) in {stamp_ns(m.header.stamp) for m in bench.odometry}
        assert not bench.collisions


class TestActorList:
    """All vehicles, each tick, where the objects file of the bridge asks for them."""

    def test_names_every_vehicle_once(self, ros):
        heard = ros.listen(CarlaActorList, topics.ACTOR_LIST)
        bench = Bench(ros, actor_list=True, traffic_vehicles=5, parked_vehicles=3)
        bench.step()
        bench.step()
        ros.spin_until(lambda: len(heard) == 2, 'both lists')
        actors = heard[-1].actors
        assert len({actor.id for actor in actors}) == len(actors) == 9
        assert [(a.rolename, a.parent_id) for a in actors[:1]] == [(ROLE, 0)]
        names = [actor.rolename for actor in actors]
        assert (names.count('parked'), names.count('autopilot')) == (3, 5)
        assert all(actor.type.startswith('vehicle.') for actor in actors)
        assert actors[0].id == EGO_ACTOR_ID

    def test_only_on_request(self, ros):
        bench = Bench(ros, traffic_vehicles=5)
        assert topics.ACTOR_LIST not in dict(bench.bridge.get_topic_names_and_types())

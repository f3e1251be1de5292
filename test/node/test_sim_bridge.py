# SPDX-License-Identifier: Apache-2.0
"""The embedded bridge on the wire: what an agent may rely on, races of the real one included."""

import math
import time

from carla_msgs.msg import (
    CarlaActorList,
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
    CarlaWorldInfo,
)
from geometry_msgs.msg import Pose, Twist
from nav_msgs.msg import Odometry, Path
import numpy as np
import pytest
from rclpy.publisher import Publisher
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Bool, Float32
from std_srvs.srv import Trigger

from td3_agent.driving.frames import yaw_from_quaternion
from td3_agent.driving.parameters import ParameterError
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.runtime import LATCHED
from td3_agent.nodes.sim_bridge_node import SimBridgeNode
from td3_agent.sim.world import EGO_ACTOR_ID

ROLE = 'ego_vehicle'
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
ORDER = [
    '/carla/status',
    '/clock',
    '/carla/world_info',
    f'/carla/{ROLE}/vehicle_status',
    f'/carla/{ROLE}/vehicle_info',
    f'/carla/{ROLE}/camera/camera_info',
    f'/carla/{ROLE}/camera/image',
    f'/carla/{ROLE}/speedometer',
    f'/carla/{ROLE}/odometry',
]
ONCE = ('/carla/world_info', f'/carla/{ROLE}/vehicle_info')


class Bench:
    """A paused bridge, somebody at its controls, and everything it says."""

    def __init__(self, ros, **parameters):
        settings = {'map': 'oval', 'spawn_index': 0, 'parked_vehicles': 0, 'start_paused': True}
        self.ros = ros
        self.status = ros.listen(CarlaStatus, topics.STATUS)
        self.clock = ros.listen(Clock, '/clock')
        self.vehicle_status = ros.listen(CarlaEgoVehicleStatus, topics.vehicle_status(ROLE))
        self.odometry = ros.listen(Odometry, topics.odometry(ROLE))
        self.images = ros.listen(Image, topics.image(ROLE, 'camera'))
        self.camera_info = ros.listen(CameraInfo, topics.camera_info(ROLE, 'camera'))
        self.speedometer = ros.listen(Float32, topics.of(ROLE, 'speedometer'))
        self.collisions = ros.listen(CarlaCollisionEvent, topics.collision(ROLE))
        self.invasions = ros.listen(CarlaLaneInvasionEvent, topics.lane_invasion(ROLE))
        self.run_state = ros.talk(CarlaControl, topics.CONTROL)
        self.control = ros.talk(CarlaEgoVehicleControl, topics.control(ROLE))
        self.manual = ros.talk(
            CarlaEgoVehicleControl, topics.of(ROLE, 'vehicle_control_cmd_manual')
        )
        self.pose = ros.talk(Pose, topics.of(ROLE, 'control/set_transform'))
        self.velocity = ros.talk(Twist, topics.of(ROLE, 'control/set_target_velocity'))
        self.bridge = ros.make(SimBridgeNode, **(settings | parameters))
        self.world = self.bridge._world
        ros.spin_until_matched()
        ros.spin_until(lambda: not self.bridge._publisher._running, 'paused')

    def order(self, *commands):
        """Send PLAY, PAUSE or STEP_ONCE."""
        for command in commands:
            self.run_state.publish(CarlaControl(command=command))

    def begin_step(self):
        """Ask for one frame, and wait until all of it has been seen."""
        frames, since, frame = len(self.odometry), len(self.status), self.world.frame
        self.order(CarlaControl.STEP_ONCE)
        self.ros.spin_until(
            lambda: (
                len(self.odometry) > frames
                and any(m.frame > frame for m in self.status[since:])
                and self.is_complete()
            ),
            'a frame',
        )

    def end_step(self, **control):
        """Answer the frame, and wait until the bridge has acknowledged it."""
        self.control.publish(CarlaEgoVehicleControl(**control))
        self.ros.spin_until(self.is_idle, 'acknowledged')

    def step(self, **control):
        """One clean cycle of the strict lockstep."""
        self.begin_step()
        self.end_step(**control)

    def is_idle(self):
        return bool(self.status) and not self.status[-1].synchronous_mode_running

    def is_complete(self):
        frame = stamp_ns(self.odometry[-1].header.stamp)
        each = (self.clock, self.vehicle_status, self.speedometer)
        images_due = len(self.odometry) // self.bridge._params.camera_period_frames
        return (
            stamp_ns(self.clock[-1].clock) == frame
            and all(len(heard) == len(self.odometry) for heard in each)
            and len(self.images) >= images_due
            and len(self.camera_info) == len(self.images)
        )

    def put(self, x_m, y_m, yaw_rad):
        """Teleport the car."""
        pose = Pose()
        pose.position.x, pose.position.y = x_m, y_m
        pose.orientation.z, pose.orientation.w = math.sin(yaw_rad / 2), math.cos(yaw_rad / 2)
        self.pose.publish(pose)
        self.ros.spin_until(lambda: self.world.ego.state.x_m == x_m, 'teleported')

    def push(self, speed_mps):
        """Give the car a speed."""
        twist = Twist()
        twist.linear.x = speed_mps
        self.velocity.publish(twist)
        self.ros.spin_until(lambda: self.world.ego.state.speed_mps == speed_mps, 'pushed')

    def flags(self, since=0):
        """Frame and running flag of each status."""
        return [(m.frame, m.synchronous_mode_running) for m in self.status[since:]]


def now_s():
    return time.monotonic()


@pytest.fixture
def bench(ros):
    return Bench(ros)


def override(bench, value):
    """Turn the manual override on or off, as TRANSIENT_LOCAL publisher."""
    publisher = bench.ros.talk(
        Bool, topics.of(ROLE, 'vehicle_control_manual_override'), qos=LATCHED
    )
    publisher.publish(Bool(data=value))
    bench.ros.spin_until(lambda: bench.bridge._vehicles[ROLE].manual_override is value, 'override')


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

    def test_nothing_else(self, bench):
        ours = {p.topic_name for p in bench.bridge.publishers}
        assert ours - set(PUBLISHED) == {'/diagnostics', '/parameter_events'}
        assert {s.topic_name for s in bench.bridge.subscriptions} == set(SUBSCRIBED)

    def test_role_and_camera_names(self, ros):
        bridge = ros.make(SimBridgeNode, role_names=['hero'], camera_id='rgb', start_paused=True)
        names = {p.topic_name for p in bridge.publishers}
        assert {'/carla/hero/odometry', '/carla/hero/rgb/image'} <= names

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
        expected = bench.world.ego.vehicle_info.wheels[0].max_steer_angle
        assert info[0].wheels[0].max_steer_angle == pytest.approx(expected, rel=1e-6)
        assert info[0].mass > 500.0
        assert world[0].map_name == bench.world.map.name
        assert '<OpenDRIVE>' in world[0].opendrive

    def test_infos_are_published_once(self, ros, bench):
        info = ros.listen(CarlaEgoVehicleInfo, topics.vehicle_info(ROLE), LATCHED)
        world = ros.listen(CarlaWorldInfo, topics.WORLD_INFO, LATCHED)
        for _ in range(3):
            bench.step()
        ros.spin_until(lambda: info and world, 'both')
        assert (len(info), len(world)) == (1, 1)

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
        assert np.array_equal(places[0], places[-1]) == bench.world.ego.route.closed
        state = bench.world.ego.state
        assert np.hypot(*(places[0] - (state.x_m, state.y_m))) < 1.0
        q = path[0].poses[5].pose.orientation
        ahead = places[6] - places[4]
        assert yaw_from_quaternion(q.x, q.y, q.z, q.w) == pytest.approx(np.arctan2(*ahead[::-1]))

    def test_waypoints_can_be_left_to_route_node(self, ros):
        bridge = ros.make(SimBridgeNode, map='oval', waypoints=False, start_paused=True)
        assert topics.waypoints(ROLE) not in {p.topic_name for p in bridge.publishers}


class TestFrame:
    def test_order_on_the_wire(self, bench, monkeypatch):
        sent = spied(bench.bridge._publisher, monkeypatch)
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
        assert (first.throttle, first.brake) == (0.0, 0.0)  # nobody had spoken yet
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


def spied(bridge_publisher, monkeypatch):
    """Return a list of topics that grows with each message of the bridge."""
    sent = []
    for part in (bridge_publisher, *bridge_publisher._vehicles):
        for publisher in vars(part).values():
            if isinstance(publisher, Publisher):
                monkeypatch.setattr(publisher, 'publish', spy(publisher, sent))
    return sent


def spy(publisher, sent):
    publish = publisher.publish

    def noted(msg):
        sent.append(publisher.topic_name)
        publish(msg)

    return noted


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
        assert np.array_equal(pixels, bench.world.render())
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
    def test_a_rate_that_does_not_divide_is_refused(self, ros, rate_hz):
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

    def test_bad_transform_is_refused(self, ros, bench, capfd):
        x_m = bench.world.ego.state.x_m
        bench.pose.publish(Pose(orientation=quaternion(0.0)))
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'refused')
        pose = Pose(orientation=quaternion(1.0))
        pose.position.x = math.nan
        bench.pose.publish(pose)
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 2, 'refused')
        assert bench.world.ego.state.x_m == x_m
        assert 'control/set_transform refused (1 so far): orientation' in capfd.readouterr().err

    def test_target_velocity(self, bench):
        bench.push(6.0)
        bench.step()
        assert bench.odometry[-1].twist.twist.linear.x == pytest.approx(6.0, abs=0.3)

    def test_bad_target_velocity_is_refused(self, ros, bench):
        twist = Twist()
        twist.linear.x = math.inf
        bench.velocity.publish(twist)
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'refused')
        assert bench.world.ego.state.speed_mps == 0.0

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
        assert bench.bridge._vehicles[ROLE].manual_override is False

    @pytest.mark.parametrize('field', ['throttle', 'steer', 'brake'])
    @pytest.mark.parametrize('value', [math.nan, math.inf])
    def test_control_that_is_not_finite_is_refused(self, ros, capfd, field, value):
        bench = Bench(ros)
        bench.begin_step()
        bench.control.publish(CarlaEgoVehicleControl(**{field: value}))
        ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'refused')
        assert 'must be finite' in capfd.readouterr().err
        assert not bench.is_idle()  # the frame is still unanswered
        bench.end_step(brake=0.5)
        bench.step()
        assert bench.vehicle_status[-1].control.brake == 0.5


class TestEvents:
    @pytest.mark.parametrize('others', [{'parked_vehicles': 6}, {'traffic_leader': 'standing'}])
    def test_collision_with_another_vehicle(self, ros, others):
        bench = Bench(ros, **others)
        world = bench.world
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
        state = bench.world.ego.state
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

    def test_nobody_asked_nobody_is_told(self, ros):
        bench = Bench(ros, traffic_vehicles=5)
        assert topics.ACTOR_LIST not in dict(bench.bridge.get_topic_names_and_types())


def quaternion(w):
    from geometry_msgs.msg import Quaternion

    return Quaternion(x=0.0, y=0.0, z=0.0, w=w)


class TestProtocol:
    """PLAY, PAUSE and STEP_ONCE; the races are upstream's, and an agent must live with them."""

    def test_strict_lockstep(self, bench, capfd):
        bench.step()
        for n in range(2, 5):
            since = len(bench.status)
            bench.begin_step()
            assert not bench.is_idle()
            bench.end_step()
            assert bench.flags(since) == [(n, True), (n + 1, True), (n + 1, False)]
        assert bench.bridge._timeouts == bench.bridge._unexpected == 0
        assert 'WARN' not in capfd.readouterr().err

    def test_pause_and_a_burst_of_steps_is_one_tick(self, bench):
        self.play(bench)
        self.hold(bench, CarlaControl.PAUSE, *[CarlaControl.STEP_ONCE] * 3)
        frame = bench.world.frame
        bench.control.publish(CarlaEgoVehicleControl())
        bench.ros.spin_until(lambda: bench.world.frame == frame + 1, 'the tick')
        bench.end_step()
        assert bench.flags()[-1] == (frame + 1, False)

    def test_step_once_while_playing_is_one_more_tick(self, bench):
        self.play(bench)
        self.hold(bench, CarlaControl.STEP_ONCE)
        frame = bench.world.frame
        bench.control.publish(CarlaEgoVehicleControl())
        bench.ros.spin_until(lambda: bench.world.frame == frame + 1, 'the tick')
        bench.end_step()
        assert bench.flags()[-1] == (frame + 1, False)

    def test_newest_of_a_burst_counts(self, bench):
        self.play(bench)
        self.hold(
            bench, CarlaControl.STEP_ONCE, CarlaControl.PLAY, CarlaControl.PLAY, CarlaControl.PAUSE
        )
        frame = bench.world.frame
        bench.end_step()
        assert bench.flags()[-1] == (frame, False)

    def test_pause_while_paused_says_nothing(self, bench):
        bench.step()
        since = len(bench.status)
        bench.order(CarlaControl.PAUSE, CarlaControl.PAUSE)
        bench.step()
        assert [running for _, running in bench.flags(since)] == [True, True, False]

    def test_early_reply_shifts_every_later_frame(self, bench, monkeypatch):
        """R1: a command before the wait is booked, and lets the next frame pass unanswered."""
        bench.step()
        publish_frame = bench.bridge._publisher.publish_frame

        def answered_early():
            publish_frame()
            monkeypatch.undo()
            bench.bridge._on_control(ROLE, CarlaEgoVehicleControl())

        monkeypatch.setattr(bench.bridge._publisher, 'publish_frame', answered_early)
        bench.order(CarlaControl.STEP_ONCE)
        bench.ros.spin_until(lambda: bench.flags()[-1] == (3, False), 'not waited for')
        bench.begin_step()  # nobody answers this one
        bench.ros.spin_until(lambda: bench.flags()[-1] == (4, False), 'not waited for either')
        assert bench.bridge._timeouts == 0
        bench.step()  # from here on in order again

    def test_two_commands_per_frame_run_ahead(self, bench, monkeypatch):
        """R2: the second command of a frame, after the first was taken, releases the next."""
        bench.step()
        bench.begin_step()
        wait_for_turn = bench.bridge._run_state.wait_for_turn

        def second_command_first():
            monkeypatch.undo()
            bench.bridge._on_control(ROLE, CarlaEgoVehicleControl())
            return wait_for_turn()

        monkeypatch.setattr(bench.bridge._run_state, 'wait_for_turn', second_command_first)
        bench.order(CarlaControl.PLAY)
        bench.ros.spin_until(lambda: bench.bridge._run_state._queue.qsize() == 2, 'PLAY')
        bench.control.publish(CarlaEgoVehicleControl())
        bench.ros.spin_until(lambda: bench.world.frame == 5, 'a frame too many')
        assert (bench.bridge._timeouts, bench.bridge._unexpected) == (0, 1)

    def test_command_while_paused_spoils_the_next_wait(self, bench, capfd):
        bench.step()
        bench.control.publish(CarlaEgoVehicleControl())
        bench.ros.spin_until(lambda: bench.bridge._unexpected == 1, 'unexpected')
        assert f'Unexpected vehicle control command received from {ROLE}' in capfd.readouterr().err
        bench.begin_step()
        bench.ros.spin_until(bench.is_idle, 'acknowledged before any reply')
        assert bench.bridge._timeouts == 0

    def test_stop_while_paused_is_no_second_writer(self, bench, capfd):
        bench.step()
        bench.bridge._on_control(ROLE, CarlaEgoVehicleControl(brake=1.0))
        assert bench.bridge._unexpected == 0
        assert 'Unexpected' not in capfd.readouterr().err

    def test_without_a_command_one_tick_per_second(self, bench, monkeypatch, capfd):
        """R5: the bridge gives up after 1.0 s and goes on."""
        times_s = []
        publish_frame = bench.bridge._publisher.publish_frame

        def timed():
            publish_frame()
            times_s.append(now_s())

        monkeypatch.setattr(bench.bridge._publisher, 'publish_frame', timed)
        bench.order(CarlaControl.PLAY)
        bench.ros.spin_until(lambda: len(times_s) >= 3, 'three frames')
        assert np.diff(times_s).min() > 0.98
        assert np.diff(times_s).max() < 2.0
        assert bench.bridge._timeouts == 2
        expected = (
            "Timeout (1.0s) while waiting for vehicle control commands. Missing command from ['"
        )
        assert expected in capfd.readouterr().err

    def test_without_the_wait_option_commands_are_not_waited_for(self, ros):
        bench = Bench(ros, synchronous_mode_wait_for_vehicle_control_command=False)
        for _ in range(3):
            bench.order(CarlaControl.STEP_ONCE)
            frames = len(bench.odometry) + 1
            ros.spin_until(lambda n=frames: len(bench.odometry) == n and bench.is_idle(), 'frame')
        assert bench.bridge._timeouts == 0

    @pytest.mark.parametrize('value', [9, 3, -1, 127])
    def test_unknown_value_is_refused_and_later_ones_obeyed(self, bench, capfd, value):
        bench.step()
        bench.order(value)
        bench.ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'refused')
        expected = f'command must be 0 (PLAY), 1 (PAUSE) or 2 (STEP_ONCE), got {value}'
        assert expected in capfd.readouterr().err
        bench.step()
        bench.order(value, CarlaControl.PLAY)
        for n in range(3, 6):
            bench.ros.spin_until(lambda n=n: len(bench.odometry) >= n, 'playing')
            bench.control.publish(CarlaEgoVehicleControl())
        assert bench.bridge.wiring.rejections.count == 2

    def test_shut_down_while_paused_is_quick(self, bench):
        bench.step()
        started_s = now_s()
        bench.bridge.close()
        assert now_s() - started_s < 1.0
        assert not bench.bridge._loop.is_alive()

    def test_shut_down_while_waiting_for_a_command(self, bench):
        bench.begin_step()
        bench.bridge.close()
        assert not bench.bridge._loop.is_alive()

    def test_broken_loop_ends_the_process(self, bench, monkeypatch, capfd):
        monkeypatch.setattr(bench.world, 'tick', None)
        bench.order(CarlaControl.STEP_ONCE)
        bench.ros.spin_until(bench.bridge.finished.done, 'finished')
        assert bench.bridge.exit_status == 1
        assert 'the simulation loop broke' in capfd.readouterr().err

    @staticmethod
    def play(bench):
        """Play one frame, whose command the bridge then waits for."""
        bench.order(CarlaControl.PLAY)
        bench.ros.spin_until(lambda: bench.odometry, 'a frame')

    @staticmethod
    def hold(bench, *commands):
        """Send a burst that is in the queue before the loop looks at it again."""
        bench.order(*commands)
        queue = bench.bridge._run_state._queue
        bench.ros.spin_until(lambda: queue.qsize() == len(commands), 'the burst')


class TestDeterminism:
    def test_same_seed_same_commands_same_messages(self, ros):
        runs = []
        for _ in range(2):
            bench = Bench(ros, seed=7, spawn_index=-1, parked_vehicles=4)
            for i in range(12):
                bench.step(throttle=0.8, steer=0.1 * math.sin(i))
            images = [bytes(m.data) for m in bench.images]
            runs.append((images, bench.odometry[:], bench.vehicle_status[:], bench.clock[:]))
            ros.drop(bench.bridge)
            ros.drop(ros.peer)
            ros._peer = None
        assert runs[0] == runs[1]
        assert len(set(runs[0][0])) == 12

    def test_another_seed_is_another_drive(self, ros):
        first = Bench(ros, seed=1, spawn_index=-1)
        place = (first.world.ego.state.x_m, first.world.light_gain)
        second = ros.make(SimBridgeNode, seed=2, role_names=['b'], map='oval', start_paused=True)
        assert (second._world.ego.state.x_m, second._world.light_gain) != place


class TestSeveralVehicles:
    """One world, one clock, each vehicle with topics of its own."""

    ROLES = ('red', 'blue')

    def make(self, ros):
        bridge = ros.make(
            SimBridgeNode, role_names=list(self.ROLES), map='oval', start_paused=True
        )
        heard = {role: ros.listen(Odometry, topics.odometry(role)) for role in self.ROLES}
        status = ros.listen(CarlaStatus, topics.STATUS)
        talkers = {r: ros.talk(CarlaEgoVehicleControl, topics.control(r)) for r in self.ROLES}
        run_state = ros.talk(CarlaControl, topics.CONTROL)
        ros.spin_until_matched()
        return bridge, heard, status, talkers, run_state

    def test_frame_is_over_when_every_vehicle_has_its_command(self, ros):
        bridge, heard, status, talkers, run_state = self.make(ros)
        run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: all(len(h) == 1 for h in heard.values()), 'both odometries')
        assert len({stamp_ns(h[0].header.stamp) for h in heard.values()}) == 1
        talkers['blue'].publish(CarlaEgoVehicleControl(brake=1.0))
        ros.spin_until(lambda: bridge._commands._expected == ['red'], 'blue has answered')
        assert status[-1].synchronous_mode_running
        talkers['red'].publish(CarlaEgoVehicleControl(throttle=0.5))
        ros.spin_until(lambda: not status[-1].synchronous_mode_running, 'acknowledged')
        assert bridge._timeouts == bridge._unexpected == 0
        run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: all(len(h) == 2 for h in heard.values()), 'the next frame')
        red, blue = bridge._world.cars
        assert (red.control.throttle, blue.control.brake) == (0.5, 1.0)

    def test_one_vehicle_after_the_other_on_the_wire(self, ros, monkeypatch):
        bridge, heard, _, _, run_state = self.make(ros)
        sent = spied(bridge._publisher, monkeypatch)
        run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: all(heard.values()), 'both odometries')
        common = [topic for topic in ORDER if ROLE not in topic]
        each = [topic for topic in ORDER if ROLE in topic]
        expected = [topic.replace(ROLE, role) for role in self.ROLES for topic in each]
        assert sent[: 1 + len(common + expected)] == ['/carla/status', *common, *expected]

    def test_each_vehicle_has_its_own_topics(self, ros):
        info = {r: ros.listen(CarlaEgoVehicleInfo, topics.vehicle_info(r), LATCHED) for r in 'ab'}
        images = {r: ros.listen(Image, topics.image(r, 'camera')) for r in 'ab'}
        bridge = ros.make(
            SimBridgeNode,
            role_names=['a', 'b'],
            synchronous_mode_wait_for_vehicle_control_command=False,
        )
        ros.spin_until(lambda: all(info.values()) and all(images.values()), 'both vehicles')
        first, second = bridge._world.cars
        assert {r: (m[0].rolename, m[0].id) for r, m in info.items()} == {
            'a': ('a', first.actor_id),
            'b': ('b', second.actor_id),
        }
        assert {r: m[0].header.frame_id for r, m in images.items()} == {
            'a': 'a/camera',
            'b': 'b/camera',
        }
        pose = ros.talk(Pose, topics.of('b', 'control/set_transform'))
        ros.spin_until_matched()
        before = first.state.x_m, first.state.y_m
        moved = Pose()
        moved.position.x, moved.position.y, moved.orientation.w = 50.0, 2.0, 1.0
        pose.publish(moved)
        ros.spin_until(lambda: second.state.x_m == 50.0, 'teleported')
        assert (first.state.x_m, first.state.y_m) == before

    @pytest.mark.parametrize('roles', [['a', 'a'], ['']])
    def test_roles_are_unique_and_not_empty(self, ros, roles):
        with pytest.raises(ParameterError, match='role_names must be non-empty and unique, got'):
            ros.make(SimBridgeNode, role_names=roles)


class TestMannersOfUpstream:
    @staticmethod
    def ask(ros, name):
        client = ros.peer.create_client(Trigger, f'/carla_ros_bridge/{name}')
        ros.spin_until(client.service_is_ready, 'the service')
        future = client.call_async(Trigger.Request())
        ros.spin_until(future.done, 'the answer')
        assert future.result().success

    def test_vehicle_comes_and_goes_at_a_tick(self, ros):
        bench = Bench(ros, spawned=False, waypoints=False)
        bench.order(CarlaControl.STEP_ONCE)
        ros.spin_until(lambda: bench.clock and bench.is_idle(), 'a frame that awaits no command')
        self.ask(ros, 'spawn')
        assert not ros.peer.count_publishers(topics.odometry(ROLE))
        bench.order(CarlaControl.STEP_ONCE)  # R4: its command is not awaited in this one
        ros.spin_until(lambda: ros.peer.count_publishers(topics.odometry(ROLE)), 'the vehicle')
        ros.spin_until_matched()
        ros.spin_until(bench.is_idle, 'paused')
        assert not ros.peer.count_publishers(topics.waypoints(ROLE))
        for _ in range(2):
            heard = len(bench.odometry)
            bench.order(CarlaControl.STEP_ONCE)
            ros.spin_until(lambda heard=heard: len(bench.odometry) > heard, 'odometry')
            bench.end_step(throttle=1.0)
        assert bench.world.ego.control.throttle == 1.0
        self.ask(ros, 'destroy')
        assert ros.peer.count_publishers(topics.odometry(ROLE))
        bench.order(CarlaControl.STEP_ONCE)
        ros.spin_until(lambda: not ros.peer.count_publishers(topics.odometry(ROLE)), 'its end')

    def test_world_may_have_had_frames_before_its_bridge(self, ros):
        bench = Bench(ros, first_frame=5123)
        bench.step()
        assert bench.status[-1].frame == 5124 + 1
        assert stamp_ns(bench.clock[-1].clock) == bench.world.stamp_ns

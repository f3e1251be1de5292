# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent on the wire: one Twist per complete frame, and a stop whenever it ends."""

import math

from carla_msgs.msg import CarlaEgoVehicleInfo
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from harness.messages import (
    ROLE,
    SIDE_PX,
    changed,
    frames_of,
    image,
    odometry,
    path,
    stamp_of,
    time_of,
)
from harness.ros import lifecycle_state
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from nav_msgs.msg import Odometry, Path
import pytest
from rclpy.clock import ClockType
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from td3_agent.driving.stages import AGENT_STAGES, END_TO_END
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import fields_from_report
from td3_agent.nodes.liveliness import WAITING
from td3_agent.nodes.runtime import LATCHED, REPORTS
from td3_agent.nodes.td3_agent_node import Td3AgentNode

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
SUCCESS = TransitionCallbackReturn.SUCCESS


def figures_of(status):
    """Figures in milliseconds of a diagnostic status, by name."""
    return {p.key: float(p.value) for p in status.values if p.key.endswith('_ms')}


class Bench:
    """An agent and its peers."""

    def __init__(self, ros, *, route=True, image_qos=None, **parameters):
        self.ros = ros
        self.stamped = ros.listen(TwistStamped, topics.twist_stamped(ROLE))
        self.plain = ros.listen(Twist, topics.twist(ROLE))
        self.reports = ros.listen(DiagnosticArray, topics.agent_report(ROLE), REPORTS)
        self.waits = ros.listen(DiagnosticArray, topics.agent_waits(ROLE), WAITING)
        self.image_pub = ros.talk(Image, topics.image(ROLE, 'camera'), image_qos)
        self.odometry_pub = ros.talk(Odometry, topics.odometry(ROLE))
        self.info_pub = ros.talk(CarlaEgoVehicleInfo, topics.vehicle_info(ROLE), LATCHED)
        self.path_pub = ros.talk(Path, topics.waypoints(ROLE), LATCHED)
        if route:
            self.path_pub.publish(path())
        self.node = ros.make(Td3AgentNode, **({'driver': 'pure_pursuit'} | parameters))
        ros.spin_until_matched()

    def wait_until_ready(self):
        self.ros.spin_until(self.is_ready, 'ready')
        self.ros.spin_until_matched()
        return self

    def is_ready(self):
        return self.ros.peer.count_publishers(topics.agent_report(ROLE)) > 0

    def image(self, frame, grey=100, **what):
        self.image_pub.publish(changed(image(stamp_of(frame), grey), **what))

    def odometry(self, frame, y=0.0, speed=0.0):
        self.odometry_pub.publish(odometry(stamp_of(frame), y_m=y, speed_mps=speed))

    def frame(self, frame, grey=100, **motion):
        self.image(frame, grey=grey)
        self.odometry(frame, **motion)

    def wait(self, count):
        """Spin until both topics have ``count`` commands; return the newest."""
        self.ros.spin_until(
            lambda: len(self.stamped) >= count and len(self.plain) >= count, f'{count} answers'
        )
        assert len(self.stamped) == count
        return self.stamped[-1]

    def frames(self):
        return frames_of(self.stamped)

    def fields(self, count):
        self.ros.spin_until(lambda: len(self.reports) >= count, 'reports')
        return [fields_from_report(msg) for msg in self.reports]

    def rejected(self, count):
        self.ros.spin_until(
            lambda: self.node.wiring.rejections.count == count, f'{count} rejected'
        )


def wait_for(ros, waits, *missing):
    """Spin until the agent says that it waits for these."""
    ros.spin_until(lambda: waits and tuple(it.name for it in waits[-1].status) == missing, missing)
    assert not ros.peer.count_publishers(topics.agent_report(ROLE))


def is_stop(msg):
    return msg.twist == Twist()


@pytest.fixture
def bench(ros):
    return Bench(ros).wait_until_ready()


class TestFrames:
    @pytest.mark.parametrize('odometry_first', [False, True])
    def test_a_frame_is_answered_once_when_both_halves_are_in(self, bench, odometry_first):
        first, second = bench.image, bench.odometry
        if odometry_first:
            first, second = second, first
        for n in range(1, 6):
            first(n)
            bench.ros.executor.spin_once(timeout_sec=0.0)  # one half is not enough
            assert len(bench.stamped) == n - 1
            second(n)
            bench.wait(n)
        assert bench.frames() == [1, 2, 3, 4, 5]

    def test_answer_and_report_carry_the_stamp_of_the_observation(self, bench):
        bench.frame(7)
        answer = bench.wait(1)
        (fields,) = bench.fields(1)
        assert answer.header.stamp == bench.reports[0].header.stamp == time_of(7)
        assert answer.header.frame_id == ROLE
        assert bench.plain == [answer.twist]
        assert len(fields['observation_sha256']) == 64
        assert len(fields['action']) == 2
        assert fields['twist'] == [answer.twist.linear.x, answer.twist.angular.z]
        timestamps = [
            max(fields['image_prepared_ns'], fields['odometry_received_ns']),
            *(fields[name] for name in ('observed_ns', 'decided_ns', 'twist_published_ns')),
        ]
        assert timestamps == sorted(timestamps)
        assert fields['image_received_ns'] <= fields['image_prepared_ns']

    def test_stages_are_diagnosed(self, bench, diagnosed):
        bench.frame(1)
        bench.fields(1)
        bench.ros.spin_until(
            lambda: (said := diagnosed('td3_agent')) and figures_of(said), 'diagnosed'
        )
        figures = figures_of(diagnosed('td3_agent'))
        assert set(figures) == {
            f'{stage}_{p}_ms' for stage in (*AGENT_STAGES, END_TO_END) for p in ('p50', 'p99')
        }
        assert all(0.0 <= value < 1e6 for value in figures.values())


class TestRejections:
    @pytest.mark.parametrize(
        ('topic', 'picture', 'motion'),
        [('camera/image', {'data': bytes(12)}, {}), ('odometry', {}, {'speed': math.nan})],
    )
    def test_bad_half_of_a_frame(self, bench, topic, picture, motion, capfd):
        bench.image(1, **picture)
        bench.odometry(1, **motion)
        bench.rejected(1)
        bench.frame(2)
        bench.wait(1)
        assert bench.frames() == [2]
        assert f'{topic}: message rejected (1 so far):' in capfd.readouterr().err


class TestLifecycle:
    def test_every_transition(self, ros):
        bench = Bench(ros, autostart=False)
        node = bench.node
        assert lifecycle_state(node) == 'unconfigured'
        assert not inputs_of(node)
        assert node.trigger_configure() is SUCCESS
        assert lifecycle_state(node) == 'inactive'
        ros.spin_until_matched()
        bench.frame(1)
        ros.spin_until(lambda: node.link.has_route, 'the path')
        assert not bench.is_ready()
        assert node.trigger_activate() is SUCCESS
        assert lifecycle_state(node) == 'active'
        bench.wait_until_ready()
        bench.frame(2)
        bench.wait(1)
        assert bench.frames() == [2]
        assert node.trigger_deactivate() is SUCCESS
        assert lifecycle_state(node) == 'inactive'
        assert is_stop(bench.wait(2))
        ros.spin_until(lambda: not bench.is_ready(), 'withdrawn')
        assert node.trigger_cleanup() is SUCCESS
        assert lifecycle_state(node) == 'unconfigured'
        assert not inputs_of(node)
        assert node.trigger_shutdown() is SUCCESS
        assert lifecycle_state(node) == 'finalized'

    def test_through_the_services_and_twice(self, ros, bench):
        change = ros.peer.create_client(ChangeState, '/td3_agent/change_state')
        get = ros.peer.create_client(GetState, '/td3_agent/get_state')
        ros.spin_until(lambda: change.service_is_ready() and get.service_is_ready(), 'services')

        def ask(client, request):
            future = client.call_async(request)
            ros.spin_until(future.done, 'an answer')
            return future.result()

        def transit(number):
            return ask(change, ChangeState.Request(transition=Transition(id=number))).success

        assert ask(get, GetState.Request()).current_state.label == 'active'
        assert not transit(Transition.TRANSITION_ACTIVATE)
        assert not transit(Transition.TRANSITION_CONFIGURE)
        assert ask(get, GetState.Request()).current_state.label == 'active'
        bench.frame(1)
        bench.wait(1)
        assert transit(Transition.TRANSITION_DEACTIVATE)
        assert not transit(Transition.TRANSITION_DEACTIVATE)
        assert ask(get, GetState.Request()).current_state.label == 'inactive'
        assert transit(Transition.TRANSITION_ACTIVATE)

    def test_after_cleanup_it_waits_for_the_path_again(self, ros):
        bench = Bench(ros).wait_until_ready()
        node = bench.node
        node.trigger_deactivate()
        node.trigger_cleanup()
        ros.spin_until(lambda: not bench.is_ready(), 'withdrawn')
        node.trigger_configure()
        node.trigger_activate()
        wait_for(ros, bench.waits, 'route')  # the new driver has no route
        bench.wait_until_ready()
        bench.frame(1)
        assert not is_stop(bench.wait(1))

    @pytest.mark.parametrize('end', ['close', 'trigger_shutdown', 'trigger_deactivate'])
    def test_ends_with_a_stop(self, bench, end):
        bench.frame(1, speed=5.0)
        assert not is_stop(bench.wait(1))
        getattr(bench.node, end)()
        assert is_stop(bench.wait(2))
        assert bench.frames() == [1, 1]
        assert bench.plain[-1] == Twist()

    def test_rejected_policy_leaves_it_out_of_service(self, ros, diagnosed, tmp_path):
        (tmp_path / 'empty.safetensors').write_text('{}', 'utf-8')
        node = ros.make(Td3AgentNode, policy=str(tmp_path / 'empty.safetensors'))
        assert lifecycle_state(node) == 'unconfigured'
        said = diagnosed.wait('td3_agent')
        assert said.level == DiagnosticStatus.ERROR
        assert said.message.startswith('policy rejected: ')
        assert str(tmp_path) in said.message
        assert not inputs_of(node)
        assert not node.count_publishers(topics.twist(ROLE))

    def test_untrained_policy_says_so(self, ros, diagnosed, capfd):
        Bench(ros, driver='td3', policy='untrained').wait_until_ready()
        assert 'driver: TD3, UNTRAINED policy' in capfd.readouterr().err
        diagnosed.wait('td3_agent', 'ready, no frame yet: TD3, UNTRAINED policy')


def inputs_of(node):
    """Topics that the node drives by; before it drives, it looks for others that do."""
    return {subscription.topic_name for subscription in node.subscriptions} - {'/diagnostics'}


class TestReadiness:
    @pytest.mark.parametrize(
        'driver', [{'driver': 'pure_pursuit'}, {'driver': 'td3', 'policy': 'route'}]
    )
    def test_driver_of_routes_needs_waypoints(self, ros, driver):
        bench = Bench(ros, route=False, **driver)
        wait_for(ros, bench.waits, 'route')
        bench.path_pub.publish(path())
        bench.wait_until_ready()

    def test_a_withdrawn_route_is_waited_for_with_a_stop(self, ros, diagnosed):
        bench = Bench(ros).wait_until_ready()
        bench.frame(1)
        assert not is_stop(bench.wait(1))
        bench.path_pub.publish(path(0))
        ros.spin_until(lambda: not bench.is_ready(), 'not ready')
        bench.frame(2)  # an idle tick, or one that was under way
        assert is_stop(bench.wait(2))
        diagnosed.wait(
            'td3_agent', 'the route was withdrawn and the car is stopped', DiagnosticStatus.ERROR
        )
        bench.path_pub.publish(path())
        bench.wait_until_ready()
        bench.frame(3)
        assert not is_stop(bench.wait(3))

    def test_lane_policy_needs_none(self, ros):
        bench = Bench(ros, driver='td3', policy='lane', route=False).wait_until_ready()
        assert topics.waypoints(ROLE) not in inputs_of(bench.node)

    def test_needs_camera_odometry_and_a_listener(self, ros):
        ros.talk(Path, topics.waypoints(ROLE), LATCHED).publish(path())
        waits = ros.listen(DiagnosticArray, topics.agent_waits(ROLE), WAITING)
        ros.make(Td3AgentNode, driver='pure_pursuit')
        wait_for(ros, waits, 'camera', 'odometry', 'gate')
        ros.talk(Image, topics.image(ROLE, 'camera'))
        wait_for(ros, waits, 'odometry', 'gate')
        ros.talk(Odometry, topics.odometry(ROLE))
        wait_for(ros, waits, 'gate')
        ros.listen(TwistStamped, topics.twist_stamped(ROLE))
        ros.spin_until(lambda: ros.peer.count_publishers(topics.agent_report(ROLE)), 'ready')

    def test_topics_can_be_named(self, ros):
        node = ros.make(
            Td3AgentNode,
            driver='pure_pursuit',
            role_name='hero',
            camera_id='rgb',
            odometry_topic='/odom',
        )
        assert inputs_of(node) == {
            '/carla/hero/rgb/image',
            '/odom',
            '/carla/hero/vehicle_info',
            '/carla/hero/waypoints',
        }
        other = ros.make(Td3AgentNode, driver='pure_pursuit', image_topic='/cam', role_name='b')
        assert '/cam' in inputs_of(other)

    def test_best_effort_camera(self, ros):
        bench = Bench(ros, image_qos=BEST_EFFORT, camera_reliability='best_effort')
        bench.wait_until_ready()
        bench.frame(1)
        bench.wait(1)

    def test_qualities_of_service(self, ros, bench):
        (info,) = ros.peer.get_subscriptions_info_by_topic(topics.image(ROLE, 'camera'))
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        for topic in (topics.twist(ROLE), topics.twist_stamped(ROLE)):
            (info,) = ros.peer.get_publishers_info_by_topic(topic)
            assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
            assert info.qos_profile.durability == DurabilityPolicy.VOLATILE
        (info,) = ros.peer.get_subscriptions_info_by_topic(topics.vehicle_info(ROLE))
        assert info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL
        assert bench.node.get_name() == 'td3_agent'


class TestFreeRunning:
    def test_timer_is_steady_and_20_hz(self, ros):
        bench = Bench(ros, mode='free_running')
        (timer,) = (t for t in bench.node.timers if t.timer_period_ns == 50_000_000)
        assert timer.clock.clock_type == ClockType.STEADY_TIME

    def test_silent_camera_is_named(self, ros, diagnosed):
        """Its topic has a publisher, which publishes nothing."""
        bench = Bench(ros, mode='free_running')
        bench.wait_until_ready()
        image, motion = topics.image(ROLE, 'camera'), topics.odometry(ROLE)
        diagnosed.wait('td3_agent', f'no image yet on {image}, no odometry yet on {motion}')
        diagnosed.wait('td3_agent: loop', 'no frames')
        bench.odometry(1)
        ros.spin_until(
            lambda: 'odometry' not in diagnosed('td3_agent').message, 'odometry has arrived'
        )
        diagnosed.wait('td3_agent', f'no image yet on {image}')
        bench.frame(2, speed=5.0)
        diagnosed.wait('td3_agent: loop', 'the loop drives as it should')

    def test_same_frame_same_command_then_a_stop(self, ros, diagnosed):
        bench = Bench(ros, mode='free_running', max_frame_age_s=0.2, rate_hz=100.0)
        bench.wait_until_ready()
        assert not bench.stamped
        bench.frame(1, y=1.0, speed=5.0)
        ros.spin_until(lambda: bench.stamped and is_stop(bench.stamped[-1]), 'a stop')
        driving = [msg for msg in bench.stamped if not is_stop(msg)]
        assert len(driving) >= 3
        assert all(msg == driving[0] for msg in driving)
        assert set(bench.frames()) == {1}
        assert len(bench.fields(1)) == 1  # the policy was asked once
        diagnosed.wait('td3_agent', 'the newest frame is too old')
        count = len(bench.stamped)
        ros.spin_until(lambda: len(bench.stamped) >= count + 3, 'it goes on stopping')
        assert all(is_stop(msg) for msg in bench.stamped[count:])
        bench.frame(2, y=-1.0, speed=5.0)
        ros.spin_until(lambda: not is_stop(bench.stamped[-1]), 'driving again')
        assert bench.frames()[-1] == 2
        diagnosed.wait('td3_agent', 'driving: pure pursuit')


class TestLoop:
    """A loop that does not drive, or not as trained, is not said to be fine."""

    def test_slow_camera_of_another_kind_is_reported(self, ros, diagnosed):
        bench = Bench(ros, driver='td3', policy='lane', route=False)
        lens = ros.talk(CameraInfo, topics.camera_info(ROLE, 'camera'))
        bench.wait_until_ready()
        focal_px = SIDE_PX / 2.0 / math.tan(math.radians(55.0))
        lens.publish(CameraInfo(width=SIDE_PX, height=SIDE_PX, k=[focal_px, *[0.0] * 8]))
        for n in range(1, 31):
            bench.frame(2 * n)
            bench.wait(n)
            bench.odometry(2 * n + 1)
        diagnosed.wait('td3_agent', 'images come at')
        said, part = diagnosed('td3_agent'), diagnosed('td3_agent: loop')
        assert said.level == part.level == DiagnosticStatus.WARN
        assert said.message == part.message
        for words in (
            'every second frame has no image: camera 10 Hz, bridge 20 Hz; set sensor_tick',
            'images come at 10 Hz, the policy was trained at 20 Hz',
            f'a camera of 160x120 90 deg, got {SIDE_PX}x{SIDE_PX} 110 deg',
        ):
            assert words in said.message

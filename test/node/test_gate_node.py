# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The gate on the wire: one command per frame, and a full brake when in doubt."""

import itertools
import math
import time

from carla_msgs.msg import (
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
)
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, TwistStamped
from harness.messages import (
    ROLE,
    frames_of,
    odometry,
    stamp_of,
    time_of,
    twist,
    vehicle_info,
)
from nav_msgs.msg import Odometry
import pytest
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header

from td3_agent.driving.command import FULL_BRAKE
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import (
    control_from_message,
    fields_from_report,
)
from td3_agent.nodes.gate_node import GateNode
from td3_agent.nodes.runtime import LATCHED, REPORTS

SHORT_S = 0.05  # a deadline that tests wait for
LONG_S = 0.9  # one that they do not


class Bench:
    """A gate and its peers."""

    def __init__(self, ros, *, info=True, **parameters):
        self.ros = ros
        self.commands = ros.listen(CarlaEgoVehicleControl, topics.control(ROLE))
        self.reports = ros.listen(DiagnosticArray, topics.gate_report(ROLE), REPORTS)
        self.clock_pub = ros.talk(Clock, '/clock')
        self.ended_pub = ros.talk(Header, topics.step_ended(ROLE))
        self.odometry_pub = ros.talk(Odometry, topics.odometry(ROLE))
        self.stamped_pub = ros.talk(TwistStamped, topics.twist_stamped(ROLE))
        self.plain_pub = ros.talk(Twist, topics.twist(ROLE))
        self.info_pub = ros.talk(CarlaEgoVehicleInfo, topics.vehicle_info(ROLE), LATCHED)
        if info:
            self.tell_info()
        self.node = ros.make(GateNode, **({'deadline_s': LONG_S, 'silence_s': 60.0} | parameters))
        self.gate = self.node.gate
        ros.spin_until_matched()
        ros.spin_until(lambda: (self.gate.geometry is not None) == info, 'vehicle_info')
        ros.spin_until(lambda: ros.peer.count_publishers(topics.gate_report(ROLE)), 'ready')
        ros.spin_until_matched()

    def tell_info(self):
        self.info_pub.publish(vehicle_info())

    def clock(self, frame):
        self.clock_pub.publish(Clock(clock=time_of(frame)))

    def odometry(self, frame, speed_mps=0.0):
        self.odometry_pub.publish(odometry(stamp_of(frame), speed_mps=speed_mps))

    def twist(self, frame, linear_x=0.0, angular_z=0.0):
        msg = TwistStamped(twist=twist(linear_x, angular_z))
        msg.header.stamp = time_of(frame)
        self.stamped_pub.publish(msg)

    def end_step(self, frame):
        """Say that the bridge has ended the step of a frame."""
        self.ended_pub.publish(Header(stamp=time_of(frame)))

    def drive(self, frame):
        """Say all that a frame needs to be driven."""
        self.clock(frame)
        self.odometry(frame, 2.0)
        self.twist(frame, 6.0)

    def move(self, frame, speed_mps):
        """Say how the car moves, and wait until a freely running gate knows."""
        on_state, known = self.gate.on_state, []
        self.gate.on_state = lambda *what: known.append(on_state(*what))
        self.odometry(frame, speed_mps)
        self.ros.spin_until(lambda: known, 'odometry')
        self.gate.on_state = on_state

    def wait(self, count):
        """Spin until there are ``count`` commands; return the newest."""
        self.ros.spin_until(lambda: len(self.commands) >= count, f'{count} commands')
        assert len(self.commands) == count
        return self.commands[-1]

    def frames(self):
        """Number of the frame that each command answers."""
        return frames_of(self.commands)

    def outcomes(self, count):
        """Outcome of each frame, as reported."""
        self.ros.spin_until(lambda: len(self.reports) >= count, 'reports')
        return [fields_from_report(msg)['outcome'] for msg in self.reports]

    def counted(self, **wanted):
        """Spin until the gate has counted so many."""
        counts = self.gate.counts
        self.ros.spin_until(
            lambda: all(getattr(counts, name) == n for name, n in wanted.items()), str(wanted)
        )


def is_full_brake(msg):
    return control_from_message(msg) == FULL_BRAKE


class TestLockstep:
    @pytest.mark.parametrize('order', ['cot', 'toc'])
    def test_one_command_whatever_comes_first(self, ros, order):
        bench = Bench(ros)
        says = {'c': bench.clock, 'o': bench.odometry, 't': lambda n: bench.twist(n, 5.0)}
        for n in range(1, 6):
            for who in order:
                says[who](n)
            command = bench.wait(n)
            assert command.throttle > 0.0
        assert bench.frames() == [1, 2, 3, 4, 5]
        assert bench.outcomes(5) == ['ok'] * 5

    def test_no_command_is_full_brake_at_the_deadline(self, ros):
        bench = Bench(ros, deadline_s=SHORT_S)
        for n in range(1, 4):
            sent_s = time.monotonic()
            bench.clock(n)
            bench.odometry(n, speed_mps=5.0)
            assert is_full_brake(bench.wait(n))
            assert time.monotonic() - sent_s > SHORT_S
        assert bench.frames() == [1, 2, 3]
        assert bench.outcomes(3) == ['stopped_no_command'] * 3

    def test_bad_odometry_is_no_odometry(self, ros):
        bench = Bench(ros, deadline_s=SHORT_S)
        bench.clock(1)
        bench.twist(1, 5.0)
        bench.odometry_pub.publish(odometry(stamp_of(1), speed_mps=math.nan))
        assert is_full_brake(bench.wait(1))
        ros.spin_until(lambda: bench.node.wiring.rejections.count == 1, 'rejected')
        assert bench.outcomes(1) == ['stopped_no_odometry']

    def test_impossible_stamps_are_rejected(self, ros):
        bench = Bench(ros)
        clock, odometry, stamped = Clock(), Odometry(), TwistStamped()
        clock.clock.sec = -1
        odometry.header.stamp.sec = -5
        odometry.pose.pose.orientation.w = 1.0
        stamped.header.stamp.nanosec = 1_000_000_000
        bench.clock_pub.publish(clock)
        bench.odometry_pub.publish(odometry)
        bench.stamped_pub.publish(stamped)
        ros.spin_until(lambda: bench.node.wiring.rejections.count == 3, 'all three rejected')
        assert not bench.commands


class TestConventions:
    def test_upstream_brakes_only_when_all_six_components_are_zero(self, ros):
        bench = Bench(ros, twist_convention='carla_twist_to_control', input='twist')
        bench.odometry(1)
        ros.spin_until(lambda: bench.gate.open_stamp_ns is not None, 'an open frame')
        msg = Twist()
        msg.linear.y = 1e-9
        bench.plain_pub.publish(msg)
        command = bench.wait(1)
        assert (command.brake, command.reverse) == (0.0, True)


class TestPlainTwist:
    def test_answers_the_open_frame(self, ros):
        bench = Bench(ros, input='twist')
        for n in range(1, 4):
            bench.odometry(n)
            ros.spin_until(lambda n=n: bench.gate.open_stamp_ns == stamp_of(n), 'open')
            bench.plain_pub.publish(twist(5.0))
            bench.wait(n)
        assert bench.frames() == [1, 2, 3]
        assert bench.stamped_pub.get_subscription_count() == 0

    def test_between_frames_it_is_dropped(self, ros):
        bench = Bench(ros, input='twist', deadline_s=SHORT_S)
        for _ in range(3):
            bench.plain_pub.publish(twist(5.0))
        bench.odometry(1)
        bench.wait(1)
        bench.plain_pub.publish(twist(5.0))
        bench.odometry(2)
        bench.wait(2)
        assert bench.frames() == [1, 2]


class TestFreeRunning:
    def test_silence_is_full_brake_until_a_command_arrives(self, ros, diagnosed):
        bench = Bench(ros, mode='free_running', deadline_s=SHORT_S)
        bench.move(1, 2.0)
        bench.twist(1, 6.0)
        ros.spin_until(lambda: len(bench.commands) >= 4, 'three brakes')
        assert bench.commands[0].throttle > 0.0
        assert all(is_full_brake(msg) for msg in bench.commands[1:])
        diagnosed.wait('gate', level=DiagnosticStatus.ERROR)
        bench.twist(2, 6.0)
        ros.spin_until(lambda: 'stopped_no_odometry' in bench.outcomes(1), 'its speed is unknown')
        frames = itertools.count(3)

        def drives():
            frame = next(frames)
            bench.odometry(frame, 2.0)
            bench.twist(frame, 6.0)
            return not is_full_brake(bench.commands[-1])

        ros.spin_until(drives, 'driving again')

    def test_plain_twist(self, ros):
        bench = Bench(ros, mode='free_running', input='twist')
        bench.move(1, 2.0)
        bench.plain_pub.publish(twist(6.0))
        assert bench.wait(1).throttle > 0.0


class TestSilence:
    """No frame arrives: the car does not keep its last command."""

    def test_stop_between_frames_is_the_answer_of_the_next_one(self, ros):
        """The bridge counts it as that: one more, and no frame is waited for any longer."""
        bench = Bench(ros, silence_s=SHORT_S)
        bench.drive(1)
        ros.spin_until(lambda: len(bench.commands) >= 2, 'the stop')
        bench.drive(2)
        ros.spin_until(lambda: bench.gate.open_stamp_ns == stamp_of(2), 'the next frame')
        bench.end_step(2)  # the bridge does not wait for it
        ros.spin_until(lambda: bench.gate.counts.in_advance == 1, 'the answer in advance')
        bench.drive(3)
        ros.spin_until(lambda: bench.frames()[-1] == 3, 'driving again')
        told = bench.outcomes(4)
        assert bench.frames() == [1] * (1 + told.count('stopped_silence')) + [3]
        assert told[:3] == ['ok', 'stopped_silence', 'stopped_in_advance']
        assert told[3] == 'ok'


class TestEnds:
    def test_closing_is_full_brake(self, ros):
        bench = Bench(ros)
        bench.odometry(1)
        bench.twist(1, 5.0)
        bench.wait(1)
        bench.node.close()
        assert is_full_brake(bench.wait(2))

    def test_closing_before_any_command_publishes_nothing(self, ros):
        bench = Bench(ros)
        bench.node.close()
        bench.drive(1)
        assert not is_full_brake(bench.wait(1))  # the first command

    def test_publisher(self, ros):
        Bench(ros)
        (info,) = ros.peer.get_publishers_info_by_topic(topics.control(ROLE))
        assert info.node_name == 'gate'
        assert info.topic_type == 'carla_msgs/msg/CarlaEgoVehicleControl'
        assert info.qos_profile.reliability == ReliabilityPolicy.RELIABLE
        assert info.qos_profile.durability == DurabilityPolicy.VOLATILE

    def test_odometry_topic_can_be_named(self, ros):
        ros.talk(Odometry, '/odom')
        node = ros.make(GateNode, odometry_topic='/odom', role_name='hero')
        assert {s.topic_name for s in node.subscriptions} == {
            '/odom',
            '/clock',
            '/carla/hero/gate/idle',
            '/carla/hero/gate/step_ended',
            '/carla/hero/agent/frame_report/alive',
            '/carla/hero/twist_stamped',
            '/carla/hero/vehicle_info',
        }

    def test_ready_only_when_every_frame_can_get_a_response(self, ros):
        node = ros.make(GateNode)
        ros.talk(Odometry, topics.odometry(ROLE))
        ros.spin_until(lambda: node.count_publishers(topics.odometry(ROLE)), 'odometry')
        heard = ros.listen(DiagnosticArray, '/diagnostics')  # at 1 Hz: it has looked often
        ros.spin_until(lambda: len(heard) > 1, 'diagnostics')
        assert not node.count_publishers(topics.gate_report(ROLE))
        ros.listen(CarlaEgoVehicleControl, topics.control(ROLE))
        ros.spin_until(lambda: node.count_publishers(topics.gate_report(ROLE)), 'ready')

    def test_diagnostics_name_the_fault_and_its_end(self, ros, diagnosed):
        bench = Bench(ros, deadline_s=SHORT_S)
        bench.odometry(1)
        diagnosed.wait('gate', 'last frame stopped_no_command, 1 so far', DiagnosticStatus.ERROR)
        bench.odometry(2)
        bench.twist(2, 1.0)
        diagnosed.wait('gate', 'every frame answered', DiagnosticStatus.OK)

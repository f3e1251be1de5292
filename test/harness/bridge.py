# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A bridge with its gates and agents that a test can make misbehave."""

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
)
from diagnostic_msgs.msg import DiagnosticArray
from harness.messages import ROLE, STEP_NS, odometry, stamp_of
from harness.stage import BridgeLoop
from nav_msgs.msg import Odometry
from rosgraph_msgs.msg import Clock

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message, time_from_ns
from td3_agent.nodes.runtime import REPORTS, steady_ns

PAUSE, STEP_ONCE = CarlaControl.PAUSE, CarlaControl.STEP_ONCE
AGENT_TIMESTAMPS = (
    'image_received_ns',
    'image_prepared_ns',
    'odometry_received_ns',
    'observed_ns',
    'decided_ns',
    'twist_published_ns',
)
GATE_TIMESTAMPS = ('twist_received_ns', 'gate_published_ns')


class Vehicle:
    """One role of the fake bridge, with its gate and its agent."""

    def __init__(self, ros, role, bridge, odometry_topic=None):
        self.role = role
        self.bridge = bridge
        self.newest = CarlaEgoVehicleControl()
        self.status_pub = ros.talk(CarlaEgoVehicleStatus, topics.vehicle_status(role))
        self.odometry_pub = ros.talk(Odometry, odometry_topic or topics.odometry(role))
        self.command_pub = ros.talk(CarlaEgoVehicleControl, topics.control(role))
        self.collision_pub = ros.talk(CarlaCollisionEvent, topics.collision(role))
        self.invasion_pub = ros.talk(CarlaLaneInvasionEvent, topics.lane_invasion(role))
        self.gate_pub = self.agent_pub = None
        ros.listen(CarlaEgoVehicleControl, topics.control(role), react=self.on_command)

    def start_gate(self, ros):
        self.gate_pub = ros.talk(DiagnosticArray, topics.gate_report(self.role), REPORTS)

    def start_agent(self, ros):
        self.agent_pub = ros.talk(DiagnosticArray, topics.agent_report(self.role), REPORTS)

    def on_command(self, msg):
        self.newest = msg
        self.bridge.on_command(self.role)

    def publish_frame(self, stamp):
        status = CarlaEgoVehicleStatus(control=self.newest)
        status.header.stamp = stamp
        self.status_pub.publish(status)
        self.odometry_pub.publish(odometry(self.bridge.loop.stamp_ns, speed_mps=3.0))

    def hold(self, stamp):
        """The gate's idle stop between frames."""
        command = CarlaEgoVehicleControl(brake=1.0)
        command.header.stamp = stamp
        self.command_pub.publish(command)
        self.gate_pub.publish(report_message(stamp, 'gate', {'outcome': 'stopped_silence'}))

    def answer(self, stamp, **control):
        """The gate's command for a frame, and the reports of gate and agent."""
        now_ns = steady_ns()
        command = CarlaEgoVehicleControl(**({'throttle': 0.5} | control))
        command.header.stamp = stamp
        self.command_pub.publish(command)
        if self.agent_pub:
            fields = {'action': [0.5, 0.0]} | dict.fromkeys(AGENT_TIMESTAMPS, now_ns)
            self.agent_pub.publish(report_message(stamp, 'agent', fields))
        if self.gate_pub:
            fields = {'outcome': 'ok'} | dict.fromkeys(GATE_TIMESTAMPS, now_ns)
            self.gate_pub.publish(report_message(stamp, 'gate', fields))


class FakeBridge:
    """The bridge's loop on ROS topics, with every part of a step open to a test."""

    def __init__(self, ros, roles=(ROLE,), *, spawned=True):
        self.ros = ros
        self.orders = []
        self.answering = True
        self.deaf = 0  # orders to come that are lost
        self.vehicles = {}
        self.restart(frame=1)
        self.status_pub = ros.talk(CarlaStatus, topics.STATUS)
        self.clock_pub = ros.talk(Clock, '/clock')
        ros.listen(CarlaControl, topics.CONTROL, react=self.on_order)
        if spawned:
            self.spawn(roles)

    def restart(self, frame):
        self.loop = BridgeLoop(
            self, self.vehicles, frame=frame, stamp_ns=stamp_of(frame), tick_ns=0
        )

    def spawn(self, roles=(ROLE,), odometry_topic=None):
        """Spawn vehicles; a bridge does so between two ticks, so never while it is paused."""
        assert PAUSE not in self.orders
        for role in roles:
            self.vehicles[role] = Vehicle(self.ros, role, self, odometry_topic)

    def start_drivers(self):
        for vehicle in self.vehicles.values():
            vehicle.start_gate(self.ros)
            vehicle.start_agent(self.ros)
        return self

    @property
    def now_ns(self):
        return steady_ns()

    @property
    def stamp(self):
        return time_from_ns(self.loop.stamp_ns)

    @property
    def steps(self):
        return self.orders.count(STEP_ONCE)

    def send(self, topic, content):
        if topic == 'clock':
            self.publish_frame()
        else:
            frame, running = content
            status = CarlaStatus(frame=frame, synchronous_mode=True)
            status.fixed_delta_seconds, status.synchronous_mode_running = STEP_NS / 1e9, running
            self.status_pub.publish(status)

    def publish_frame(self):
        self.clock_pub.publish(Clock(clock=self.stamp))
        for vehicle in self.vehicles.values():
            vehicle.publish_frame(self.stamp)
            if self.answering:
                vehicle.answer(self.stamp)

    def on_order(self, msg):
        self.orders.append(msg.command)
        if self.deaf:
            self.deaf -= 1
        else:
            self.loop.on_control('pause' if msg.command == PAUSE else 'step')
            self.loop.advance()

    def play(self):
        self.loop.on_control('play')
        self.loop.advance()

    def on_command(self, *roles):
        for role in roles:
            self.loop.on_command(role)
        self.loop.advance()

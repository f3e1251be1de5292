# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Relays topics between the embedded bridge and the nodes, and applies rules to their messages.

The bridge is started with these topics remapped to ``/upstream``. Messages stay serialised unless
a rule shifts their stamp.
"""

from functools import partial
import heapq
import itertools
import threading

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleStatus, CarlaStatus
from faults.rules import Channel
from harness.messages import CAMERA, ROLE
from harness.rig import BRIDGE
from nav_msgs.msg import Odometry
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock as ClockMsg
from sensor_msgs.msg import Image

from td3_agent.nodes import topics
from td3_agent.nodes.runtime import WakeUp, steady_ns

UPSTREAM = '/upstream'
ODOMETRY, IMAGE, CLOCK = topics.odometry(ROLE), topics.image(ROLE, CAMERA), '/clock'
VEHICLE_STATUS, STATUS, STEP = topics.vehicle_status(ROLE), topics.STATUS, topics.CONTROL
TYPES = {
    ODOMETRY: Odometry,
    IMAGE: Image,
    CLOCK: ClockMsg,
    STATUS: CarlaStatus,
    VEHICLE_STATUS: CarlaEgoVehicleStatus,
    STEP: CarlaControl,
}
TO_BRIDGE = {STEP}
DEEP = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
LOOK_S = 0.05
# As for nodes: the graph shows an endpoint a moment before it can receive.
LOOKS_IN_A_ROW = 4


def relay(rig, names):
    """Return an injector between the nodes of a rig and the bridges that it starts."""
    injector = Injector(names, rig.seed, rig.watcher.context)
    rig.watcher.executor.add_node(injector)
    rig.words[BRIDGE] = [word for name in names for word in ('-r', f'{name}:={UPSTREAM}{name}')]
    return injector


class Injector(Node):
    """Relays topics; one side of a topic opens once the other side exists."""

    def __init__(self, names, seed, context):
        super().__init__('td3_agent_fault_injector', context=context, enable_rosout=False)
        self._seed, self._round = seed, itertools.count()
        self._lock = threading.Lock()  # over channels: the test's thread replaces them
        self._channels = {topic: self._channel(topic, ()) for topic in names}
        self._sources, self._sinks = {}, {}
        self._looks = dict.fromkeys(names, 0)
        self._later, self._numbers = [], itertools.count()
        self._wake = WakeUp(self, self._send_due)
        for topic in names:  # the bridge's side first
            self._open_sink(topic) if topic in TO_BRIDGE else self._open_source(topic)
        self.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def rule(self, topic, *rules):
        """Replace the rules of one topic; return the counts of all topics up to now."""
        return self.rules({topic: rules})

    def rules(self, rules):
        """Replace the rules of these topics, all at once; return the counts up to now."""
        with self._lock:
            counts = {topic: dict(found.counts) for topic, found in self._channels.items()}
            for topic, found in rules.items():
                self._channels[topic] = self._channel(topic, found)
        return counts

    def counts(self):
        """Return the counts of each topic since its rules were replaced."""
        return self.rules({})

    def _channel(self, topic, rules):
        """Return a new channel with its own seed."""
        seed = f'{self._seed}:{next(self._round)}:{topic}'
        return Channel(rules, seed, partial(shifted, TYPES[topic]))

    def _open_source(self, topic):
        name = topic if topic in TO_BRIDGE else UPSTREAM + topic
        callback = partial(self._on_message, topic)
        self._sources[topic] = self.create_subscription(
            TYPES[topic], name, callback, DEEP, raw=True
        )

    def _open_sink(self, topic):
        name = UPSTREAM + topic if topic in TO_BRIDGE else topic
        self._sinks[topic] = self.create_publisher(TYPES[topic], name, DEEP)

    def _look(self):
        """Open the second side of a topic once its first side is stable."""
        for topic in self._looks:
            if topic in self._sinks and topic in self._sources:
                continue
            if topic in TO_BRIDGE:
                there = self._sinks[topic].get_subscription_count()
            else:
                there = self.count_publishers(UPSTREAM + topic)
            self._looks[topic] = self._looks[topic] + 1 if there else 0
            if self._looks[topic] >= LOOKS_IN_A_ROW:
                self._open_source(topic) if topic in TO_BRIDGE else self._open_sink(topic)
                self._send_due()

    def _on_message(self, topic, data):
        now_ns = steady_ns()
        with self._lock:
            due = self._channels[topic].take(data, now_ns)
        for due_ns, message in due:
            if due_ns <= now_ns and topic in self._sinks:
                self._sinks[topic].publish(message)
            else:
                heapq.heappush(self._later, (due_ns, next(self._numbers), topic, message))
                self._wake.at(self._later[0][0])

    def _send_due(self):
        waiting = []
        while self._later and self._later[0][0] <= steady_ns():
            item = heapq.heappop(self._later)
            if item[2] in self._sinks:
                self._sinks[item[2]].publish(item[3])
            else:
                waiting.append(item)  # until there is a sink
        self._wake.at(self._later[0][0] if self._later else None)
        for item in waiting:
            heapq.heappush(self._later, item)


def shifted(kind, data, shift_ns):
    """Return a serialised message with its stamp shifted, but not below 0."""
    msg = deserialize_message(data, kind)
    stamp = msg.clock if kind is ClockMsg else msg.header.stamp
    total_ns = max(stamp.sec * 10**9 + stamp.nanosec + shift_ns, 0)
    stamp.sec, stamp.nanosec = divmod(total_ns, 10**9)
    return serialize_message(msg)

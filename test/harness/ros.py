# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""ROS nodes within the process of a test."""

import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter

from td3_agent.nodes.runtime import RELIABLE, own_context

DEADLINE_S = 20.0  # far beyond what a busy machine needs; reached only by a failure
SPIN_S = 0.1


def lifecycle_state(node):
    """Return the name of a lifecycle node's state, for which rclpy has no public one."""
    return node._state_machine.current_state[1]


class Ros:
    """The nodes of one test, spun by the test itself."""

    def __init__(self, domain_id):
        self.domain_id = domain_id
        self.context = own_context(domain_id)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.nodes = []
        self._peer, self._apart = None, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def make(self, cls, *args, node_name=None, **parameters):
        """Return a node with these parameters, spun from now on."""
        overrides = [Parameter(name, value=value) for name, value in parameters.items()]
        words = ['--ros-args', '-r', f'__node:={node_name}'] if node_name else None
        node = cls(*args, context=self.context, parameter_overrides=overrides, cli_args=words)
        self.nodes.append(node)
        self.executor.add_node(node)
        return node

    def make_apart(self, cls, **parameters):
        """Return a node that a thread of its own spins: the others may sleep."""
        node = self.make(cls, **parameters)
        self.executor.remove_node(node)
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self._apart.append((executor, thread))
        return node

    def drop(self, node):
        """End one node as its program would."""
        if hasattr(node, 'close'):
            node.close()
        self.nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()
        if node is self._peer:
            self._peer = None

    @property
    def peer(self):
        """A plain node, the peer of the nodes under test."""
        if self._peer is None:
            self._peer = self.make(Node, 'peer')
        return self._peer

    def listen(self, kind, topic, qos=None, react=None):
        """Return a list that messages of a topic are appended to, in order of arrival."""
        heard = []

        def on_message(msg):
            heard.append(msg)
            if react is not None:
                react(msg)

        self.peer.create_subscription(kind, topic, on_message, qos or RELIABLE)
        return heard

    def talk(self, kind, topic, qos=None):
        """Return a publisher of the peer."""
        return self.peer.create_publisher(kind, topic, qos or RELIABLE)

    def within(self, condition, deadline_s):
        """Spin until ``condition()`` holds; return how long that took [s], None if too long."""
        begun_s = time.monotonic()
        while not condition():
            left_s = begun_s + deadline_s - time.monotonic()
            if left_s <= 0.0:
                return None
            self.executor.spin_once(timeout_sec=min(SPIN_S, left_s))
        return time.monotonic() - begun_s

    def spin_until(self, condition, what='', deadline_s=None):
        """Spin until ``condition()`` holds; fail with ``what`` at the deadline."""
        deadline_s = deadline_s or DEADLINE_S
        if self.within(condition, deadline_s) is None:
            pytest.fail(f'not within {deadline_s:g} s: {what or condition}', pytrace=True)

    def spin_until_matched(self):
        """Spin until all publishers and subscriptions of this test have found each other.

        Ends that do not fit each other (quality of service) would wait here for ever.
        """
        self.spin_until(lambda: not self.unmatched(), 'matched')

    @staticmethod
    def publisher_count(subscription):
        """How many publishers a subscription has matched; 1 with Humble, which has no count."""
        count = getattr(subscription, 'get_publisher_count', None)
        return 1 if count is None else count()

    def unmatched(self):
        """Return the topics whose two ends, both among these nodes, have not met yet."""
        publishers = [p for node in self.nodes for p in node.publishers]
        readers = [s for node in self.nodes for s in node.subscriptions]
        spoken = [p.topic_name for p in publishers]
        heard = [s.topic_name for s in readers]
        return [
            *(
                p.topic_name
                for p in publishers
                if p.get_subscription_count() < heard.count(p.topic_name)
            ),
            *(
                s.topic_name
                for s in readers
                if self.publisher_count(s) < spoken.count(s.topic_name)
            ),
        ]

    def close(self):
        """End every node."""
        for executor, thread in self._apart:
            executor.shutdown(timeout_sec=1.0)
            thread.join(DEADLINE_S)
        for node in reversed(self.nodes[:]):
            self.drop(node)
        self.executor.shutdown(timeout_sec=1.0)
        rclpy.shutdown(context=self.context)


class Diagnosed:
    """What nodes have said of themselves on /diagnostics: the newest status of each."""

    def __init__(self, ros):
        self._ros, self._newest = ros, {}
        ros.peer.create_subscription(DiagnosticArray, '/diagnostics', self._on_message, RELIABLE)

    def _on_message(self, msg):
        self._newest.update({status.name: status for status in msg.status})

    def __call__(self, name):
        """Return the newest status of a node or of its part, or None."""
        return self._newest.get(name)

    def wait(self, name, words='', level=None):
        """Spin until the newest status has these words, and this level; return it."""

        def is_said():
            status = self(name)
            fits = status is not None and level in {None, status.level}
            return fits and words in status.message

        self._ros.spin_until(is_said, f'{name}: {words}')
        return self(name)

    def faulty(self, name, *words):
        """Whether the newest status is not OK, and its message has all the words."""
        status = self(name)
        if status is None or status.level == DiagnosticStatus.OK:
            return False
        return all(word in status.message for word in words)

    def message(self, name):
        """Return what a node, or a part of it, said last; empty if nothing."""
        status = self(name)
        return status.message if status else ''

    def value(self, name, key):
        """Return a value of the newest status, or None."""
        status = self(name)
        return next((p.value for p in status.values if p.key == key), None) if status else None

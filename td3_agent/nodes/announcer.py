# SPDX-License-Identifier: Apache-2.0
"""A publisher of frame reports that appears only once its node is ready to answer frames.

The synchronizer takes the presence of this publisher as the sign that it may step: frame one
must not be lost because somebody's subscription was not matched yet.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType

from td3_agent.nodes import topics
from td3_agent.nodes.alive import sign_of_life
from td3_agent.nodes.conversions import report_message, time_from_ns
from td3_agent.nodes.qos import REPORTS

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

PERIOD_S = 0.1
# The graph shows a publisher as soon as it is heard of; it may take a moment more until that one
# has heard of us, and what it publishes in between is lost.
LOOKS_IN_A_ROW = 4


class Announcer:
    """Offers frame reports while its node is ready, and none before."""

    def __init__(self, node: Node, topic: str, is_ready: Callable[[], bool]) -> None:
        """Look every 0.1 s (steady clock) whether ``is_ready`` holds, until it holds for long."""
        self._node = node
        self._topic = topic
        self._is_ready = is_ready
        self._publisher = None
        self._looks_ready = 0
        self._life = sign_of_life(node, topics.alive(topic))
        self._timer = node.create_timer(
            PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )

    def report(self, stamp_ns: int, facts: dict[str, Any]) -> None:
        """Publish what there is to say of the frame ``stamp_ns`` [ns], if anybody can hear it."""
        if self._publisher is not None:
            message = report_message(time_from_ns(stamp_ns), self._node.get_name(), facts)
            self._publisher.publish(message)

    def withdraw(self) -> None:
        """Take the sign back: frames are not answered any more."""
        if self._publisher is not None:
            self._node.destroy_publisher(self._publisher)
            self._publisher = None
        self._looks_ready = 0
        self._timer.reset()

    def _look(self) -> None:
        """Announce once everything has been there for a while."""
        self._looks_ready = self._looks_ready + 1 if self._is_ready() else 0
        if self._looks_ready >= LOOKS_IN_A_ROW:
            self._timer.cancel()
            self._publisher = self._node.create_publisher(DiagnosticArray, self._topic, REPORTS)

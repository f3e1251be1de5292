# SPDX-License-Identifier: Apache-2.0
"""Readiness: frame reports and a sign of life that appear only when a node can answer frames.

The synchronizer takes the presence of both as the sign that it may step: frame one must not be
lost because a subscription was not matched yet. Until then the node may say what it waits for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType

from td3_agent.nodes import topics
from td3_agent.nodes.alive import WAITING, sign_of_life
from td3_agent.nodes.conversions import report_message, time_from_ns
from td3_agent.nodes.qos import REPORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.node import Node

PERIOD_S = 0.1
# The graph shows a publisher as soon as it is heard of; it may take a moment more until that one
# has heard of us, and what it publishes in between is lost.
LOOKS_IN_A_ROW = 4


class Announcer:
    """Offers frame reports while its node is ready, and none before."""

    def __init__(
        self,
        node: Node,
        topic: str,
        missing: Callable[[], Sequence[str] | None],
        waits_topic: str = '',
    ) -> None:
        """Look every 0.1 s (steady clock) what is missing, until nothing has been for a while.

        Args:
            node: that reports.
            topic: of its frame reports.
            missing: gives the names of what the node waits for; None while it is not at work.
            waits_topic: on which it says so, for those who can do something about it.
        """
        self._node = node
        self._topic = topic
        self._missing = missing
        self._waits_topic = waits_topic
        self._publisher = self._life = self._waits_pub = None
        self._waits: list[str] = []
        self._looks_ready = 0
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
        for publisher in (self._life, self._publisher):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._publisher = self._life = None
        self._say_waits([])
        self._looks_ready = 0
        self._timer.reset()

    def _look(self) -> None:
        """Announce once everything has been there for a while."""
        missing = self._missing()
        self._say_waits(missing or [])
        self._looks_ready = self._looks_ready + 1 if missing is not None and not missing else 0
        if self._looks_ready >= LOOKS_IN_A_ROW:
            self._timer.cancel()
            self._publisher = self._node.create_publisher(DiagnosticArray, self._topic, REPORTS)
            # Last: who is told of it has been told of the reports, and none of them is lost.
            self._life = sign_of_life(self._node, topics.alive(self._topic))

    def _say_waits(self, missing: Sequence[str]) -> None:
        """Say what is waited for, as long as anything is."""
        if not self._waits_topic or list(missing) == self._waits:
            return
        self._waits = list(missing)
        if not missing:
            self._node.destroy_publisher(self._waits_pub)
            self._waits_pub = None
            return
        if self._waits_pub is None:
            self._waits_pub = self._node.create_publisher(
                DiagnosticArray, self._waits_topic, WAITING
            )
        status = [DiagnosticStatus(name=name) for name in missing]
        self._waits_pub.publish(DiagnosticArray(status=status))

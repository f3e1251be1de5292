# SPDX-License-Identifier: Apache-2.0
"""Subscribes to a topic only while its messages are wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock, ClockType
from rclpy.qos import QoSProfile, ReliabilityPolicy

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node
    from rclpy.subscription import Subscription

# Matches every publisher; a lost message is followed by the next one.
ANY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
PERIOD_S = 1.0


class WhileWanted:
    """Takes what comes with every frame and seldom changes, such as camera_info."""

    def __init__(
        self,
        node: Node,
        kind: type[Any],
        topic: str,
        handler: Callable[[Any], None],
        wanted: Callable[[], bool],
    ) -> None:
        """Look once a second (steady clock) whether messages are ``wanted``."""
        self._node, self._wanted = node, wanted
        self._arguments = (kind, topic, handler, ANY)
        self._subscription: Subscription | None = None
        self._timer = node.create_timer(
            PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME)
        )
        self._look()

    def close(self) -> None:
        """Take no message any more."""
        self._node.destroy_timer(self._timer)
        self._drop()

    def _look(self) -> None:
        if not self._wanted():
            self._drop()
        elif self._subscription is None:
            self._subscription = self._node.create_subscription(*self._arguments)

    def _drop(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = None

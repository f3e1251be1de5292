# SPDX-License-Identifier: Apache-2.0
"""A sign of life without messages: the middleware tells when a process has died or hangs.

A process that was killed stays in the graph until its lease ends, and one that is stopped stays
there for good. The liveliness of a topic is asserted by the middleware of the process itself,
and its loss is known within :data:`LEASE_S`. Nothing need be published.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node
    from rclpy.publisher import Publisher

LEASE_S = 1.0
ALIVE = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=LEASE_S),
)
# The same with a message: the newest one is kept for those who come late.
WAITING = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=LEASE_S),
)


def sign_of_life(node: Node, topic: str) -> Publisher:
    """Return a publisher whose existence says that the process lives."""
    return node.create_publisher(DiagnosticArray, topic, ALIVE)


class LifeWatch:
    """Knows whether somebody who has given a sign of life has stopped doing so."""

    def __init__(
        self,
        node: Node,
        topic: str,
        qos: QoSProfile = ALIVE,
        on_message: Callable[[DiagnosticArray], None] | None = None,
    ) -> None:
        """Watch ``topic``; a middleware that cannot tell leaves it at the graph."""
        self._alive = self._not_alive = 0
        callbacks = SubscriptionEventCallbacks(liveliness=self._on_change)
        try:
            node.create_subscription(
                DiagnosticArray, topic, on_message or _ignore, qos, event_callbacks=callbacks
            )
        except UnsupportedEventTypeError:
            node.get_logger().info(f'no liveliness of {topic} with this middleware')

    @property
    def is_lost(self) -> bool:
        """Whether there was a sign of life, and none is left."""
        return self._not_alive > 0 and self._alive == 0

    def _on_change(self, info: object) -> None:
        self._alive = info.alive_count
        self._not_alive = info.not_alive_count


def _ignore(_: DiagnosticArray) -> None:
    """Nobody publishes here."""

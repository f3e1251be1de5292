# SPDX-License-Identifier: Apache-2.0
"""Looks at the ends of a node's topics, a few at a time, and says what does not fit.

A topic whose two ends do not fit each other is silent, and so is one that nobody publishes:
without this, a wrong type or quality of service looks like a dead camera.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy

from td3_agent.driving.endpoints import Endpoint, Finding, Heard, Interest, findings
from td3_agent.nodes.diagnostics import ACTIVE, INSTANCE, Status, instance_of
from td3_agent.nodes.qos import RELIABLE
from td3_agent.nodes.runtime import steady_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rclpy.node import Node
    from rclpy.qos import QoSProfile
    from rclpy.subscription import Subscription

UNKNOWN = '_NODE_NAME_UNKNOWN_'
PERIOD_S = 0.25
LOOKS = 8  # every topic is looked at once in so many periods: 2 s
GRACE_NS = 2_000_000_000  # a system that is just starting is not complete yet


def interest(  # noqa: PLR0913  what there is to say of a topic
    node: Node,
    kind: type[Any],
    topic: str,
    qos: QoSProfile,
    *,
    writes: bool,
    one_writer: bool = False,
    advice: str = '',
) -> Interest:
    """Return what ``node`` wants of a topic that it publishes or subscribes to."""
    end = Endpoint(
        node=node.get_fully_qualified_name(),
        type=type_name(kind),
        reliable=qos.reliability == ReliabilityPolicy.RELIABLE,
        latched=qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )
    return Interest(topic=topic, end=end, writes=writes, one_writer=one_writer, advice=advice)


def type_name(kind: type[Any]) -> str:
    """Return the name of a message type as the middleware tells it."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


def endpoint(info: Any) -> Endpoint:  # noqa: ANN401  rclpy's TopicEndpointInfo
    """Return what the middleware tells of one end of a topic."""
    name = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
    return Endpoint(
        node='' if UNKNOWN in name else name,
        type=info.topic_type,
        reliable=info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
        latched=info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


class Listener:
    """Hears on /diagnostics which nodes live; only while it is wanted."""

    def __init__(self, node: Node) -> None:
        """Listen with ``node``, not yet."""
        self._node = node
        self._subscription: Subscription | None = None
        self.since_ns: int | None = None
        self.heard = Heard(instance_of(node))

    def start(self) -> None:
        """Listen from now on."""
        if self._subscription is None:
            self.since_ns = steady_ns()
            self._subscription = self._node.create_subscription(
                DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE
            )

    def stop(self) -> None:
        """Listen no more."""
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = self.since_ns = None

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            values = {pair.key: pair.value for pair in status.values}
            if INSTANCE in values:
                active = values.get(ACTIVE, 'True') == 'True'
                name = f'/{status.name}'
                self.heard.note(name, values[INSTANCE], steady_ns(), active=active)


class Connections:
    """Watches the topics of one node."""

    def __init__(
        self,
        node: Node,
        interests: Callable[[], Sequence[Interest]],
        changed: Callable[[], None],
    ) -> None:
        """Look at all topics once in 2 s.

        Args:
            node: whose topics they are.
            interests: what it wants at the moment.
            changed: called after findings have changed.
        """
        self._node = node
        self._interests = interests
        self._changed = changed
        self._listener = Listener(node)
        self._found: dict[str, list[Finding]] = {}
        self._twins: set[str] = set()
        self._next = 0
        self._started_ns = steady_ns()
        node.create_timer(PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def status(self) -> Status:
        """Say what does not fit, all of it."""
        found = [finding for topic in self._found.values() for finding in topic]
        if not found:
            return Status('every topic has the ends that it needs')
        is_error = any(finding.is_error for finding in found)
        text = '; '.join(finding.text for finding in found)
        return Status(text, is_error=is_error, is_warning=not is_error)

    def _look(self) -> None:
        """Look at some of the topics."""
        wanted = self._interests()
        before = dict(self._found)
        self._forget_all_but({one.topic for one in wanted})
        for _ in range(-(-len(wanted) // LOOKS)):
            self._next = (self._next + 1) % len(wanted)
            self._look_at(wanted[self._next])
        if self._twins:
            self._listener.start()
        else:
            self._listener.stop()
        if self._found != before:
            self._changed()

    def _forget_all_but(self, topics: set[str]) -> None:
        for topic in self._found.keys() - topics:
            del self._found[topic]
        self._twins &= topics

    def _look_at(self, one: Interest) -> None:
        """Note what is wrong with one topic, after a while of grace for missing ends."""
        writers, readers = ends_of(self._node, one.topic)
        alive = self._listener.heard.is_alive(one.end.node, steady_ns())
        found = findings(one, writers, readers, living_twin=alive)
        if steady_ns() - self._started_ns < GRACE_NS:
            found = [finding for finding in found if finding.is_error]
        twins = sum(writer.node == one.end.node for writer in writers)
        (self._twins.add if one.writes and twins > 1 else self._twins.discard)(one.topic)
        if found:
            self._found[one.topic] = found
        else:
            self._found.pop(one.topic, None)


def ends_of(node: Node, topic: str) -> tuple[list[Endpoint], list[Endpoint]]:
    """Return publishers and subscriptions of a topic."""
    return (
        [endpoint(info) for info in node.get_publishers_info_by_topic(topic)],
        [endpoint(info) for info in node.get_subscriptions_info_by_topic(topic)],
    )

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A node's topics: checks input, watches both ends of each topic, publishes faults.

Without this, a wrong type or quality of service looks like a dead camera: the topic is silent.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from td3_agent.driving.endpoints import Endpoint, ExpectedEndpoint, Finding, LastSeen, findings
from td3_agent.driving.reports import Status
from td3_agent.nodes.diagnostics import ACTIVE, INSTANCE, Diagnostics, instance_of
from td3_agent.nodes.runtime import RELIABLE, steady_ns, steady_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rclpy.node import Node
    from rclpy.publisher import Publisher
    from rclpy.subscription import Subscription

UNKNOWN = '_NODE_NAME_UNKNOWN_'
LOOK_PERIOD_S = 0.25
LOOKS = 8  # periods in which every topic is checked once: 2 s
GRACE_NS = 2_000_000_000  # for missing ends after the start of a node
LOG_PERIOD_NS = 1_000_000_000
FRESH_NS = 3_000_000_000  # diagnostics show a rejection for this long
LONGEST_REASON = 300  # characters: the content of a message must not flood the log
WANTED_PERIOD_S = 1.0
# Matches every publisher; a lost message does not matter.
ANY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Wiring:
    """Creates a node's endpoints and diagnostics, so that every input is checked and watched.

    Attributes:
        rejections: messages that failed validation.
    """

    def __init__(
        self,
        node: Node,
        describe: Callable[[], Status],
        *,
        figures: Callable[[], Mapping[str, object]] = dict,
        parts: Mapping[str, Callable[[], Status]] | None = None,
        on_rejected: Callable[[str, object], None] = lambda *_: None,
    ) -> None:
        """Wire ``node``; create endpoints with :meth:`subscribe` and :meth:`publisher`.

        Args:
            node: whose topics they are.
            describe: as :class:`Diagnostics` takes it.
            figures: likewise.
            parts: likewise.
            on_rejected: called with topic and reason of each rejected message.
        """
        self._node = node
        self._expected: list[tuple[ExpectedEndpoint, Callable[[], str]]] = []  # and advice
        self._on_rejected = on_rejected
        self.rejections = Rejections(node, self._rejected)
        connections = Connections(node, self.expected, self.changed)
        inputs = {'inputs': self.rejections.status, 'connections': connections.status}
        self._diagnostics = Diagnostics(node, describe, figures, inputs | dict(parts or {}))

    def expected(self) -> list[ExpectedEndpoint]:
        """Return the endpoints that the node expects now, with current advice."""
        return [replace(one, advice=advice()) for one, advice in self._expected]

    def changed(self) -> None:
        """Publish diagnostics at once if they have changed."""
        self._diagnostics.changed()

    def expect(self, one: ExpectedEndpoint, advice: Callable[[], str] | None = None) -> None:
        """Watch the ends of a topic from now on; ``advice()`` is the current remedy."""
        self._expected.append((one, advice or (lambda: one.advice)))

    def subscribe(  # noqa: PLR0913  the settings of a subscription
        self,
        kind: type[Any],
        topic: str,
        handler: Callable[[Any], None],
        qos: QoSProfile = RELIABLE,
        *,
        exclusive: bool = False,
        advice: str = '',
        is_expected: bool = True,
    ) -> Subscription:
        """Return a subscription that rejects invalid messages.

        Args:
            kind: type of the messages.
            topic: name.
            handler: takes a message; raises ValueError to reject it.
            qos: quality of service.
            exclusive: more than one publisher is a fault.
            advice: what to do when there is no publisher; empty where none is needed.
            is_expected: whether the other end is watched.
        """
        if is_expected:
            about = {'exclusive': exclusive, 'advice': advice}
            self.expect(expected_endpoint(self._node, kind, topic, qos, writes=False, **about))
        guarded = self.rejections.guard(topic, handler)
        return self._node.create_subscription(kind, topic, guarded, qos)

    def publisher(
        self, kind: type[Any], topic: str, qos: QoSProfile = RELIABLE, *, advice: str = ''
    ) -> Publisher:
        """Return the publisher of an exclusive topic."""
        about = {'exclusive': True, 'advice': advice}
        self.expect(expected_endpoint(self._node, kind, topic, qos, writes=True, **about))
        return self._node.create_publisher(kind, topic, qos)

    def forget(self, topics: Sequence[str]) -> None:
        """Stop watching these topics."""
        self._expected = [it for it in self._expected if it[0].topic not in topics]

    def _rejected(self, topic: str, reason: object) -> None:
        self._on_rejected(topic, reason)
        self.changed()


# ---- Rejected messages --------------------------------------------------------------------------


@dataclass
class _TopicRejections:
    """Rejections of one topic; times are steady."""

    count: int = 0
    last_ns: int = 0
    logged_ns: int = -LOG_PERIOD_NS
    reason: str = ''  # that was logged last


class Rejections:
    """Counts, logs and reports the messages that a node rejects.

    Attributes:
        count: messages rejected so far, of all topics.
    """

    def __init__(
        self, node: Node, on_rejected: Callable[[str, object], None] = lambda *_: None
    ) -> None:
        self._node = node
        self._topics: dict[str, _TopicRejections] = {}
        self._on_rejected = on_rejected
        self.count = 0

    def guard(self, topic: str, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return a callback that rejects a message if ``handler`` raises ValueError."""
        return partial(self._handle, topic, handler)

    def reject(self, topic: str, reason: object) -> None:
        """Count a rejected message; log it, at most once a second per topic."""
        self.count += 1
        entry, now_ns = self._topics.setdefault(topic, _TopicRejections()), steady_ns()
        entry.count += 1
        entry.last_ns = now_ns
        if now_ns - entry.logged_ns >= LOG_PERIOD_NS:
            entry.reason, entry.logged_ns = str(reason)[:LONGEST_REASON], now_ns
            self._node.get_logger().warning(
                f'{topic}: message rejected ({entry.count} so far): {entry.reason}'
            )
        self._on_rejected(topic, reason)

    def status(self) -> Status:
        """Name recent rejections and the remedy, and all counts."""
        oldest_ns = steady_ns() - FRESH_NS
        recent = [
            f'{topic}: message rejected: {entry.reason} '
            f'(ros2 topic info -v {topic} names its publisher)'
            for topic, entry in self._topics.items()
            if entry.last_ns >= oldest_ns
        ]
        values: dict[str, object] = {topic: entry.count for topic, entry in self._topics.items()}
        if recent:
            return Status('; '.join(recent), is_warning=True, values=values)
        return Status('no message was rejected', values=values)

    def _handle(self, topic: str, handler: Callable[[Any], None], msg: Any) -> None:  # noqa: ANN401
        try:
            handler(msg)
        except ValueError as error:
            self.reject(topic, error)


# ---- Ends of topics -----------------------------------------------------------------------------


def expected_endpoint(  # noqa: PLR0913  the settings of an endpoint
    node: Node,
    kind: type[Any],
    topic: str,
    qos: QoSProfile,
    *,
    writes: bool,
    exclusive: bool = False,
    advice: str = '',
) -> ExpectedEndpoint:
    """Return the endpoint that ``node`` expects on a topic, with its own end."""
    end = Endpoint(
        node=node.get_fully_qualified_name(),
        type=type_name(kind),
        reliable=qos.reliability == ReliabilityPolicy.RELIABLE,
        latched=qos.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )
    return ExpectedEndpoint(
        topic=topic, end=end, writes=writes, exclusive=exclusive, advice=advice
    )


def type_name(kind: type[Any]) -> str:
    """Return the name of a message type as in the graph."""
    return f'{kind.__module__.split(".")[0]}/msg/{kind.__name__}'


def endpoint(info: Any) -> Endpoint:  # noqa: ANN401  rclpy's TopicEndpointInfo
    """Return one end of a topic as the graph shows it."""
    name = f'{info.node_namespace.rstrip("/")}/{info.node_name}'
    return Endpoint(
        node='' if UNKNOWN in name else name,
        type=info.topic_type,
        reliable=info.qos_profile.reliability != ReliabilityPolicy.BEST_EFFORT,
        latched=info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL,
    )


def ends_of(node: Node, topic: str) -> tuple[list[Endpoint], list[Endpoint]]:
    """Return publishers and subscriptions of a topic."""
    return (
        [endpoint(info) for info in node.get_publishers_info_by_topic(topic)],
        [endpoint(info) for info in node.get_subscriptions_info_by_topic(topic)],
    )


class Connections:
    """Checks the ends of one node's topics."""

    def __init__(
        self,
        node: Node,
        expected: Callable[[], Sequence[ExpectedEndpoint]],
        changed: Callable[[], None],
    ) -> None:
        """Check each topic every 2 s.

        Args:
            node: whose topics they are.
            expected: returns the endpoints that it expects now.
            changed: called after findings have changed.
        """
        self._node = node
        self._expected = expected
        self._changed = changed
        self._listener = Listener(node)
        self._found: dict[str, list[Finding]] = {}
        self._twins: set[str] = set()
        self._next = 0
        self._started_ns = steady_ns()
        steady_timer(node, LOOK_PERIOD_S, self._look)

    def status(self) -> Status:
        """Report all findings."""
        found = [finding for topic in self._found.values() for finding in topic]
        if not found:
            return Status('every topic has the publishers and subscribers that it needs')
        is_error = any(finding.is_error for finding in found)
        text = '; '.join(finding.text for finding in found)
        return Status(text, is_error=is_error, is_warning=not is_error)

    def _look(self) -> None:
        """Check the next few topics."""
        expected = self._expected()
        before = dict(self._found)
        self._forget_all_but({one.topic for one in expected})
        for _ in range(-(-len(expected) // LOOKS)):
            self._next = (self._next + 1) % len(expected)
            self._look_at(expected[self._next])
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

    def _look_at(self, one: ExpectedEndpoint) -> None:
        """Check one topic; a missing end is no fault within GRACE_NS."""
        writers, readers = ends_of(self._node, one.topic)
        alive = self._listener.last_seen.is_alive(one.end.node, steady_ns())
        found = findings(one, writers, readers, duplicate_is_alive=alive)
        if steady_ns() - self._started_ns < GRACE_NS:
            found = [finding for finding in found if finding.is_error]
        twins = sum(writer.node == one.end.node for writer in writers)
        (self._twins.add if one.writes and twins > 1 else self._twins.discard)(one.topic)
        if found:
            self._found[one.topic] = found
        else:
            self._found.pop(one.topic, None)


class Listener:
    """Collects from /diagnostics which nodes are alive, between start() and stop()."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._subscription: Subscription | None = None
        self.since_ns: int | None = None
        self.last_seen = LastSeen(instance_of(node))

    def start(self) -> None:
        if self._subscription is None:
            self.since_ns = steady_ns()
            self._subscription = self._node.create_subscription(
                DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE
            )

    def stop(self) -> None:
        if self._subscription is not None:
            self._node.destroy_subscription(self._subscription)
            self._subscription = self.since_ns = None

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status:
            values = {pair.key: pair.value for pair in status.values}
            if INSTANCE in values:
                active = values.get(ACTIVE, 'True') == 'True'
                name = f'/{status.name}'
                self.last_seen.note(name, values[INSTANCE], steady_ns(), active=active)


class WhileWanted:
    """Subscribes only while messages are wanted, to topics such as camera_info."""

    def __init__(
        self,
        node: Node,
        kind: type[Any],
        topic: str,
        handler: Callable[[Any], None],
        wanted: Callable[[], bool],
    ) -> None:
        """Check ``wanted()`` once a second (steady clock)."""
        self._node, self._wanted = node, wanted
        self._arguments = (kind, topic, handler, ANY)
        self._subscription: Subscription | None = None
        self._timer = steady_timer(node, WANTED_PERIOD_S, self._look)
        self._look()

    def close(self) -> None:
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

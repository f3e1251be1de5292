# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A node's topics: input is checked, both ends of each topic are looked at, faults are published.

A topic whose two ends do not fit each other is silent, and so is one without a publisher:
without this, a wrong type or quality of service looks like a dead camera.
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
LOOKS = 8  # every topic is looked at once in so many periods: 2 s
GRACE_NS = 2_000_000_000  # a system that is just starting is not complete yet
LOG_PERIOD_NS = 1_000_000_000
FRESH_NS = 3_000_000_000  # a rejection is told in diagnostics for so long
LONGEST_REASON = 300  # characters: a message must not flood the log with itself
WANTED_PERIOD_S = 1.0
# Matches every publisher; a lost message is followed by the next one.
ANY = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


class Wiring:
    """Makes a node's endpoints and its diagnostics, so that no input is unchecked or unwatched.

    Attributes:
        rejections: messages that were not used.
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
        """Wire ``node``; its endpoints are made with :meth:`subscribe` and :meth:`publisher`.

        Args:
            node: whose topics they are.
            describe: as :class:`Diagnostics` takes it.
            figures: likewise.
            parts: likewise.
            on_rejected: called with topic and reason of each message that was not used.
        """
        self._node = node
        self._expected: list[tuple[ExpectedEndpoint, Callable[[], str]]] = []  # and advice
        self._on_rejected = on_rejected
        self.rejections = Rejections(node, self._rejected)
        connections = Connections(node, self.expected, self.changed)
        inputs = {'inputs': self.rejections.status, 'connections': connections.status}
        self._diagnostics = Diagnostics(node, describe, figures, inputs | dict(parts or {}))

    def expected(self) -> list[ExpectedEndpoint]:
        """Return what the node expects of its topics at the moment."""
        return [replace(one, advice=advice()) for one, advice in self._expected]

    def changed(self) -> None:
        """Publish diagnostics at once if they have changed."""
        self._diagnostics.changed()

    def expect(self, one: ExpectedEndpoint, advice: Callable[[], str] | None = None) -> None:
        """Look at the ends of a topic from now on; ``advice`` gives what to do at the moment."""
        self._expected.append((one, advice or (lambda: one.advice)))

    def subscribe(  # noqa: PLR0913  what there is to say of a subscription
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
        """Return a subscription whose bad messages are rejected.

        Args:
            kind: type of the messages.
            topic: name.
            handler: takes a message; its ValueErrors are rejections.
            qos: quality of service.
            exclusive: more than one publisher is a fault.
            advice: what to do when there is no publisher; empty where none is needed.
            is_expected: whether the other end is looked at.
        """
        if is_expected:
            about = {'exclusive': exclusive, 'advice': advice}
            self.expect(expected_endpoint(self._node, kind, topic, qos, writes=False, **about))
        guarded = self.rejections.guard(topic, handler)
        return self._node.create_subscription(kind, topic, guarded, qos)

    def publisher(
        self, kind: type[Any], topic: str, qos: QoSProfile = RELIABLE, *, advice: str = ''
    ) -> Publisher:
        """Return the publisher of a topic that must have no other one."""
        about = {'exclusive': True, 'advice': advice}
        self.expect(expected_endpoint(self._node, kind, topic, qos, writes=True, **about))
        return self._node.create_publisher(kind, topic, qos)

    def forget(self, topics: Sequence[str]) -> None:
        """Expect nothing of these topics any more."""
        self._expected = [it for it in self._expected if it[0].topic not in topics]

    def _rejected(self, topic: str, reason: object) -> None:
        self._on_rejected(topic, reason)
        self.changed()


# ---- Messages that are not used -----------------------------------------------------------------


@dataclass
class _Topic:
    """What was rejected of one topic."""

    count: int = 0
    last_ns: int = 0
    told_ns: int = -LOG_PERIOD_NS
    told: str = ''  # the reason that was logged last


class Rejections:
    """Keeps a node alive and honest about input that its conversions reject.

    Attributes:
        count: messages rejected so far, of all topics.
    """

    def __init__(
        self, node: Node, on_rejected: Callable[[str, object], None] = lambda *_: None
    ) -> None:
        """Log through ``node``; ``on_rejected`` is called with topic and reason of each one."""
        self._node = node
        self._topics: dict[str, _Topic] = {}
        self._on_rejected = on_rejected
        self.count = 0

    def guard(self, topic: str, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return ``handler`` for a subscription to ``topic``; its ValueErrors are rejections."""
        return partial(self._handle, topic, handler)

    def reject(self, topic: str, reason: object) -> None:
        """Count one message that was not used; log it unless the topic's last is just told."""
        self.count += 1
        entry, now_ns = self._topics.setdefault(topic, _Topic()), steady_ns()
        entry.count += 1
        entry.last_ns = now_ns
        if now_ns - entry.told_ns >= LOG_PERIOD_NS:
            entry.told, entry.told_ns = str(reason)[:LONGEST_REASON], now_ns
            self._node.get_logger().warning(
                f'{topic} refused ({entry.count} so far): {entry.told}'
            )
        self._on_rejected(topic, reason)

    def status(self) -> Status:
        """Name what was rejected within the last seconds and what to do, and all counts."""
        oldest_ns = steady_ns() - FRESH_NS
        told = [
            f'{topic} refused: {entry.told} (ros2 topic info -v {topic} names its publisher)'
            for topic, entry in self._topics.items()
            if entry.last_ns >= oldest_ns
        ]
        values: dict[str, object] = {topic: entry.count for topic, entry in self._topics.items()}
        if told:
            return Status('; '.join(told), is_warning=True, values=values)
        return Status('every message was used', values=values)

    def _handle(self, topic: str, handler: Callable[[Any], None], msg: Any) -> None:  # noqa: ANN401
        try:
            handler(msg)
        except ValueError as error:
            self.reject(topic, error)


# ---- Ends of topics -----------------------------------------------------------------------------


def expected_endpoint(  # noqa: PLR0913  what there is to say of a topic
    node: Node,
    kind: type[Any],
    topic: str,
    qos: QoSProfile,
    *,
    writes: bool,
    exclusive: bool = False,
    advice: str = '',
) -> ExpectedEndpoint:
    """Return what ``node`` expects of a topic that it publishes or subscribes to."""
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


def ends_of(node: Node, topic: str) -> tuple[list[Endpoint], list[Endpoint]]:
    """Return publishers and subscriptions of a topic."""
    return (
        [endpoint(info) for info in node.get_publishers_info_by_topic(topic)],
        [endpoint(info) for info in node.get_subscriptions_info_by_topic(topic)],
    )


class Connections:
    """Watches the topics of one node."""

    def __init__(
        self,
        node: Node,
        expected: Callable[[], Sequence[ExpectedEndpoint]],
        changed: Callable[[], None],
    ) -> None:
        """Look at all topics once in 2 s.

        Args:
            node: whose topics they are.
            expected: gives what it expects of them at the moment.
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
        """Say what does not fit, all of it."""
        found = [finding for topic in self._found.values() for finding in topic]
        if not found:
            return Status('every topic has the ends that it needs')
        is_error = any(finding.is_error for finding in found)
        text = '; '.join(finding.text for finding in found)
        return Status(text, is_error=is_error, is_warning=not is_error)

    def _look(self) -> None:
        """Look at some of the topics."""
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
        """Note what is wrong with one topic, after a while of grace for missing ends."""
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
    """Hears on /diagnostics which nodes live; only while it is wanted."""

    def __init__(self, node: Node) -> None:
        """Listen with ``node``, not yet."""
        self._node = node
        self._subscription: Subscription | None = None
        self.since_ns: int | None = None
        self.last_seen = LastSeen(instance_of(node))

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
                self.last_seen.note(name, values[INSTANCE], steady_ns(), active=active)


class WhileWanted:
    """Subscribes to what comes with every frame and seldom changes, such as camera_info."""

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
        self._timer = steady_timer(node, WANTED_PERIOD_S, self._look)
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

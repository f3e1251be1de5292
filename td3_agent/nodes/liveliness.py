# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Readiness, liveliness and duplicates of the nodes of a drive.

A killed process stays in the graph until its lease ends, a stopped one indefinitely. In each
process the middleware asserts the liveliness of its topics without a message; others notice the
loss within :data:`LEASE_S`. The part ``loop`` of a node's diagnostics names why frames get no
command.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool

from td3_agent.driving.endpoints import SILENCE_NS, Breaks, Duplicates, Finding
from td3_agent.driving.loop_check import WITHOUT_COMMAND
from td3_agent.driving.readiness import AGENT_OF, BRIDGE, GATE_OF, VEHICLE_OF
from td3_agent.driving.reports import CAUSE
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import report_message, time_from_ns
from td3_agent.nodes.diagnostics import LOOP
from td3_agent.nodes.runtime import LATCHED, RELIABLE, REPORTS, steady_ns, steady_timer
from td3_agent.nodes.wiring import Listener, ends_of

try:
    from rclpy.event_handler import SubscriptionEventCallbacks, UnsupportedEventTypeError
except ImportError:  # Humble
    from rclpy.qos_event import SubscriptionEventCallbacks, UnsupportedEventTypeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rclpy.node import Node
    from rclpy.publisher import Publisher

LOOK_PERIOD_S = 0.1
# The graph shows a publisher as soon as it is discovered here; until it has discovered us too, its
# messages are lost.
LOOKS_IN_A_ROW = 4
SETTLE_NS = 600_000_000  # time for discovery
LEASE_S = 1.0
ALIVE = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=LEASE_S),
)
# The same with a message, kept for late subscribers.
WAITING = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    liveliness=LivelinessPolicy.AUTOMATIC,
    liveliness_lease_duration=Duration(seconds=LEASE_S),
)


def liveliness_publisher(node: Node, topic: str) -> Publisher:
    """Return a publisher that asserts the liveliness of the process."""
    return node.create_publisher(DiagnosticArray, topic, ALIVE)


class LivelinessWatch:
    """Knows whether all publishers of a topic have lost their liveliness."""

    def __init__(
        self,
        node: Node,
        topic: str,
        qos: QoSProfile = ALIVE,
        on_message: Callable[[DiagnosticArray], None] | None = None,
    ) -> None:
        """Watch ``topic``; without liveliness events of the middleware nothing is ever lost."""
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
        """Whether there was a live publisher, and none is left."""
        return self._not_alive > 0 and self._alive == 0

    def _on_change(self, info: object) -> None:
        self._alive = info.alive_count
        self._not_alive = info.not_alive_count


def _ignore(_: DiagnosticArray) -> None:
    """Do nothing: the topic carries liveliness, not messages."""


class Readiness:
    """Publishes frame reports, and asserts liveliness, only while its node is ready.

    The synchronizer steps once both publishers exist: the first frame must not be lost because a
    subscription was not matched yet. Until then the node may publish what it waits for.
    """

    def __init__(
        self,
        node: Node,
        topic: str,
        missing: Callable[[], Sequence[str] | None],
        waits_topic: str = '',
    ) -> None:
        """Check every 0.1 s (steady clock) until nothing is missing several times in a row.

        Args:
            node: the reporting node.
            topic: of its frame reports.
            missing: returns the names of what the node waits for; None while it is inactive.
            waits_topic: where these names are published; empty: nowhere.
        """
        self._node = node
        self._topic = topic
        self._missing = missing
        self._waits_topic = waits_topic
        self._publisher = self._life = self._waits_pub = None
        self._waits: list[str] = []
        self._looks_ready = 0
        self._timer = steady_timer(node, LOOK_PERIOD_S, self._look)

    def report(self, stamp_ns: int, fields: dict[str, Any]) -> None:
        """Publish the report of the frame ``stamp_ns`` [ns]; does nothing before readiness."""
        if self._publisher is not None:
            message = report_message(time_from_ns(stamp_ns), self._node.get_name(), fields)
            self._publisher.publish(message)

    def withdraw(self) -> None:
        """End readiness: the node does not respond to frames any more."""
        for publisher in (self._life, self._publisher):
            if publisher is not None:
                self._node.destroy_publisher(publisher)
        self._publisher = self._life = None
        self._publish_waits([])
        self._looks_ready = 0
        self._timer.reset()

    def _look(self) -> None:
        """Become ready once nothing was missing LOOKS_IN_A_ROW times."""
        missing = self._missing()
        self._publish_waits(missing or [])
        self._looks_ready = self._looks_ready + 1 if missing is not None and not missing else 0
        if self._looks_ready >= LOOKS_IN_A_ROW:
            self._timer.cancel()
            self._publisher = self._node.create_publisher(DiagnosticArray, self._topic, REPORTS)
            # Last: a node that discovers it has discovered the reports before.
            self._life = liveliness_publisher(self._node, topics.alive(self._topic))

    def _publish_waits(self, missing: Sequence[str]) -> None:
        """Publish the names of what is missing; without any, remove the publisher."""
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


class DuplicateAgentCheck:
    """Exclusive-publisher check of an agent's command topics.

    With two agents on one role, neither drives. The graph is no proof: a killed agent stays there
    until its lease ends, and must not keep its successor from driving. A live agent publishes its
    diagnostics, at 1 Hz.
    """

    def __init__(self, node: Node, role_name: str) -> None:
        """Listen to /diagnostics until :meth:`settled`."""
        self._node = node
        self._own = node.get_fully_qualified_name()
        self._topics = (topics.twist(role_name), topics.twist_stamped(role_name))
        self._started_ns = steady_ns()
        self._listener = Listener(node)
        self._listener.start()
        self._then: Callable[[], object] | None = None
        self._timer = steady_timer(node, LOOK_PERIOD_S, self._look)
        self._timer.cancel()

    def when_known(self, then: Callable[[], object]) -> None:
        """Call ``then`` once the result of :meth:`fault` is reliable."""
        self._then = then
        self._timer.reset()

    def settled(self) -> None:
        """Stop listening after the decision."""
        self._timer.cancel()
        self._listener.stop()

    def fault(self) -> str:
        """Return why this agent must not drive, with the remedy; empty if it may.

        A publisher of another name counts unless its diagnostics show that it is inactive. One of
        our own name counts until it is known to be dead.
        """
        self._listener.start()
        for topic, names in self._others().items():
            for name in names:
                if fault := self._fault_of(name, topic):
                    return fault
        return ''

    def _fault_of(self, name: str, topic: str) -> str:
        """Return why we must not drive beside a publisher of this name; empty if we may."""
        now_ns, seen = steady_ns(), self._listener.last_seen
        is_namesake, is_alive = name == self._own, seen.is_alive(name, now_ns)
        if is_namesake and not is_alive and not self._has_listened():
            return f'{topic} has another publisher named {name}: try again in 3 s'
        if seen.is_at_work(name, now_ns) or not (is_namesake or is_alive):
            return f'{name} publishes {topic} already: end it, or deactivate it'
        return ''

    def _others(self) -> dict[str, list[str]]:
        """Return the names of the other publishers of each topic, which may equal our own."""
        mine = {publisher.topic_name for publisher in self._node.publishers}
        found = {}
        for topic in self._topics:
            names = [writer.node for writer in ends_of(self._node, topic)[0] if writer.node]
            if self._own in names and self._node.resolve_topic_name(topic) in mine:
                names.remove(self._own)
            found[topic] = names
        return found

    def _has_listened(self) -> bool:
        """Whether every live node has published its diagnostics meanwhile."""
        since_ns = self._listener.since_ns
        return since_ns is not None and steady_ns() - since_ns >= SILENCE_NS

    def _look(self) -> None:
        """Call back once the graph is complete and, beside others, their state is known."""
        settled = steady_ns() - self._started_ns >= SETTLE_NS
        others = any(self._others().values())
        if settled and (self._has_listened() or not others) and self._then is not None:
            self._timer.cancel()
            then, self._then = self._then, None
            then()


MOST_FINDINGS = 16  # of other nodes, kept per drive


@dataclass(frozen=True)
class ExclusiveTopic:
    """A topic with exactly one publisher.

    Attributes:
        topic: its name.
        reads: a topic to which publishers of this kind subscribe.
    """

    topic: str
    reads: str


class Members:
    """Presence of the members of a drive in the graph, and the idle flag for the gates."""

    def __init__(
        self,
        node: Node,
        odometry: Mapping[str, str],
        names: Sequence[str],
    ) -> None:
        """Watch for ``node``.

        Args:
            node: whose graph is used.
            odometry: topics, by role name; a vehicle is present once it publishes this, the last
                of its objects.
            names: of the members.
        """
        self._node, self._odometry = node, odometry
        offers = {BRIDGE: topics.STATUS}
        for role in odometry:
            offers[VEHICLE_OF + role] = odometry[role]
            offers[GATE_OF + role] = topics.gate_report(role)
            offers[AGENT_OF + role] = topics.agent_report(role)
        self._offers = {name: offers[name] for name in names}
        self.liveliness = {
            name: LivelinessWatch(node, topics.alive(topic))
            for name, topic in self._offers.items()
            if name.startswith((GATE_OF, AGENT_OF))
        }
        self._said: dict[str, list[str]] = {}
        self._waits = {
            role: LivelinessWatch(
                node, topics.agent_waits(role), WAITING, partial(self._on_waits, role)
            )
            for role in odometry
        }
        self._idle_pubs = [
            node.create_publisher(Bool, topics.idle(role), LATCHED) for role in odometry
        ]

    @property
    def exclusive(self) -> dict[str, ExclusiveTopic]:
        """Exclusive topics, by the member that publishes them."""
        reads = {BRIDGE: topics.CONTROL}
        for role, topic in self._odometry.items():
            reads |= {GATE_OF + role: topics.idle(role), AGENT_OF + role: topic}
        found = {
            name: ExclusiveTopic(topic, reads[name])
            for name, topic in self._offers.items()
            if name in reads
        }
        waits = topics.agent_waits(next(iter(self._odometry)))
        return found | {'synchronizer': ExclusiveTopic(topics.CONTROL, waits)}

    def look(self) -> tuple[set[str], dict[str, list[str]]]:
        """Return the names of the present members, and what the agent of each role waits for."""
        present = {name for name, topic in self._offers.items() if self._is_there(name, topic)}
        waits = {
            role: self._said.get(role, [])
            for role, watch in self._waits.items()
            if self._is_published(topics.agent_waits(role)) and not watch.is_lost
        }
        return present, waits

    def bridges(self) -> list[tuple[int, ...]]:
        """Return the endpoint ids of the publishers of the bridge's status."""
        infos = self._node.get_publishers_info_by_topic(self._resolved(topics.STATUS))
        return [tuple(info.endpoint_gid) for info in infos]

    def publish_idle(self, *, is_idle: bool) -> None:
        """Tell the gates whether the next ticks are idle."""
        for publisher in self._idle_pubs:
            publisher.publish(Bool(data=is_idle))

    def _is_there(self, name: str, topic: str) -> bool:
        is_lost = name in self.liveliness and self.liveliness[name].is_lost
        return self._is_published(topic) and not is_lost

    def _is_published(self, topic: str) -> bool:
        return self._node.count_publishers(self._resolved(topic)) > 0

    def _resolved(self, topic: str) -> str:
        return str(self._node.resolve_topic_name(topic))

    def _on_waits(self, role: str, msg: DiagnosticArray) -> None:
        self._said[role] = [status.name for status in msg.status]


class DriveCheck:
    """Finds duplicates, and collects other nodes' findings, for the node that steps a drive.

    Attributes:
        is_driving: whether the first step has been sent; nothing counts before.
    """

    def __init__(
        self, node: Node, exclusive: Mapping[str, ExclusiveTopic], breaks: Callable[[], Breaks]
    ) -> None:
        """Check the graph ten times a second (steady clock).

        Args:
            node: whose graph and subscriptions are used.
            exclusive: exclusive topics, by the member that publishes them.
            breaks: returns the breaks in the sequence of frames so far.
        """
        self.is_driving = False
        self._node, self._exclusive, self._breaks = node, exclusive, breaks
        self._name = node.get_fully_qualified_name().lstrip('/')
        self._duplicates = Duplicates(node.context.get_domain_id())
        self._reported: dict[tuple[str, str], Finding] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        steady_timer(node, LOOK_PERIOD_S, self._look)

    def duplicates(self) -> list[Finding]:
        return self._duplicates.findings(steady_ns())

    def reported(self) -> list[Finding]:
        """Return the findings of other nodes, as warnings."""
        return list(self._reported.values())

    def _look(self) -> None:
        if not self.is_driving:
            return
        for kind, one in self._exclusive.items():
            writers = self._writers(one.topic)
            strangers = set() if len(writers) < 2 else set(writers) - self._same_kind(one)
            now_ns, breaks = steady_ns(), self._breaks()
            alike = [name for name in writers if name not in strangers]
            self._duplicates.note(kind, alike, now_ns, breaks)
            for name in strangers:
                self._duplicates.note_stranger(one.topic, name, now_ns, breaks)

    def _writers(self, topic: str) -> list[str]:
        """Return the names of the publishers of a topic; empty if there is only one."""
        topic = self._node.resolve_topic_name(topic)
        if self._node.count_publishers(topic) < 2:
            return []
        return [writer.node for writer in ends_of(self._node, topic)[0] if writer.node]

    def _same_kind(self, one: ExclusiveTopic) -> set[str]:
        """Return the nodes that subscribe as this kind does; a bag player, for one, does not."""
        readers = ends_of(self._node, self._node.resolve_topic_name(one.reads))[1]
        return {reader.node for reader in readers}

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status if self.is_driving else ():
            name, _, part = status.name.partition(': ')
            if part == LOOP and status.level != DiagnosticStatus.OK and name != self._name:
                values = {pair.key: pair.value for pair in status.values}
                self._keep(name, values.get(CAUSE, ''), status.message)

    def _keep(self, name: str, cause: str, text: str) -> None:
        """Keep the newest text of each cause of a node."""
        if cause == WITHOUT_COMMAND:
            return  # it is in the ledger
        key = (name, cause)
        if key in self._reported or len(self._reported) < MOST_FINDINGS:
            self._reported[key] = Finding(f'{name}: {text}', is_error=False)

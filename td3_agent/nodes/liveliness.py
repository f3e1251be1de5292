# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which nodes are there and ready, which have died or hang, and which are there twice.

A killed process stays in the graph until its lease ends, a stopped one for good. The liveliness
of a topic is asserted by the middleware of the process itself, and its loss is known within
:data:`LEASE_S`; no message is needed. Other nodes say in the part ``loop`` of their diagnostics
why frames get no command.
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
# The graph shows a publisher as soon as it is heard of; it may take a moment more until that one
# has heard of us, and what it publishes in between is lost.
LOOKS_IN_A_ROW = 4
SETTLE_NS = 600_000_000  # until then the middleware has not heard of everybody
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


def liveliness_publisher(node: Node, topic: str) -> Publisher:
    """Return a publisher whose existence says that the process lives."""
    return node.create_publisher(DiagnosticArray, topic, ALIVE)


class LivelinessWatch:
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


class Readiness:
    """Offers frame reports and a sign of life while its node is ready, and none before.

    The synchronizer takes the presence of both as the sign that it may step: frame one must not
    be lost because a subscription was not matched yet. Until then the node may say what it waits
    for.
    """

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
        self._timer = steady_timer(node, LOOK_PERIOD_S, self._look)

    def report(self, stamp_ns: int, fields: dict[str, Any]) -> None:
        """Publish what there is to say of the frame ``stamp_ns`` [ns], if anybody can hear it."""
        if self._publisher is not None:
            message = report_message(time_from_ns(stamp_ns), self._node.get_name(), fields)
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
            self._life = liveliness_publisher(self._node, topics.alive(self._topic))

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


class OtherDrivers:
    """Looks for other publishers of an agent's command topics, and for signs of their life.

    With two agents on one role, neither drives. The middleware's books are no proof: a killed
    agent stays in them until its lease is over, and must not keep its successor from driving.
    Living agents speak on /diagnostics, at 1 Hz.
    """

    def __init__(self, node: Node, topics: Sequence[str]) -> None:
        """Listen from now on, until :meth:`settled`."""
        self._node = node
        self._own = node.get_fully_qualified_name()
        self._topics = topics
        self._started_ns = steady_ns()
        self._listener = Listener(node)
        self._listener.start()
        self._then: Callable[[], object] | None = None
        self._timer = steady_timer(node, LOOK_PERIOD_S, self._look)
        self._timer.cancel()

    def when_known(self, then: Callable[[], object]) -> None:
        """Call ``then`` once :meth:`fault` can tell."""
        self._then = then
        self._timer.reset()

    def settled(self) -> None:
        """Listen no more: the decision has been taken."""
        self._timer.cancel()
        self._listener.stop()

    def fault(self) -> str:
        """Return why this agent must not drive, as a sentence with what to do; or nothing.

        A publisher of another name may be any program, and counts unless it says itself that it
        is not at work. One of our own name counts while it is not known to be dead.
        """
        self._listener.start()
        for topic, names in self._others().items():
            for name in names:
                if fault := self._fault_of(name, topic):
                    return fault
        return ''

    def _fault_of(self, name: str, topic: str) -> str:
        """Say why we must not drive beside a publisher of this name; or nothing."""
        now_ns, heard = steady_ns(), self._listener.last_seen
        is_twin, is_alive = name == self._own, heard.is_alive(name, now_ns)
        if is_twin and not is_alive and not self._has_listened():
            return f'{topic} has another publisher named {name}: try again in 3 s'
        if heard.is_at_work(name, now_ns) or not (is_twin or is_alive):
            return f'{name} publishes {topic} already: end it, or deactivate it'
        return ''

    def _others(self) -> dict[str, list[str]]:
        """Return the names of the other publishers of each topic; our own name is a twin's."""
        mine = {publisher.topic_name for publisher in self._node.publishers}
        found = {}
        for topic in self._topics:
            names = [writer.node for writer in ends_of(self._node, topic)[0] if writer.node]
            if self._own in names and self._node.resolve_topic_name(topic) in mine:
                names.remove(self._own)
            found[topic] = names
        return found

    def _has_listened(self) -> bool:
        """Whether a living twin would have been heard by now."""
        since_ns = self._listener.since_ns
        return since_ns is not None and steady_ns() - since_ns >= SILENCE_NS

    def _look(self) -> None:
        """Go on as soon as it is known what there is to know."""
        settled = steady_ns() - self._started_ns >= SETTLE_NS
        others = any(self._others().values())
        if settled and (self._has_listened() or not others) and self._then is not None:
            self._timer.cancel()
            then, self._then = self._then, None
            then()


MOST_SAID = 16  # causes that are kept of one drive


@dataclass(frozen=True)
class Exclusive:
    """A topic that may have one publisher only.

    Attributes:
        topic: its name.
        reads: what programs of the publisher's kind subscribe to.
    """

    topic: str
    reads: str


class Members:
    """Who the middleware shows, and the word to the gates about idle ticks."""

    def __init__(
        self,
        node: Node,
        odometry: Mapping[str, str],
        names: Sequence[str],
    ) -> None:
        """Watch for ``node``.

        Args:
            node: sees the graph.
            odometry: topics, by role name; a vehicle is there when it has this, its last object.
            names: of the members.
        """
        self._node, self._odometry = node, odometry
        offers = {BRIDGE: topics.STATUS}
        for role in odometry:
            offers[VEHICLE_OF + role] = odometry[role]
            offers[GATE_OF + role] = topics.gate_report(role)
            offers[AGENT_OF + role] = topics.agent_report(role)
        self._offers = {name: offers[name] for name in names}
        self.life = {
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
    def exclusive(self) -> dict[str, Exclusive]:
        """Topics that may have one publisher only, by what that is."""
        reads = {BRIDGE: topics.CONTROL}
        for role, topic in self._odometry.items():
            reads |= {GATE_OF + role: topics.idle(role), AGENT_OF + role: topic}
        found = {
            name: Exclusive(topic, reads[name])
            for name, topic in self._offers.items()
            if name in reads
        }
        waits = topics.agent_waits(next(iter(self._odometry)))
        return found | {'synchronizer': Exclusive(topics.CONTROL, waits)}

    def look(self) -> tuple[set[str], dict[str, list[str]]]:
        """Return the names of those that are there, and what the agent of a role waits for."""
        present = {name for name, topic in self._offers.items() if self._is_there(name, topic)}
        waits = {
            role: self._said.get(role, [])
            for role, watch in self._waits.items()
            if self._is_published(topics.agent_waits(role)) and not watch.is_lost
        }
        return present, waits

    def bridges(self) -> list[tuple[int, ...]]:
        """Return the ids of the publishers of the bridge's status."""
        infos = self._node.get_publishers_info_by_topic(self._resolved(topics.STATUS))
        return [tuple(info.endpoint_gid) for info in infos]

    def tell_gates(self, *, is_idle: bool) -> None:
        """Tell the gates whether the ticks from now on are idle."""
        for publisher in self._idle_pubs:
            publisher.publish(Bool(data=is_idle))

    def _is_there(self, name: str, topic: str) -> bool:
        is_lost = name in self.life and self.life[name].is_lost
        return self._is_published(topic) and not is_lost

    def _is_published(self, topic: str) -> bool:
        return self._node.count_publishers(self._resolved(topic)) > 0

    def _resolved(self, topic: str) -> str:
        return str(self._node.resolve_topic_name(topic))

    def _on_waits(self, role: str, msg: DiagnosticArray) -> None:
        self._said[role] = [status.name for status in msg.status]


class DriveCheck:
    """Looks and listens for the node that steps a drive.

    Attributes:
        is_driving: whether the first step has been sent; before it nothing counts.
    """

    def __init__(
        self, node: Node, exclusive: Mapping[str, Exclusive], breaks: Callable[[], Breaks]
    ) -> None:
        """Look at the graph ten times a second (steady clock).

        Args:
            node: looks and listens.
            exclusive: topics that may have one publisher only, by what that is.
            breaks: gives what broke the row of frames so far.
        """
        self.is_driving = False
        self._node, self._exclusive, self._breaks = node, exclusive, breaks
        self._name = node.get_fully_qualified_name().lstrip('/')
        self._duplicates = Duplicates(node.context.get_domain_id())
        self._said: dict[tuple[str, str], Finding] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        steady_timer(node, LOOK_PERIOD_S, self._look)

    def duplicates(self) -> list[Finding]:
        """Return who there is, or was, twice."""
        return self._duplicates.findings(steady_ns())

    def said(self) -> list[Finding]:
        """Return what other nodes have found of the loop; by itself it is no error."""
        return list(self._said.values())

    def _look(self) -> None:
        if not self.is_driving:
            return
        for kind, one in self._exclusive.items():
            writers = self._writers(one.topic)
            strangers = set() if len(writers) < 2 else set(writers) - self._of_the_kind(one)
            now_ns, breaks = steady_ns(), self._breaks()
            alike = [name for name in writers if name not in strangers]
            self._duplicates.note(kind, alike, now_ns, breaks)
            for name in strangers:
                self._duplicates.note_stranger(one.topic, name, now_ns, breaks)

    def _writers(self, topic: str) -> list[str]:
        """Return the nodes that publish a topic; the names of a single one do not matter."""
        topic = self._node.resolve_topic_name(topic)
        if self._node.count_publishers(topic) < 2:
            return []
        return [writer.node for writer in ends_of(self._node, topic)[0] if writer.node]

    def _of_the_kind(self, one: Exclusive) -> set[str]:
        """Return the nodes that listen as the kind does; a player of bags does not."""
        readers = ends_of(self._node, self._node.resolve_topic_name(one.reads))[1]
        return {reader.node for reader in readers}

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        for status in msg.status if self.is_driving else ():
            name, _, part = status.name.partition(': ')
            if part == LOOP and status.level != DiagnosticStatus.OK and name != self._name:
                values = {pair.key: pair.value for pair in status.values}
                self._keep(name, values.get(CAUSE, ''), status.message)

    def _keep(self, name: str, cause: str, text: str) -> None:
        """Keep the newest wording of each cause that a node has named."""
        if cause == WITHOUT_COMMAND:
            return  # the ledger has it
        key = (name, cause)
        if key in self._said or len(self._said) < MOST_SAID:
            self._said[key] = Finding(f'{name}: {text}', is_error=False)

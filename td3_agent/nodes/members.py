# SPDX-License-Identifier: Apache-2.0
"""Members of a drive as the middleware shows them, and what it and other nodes tell of faults.

The graph and liveliness show bridge, vehicles, gates and agents; the graph shows duplicate
publishers; other nodes say in the part ``loop`` of their diagnostics why frames get no command.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from std_msgs.msg import Bool

from td3_agent.driving.attendance import AGENT_OF, BRIDGE, GATE_OF, VEHICLE_OF
from td3_agent.driving.duplicates import Breaks, Duplicates
from td3_agent.driving.endpoints import Finding
from td3_agent.driving.loop_check import WITHOUT_COMMAND
from td3_agent.driving.reports import CAUSE
from td3_agent.nodes import topics
from td3_agent.nodes.diagnostics import LOOP
from td3_agent.nodes.liveliness import WAITING, LivelinessWatch
from td3_agent.nodes.runtime import LATCHED, RELIABLE, steady_ns, steady_timer
from td3_agent.nodes.wiring import ends_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rclpy.node import Node

LOOK_PERIOD_S = 0.1
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

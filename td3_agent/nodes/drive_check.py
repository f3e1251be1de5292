# SPDX-License-Identifier: Apache-2.0
"""What the graph and other nodes tell of a drive that is not as it should be.

Publishers that there must be one of only are in the graph; why frames get no command other nodes
name in the part ``loop`` of their diagnostics.
"""

from __future__ import annotations

from dataclasses import dataclass
import re
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.loop_check import COMMANDLESS, LATE_REMEDY, Breaks, Duplicates
from td3_agent.nodes.connections import ends_of
from td3_agent.nodes.diagnostics import LOOP
from td3_agent.nodes.qos import RELIABLE
from td3_agent.nodes.runtime import steady_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.node import Node

PERIOD_S = 0.1
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
        node.create_timer(PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

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
                self._keep(name, status.message)

    def _keep(self, name: str, text: str) -> None:
        """Keep the newest wording of each thing that a node has said."""
        if COMMANDLESS in text and LATE_REMEDY not in text:
            return  # the ledger has it
        key = (name, re.sub(r'[\d.]+', '', text.partition(':')[0]))
        if key in self._said or len(self._said) < MOST_SAID:
            self._said[key] = Finding(f'{name}: {text}', is_error=False)

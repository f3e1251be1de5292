# SPDX-License-Identifier: Apache-2.0
"""What the graph and other nodes tell of a drive that is not as it should be.

Publishers that there must be one of only are in the graph; why frames get no command other nodes
name in the part ``loop`` of their diagnostics.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.loop_check import COMMANDLESS, LATE_REMEDY, Duplicates
from td3_agent.nodes.connections import ends_of
from td3_agent.nodes.diagnostics import LOOP
from td3_agent.nodes.qos import RELIABLE
from td3_agent.nodes.runtime import steady_ns

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.node import Node

PERIOD_S = 0.1
MOST_SAID = 16  # causes that are kept of one drive


class DriveCheck:
    """Looks and listens for the node that steps a drive.

    Attributes:
        is_driving: whether the first step has been sent; before it nothing counts.
    """

    def __init__(
        self, node: Node, exclusive: Mapping[str, str], broken: Callable[[], int]
    ) -> None:
        """Look at the graph ten times a second (steady clock).

        Args:
            node: looks and listens.
            exclusive: topics that may have one publisher only, by what that is.
            broken: frames skipped, doubled or slipped, and returns of time, so far.
        """
        self.is_driving = False
        self._node, self._exclusive, self._broken = node, exclusive, broken
        self._name = node.get_fully_qualified_name().lstrip('/')
        self._duplicates = Duplicates(node.context.get_domain_id())
        self._said: dict[tuple[str, str], Finding] = {}
        node.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        node.create_timer(PERIOD_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def duplicates(self) -> list[Finding]:
        """Return who there is, or was, twice."""
        return self._duplicates.findings(steady_ns(), broken=self._broken())

    def said(self) -> list[Finding]:
        """Return what other nodes have found of the loop; by itself it is no error."""
        return list(self._said.values())

    def _look(self) -> None:
        if not self.is_driving:
            return
        for kind, name in self._exclusive.items():
            topic = self._node.resolve_topic_name(name)
            if self._node.count_publishers(topic) > 1:
                names = [writer.node for writer in ends_of(self._node, topic)[0] if writer.node]
                self._duplicates.note(kind, names, steady_ns(), broken=self._broken())

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

# SPDX-License-Identifier: Apache-2.0
"""Members of a drive as the middleware shows them: bridge, vehicles, gates, agents.

Wires :mod:`td3_agent.driving.attendance` to the graph, to signs of life, and to the gates, which
are told of idle ticks.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from std_msgs.msg import Bool

from td3_agent.driving.attendance import AGENT_OF, BRIDGE, GATE_OF, VEHICLE_OF, Attendance
from td3_agent.nodes import topics
from td3_agent.nodes.alive import WAITING, LifeWatch
from td3_agent.nodes.drive_check import Exclusive
from td3_agent.nodes.qos import LATCHED

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from diagnostic_msgs.msg import DiagnosticArray
    from rclpy.node import Node


class Members:
    """Who is there for a drive.

    Attributes:
        attendance: as of the newest look.
    """

    def __init__(
        self,
        node: Node,
        role_names: Sequence[str],
        odometry_topic: Callable[[str], str],
        *,
        wait_for_agent: bool,
        idle_ticks: bool,
    ) -> None:
        """Watch for ``node``; a vehicle is there when it has odometry, its last object."""
        self._node = node
        self._roles, self._odometry = role_names, odometry_topic
        self.attendance = Attendance(
            role_names, wait_for_agent=wait_for_agent, idle_ticks=idle_ticks
        )
        offers = {BRIDGE: topics.STATUS}
        for role in role_names:
            offers[VEHICLE_OF + role] = odometry_topic(role)
            offers[GATE_OF + role] = topics.gate_report(role)
            offers[AGENT_OF + role] = topics.agent_report(role)
        self._offers = {name: offers[name] for name in self.attendance.names}
        self.life = {
            name: LifeWatch(node, topics.alive(topic))
            for name, topic in self._offers.items()
            if name.startswith((GATE_OF, AGENT_OF))
        }
        self._said: dict[str, list[str]] = {}
        self._waits = {
            role: LifeWatch(node, topics.agent_waits(role), WAITING, partial(self._on_waits, role))
            for role in role_names
        }
        self._is_idle: bool | None = None
        self._idle_pubs = [
            node.create_publisher(Bool, topics.idle(role), LATCHED) for role in role_names
        ]

    @property
    def exclusive(self) -> dict[str, Exclusive]:
        """Topics that may have one publisher only, by what that is."""
        reads = {BRIDGE: topics.CONTROL}
        for role in self._roles:
            reads |= {GATE_OF + role: topics.idle(role), AGENT_OF + role: self._odometry(role)}
        found = {
            name: Exclusive(topic, reads[name])
            for name, topic in self._offers.items()
            if name in reads
        }
        waits = topics.agent_waits(self._roles[0])
        return found | {'synchronizer': Exclusive(topics.CONTROL, waits)}

    def look(self, *, under_way: bool) -> None:
        """See who is there."""
        present = {name for name, topic in self._offers.items() if self._is_there(name, topic)}
        waits = {
            role: self._said.get(role, [])
            for role, watch in self._waits.items()
            if self._is_published(topics.agent_waits(role)) and not watch.is_lost
        }
        self.attendance.look(present, waits, under_way=under_way)

    def is_another_bridge(self) -> bool:
        """Whether a bridge has come that was not there, while another one was known."""
        infos = self._node.get_publishers_info_by_topic(self._resolved(topics.STATUS))
        return self.attendance.is_another_bridge(tuple(info.endpoint_gid) for info in infos)

    def _is_there(self, name: str, topic: str) -> bool:
        is_lost = name in self.life and self.life[name].is_lost
        return self._is_published(topic) and not is_lost

    def _is_published(self, topic: str) -> bool:
        return self._node.count_publishers(self._resolved(topic)) > 0

    def _resolved(self, topic: str) -> str:
        return str(self._node.resolve_topic_name(topic))

    def _on_waits(self, role: str, msg: DiagnosticArray) -> None:
        self._said[role] = [status.name for status in msg.status]

    def tell_gates(self) -> None:
        """Tell the gates, once, whether the ticks from now on are idle."""
        if self.attendance.needs_ticks != self._is_idle:
            self._is_idle = self.attendance.needs_ticks
            for publisher in self._idle_pubs:
                publisher.publish(Bool(data=self._is_idle))

# SPDX-License-Identifier: Apache-2.0
"""What a node says of itself on /diagnostics: at 1 Hz, and at once when it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
import time
from typing import TYPE_CHECKING
import uuid

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

from td3_agent.nodes.qos import RELIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rclpy.node import Node

    from td3_agent.driving.endpoints import Finding

LOOP = 'loop'  # part of a node's diagnostics: what driving/loop_check.py finds
PERIOD_S = 1.0
LOOK_S = 0.2
CONSOLE_S = 1.0  # from one line of the log to the next
INSTANCE, ACTIVE = 'instance', 'active'  # values by which nodes of one name are told apart
PROCESS = uuid.uuid4().hex


def instance_of(node: Node) -> str:
    """Return what tells this node from all others, those of its name and other processes too."""
    return f'{PROCESS}-{id(node):x}'


@dataclass(frozen=True)
class Status:
    """What a node says of itself.

    Attributes:
        message: one sentence; what is wrong and what to do, or that all is well.
        is_error: whether the node cannot do its work.
        is_warning: whether something is off though the node works.
        values: figures behind the sentence.
        console: what is waited for; written to the log when it changes.
    """

    message: str
    is_error: bool = False
    is_warning: bool = False
    values: dict[str, object] = field(default_factory=dict)
    console: str = ''

    @property
    def level(self) -> bytes:
        """The level of diagnostic_msgs/DiagnosticStatus."""
        if self.is_error:
            return DiagnosticStatus.ERROR
        return DiagnosticStatus.WARN if self.is_warning else DiagnosticStatus.OK


def loop_status(found: Sequence[Finding]) -> Status:
    """Return findings as one status, the worst first."""
    if not found:
        return Status('the loop drives as it should')
    ordered = sorted(found, key=lambda finding: not finding.is_error)
    is_error = ordered[0].is_error
    text = '; '.join(finding.text for finding in ordered)
    return Status(text, is_error=is_error, is_warning=not is_error, console=text)


class Diagnostics:
    """Publishes what ``describe`` returns."""

    def __init__(
        self,
        node: Node,
        describe: Callable[[], Status],
        figures: Callable[[], Mapping[str, object]] = dict,
        parts: Mapping[str, Callable[[], Status]] | None = None,
    ) -> None:
        """Report for ``node`` from now on; the node need not keep this object.

        Args:
            node: publishes, and is reported on.
            describe: how it stands; asked after every frame, and must be quick.
            figures: more values to publish; asked only when something is published.
            parts: how parts of it stand, each with a status of its own, by name.
        """
        self._node = node
        self._describe = describe
        self._figures = figures
        self._parts = dict(parts or {})
        self._instance = instance_of(node)
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        self._last: list[tuple[bytes, str]] | None = None
        self._written, self._written_s = '', -CONSOLE_S
        # Steady: a node must speak up exactly when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)
        node.create_timer(LOOK_S, self.changed, clock=steady)  # what does not come is a change

    def changed(self) -> None:
        """Publish at once if a level or a message differs from what was said last."""
        said = self._all()
        self._write(said[''].console)
        if [(status.level, status.message) for status in said.values()] != self._last:
            self.publish()

    def publish(self) -> None:
        """Say how things stand."""
        said = self._all()
        self._last = [(status.level, status.message) for status in said.values()]
        own = {**said[''].values, **self._figures(), INSTANCE: self._instance}
        name = self._node.get_fully_qualified_name().lstrip('/')
        msg = DiagnosticArray()
        msg.header.stamp = self._node.get_clock().now().to_msg()
        for part, status in said.items():
            values = status.values if part else own
            msg.status.append(_message(f'{name}: {part}' if part else name, status, values))
        self._publisher.publish(msg)

    def _write(self, text: str) -> None:
        """Write a line to the log for each new text, one a second at most."""
        now_s = time.monotonic()
        if text == self._written or (text and now_s - self._written_s < CONSOLE_S):
            return
        self._written = text
        if text:
            self._written_s = now_s
            self._node.get_logger().warning(text)

    def _all(self) -> dict[str, Status]:
        """Return the node's own status, under no name, and those of its parts."""
        return {'': self._describe()} | {name: tell() for name, tell in self._parts.items()}


def _message(name: str, status: Status, values: Mapping[str, object]) -> DiagnosticStatus:
    """Return one status as it is published."""
    return DiagnosticStatus(
        level=status.level,
        name=name,
        message=status.message,
        hardware_id='td3_agent',
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )

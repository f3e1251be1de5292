# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A node's status on /diagnostics: at 1 Hz, and within 0.2 s when it changes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
import uuid

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue

from td3_agent.nodes.runtime import RELIABLE, steady_timer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.node import Node

    from td3_agent.driving.reports import Status

LOOP = 'loop'  # part of the diagnostics with the findings of driving/loop_check.py
PERIOD_S = 1.0
LOOK_S = 0.2
CONSOLE_S = 1.0  # at least, between two lines of the log
INSTANCE, ACTIVE = 'instance', 'active'  # values that tell nodes of the same name apart
PROCESS = uuid.uuid4().hex


def instance_of(node: Node) -> str:
    """Return an id that is unique to this node instance, in all processes."""
    return f'{PROCESS}-{id(node):x}'


class Diagnostics:
    """Publishes what ``describe`` returns."""

    def __init__(
        self,
        node: Node,
        describe: Callable[[], Status],
        figures: Callable[[], Mapping[str, object]] = dict,
        parts: Mapping[str, Callable[[], Status]] | None = None,
    ) -> None:
        """Report on ``node`` from now on; its timers keep this object alive.

        Args:
            node: the reporting node.
            describe: returns its status; called five times a second, so it must be quick.
            figures: returns more values; called only before publishing.
            parts: each returns the status of a part, by name.
        """
        self._node = node
        self._describe = describe
        self._figures = figures
        self._parts = dict(parts or {})
        self._instance = instance_of(node)
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        self._last: list[tuple[bytes, str]] | None = None
        self._written, self._written_s = '', -CONSOLE_S
        steady_timer(node, PERIOD_S, self.publish)
        steady_timer(node, LOOK_S, self.changed)  # the absence of messages is a change too

    def changed(self) -> None:
        """Publish at once if a level or a text differs from the last published ones."""
        said = self._all()
        self._write(said[''].console)
        if [(level_of(status), status.message) for status in said.values()] != self._last:
            self.publish()

    def publish(self) -> None:
        said = self._all()
        self._last = [(level_of(status), status.message) for status in said.values()]
        own = {**said[''].values, **self._figures(), INSTANCE: self._instance}
        name = self._node.get_fully_qualified_name().lstrip('/')
        msg = DiagnosticArray()
        msg.header.stamp = self._node.get_clock().now().to_msg()
        for part, status in said.items():
            values = status.values if part else own
            msg.status.append(_message(f'{name}: {part}' if part else name, status, values))
        self._publisher.publish(msg)

    def _write(self, text: str) -> None:
        """Log each new text, at most one line a second."""
        now_s = time.monotonic()
        if text == self._written or (text and now_s - self._written_s < CONSOLE_S):
            return
        self._written = text
        if text:
            self._written_s = now_s
            self._node.get_logger().warning(text)

    def _all(self) -> dict[str, Status]:
        """Return the node's own status, under an empty name, and those of its parts."""
        return {'': self._describe()} | {
            name: describe() for name, describe in self._parts.items()
        }


def level_of(status: Status) -> bytes:
    """Return the level of diagnostic_msgs/DiagnosticStatus."""
    if status.is_error:
        return DiagnosticStatus.ERROR
    return DiagnosticStatus.WARN if status.is_warning else DiagnosticStatus.OK


def _message(name: str, status: Status, values: Mapping[str, object]) -> DiagnosticStatus:
    return DiagnosticStatus(
        level=level_of(status),
        name=name,
        message=status.message,
        hardware_id='td3_agent',
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )

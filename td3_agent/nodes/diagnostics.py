# SPDX-License-Identifier: Apache-2.0
"""One status of one node on /diagnostics: at 1 Hz, and at once when it changes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock, ClockType

from td3_agent.nodes.qos import RELIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy.node import Node

PERIOD_S = 1.0
LOOK_S = 0.2


@dataclass(frozen=True)
class Status:
    """What a node says of itself.

    Attributes:
        message: one sentence; what is wrong and what to do, or that all is well.
        is_error: whether the node cannot do its work.
        is_warning: whether something is off though the node works.
        values: figures behind the sentence.
    """

    message: str
    is_error: bool = False
    is_warning: bool = False
    values: dict[str, object] = field(default_factory=dict)

    @property
    def level(self) -> bytes:
        """The level of diagnostic_msgs/DiagnosticStatus."""
        if self.is_error:
            return DiagnosticStatus.ERROR
        return DiagnosticStatus.WARN if self.is_warning else DiagnosticStatus.OK


class Diagnostics:
    """Publishes what ``describe`` returns."""

    def __init__(
        self,
        node: Node,
        describe: Callable[[], Status],
        figures: Callable[[], Mapping[str, object]] = dict,
    ) -> None:
        """Report for ``node`` from now on; the node need not keep this object.

        Args:
            node: publishes, and is reported on.
            describe: how it stands; asked after every frame, and must be quick.
            figures: more values to publish; asked only when something is published.
        """
        self._node = node
        self._describe = describe
        self._figures = figures
        self._publisher = node.create_publisher(DiagnosticArray, '/diagnostics', RELIABLE)
        self._last: tuple[bytes, str] | None = None
        # Steady: a node must speak up exactly when simulated time stands still.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        node.create_timer(PERIOD_S, self.publish, clock=steady)
        node.create_timer(LOOK_S, self.changed, clock=steady)  # what does not come is a change

    def changed(self) -> None:
        """Publish at once if level or message differ from what was said last."""
        status = self._describe()
        if (status.level, status.message) != self._last:
            self.publish()

    def publish(self) -> None:
        """Say how things stand."""
        status = self._describe()
        self._last = (status.level, status.message)
        values = {**status.values, **self._figures()}
        msg = DiagnosticArray()
        msg.header.stamp = self._node.get_clock().now().to_msg()
        msg.status = [
            DiagnosticStatus(
                level=status.level,
                name=self._node.get_fully_qualified_name().lstrip('/'),
                message=status.message,
                hardware_id='td3_agent',
                values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
            )
        ]
        self._publisher.publish(msg)

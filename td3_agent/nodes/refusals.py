# SPDX-License-Identifier: Apache-2.0
"""Messages that are not used: counted, logged with their reason, and without consequence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from td3_agent.nodes.diagnostics import Status
from td3_agent.nodes.runtime import steady_ns

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

LOG_PERIOD_NS = 1_000_000_000
FRESH_NS = 3_000_000_000  # a refusal is told in diagnostics for so long
LONGEST_REASON = 300  # characters: a message must not flood the log with itself


@dataclass
class _Topic:
    """What was refused of one topic."""

    count: int = 0
    last_ns: int = 0
    told_ns: int = -LOG_PERIOD_NS
    told: str = ''  # the reason that was logged last


class Refusals:
    """Keeps a node alive and honest about input that its conversions refuse.

    Attributes:
        count: messages refused so far, of all topics.
        on_refused: called with topic and reason of each one, after it was counted.
    """

    def __init__(self, node: Node) -> None:
        """Log through ``node``."""
        self._node = node
        self._topics: dict[str, _Topic] = {}
        self.count = 0
        self.on_refused: Callable[[str, object], None] | None = None

    def guard(self, topic: str, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return ``handler`` for a subscription to ``topic``; its ValueErrors are refusals."""
        return partial(self._handle, topic, handler)

    def refuse(self, topic: str, reason: object) -> None:
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
        if self.on_refused is not None:
            self.on_refused(topic, reason)

    def status(self) -> Status:
        """Name what was refused within the last seconds and what to do, and all counts."""
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
            self.refuse(topic, error)

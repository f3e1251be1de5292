# SPDX-License-Identifier: Apache-2.0
"""Messages that are not used: counted, logged with their reason, and without consequence."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.node import Node

LOG_PERIOD_S = 1.0


class Refusals:
    """Keeps a node alive and honest about input that its conversions refuse."""

    def __init__(self, node: Node) -> None:
        """Log through ``node``."""
        self._node = node
        self.count = 0

    def guard(self, topic: str, handler: Callable[[Any], None]) -> Callable[[Any], None]:
        """Return ``handler`` for a subscription to ``topic``; its ValueErrors are refusals."""
        return partial(self._handle, topic, handler)

    def refuse(self, topic: str, reason: object) -> None:
        """Count and log one message that was not used."""
        self.count += 1
        self._node.get_logger().warning(
            f'{topic} refused ({self.count} so far): {reason}', throttle_duration_sec=LOG_PERIOD_S
        )

    def _handle(self, topic: str, handler: Callable[[Any], None], msg: Any) -> None:  # noqa: ANN401
        try:
            handler(msg)
        except ValueError as error:
            self.refuse(topic, error)

# SPDX-License-Identifier: Apache-2.0
"""Looks over the agent's shoulder: keeps a few camera frames of a running drive."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image

from td3_agent.nodes.conversions import image_view, stamp_ns
from td3_agent.nodes.runtime import own_context

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from typing_extensions import Self

# A spectator must not hold up the bridge: best effort, newest only.
SPECTATOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)


END_WAIT_S = 5.0


class FrameSampler:
    """Receives an image topic in a thread of its own and keeps every ``every``-th message."""

    def __init__(self, topic: str, domain_id: int, every: int) -> None:
        """Subscribe to ``topic``; messages between the kept ones are never unpacked."""
        self.frames: list[tuple[int, NDArray[np.uint8]]] = []
        self._every = every
        self._seen = 0
        self._context = own_context(domain_id)
        self._node = Node('td3_agent_spectator', context=self._context)
        self._node.create_subscription(Image, topic, self._on_image, SPECTATOR, raw=True)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)

    def __enter__(self) -> Self:
        """Start to receive."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop receiving and leave the domain."""
        self._executor.shutdown(timeout_sec=END_WAIT_S)
        self._thread.join(timeout=END_WAIT_S)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_image(self, raw: bytes) -> None:
        """Keep the frame (simulated time [ns], pixels) if it is its turn."""
        if self._seen % self._every == 0:
            msg = deserialize_message(raw, Image)
            self.frames.append((stamp_ns(msg.header.stamp), image_view(msg).pixels()))
        self._seen += 1

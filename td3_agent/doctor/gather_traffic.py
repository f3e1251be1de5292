# SPDX-License-Identifier: Apache-2.0
"""Listens to a running graph for a few seconds: stamps of frames, and what nodes say."""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING

from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from td3_agent.doctor.facts import Said, Traffic
from td3_agent.nodes import topics

if TYPE_CHECKING:
    from rclpy.node import Node

# Matches every publisher, and holds up none.
SPECTATOR = QoSProfile(depth=50, reliability=ReliabilityPolicy.BEST_EFFORT)
LITTLE_ENDIAN = 1
# Of a serialised message that begins with a header: four bytes of encapsulation, then its stamp.
STAMP_OFFSET = 4
LOOK_S = 0.1


def gather_traffic(node: Node, seconds: float, role_name: str, camera_id: str) -> Traffic:
    """Spin a node for so long [s] and return what it heard; images are not unpacked."""
    images: list[int] = []
    motions: list[int] = []
    said: dict[str, Said] = {}

    def hear(msg: DiagnosticArray) -> None:
        for status in msg.status:
            said[status.name] = Said(status.name, status.level[0], status.message)

    for kind, topic, stamps in (
        (Image, topics.image(role_name, camera_id), images),
        (Odometry, topics.odometry(role_name), motions),
    ):
        node.create_subscription(
            kind, topic, lambda raw, kept=stamps: kept.append(stamp_of(raw)), SPECTATOR, raw=True
        )
    node.create_subscription(DiagnosticArray, '/diagnostics', hear, SPECTATOR)
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0.0:
        executor.spin_once(timeout_sec=min(LOOK_S, left_s))
    executor.remove_node(node)
    executor.shutdown(timeout_sec=1.0)
    return Traffic(
        seconds=seconds,
        images_ns=tuple(images),
        motions_ns=tuple(motions),
        said=tuple(said.values()),
    )


def stamp_of(raw: bytes) -> int:
    """Return the header's stamp of a serialised message [ns]."""
    order = '<' if raw[1] == LITTLE_ENDIAN else '>'
    seconds, nanoseconds = struct.unpack_from(f'{order}iI', raw, STAMP_OFFSET)
    return int(seconds) * 10**9 + int(nanoseconds)

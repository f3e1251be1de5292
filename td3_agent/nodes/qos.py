# SPDX-License-Identifier: Apache-2.0
"""The qualities of service that the CARLA ROS bridge uses, by the names used here.

Every bridge endpoint is RELIABLE and KEEP_LAST; only durability and depth vary.
"""

from __future__ import annotations

from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
# Reports are collected frame by frame; a short stall of the reader must not lose any.
REPORTS = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


def camera(reliability: str) -> QoSProfile:
    """Return the camera subscription's profile: ``reliable`` or ``best_effort``.

    Best effort matches every known publisher; reliable does not lose large frames, but lets a
    slow reader hold up the bridge's tick.
    """
    policy = ReliabilityPolicy[reliability.upper()]
    return QoSProfile(depth=5, reliability=policy)

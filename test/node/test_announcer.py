# SPDX-License-Identifier: Apache-2.0
"""The announcer: a node's sign that from now on no frame is lost on it."""

from rclpy.node import Node

from td3_agent.nodes.announcer import LOOKS_IN_A_ROW, Announcer

TOPIC = '/report'


def test_what_comes_and_goes_is_not_announced(ros):
    """Peers that have just appeared may not have heard of us yet."""
    node = ros.make(Node, 'announcing')
    looks = [True] * (LOOKS_IN_A_ROW - 1) + [False]
    seen = []

    def is_ready():
        seen.append(ros.peer.count_publishers(TOPIC))
        return looks.pop(0) if looks else True

    Announcer(node, TOPIC, is_ready)
    ros.spin_until(lambda: ros.peer.count_publishers(TOPIC) == 1, 'the announcement')
    assert len(seen) >= 2 * LOOKS_IN_A_ROW
    assert not any(seen[: 2 * LOOKS_IN_A_ROW])

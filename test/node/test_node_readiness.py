# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Readiness and liveliness of a node that reports frames."""

from harness.ros import Ros
from rclpy.node import Node

from td3_agent.nodes import topics
from td3_agent.nodes.liveliness import (
    LOOKS_IN_A_ROW,
    WAITING,
    LivelinessWatch,
    Readiness,
    liveliness_publisher,
)

TOPIC = '/report'


def test_ready_only_after_several_looks_in_a_row(ros):
    """A peer that has just appeared may not have discovered us yet."""
    node = ros.make(Node, 'reporting')
    looks = [True] * (LOOKS_IN_A_ROW - 1) + [False]
    seen = []

    def missing():
        seen.append(ros.peer.count_publishers(TOPIC))
        return [] if not looks or looks.pop(0) else ['camera']

    Readiness(node, TOPIC, missing)
    ros.spin_until(lambda: ros.peer.count_publishers(TOPIC) == 1, 'readiness')
    assert len(seen) >= 2 * LOOKS_IN_A_ROW
    assert not any(seen[: 2 * LOOKS_IN_A_ROW])


def test_liveliness_follows_readiness_and_ends_with_it(ros):
    """The synchronizer steps an agent that is alive: it must be able to report by then."""
    node = ros.make(Node, 'reporting')
    missing = [['camera', 'route']]
    readiness = Readiness(node, TOPIC, lambda: missing[-1], '/waits')
    watch = LivelinessWatch(ros.peer, '/waits', WAITING, lambda msg: waits.append(msg.status))
    waits = []
    ros.spin_until(lambda: waits, 'what it waits for')
    assert [status.name for status in waits[-1]] == ['camera', 'route']
    assert not ros.peer.count_publishers(topics.alive(TOPIC))
    missing.append([])
    ros.spin_until(lambda: ros.peer.count_publishers(topics.alive(TOPIC)), 'liveliness')
    assert ros.peer.count_publishers(TOPIC)
    assert not ros.peer.count_publishers('/waits')
    missing.append(None)
    readiness.withdraw()
    ros.spin_until(lambda: not ros.peer.count_publishers(TOPIC), 'the end of the reports')
    assert not ros.peer.count_publishers(topics.alive(TOPIC))
    assert not watch.is_lost


def test_liveliness_is_not_lost_when_a_process_ends_in_order(ros):
    """The other context stands for the process: one participant has no liveliness events."""
    watch = LivelinessWatch(ros.peer, '/alive')
    other = Ros(ros.domain_id)
    try:
        publisher = liveliness_publisher(other.peer, '/alive')
        ros.spin_until(lambda: ros.peer.count_publishers('/alive'), 'the publisher')
        assert not watch.is_lost
        other.peer.destroy_publisher(publisher)
        ros.spin_until(lambda: not ros.peer.count_publishers('/alive'), 'its end')
        assert not watch.is_lost  # the graph shows it
    finally:
        other.close()

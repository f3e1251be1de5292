# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The announcer: a node's sign that from now on no frame is lost on it."""

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


def test_what_comes_and_goes_is_not_announced(ros):
    """Peers that have just appeared may not have heard of us yet."""
    node = ros.make(Node, 'announcing')
    looks = [True] * (LOOKS_IN_A_ROW - 1) + [False]
    seen = []

    def missing():
        seen.append(ros.peer.count_publishers(TOPIC))
        return [] if not looks or looks.pop(0) else ['camera']

    Readiness(node, TOPIC, missing)
    ros.spin_until(lambda: ros.peer.count_publishers(TOPIC) == 1, 'the announcement')
    assert len(seen) >= 2 * LOOKS_IN_A_ROW
    assert not any(seen[: 2 * LOOKS_IN_A_ROW])


def test_sign_of_life_is_given_when_it_is_ready_to_report_and_taken_back(ros):
    """The synchronizer steps an agent that lives: it must be able to report by then."""
    node = ros.make(Node, 'announcing')
    missing = [['camera', 'route']]
    announcer = Readiness(node, TOPIC, lambda: missing[-1], '/waits')
    watch = LivelinessWatch(ros.peer, '/waits', WAITING, lambda msg: waits.append(msg.status))
    waits = []
    ros.spin_until(lambda: waits, 'what it waits for')
    assert [status.name for status in waits[-1]] == ['camera', 'route']
    assert not ros.peer.count_publishers(topics.alive(TOPIC))
    missing.append([])
    ros.spin_until(lambda: ros.peer.count_publishers(topics.alive(TOPIC)), 'the sign of life')
    assert ros.peer.count_publishers(TOPIC)
    assert not ros.peer.count_publishers('/waits')
    missing.append(None)
    announcer.withdraw()
    ros.spin_until(lambda: not ros.peer.count_publishers(TOPIC), 'the end of the reports')
    assert not ros.peer.count_publishers(topics.alive(TOPIC))
    assert not watch.is_lost


def test_sign_of_another_process_is_no_loss_when_it_ends_in_order(ros):
    """Within one participant nobody asks for signs of life: the other context is its own."""
    watch = LivelinessWatch(ros.peer, '/alive')
    other = Ros(ros.domain_id)
    try:
        publisher = liveliness_publisher(other.peer, '/alive')
        ros.spin_until(lambda: ros.peer.count_publishers('/alive'), 'the sign')
        assert not watch.is_lost
        other.peer.destroy_publisher(publisher)
        ros.spin_until(lambda: not ros.peer.count_publishers('/alive'), 'its end')
        assert not watch.is_lost  # the graph tells
    finally:
        other.close()

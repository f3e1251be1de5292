# SPDX-License-Identifier: Apache-2.0
"""The README's topic table says what the nodes really publish and subscribe."""

from __future__ import annotations

from pathlib import Path
import re

import pytest

README = Path(__file__).resolve().parents[2] / 'README.md'
ROW = re.compile(r'\| (\w+) \| (in|out) \| `([^`]+)` \| ([\w/]+) \|')
# What every rclpy node has by itself.
COMMON = ('/rosout', '/parameter_events', '/diagnostics')


def documented() -> set[tuple[str, str, str, str]]:
    """Return (node, direction, topic, type) of every row of the table."""
    return {
        (node, direction, topic.replace('<role>', 'ego_vehicle').replace('<camera>', 'camera'), kind)
        for node, direction, topic, kind in ROW.findall(README.read_text(encoding='utf-8'))
    }


def real(node) -> set[tuple[str, str, str, str]]:
    """Return the same of a living node."""
    entities = [('in', s.topic_name, s.msg_type) for s in node.subscriptions]
    entities += [('out', p.topic_name, p.msg_type) for p in node.publishers]
    return {
        (node.get_name(), direction, topic, f'{kind.__module__.split(".")[0]}/{kind.__name__}')
        for direction, topic, kind in entities
        if topic not in COMMON and not topic.startswith(f'/{node.get_name()}/')
    }


@pytest.mark.parametrize(
    ('program', 'overrides', 'optional'),
    [
        ('td3_agent', {'driver': 'pure_pursuit'}, {'/carla/ego_vehicle/agent/frame_report'}),
        ('twist_to_control', {}, {'/carla/ego_vehicle/gate/frame_report'}),
        ('synchronizer', {}, set()),
        ('carla_ros_bridge', {'map': 'oval', 'start_paused': True}, set()),
    ],
)
def test_topic_table_matches_the_node(program, overrides, optional, make_node):
    """Both ways: nothing undocumented, nothing that does not exist (or appears only when ready)."""
    node = make_node(program, overrides)
    expected = {row for row in documented() if row[0] == program}
    found = real(node)
    assert found <= expected
    assert {row for row in expected - found if row[2] not in optional} == set()

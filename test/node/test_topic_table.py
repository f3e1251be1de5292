# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The topic table of the reference says what the nodes really publish and subscribe."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
import re

import pytest

REFERENCE = Path(__file__).resolve().parents[2] / 'docs' / 'reference.md'
ROW = re.compile(r'\| (\w+) \| (in|out) \| `([^`]+)` \| ([\w/]+) \|')
# What every rclpy node has by itself.
COMMON = ('/rosout', '/parameter_events', '/diagnostics')
# Offered only once a node has found its peers.
WHEN_READY = ('/frame_report', '/alive', '/waits')


def documented() -> set[tuple[str, str, str, str]]:
    """Return (node, direction, topic, type) of every row of the table."""
    return {
        (
            node,
            direction,
            topic.replace('<role>', 'ego_vehicle').replace('<camera>', 'camera'),
            kind,
        )
        for node, direction, topic, kind in ROW.findall(REFERENCE.read_text(encoding='utf-8'))
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
    ('module', 'name', 'parameters'),
    [
        ('td3_agent_node', 'Td3AgentNode', {'policy': 'route'}),
        ('gate_node', 'GateNode', {}),
        ('synchronizer_node', 'SynchronizerNode', {}),
        ('route_node', 'RouteNode', {}),
        ('sim_bridge_node', 'SimBridgeNode', {'map': 'oval', 'start_paused': True}),
    ],
)
def test_topic_table_matches_the_node(ros, module, name, parameters):
    cls = getattr(import_module(f'td3_agent.nodes.{module}'), name)
    node = ros.make(cls, **parameters)
    expected = {row for row in documented() if row[0] == node.get_name()}
    found = real(node)
    assert found <= expected, 'not in the table'
    missing = {row for row in expected - found if not row[2].endswith(WHEN_READY)}
    assert not missing, 'in the table only'

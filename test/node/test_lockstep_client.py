# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the client of environments makes of single messages."""

from types import SimpleNamespace

from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Path

from td3_agent.nodes.lockstep_client import LockstepClient


def test_an_empty_path_is_no_route_and_takes_none_away():
    """As ``carla_waypoint_publisher`` sends it while its vehicle is not there."""
    client = SimpleNamespace(latched={})
    LockstepClient._on_path(client, Path())
    assert client.latched == {}
    route = Path(poses=[PoseStamped()] * 3)
    for msg in (route, Path()):
        LockstepClient._on_path(client, msg)
        assert client.latched == {'route': route}

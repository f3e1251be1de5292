# SPDX-License-Identifier: Apache-2.0
"""The route from a program of its own, with the manners of ``carla_waypoint_publisher``.

``python -m td3_agent.faults.waypoints_node MAP SPAWN_INDEX``. The topic is there at once, the
route only after a tick: upstream's looks for the car in a callback of the world's tick.
"""

from __future__ import annotations

import sys
from typing import Any

from nav_msgs.msg import Path
from rclpy.node import Node
from rosgraph_msgs.msg import Clock

from td3_agent.faults.injector import ROLE
from td3_agent.nodes import topics
from td3_agent.nodes.bridge_publisher import path_message
from td3_agent.nodes.runtime import LATCHED, RELIABLE, run_program
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_world


class WaypointsNode(Node):
    """Publishes the route of the first car at the first tick that it sees."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Offer the topic; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__('carla_waypoint_publisher', **kwargs)
        name, spawn_index = sys.argv[1:3]
        world = make_world(SimBridgeParams(map=name, spawn_index=int(spawn_index)))
        self._path = path_message(world.ego)
        self._publisher = self.create_publisher(Path, topics.waypoints(ROLE), LATCHED)
        self._clock_sub = self.create_subscription(Clock, '/clock', self._on_clock, RELIABLE)

    def _on_clock(self, _: Clock) -> None:
        if self._path is not None:
            self._publisher.publish(self._path)
            self._path = None


if __name__ == '__main__':
    run_program(WaypointsNode, [])

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A drive by the route of route_node, in processes of their own, from spawn point to goal."""

import math

from harness.ledgers import check_ledger
from harness.messages import ROLE
from harness.rig import AGENT, BRIDGE, GATE, SYNCHRONIZER, WHOLE
from nav_msgs.msg import Path
import numpy as np
import pytest

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import route_from_path
from td3_agent.nodes.runtime import LATCHED
from td3_agent.sim.maps import load_map
from td3_agent.sim.road_graph import road_graph
from td3_agent.sim.route_planner import RoutePlanner

pytestmark = pytest.mark.system

FRAMES = 480  # more than the way takes


def goal_behind_a_turn():
    """Return a goal of which the way from the first spawn point leads round a corner, and it."""
    town = load_map('town')
    spawn, planner = town.spawn_points[0], RoutePlanner(road_graph(town))
    for goal in town.spawn_points:
        if math.dist(goal[:2], spawn[:2]) > 20.0:
            route = planner.plan(spawn, goal[:2])
            turned = np.unwrap(route.heading_rad)
            if 70.0 < route.length_m < 140.0 and np.ptp(turned) > 1.0:
                return goal[:2], route
    raise AssertionError('no such goal')


def test_pure_pursuit_drives_to_the_goal(rig):
    goal, wanted = goal_behind_a_turn()
    paths = []
    topic = topics.waypoints(ROLE)
    rig.watcher.node.create_subscription(Path, topic, paths.append, LATCHED)
    parameters = {
        BRIDGE: {'map': 'town', 'waypoints': False},
        GATE: {'deadline_s': 0.9, 'silence_s': 60.0},
        SYNCHRONIZER: {'real_time_factor': 0.0, 'max_frames': FRAMES},
    }
    # Paused from the start, and the planner last: town and pose come with idle ticks.
    drive = rig.drive(start=(SYNCHRONIZER, AGENT, GATE, BRIDGE), parameters=parameters)
    rig.start_node('route_node', {'goal': f'{goal[0]}, {goal[1]}'})
    drive.wait_until_over()
    ledger = drive.finish(*WHOLE).records
    assert len(paths) == 1  # a second one would have made the driver begin again
    route = route_from_path(paths[0])
    assert route.length_m == pytest.approx(wanted.length_m, abs=1.0)
    assert check_ledger(ledger) == []
    assert {record['outcome'] for record in ledger} == {'ok'}
    assert not any('collision' in record or 'lane_invasion' in record for record in ledger)
    driven = np.array([(record['x_m'], record['y_m']) for record in ledger])
    assert max(route.project(x, y).distance_m for x, y in driven) < 1.0
    assert math.dist(driven[-1], goal) < 4.0
    assert ledger[-1]['speed_mps'] < 0.1

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Streets between two junctions that are too short to wait on belong to the junctions."""

import numpy as np
import pytest
from xodr_texts import lane, line, link, opendrive, road, section

from td3_agent.sim.lane_network import lane_network
from td3_agent.sim.lane_runs import over_short_streets
from td3_agent.sim.maps import load_map
from td3_agent.sim.road import RoadMap
from td3_agent.sim.traffic import SHORTEST_STREET_M, Traffic, TrafficConfig

# Street 0, paths 1 and 2, short street 3, paths 4 and 5, streets 6, 7 and 8.
FOLLOWERS = ((1, 2), (3,), (8,), (4, 5), (6,), (7,), (), (), ())
IS_PATH = [number in {1, 2, 4, 5} for number in range(9)]
RUNS = [[10 * number] for number in range(9)]


def test_paths_are_joined_over_a_short_street():
    runs, followers, is_path = over_short_streets(RUNS, FOLLOWERS, IS_PATH, {3})
    assert runs == [[0], [60], [70], [80], [10, 30, 40], [10, 30, 50], [20]]
    assert followers == ((4, 5, 6), (), (), (), (1,), (2,), (3,))
    assert is_path == [False] * 4 + [True] * 3


@pytest.mark.parametrize('short', [set(), {0}, {6, 8}])
def test_streets_at_the_edge_of_the_map_stay(short):
    assert over_short_streets(RUNS, FOLLOWERS, IS_PATH, short) == (RUNS, FOLLOWERS, IS_PATH)


def test_circle_of_short_streets_is_not_followed_for_ever():
    """Path 1 leads to street 2, path 3 back to street 4 and path 1, and out to street 6."""
    followers = ((1,), (2,), (3, 5), (4,), (1,), (6,), ())
    is_path = [number in {1, 3, 5} for number in range(7)]
    runs, _, _ = over_short_streets([[n] for n in range(7)], followers, is_path, {2, 4})
    assert [1, 2, 5] in runs
    assert all(len(run) == len(set(run)) for run in runs)


def row_of_junctions(*lengths_m):
    """Return a one-way road along x whose every second piece lies in a junction."""
    roads, junctions, x_m = [], [], 0.0
    end = '<{} elementType="{}" elementId="{}" contactPoint="{}"/>'
    for number, length_m in enumerate(lengths_m):
        is_path = number % 2 == 1
        kind, first = ('road', 0) if is_path else ('junction', 100)
        before = end.format('predecessor', kind, first + number - 1, 'end')
        after = end.format('successor', kind, first + number + 1, 'start')
        ends = (before if number else '') + (after if number < len(lengths_m) - 1 else '')
        linked = lane(-1, link=link(-1, -1) if is_path else '')
        plan = line(x_m, length_m)
        text = road([section(0, right=linked)], number, length_m, plan=plan, link=ends)
        if is_path:
            text = text.replace('junction="-1"', f'junction="{100 + number}"')
            junctions.append(
                f'<junction id="{100 + number}"><connection id="0" incomingRoad="{number - 1}" '
                f'connectingRoad="{number}" contactPoint="start"><laneLink from="-1" to="-1"/>'
                '</connection></junction>'
            )
        roads.append(text)
        x_m += length_m
    return RoadMap('row', opendrive(*roads, *junctions))


@pytest.mark.parametrize('street_m', [2.0, 5.0, 12.0, 30.0])
def test_vehicle_longer_than_a_street_between_junctions_gets_through(street_m):
    traffic = Traffic(row_of_junctions(150.0, 15.0, street_m, 15.0, street_m, 15.0, 150.0), 400)
    traffic.start(TrafficConfig(vehicles=8), 1, [])
    standing_s, rounds = np.zeros(8), np.zeros(8)
    before = traffic.x_m.copy()
    for _ in range(4000):
        traffic.step([], 0.05)
        on_map = traffic.fleet.edge >= 0
        standing_s = np.where((traffic.fleet.speed_mps > 0.1) | ~on_map, 0.0, standing_s + 0.05)
        assert standing_s.max() < 30.0
        rounds += traffic.x_m < before - 100.0
        before = traffic.x_m.copy()
    assert rounds.min() >= 1


@pytest.mark.parametrize('name', ['town', 'arterial'])
def test_no_street_of_a_built_in_map_is_too_short(name):
    plain, joined = (lane_network(load_map(name), least) for least in (0.0, SHORTEST_STREET_M))
    assert joined.lanes == plain.lanes
    assert joined.followers == plain.followers

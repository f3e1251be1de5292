# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Streets between two junctions that are too short to wait on belong to the junctions."""

import math

import numpy as np
import pytest
from xodr_texts import lane, link, opendrive, road, section

from td3_agent.sim.boxes import overlap
from td3_agent.sim.lane_network import lane_network
from td3_agent.sim.lane_runs import over_short_streets
from td3_agent.sim.maps import load_map
from td3_agent.sim.road import RoadMap
from td3_agent.sim.simulator import Simulator, SimulatorConfig
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


def one_way(first_id, pieces, geometry):
    """Return roads in a row, one lane each, and the connections of the junctions between them.

    Args:
        first_id: of the first road.
        pieces: length [m] of each, and its junction where it is a path through one.
        geometry: x [m], y [m], heading [rad] where the row begins.
    """
    roads, connections = [], {}
    x_m, y_m, turned = geometry
    end = '<{} elementType="{}" elementId="{}" contactPoint="{}"/>'
    for number, (length_m, junction) in enumerate(pieces, start=first_id):
        ends = [
            (name, pieces[number - first_id + step][1], number + step, contact)
            for name, step, contact in (('predecessor', -1, 'end'), ('successor', 1, 'start'))
            if 0 <= number - first_id + step < len(pieces)
        ]
        joined = ''.join(
            end.format(name, 'road' if junction else 'junction', road_id if junction else beyond,
                       contact)
            for name, beyond, road_id, contact in ends
        )  # fmt: skip
        plan = f'<geometry s="0" x="{x_m}" y="{y_m}" hdg="{turned}" length="{length_m}"><line/>'
        linked = lane(-1, link=link(-1, -1) if junction else '')
        text = road([section(0, right=linked)], number, length_m, plan=f'{plan}</geometry>',
                    link=joined)  # fmt: skip
        if junction:
            text = text.replace('junction="-1"', f'junction="{junction}"')
            connections[junction] = (
                f'<connection id="{number}" incomingRoad="{number - 1}" contactPoint="start" '
                f'connectingRoad="{number}"><laneLink from="-1" to="-1"/></connection>'
            )
        roads.append(text)
        x_m, y_m = x_m + length_m * math.cos(turned), y_m + length_m * math.sin(turned)
    return roads, connections


def two_junctions(street_m):
    """Return a road along x through junctions 100 and 101, and one along y through the second."""
    pieces = [(150.0, 0), (15.0, 100), (street_m, 0), (15.0, 101), (150.0, 0)]
    along, first = one_way(1, pieces, (0.0, 0.0, 0.0))
    across_m = 172.5 + street_m
    pieces = [(100.0, 0), (16.0, 101), (100.0, 0)]
    across, second = one_way(11, pieces, (across_m, -108.0, 0.5 * math.pi))
    junctions = [f'<junction id="{number}">{first[number]}{second.get(number, "")}</junction>'
                 for number in first]  # fmt: skip
    return opendrive(*along, *across, *junctions), across_m


@pytest.mark.parametrize('street_m', [2.0, 5.0, 12.0, 30.0])
def test_vehicle_longer_than_a_street_between_junctions_gets_through(street_m):
    traffic = Traffic(RoadMap('row', two_junctions(street_m)[0]), 400)
    traffic.start(TrafficConfig(vehicles=8), 1, [])
    standing_s, rounds = np.zeros(8), np.zeros(8)
    before = traffic.x_m.copy()
    for _ in range(4000):
        traffic.step([], 0.05)
        on_map = traffic.fleet.edge >= 0
        standing_s = np.where((traffic.fleet.speed_mps > 0.1) | ~on_map, 0.0, standing_s + 0.05)
        assert standing_s.max() < 30.0
        rounds += (traffic.x_m < before - 20.0) | (traffic.y_m < before - 20.0)
        before = traffic.x_m.copy()
    assert rounds.min() >= 1


@pytest.mark.parametrize('since_m', [0.0, 4.0, 8.0, 12.0])
def test_vehicle_on_a_path_through_two_junctions_lets_a_driven_car_pass(tmp_path, since_m):
    """The car comes when the vehicle is on its way, too late to wait before the first one."""
    text, across_m = two_junctions(5.0)
    (tmp_path / 'row.xodr').write_text(text, 'utf-8')
    simulator = Simulator(SimulatorConfig(map=str(tmp_path / 'row.xodr'), parked_vehicles=0))
    car, traffic = simulator.ego, Traffic(simulator.map, 400)
    car.set_pose(0.0, -5000.0, 0.0)
    traffic.start(TrafficConfig(vehicles=1), 1, [car])
    for _ in range(2000):
        traffic.step([car], 0.05)
        if traffic.y_m[0] > -10.0 and 150.0 + since_m < traffic.x_m[0] < 155.0 + since_m:
            break
    else:
        pytest.fail('it did not come by')
    to_go_m = across_m - traffic.x_m[0]
    reached_m = 8.0 * to_go_m / max(traffic.fleet.speed_mps[0], 1.0)  # when it would be there
    for step in range(400):
        car.set_pose(across_m + 1.75, -1.75 - reached_m + 0.4 * step, 0.5 * math.pi)
        car.set_velocity(8.0)
        traffic.step([car], 0.05)
        assert not any(overlap(car.outline, box) for box in traffic.outlines(across_m, 0.0, 20.0))
    assert not across_m - 20.0 < traffic.x_m[0] < across_m + 10.0


@pytest.mark.parametrize('name', ['town', 'arterial'])
def test_no_street_of_a_built_in_map_is_too_short(name):
    plain, joined = (lane_network(load_map(name), least) for least in (0.0, SHORTEST_STREET_M))
    assert joined.lanes == plain.lanes
    assert joined.followers == plain.followers

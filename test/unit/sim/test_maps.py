# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Built-in maps: continuous, drivable, the same for the same seed."""

import math

import numpy as np
import pytest

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS
from td3_agent.driving.route import Route
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.randomisation import Randomisation

NAMES = ('oval', 'winding', 'town', 'highway', 'arterial')
SEEDS = (0, 1, 2)
COMFORT_MPS2 = 3.0
LIMITS = Randomisation()


def trace_from_start(name, seed, length_m=1200.0):
    road = load_map(name, seed)
    return road, road.route(road.spawn_points[0], np.random.default_rng(seed), length_m)


@pytest.mark.parametrize('name', NAMES)
def test_seed_decides_the_map(name):
    assert built_in_opendrive(name, 5) == built_in_opendrive(name, 5)
    assert built_in_opendrive(name, 5) != built_in_opendrive(name, 6)


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('name', NAMES)
def test_route_has_no_gap_and_no_kink(name, seed):
    _, trace = trace_from_start(name, seed)
    steps = np.diff(trace.points[:, :2], axis=0)
    lengths = np.hypot(*steps.T)
    headings = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    assert lengths.min() > 0.8
    assert lengths.max() < 1.2
    assert np.abs(np.diff(headings)).max() < 0.12  # a circle of 10 m turns by 0.1 per metre


@pytest.mark.parametrize('seed', SEEDS)
@pytest.mark.parametrize('name', ['oval', 'winding'])
def test_open_road_is_drivable_at_full_speed(name, seed):
    _, trace = trace_from_start(name, seed)
    route = Route(trace.points[:, :2], closed=trace.closed)
    curvature = route.curvature_array(np.arange(5.0, route.length_m - 5.0), 6.0)
    assert np.abs(curvature).max() * CONTROL_MAX_SPEED_MPS**2 < COMFORT_MPS2


@pytest.mark.parametrize('seed', SEEDS)
def test_oval_is_one_closed_lap(seed):
    _, trace = trace_from_start('oval', seed)
    assert trace.closed
    assert trace.turns == ()
    steps = np.diff(np.vstack((trace.points, trace.points[:1]))[:, :2], axis=0)
    turned = np.unwrap(np.arctan2(steps[:, 1], steps[:, 0]))
    assert abs(turned[-1] - turned[0]) == pytest.approx(2.0 * math.pi, abs=0.1)


@pytest.mark.parametrize('seed', SEEDS)
def test_winding_is_long_open_and_bends_both_ways(seed):
    _, trace = trace_from_start('winding', seed, 2000.0)
    route = Route(trace.points[:, :2])
    assert not trace.closed
    assert route.length_m >= 900.0
    curvature = route.curvature_array(np.arange(5.0, route.length_m - 5.0), 6.0)
    assert curvature.max() > 0.008
    assert curvature.min() < -0.008


@pytest.mark.parametrize('seed', range(5))
def test_town_route_turns_both_ways(seed):
    road, trace = trace_from_start('town', seed)
    junctions = {lane.span.road_id for lane in road.lanes if lane.span.in_junction}
    assert len(junctions) >= 4
    assert len(trace.turns) >= 3
    assert {'left', 'right'} <= set(trace.turns)


@pytest.mark.parametrize('name', NAMES)
def test_lanes_join_at_their_ends(name):
    """Every lane end outside the open ends of the map meets another lane's start."""
    lanes = load_map(name, 0).driving_lanes
    starts = np.array([lane.centre[0, :2] for lane in lanes])
    gaps = [np.hypot(*(starts - lane.centre[-1, :2]).T).min() for lane in lanes]
    loose = sum(gap > 0.02 for gap in gaps)
    assert loose == {'winding': 2, 'highway': 4}.get(name, 0)  # ends of open roads


@pytest.mark.parametrize('name', NAMES)
def test_markings_are_broken_between_lanes_and_solid_at_the_edges(name):
    road = load_map(name, 0)
    broken, solid, double = 1, 2, 3
    for marking in road.markings:
        assert marking.kind in (broken, solid, double)
        middle = marking.points[len(marking.points) // 2]
        after = marking.points[len(marking.points) // 2 - 1]
        dx, dy = (middle - after) / np.hypot(*(middle - after))
        both_sides = [
            road.locate(float(middle[0] + s * dy), float(middle[1] - s * dx)).on_road
            for s in (0.4, -0.4)
        ]
        assert all(both_sides) == (marking.kind != solid)


def test_style_follows_the_seed_and_leaves_the_geometry_alone():
    widths, marks = set(), set()
    for seed in range(8):
        plain, styled = load_map('winding', seed), load_map('winding', seed, limits=LIMITS)
        assert plain.bounds_m[2] == pytest.approx(styled.bounds_m[2], abs=1.0)
        width = float(
            np.hypot(*(styled.driving_lanes[0].left - styled.driving_lanes[0].right).T)[0]
        )
        assert LIMITS.lane_width_least_m <= width <= LIMITS.lane_width_most_m
        widths.add(round(width, 3))
        marks.add(tuple(sorted({(m.kind, m.colour) for m in styled.markings})))
    assert len(widths) == 8
    assert len(marks) > 2
    assert built_in_opendrive('winding', 3) == built_in_opendrive('winding', 3, limits=None)

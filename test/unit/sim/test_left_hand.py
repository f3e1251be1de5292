# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Left-hand traffic: a map seen in a mirror behaves like the map, seen in a mirror."""

import math

import numpy as np
import pytest
from xodr_texts import cut_road, lane, mirrored, opendrive, road, section

from td3_agent.sim.maps import built_in_opendrive
from td3_agent.sim.placement import park
from td3_agent.sim.road import RoadMap

MIRROR = np.array([1.0, -1.0])
EXACT_M = 2e-3  # carla.Map keeps places as float32


def straight(starts_m=(0.0, 100.0)):
    return opendrive(cut_road(starts_m))


@pytest.fixture(scope='module', params=['oval', 'town', 'sections'])
def both(request):
    text = straight() if request.param == 'sections' else built_in_opendrive(request.param, 0)
    return RoadMap('right', text), RoadMap('left', mirrored(text))


def key(span):
    return span.road_id, span.section, span.lane_id


def image(span):
    return span.road_id, span.section, -span.lane_id


def test_rule_decides_on_the_direction_and_the_waypoints_agree():
    for rule, left_hand in (('RHT', False), ('LHT', True)):
        text = opendrive(cut_road([0.0, 100.0], attributes=f'rule="{rule}"'))
        for one in RoadMap(rule, text).driving_lanes:
            assert one.span.left_hand is left_hand
            along = math.copysign(1.0, one.centre[-1, 0] - one.centre[0, 0])
            assert math.cos(one.heading_rad[0]) == pytest.approx(along)
            assert one.span.along_s == (along > 0.0)
            keeps = -1.0 if left_hand else 1.0  # y of the lane, times its direction
            assert along * one.centre[0, 1] * keeps == pytest.approx(-1.75, abs=EXACT_M)


def test_lanes_are_mirrored(both):
    right, left = both
    lanes = {key(one.span): one for one in left.driving_lanes}
    for one in right.driving_lanes:
        other = lanes[image(one.span)]
        assert np.allclose(other.centre[:, :2], one.centre[:, :2] * MIRROR, atol=EXACT_M)
        assert np.allclose(other.left, one.right * MIRROR, atol=EXACT_M)
        assert np.allclose(np.sin(other.heading_rad), -np.sin(one.heading_rad), atol=1e-3)


def test_followers_are_mirrored(both):
    right, left = both
    after = {
        key(left.driving_lanes[number].span): {key(left.driving_lanes[n].span) for n in ways}
        for number, ways in enumerate(left.lane_followers)
    }
    for number, ways in enumerate(right.lane_followers):
        wanted = {image(right.driving_lanes[n].span) for n in ways}
        assert after[image(right.driving_lanes[number].span)] == wanted


def test_markings_are_mirrored(both):
    right, left = both
    assert len(left.markings) == len(right.markings)
    middles = np.array([marking.points.mean(axis=0) for marking in left.markings])
    for marking in right.markings:
        apart = np.hypot(*(middles - marking.points.mean(axis=0) * MIRROR).T)
        other = left.markings[int(apart.argmin())]
        assert apart.min() < EXACT_M
        assert (other.kind, other.colour) == (marking.kind, marking.colour)
        assert len(other.points) == len(marking.points)


def test_spawn_points_are_mirrored_in_their_order(both):
    right, left = both
    for one, other in zip(right.spawn_points, left.spawn_points, strict=True):
        assert (other.x_m, -other.y_m) == pytest.approx((one.x_m, one.y_m), abs=EXACT_M)
        assert math.sin(other.yaw_rad) == pytest.approx(-math.sin(one.yaw_rad), abs=1e-3)


def test_turns_of_routes_are_mirrored():
    text = built_in_opendrive('town', 0)
    right, left = RoadMap('right', text), RoadMap('left', mirrored(text))
    swapped = {'left': 'right', 'right': 'left', 'straight': 'straight'}

    def first_turns(road_map, turned):
        rng = np.random.default_rng(0)
        traces = [road_map.route(spawn, rng, 130.0) for spawn in road_map.spawn_points]
        return {turned(trace.turns[0]) for trace in traces if trace.turns}

    assert first_turns(left, str) == {'left', 'right', 'straight'}
    assert first_turns(right, swapped.get) == {'left', 'right', 'straight'}
    for spawn in left.spawn_points[:8]:
        points = left.route(spawn, np.random.default_rng(0), 200.0).points[:, :2]
        assert np.hypot(*np.diff(points, axis=0).T).max() < 1.3


def test_cars_are_parked_at_the_kerb_on_the_left():
    left = RoadMap('left', mirrored(straight()))
    kerb_m = max(abs(one.left[:, 1]).max() for one in left.driving_lanes)
    parked = park(left, 6, (-100.0, 0.0), 1, np.random.default_rng(0))
    assert len(parked) == 6
    for box in parked:
        assert abs(box.y_m) > kerb_m
        # On the left of the lane that leads past: nose in the direction of its traffic.
        assert math.cos(box.yaw_rad) * box.y_m > 0.0


def test_both_rules_on_one_map():
    one_way = [section(0, right=lane(-1))]
    text = opendrive(
        road(one_way, 1, plan=None, attributes='rule="RHT"'),
        road([section(0, left=lane(1))], 2, attributes='rule="LHT"').replace('y="0.0"', 'y="50"'),
    )
    for found in RoadMap('both', text).driving_lanes:
        assert found.centre[-1, 0] > found.centre[0, 0]
        assert np.cos(found.heading_rad) == pytest.approx(1.0)

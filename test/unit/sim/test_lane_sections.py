# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lane sections follow each other: a cut road drives like the whole one."""

import math

import numpy as np
import pytest
from xodr_texts import (
    cut,
    cut_road,
    lane,
    line,
    link,
    mirrored,
    opendrive,
    road,
    section,
    two_way,
    with_slivers,
)

from td3_agent.sim.fleet import OFF_MAP
from td3_agent.sim.lane_network import lane_network
from td3_agent.sim.lane_runs import breaks_of
from td3_agent.sim.maps import built_in_opendrive
from td3_agent.sim.opendrive import MapError, prepared
from td3_agent.sim.road import RoadMap
from td3_agent.sim.traffic import Traffic, TrafficConfig

STEP_S = 0.05
ROUNDING_M = 0.02

OPENS = '<width sOffset="0" a="0" b="0.1" c="0" d="0"/>'
CLOSES = '<width sOffset="0" a="3.5" b="-0.1" c="0" d="0"/>'
SPLITS = opendrive(
    road(
        [
            section(0, right=lane(-1, link=link(after=-1))),
            # A second lane opens; the first closes in the section after it.
            section(
                60,
                right=lane(-1, link=link(-1, -1)) + lane(-2, link=link(after=-2), width=OPENS),
            ),
            section(
                95,
                right=lane(-1, link=link(-1), width=CLOSES) + lane(-2, link=link(-2, -1)),
            ),
            section(130, right=lane(-1, link=link(-2))),
        ]
    )
)
STEPS_SIDEWAYS = opendrive(
    cut_road(
        [0.0, 50.0, 51.0],
        offsets=''.join(
            f'<laneOffset s="{s}" a="{a}" b="0" c="0" d="0"/>'
            for s, a in [(0, 0), (50, 3.7), (51, 0), (120, 2.0)]
        ),
    )
)
GAP_BETWEEN_ROADS = opendrive(
    road(
        [two_way(0.0, before=False)],
        length_m=100,
        link='<successor elementType="road" elementId="2" contactPoint="start"/>',
    ),
    road(
        [two_way(0.0, after=False)],
        2,
        100,
        plan=line(102.0, 100, 1.0),
        link='<predecessor elementType="road" elementId="1" contactPoint="end"/>',
    ),
)
ROADS_APART = GAP_BETWEEN_ROADS.replace('x="102.0"', 'x="300.0"')
MAPS = {
    'two': opendrive(cut_road([0.0, 100.0])),
    'many': opendrive(cut_road(range(0, 200, 10))),
    'one metre': opendrive(cut_road([0.0, 80.0, 81.0, 82.0, 150.0])),
    'ten centimetres': opendrive(cut_road([0.0, 80.0, 80.1, 80.2, 199.9])),
    'millimetres': opendrive(cut_road([0.0, 80.0, 80.02, 80.04])),
    'loop': cut(built_in_opendrive('oval', 0), 7.0),
    'junctions': cut(built_in_opendrive('town', 0), 6.0),
    'split and merge': SPLITS,
    'lane offsets': STEPS_SIDEWAYS,
    'gap between roads': GAP_BETWEEN_ROADS,
    'roads apart': ROADS_APART,
}
EVERY_MAP = pytest.mark.parametrize('text', MAPS.values(), ids=MAPS.keys())


def spans_after(road_map):
    lanes = road_map.driving_lanes
    return {
        (one.span.section, one.span.lane_id): {
            (lanes[n].span.section, lanes[n].span.lane_id) for n in ways
        }
        for one, ways in zip(lanes, road_map.lane_followers, strict=True)
    }


@EVERY_MAP
def test_no_lane_follows_itself(text):
    for number, ways in enumerate(RoadMap('map', text).lane_followers):
        assert number not in ways


@pytest.mark.parametrize('starts_m', [[0.0, 100.0], [0.0, 80.0, 80.1, 81.0], range(0, 200, 10)])
@pytest.mark.parametrize('turned', [str, mirrored])
def test_each_section_follows_the_one_before(starts_m, turned):
    last = len(starts_m) - 1
    road_map = RoadMap('cut', turned(opendrive(cut_road(starts_m))))
    along = 1 if road_map.driving_lanes[0].span.left_hand else -1
    for (number, lane_id), ways in spans_after(road_map).items():
        after = number + 1 if lane_id == along else number - 1
        assert ways == ({(after, lane_id)} if 0 <= after <= last else set())


@pytest.mark.parametrize(('name', 'spacing_m'), [('oval', 5.0), ('winding', 10.0), ('town', 6.0)])
def test_cut_map_drives_like_the_whole(name, spacing_m):
    text = built_in_opendrive(name, 0)
    whole, pieces = RoadMap('whole', text), RoadMap('cut', cut(text, spacing_m))
    assert len(pieces.driving_lanes) > 2 * len(whole.driving_lanes)
    one, other = lane_network(whole), lane_network(pieces)
    assert sorted(other.length_m) == pytest.approx(sorted(one.length_m), abs=0.05)
    assert sorted(map(len, other.followers)) == sorted(map(len, one.followers))
    assert len(other.entries) == len(one.entries)
    for mine, theirs in zip(whole.spawn_points, pieces.spawn_points, strict=True):
        assert math.dist(mine[:2], theirs[:2]) < 1.1  # between two samples
        assert math.cos(mine.yaw_rad - theirs.yaw_rad) > 0.99
    turns = [
        road_map.route(road_map.spawn_points[0], np.random.default_rng(0), 500.0).turns
        for road_map in (whole, pieces)
    ]
    assert turns[0] == turns[1]


@pytest.mark.parametrize('name', ['town', 'arterial'])
def test_lanes_renumbered_for_millimetres_drive_like_the_whole(name):
    text = built_in_opendrive(name, 0)
    found = prepared(with_slivers(text))
    assert found.faults == ()
    whole, pieces = RoadMap('whole', text), RoadMap('slivers', found.opendrive)
    assert breaks_of(pieces) == []
    assert len(pieces.driving_lanes) == len(whole.driving_lanes)
    for mine, theirs in zip(whole.driving_lanes, pieces.driving_lanes, strict=True):
        assert np.allclose(mine.centre[[0, -1]], theirs.centre[[0, -1]], atol=0.01)
    assert pieces.lane_followers == whole.lane_followers


def test_section_of_millimetres_takes_its_links_from_other_roads_along():
    """Lane -2 becomes -1 after 4 mm; the road before it links to its first number."""
    one, both = lane(-1, kind='none'), lane(-2, link=link(-1, -1))
    end = '<{} elementType="road" elementId="{}" contactPoint="{}"/>'
    text = opendrive(
        road([section(0, right=lane(-1, link=link(after=-2)))],
             link=end.format('successor', 2, 'start')),
        road([section(0, right=one + both), section(0.004, right=lane(-1, link=link(before=-2)))],
             2, plan=line(200.0), link=end.format('predecessor', 1, 'end'),
             offsets='<laneOffset s="0" a="3.5"/><laneOffset s="0.004" a="0"/>'),
    )  # fmt: skip
    found = prepared(text)
    assert found.faults == ()
    road_map = RoadMap('two', found.opendrive)
    assert road_map.lane_followers == ((1,), ())
    assert breaks_of(road_map) == []


def test_lane_that_ends_leads_nowhere_and_merging_lanes_lead_on():
    after = spans_after(RoadMap('splits', SPLITS))
    assert after[0, -1] == {(1, -1)}
    assert after[1, -2] == {(2, -2)}
    assert after[2, -2] == {(3, -1)}
    assert after[2, -1] == set()


def test_short_sections_count_as_one_lane_for_spawn_points():
    cut_up = RoadMap('cut', opendrive(cut_road(range(0, 200, 10))))
    whole = RoadMap('whole', opendrive(cut_road([0.0])))
    assert len(cut_up.spawn_points) == len(whole.spawn_points) == 16


def test_short_roads_count_as_one_lane_where_all_are_short():
    number = 20
    roads = []
    for i in range(number):
        before = f'<predecessor elementType="road" elementId="{i}" contactPoint="end"/>'
        after = f'<successor elementType="road" elementId="{i + 2}" contactPoint="start"/>'
        ends = (before if i else '') + (after if i < number - 1 else '')
        here = two_way(0.0, before=i > 0, after=i < number - 1)
        roads.append(road([here], i + 1, 10.0, plan=line(10.0 * i, 10.0), link=ends))
    assert len(RoadMap('short', opendrive(*roads)).spawn_points) == 16


def test_lane_of_a_cars_length_is_a_start_where_there_is_nothing_longer():
    def spawns(length_m):
        return RoadMap('tiny', opendrive(cut_road([0.0], length_m))).spawn_points

    assert [spawn.x_m for spawn in spawns(8.0)] == pytest.approx([4.0, 4.0], abs=1.1)
    with pytest.raises(MapError, match=r'no lane outside junctions of 5\.0 m or more'):
        spawns(4.0)


@EVERY_MAP
@pytest.mark.parametrize('turned', [str, mirrored], ids=['right', 'left'])
def test_traffic_never_moves_farther_than_it_drives(text, turned):
    traffic = Traffic(RoadMap('map', turned(text)), 1)
    traffic.start(TrafficConfig(vehicles=12), 3, [])
    fleet, moved = traffic.fleet, 0
    assert len(fleet) > 3
    for _ in range(500):
        x, y, edge, ahead = traffic.x_m, traffic.y_m, fleet.edge.copy(), fleet.plan[:, 0].copy()
        speed = fleet.speed_mps.copy()
        traffic.step([], STEP_S)
        leaves = (edge == OFF_MAP) | ((ahead == OFF_MAP) & (fleet.edge != edge))
        stays = ~leaves & (fleet.edge != OFF_MAP)
        # A loop without a choice may come back to the edge that it left.
        way = np.hypot(traffic.x_m - x, traffic.y_m - y)
        fastest = np.maximum(speed, fleet.speed_mps) * STEP_S
        again = (ahead == OFF_MAP) & (way > fastest + ROUNDING_M)
        assert (way <= fastest + ROUNDING_M)[stays & ~again].all()
        forward = (traffic.x_m - x) * np.cos(traffic.yaw_rad) + (traffic.y_m - y) * np.sin(
            traffic.yaw_rad
        )
        assert (forward >= -ROUNDING_M)[stays & ~again].all()
        moved += int((way > 0.1).sum())
    assert moved > 500

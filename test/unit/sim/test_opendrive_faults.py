# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Faults of maps are named by road, section, lane and attribute, all of them at once."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest
from xodr_texts import (
    cut_road,
    lane,
    line,
    link,
    opendrive,
    road,
    section,
    two_way,
)

from td3_agent.sim.lane_runs import breaks_of
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.opendrive import MapError, checked, lane_spans, prepared
from td3_agent.sim.opendrive_repair import SHAPES
from td3_agent.sim.road import RoadMap

SINGLE_SIDE = 'singleSide is true, which carla.Map does not know: give every section both sides'
PLAIN = opendrive(cut_road([0.0, 100.0]))


def errors(text):
    return [str(fault) for fault in prepared(text).errors]


def warnings(text):
    return [str(fault) for fault in prepared(text).faults if not fault.error]


def changed(old, new):
    assert old in PLAIN
    return PLAIN.replace(old, new, 1)


@pytest.mark.parametrize(
    ('text', 'fault'),
    [
        (changed('length="200.0" junction', 'length="two" junction'),
         "road 1: length must be a number, got 'two'"),
        (changed('length="200.0" junction', 'length="0" junction'),
         'road 1: length must be > 0 [m], got 0'),
        (changed('length="200.0" junction', 'junction'),
         'road 1: length must be a number, got nothing'),
        (changed('x="0.0"', 'x="1,5"'),
         "road 1, geometry s=0: x must be a number, got '1,5'"),
        (changed('hdg="0"', 'hdg="inf"'),
         "road 1, geometry s=0: hdg must be a number, got 'inf'"),
        (changed('<line/>', '<arc/>'),
         'road 1, geometry s=0: curvature must be a number, got nothing'),
        (changed('x="0.0"', 'x="1e30"'),
         "road 1, geometry s=0: x must be a number, got '1e30'"),
        (changed('a="3.5"', 'a="NaN"'),
         "road 1, section s=0, lane 1, width: a must be a number, got 'NaN'"),
        (changed('<laneSection s="100.0"', '<laneSection s=""'),
         "road 1, section s=: s must be a number, got ''"),
        (changed('<lanes>', '<lanes><laneOffset s="1_0"/>'),
         "road 1, laneOffset: s must be a number, got '1_0'"),
        (changed('<lanes>', '<elevationProfile><elevation a="1"/></elevationProfile><lanes>'),
         'road 1, elevation: s must be a number, got nothing'),
        (changed('<lane id="-1"', '<lane id="right"'),
         "road 1, section s=0, lane right: id must be a whole number, got 'right'"),
        (changed('<successor id="-1"', '<successor id="0.5"'),
         "road 1, section s=0, lane -1: successor id must be a whole number, got '0.5'"),
        (changed('<successor id="-1"', '<successor id="-7"'),
         'road 1, section s=0, lane -1: successor -7 does not exist in section s=100'),
        (changed('<predecessor id="1"', '<predecessor id="2"'),
         'road 1, section s=100, lane 1: predecessor 2 does not exist in section s=0'),
        (changed('<successor id="1"', '<successor id="2"').replace('junction=', 'rule="LHT" '
         'junction='), 'road 1, section s=0, lane 1: successor 2 does not exist in section s=100'),
        (changed('<lane id="-1"', '<lane id="-3"'),
         'road 1, section s=0: ids of the right lanes must be -1, got -3'),
        (opendrive(road([section(0, right=lane(-1) + lane(-3) + lane(-4))])),
         'road 1, section s=0: ids of the right lanes must be -1 to -3, got -1, -3, -4'),
        (opendrive(road([section(0, right=lane(-1) + lane(-1))])),
         'road 1, section s=0: ids of the right lanes must be -1 to -2, got -1, -1'),
        (opendrive(road([section(0, left=lane(-1))])),
         'road 1, section s=0: ids of the left lanes must be 1, got -1'),
        (opendrive(road([section(0, right=lane(-1, width=''))])),
         'road 1, section s=0, lane -1: has no width'),
        (opendrive(cut_road([0.0], plan=line(length_m=0.0))),
         'road 1: is 200 m long, its planView 0 m: they must be equal'),
        (opendrive(cut_road([5.0])),
         'road 1, section s=5: the first laneSection must start at s=0'),
        (opendrive(cut_road([0.0, 300.0])),
         'road 1, section s=300: starts beyond the end of the road, 200 m'),
        (opendrive(cut_road([0.0], plan=line(s_m=20.0, length_m=180.0))),
         'road 1, geometry s=20: the first geometry must start at s=0'),
        (opendrive(cut_road([0.0], plan='<!-- none -->')), 'road 1: has no planView geometry'),
        (opendrive(road([])), 'road 1: has no laneSection'),
        (opendrive(cut_road([0.0], plan=line(length_m=-200.0))),
         'road 1, geometry s=0: length must be >= 0 [m], got -200.0'),
        (opendrive(cut_road([0.0], plan=line().replace('<line/>', '<nurbs/>'))),
         f'road 1, geometry s=0: has no shape: expected one of {", ".join(SHAPES)}'),
        (opendrive(cut_road([0.0]), cut_road([0.0])),
         'road 1: occurs 2 times: ids must be unique'),
        (opendrive(cut_road([0.0], road_id='')), 'road: has no id'),
        (PLAIN.replace('<laneSection s="0.0"', '<laneSection s="0.0" singleSide="true"'),
         f'road 1, section s=0: {SINGLE_SIDE}'),
    ],
)  # fmt: skip
def test_fault_is_named_with_its_place(text, fault):
    assert fault in errors(text)
    with pytest.raises(MapError, match="map 'bad' is refused: "):
        checked('bad', text)


def test_lane_types_that_there_are_are_listed():
    text = opendrive(road([section(0, lane(1, kind='sidewalk'), lane(-1, kind='restricted'))]))
    assert errors(text) == [
        'map: has no driving lane; lanes are of type none (1 x), restricted (1 x), sidewalk (1 x)'
    ]


def test_link_across_roads_is_checked_where_the_roads_meet():
    ends = (
        '<successor elementType="road" elementId="2" contactPoint="start"/>',
        '<predecessor elementType="road" elementId="1" contactPoint="end"/>',
    )
    one_lane = section(0, right=lane(-1, link=link(after=-2)))
    two_lanes = section(0, right=lane(-1) + lane(-2, link=link(before=-1)))
    later = section(50, right=lane(-1))

    def text(first_section):
        return opendrive(
            road([one_lane], 1, link=ends[0]),
            road([first_section, later], 2, plan=line(200.0), link=ends[1]),
        )

    assert errors(text(two_lanes)) == []
    assert errors(text(section(0, right=lane(-1)))) == [
        'road 1, section s=0, lane -1: successor -2 does not exist in the start of road 2'
    ]


def town(change):
    """Return the built-in town after a change of its first connection."""
    root = ET.fromstring(built_in_opendrive('town', 0))
    junction = root.find('junction')
    change(junction.find('connection'))
    return ET.tostring(root, encoding='unicode'), f'junction {junction.get("id")}, connection '


@pytest.mark.parametrize('name', ['from', 'to'])
def test_connection_of_lanes_that_do_not_exist(name):
    text, where = town(lambda connection: connection.find('laneLink').set(name, '-5'))
    assert errors(text) == []
    (only,) = warnings(text)
    assert only.startswith(where)
    assert f"laneLink {name} '-5': road " in only
    RoadMap('town', prepared(text).opendrive)


def test_all_faults_are_found_at_once_and_the_first_are_named_in_the_refusal():
    text = opendrive(*(cut_road([0.0], length_m='x', road_id=i, plan=line()) for i in range(1, 6)))
    assert len(errors(text)) == 10  # not a number, then not > 0
    with pytest.raises(MapError, match=r'road 1: .*; and 7 more, "td3_agent doctor --map FILE"'):
        checked('bad', text)


@pytest.mark.parametrize(
    ('text', 'warning'),
    [
        (
            opendrive(cut_road([0.0], link='<successor elementType="road" elementId="9"/>')),
            'road 1: successor road 9 does not exist: the road ends there',
        ),
        (
            opendrive(cut_road([0.0], link='<predecessor elementType="junction" elementId="j"/>')),
            'road 1: predecessor junction j does not exist: the road ends there',
        ),
        (
            PLAIN.replace('junction="-1"', 'junction="5"'),
            'road 1: junction 5 does not exist: it is outside',
        ),
        (
            opendrive(
                cut_road([0.0], link='<successor elementType="junction" elementId="3"/>'),
                '<junction id="3" type="direct"/>',
            ),
            'junction 3: is a direct junction, which carla.Map does not know: the roads end there',
        ),
        (
            opendrive(
                cut_road([0.0]),
                '<junction id="3"><connection id="4" incomingRoad="1"/></junction>',
            ),
            'junction 3, connection 4: connectingRoad nothing does not exist: it is left out',
        ),
        (
            opendrive(cut_road([0.0], plan=line(length_m=100.0) + line(100.0, 100.0, 0.5, 100.0))),
            'road 1, geometry s=100: starts 0.50 m from where the one before ends',
        ),
        (
            opendrive(
                cut_road(
                    [0.0],
                    offsets='<laneOffset s="50.00000001" a="3.7"/><laneOffset s="50" a="3.7"/>'
                    '<laneOffset s="0"/>',
                )
            ),
            'road 1, laneOffset s=50: the road steps sideways by 3.70 m',
        ),
        (
            opendrive(cut_road([0.0], 199.5, plan=line())),
            'road 1: is 199.5 m long, its planView 200 m: the road ends at s=199.5',
        ),
    ],
)
def test_what_can_be_driven_is_a_warning(text, warning):
    assert errors(text) == []
    assert warning in warnings(text)
    assert len(RoadMap('map', prepared(text).opendrive).lane_followers) >= 2


@pytest.mark.parametrize('length_m', [200.5, 220.0, 400.0])
@pytest.mark.parametrize('starts_m', [[0.0], [0.0, 200.0], [0.0, 100.0, 199.995, 200.3]])
def test_road_longer_than_its_plan_ends_with_it_and_stays_linked(starts_m, length_m):
    beyond = ''.join(f'<laneOffset s="{s_m}"/>' for s_m in (0.0, 200.2))
    ends = [f'<{end} elementType="road" elementId="{i}" contactPoint="{contact}"/>' for end, i,
            contact in (('successor', 2, 'start'), ('predecessor', 1, 'end'))]  # fmt: skip
    linked = [two_way(s_m, before=s_m > 0.0) for s_m in starts_m]
    text = opendrive(
        road(linked, 1, length_m, plan=line(), link=ends[0], offsets=beyond),
        road([two_way(0.0, after=False)], 2, 50.0, plan=line(200.0, 50.0), link=ends[1]),
    )
    told = f'road 1: is {length_m:g} m long, its planView 200 m: the road ends at s=200'
    assert errors(text) == []
    assert warnings(text) == [told]
    spans = lane_spans(prepared(text).opendrive)
    assert max(span.s_end_m for span in spans if span.road_id == 1) == 200.0
    road_map = RoadMap('map', prepared(text).opendrive)
    assert breaks_of(road_map) == []
    route = road_map.route(road_map.spawn_points[0], np.random.default_rng(0), 400.0).points
    assert np.linalg.norm(np.diff(route[:, :2], axis=0), axis=1).min() > 0.01


def test_faults_of_a_map_that_is_loaded_are_told(tmp_path, caplog):
    path = tmp_path / 'long.xodr'
    path.write_text(opendrive(cut_road([0.0], 221.0, plan=line())))
    load_map(str(path))
    assert caplog.messages == [
        "map 'long' has faults: road 1: is 221 m long, its planView 200 m: the road ends at s=200"
    ]


@pytest.mark.parametrize(
    'shape',
    [
        '<arc curvature="0.01"/>',
        '<spiral curvStart="0" curvEnd="0.02"/>',
        '<spiral curvStart="0.02" curvEnd="-0.01"/>',
    ],
)
def test_ends_of_shapes_are_those_of_carla(shape):
    first = f'<geometry s="0" x="0" y="0" hdg="0.3" length="100">{shape}</geometry>'
    alone = opendrive(cut_road([0.0], 100.0, plan=first))
    road_map = RoadMap('alone', checked('alone', alone).opendrive)
    ends = [one.centre[-1 if one.span.along_s else 0] for one in road_map.driving_lanes]
    x_m, y_m, _ = (sum(ends) / 2.0).tolist()
    both = first + line(x_m, 100.0, y_m, 100.0)
    assert warnings(opendrive(cut_road([0.0], plan=both))) == []
    apart = first + line(x_m + 0.3, 100.0, y_m, 100.0)
    assert len(warnings(opendrive(cut_road([0.0], plan=apart)))) == 1


def test_loose_link_of_a_lane_that_is_not_driven_on_is_left_out():
    def walk(name, neighbour):
        return lane(-2, kind='sidewalk', link=link(**{name: neighbour}))

    text = opendrive(
        road(
            [
                section(0, right=lane(-1, link=link(after=-1)) + walk('after', 7)),
                section(100, right=lane(-1, link=link(-1)) + walk('before', -3)),
            ]
        )
    )
    found = prepared(text)
    assert found.faults == ()
    assert sorted(found.cures) == [
        'predecessor of a sidewalk lane that does not exist left out',
        'successor of a sidewalk lane that does not exist left out',
    ]


def test_loose_link_against_the_traffic_is_left_out():
    found = prepared(changed('<successor id="1"', '<successor id="2"'))
    assert found.faults == ()
    assert found.cures == ('successor of a driving lane that does not exist left out',)


def test_lane_link_beyond_the_end_of_a_road_leads_nowhere_even_where_a_road_0_is():
    alone = road([section(0, right=lane(-1, link=link(-1, -1)))], 0)
    far = road([section(0, right=lane(-1, link=link(-1, -1)))], 5, plan=line(y_m=50.0))
    found = prepared(opendrive(alone, far))
    assert found.faults == ()
    assert RoadMap('two', found.opendrive).lane_followers == ((), ())

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Scenery stands beside the roads, never on them; signs lie on the lanes, before the junctions."""

from dataclasses import replace

import numpy as np
import pytest

from td3_agent.sim.boxes import Box
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.maps import load_map
from td3_agent.sim.roadside import STREET, VILLAGE, Roadside, sign_outlines
from td3_agent.sim.scenery import (
    _footprint,
    _tree,
    scenery_from,
    scenery_of,
    shadow_outlines,
    without_boxes,
)
from td3_agent.sim.simulator import Simulator, SimulatorConfig

DENSE = replace(STREET, trees=1.0, houses=1.0, walls=1.0, hedges=1.0, poles=1.0)
NONE = Roadside()


@pytest.mark.parametrize('name', ['oval', 'winding', 'town', 'arterial'])
def test_nothing_stands_on_a_lane(name):
    road = load_map(name, 1)
    scenery = scenery_of(road, DENSE)
    assert len(scenery) > 100
    near = 0
    for block in scenery:
        for x, y in _footprint(block):
            fix = road.locate(x, y)
            assert not fix.on_road
            near += abs(fix.lateral_m) < 8.0
    assert near > 100  # it does line the road


def test_equal_seeds_give_equal_scenery():
    road = load_map('oval', 0)
    one, other = (scenery_of.__wrapped__(road, VILLAGE) for _ in range(2))
    assert np.array_equal(one, other)
    third = scenery_of(road, replace(VILLAGE, seed=5))
    assert len(third) != len(one) or not np.array_equal(third.x_m, one.x_m)


def test_no_density_no_scenery():
    bare = Roadside(trees=0.0, houses=0.0, walls=0.0, hedges=0.0, poles=0.0)
    assert len(scenery_of(load_map('oval', 0), bare)) == 0


def test_parked_vehicles_take_the_place_of_what_stands_there():
    scenery = scenery_of(load_map('oval', 0), STREET)
    box = Box(x_m=float(scenery.x_m[0]), y_m=float(scenery.y_m[0]), yaw_rad=0.3)
    left = without_boxes(scenery, [box])
    assert 0 < len(left) < len(scenery)
    assert scenery.thing[0] not in left.thing
    assert without_boxes(scenery, []) is scenery


def test_a_shadow_falls_away_from_the_sun_as_long_as_the_height_says():
    side = Roadside(sun_rad=0.0, shadow_per_height=0.5)
    place = type('Place', (), {'yaw_rad': 0.0, 'beside': lambda _self, _away: (10.0, 4.0)})()
    thing = _tree(place, side, np.random.default_rng(0))
    scenery = scenery_from([thing])
    for outline, top in zip(shadow_outlines(scenery, side), scenery.top, strict=True):
        assert outline.shape == (6, 2)
        assert outline[:, 0].min() < 10.0 - 0.5 * top
        assert outline[:, 0].min() > 10.0 - 0.5 * top - 3.0
        after = np.roll(outline, -1, axis=0) - outline
        turns = after[:, 0] * np.roll(after, -1, axis=0)[:, 1]
        turns -= after[:, 1] * np.roll(after, -1, axis=0)[:, 0]
        assert (turns >= -1e-9).all() or (turns <= 1e-9).all()  # convex


def test_a_picture_follows_from_its_pose_alone():
    world = Simulator(SimulatorConfig(map='oval', camera=CameraConfig(width=84, height=84)))
    places = [world.ego.route.sample(s_m) for s_m in (0.0, 7.0, 14.0, 60.0, 21.0, 7.0)]
    there = [world.camera.render(*place) for place in places]
    back = [world.camera.render(*place) for place in reversed(places)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(there, back, strict=True))
    world.mount_camera(world.config.camera)
    assert np.array_equal(world.camera.render(*places[2]), there[2])


@pytest.mark.parametrize('name', ['town', 'arterial'])
@pytest.mark.parametrize('kind', ['stop_lines', 'arrows', 'crossings'])
def test_signs_lie_on_lanes_that_lead_into_a_junction(name, kind):
    road = load_map(name, 0)
    outlines = sign_outlines(road, replace(NONE, **{kind: True}))
    entering = [lane for lane in road.driving_lanes if lane.span.in_junction]
    starts = np.array([lane.centre[0, :2] for lane in entering])
    assert len(outlines) >= len({tuple(np.round(start, 1)) for start in starts})
    for outline in outlines:
        x, y = outline.mean(axis=0)
        fix = road.locate(x, y)
        assert fix.on_road
        assert not fix.in_junction
        assert np.hypot(*(starts - (x, y)).T).min() < 17.0


def test_there_are_none_where_none_are_wanted_or_no_junction_is():
    assert sign_outlines(load_map('town', 0), NONE) == []
    signed = replace(NONE, stop_lines=True, arrows=True, crossings=True)
    assert sign_outlines(load_map('winding', 0), signed) == []

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The ground is painted where one looks, as sharp as the finest, whatever came before."""

import math

import numpy as np
import pytest
from xodr_texts import cut_road, opendrive

from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.ground import FINEST_M, PLAIN, Ground, TiledGround, paint_ground
from td3_agent.sim.maps import load_map
from td3_agent.sim.paint import Paint, Window
from td3_agent.sim.road import RoadMap
from td3_agent.sim.roadside import STREET
from td3_agent.sim.scenery import scenery_of

SMALL_BYTES = 4 * 2**20
CONFIG = CameraConfig(width=84, height=84)


@pytest.fixture(scope='module')
def town():
    return load_map('town')


@pytest.fixture(scope='module')
def small_road():
    return RoadMap('small', opendrive(cut_road([0.0], 60.0)))


def poses():
    """Return places on the small road and beside it, in several directions."""
    for number in range(2):
        yield 5.0 + 30.0 * number, -1.75, 0.7 * number
        yield 8.0 + 30.0 * number, -41.75, -1.1 * number


def test_window_has_the_bytes_of_the_whole(town):
    cell_m = 0.4
    rows, columns = math.ceil(300.0 / cell_m), math.ceil(350.0 / cell_m)
    paint = Paint(town, STREET, scenery_of(town, STREET))
    grid = Window(cell_m, -30.0, 200.0, 0, 0, rows, columns)
    whole = paint.window(grid)
    assert len(np.unique(whole.surface.reshape(-1, 4), axis=0)) > 50
    for top, left in ((0, 0), (37, 111), (rows - 130, columns - 90)):
        part = paint.window(grid._replace(top=top, left=left, rows=128, columns=90))
        for texture, all_of_it in zip(part, whole, strict=True):
            assert np.array_equal(texture, all_of_it[top : top + 128, left : left + 90])


def test_only_what_fits_is_painted_whole(town):
    ground = paint_ground(town, budget_bytes=SMALL_BYTES)
    assert isinstance(ground, TiledGround)
    assert isinstance(paint_ground(load_map('oval'), budget_bytes=2**29), Ground)
    assert ground.cell_m == FINEST_M


@pytest.mark.parametrize('budget_bytes', [1, SMALL_BYTES])
def test_image_follows_from_the_pose_alone(small_road, budget_bytes):
    travelled = Camera(CONFIG, paint_ground(small_road, budget_bytes=budget_bytes))
    first = [travelled.render(*pose) for pose in poses()]
    again = [travelled.render(*pose) for pose in reversed(list(poses()))][::-1]
    fresh = Camera(CONFIG, paint_ground(small_road, budget_bytes=2 * SMALL_BYTES))
    for pose, one, other in zip(poses(), first, again, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, fresh.render(*pose))


def test_memory_of_tiles_stays_within_the_budget(small_road):
    ground = paint_ground(small_road, budget_bytes=SMALL_BYTES)
    camera = Camera(CONFIG, ground)
    for pose in poses():
        camera.render(*pose)
    own = {id(one): one.nbytes for tile in ground._tiles.values() for one in tile}
    shared = sum(one.nbytes for one in PLAIN)
    assert sum(own.values()) <= SMALL_BYTES + shared


def test_markings_are_there_at_both_ends_of_a_long_road():
    long_m = 12_000.0
    ground = paint_ground(RoadMap('long', opendrive(cut_road([0.0], long_m))))
    assert ground.cell_m == FINEST_M
    camera = Camera(CameraConfig(pitch=30.0), ground)
    for x_m in (30.0, long_m / 2.0, long_m - 60.0):
        image = camera.render(x_m, -1.75, 0.0)[..., :3].astype(int)
        assert (image.min(axis=2) > 140).sum() > 30

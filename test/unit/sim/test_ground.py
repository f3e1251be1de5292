# SPDX-License-Identifier: Apache-2.0
"""The ground is painted where one looks, as sharp as the finest, whatever came before."""

import math

import numpy as np
import pytest

from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.ground import FINEST_M, PLAIN, Ground, TiledGround, paint_ground
from td3_agent.sim.maps import load_map
from td3_agent.sim.paint import Paint, Window
from td3_agent.sim.roadside import STREET
from td3_agent.sim.scenery import scenery_of

SMALL_BYTES = 4 * 2**20
CONFIG = CameraConfig(width=84, height=84)


@pytest.fixture(scope='module')
def town():
    return load_map('town')


def poses(road_map):
    """Return places along a route, and some beside it, in every direction."""
    points = road_map.route(road_map.spawn_points[0], np.random.default_rng(0), 120.0).points
    for number, (x, y, _) in enumerate(points[::60].tolist()):
        yield x, y, 0.7 * number
        yield x + 3.0, y - 40.0, -1.1 * number


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
def test_image_follows_from_the_pose_alone(town, budget_bytes):
    travelled = Camera(CONFIG, paint_ground(town, budget_bytes=budget_bytes))
    first = [travelled.render(*pose) for pose in poses(town)]
    again = [travelled.render(*pose) for pose in reversed(list(poses(town)))][::-1]
    fresh = Camera(CONFIG, paint_ground(town))
    for pose, one, other in zip(poses(town), first, again, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, fresh.render(*pose))


def test_memory_of_tiles_stays_within_the_budget(town):
    ground = paint_ground(town, budget_bytes=SMALL_BYTES)
    camera = Camera(CONFIG, ground)
    for pose in poses(town):
        camera.render(*pose)
    own = {id(one): one.nbytes for tile in ground._tiles.values() for one in tile}
    shared = sum(one.nbytes for one in PLAIN)
    assert sum(own.values()) <= SMALL_BYTES + shared

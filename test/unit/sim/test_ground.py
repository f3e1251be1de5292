# SPDX-License-Identifier: Apache-2.0
"""Large maps are painted where one looks, as sharp as small ones, whatever came before."""

import math

import numpy as np
import pytest
from xodr_texts import cut_road, opendrive

from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.ground import FINEST_M, Ground, TiledGround, paint_ground
from td3_agent.sim.maps import built_in_opendrive, load_map
from td3_agent.sim.paint import LEVELS, Paint, Palette, Window
from td3_agent.sim.road import RoadMap

SMALL_BYTES = 4 * 2**20
LONG_M = 12_000.0
CONFIG = CameraConfig(width=84, height=84)


@pytest.fixture(scope='module')
def oval():
    """The built-in oval, as from a file; a small budget makes it a large map."""
    return RoadMap('oval', built_in_opendrive('oval', 0))


@pytest.fixture(scope='module')
def paint():
    return Paint(RoadMap('town', built_in_opendrive('town', 0)), 0, Palette())


@pytest.fixture(scope='module')
def long_road():
    return RoadMap('long', opendrive(cut_road([0.0], LONG_M)))


def poses(road_map):
    """Return places along a route, and some beside it, in every direction."""
    points = road_map.route(road_map.spawn_points[0], np.random.default_rng(0), 200.0).points
    for number, (x, y, _) in enumerate(points[::80].tolist()):
        yield x, y, 0.7 * number
        yield x + 3.0, y - 40.0, -1.1 * number


@pytest.mark.parametrize(('level', 'cell_m'), [(0, 0.4), (3, 0.8)])
def test_window_has_the_bytes_of_the_whole(paint, level, cell_m):
    rows, columns = math.ceil(300.0 / cell_m), math.ceil(350.0 / cell_m)
    grid = Window(cell_m, -30.0, 30.0, 0, 0, rows, columns)
    whole = paint.window(grid, level)
    assert len(np.unique(whole.reshape(-1, 4), axis=0)) > 50
    for top, left in ((0, 0), (37, 111), (rows - 130, columns - 90)):
        part = grid._replace(top=top, left=left, rows=128, columns=90)
        expected = whole[top : top + 128, left : left + 90]
        assert np.array_equal(paint.window(part, level), expected)


def test_file_is_painted_as_sharp_as_the_finest_whatever_its_size(oval, long_road):
    small = RoadMap('small', opendrive(cut_road([0.0], 100.0)))
    large, whole = paint_ground(long_road), paint_ground(small)
    assert large.cell_m == whole.cell_m == paint_ground(oval, budget_bytes=1).cell_m == FINEST_M
    assert isinstance(large, TiledGround)
    assert isinstance(whole, Ground)


def test_built_in_map_is_painted_whole_whatever_the_cells():
    ground = paint_ground(load_map('oval'), budget_bytes=SMALL_BYTES)
    assert isinstance(ground, Ground)
    assert ground.cell_m > FINEST_M


@pytest.mark.parametrize('budget_bytes', [1, SMALL_BYTES])
def test_image_follows_from_the_pose_alone(oval, budget_bytes):
    travelled = Camera(CONFIG, paint_ground(oval, budget_bytes=budget_bytes))
    first = [travelled.render(*pose) for pose in poses(oval)]
    again = [travelled.render(*pose) for pose in reversed(list(poses(oval)))][::-1]
    fresh = Camera(CONFIG, paint_ground(oval, budget_bytes=2 * SMALL_BYTES))
    for pose, one, other in zip(poses(oval), first, again, strict=True):
        assert np.array_equal(one, other)
        assert np.array_equal(one, fresh.render(*pose))


def test_memory_stays_within_the_budget(oval):
    ground = paint_ground(oval, budget_bytes=SMALL_BYTES)
    camera = Camera(CONFIG, ground)
    for pose in poses(oval):
        camera.render(*pose)
        assert sum(tile.nbytes for tile in ground._tiles.values()) <= SMALL_BYTES
    assert ground.nbytes() < SMALL_BYTES + 40 * 2**20


def test_tiles_show_what_the_whole_shows(oval):
    one = Camera(CONFIG, paint_ground(oval))
    other = Camera(CONFIG, paint_ground(oval, budget_bytes=SMALL_BYTES))
    for spawn in oval.spawn_points[:3]:
        pose = spawn.x_m, spawn.y_m, spawn.yaw_rad
        apart = one.render(*pose).astype(int) - other.render(*pose)
        assert np.abs(apart).mean() < 6.0  # the grain lies elsewhere


def test_markings_are_there_at_both_ends_of_a_long_road(long_road):
    camera = Camera(CameraConfig(pitch=30.0), paint_ground(long_road))
    for x_m in (30.0, LONG_M / 2.0, LONG_M - 60.0):
        image = camera.render(x_m, -1.75, 0.0)[..., :3].astype(int)
        assert (image.min(axis=2) > 140).sum() > 30


def test_no_part_of_a_view_is_beyond_its_tiles(oval):
    ground = paint_ground(oval, budget_bytes=SMALL_BYTES)
    camera = Camera(CameraConfig(width=64, height=48, roll=-20.0), ground)
    for x, y, yaw in poses(oval):
        for band in camera._bands:
            pose = x, y, math.cos(yaw), math.sin(yaw)
            texture, matrix = ground.view(band.level, pose, band.bounds_m)
            x0, y0, x1, y1 = band.bounds_m
            for ahead, left in ((x0, y0), (x0, y1), (x1, y0), (x1, y1)):
                px = x + pose[2] * ahead - pose[3] * left
                py = y + pose[3] * ahead + pose[2] * left
                column, row, _ = matrix @ (px, py, 1.0)
                assert 0.0 < column < texture.shape[1] - 1
                assert 0.0 < row < texture.shape[0] - 1
    assert {key[0] for key in ground._tiles} <= set(range(LEVELS))

# SPDX-License-Identifier: Apache-2.0
"""Large maps are painted where one looks, as sharp as small ones, whatever came before."""

import math

import cv2
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


class Chequers:
    """A paint that costs nothing: what it shows depends on the place and the level alone."""

    palette = Palette()

    def window(self, grid, level):
        row = np.arange(grid.top, grid.top + grid.rows) // 3 * 59 % 251
        column = np.arange(grid.left, grid.left + grid.columns) // 3 * 83 % 241
        grey = row.astype(np.uint8)[:, None] ^ (column + level).astype(np.uint8)
        return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGRA)


@pytest.fixture(scope='module')
def small_road():
    return RoadMap('small', opendrive(cut_road([0.0], 40.0)))


@pytest.fixture(scope='module')
def small_ground(small_road):
    return paint_ground(small_road)


@pytest.fixture(scope='module')
def paint():
    return Paint(RoadMap('town', built_in_opendrive('town', 0)), 0, Palette())


@pytest.fixture(scope='module')
def long_road():
    return RoadMap('long', opendrive(cut_road([0.0], LONG_M)))


# Places along a way, and some beside it, in several directions.
POSES = [
    pose
    for number in range(3)
    for x, y in [(30.0 * number, -20.0 * number)]
    for pose in [(x, y, 0.7 * number), (x + 3.0, y - 40.0, -1.1 * number)]
]


@pytest.mark.parametrize(('level', 'cell_m'), [(0, 0.4), (3, 0.8)])
def test_window_has_the_bytes_of_the_whole(paint, level, cell_m):
    rows, columns = math.ceil(140.0 / cell_m), math.ceil(170.0 / cell_m)
    grid = Window(cell_m, -30.0, 30.0, 0, 0, rows, columns)
    whole = paint.window(grid, level)
    assert len(np.unique(whole.reshape(-1, 4), axis=0)) > 50
    for top, left in ((0, 0), (37, 111), (rows - 130, columns - 90)):
        part = grid._replace(top=top, left=left, rows=128, columns=90)
        expected = whole[top : top + 128, left : left + 90]
        assert np.array_equal(paint.window(part, level), expected)


def test_file_is_painted_as_sharp_as_the_finest_whatever_its_size(
    small_road, small_ground, long_road
):
    large = paint_ground(long_road)
    tiled = paint_ground(small_road, budget_bytes=1)
    assert large.cell_m == small_ground.cell_m == tiled.cell_m == FINEST_M
    assert isinstance(large, TiledGround)
    assert isinstance(small_ground, Ground)


def test_built_in_map_is_painted_whole_whatever_the_cells():
    ground = paint_ground(load_map('oval'), budget_bytes=SMALL_BYTES)
    assert isinstance(ground, Ground)
    assert ground.cell_m > FINEST_M


@pytest.mark.parametrize('budget_bytes', [1, SMALL_BYTES])
def test_image_follows_from_the_pose_alone(budget_bytes):
    travelled = Camera(CONFIG, TiledGround(Chequers(), budget_bytes))
    first = [travelled.render(*pose) for pose in POSES]
    again = [travelled.render(*pose) for pose in reversed(POSES)][::-1]
    fresh = Camera(CONFIG, TiledGround(Chequers(), 2 * SMALL_BYTES))
    for pose, one, other in zip(POSES, first, again, strict=True):
        assert len(np.unique(one)) > 20
        assert np.array_equal(one, other)
        assert np.array_equal(one, fresh.render(*pose))


def test_memory_stays_within_the_budget():
    ground = TiledGround(Chequers(), SMALL_BYTES)
    camera = Camera(CONFIG, ground)
    for pose in POSES:
        camera.render(*pose)
        assert sum(tile.nbytes for tile in ground._tiles.values()) <= SMALL_BYTES
    assert ground.nbytes() < SMALL_BYTES + 40 * 2**20


def test_tiles_show_what_the_whole_shows(small_road, small_ground):
    one = Camera(CONFIG, small_ground)
    other = Camera(CONFIG, paint_ground(small_road, budget_bytes=SMALL_BYTES))
    for pose in ((10.0, -1.75, 0.0), (30.0, 1.75, 2.5)):
        apart = one.render(*pose).astype(int) - other.render(*pose)
        assert np.abs(apart).mean() < 6.0  # the grain lies elsewhere


def test_markings_are_there_at_both_ends_of_a_long_road(long_road):
    camera = Camera(CameraConfig(pitch=30.0), paint_ground(long_road))
    for x_m in (30.0, LONG_M / 2.0, LONG_M - 60.0):
        image = camera.render(x_m, -1.75, 0.0)[..., :3].astype(int)
        assert (image.min(axis=2) > 140).sum() > 30


def test_no_part_of_a_view_is_beyond_its_tiles():
    ground = TiledGround(Chequers(), SMALL_BYTES)
    camera = Camera(CameraConfig(width=64, height=48, roll=-20.0), ground)
    for x, y, yaw in POSES:
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

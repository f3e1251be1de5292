# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Perspective: what lies at a known place shows at the computed pixel."""

import math

import cv2
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.sim.boxes import Box
from td3_agent.sim.camera import Camera, CameraConfig, pixel_from_vehicle
from td3_agent.sim.ground import Ground, paint_ground
from td3_agent.sim.look import Look
from td3_agent.sim.maps import load_map
from td3_agent.sim.paint import (
    KERB,
    LIT,
    PAVEMENT,
    ROAD,
    VERGE,
    WHITE,
    YELLOW,
    Covered,
    Paint,
    Window,
)
from td3_agent.sim.roadside import Roadside

CELL_M = 0.05
EXTENT_M = 60.0  # texture covers [-30, 30] both ways
MOUNTINGS = {
    'stock': {},
    'level': {'pitch': 0.0},
    'steep': {'pitch': 35.0, 'z': 4.0},
    'aside': {'x': 0.5, 'y': 0.8, 'yaw': 25.0, 'fov_deg': 70.0},
    'rolled': {'roll': 12.0, 'yaw': -10.0, 'pitch': 15.0},
}
POSES = [(0.0, 0.0, 0.0), (3.0, -4.0, 1.2), (-5.0, 2.0, -2.6)]


BLACK = Look(verge=(0.0,) * 3, white=(255.0,) * 3, strengths=(0.0,) * 3)


def ground_with(markers):
    """Return bare ground with painted discs of 25 cm radius at map positions."""
    cells = round(EXTENT_M / CELL_M)
    paint = np.zeros((cells, cells), dtype=np.uint8)
    for x, y in markers:
        place = ((x + 30.0) / CELL_M - 0.5, (30.0 - y) / CELL_M - 0.5)
        centre = tuple(round(16 * value) for value in place)
        cv2.circle(paint, centre, round(16 * 0.25 / CELL_M), 255, -1, cv2.LINE_AA, 4)
    none, all_of_it = np.zeros_like(paint), np.full_like(paint, 255)
    levels = [
        [cv2.merge((255 - paint, none, none, all_of_it))],
        [cv2.merge((none, paint, none, none))],
    ]
    for textures in levels:
        for _ in range(4):
            half = textures[-1].shape[0] // 2
            smaller = cv2.resize(textures[-1], (half, half), interpolation=cv2.INTER_AREA)
            textures.append(smaller)
    return Ground(tuple(map(Covered, *levels)), CELL_M, -30.0, 30.0)


def black_camera(config, markers=()):
    """Return a camera over black ground with white discs."""
    return Camera(config, ground_with(markers), BLACK)


def to_map(pose, forward, left):
    x, y, yaw = pose
    return (
        x + math.cos(yaw) * forward - math.sin(yaw) * left,
        y + math.sin(yaw) * forward + math.cos(yaw) * left,
    )


def expected_pixel(config, forward, left):
    """Project a ground point by hand: rotate, turn to optical axes, divide."""
    roll, pitch, yaw = (math.radians(a) for a in (config.roll, config.pitch, config.yaw))
    x, y, z = forward - config.x, left - config.y, -config.z
    x, y = math.cos(yaw) * x + math.sin(yaw) * y, math.cos(yaw) * y - math.sin(yaw) * x
    x, z = math.cos(pitch) * x - math.sin(pitch) * z, math.sin(pitch) * x + math.cos(pitch) * z
    y, z = math.cos(roll) * y + math.sin(roll) * z, math.cos(roll) * z - math.sin(roll) * y
    focal = config.width / (2.0 * math.tan(math.radians(config.fov_deg) / 2.0))
    return config.width / 2.0 - focal * y / x, config.height / 2.0 - focal * z / x


def bright_spot(image, config):
    """Return the centre of brightness below the sky, in pixels that cover [0, 1)."""
    grey = image[..., 1].astype(float)
    grey[grey < 6.0] = 0.0
    rows, columns = np.mgrid[: config.height, : config.width]
    return (
        float((grey * (columns + 0.5)).sum() / grey.sum()),
        float((grey * (rows + 0.5)).sum() / grey.sum()),
    )


@pytest.mark.parametrize('pose', POSES)
@pytest.mark.parametrize('mounting', MOUNTINGS)
@pytest.mark.parametrize('size', [(84, 84), (160, 120), (400, 300)])
def test_marker_shows_at_the_computed_pixel(pose, mounting, size):
    config = CameraConfig(width=size[0], height=size[1], **MOUNTINGS[mounting])
    seen = 0
    for forward, left in ((6.0, 0.0), (8.0, 2.0), (8.0, -1.5), (12.0, 3.0)):
        u, v = expected_pixel(config, forward, left)
        if not (4.0 < u < size[0] - 4.0 and 4.0 < v < size[1] - 4.0):
            continue
        seen += 1
        camera = black_camera(config, [to_map(pose, forward, left)])
        camera._background[:] = 0  # no sky, so that the marker is all there is
        found = bright_spot(camera.render(*pose), config)
        u_w, v_w, w = pixel_from_vehicle(config) @ (forward, left, 0.0, 1.0)
        assert (u_w / w, v_w / w) == pytest.approx((u, v), abs=1e-6)
        assert found == pytest.approx((u, v), abs=1.0)
    assert seen >= 2


@pytest.mark.parametrize('pitch', [0.0, 8.0, -10.0, 20.0])
def test_horizon_stands_where_the_pitch_puts_it(pitch):
    config = CameraConfig(width=400, height=300, pitch=pitch)
    image = black_camera(config).render(0.0, 0.0, 0.0)
    sky_rows = int((image[:, 200, 0] > 100).sum())
    assert sky_rows == pytest.approx(150.0 - 200.0 * math.tan(math.radians(pitch)), abs=3.0)


def test_looking_down_shows_no_sky_and_looking_up_no_ground():
    ground = ground_with([])
    down = Camera(CameraConfig(pitch=80.0), ground, BLACK).render(0.0, 0.0, 0.0)
    up = Camera(CameraConfig(pitch=-80.0), ground, BLACK).render(0.0, 0.0, 0.0)
    assert down[..., :3].max() == 0
    assert up[..., :3].min() > 90


def test_images_are_opaque_bgra_and_brighter_with_gain():
    camera = black_camera(CameraConfig(), [(8.0, 0.0)])
    dull, bright = camera.render(0.0, 0.0, 0.0), camera.render(0.0, 0.0, 0.0, gain=1.3)
    for image in (dull, bright):
        assert image.shape == (120, 160, 4)
        assert image.dtype == np.uint8
        assert (image[..., 3] == 255).all()
    assert bright.mean() > dull.mean()


def red_columns(image):
    """Return the columns where a red car shows."""
    blue, green, red = (image[..., i].astype(int) for i in range(3))
    return np.flatnonzero(((red > 2 * blue) & (red > 2 * green) & (red > 60)).any(axis=0))


def test_car_ahead_on_the_right_shows_on_the_right_with_its_width():
    config = CameraConfig(width=400, height=300)
    car = Box(x_m=14.2, y_m=-3.0, yaw_rad=0.0, length_m=4.4, width_m=1.8, bgr=(0, 0, 200))
    columns = red_columns(black_camera(config).render(0.0, 0.0, 0.0, boxes=[car]))
    # Its back is 10 m before the camera, its front 14.4 m; 200 pixels are one to one.
    near_side = 200.0 + 200.0 * (3.0 - 0.9) / 14.4
    far_side = 200.0 + 200.0 * (3.0 + 0.9) / 10.0
    assert columns.min() == pytest.approx(near_side, abs=3.0)
    assert columns.max() == pytest.approx(far_side, abs=3.0)


def test_near_car_hides_the_far_one():
    config = CameraConfig(width=400, height=300)
    red = Box(x_m=20.0, y_m=0.0, yaw_rad=0.0, bgr=(0, 0, 200), actor_id=1)
    blue = Box(x_m=10.0, y_m=0.0, yaw_rad=0.0, bgr=(200, 0, 0), height_m=2.6, width_m=2.4)
    camera = black_camera(config)
    for order in ([red, blue], [blue, red]):
        assert len(red_columns(camera.render(0.0, 0.0, 0.0, boxes=order))) == 0
    assert len(red_columns(camera.render(0.0, 0.0, 0.0, boxes=[red]))) > 10


def test_car_behind_is_not_drawn():
    camera = black_camera(CameraConfig())
    behind = Box(x_m=-10.0, y_m=0.0, yaw_rad=0.0)
    assert np.array_equal(
        camera.render(0.0, 0.0, 0.0, boxes=[behind]), camera.render(0.0, 0.0, 0.0)
    )


@settings(max_examples=60, deadline=None)
@given(
    x=st.floats(-40.0, 40.0),
    y=st.floats(-40.0, 40.0),
    yaw=st.floats(-7.0, 7.0),
    car_x=st.floats(-6.0, 12.0),
    car_y=st.floats(-4.0, 4.0),
    car_yaw=st.floats(-4.0, 4.0),
)
def test_any_pose_renders(x, y, yaw, car_x, car_y, car_yaw):  # noqa: PLR0913
    """Cars around, beside and through the camera are clipped, never thrown about."""
    camera = Camera(CameraConfig(width=84, height=84), GROUND, BLACK)
    car_x, car_y = to_map((x, y, yaw), car_x, car_y)
    image = camera.render(x, y, yaw, boxes=[Box(x_m=car_x, y_m=car_y, yaw_rad=car_yaw)])
    assert (image[..., 3] == 255).all()


GROUND = ground_with([])


class TestPaintedMap:
    CELL_M, WEST_M, NORTH_M = 0.1, -60.0, 90.0

    @pytest.fixture(scope='class')
    def covered(self):
        window = Window(self.CELL_M, self.WEST_M, self.NORTH_M, 0, 0, 1200, 2400)
        return Paint(load_map('oval'), Roadside(pavement_m=2.0)).window(window)

    def cover_at(self, covered, x, y):
        row, column = round((self.NORTH_M - y) / 0.1 - 0.5), round((x - self.WEST_M) / 0.1 - 0.5)
        return (texture[row, column].astype(int) for texture in covered)

    def test_markings_lie_where_the_map_has_them(self, covered):
        for marking in load_map('oval').markings:
            if marking.kind == 2:
                x, y = marking.points[len(marking.points) // 2]
                _, paint = self.cover_at(covered, x, y)
                assert paint[[WHITE, YELLOW]].max() > 160

    @pytest.mark.parametrize(('y', 'channel'), [(-1.75, ROAD), (-5.0, PAVEMENT), (-20.0, VERGE)])
    def test_road_pavement_and_verge_lie_side_by_side(self, covered, y, channel):
        surface, _ = self.cover_at(covered, 40.0, y)
        assert surface[channel] == 255

    def test_kerb_lies_at_the_edge_of_the_road(self, covered):
        _, paint = self.cover_at(covered, 40.0, -3.7)
        assert paint[KERB] > 100  # the line at the edge covers a part of it

    def test_every_cell_is_covered_once(self, covered):
        total = covered.surface[..., :LIT].sum(axis=2, dtype=int)
        total += covered.paint.sum(axis=2, dtype=int)
        assert np.abs(total - 255).max() <= 3  # rounding

    def test_left_edge_line_shows_on_the_left(self):
        """From the right-hand lane the yellow line is left, the near white edge right."""
        config = CameraConfig()
        ground = paint_ground(load_map('oval'))
        image = Camera(config, ground).render(20.0, -1.75, 0.0)[60:, :, :3].astype(int)
        yellow = np.argwhere(image[..., 2] > image[..., 0] + 60)[:, 1]
        white = np.argwhere(image.min(axis=2) > 140)[:, 1]
        assert yellow.mean() < 80
        assert white.mean() > 80

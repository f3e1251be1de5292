# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The mixture of colours, exposure, blur and noise against their formulas."""

import numpy as np
import pytest

from td3_agent.sim.ground import Shading
from td3_agent.sim.look import Look, Photometry
from td3_agent.sim.paint import FULL, KERB, PAVEMENT, ROAD, VERGE, WHITE, YELLOW
from td3_agent.sim.textures import MEAN, TILE

LOOK = Look(
    verge=(10.0, 60.0, 30.0), road=(120.0, 118.0, 116.0), pavement=(90.0, 91.0, 92.0),
    kerb=(40.0, 41.0, 42.0), white=(200.0, 201.0, 202.0), yellow=(20.0, 150.0, 180.0),
    shadow_depth=0.5,
)  # fmt: skip


def mixed(surface, paint, *, grain=MEAN, light=FULL, lit=FULL):
    """Return the BGRA of one pixel covered as the two dicts say, channel to 0 .. 255."""
    planes = np.zeros((2, 1, 1, 4), dtype=np.uint8)
    for plane, cover in zip(planes, (surface, paint), strict=True):
        for channel, level in cover.items():
            plane[0, 0, channel] = level
    grains = np.array([[[grain, grain, grain, light]]], dtype=np.uint8)
    image = np.empty((1, 1, 4), dtype=np.uint8)
    Shading(LOOK).applied(
        planes[0], planes[1], grains, np.full((1, 1), lit, dtype=np.uint8), image
    )
    return image[0, 0].astype(float)


@pytest.mark.parametrize(
    ('surface', 'paint', 'colour'),
    [
        ({VERGE: 255}, {}, LOOK.verge),
        ({ROAD: 255}, {}, LOOK.road),
        ({PAVEMENT: 255}, {}, LOOK.pavement),
        ({}, {KERB: 255}, LOOK.kerb),
        ({}, {WHITE: 255}, LOOK.white),
        ({}, {YELLOW: 255}, LOOK.yellow),
    ],
)
def test_what_covers_a_pixel_alone_gives_it_its_colour(surface, paint, colour):
    assert mixed(surface, paint) == pytest.approx((*colour, 255.0), abs=1.0)


def test_a_pixel_on_an_edge_is_between_both():
    half = mixed({ROAD: 128}, {WHITE: 127})
    assert half[0] == pytest.approx(0.5 * (LOOK.road[0] + LOOK.white[0]), abs=1.5)


def test_texture_scales_surfaces_and_leaves_paint_alone():
    assert mixed({ROAD: 255}, {}, grain=64)[0] == pytest.approx(0.5 * LOOK.road[0], abs=1.0)
    assert mixed({}, {WHITE: 255}, grain=64)[0] == pytest.approx(LOOK.white[0], abs=1.0)


def test_shadows_take_the_light_that_their_depth_says():
    assert mixed({ROAD: 255}, {}, lit=0)[0] == pytest.approx(0.5 * LOOK.road[0], abs=1.0)
    assert mixed({ROAD: 255}, {}, light=128)[0] == pytest.approx(0.5 * LOOK.road[0], abs=1.0)


def test_textures_repeat_and_move_with_the_map():
    shading = Shading(LOOK)
    period_m = TILE * 0.05
    for level in range(5):
        here = shading.texture_from_map(level, 3.0, -2.0) @ (3.0, -2.0, 1.0)
        beside = shading.texture_from_map(level, 3.0 + period_m, -2.0) @ (
            3.0 + period_m,
            -2.0,
            1.0,
        )
        assert beside == pytest.approx(here)
        rows, columns = shading.levels[level].shape[:2]
        assert 0 <= here[0] < columns
        assert 0 <= here[1] < rows


def flat(level, shape=(40, 60)):
    image = np.full((*shape, 4), level, dtype=np.uint8)
    image[..., 3] = 255
    return image


def taken(image, **settings):
    return Photometry(**settings).applied(image, np.random.default_rng(0))


def test_by_default_a_picture_is_left_as_it_is():
    image = flat(77)
    assert np.array_equal(taken(image), image)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({'gamma': 2.0}, 255.0 * (100 / 255) ** 2),
        ({'contrast': 0.5}, 127.5 + 0.5 * (100 - 127.5)),
        ({'offset_levels': 30.0}, 130.0),
        ({'offset_levels': -200.0}, 0.0),
    ],
)
def test_exposure_follows_its_formula(settings, expected):
    image = taken(flat(100), **settings)
    assert np.abs(image[..., :3] - round(expected)).max() <= 1
    assert (image[..., 3] == 255).all()


def test_blur_has_the_deviation_and_the_trail_that_it_is_given():
    image = flat(0, (61, 61))
    image[30, 30, :3] = 255
    wide = np.zeros_like(image)
    wide[..., 3] = 255
    wide[:, 30, :3] = 255  # a line: only its columns are spread
    seen = taken(wide, blur_px=1.5)[30, :, 0].astype(float)
    place = np.arange(61) - 30.0
    assert (seen * place).sum() == pytest.approx(0.0, abs=1.0)
    assert np.sqrt((seen * place**2).sum() / seen.sum()) == pytest.approx(1.5, rel=0.1)
    trail = taken(wide, trail_px=9.0)[30, :, 0]
    assert np.count_nonzero(trail) == pytest.approx(9, abs=2)
    upright = taken(np.swapaxes(wide, 0, 1).copy(), trail_px=9.0)
    assert np.count_nonzero(upright[:, 30, 0]) <= 3


def test_night_is_darkest_away_from_the_beam_and_mist_is_brightest_at_the_horizon():
    night = taken(flat(120), darkness=0.8)[..., 0]
    assert night[33, 30] > 2 * night[2, 2]
    misty = taken(flat(20), mist=0.6)[..., 0]
    assert misty[16, 30] > misty[39, 30] + 20


def test_noise_is_as_large_as_it_says_and_depends_on_the_generator_alone():
    noisy = taken(flat(120), noise_levels=6.0)
    assert np.array_equal(noisy, taken(flat(120), noise_levels=6.0))
    noise = noisy[..., 0].astype(int) - 120
    assert noise.std() == pytest.approx(6.0, rel=0.1)
    assert noise.mean() == pytest.approx(0.0, abs=0.6)
    assert (noisy[..., 3] == 255).all()

# SPDX-License-Identifier: Apache-2.0
"""The mixture of colours against its formula."""

import numpy as np
import pytest

from td3_agent.sim.ground import Shading
from td3_agent.sim.look import Look
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

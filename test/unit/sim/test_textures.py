# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Textures join at their edges and keep the mean that colours rely on."""

import numpy as np
import pytest

from td3_agent.sim.textures import (
    MEAN,
    SHADOW_COUNT,
    SPREAD,
    TEXTURE_COUNT,
    TEXTURES,
    TILE,
    VARIANTS,
    shadows,
    texture,
)


@pytest.mark.parametrize('number', range(0, TEXTURE_COUNT, VARIANTS))
def test_texture_is_a_tile_around_the_mean(number):
    tile = texture(number)
    assert tile.shape == (TILE, TILE)
    assert tile.mean() == pytest.approx(MEAN, abs=3.0)
    assert tile.std() == pytest.approx(SPREAD, rel=0.15)


@pytest.mark.parametrize('number', range(0, TEXTURE_COUNT, VARIANTS))
def test_tiles_join_without_a_seam(number):
    tile = texture(number).astype(float)
    rows = np.abs(np.diff(tile, axis=0)).mean(axis=1)
    columns = np.abs(np.diff(tile, axis=1)).mean(axis=0)
    assert np.abs(tile[0] - tile[-1]).mean() <= rows.max() * 1.2
    assert np.abs(tile[:, 0] - tile[:, -1]).mean() <= columns.max() * 1.2


def test_kinds_and_variants_differ():
    tiles = [texture(number) for number in range(TEXTURE_COUNT)]
    assert len({tile.tobytes() for tile in tiles}) == TEXTURE_COUNT == len(TEXTURES) * VARIANTS


@pytest.mark.parametrize('number', range(SHADOW_COUNT))
def test_shadows_leave_some_light_and_some_shade(number):
    tile = shadows(number)
    assert 0.03 < (tile > 128).mean() < 0.8

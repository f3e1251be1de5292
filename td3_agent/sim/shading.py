# SPDX-License-Identifier: Apache-2.0
"""Gives the ground its look: mixes what covers a pixel by colours, textures, shadow and light.

The camera reads from the ground how much of a pixel is road, verge, kerb and so on, and from
the textures of a look how bright each of them is there. Coverage is filtered before it is
coloured, so edges are as smooth as those of a texture that was painted in colour, and another
look costs a few numbers, not another map.
"""

from __future__ import annotations

from functools import lru_cache
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from td3_agent.sim.ground import FINEST_M
from td3_agent.sim.look import NO_SHADOWS
from td3_agent.sim.paint import FULL, LEVELS
from td3_agent.sim.textures import MEAN, TILE, shadows, texture

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.look import Look

    FloatArray = NDArray[np.float64]

REACH_M = 12.0  # of the finest level's texture around its tile; twice as far for each coarser one
FARTHEST_M = 60.0  # beyond, a texture is even
EVEN = (MEAN, MEAN, MEAN, float(FULL))


class Shading:
    """The look of the ground, ready to be applied.

    Args:
        look: colours, textures, shadows.
        cell_m: edge of a cell of the ground's finest level [m].
    """

    def __init__(self, look: Look, cell_m: float = FINEST_M) -> None:
        """Lay the textures out."""
        self._cell_m = cell_m
        self._period_m = TILE * cell_m
        tile = _texture_tile(look)
        self.levels = []
        self._origins_m = []
        self._matrices: dict[tuple[int, int, int], FloatArray] = {}
        for number in range(LEVELS):
            reach_m = min(REACH_M * 2**number, FARTHEST_M)
            border = math.ceil(reach_m / (cell_m * 2**number))
            self.levels.append(_tiled(tile, border))
            self._origins_m.append(border * cell_m * 2**number)
            half = (tile.shape[1] // 2, tile.shape[0] // 2)
            smaller = cv2.resize(tile, half, interpolation=cv2.INTER_AREA)
            tile = np.asarray(smaller, dtype=np.uint8)
        self._shadow_depth = look.shadow_depth
        surfaces = [(*colour, 0.0) for colour in (look.verge, look.road, look.pavement)]
        paints = [(*colour, 0.0) for colour in (look.kerb, look.white, look.yellow, look.other)]
        # Coverage counts to 255; that of a surface is multiplied by its texture, as light is.
        self._of_surfaces = np.array([*surfaces, (0.0,) * 4], dtype=np.float32).T / FULL
        self._of_paints = np.array(paints, dtype=np.float32).T / FULL

    def texture_from_map(self, level: int, x_m: float, y_m: float) -> FloatArray:
        """Return the (3, 3) matrix from map (x, y, 1) [m] to (column, row, 1) of a level.

        Textures repeat; the one that is meant lies around a position [m].
        """
        tile = level, math.floor(x_m / self._period_m), math.floor(y_m / self._period_m)
        if tile not in self._matrices:
            self._matrices[tile] = self._matrix(*tile)
        return self._matrices[tile]

    def _matrix(self, level: int, column: int, row: int) -> FloatArray:
        per_m, origin_m = 1.0 / (self._cell_m * 2**level), self._origins_m[level]
        shift_x, shift_y = column * self._period_m, row * self._period_m
        return np.array([
            [per_m, 0.0, (origin_m - shift_x) * per_m - 0.5],
            [0.0, per_m, (origin_m - shift_y) * per_m - 0.5],
            [0.0, 0.0, 1.0],
        ])  # fmt: skip

    def applied(
        self,
        surface: NDArray[np.uint8],
        paint: NDArray[np.uint8],
        grain: NDArray[np.uint8],
        lit: NDArray[np.uint8],
        into: NDArray[np.uint8],
    ) -> None:
        """Write what pixels look like.

        Args:
            surface: (H, W, 4) verge, road, pavement; the last channel is not read.
            paint: (H, W, 4) kerb and paints.
            grain: (H, W, 4) texture of each surface, ``MEAN``: as it is; then the light that
                scattered shadows leave.
            lit: (H, W) light on the ground, 255: all of it.
            into: (H, W, 4) BGRA.
        """
        covered = cv2.multiply(surface, grain, scale=1.0 / MEAN, dtype=cv2.CV_32F)
        colour = cv2.transform(covered, self._of_surfaces)
        cv2.add(colour, cv2.transform(paint.astype(np.float32), self._of_paints), dst=colour)
        depth = self._shadow_depth
        light = cv2.multiply(
            cv2.convertScaleAbs(lit, alpha=depth, beta=FULL * (1.0 - depth)),
            cv2.extractChannel(grain, 3),
            scale=1.0 / FULL**2,
            dtype=cv2.CV_32F,
        )
        cv2.multiply(colour, cv2.merge((light, light, light, light)), dst=colour)
        cv2.convertScaleAbs(colour, dst=into)
        into[..., 3] = FULL


@lru_cache(maxsize=4)
def shading_of(look: Look, cell_m: float) -> Shading:
    """Return the shading of a look, or the one laid out before: nothing changes it."""
    return Shading(look, cell_m)


def _texture_tile(look: Look) -> NDArray[np.uint8]:
    """Return (TILE, TILE, 4): texture of verge, road and pavement, and light."""
    planes = [
        cv2.convertScaleAbs(texture(number), alpha=strength, beta=MEAN * (1.0 - strength))
        for number, strength in zip(look.textures, look.strengths, strict=True)
    ]
    light = np.full((TILE, TILE), FULL, dtype=np.uint8)
    if look.shadows != NO_SHADOWS:
        shade = cv2.convertScaleAbs(shadows(look.shadows), alpha=look.shadow_depth)
        light = np.asarray(FULL - shade, dtype=np.uint8)
    return np.asarray(cv2.merge((*planes, light)), dtype=np.uint8)


def _tiled(tile: NDArray[np.uint8], border: int) -> NDArray[np.uint8]:
    """Return a tile with so many cells more on every side, as it repeats."""
    return np.asarray(
        cv2.copyMakeBorder(tile, border, border, border, border, cv2.BORDER_WRAP), dtype=np.uint8
    )

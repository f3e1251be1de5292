# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The painted ground from above, as a texture pyramid, and how it looks in an episode.

A map that is small enough at the finest cells is painted once. Of larger ones, square tiles are
painted when a camera first sees them, as sharp as a small map, and the least recently seen are
forgotten. What a camera sees depends on its pose alone, not on what it has seen before.

The camera reads from the ground how much of a pixel is road, verge, kerb and so on, and from
the textures of a look how bright each of them is there. Coverage is filtered before it is
coloured, so edges are as smooth as those of a texture that was painted in colour, and another
look costs a few numbers, not another map.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, lru_cache
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from td3_agent.sim.look import NO_SHADOWS
from td3_agent.sim.paint import (
    FULL,
    LEVELS,
    PLAIN_PAINT,
    PLAIN_SURFACE,
    Covered,
    Paint,
    Window,
)
from td3_agent.sim.roadside import Roadside
from td3_agent.sim.textures import MEAN, TILE, shadows, texture

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from td3_agent.sim.road import RoadMap
    from td3_agent.sim.scenery import Scenery

    Pose: TypeAlias = tuple[float, float, float, float]
    Bounds: TypeAlias = tuple[float, float, float, float]
    View: TypeAlias = tuple[Covered, NDArray[np.float64]]
    from td3_agent.sim.look import Look

    FloatArray = NDArray[np.float64]

MARGIN_M = 45.0  # painted around the outermost lanes; beyond lies plain grass
BUDGET_BYTES = 256 * 1024 * 1024
BYTES = 8  # of a cell, in two textures
FINEST_M = 0.05
GROUND_TILE = 256  # cells of a tile's edge, at every level
# A tile of each level is painted in cells so many times halved, then averaged: 20 cm at most,
# or thin lines become too bright.
FINER = (0, 1, 1, 1, 2)
VIEWS = 2 * LEVELS  # put together from tiles, and kept
PLAIN = Covered(
    np.full((GROUND_TILE, GROUND_TILE, 4), PLAIN_SURFACE, dtype=np.uint8),
    np.full((GROUND_TILE, GROUND_TILE, 4), PLAIN_PAINT, dtype=np.uint8),
)
REACH_M = 12.0  # of the finest level's texture around its tile; twice as far for each coarser one
FARTHEST_M = 60.0  # beyond, a texture is even
EVEN = (MEAN, MEAN, MEAN, float(FULL))


@dataclass(frozen=True, eq=False)
class Ground:
    """A painted ground: what covers every cell, not yet how it looks.

    Attributes:
        levels: from fine to coarse, halved every time.
        cell_m: edge of a cell of the finest level [m].
        west_m: map x of the texture's left edge [m].
        north_m: map y of the texture's upper edge [m].
    """

    levels: tuple[Covered, ...]
    cell_m: float
    west_m: float
    north_m: float

    def _texture_from_map(self, level: int) -> NDArray[np.float64]:
        """Return the (3, 3) matrix from map (x, y, 1) [m] to (column, row, 1) of a level."""
        rows, columns = self.levels[level].paint.shape[:2]
        # Odd sizes do not halve evenly: scale by what the level really covers.
        per_m_x = columns / (self.levels[0].paint.shape[1] * self.cell_m)
        per_m_y = rows / (self.levels[0].paint.shape[0] * self.cell_m)
        return np.array(
            [
                [per_m_x, 0.0, -self.west_m * per_m_x - 0.5],
                [0.0, -per_m_y, self.north_m * per_m_y - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )

    def view(self, level: int, _pose: Pose, _bounds_m: Bounds) -> View:
        """Return the texture of a level, and the matrix into it."""
        return self.levels[level], self._matrices[level]

    @cached_property
    def _matrices(self) -> list[NDArray[np.float64]]:
        return [self._texture_from_map(level) for level in range(len(self.levels))]


class TiledGround:
    """A ground that is painted where a camera looks.

    Args:
        paint: what is on the ground.
        budget_bytes: upper bound of the memory of all tiles.

    Attributes:
        cell_m: edge of a cell of the finest level [m].
    """

    def __init__(self, paint: Paint, budget_bytes: int) -> None:
        self.cell_m = FINEST_M
        self._paint = paint
        self._budget_bytes, self._bytes = budget_bytes, 0
        self._tiles: OrderedDict[tuple[int, int, int], Covered] = OrderedDict()
        self._views: OrderedDict[tuple[int, ...], View] = OrderedDict()

    def view(self, level: int, pose: Pose, bounds_m: Bounds) -> View:
        """Return a texture that covers a part of the ground, and the matrix into it.

        Args:
            level: 0 is the finest.
            pose: of the vehicle: x, y in the map frame [m], cosine and sine of its heading.
            bounds_m: of the part: least x and y, largest x and y in the vehicle's frame.
        """
        cell_m = self.cell_m * 2**level
        x_m, y_m, cos, sin = pose
        x0, y0, x1, y1 = bounds_m
        ahead, beside = 0.5 * (x0 + x1), 0.5 * (y0 + y1)
        x, y = x_m + cos * ahead - sin * beside, y_m + sin * ahead + cos * beside
        # Two cells more: pixels are read between cells, and may round.
        margin = 2.0 * cell_m
        reach_x = 0.5 * (abs(cos) * (x1 - x0) + abs(sin) * (y1 - y0)) + margin
        reach_y = 0.5 * (abs(sin) * (x1 - x0) + abs(cos) * (y1 - y0)) + margin
        tile_m = GROUND_TILE * cell_m
        left, right = math.floor((x - reach_x) / tile_m), math.floor((x + reach_x) / tile_m)
        top, bottom = math.floor((-y - reach_y) / tile_m), math.floor((-y + reach_y) / tile_m)
        return self._joined(level, top, bottom, left, right)

    def _joined(self, level: int, top: int, bottom: int, left: int, right: int) -> View:
        key = level, top, bottom, left, right
        if key in self._views:
            self._views.move_to_end(key)
            return self._views[key]
        rows = [
            [self._tile(level, i, j) for j in range(left, right + 1)]
            for i in range(top, bottom + 1)
        ]
        covered = Covered(
            np.concatenate([np.concatenate([t.surface for t in row], axis=1) for row in rows]),
            np.concatenate([np.concatenate([t.paint for t in row], axis=1) for row in rows]),
        )
        per_m = 1.0 / (self.cell_m * 2**level)
        matrix = [
            [per_m, 0.0, -0.5 - left * GROUND_TILE],
            [0.0, -per_m, -0.5 - top * GROUND_TILE],
            [0.0, 0.0, 1.0],
        ]
        self._views[key] = covered, np.array(matrix)
        while len(self._views) > VIEWS:
            self._views.popitem(last=False)
        return self._views[key]

    def _tile(self, level: int, row: int, column: int) -> Covered:
        key = level, row, column
        if key in self._tiles:
            self._tiles.move_to_end(key)
            return self._tiles[key]
        finer = FINER[level]
        size = GROUND_TILE << finer
        painted = self._paint.window(
            Window(
                cell_m=self.cell_m * 2 ** (level - finer),
                west_m=0.0,
                north_m=0.0,
                top=row * size,
                left=column * size,
                rows=size,
                columns=size,
            )
        )
        tile = _shared(_resized(painted, GROUND_TILE, GROUND_TILE) if finer else painted)
        self._tiles[key] = tile
        self._bytes += _own_bytes(tile)
        while self._bytes > self._budget_bytes and len(self._tiles) > 1:
            self._bytes -= _own_bytes(self._tiles.popitem(last=False)[1])
        return tile


def _shared(tile: Covered) -> Covered:
    """Return a tile whose textures are those of ``PLAIN`` where they are equal: most are."""
    return Covered(
        *(
            plain if np.array_equal(one, plain) else np.ascontiguousarray(one)
            for one, plain in zip(tile, PLAIN, strict=True)
        )
    )


def _own_bytes(tile: Covered) -> int:
    return sum(one.nbytes for one, plain in zip(tile, PLAIN, strict=True) if one is not plain)


def paint_ground(
    road_map: RoadMap,
    roadside: Roadside | None = None,
    scenery: Scenery | None = None,
    budget_bytes: int = BUDGET_BYTES,
) -> Ground | TiledGround:
    """Paint a map: whole where the finest cells fit into the budget, else where one looks.

    Args:
        road_map: what to paint.
        roadside: kerb, pavement and paint.
        scenery: what stands beside the roads and shades the ground.
        budget_bytes: upper bound of the memory of all textures.
    """
    paint = Paint(road_map, roadside or Roadside(), scenery)
    x0, y0, x1, y1 = road_map.bounds_m
    rows = math.ceil((y1 - y0 + 2.0 * MARGIN_M) / FINEST_M)
    columns = math.ceil((x1 - x0 + 2.0 * MARGIN_M) / FINEST_M)
    if rows * columns * BYTES * 4 / 3 > budget_bytes:  # a third more for the coarser levels
        return TiledGround(paint, budget_bytes)
    west_m, north_m = x0 - MARGIN_M, y1 + MARGIN_M
    whole = paint.window(Window(FINEST_M, west_m, north_m, 0, 0, rows, columns))
    return Ground(_pyramid(whole), FINEST_M, west_m, north_m)


def _pyramid(finest: Covered) -> tuple[Covered, ...]:
    levels = [finest]
    while len(levels) < LEVELS:
        rows, columns = levels[-1].paint.shape[:2]
        levels.append(_resized(levels[-1], max(1, rows // 2), max(1, columns // 2)))
    return tuple(levels)


def _resized(covered: Covered, rows: int, columns: int) -> Covered:
    return Covered(
        *(
            np.asarray(
                cv2.resize(texture, (columns, rows), interpolation=cv2.INTER_AREA), dtype=np.uint8
            )
            for texture in covered
        )
    )


class Shading:
    """The look of the ground, ready to be applied.

    Args:
        look: colours, textures, shadows.
        cell_m: edge of a cell of the ground's finest level [m].
    """

    def __init__(self, look: Look, cell_m: float = FINEST_M) -> None:
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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Textures of the ground and its shadows, made by the program: tiles that join without a seam.

Each is a (``TILE``, ``TILE``) uint8 array around ``MEAN``; a cell is 5 cm where the ground's is.
The same number gives the same texture, so that only its use has to be drawn.
"""

from __future__ import annotations

from functools import lru_cache
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

TILE = 512
MEAN = 128.0
SPREAD = 42.0  # standard deviation of every texture; some saturate a little
VARIANTS = 3  # of each kind


def _noise(rng: np.random.Generator, cells: int) -> Array:
    """Return smooth noise whose bumps are about ``cells`` wide, deviation 1."""
    size = max(2, TILE // cells)
    border = 2  # wrapped, so that tiles join
    layer = np.pad(rng.standard_normal((size, size)).astype(np.float32), border, mode='wrap')
    scale = TILE // size
    edge = TILE + 2 * border * scale
    full = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_CUBIC)
    inside = full[border * scale : border * scale + TILE, border * scale : border * scale + TILE]
    return np.asarray(inside / inside.std(), dtype=np.float32)


def _layers(rng: np.random.Generator, *weighted: tuple[int, float]) -> Array:
    """Return a sum of noises: (bump width [cells], weight) each."""
    return np.asarray(sum(weight * _noise(rng, cells) for cells, weight in weighted), np.float32)


def _drawn(paint: Callable[[NDArray[np.uint8]], None]) -> Array:
    """Return what ``paint`` draws white on black into a canvas that wraps at its edges, 0 .. 1."""
    canvas = np.zeros((3 * TILE, 3 * TILE), dtype=np.uint8)
    paint(canvas)
    parts = canvas.reshape(3, TILE, 3, TILE)
    return np.asarray(parts.max(axis=(0, 2)) / 255.0, dtype=np.float32)


def fine(rng: np.random.Generator) -> Array:
    """Return even grain: new asphalt, short grass."""
    return _layers(rng, (1, 1.0), (4, 0.5), (64, 0.4))


def coarse(rng: np.random.Generator) -> Array:
    """Return grain of several scales: old asphalt, earth."""
    return _layers(rng, (1, 0.7), (4, 1.0), (16, 0.8), (128, 1.0))


def clumps(rng: np.random.Generator) -> Array:
    """Return blotches: high grass, bushes, puddles."""
    return np.asarray(np.tanh(1.5 * _layers(rng, (2, 0.5), (8, 0.7), (32, 1.2))), np.float32)


def gravel(rng: np.random.Generator) -> Array:
    """Return stones."""
    stones = np.sqrt(np.abs(_layers(rng, (4, 1.0), (8, 0.6))))
    return np.asarray(stones + 0.2 * _noise(rng, 64), np.float32)


def patched(rng: np.random.Generator) -> Array:
    """Return repaired asphalt: rectangles of other brightness, seams of tar."""
    shade = 0.4 * coarse(rng)
    for _ in range(7):
        level = rng.uniform(-1.2, 1.2)

        def rectangle(canvas: NDArray[np.uint8]) -> None:
            centre = (rng.uniform(0.0, TILE, 2) + TILE).tolist()
            size, angle = rng.uniform(20.0, 140.0, 2).tolist(), float(rng.uniform(0.0, 180.0))
            corners = cv2.boxPoints((centre, size, angle))
            cv2.fillConvexPoly(canvas, np.rint(corners).astype(np.int32), 255, cv2.LINE_AA)

        shade = shade + np.float32(level) * _drawn(rectangle)
    return shade - 1.5 * _seams(rng, 5)


def _seams(rng: np.random.Generator, count: int) -> Array:
    """Return crooked lines across the tile."""

    def paint(canvas: NDArray[np.uint8]) -> None:
        for _ in range(count):
            step = rng.normal(0.0, 0.25, 60).cumsum() + rng.uniform(0.0, 2.0 * math.pi)
            walk = np.column_stack((np.cos(step), np.sin(step))) * 8.0
            points = walk.cumsum(axis=0) + rng.uniform(0.0, TILE, 2) + TILE
            cells = np.rint(points).astype(np.int32)
            width = int(rng.integers(1, 4))
            cv2.polylines(canvas, [cells], isClosed=False, color=255, thickness=width)

    return _drawn(paint)


def slabs(rng: np.random.Generator) -> Array:
    """Return plates of concrete with joints."""
    cells = int(rng.choice([32, 64, 128]))
    return _bricks(rng, cells, cells, 2, shift=False) + 0.3 * coarse(rng)


def bricks(rng: np.random.Generator) -> Array:
    """Return paving stones."""
    height = int(rng.choice([4, 8, 16]))
    return _bricks(rng, height, 2 * height, 1, shift=True) + 0.2 * fine(rng)


def _bricks(
    rng: np.random.Generator, height: int, width: int, joint: int, *, shift: bool
) -> Array:
    rows, columns = TILE // height, TILE // width
    stones = rng.standard_normal((rows, columns)).astype(np.float32)
    shade = np.kron(stones, np.ones((height, width), dtype=np.float32)) * np.float32(0.6)
    for start in range(0, TILE, height):
        shade[start : start + joint] = -2.0
        row = shade[start : start + height]
        row[:, [column for x in range(0, TILE, width) for column in range(x, x + joint)]] = -2.0
        if shift and (start // height) % 2:
            row[:] = np.roll(row, width // 2, axis=1)
    return np.asarray(shade, dtype=np.float32)


def stripes(rng: np.random.Generator) -> Array:
    """Return tracks of tyres or of a mower: bands in one direction."""
    angle = rng.uniform(0.0, math.pi)
    waves = np.rint(rng.integers(4, 24) * np.array([math.cos(angle), math.sin(angle)]))
    y, x = np.mgrid[:TILE, :TILE] * (2.0 * math.pi / TILE)
    return np.asarray(np.sin(waves[0] * x + waves[1] * y) + 0.5 * coarse(rng), dtype=np.float32)


TEXTURES = (fine, coarse, clumps, gravel, patched, slabs, bricks, stripes)
TEXTURE_COUNT = len(TEXTURES) * VARIANTS
COARSE, CLUMPS, SLABS = (VARIANTS * TEXTURES.index(kind) for kind in (coarse, clumps, slabs))


@lru_cache(maxsize=TEXTURE_COUNT)
def texture(number: int) -> NDArray[np.uint8]:
    """Return a texture by its number, in [0, ``TEXTURE_COUNT``)."""
    rng = np.random.default_rng([number, 1])
    shade = TEXTURES[number // VARIANTS](rng)
    shade = (shade - shade.mean()) / shade.std()
    return _levels(MEAN + SPREAD * shade)


def leaves(rng: np.random.Generator) -> Array:
    """Return what falls through a crown: light and shade in flecks, and open ground."""
    crown = _noise(rng, 128) + 0.4 * _noise(rng, 64)
    fleck = -6.0 * (_layers(rng, (4, 0.6), (16, 1.0)) + 2.0 * crown)
    return np.asarray(1.0 / (1.0 + np.exp(fleck)), np.float32)


def outlines(rng: np.random.Generator) -> Array:
    """Return shadows of buildings: polygons with straight edges."""

    def paint(canvas: NDArray[np.uint8]) -> None:
        for _ in range(5):
            angles = np.sort(rng.uniform(0.0, 2.0 * math.pi, int(rng.integers(3, 7))))
            reach = rng.uniform(40.0, 160.0)
            around = np.column_stack((np.cos(angles), np.sin(angles))) * reach
            corners = np.rint(around + rng.uniform(0.0, TILE, 2) + TILE).astype(np.int32)
            cv2.fillConvexPoly(canvas, cv2.convexHull(corners), 255, cv2.LINE_AA)

    return _drawn(paint)


def bars(rng: np.random.Generator) -> Array:
    """Return shadows of trunks, poles and fences: long narrow strips, nearly parallel."""
    angle = rng.uniform(0.0, math.pi)

    def paint(canvas: NDArray[np.uint8]) -> None:
        for _ in range(14):
            turned = angle + rng.normal(0.0, 0.03)
            along = np.array([math.cos(turned), math.sin(turned)]) * rng.uniform(60.0, 240.0)
            start = rng.uniform(0.0, TILE, 2) + TILE
            ends = np.rint(np.array([start - along, start + along])).astype(np.int32)
            width = int(rng.integers(3, 22))
            cv2.polylines(canvas, [ends], isClosed=False, color=255, thickness=width)

    return _drawn(paint)


SHADOWS = (leaves, outlines, bars)
SHADOW_VARIANTS = 12  # of each kind: what lies on the road must not be known by heart
SHADOW_COUNT = len(SHADOWS) * SHADOW_VARIANTS
SOFTNESS = (9, 5, 3)  # cells by which the edges of each kind are blurred


@lru_cache(maxsize=SHADOW_COUNT)
def shadows(number: int) -> NDArray[np.uint8]:
    """Return scattered shadows by their number, in [0, ``SHADOW_COUNT``): 255 is full shade."""
    kind = number // SHADOW_VARIANTS
    shade = SHADOWS[kind](np.random.default_rng([number, 2]))
    border = 16
    blurred = cv2.blur(np.pad(shade, border, mode='wrap'), (SOFTNESS[number % 3],) * 2)
    return _levels(255.0 * blurred[border:-border, border:-border])


def _levels(values: Array) -> NDArray[np.uint8]:
    return np.clip(np.rint(values), 0.0, 255.0).astype(np.uint8)

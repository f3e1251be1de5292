# SPDX-License-Identifier: Apache-2.0
"""Paint of the ground: grass, asphalt, kerbs and markings, drawn into any window of a cell grid.

Texture axes: column along map x, row against map y, so row 0 is the northern edge. A texture
cell is a square whose *centre* carries the value, as in ``cv2``. A window of a grid gets the
bytes that the whole grid would have there.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.road import LaneGeometry, Marking, RoadMap

    Quads = NDArray[np.float64]

# Colours are BGR, as in the bridge's images, at the *dullest* light: the camera's gain only
# brightens, so that alpha stays saturated at 255.
GRASS_BGR = (42, 98, 74)
DRY_GRASS_BGR = (70, 110, 122)
ASPHALT_BGR = (56, 54, 53)
PAVEMENT_BGR = (96, 98, 100)
KERB_BGR = (112, 116, 118)
WHITE_BGR = (182, 184, 184)
MARKING_BGR = {  # by carla.LaneMarkingColor: white, blue, green, red, yellow
    0: WHITE_BGR,
    1: (150, 90, 40),
    2: (70, 130, 50),
    3: (40, 40, 160),
    4: (50, 150, 190),
}
OPAQUE = 255

KERB_WIDTH_M = 0.3
MARKING_WIDTH_M = 0.16
DOUBLE_GAP_M = 0.12
DASH_M = 3.0
DASH_PERIOD_M = 6.0
NOISE_TILE = 1024
SUBPIXEL_BITS = 4  # cv2 drawing takes integers with this many fractional bits

LEVELS = 5
MARK_BROKEN, MARK_SOLID, MARK_KERB, MARK_GRASS = 1, 2, 9, 8
# Two lines side by side (left, right of the driving direction), as CARLA enumerates them.
DOUBLE_MARKS = {
    3: (MARK_SOLID, MARK_SOLID),
    4: (MARK_SOLID, MARK_BROKEN),
    5: (MARK_BROKEN, MARK_SOLID),
    6: (MARK_BROKEN, MARK_BROKEN),
}
PAVED_KINDS = {
    'driving',
    'shoulder',
    'parking',
    'biking',
    'bidirectional',
    'stop',
    'border',
    'restricted',
    'entry',
    'exit',
    'onRamp',
    'offRamp',
    'connectingRamp',
    'bus',
    'taxi',
}
JUNCTION_CLOSED_M = 1.5  # slivers between the paths of a junction that are filled
BORDER_M = 2.0 * JUNCTION_CLOSED_M + KERB_WIDTH_M + 1.0  # beyond a window that has a say in it
BUCKET_M = 64.0
EDGE = 4  # cells around a window: cv2 smooths lines in another way where they are cut off


@dataclass(frozen=True)
class Palette:
    """Colours of the ground, BGR, at the dullest light."""

    grass: tuple[int, int, int] = GRASS_BGR
    asphalt: tuple[int, int, int] = ASPHALT_BGR
    kerb: tuple[int, int, int] = KERB_BGR
    wear: float = 0.0  # how far markings have faded into the asphalt, in [0, 1)

    @classmethod
    def drawn(cls, seed: int) -> Palette:
        """Return the colours that belong to a seed: summer to winter, fresh to worn."""
        rng = np.random.default_rng((seed, 2))  # apart from geometry and markings

        def near(colour: tuple[int, int, int], spread: float) -> tuple[int, int, int]:
            b, g, r = (rng.uniform(1.0 - spread, 1.0 + spread) * value for value in colour)
            return round(b), round(g), round(r)

        grass = GRASS_BGR if rng.random() < 0.7 else DRY_GRASS_BGR
        return cls(
            near(grass, 0.3), near(ASPHALT_BGR, 0.3), near(KERB_BGR, 0.3), rng.uniform(0.0, 0.4)
        )

    def faded(self, colour: tuple[int, int, int]) -> tuple[int, int, int]:
        """Return the colour of a marking as worn as all of them."""
        b, g, r = (
            round(paint + self.wear * (road - paint))
            for paint, road in zip(colour, self.asphalt, strict=True)
        )
        return b, g, r


class Window(NamedTuple):
    """Part of a grid of cells.

    Attributes:
        cell_m: edge of a cell [m].
        west_m: map x of the grid's left edge [m].
        north_m: map y of the grid's upper edge [m].
        top: first row.
        left: first column.
        rows: number of rows.
        columns: number of columns.
    """

    cell_m: float
    west_m: float
    north_m: float
    top: int
    left: int
    rows: int
    columns: int

    def grown(self, cells: int) -> Window:
        """Return the window with so many more cells on each side."""
        return self._replace(
            top=self.top - cells,
            left=self.left - cells,
            rows=self.rows + 2 * cells,
            columns=self.columns + 2 * cells,
        )

    def cells(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """Turn (..., 2) map points [m] into fixed-point (column, row) for cv2 drawing."""
        cells = np.empty_like(points)
        cells[..., 0] = (points[..., 0] - self.west_m) / self.cell_m - 0.5
        cells[..., 1] = (self.north_m - points[..., 1]) / self.cell_m - 0.5
        fixed = np.rint(cells * (1 << SUBPIXEL_BITS)).astype(np.int32)
        fixed -= np.array([self.left, self.top], dtype=np.int32) << SUBPIXEL_BITS
        return fixed


class _Pieces:
    """Many quadrilaterals, found by place.

    Args:
        quads: (N, 4, 2) corners [m].
    """

    def __init__(self, quads: Quads) -> None:
        self.quads = quads
        middles = quads.mean(axis=1)
        reach = np.hypot(*(quads - middles[:, np.newaxis]).transpose(2, 0, 1))
        self._reach_m = float(reach.max(initial=0.0))
        buckets = np.floor(middles / BUCKET_M).astype(np.int64)
        order = np.lexsort((buckets[:, 1], buckets[:, 0]))
        firsts = np.flatnonzero(np.any(np.diff(buckets[order], axis=0) != 0, axis=1)) + 1
        self._numbers = {
            (int(buckets[part[0], 0]), int(buckets[part[0], 1])): part
            for part in np.split(order, firsts)
            if len(part)
        }

    def within(self, window: Window) -> NDArray[np.intp]:
        """Return the numbers of those that may touch a window, in their order."""
        reach = self._reach_m
        x0 = window.west_m + window.left * window.cell_m - reach
        y1 = window.north_m - window.top * window.cell_m + reach
        x1 = x0 + window.columns * window.cell_m + 2.0 * reach
        y0 = y1 - window.rows * window.cell_m - 2.0 * reach
        columns = range(math.floor(x0 / BUCKET_M), math.floor(x1 / BUCKET_M) + 1)
        rows = range(math.floor(y0 / BUCKET_M), math.floor(y1 / BUCKET_M) + 1)
        if len(columns) * len(rows) > len(self._numbers):
            return np.arange(len(self.quads))
        found = [
            self._numbers[key] for i in columns for j in rows if (key := (i, j)) in self._numbers
        ]
        return np.sort(np.concatenate(found)) if found else np.empty(0, dtype=np.intp)


class Paint:
    """Everything that is painted on the ground of a map.

    Args:
        road_map: what to paint.
        seed: of the grain of grass and asphalt.
        palette: colours.
    """

    def __init__(self, road_map: RoadMap, seed: int, palette: Palette) -> None:
        """Cut lanes and markings into pieces."""
        self.palette = palette
        self._paved = _lane_pieces(one for one in road_map.lanes if one.span.kind in PAVED_KINDS)
        self._crossing = _lane_pieces(
            one for one in road_map.driving_lanes if one.span.in_junction
        )
        self._walks = _lane_pieces(one for one in road_map.lanes if one.span.kind == 'sidewalk')
        strokes = [
            (quads, colour)
            for marking in road_map.markings
            for quads, colour in _strokes(marking, palette)
        ]
        self._marks = _Pieces(_stacked(quads for quads, _ in strokes))
        self._colours = [colour for quads, colour in strokes for _ in range(len(quads))]
        rng = np.random.default_rng(seed)
        self._grass = _halved(_grain(rng, palette.grass, 13.0))
        self._asphalt = _halved(_grain(rng, palette.asphalt, 5.0))

    def window(self, window: Window, level: int = 0) -> NDArray[np.uint8]:
        """Return (rows, columns, 4) BGRA of a window, at a level of a grid of halved cells."""
        border = math.ceil(BORDER_M / window.cell_m)
        edged = window.grown(EDGE)
        texture = self._surfaces(edged.grown(border), border, level)
        self._mark(texture, edged)
        inside: NDArray[np.uint8] = texture[EDGE:-EDGE, EDGE:-EDGE]
        return inside

    def _surfaces(self, grown: Window, border: int, level: int) -> NDArray[np.uint8]:
        """Return grass, pavements, kerbs and asphalt, without markings and without the border."""
        inside = slice(border, -border)
        paved = _mask(self._paved, grown)
        _close(paved, _mask(self._crossing, grown), grown.cell_m)
        kerb = cv2.dilate(paved, _disc(max(1, round(KERB_WIDTH_M / grown.cell_m))))
        walks = _mask(self._walks, grown)[inside, inside]
        paved, kerb = paved[inside, inside], np.asarray(kerb, dtype=np.uint8)[inside, inside]
        top, left = grown.top + border, grown.left + border
        if not (kerb.any() or walks.any()):
            return np.array(_laid(self._grass[level], top, left, paved.shape), order='C')
        texture = np.empty((*paved.shape, 4), dtype=np.uint8)
        for first in range(0, len(texture), NOISE_TILE):  # in strips, to spare memory
            part = slice(first, first + NOISE_TILE)
            strip = texture[part]
            strip[:] = _laid(self._grass[level], top + first, left, strip.shape[:2])
            _fill(strip, walks[part], PAVEMENT_BGR)
            _fill(strip, kerb[part], self.palette.kerb)
            asphalt = _laid(self._asphalt[level], top + first, left, strip.shape[:2])
            cv2.copyTo(asphalt, np.ascontiguousarray(paved[part]), strip)
        return texture

    def _mark(self, texture: NDArray[np.uint8], window: Window) -> None:
        numbers = self._marks.within(window)
        cells = window.cells(self._marks.quads[numbers])
        for number, quad in zip(numbers.tolist(), cells, strict=True):
            cv2.fillConvexPoly(texture, quad, self._colours[number], cv2.LINE_AA, SUBPIXEL_BITS)


def _lane_pieces(lanes: Iterable[LaneGeometry]) -> _Pieces:
    return _Pieces(
        _stacked(
            np.stack((one.left[:-1], one.left[1:], one.right[1:], one.right[:-1]), axis=1)
            for one in lanes
        )
    )


def _stacked(quads: Iterable[Quads]) -> Quads:
    return np.concatenate([np.empty((0, 4, 2)), *quads])


def _mask(pieces: _Pieces, window: Window) -> NDArray[np.uint8]:
    mask = np.zeros((window.rows, window.columns), dtype=np.uint8)
    for quad in window.cells(pieces.quads[pieces.within(window)]):
        cv2.fillConvexPoly(mask, quad, OPAQUE, cv2.LINE_8, SUBPIXEL_BITS)
    return mask


def _close(mask: NDArray[np.uint8], crossing: NDArray[np.uint8], cell_m: float) -> None:
    """Close the slivers between the overlapping paths of a junction."""
    if not crossing.any():
        return
    reach = max(1, round(JUNCTION_CLOSED_M / cell_m))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    np.maximum(mask, cv2.morphologyEx(crossing, cv2.MORPH_CLOSE, kernel), out=mask)


def _fill(texture: NDArray[np.uint8], mask: NDArray[np.uint8], bgr: tuple[int, int, int]) -> None:
    """Give the cells of a mask one colour."""
    whole = np.array((*bgr, OPAQUE), dtype=np.uint8).view(np.uint32)  # four bytes at once
    np.copyto(texture.view(np.uint32), whole, where=mask[..., np.newaxis] > 0)


def _disc(reach: int) -> NDArray[np.uint8]:
    size = (2 * reach + 1, 2 * reach + 1)
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, size), dtype=np.uint8)


def _strokes(marking: Marking, palette: Palette) -> list[tuple[Quads, tuple[int, int, int, int]]]:
    """Return one marking as painted; types CARLA does not paint (grass, kerb) are left alone."""
    colour = (*palette.faded(MARKING_BGR.get(marking.colour, WHITE_BGR)), OPAQUE)
    if marking.kind in DOUBLE_MARKS:
        offset = 0.5 * (MARKING_WIDTH_M + DOUBLE_GAP_M)
        left, right = DOUBLE_MARKS[marking.kind]
        lines = [
            (_shifted(marking.points, offset), left),
            (_shifted(marking.points, -offset), right),
        ]
    elif marking.kind in (MARK_GRASS, MARK_KERB):
        lines = []
    else:
        lines = [(marking.points, marking.kind)]
    return [(_line(points, kind), colour) for points, kind in lines]


def _line(points: NDArray[np.float64], kind: int) -> Quads:
    pieces = _dashes(points) if kind == MARK_BROKEN else [points]
    return _stacked(_painted_line(piece) for piece in pieces)


def _painted_line(piece: NDArray[np.float64]) -> Quads:
    left = _shifted(piece, 0.5 * MARKING_WIDTH_M)
    right = _shifted(piece, -0.5 * MARKING_WIDTH_M)
    return np.stack((left[:-1], left[1:], right[1:], right[:-1]), axis=1)


def _shifted(points: NDArray[np.float64], left_m: float) -> NDArray[np.float64]:
    """Move an (N, 2) line sideways, to the left of its direction [m]."""
    along = np.gradient(points, axis=0)
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-9)
    normal = np.column_stack((-along[:, 1], along[:, 0])) / length[:, np.newaxis]
    return points + left_m * normal


def _dashes(points: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Cut an (N, 2) line into dashes, evenly spread so that neighbouring lines match."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    along = np.concatenate(([0.0], np.cumsum(steps)))
    count = max(1, round(along[-1] / DASH_PERIOD_M))
    period = along[-1] / count
    dash = DASH_M / DASH_PERIOD_M * period
    pieces = []
    for start in np.arange(count) * period + 0.5 * (period - dash):
        s = np.linspace(start, start + dash, 4)
        x, y = np.interp(s, along, points[:, 0]), np.interp(s, along, points[:, 1])
        pieces.append(np.column_stack((x, y)))
    return pieces


def _grain(
    rng: np.random.Generator, bgr: tuple[int, int, int], strength: float
) -> NDArray[np.uint8]:
    """Return a (NOISE_TILE, NOISE_TILE, 4) tile of a colour with seeded grain at three scales."""
    grain = np.zeros((NOISE_TILE, NOISE_TILE))
    for shift in (0, 3, 6):
        size = NOISE_TILE >> shift
        border = 2  # wrapped, so that tiles join without a seam
        layer = np.pad(rng.standard_normal((size, size)), border, mode='wrap')
        edge = NOISE_TILE + (2 * border << shift)
        full = cv2.resize(layer, (edge, edge), interpolation=cv2.INTER_CUBIC)
        inside = slice(border << shift, (border << shift) + NOISE_TILE)
        grain += full[inside, inside]
    shade = 1.0 + strength / 128.0 * grain
    tile = np.full((NOISE_TILE, NOISE_TILE, 4), OPAQUE, dtype=np.uint8)
    tile[..., :3] = np.clip(shade[..., np.newaxis] * np.array(bgr), 0.0, 255.0)
    return tile


def _halved(tile: NDArray[np.uint8]) -> Sequence[NDArray[np.uint8]]:
    """Return a tile of grain at all levels, with the edge of its neighbours around it."""
    tiles = [tile]
    while len(tiles) < LEVELS:
        size = len(tiles[-1]) // 2
        smaller = cv2.resize(tiles[-1], (size, size), interpolation=cv2.INTER_AREA)
        tiles.append(np.asarray(smaller, dtype=np.uint8))
    around = (EDGE, EDGE)
    return [np.pad(one, (around, around, (0, 0)), mode='wrap') for one in tiles]


def _laid(
    tile: NDArray[np.uint8], top: int, left: int, shape: tuple[int, ...]
) -> NDArray[np.uint8]:
    """Return a part of the plane that is laid with a square tile, as far as ``shape``.

    The tile has ``EDGE`` cells of its neighbours around it.
    """
    size = len(tile) - 2 * EDGE
    row, column = (top + EDGE) % size, (left + EDGE) % size
    if row + shape[0] <= len(tile) and column + shape[1] <= len(tile):
        return tile[row : row + shape[0], column : column + shape[1]]
    rows = EDGE + (top + np.arange(shape[0])) % size
    columns = EDGE + (left + np.arange(shape[1])) % size
    cells = np.ascontiguousarray(tile.view(np.uint32)[rows][:, columns])
    return np.asarray(cells.view(np.uint8))

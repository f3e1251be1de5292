# SPDX-License-Identifier: Apache-2.0
"""The ground, painted once from above: grass, asphalt, kerbs, markings, as a texture pyramid.

Texture axes: column along map x, row against map y, so row 0 is the northern edge. A texture
cell is a square whose *centre* carries the value, as in ``cv2``.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from td3_agent.sim.opendrive import MapError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.road import LaneGeometry, Marking, RoadMap

MARGIN_M = 45.0  # painted around the outermost lanes; beyond lies plain grass
BUDGET_BYTES = 128 * 1024 * 1024  # of the whole pyramid
BYTES_PER_CELL = 4.0 * 4.0 / 3.0  # BGRA, and a third more for the coarser levels
FINEST_M = 0.05
COARSEST_M = 0.5  # a marking no longer shows
LEVELS = 5

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


@dataclass(frozen=True, eq=False)
class Ground:
    """A painted ground.

    Attributes:
        levels: (H, W, 4) uint8 BGRA each, from fine to coarse, halved every time.
        cell_m: edge of a cell of the finest level [m].
        west_m: map x of the texture's left edge [m].
        north_m: map y of the texture's upper edge [m].
        background_bgra: what lies beyond the texture.
    """

    levels: tuple[NDArray[np.uint8], ...]
    cell_m: float
    west_m: float
    north_m: float
    background_bgra: tuple[int, int, int, int] = (*GRASS_BGR, OPAQUE)

    def texture_from_map(self, level: int) -> NDArray[np.float64]:
        """Return the (3, 3) matrix from map (x, y, 1) [m] to (column, row, 1) of a level."""
        rows, columns = self.levels[level].shape[:2]
        # Odd sizes do not halve evenly: scale by what the level really covers.
        per_m_x = columns / (self.levels[0].shape[1] * self.cell_m)
        per_m_y = rows / (self.levels[0].shape[0] * self.cell_m)
        return np.array(
            [
                [per_m_x, 0.0, -self.west_m * per_m_x - 0.5],
                [0.0, -per_m_y, self.north_m * per_m_y - 0.5],
                [0.0, 0.0, 1.0],
            ]
        )

    def nbytes(self) -> int:
        """Memory of all levels [bytes]."""
        return sum(level.nbytes for level in self.levels)


def paint_ground(
    road_map: RoadMap,
    seed: int = 0,
    budget_bytes: int = BUDGET_BYTES,
    palette: Palette | None = None,
) -> Ground:
    """Paint a map.

    The resolution follows from the map's extent and the memory budget, 5 cm per cell at best.

    Args:
        road_map: what to paint.
        seed: of the grain of grass and asphalt.
        budget_bytes: upper bound of the pyramid's memory.
        palette: colours, by default those of a fresh summer day.

    Raises:
        MapError: the map is so large that markings would vanish at this budget.
    """
    x0, y0, x1, y1 = road_map.bounds_m
    width_m, height_m = x1 - x0 + 2.0 * MARGIN_M, y1 - y0 + 2.0 * MARGIN_M
    cell_m = max(FINEST_M, math.sqrt(width_m * height_m * BYTES_PER_CELL / budget_bytes))
    if cell_m > COARSEST_M:
        raise MapError(
            f'map {road_map.name!r} covers {width_m:.0f} x {height_m:.0f} m: painted within '
            f'{budget_bytes} bytes a cell would be {cell_m:.2f} m, limit is {COARSEST_M} m'
        )
    painter = _Painter(
        x0 - MARGIN_M,
        y1 + MARGIN_M,
        cell_m,
        math.ceil(height_m / cell_m),
        math.ceil(width_m / cell_m),
        palette or Palette(),
    )
    texture = painter.surfaces(road_map, np.random.default_rng(seed))
    for marking in road_map.markings:
        painter.mark(texture, marking)
    background = (*painter.palette.grass, OPAQUE)
    return Ground(_pyramid(texture), cell_m, x0 - MARGIN_M, y1 + MARGIN_M, background)


def _pyramid(texture: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    levels = [texture]
    while len(levels) < LEVELS:
        rows, columns = levels[-1].shape[:2]
        half = (max(1, columns // 2), max(1, rows // 2))
        smaller = cv2.resize(levels[-1], half, interpolation=cv2.INTER_AREA)
        levels.append(np.asarray(smaller, dtype=np.uint8))
    return tuple(levels)


class _Painter:
    """Draws map geometry into texture cells."""

    def __init__(  # noqa: PLR0913  place, size and colours
        self,
        west_m: float,
        north_m: float,
        cell_m: float,
        rows: int,
        columns: int,
        palette: Palette,
    ) -> None:
        self.palette = palette
        self._west_m, self._north_m, self._cell_m = west_m, north_m, cell_m
        self._shape = (rows, columns)

    def surfaces(self, road_map: RoadMap, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return grass, pavements, kerbs and asphalt, without markings."""
        paved = self._mask([lane for lane in road_map.lanes if lane.span.kind in PAVED_KINDS])
        self._fill_junctions(paved, road_map.driving_lanes)
        walks = self._mask([lane for lane in road_map.lanes if lane.span.kind == 'sidewalk'])
        reach = max(1, round(KERB_WIDTH_M / self._cell_m))
        kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        kerb = cv2.dilate(paved, kernel)
        grass = _grain(rng, self.palette.grass, 13.0, self._shape[1])
        asphalt = _grain(rng, self.palette.asphalt, 5.0, self._shape[1])
        texture = np.empty((*self._shape, 4), dtype=np.uint8)
        for top in range(0, self._shape[0], NOISE_TILE):  # in strips, to spare memory
            strip = texture[top : top + NOISE_TILE]
            part = slice(top, top + len(strip))
            strip[:] = grass[: len(strip)]
            strip[walks[part] > 0] = (*PAVEMENT_BGR, OPAQUE)
            strip[kerb[part] > 0] = (*self.palette.kerb, OPAQUE)
            cv2.copyTo(asphalt[: len(strip)], paved[part], strip)
        return texture

    def mark(self, texture: NDArray[np.uint8], marking: Marking) -> None:
        """Paint one marking; types CARLA does not paint (grass, kerb) are left alone."""
        paint = MARKING_BGR.get(marking.colour, WHITE_BGR)
        colour = (*self.palette.faded(paint), OPAQUE)
        if marking.kind in DOUBLE_MARKS:
            offset = 0.5 * (MARKING_WIDTH_M + DOUBLE_GAP_M)
            left, right = DOUBLE_MARKS[marking.kind]
            self._line(texture, _shifted(marking.points, offset), left, colour)
            self._line(texture, _shifted(marking.points, -offset), right, colour)
        elif marking.kind not in (MARK_GRASS, MARK_KERB):
            self._line(texture, marking.points, marking.kind, colour)

    def _line(
        self,
        texture: NDArray[np.uint8],
        points: NDArray[np.float64],
        kind: int,
        colour: tuple[int, ...],
    ) -> None:
        pieces = _dashes(points) if kind == MARK_BROKEN else [points]
        for piece in pieces:
            left = _shifted(piece, 0.5 * MARKING_WIDTH_M)
            right = _shifted(piece, -0.5 * MARKING_WIDTH_M)
            quads = np.stack((left[:-1], left[1:], right[1:], right[:-1]), axis=1)
            for quad in self._cells(quads):
                cv2.fillConvexPoly(texture, quad, colour, cv2.LINE_AA, SUBPIXEL_BITS)

    def _mask(self, lanes: list[LaneGeometry]) -> NDArray[np.uint8]:
        mask = np.zeros(self._shape, dtype=np.uint8)
        for lane in lanes:
            quads = np.stack(
                (lane.left[:-1], lane.left[1:], lane.right[1:], lane.right[:-1]), axis=1
            )
            for quad in self._cells(quads):
                cv2.fillConvexPoly(mask, quad, OPAQUE, cv2.LINE_8, SUBPIXEL_BITS)
        return mask

    def _fill_junctions(self, mask: NDArray[np.uint8], lanes: tuple[LaneGeometry, ...]) -> None:
        """Close the slivers between the overlapping paths of a junction."""
        inside = [lane for lane in lanes if lane.span.in_junction]
        if not inside:
            return
        own = self._mask(inside)
        reach = max(1, round(1.5 / self._cell_m))
        kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
        np.maximum(mask, cv2.morphologyEx(own, cv2.MORPH_CLOSE, kernel), out=mask)

    def _cells(self, points: NDArray[np.float64]) -> NDArray[np.int32]:
        """Turn (..., 2) map points [m] into fixed-point (column, row) for cv2 drawing."""
        cells = np.empty_like(points)
        cells[..., 0] = (points[..., 0] - self._west_m) / self._cell_m - 0.5
        cells[..., 1] = (self._north_m - points[..., 1]) / self._cell_m - 0.5
        return np.rint(cells * (1 << SUBPIXEL_BITS)).astype(np.int32)


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
    rng: np.random.Generator, bgr: tuple[int, int, int], strength: float, columns: int
) -> NDArray[np.uint8]:
    """Return a (NOISE_TILE, columns, 4) strip of a colour with seeded grain at three scales."""
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
    repeats = math.ceil(columns / NOISE_TILE)
    return np.tile(tile, (1, repeats, 1))[:, :columns]

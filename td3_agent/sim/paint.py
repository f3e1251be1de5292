# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What covers the ground: verge, road, pavement, kerb and paint, in any window of a cell grid.

How each of them looks is decided when a picture is made (:mod:`td3_agent.sim.ground`).

Texture axes: column along map x, row against map y, so row 0 is the northern edge. A texture
cell is a square whose *centre* carries the value, as in ``cv2``. A window of a grid gets the
bytes that the whole grid would have there.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from td3_agent.sim.lane_network import ByCell, arc_lengths
from td3_agent.sim.roadside import sign_outlines
from td3_agent.sim.scenery import shadow_outlines

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from td3_agent.sim.markings import Marking
    from td3_agent.sim.road import LaneGeometry, RoadMap
    from td3_agent.sim.roadside import Roadside
    from td3_agent.sim.scenery import Scenery

    Quads = NDArray[np.float64]

# Channels of the two textures, how much of a cell each covers, 0 .. 255; all but ``LIT`` sum to
# 255. ``LIT`` is the light that what stands beside the roads leaves.
VERGE, ROAD, PAVEMENT, LIT = range(4)
KERB, WHITE, YELLOW, OTHER = range(4)
MARKING_PAINTS = {0: WHITE, 4: YELLOW}  # by carla.LaneMarkingColor; all else is OTHER
PLAIN_SURFACE, PLAIN_PAINT = (255, 0, 0, 255), (0, 0, 0, 0)  # beyond everything
FULL = 255

DOUBLE_GAP_M = 0.12
SHADOW_BLUR_M = 0.5
SUBPIXEL_BITS = 4  # cv2 drawing takes integers with this many fractional bits
SMOOTHED = 2  # cells around an outline that its smooth edge may colour

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
    'driving', 'shoulder', 'parking', 'biking', 'bidirectional', 'stop', 'border', 'restricted',
    'entry', 'exit', 'onRamp', 'offRamp', 'connectingRamp', 'bus', 'taxi',
}  # fmt: skip
JUNCTION_CLOSED_M = 1.5  # slivers between the paths of a junction that are filled
BORDER_M = 1.0  # beyond kerb and pavement, what affects a window
BUCKET_M = 64.0
EDGE = 4  # cells around a window: cv2 smooths lines in another way where they are cut off


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
    """Many convex polygons of as many corners each, found by place.

    Args:
        quads: (N, K, 2) corners [m].
    """

    def __init__(self, quads: Quads) -> None:
        self.quads = quads
        self._middles = middles = quads.mean(axis=1)
        reach = np.hypot(*(quads - middles[:, np.newaxis]).transpose(2, 0, 1))
        self._reach_m = float(reach.max(initial=0.0))
        self._by_cell = ByCell(middles, BUCKET_M)

    def within(self, window: Window) -> NDArray[np.intp]:
        """Return the numbers of those that may touch a window, in their order."""
        reach = self._reach_m + SMOOTHED * window.cell_m
        x0 = window.west_m + window.left * window.cell_m - reach
        y1 = window.north_m - window.top * window.cell_m + reach
        x1 = x0 + window.columns * window.cell_m + 2.0 * reach
        y0 = y1 - window.rows * window.cell_m - 2.0 * reach
        numbers = self._by_cell.within(x0, y0, x1, y1)
        x, y = self._middles[numbers].T
        return np.asarray(numbers[(x0 < x) & (x < x1) & (y0 < y) & (y < y1)])

    def outlines(self, window: Window) -> NDArray[np.int32]:
        """Return those that may touch a window, as fixed-point cells of it for cv2 drawing."""
        return window.cells(self.quads[self.within(window)])


class Covered(NamedTuple):
    """What covers the cells of a window.

    Attributes:
        surface: (rows, columns, 4) uint8: verge, road, pavement, light.
        paint: (rows, columns, 4) uint8: kerb, white, yellow and other paint.
    """

    surface: NDArray[np.uint8]
    paint: NDArray[np.uint8]


class Paint:
    """Everything that covers the ground of a map.

    Args:
        road_map: what to paint.
        roadside: widths of kerb, pavement and paint.
        scenery: what stands beside the roads and shades the ground.
    """

    def __init__(
        self, road_map: RoadMap, roadside: Roadside, scenery: Scenery | None = None
    ) -> None:
        self._roadside = roadside
        self._paved = _lane_pieces(one for one in road_map.lanes if one.span.kind in PAVED_KINDS)
        self._crossing = _lane_pieces(
            one for one in road_map.driving_lanes if one.span.in_junction
        )
        self._walks = _lane_pieces(one for one in road_map.lanes if one.span.kind == 'sidewalk')
        strokes: dict[int, list[Quads]] = {WHITE: [], YELLOW: [], OTHER: []}
        for marking in road_map.markings:
            channel = MARKING_PAINTS.get(marking.colour, OTHER)
            strokes[channel] += _strokes(marking, roadside)
        strokes[WHITE] += [_four_corners(one) for one in sign_outlines(road_map, roadside)]
        self._marks = {channel: _Pieces(_stacked(quads)) for channel, quads in strokes.items()}
        shaded = np.empty((0, 6, 2)) if scenery is None else shadow_outlines(scenery, roadside)
        self._shaded = _Pieces(shaded)

    def window(self, window: Window) -> Covered:
        """Return what covers the cells of a window."""
        edged = window.grown(EDGE)
        road, pavement, kerb = self._surfaces(edged)
        paints = [self._painted(channel, edged) for channel in (WHITE, YELLOW, OTHER)]
        bare = np.full((edged.rows, edged.columns), FULL, dtype=np.uint8)
        for paint in paints:
            cv2.subtract(bare, paint, dst=bare)
        for one in (road, pavement, kerb):
            cv2.bitwise_and(one, bare, dst=one)
        for one in (road, pavement, kerb):
            cv2.subtract(bare, one, dst=bare)  # what is left is verge
        inside = slice(EDGE, -EDGE)
        lit = self._lit(edged)
        return Covered(
            _merged(bare, road, pavement, lit)[inside, inside],
            _merged(kerb, *paints)[inside, inside],
        )

    def _surfaces(
        self, window: Window
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]:
        """Return road, pavement and kerb, without markings; where two meet, the first has it.

        Each cell is ``FULL`` or 0.
        """
        kerb_m, pavement_m = self._roadside.kerb_m, self._roadside.pavement_m
        walks = _mask(self._walks, window)
        border = math.ceil((BORDER_M + kerb_m + pavement_m) / window.cell_m)
        road = self._road(window.grown(border))
        if not cv2.countNonZero(road):
            none = np.zeros_like(walks)
            return none, walks, none.copy()
        inside = slice(border, -border)
        off_road = cv2.bitwise_not(road)
        away = cv2.distanceTransform(off_road, cv2.DIST_L2, 3)[inside, inside]
        road, off_road = np.ascontiguousarray(road[inside, inside]), off_road[inside, inside]
        away_m = away * np.float32(window.cell_m)
        if pavement_m > 0.0:
            cv2.bitwise_or(walks, _within(away_m, kerb_m + pavement_m), dst=walks)
        kerb = cv2.bitwise_and(_within(away_m, kerb_m), off_road)
        cv2.bitwise_and(walks, cv2.bitwise_and(off_road, cv2.bitwise_not(kerb)), dst=walks)
        return road, walks, np.asarray(kerb, dtype=np.uint8)

    def _road(self, window: Window) -> NDArray[np.uint8]:
        border = math.ceil(2.0 * JUNCTION_CLOSED_M / window.cell_m)
        grown = window.grown(border)
        if not len(self._crossing.within(grown)):
            return _mask(self._paved, window)
        road = _mask(self._paved, grown)
        _close(road, _mask(self._crossing, grown), window.cell_m)
        return road[border:-border, border:-border]

    def _painted(self, channel: int, window: Window) -> NDArray[np.uint8]:
        plane = np.zeros((window.rows, window.columns), dtype=np.uint8)
        return _filled(plane, self._marks[channel], window, FULL)

    def _lit(self, window: Window) -> NDArray[np.uint8]:
        """Return the light on the ground: less where the scenery shades it."""
        reach = max(1, round(0.5 * SHADOW_BLUR_M / window.cell_m))
        grown = window.grown(reach)
        lit = np.full((grown.rows, grown.columns), FULL, dtype=np.uint8)
        if not len(self._shaded.within(grown)):
            return lit[reach:-reach, reach:-reach]
        _filled(lit, self._shaded, grown, 0)
        soft = cv2.blur(lit, (2 * reach + 1, 2 * reach + 1))
        return np.asarray(soft, dtype=np.uint8)[reach:-reach, reach:-reach]


def _within(away_m: NDArray[np.float32], limit_m: float) -> NDArray[np.uint8]:
    """Return ``FULL`` where a distance is at most ``limit_m``, else 0."""
    # The type stubs of cv2 know no scalars here.
    return np.asarray(cv2.compare(away_m, limit_m, cv2.CMP_LE))  # type: ignore[call-overload]


def _merged(*planes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.merge([np.ascontiguousarray(one) for one in planes]), dtype=np.uint8)


def _filled(
    plane: NDArray[np.uint8], pieces: _Pieces, window: Window, level: int
) -> NDArray[np.uint8]:
    """Fill pieces with smooth edges."""
    for outline in pieces.outlines(window):
        cv2.fillConvexPoly(plane, outline, level, cv2.LINE_AA, SUBPIXEL_BITS)
    return plane


def _four_corners(outline: Quads) -> Quads:
    """Return (1, 4, 2) of a polygon of three or four corners: of a triangle, one twice."""
    return outline[[0, 1, 2, -1]][np.newaxis]


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
    for outline in pieces.outlines(window):
        cv2.fillConvexPoly(mask, outline, FULL, cv2.LINE_8, SUBPIXEL_BITS)
    return mask


def _close(mask: NDArray[np.uint8], crossing: NDArray[np.uint8], cell_m: float) -> None:
    """Close the slivers between the overlapping paths of a junction."""
    if not cv2.countNonZero(crossing):
        return
    reach = max(1, round(JUNCTION_CLOSED_M / cell_m))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), dtype=np.uint8)
    np.maximum(mask, cv2.morphologyEx(crossing, cv2.MORPH_CLOSE, kernel), out=mask)


def _strokes(marking: Marking, roadside: Roadside) -> list[Quads]:
    """Return one marking as painted; types CARLA does not paint (grass, kerb) are left alone."""
    if marking.kind in DOUBLE_MARKS:
        offset = 0.5 * (roadside.marking_m + DOUBLE_GAP_M)
        left, right = DOUBLE_MARKS[marking.kind]
        lines = [
            (_shifted(marking.points, offset), left),
            (_shifted(marking.points, -offset), right),
        ]
    elif marking.kind in (MARK_GRASS, MARK_KERB):
        lines = []
    else:
        lines = [(marking.points, marking.kind)]
    return [_line(points, kind, roadside) for points, kind in lines]


def _line(points: NDArray[np.float64], kind: int, roadside: Roadside) -> Quads:
    pieces = _dashes(points, roadside.dash_m) if kind == MARK_BROKEN else points
    left, right = (_shifted(pieces, side * roadside.marking_m) for side in (0.5, -0.5))
    quads = np.stack(
        (left[..., :-1, :], left[..., 1:, :], right[..., 1:, :], right[..., :-1, :]), axis=-2
    )
    return quads.reshape(-1, 4, 2)


def _shifted(points: NDArray[np.float64], left_m: float) -> NDArray[np.float64]:
    """Move (..., N, 2) lines sideways, to the left of their directions [m]."""
    along = np.gradient(points, axis=-2)
    length = np.maximum(np.hypot(along[..., 0], along[..., 1]), 1e-9)
    normal = np.stack((-along[..., 1], along[..., 0]), axis=-1) / length[..., np.newaxis]
    return np.asarray(points + left_m * normal)


def _dashes(points: NDArray[np.float64], dash_m: float) -> NDArray[np.float64]:
    """Cut an (N, 2) line into D dashes, (D, 4, 2), spread so that neighbouring lines match."""
    along = arc_lengths(points)
    count = max(1, round(along[-1] / (2.0 * dash_m)))
    period = along[-1] / count
    dash = 0.5 * period
    starts = np.arange(count) * period + 0.5 * (period - dash)
    s = np.linspace(starts, starts + dash, 4, axis=1)
    return np.stack([np.interp(s, along, points[:, axis]) for axis in (0, 1)], axis=-1)

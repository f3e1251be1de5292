# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Draws what stands on the ground: upright blocks, far ones first, clipped at the near plane.

Vehicles and scenery are the same to it. All blocks of a frame are projected at once; only the
faces that are seen are filled one by one.
"""

from __future__ import annotations

from functools import lru_cache
import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from td3_agent.sim.boxes import BODIES, corners_of, shape_of, tint_bgr

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.boxes import Box
    from td3_agent.sim.look import Look
    from td3_agent.sim.scenery import Scenery

    FloatArray = NDArray[np.float64]
    Point = tuple[float, float, float]

NEAR_M = 0.15
SUBPIXEL_BITS = 4
LARGEST_PX = 16000.0  # cv2 overflows beyond +-32767
SMALLEST_PX, SMALLEST_PX2 = 1.3, 1.2  # smaller blocks and faces are not drawn
SCENERY_REACH_M = 55.0
CELL_M, CELLS = 12.0, 64  # the scenery around is looked up by cells, and kept for so many
SUN_RAD = 0.507  # where light comes from, in the map frame, unless the map has a sun of its own
SHADOW_REACH_M = 45.0
SHADE_STEP_RAD = 0.05  # of a vehicle's heading, between two shades
BEYOND_M = 4.0  # of a vehicle's half length: its width and height
SHADOW_MARGIN_M = 0.1  # of a vehicle's shadow around its outline
# Faces: front, back, left, right, top, bottom; of corners, bottom then top, each front left,
# back left, back right, front right.
FACES = np.array(
    [(0, 3, 7, 4), (1, 2, 6, 5), (0, 1, 5, 4), (2, 3, 7, 6), (4, 5, 6, 7), (0, 1, 2, 3)]
)
LIT_SIDE, LIT_TOP, LIT_BOTTOM, LIT_SUN = 0.8, 1.1, 0.45, 0.3


class Blocks(NamedTuple):
    """N blocks to be drawn; the last axis counts them.

    Attributes:
        corners: (4, 8, N) in the map frame, homogeneous [m]; projected, (3, 8, N): u w, v w, w.
        pose: (4, N) x [m], y [m], cosine and sine of the heading.
        extent: (6, N) back, front, half width, bottom, top, in its own axes, and the height of
            an underside that can be seen, 0: none [m].
        colours: (N, 6, 4) uint8 BGRA of its faces.
        thing: (6, N) x, y, cosine, sine, half length, half width of what it belongs to.
        rank: (N,) order in which the parts of a thing are drawn.
    """

    corners: FloatArray
    pose: FloatArray
    extent: FloatArray
    colours: NDArray[np.uint8]
    thing: FloatArray
    rank: FloatArray

    def projected(self, pixel_from_map: FloatArray) -> Blocks:
        """Return them with their corners as a picture has them."""
        points = pixel_from_map @ self.corners.reshape(4, -1)
        return self._replace(corners=points.reshape(3, 8, -1))

    def taken(self, chosen: NDArray[np.intp]) -> Blocks:
        """Return the chosen ones."""
        return Blocks(
            self.corners[..., chosen],
            self.pose[:, chosen],
            self.extent[:, chosen],
            self.colours[chosen],
            self.thing[:, chosen],
            self.rank[chosen],
        )


class Projected(NamedTuple):
    """Blocks as they lie in one picture, far ones first.

    Attributes:
        points: (3, 8, N) their corners (u w, v w, w).
        visible: (N, 6) which faces are turned to the eye.
        colours: (N, 6, 4) uint8 BGRA of the faces.
        shadows: (V, 4, 3) corners of the ground that vehicles shade (u w, v w, w).
    """

    points: FloatArray
    visible: NDArray[np.bool_]
    colours: NDArray[np.uint8]
    shadows: FloatArray


class BoxPainter:
    """Projects and fills the visible faces of vehicles and scenery.

    Args:
        pixel_from_vehicle: (3, 4) projection of vehicle points [m] to (u w, v w, w).
        eye: camera position in the vehicle frame [m].
        look: colours, and how far one sees.
        scenery: what stands beside the roads.
        sun_rad: direction that light comes from, in the map frame [rad].
    """

    def __init__(
        self,
        pixel_from_vehicle: FloatArray,
        eye: Point,
        look: Look,
        scenery: Scenery | None = None,
        sun_rad: float = SUN_RAD,
    ) -> None:
        self._pixel_from_vehicle = pixel_from_vehicle
        self._focal_px = float(np.linalg.norm(pixel_from_vehicle[0, :3]))
        self._eye, self._look, self._sun_rad = eye, look, sun_rad
        self._scenery = None if scenery is None else _scenery_blocks(scenery, look, sun_rad)
        self._near: dict[tuple[int, int], Blocks] = {}

    def project(
        self, boxes: Sequence[Box], pose: Point, shape: tuple[int, ...]
    ) -> Projected | None:
        """Return what may be seen, far things first; None where nothing stands.

        Args:
            boxes: vehicles.
            pose: x [m], y [m] and heading [rad] of the vehicle that sees.
            shape: rows and columns of the picture.
        """
        x_m, y_m, yaw = pose
        cos, sin = math.cos(yaw), math.sin(yaw)
        eye_x = x_m + cos * self._eye[0] - sin * self._eye[1]
        eye_y = y_m + sin * self._eye[0] + cos * self._eye[1]
        rows = _rows(boxes)
        away = np.hypot(rows[0] - x_m, rows[1] - y_m)
        parts = [] if self._scenery is None else [self._scenery_near(self._scenery, x_m, y_m)]
        shown = self._may_show(rows, (x_m, y_m, cos, sin), shape[1])
        if (seen := np.flatnonzero(shown & (away < self._look.visible_m))).size:
            near = [boxes[i] for i in seen.tolist()]
            parts.append(_vehicle_blocks(near, rows[:, seen], self._sun_rad, (eye_x, eye_y)))
        if not parts:
            return None
        vehicle_from_map = np.array([
            [cos, sin, 0.0, -cos * x_m - sin * y_m], [-sin, cos, 0.0, sin * x_m - cos * y_m],
            [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0],
        ])  # fmt: skip
        pixel_from_map = self._pixel_from_vehicle @ vehicle_from_map
        parts = [part.projected(pixel_from_map) for part in parts]
        if self._scenery is not None:
            parts[0] = self._in_view(parts[0], shape)
        blocks = _joined(parts)
        order, visible = _far_to_near(blocks, (eye_x, eye_y, self._eye[2]))
        shaded = _shadow_corners(rows[:, away < SHADOW_REACH_M], pixel_from_map)
        return Projected(blocks.corners[..., order], visible, blocks.colours[order], shaded)

    def _may_show(
        self, rows: FloatArray, pose: tuple[float, float, float, float], columns: int
    ) -> NDArray[np.bool_]:
        """Return (V,): which vehicles may reach between the picture's left and right edge."""
        x_m, y_m, cos, sin = pose
        dx, dy = rows[0] - x_m, rows[1] - y_m
        forward, left = _in_axes(dx, dy, cos, sin)
        (a, b, _, c), (d, e, _, f) = self._pixel_from_vehicle[[0, 2]].tolist()
        column, depth = a * forward + b * left + c, d * forward + e * left + f
        reach_m = rows[4] + BEYOND_M
        reach = reach_m * (self._focal_px + columns)
        return np.asarray(
            (depth > -reach_m) & (column > -reach) & (column < columns * depth + reach)
        )

    def _in_view(self, blocks: Blocks, shape: tuple[int, ...]) -> Blocks:
        """Return the projected blocks that the picture may show, if high enough to be drawn."""
        points = blocks.corners
        high = (blocks.extent[4] - blocks.extent[3]) * self._focal_px > SMALLEST_PX * points[2, 0]
        return blocks.taken(np.flatnonzero(high & _on_this_side(points, shape)))

    def draw(self, image: NDArray[np.uint8], projected: Projected) -> None:
        """Fill the visible faces in a BGRA image."""
        whole = projected.points[2].min(axis=0) >= NEAR_M
        pixels = _pixels(projected.points)
        block, face = np.nonzero(projected.visible)
        polygons = pixels[:, FACES[face], block[:, np.newaxis]]  # (2, F, 4)
        drawn = np.flatnonzero((_area(polygons) > SMALLEST_PX2) | ~whole[block])
        block, face = block[drawn], face[drawn]
        fixed = np.ascontiguousarray(_fixed_point(polygons[:, drawn]).transpose(1, 2, 0))
        colours = projected.colours[block, face].tolist()
        fill, line, bits = cv2.fillConvexPoly, cv2.LINE_AA, SUBPIXEL_BITS
        fully = whole[block].tolist()
        for number, (polygon, colour) in enumerate(zip(fixed, colours, strict=True)):
            if fully[number]:
                fill(image, polygon, colour, line, bits)
            else:
                corners = projected.points[:, FACES[face[number]], block[number]]
                _fill_clipped(image, corners.T.tolist(), colour)

    def draw_shadows(self, lit: NDArray[np.uint8], projected: Projected, first_row: int) -> None:
        """Darken the ground under vehicles in a plane of light, (H, W) uint8, 255: lit.

        Args:
            lit: the picture's rows from ``first_row`` on.
            projected: what stands there.
            first_row: of the picture, that the plane begins with.
        """
        shadows = projected.shadows.copy()
        shadows[..., 1] -= first_row * shadows[..., 2]
        whole = shadows[..., 2].min(axis=1) >= NEAR_M
        pixels = _fixed_point(_pixels(shadows[whole].transpose(2, 0, 1)))
        for polygon in np.ascontiguousarray(pixels.transpose(1, 2, 0)):
            cv2.fillConvexPoly(lit, polygon, 0, cv2.LINE_AA, SUBPIXEL_BITS)
        for outline in shadows[~whole & (shadows[..., 2].max(axis=1) > NEAR_M)].tolist():
            _fill_clipped(lit, outline, 0)

    def _scenery_near(self, scenery: Blocks, x_m: float, y_m: float) -> Blocks:
        """Return the scenery around a place, by the cell that the place is in.

        A picture must follow from its pose alone, not from those before it.
        """
        cell = round(x_m / CELL_M), round(y_m / CELL_M)
        if cell not in self._near:
            if len(self._near) == CELLS:
                self._near.clear()
            x, y = scenery.thing[:2]
            away = np.hypot(x - cell[0] * CELL_M, y - cell[1] * CELL_M)
            reach_m = min(self._look.visible_m, SCENERY_REACH_M) + CELL_M
            self._near[cell] = scenery.taken(np.flatnonzero(away < reach_m))
        return self._near[cell]


def _on_this_side(points: FloatArray, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return (N,): which blocks are not on the far side of one of the view's five planes.

    The planes pass through the eye, where (u w, v w, w) are linear: depth may have any sign.
    """
    u, v, depth = points
    highest = points.max(axis=1)
    beyond = np.minimum((u - shape[1] * depth).min(axis=0), 0.0)
    below = np.minimum((v - shape[0] * depth).min(axis=0), 0.0)
    return np.asarray(
        (highest[2] > NEAR_M)
        & (highest[0] > 0.0)
        & (highest[1] > 0.0)
        & (beyond < 0.0)
        & (below < 0.0)
    )


def _far_to_near(blocks: Blocks, eye: Point) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Put blocks into the painter's order: things from far to near, their parts by rank.

    Args:
        blocks: those of a thing have the same distance, by which they stay together.
        eye: in the map frame [m].

    Returns:
        (N,) numbers in their order, and (N, 6) which faces can be seen from the eye.
    """
    x, y, cos, sin, half_l, half_w = blocks.thing
    along, across = _in_axes(eye[0] - x, eye[1] - y, cos, sin)
    ahead = np.maximum(np.abs(along) - half_l, 0.0)
    beside = np.maximum(np.abs(across) - half_w, 0.0)
    order = np.lexsort((blocks.rank, -(ahead * ahead + beside * beside)))
    x, y, cos, sin = blocks.pose
    along, across = _in_axes(eye[0] - x, eye[1] - y, cos, sin)
    back, front, half_w, _, top, underside = blocks.extent
    visible = np.empty((6, len(x)), dtype=np.bool_)
    np.greater(along, front, out=visible[0])
    np.less(along, back, out=visible[1])
    np.greater(across, half_w, out=visible[2])
    np.less(across, -half_w, out=visible[3])
    np.less(top, eye[2], out=visible[4])
    np.greater(underside, eye[2], out=visible[5])
    return order, visible.T[order]


def _in_axes(
    dx: FloatArray, dy: FloatArray, cos: FloatArray | float, sin: FloatArray | float
) -> tuple[FloatArray, FloatArray]:
    return cos * dx + sin * dy, cos * dy - sin * dx


def _pixels(points: FloatArray) -> FloatArray:
    """Return (2, ...) pixels of (3, ...) points; what is behind the near plane means nothing."""
    pixels = points[:2] / np.maximum(points[2], NEAR_M) - 0.5
    return np.asarray(np.clip(pixels, -LARGEST_PX, LARGEST_PX, out=pixels))


def _fixed_point(pixels: FloatArray) -> NDArray[np.int32]:
    return np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _area(polygons: FloatArray) -> FloatArray:
    """Return (F,) areas of quadrilaterals (2, F, 4): half the product of the diagonals."""
    u, v = polygons
    across, along = u[:, 2] - u[:, 0], v[:, 2] - v[:, 0]
    twice = np.abs(across * (v[:, 3] - v[:, 1]) - along * (u[:, 3] - u[:, 1]))
    return np.asarray(0.5 * twice)


def _joined(parts: list[Blocks]) -> Blocks:
    if len(parts) == 1:
        return parts[0]
    axes = (-1, -1, -1, 0, -1, -1)
    return Blocks(
        *(np.concatenate(c, axis=a) for c, a in zip(zip(*parts, strict=True), axes, strict=True))
    )


def _fill_clipped(
    image: NDArray[np.uint8], corners: list[list[float]], colour: Sequence[int] | int
) -> None:
    """Fill a polygon of (u w, v w, w), cut at the near plane."""
    kept = corners if min(c[2] for c in corners) >= NEAR_M else _clipped(corners)
    if len(kept) < 3:
        return
    scale, limit = 1 << SUBPIXEL_BITS, LARGEST_PX * (1 << SUBPIXEL_BITS)
    fixed = [
        [round(min(max((value / w - 0.5) * scale, -limit), limit)) for value in (u, v)]
        for u, v, w in kept
    ]
    cv2.fillConvexPoly(image, np.array(fixed, dtype=np.int32), colour, cv2.LINE_AA, SUBPIXEL_BITS)


def _clipped(points: list[list[float]]) -> list[list[float]]:
    """Cut a polygon of (u w, v w, w) at the near plane.

    Sutherland-Hodgman against one plane, in homogeneous coordinates.
    """
    kept = []
    for before, here in zip([points[-1], *points[:-1]], points, strict=True):
        if (before[2] >= NEAR_M) != (here[2] >= NEAR_M):
            t = (NEAR_M - before[2]) / (here[2] - before[2])
            kept.append([a + t * (b - a) for a, b in zip(before, here, strict=True)])
        if here[2] >= NEAR_M:
            kept.append(here)
    return kept


def _shadow_corners(vehicles: FloatArray, pixel_from_map: FloatArray) -> FloatArray:
    """Return (V, 4, 3) corners (u w, v w, w) of the ground that vehicles shade.

    Args:
        vehicles: (6, V) as in ``thing``.
        pixel_from_map: (3, 4).
    """
    _, _, cos, sin, half_l, half_w = vehicles
    ahead = np.array((cos, sin)) * (half_l + SHADOW_MARGIN_M)
    left = np.array((-sin, cos)) * (half_w + SHADOW_MARGIN_M)
    corners = np.array((ahead + left, left - ahead, -ahead - left, ahead - left))  # (4, 2, V)
    corners += vehicles[:2]
    flat = pixel_from_map[:, :2] @ corners + pixel_from_map[:, 3:]  # (4, 3, V)
    return np.asarray(flat.transpose(2, 0, 1))


def _lights(yaw: FloatArray, sun_rad: float) -> FloatArray:
    """Return (N, 6): the light that falls on each face of blocks with these headings."""
    along, across = LIT_SUN * np.cos(sun_rad - yaw), LIT_SUN * np.sin(sun_rad - yaw)
    top, bottom = np.full_like(along, LIT_TOP), np.full_like(along, LIT_BOTTOM)
    return np.stack(
        (LIT_SIDE + along, LIT_SIDE - along, LIT_SIDE + across, LIT_SIDE - across, top, bottom),
        axis=1,
    )


def _coloured(bgr: FloatArray, lights: FloatArray) -> NDArray[np.uint8]:
    """Return (N, 6, 4) BGRA of faces from (N, 3) colours in the light."""
    colours = np.full((len(bgr), 6, 4), 255, dtype=np.uint8)
    lit = bgr[:, np.newaxis, :] * lights[..., np.newaxis]
    colours[..., :3] = np.clip(np.rint(lit), 0.0, 255.0)
    return colours


def _scenery_blocks(scenery: Scenery, look: Look, sun_rad: float) -> Blocks:
    """Return scenery as blocks in the colours of a look."""
    # Columns of records lie apart: what is computed from them is made of whole arrays.
    yaw = scenery.yaw_rad.copy()
    pose = np.stack((scenery.x_m, scenery.y_m, np.cos(yaw), np.sin(yaw)))
    half_l, half_w = scenery.half_l, scenery.half_w
    bottom = scenery.bottom
    underside = np.where(scenery.hangs, bottom, 0.0)
    extent = np.stack((-half_l, half_l, half_w, bottom, scenery.top, underside))
    bgr = np.array(look.scenery)[scenery.material] * scenery.shade[:, np.newaxis]
    first = np.searchsorted(scenery.thing, scenery.thing)  # the first block of each thing
    thing = np.concatenate((pose, half_l[np.newaxis], half_w[np.newaxis]))[:, first]
    return Blocks(
        corners_of(pose, extent),
        pose,
        extent,
        _coloured(bgr, _lights(yaw, sun_rad)),
        thing,
        (np.arange(len(yaw)) - first).astype(np.float64),
    )


@lru_cache(maxsize=4096)
def _painted(
    kind: str, bgr: tuple[int, int, int], turned: int, sun_rad: float
) -> NDArray[np.uint8]:
    """Return (P, 6, 4) BGRA of the faces of a vehicle, by its heading in steps."""
    tints = np.array([tint_bgr(part.tint, bgr) for part in BODIES[kind].parts], dtype=np.float64)
    light = _lights(np.array([turned * SHADE_STEP_RAD]), sun_rad)
    return _coloured(tints, np.repeat(light, len(tints), axis=0))


def _rows(boxes: Sequence[Box]) -> FloatArray:
    """Return (6, V): x, y, cosine, sine, half length, half width of vehicles."""
    rows = np.array([(box.x_m, box.y_m, box.yaw_rad, 0.0, 0.5 * box.length_m, 0.5 * box.width_m)
                     for box in boxes], dtype=np.float64).reshape(-1, 6).T  # fmt: skip
    rows[3], rows[2] = np.sin(rows[2]), np.cos(rows[2])
    return np.asarray(rows)


def _vehicle_blocks(
    boxes: Sequence[Box], rows: FloatArray, sun_rad: float, eye: tuple[float, float]
) -> Blocks:
    """Return the parts of vehicles as blocks; those of one storey are drawn as the eye has them.

    Args:
        boxes: vehicles.
        rows: (6, V) of them, as in ``thing``.
        sun_rad: direction of light [rad].
        eye: place that they are seen from, in the map frame [m].
    """
    shapes = [shape_of(box.kind, box.length_m, box.width_m, box.height_m) for box in boxes]
    before = (rows[2] * (eye[0] - rows[0]) + rows[3] * (eye[1] - rows[1]) > 0.0).tolist()
    thing = np.repeat(rows, [len(BODIES[box.kind].parts) for box in boxes], axis=1)
    x, y, cos, sin = thing[:4]
    corners = np.concatenate([shape.corners for shape in shapes], axis=2)
    along, across = corners[0].copy(), corners[1]
    corners[0] = x + cos * along - sin * across
    corners[1] = y + sin * along + cos * across
    colours = [
        _painted(box.kind, box.bgr, round(box.yaw_rad / SHADE_STEP_RAD), sun_rad) for box in boxes
    ]
    return Blocks(
        corners,
        thing[:4],
        np.concatenate([shape.extent for shape in shapes], axis=1),
        np.concatenate(colours),
        thing,
        np.concatenate([s.rank[b] for s, b in zip(shapes, before, strict=True)]),
    )

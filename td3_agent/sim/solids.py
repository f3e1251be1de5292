# SPDX-License-Identifier: Apache-2.0
"""Draws parked cars into an image: convex faces, far ones first, clipped at the near plane."""

from __future__ import annotations

from functools import lru_cache
import math
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.boxes import Box

NEAR_M = 0.15
VISIBLE_M = 100.0
SUBPIXEL_BITS = 4
LARGEST_PX = 16000.0  # cv2 overflows beyond +-32767
SUN_X, SUN_Y = 0.45, 0.25  # where light comes from, in the map frame
SHADOW_BGRA = (26, 27, 27, 255)
GLASS_BGR = (58, 50, 44)
CORNERS = 4

Point = tuple[float, float, float]


class _Face(NamedTuple):
    """A side of a block.

    Attributes:
        corners: (4,) rows of the solid's points.
        axis: coordinate of the eye that decides whether the face is seen.
        sign: +1 when seen from beyond ``limit``, -1 when seen from below it.
        limit: where the face lies on that axis [m].
    """

    corners: NDArray[np.intp]
    axis: int
    sign: float
    limit: float


class _Solid(NamedTuple):
    """A box as something to draw: (N, 4) points (x, y, z, 1) in its own axes, and faces."""

    points: NDArray[np.float64]
    faces: tuple[_Face, ...]


Colour = tuple[int, int, int, int]


class SolidPainter:
    """Projects and fills the visible faces of boxes.

    Args:
        pixel_from_vehicle: (3, 4) projection of vehicle points [m] to (u w, v w, w).
        eye: camera position in the vehicle frame [m].
    """

    def __init__(self, pixel_from_vehicle: NDArray[np.float64], eye: Point) -> None:
        """Keep the projection."""
        self._pixel_from_vehicle = pixel_from_vehicle
        self._column_row = [float(value) for value in pixel_from_vehicle[0]]
        self._depth_row = [float(value) for value in pixel_from_vehicle[2]]
        self._reach_px = math.hypot(*self._column_row[:3])  # columns per metre, times depth
        self._eye = eye

    def draw(
        self, image: NDArray[np.uint8], boxes: Sequence[Box], x_m: float, y_m: float, yaw: float
    ) -> None:
        """Draw boxes into a BGRA image seen from a vehicle pose (painter's order)."""
        cos, sin = math.cos(yaw), math.sin(yaw)
        columns = image.shape[1]
        near: list[tuple[float, float, float, Box]] = []
        for box in boxes:
            dx, dy = box.x_m - x_m, box.y_m - y_m
            squared = dx * dx + dy * dy
            if squared < VISIBLE_M * VISIBLE_M:
                forward, left = cos * dx + sin * dy, cos * dy - sin * dx
                if self._may_show(forward, left, box.radius_m + box.height_m, columns):
                    near.append((squared, forward, left, box))
        near.sort(key=lambda item: (-item[0], item[3].actor_id))
        for _, forward, left, box in near:
            self._draw_box(image, box, forward, left, box.yaw_rad - yaw)

    def _may_show(self, forward: float, left: float, radius_m: float, columns: int) -> bool:
        """Whether a ball on the ground may reach between the image's left and right edge."""
        depth_x, depth_y, _, depth_0 = self._depth_row
        column_x, column_y, _, column_0 = self._column_row
        depth = depth_x * forward + depth_y * left + depth_0
        column = column_x * forward + column_y * left + column_0  # column times depth
        reach = radius_m * (self._reach_px + columns)
        return depth > -radius_m and -reach < column < columns * depth + reach

    def _draw_box(
        self, image: NDArray[np.uint8], box: Box, forward: float, left: float, turn: float
    ) -> None:
        """Draw one box that stands at a place in the vehicle frame."""
        solid = _solid(box.length_m, box.width_m, box.height_m)
        cos, sin = math.cos(turn), math.sin(turn)
        vehicle_from_box = np.array(
            [
                [cos, -sin, 0.0, forward],
                [sin, cos, 0.0, left],
                [0.0, 0.0, 1.0, 0.0],
                [0.0, 0.0, 0.0, 1.0],
            ]
        )
        projected = solid.points @ (self._pixel_from_vehicle @ vehicle_from_box).T
        whole = bool(projected[:, 2].min() >= NEAR_M)
        pixels = _fixed_point(projected) if whole else None
        if pixels is not None and _outside(pixels, image):
            return
        dx, dy = self._eye[0] - forward, self._eye[1] - left
        eye = (cos * dx + sin * dy, cos * dy - sin * dx, self._eye[2])
        for face, bgra in zip(solid.faces, _colours(box.bgr, box.yaw_rad), strict=True):
            if (eye[face.axis] - face.limit) * face.sign > 0.0:
                if pixels is not None:
                    _fill(image, pixels[face.corners], bgra)
                else:
                    clipped = _clipped(projected[face.corners].tolist())
                    if len(clipped) >= 3:
                        _fill(image, _fixed_point(np.array(clipped)), bgra)


def _fixed_point(projected: NDArray[np.float64]) -> NDArray[np.int32]:
    """Turn (N, 3) rows (u w, v w, w) into (N, 2) fixed-point pixels for cv2 drawing."""
    pixels = projected[:, :2] / projected[:, 2:] - 0.5
    np.clip(pixels, -LARGEST_PX, LARGEST_PX, out=pixels)
    return np.rint(pixels * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _outside(pixels: NDArray[np.int32], image: NDArray[np.uint8]) -> bool:
    columns = pixels[:, 0]
    right = image.shape[1] << SUBPIXEL_BITS
    return bool(columns.max() < 0 or columns.min() > right)


def _fill(image: NDArray[np.uint8], pixels: NDArray[np.int32], bgra: Colour) -> None:
    cv2.fillConvexPoly(image, pixels, bgra, cv2.LINE_AA, SUBPIXEL_BITS)


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


@lru_cache(maxsize=256)
def _solid(length_m: float, width_m: float, height_m: float) -> _Solid:
    """Return shadow, body and cabin of a car; the cabin stands on the body, so comes last."""
    half_l, half_w, belt = 0.5 * length_m, 0.5 * width_m, 0.58 * height_m
    shadow = [
        (half_l + 0.1, half_w + 0.1, 0.0),
        (-half_l - 0.1, half_w + 0.1, 0.0),
        (-half_l - 0.1, -half_w - 0.1, 0.0),
        (half_l + 0.1, -half_w - 0.1, 0.0),
    ]
    points: list[Point] = list(shadow)
    faces = [_Face(np.arange(CORNERS), 2, 1.0, 0.0)]
    body = (-half_l, half_l, half_w, 0.12 * height_m, belt)
    cabin = (-0.8 * half_l, 0.45 * half_l, 0.88 * half_w, belt, height_m)
    for block in (body, cabin):
        faces += _block_faces(block, len(points))
        points += _block_points(block)
    homogeneous = np.ones((len(points), 4))
    homogeneous[:, :3] = points
    return _Solid(homogeneous, tuple(faces))


@lru_cache(maxsize=1024)
def _colours(bgr: tuple[int, int, int], yaw_rad: float) -> tuple[Colour, ...]:
    """Return the colours of a solid's faces in the light that falls on them at a heading.

    Apart from the faces, because what drives turns all the time.
    """
    return (SHADOW_BGRA, *_block_colours(bgr, yaw_rad), *_block_colours(GLASS_BGR, yaw_rad))


Extent = tuple[float, float, float, float, float]  # back, front, half width, bottom, top [m]


def _block_points(block: Extent) -> list[Point]:
    """Return eight corners: bottom then top, each front left, back left, back right, front."""
    back, front, half_w, bottom, top = block
    return [
        (x, y, z)
        for z in (bottom, top)
        for x, y in ((front, half_w), (back, half_w), (back, -half_w), (front, -half_w))
    ]


def _block_faces(block: Extent, first: int) -> list[_Face]:
    """Return the five faces that can be seen; ``first`` is the row of the first corner."""
    back, front, half_w, _, top = block
    sides = (
        ((0, 3, 7, 4), 0, 1.0, front),
        ((1, 2, 6, 5), 0, -1.0, back),
        ((0, 1, 5, 4), 1, 1.0, half_w),
        ((2, 3, 7, 6), 1, -1.0, -half_w),
        ((4, 5, 6, 7), 2, 1.0, top),
    )
    return [
        _Face(np.array(corners) + first, axis, sign, limit) for corners, axis, sign, limit in sides
    ]


def _block_colours(bgr: tuple[int, int, int], yaw_rad: float) -> list[Colour]:
    """Return the colours of a block's faces, in the order of :func:`_block_faces`."""
    cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
    sun_x, sun_y = cos * SUN_X + sin * SUN_Y, cos * SUN_Y - sin * SUN_X
    lights = (0.8 + 0.3 * sun_x, 0.8 - 0.3 * sun_x, 0.8 + 0.3 * sun_y, 0.8 - 0.3 * sun_y, 1.1)
    return [_lit(bgr, light) for light in lights]


def _lit(bgr: tuple[int, int, int], light: float) -> Colour:
    blue, green, red = (min(255, round(channel * light)) for channel in bgr)
    return blue, green, red, 255

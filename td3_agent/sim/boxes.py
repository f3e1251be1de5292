# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Vehicles as boxes on the ground: how they touch, their kinds, sizes, paints and parts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    FloatArray = NDArray[np.float64]

GLASS_BGR = (58, 50, 44)
DARK_BGR = (34, 34, 36)
SKIN_BGR = (90, 112, 150)
PAINTS_BGR = (
    (150, 40, 30), (36, 36, 140), (150, 150, 152), (40, 40, 42), (60, 110, 120),
    (178, 178, 178), (20, 20, 22), (96, 96, 98), (70, 100, 40), (50, 130, 170),
)  # fmt: skip
PAINTED, GLASS, DARK, SKIN, LIGHT = range(5)
SALOON, HATCHBACK, VAN, TRUCK, BUS = 'car', 'hatchback', 'van', 'truck', 'bus'
MOTORCYCLE, BICYCLE = 'motorcycle', 'bicycle'
STOREY_M = 100.0  # more than any two places along a vehicle are apart


class Box(NamedTuple):
    """An upright box on the ground.

    Attributes:
        x_m: centre in the map frame [m].
        y_m: centre in the map frame [m].
        yaw_rad: direction of its length [rad].
        length_m: along ``yaw_rad`` [m].
        width_m: across [m].
        height_m: up from the ground [m].
        bgr: colour, 0 .. 255 each.
        actor_id: CARLA actor id.
        kind: of vehicle, a key of :data:`BODIES`.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    length_m: float = 4.4
    width_m: float = 1.8
    height_m: float = 1.5
    bgr: tuple[int, int, int] = (120, 60, 40)
    actor_id: int = 0
    kind: str = 'car'

    @property
    def radius_m(self) -> float:
        """Half the diagonal of the footprint [m]."""
        return 0.5 * math.hypot(self.length_m, self.width_m)

    def corners(self) -> list[tuple[float, float]]:
        """Return the footprint's four corners, counter-clockwise from front left [m]."""
        cos, sin = math.cos(self.yaw_rad), math.sin(self.yaw_rad)
        half_l, half_w = 0.5 * self.length_m, 0.5 * self.width_m
        return [
            (self.x_m + cos * dx - sin * dy, self.y_m + sin * dx + cos * dy)
            for dx, dy in (
                (half_l, half_w),
                (-half_l, half_w),
                (-half_l, -half_w),
                (half_l, -half_w),
            )
        ]


class Overlap(NamedTuple):
    """How to part two overlapping boxes.

    Attributes:
        depth_m: shortest distance to move the first box out of the second [m].
        normal_x: direction of that move, in the map frame.
        normal_y: direction of that move, in the map frame.
    """

    depth_m: float
    normal_x: float
    normal_y: float


def overlap(first: Box, second: Box) -> Overlap | None:
    """Return the overlap of two footprints, None when they are apart.

    Separating axis theorem: two rectangles are apart exactly when one of their four edge
    directions separates their shadows (Ericson, *Real-Time Collision Detection*, 4.4.1).
    """
    dx, dy = first.x_m - second.x_m, first.y_m - second.y_m
    reach = first.radius_m + second.radius_m
    if dx * dx + dy * dy >= reach * reach:
        return None
    best: Overlap | None = None
    for yaw in (first.yaw_rad, second.yaw_rad):
        for axis_x, axis_y in ((math.cos(yaw), math.sin(yaw)), (-math.sin(yaw), math.cos(yaw))):
            apart = dx * axis_x + dy * axis_y
            depth = _shadow(first, axis_x, axis_y) + _shadow(second, axis_x, axis_y) - abs(apart)
            if depth <= 0.0:
                return None
            if best is None or depth < best.depth_m:
                side = math.copysign(1.0, apart)
                best = Overlap(depth, side * axis_x, side * axis_y)
    return best


def _shadow(box: Box, axis_x: float, axis_y: float) -> float:
    """Half the length of a box's shadow on an axis [m]."""
    cos, sin = math.cos(box.yaw_rad), math.sin(box.yaw_rad)
    along = abs(cos * axis_x + sin * axis_y)
    across = abs(cos * axis_y - sin * axis_x)
    return 0.5 * (box.length_m * along + box.width_m * across)


class Part(NamedTuple):
    """A block of a body, in fractions of its half length, half width and height.

    Attributes:
        back: where it begins, -1: at the rear.
        front: where it ends, 1: at the front.
        half_w: half its width.
        bottom: above the ground.
        top: above the ground.
        tint: ``PAINTED``, ``GLASS``, ``DARK``, ``SKIN`` or ``LIGHT``.
        storey: parts of a higher one stand on those below; side by side in one, none does.
    """

    back: float
    front: float
    half_w: float
    bottom: float
    top: float
    tint: int
    storey: int


@dataclass(frozen=True, kw_only=True)
class Body:
    """A kind of vehicle.

    Attributes:
        lengths_m: shortest and longest [m].
        widths_m: narrowest and widest [m].
        heights_m: lowest and highest [m].
        parts: blocks it is drawn with.
        fraction: of all vehicles.
        parked_fraction: of those that are parked.
    """

    lengths_m: tuple[float, float]
    widths_m: tuple[float, float]
    heights_m: tuple[float, float]
    parts: tuple[Part, ...]
    fraction: float
    parked_fraction: float


BODIES = {
    SALOON: Body(
        lengths_m=(4.1, 4.8), widths_m=(1.7, 1.95), heights_m=(1.35, 1.55),
        parts=(Part(-1.0, 1.0, 1.0, 0.12, 0.58, PAINTED, 0),
               Part(-0.8, 0.45, 0.88, 0.58, 1.0, GLASS, 1),
               Part(-0.55, 0.2, 0.8, 0.98, 1.02, PAINTED, 2)),
        fraction=0.42, parked_fraction=0.45,
    ),
    HATCHBACK: Body(
        lengths_m=(3.5, 4.2), widths_m=(1.6, 1.85), heights_m=(1.45, 1.75),
        parts=(Part(-1.0, 1.0, 1.0, 0.12, 0.55, PAINTED, 0),
               Part(-0.98, 0.5, 0.9, 0.55, 0.96, GLASS, 1),
               Part(-0.9, 0.25, 0.86, 0.94, 1.0, PAINTED, 2)),
        fraction=0.26, parked_fraction=0.3,
    ),
    VAN: Body(
        lengths_m=(4.9, 6.0), widths_m=(1.9, 2.1), heights_m=(2.0, 2.7),
        parts=(Part(-1.0, 0.72, 1.0, 0.1, 1.0, PAINTED, 0),
               Part(0.72, 1.0, 0.96, 0.1, 0.5, PAINTED, 0),
               Part(0.72, 0.88, 0.92, 0.5, 0.9, GLASS, 0),
               Part(-1.01, -1.0, 0.8, 0.55, 0.85, GLASS, 1)),
        fraction=0.1, parked_fraction=0.12,
    ),
    TRUCK: Body(
        lengths_m=(6.8, 9.0), widths_m=(2.1, 2.4), heights_m=(2.9, 3.7),
        parts=(Part(-1.0, 0.45, 1.0, 0.28, 1.0, LIGHT, 1),
               Part(-1.0, 0.95, 0.8, 0.1, 0.28, DARK, 0),
               Part(0.52, 1.0, 0.94, 0.12, 0.45, PAINTED, 1),
               Part(0.52, 0.98, 0.9, 0.45, 0.78, GLASS, 2)),
        fraction=0.07, parked_fraction=0.04,
    ),
    BUS: Body(
        lengths_m=(9.0, 10.5), widths_m=(2.3, 2.4), heights_m=(2.9, 3.2),
        parts=(Part(-1.0, 1.0, 1.0, 0.1, 0.45, PAINTED, 0),
               Part(-0.99, 0.99, 0.98, 0.45, 0.8, GLASS, 1),
               Part(-1.0, 1.0, 1.0, 0.8, 1.0, PAINTED, 2)),
        fraction=0.03, parked_fraction=0.0,
    ),
    MOTORCYCLE: Body(
        lengths_m=(1.9, 2.3), widths_m=(0.7, 0.9), heights_m=(1.55, 1.75),
        parts=(Part(-1.0, 1.0, 0.22, 0.0, 0.38, DARK, 0),
               Part(-0.6, 0.5, 0.4, 0.3, 0.55, PAINTED, 1),
               Part(-0.4, 0.2, 0.7, 0.5, 0.86, DARK, 2),
               Part(-0.25, 0.15, 0.35, 0.86, 1.0, LIGHT, 3)),
        fraction=0.06, parked_fraction=0.05,
    ),
    BICYCLE: Body(
        lengths_m=(1.6, 1.85), widths_m=(0.55, 0.7), heights_m=(1.6, 1.8),
        parts=(Part(-1.0, 1.0, 0.1, 0.0, 0.38, DARK, 0),
               Part(-0.35, 0.25, 0.45, 0.38, 0.55, DARK, 1),
               Part(-0.3, 0.3, 0.75, 0.52, 0.86, PAINTED, 2),
               Part(-0.1, 0.2, 0.32, 0.86, 1.0, SKIN, 3)),
        fraction=0.06, parked_fraction=0.04,
    ),
}  # fmt: skip
KINDS = tuple(BODIES.items())
DRIVEN_UP_TO, PARKED_UP_TO = (
    np.cumsum(fractions) / np.sum(fractions)
    for fractions in np.array([(body.fraction, body.parked_fraction) for _, body in KINDS]).T
)
EVEN_UP_TO = np.linspace(0.0, 1.0, len(KINDS) + 1)[1:]
LONGEST_M = max(body.lengths_m[1] for body in BODIES.values())
WIDEST_M = max(body.widths_m[1] for body in BODIES.values())


class Looks(NamedTuple):
    """Kind, size [m] and paint of one vehicle."""

    kind: str
    length_m: float
    width_m: float
    height_m: float
    bgr: tuple[int, int, int]


def drawn_vehicle(rng: np.random.Generator, up_to: FloatArray = DRIVEN_UP_TO) -> Looks:
    """Draw a vehicle.

    Args:
        rng: draws it.
        up_to: (K,) cumulative probability of each kind: ``DRIVEN_UP_TO``, ``PARKED_UP_TO`` as on
            a road, or ``EVEN_UP_TO``.
    """
    number = int(np.searchsorted(up_to, rng.random(), 'right'))
    kind, body = KINDS[number]
    return Looks(
        kind,
        float(rng.uniform(*body.lengths_m)),
        float(rng.uniform(*body.widths_m)),
        float(rng.uniform(*body.heights_m)),
        PAINTS_BGR[int(rng.integers(len(PAINTS_BGR)))],
    )


def tint_bgr(tint: int, paint: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the colour of a part of a vehicle with a paint."""
    if tint == PAINTED:
        return paint
    return {GLASS: GLASS_BGR, DARK: DARK_BGR, SKIN: SKIN_BGR, LIGHT: (150, 152, 152)}[tint]


def corners_of(pose: FloatArray, extent: FloatArray) -> FloatArray:
    """Return (4, 8, N) corners in the map frame, homogeneous."""
    x, y, cos, sin = pose
    back, front, half_w, bottom, top, _ = extent
    corners = np.ones((4, 2, 4, len(x)))  # (x, y, z, 1), bottom and top, around, N
    corners[2, 0], corners[2, 1] = bottom, top
    for number, (along, across) in enumerate(
        ((front, half_w), (back, half_w), (back, -half_w), (front, -half_w))
    ):
        corners[0, :, number] = x + cos * along - sin * across
        corners[1, :, number] = y + sin * along + cos * across
    return np.asarray(corners.reshape(4, 8, -1))


class Shape(NamedTuple):
    """The parts of a vehicle of some size: local corners, extents, and ranks from two sides."""

    corners: FloatArray  # (4, 8, P)
    extent: FloatArray  # (6, P)
    rank: tuple[FloatArray, FloatArray]  # (P,) as seen from behind and from before


@lru_cache(maxsize=256)
def shape_of(kind: str, length_m: float, width_m: float, height_m: float) -> Shape:
    """Return the parts of a vehicle, in its own axes [m]."""
    parts = BODIES[kind].parts
    half_l, half_w = 0.5 * length_m, 0.5 * width_m
    shares = np.array([(*part[:5], 0.0) for part in parts])
    size = (half_l, half_l, half_w, height_m, height_m, 0.0)
    extent = np.ascontiguousarray((shares * size).T)
    still = np.zeros(len(parts))
    corners = corners_of(np.stack((still, still, still + 1.0, still)), extent)
    storey = STOREY_M * np.array([part.storey for part in parts], dtype=np.float64)
    middle = extent[0] + extent[1]
    return Shape(corners, extent, (storey - middle, storey + middle))

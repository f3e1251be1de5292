# SPDX-License-Identifier: Apache-2.0
"""Boxes that stand on the ground: parked vehicles, for collisions and for the camera."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import NamedTuple


@dataclass(frozen=True, kw_only=True)
class Box:
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
        kind: of vehicle, a key of :data:`~td3_agent.sim.bodies.BODIES`.
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
        depth_m: shortest way to move the first box out of the second [m].
        normal_x: direction of that way, in the map frame.
        normal_y: direction of that way, in the map frame.
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

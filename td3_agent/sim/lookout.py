# SPDX-License-Identifier: Apache-2.0
"""What is ahead of a driven car on its route: the truth that only the simulator knows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.following import Lead

if TYPE_CHECKING:
    from td3_agent.sim.boxes import Box
    from td3_agent.sim.car import Car
    from td3_agent.sim.lane_network import FloatArray
    from td3_agent.sim.world import World

SEEN_M = 60.0
SPACING_M = 1.0
AIR_M = 0.25  # beside the car, on either side


def lead_of(world: World, car: Car, near_s_m: float | None = None) -> Lead | None:
    """Return the nearest vehicle in the way of a car that keeps to its route, None if none is.

    Args:
        world: where it is.
        car: one of the world's.
        near_s_m: about where on its route the car is [m]; None searches all of it.
    """
    motion, route = car.motion, car.route
    others = _others(world, car)
    near = np.hypot(others[:, 0] - motion.x_m, others[:, 1] - motion.y_m) < SEEN_M
    if not near.any():
        return None
    at_m = route.project(motion.x_m, motion.y_m, near_s_m).s_m
    ahead_m = np.arange(0.0, SEEN_M, SPACING_M)
    if not route.closed:
        ahead_m = ahead_m[ahead_m < max(route.length_m - at_m, SPACING_M)]
    gap_m, speed_mps = _in_the_way(route.sample_array(at_m + ahead_m), others[near], car)
    if not np.isfinite(gap_m).any():
        return None
    nearest = int(gap_m.argmin())
    return Lead(float(gap_m[nearest]), float(speed_mps[nearest]))


def _others(world: World, car: Car) -> FloatArray:
    """Return all other vehicles, (B, 7): x, y, yaw, length, width, and velocity in map axes."""
    rows = [_row(box, (0.0, 0.0)) for box in world.parked]
    rows += [_row(one.outline, one.motion.velocity_mps) for one in world.cars if one is not car]
    standing = np.array(rows, dtype=np.float64).reshape(-1, 7)
    return standing if world.traffic is None else np.vstack((standing, world.traffic.bodies()))


def _row(box: Box, velocity_mps: tuple[float, float]) -> tuple[float, ...]:
    return (box.x_m, box.y_m, box.yaw_rad, box.length_m, box.width_m, *velocity_mps)


def _in_the_way(way: FloatArray, others: FloatArray, car: Car) -> tuple[FloatArray, FloatArray]:
    """Return gap [m], infinite for who is not in the way, and speed along the way, (B,) each.

    Args:
        way: (K, 3) x, y, heading of the route, ``SPACING_M`` apart, from the car on.
        others: (B, 7) as from :func:`_others`.
        car: whose way it is.
    """
    x, y, yaw, length, width, vx, vy = others.T
    apart = np.hypot(x[:, np.newaxis] - way[:, 0], y[:, np.newaxis] - way[:, 1])
    nearest = apart.argmin(axis=1)
    heading = way[nearest, 2]
    cos, sin = np.cos(heading), np.sin(heading)
    dx, dy = x - way[nearest, 0], y - way[nearest, 1]
    along, lateral = cos * dx + sin * dy, cos * dy - sin * dx
    turned_cos, turned_sin = np.abs(np.cos(yaw - heading)), np.abs(np.sin(yaw - heading))
    half_along = 0.5 * (length * turned_cos + width * turned_sin)
    half_across = 0.5 * (length * turned_sin + width * turned_cos)
    place = nearest * SPACING_M + along
    info = car.vehicle_info
    meets = np.abs(lateral) < half_across + 0.5 * info.width_m + AIR_M
    ahead = (place > 0.0) & (along < half_along + SPACING_M)  # not beyond the end of the route
    gap = place - half_along - 0.5 * info.length_m
    return np.where(meets & ahead, gap, np.inf), cos * vx + sin * vy

# SPDX-License-Identifier: Apache-2.0
"""Where cars are parked: beside the outermost lanes, clear of every driving lane."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from td3_agent.sim.bodies import drawn_vehicle
from td3_agent.sim.boxes import Box, overlap

if TYPE_CHECKING:
    import numpy as np

    from td3_agent.sim.road import LaneGeometry, RoadMap

GAP_M = (0.25, 0.9)  # between the lane's edge and the parked car
FREE_AROUND_CAR_M = 15.0
ANGLE_RAD = 0.08  # nobody parks perfectly straight
TRIES_PER_VEHICLE = 20


def park(
    road_map: RoadMap,
    count: int,
    ego_xy: tuple[float, float],
    first_actor_id: int,
    rng: np.random.Generator,
) -> tuple[Box, ...]:
    """Place up to ``count`` cars to the outside of lanes; fewer where there is no room.

    Args:
        road_map: where to park.
        count: how many.
        ego_xy: stays free [m].
        first_actor_id: ids count up from here.
        rng: draws lanes, places and looks.
    """
    lanes = [lane for lane in road_map.driving_lanes if not lane.span.in_junction]
    parked: list[Box] = []
    for _ in range(count * TRIES_PER_VEHICLE):
        if len(parked) == count:
            break
        lane = lanes[int(rng.integers(len(lanes)))]
        box = _beside(lane, first_actor_id + len(parked), rng)
        far = math.hypot(box.x_m - ego_xy[0], box.y_m - ego_xy[1]) > FREE_AROUND_CAR_M
        if far and not _in_the_way(road_map, box, parked):
            parked.append(box)
    return tuple(parked)


def _beside(lane: LaneGeometry, actor_id: int, rng: np.random.Generator) -> Box:
    index = int(rng.integers(len(lane.centre)))
    heading = float(lane.heading_rad[index])
    looks = drawn_vehicle(rng, parked=True)
    turned = float(rng.uniform(-ANGLE_RAD, ANGLE_RAD))
    half_m = 0.5 * (looks.width_m * math.cos(turned) + looks.length_m * abs(math.sin(turned)))
    away_m = float(rng.uniform(*GAP_M)) + half_m
    edge, side = (lane.left, -1.0) if lane.span.left_hand else (lane.right, 1.0)
    x, y = edge[index].tolist()
    return Box(
        x_m=x + side * away_m * math.sin(heading),
        y_m=y - side * away_m * math.cos(heading),
        yaw_rad=heading + turned,
        actor_id=actor_id,
        **looks._asdict(),
    )


def _in_the_way(road_map: RoadMap, box: Box, parked: list[Box]) -> bool:
    """Whether a box stands on a driving lane or in another box."""
    outline = [*box.corners(), (box.x_m, box.y_m)]
    return any(road_map.locate(x, y).on_road for x, y in outline) or any(
        overlap(box, other) is not None for other in parked
    )

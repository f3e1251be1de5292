# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where vehicles start: parked beside the lanes, or on them, apart from the driven cars."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.sim.boxes import LONGEST_M, PARKED_UP_TO, Box, drawn_vehicle, overlap

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.driving.route import Route
    from td3_agent.sim.car import Car
    from td3_agent.sim.lane_network import FloatArray, LaneNetwork
    from td3_agent.sim.road import LaneGeometry, RoadMap

GAP_M = (0.25, 0.9)  # between the lane's edge and the parked car
FREE_AROUND_CAR_M = 15.0
ANGLE_RAD = 0.08  # of a parked car to its lane
TRIES_PER_VEHICLE = 20
SLOT_M = 12.0  # between two starts
FROM_END_M = 6.0  # of an edge: before a stop line, clear of the junction behind
ENTRY_ROOM_M = 25.0  # before the next vehicle, for one that comes onto the map
ENTRY_FREE_M = 60.0  # around a driven car, no vehicle appears
ON_LANE_M = 0.5
SAMPLES_M = 4.0  # between the places of a route that are looked up
SEARCHED_M = 60.0
COSINE_ALONG = 0.9
StartPlace = tuple[int, float]  # edge, arc length [m]


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
    looks = drawn_vehicle(rng, PARKED_UP_TO)
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
    on_road = any(
        road_map.locate(x, y, z_m).on_road for x, y in outline for z_m in road_map.storeys_m
    )
    return on_road or any(overlap(box, other) is not None for other in parked)


def free_places(
    network: LaneNetwork,
    rng: np.random.Generator,
    count: int,
    cars: Sequence[Car],
    taken: Sequence[StartPlace],
) -> list[StartPlace]:
    """Return up to ``count`` places on streets; fewer where there is no room.

    One place more changes nothing about those before it.

    Args:
        network: the lanes.
        rng: draws the places.
        count: how many.
        cars: the driven cars, which keep some free road around them.
        taken: places that others have.
    """
    slots = _slots(network)
    if not count or not slots:
        return []
    edge = np.array([edge for edge, _ in slots], dtype=np.intp)
    s_m = np.array([s_m for _, s_m in slots])
    x_m, y_m, _ = network.poses(edge, s_m)
    free = np.ones(len(slots), dtype=np.bool_)
    for car in cars:
        free &= np.hypot(x_m - car.motion.x_m, y_m - car.motion.y_m) > FREE_AROUND_CAR_M
    for taken_edge, taken_s_m in taken:
        free &= (edge != taken_edge) | (np.abs(s_m - taken_s_m) >= SLOT_M)
    order = [i for i in rng.permutation(len(slots)).tolist() if free[i]]
    return [slots[i] for i in order[:count]]


@lru_cache(maxsize=64)
def _slots(network: LaneNetwork) -> list[StartPlace]:
    """Return places ``SLOT_M`` apart on all edges outside junctions."""
    return [
        (edge, float(s_m))
        for edge, length_m in enumerate(network.length_m.tolist())
        if not network.in_junction[edge]
        for s_m in np.arange(FROM_END_M, length_m - FROM_END_M, SLOT_M)
    ]


def place_on_route(network: LaneNetwork, cars: Sequence[Car], ahead_m: float) -> StartPlace | None:
    """Return a place on a street at least ``ahead_m`` [m] before the first car on its route.

    None where there is no such place that is clear of the other driven cars.
    """
    car, route = cars[0], cars[0].route
    at_m = route.project(car.motion.x_m, car.motion.y_m, 0.0).s_m
    for s_m in (at_m + np.arange(ahead_m, ahead_m + SEARCHED_M, 1.0)).tolist():
        if not route.closed and s_m > route.length_m:
            return None
        place = street_at(network, route, s_m)
        x_m, y_m, _ = route.sample(s_m)
        free = all(
            math.dist((x_m, y_m), other.motion[:2]) > FREE_AROUND_CAR_M for other in cars[1:]
        )
        if place is not None and free:
            return place
    return None


def street_at(network: LaneNetwork, route: Route, s_m: float) -> StartPlace | None:
    """Return the place on the street that a route takes at an arc length [m], if it is on one."""
    x_m, y_m, heading_rad = route.sample(s_m)
    for place in network.near(x_m, y_m, 2.0 * ON_LANE_M):
        along = math.cos(place.heading_rad - heading_rad) > COSINE_ALONG
        inside = FROM_END_M <= place.s_m <= network.length_m[place.edge] - FROM_END_M
        street = not network.in_junction[place.edge] and abs(place.lateral_m) < ON_LANE_M
        if along and inside and street:
            return place.edge, place.s_m
    return None


@lru_cache(maxsize=512)
def edge_pairs_of_route(network: LaneNetwork, route: Route) -> set[tuple[int, int]]:
    """Return which edge a route takes after which, as pairs.

    The paths through a junction overlap where they begin and end: of those that lead from the
    street before to the street behind, there is one.
    """
    streets: list[int] = []
    for s_m in np.arange(0.0, route.length_m, SAMPLES_M).tolist():
        place = street_at(network, route, s_m)
        if place is not None and (not streets or streets[-1] != place[0]):
            streets.append(place[0])
    pairs = set()
    for street, after in pairwise(streets):
        for way in network.followers[street]:
            if way == after or after in network.followers[way]:
                pairs |= {(street, way), (way, after)}
    return pairs


def entry_place(
    network: LaneNetwork, vehicle: int, room_m: FloatArray, cars: Sequence[Car]
) -> int | None:
    """Return the edge on which a vehicle can come onto the map now, or None.

    Args:
        network: the lanes.
        vehicle: its number; it always comes by the same road.
        room_m: (E,) free part of every edge, from its start [m].
        cars: the driven cars, out of whose sight it is to happen.
    """
    if not network.entries:
        return None
    edge = network.entries[vehicle % len(network.entries)]
    row = int(network.first_row[edge])
    x_m, y_m = float(network.x_m[row]), float(network.y_m[row])
    nearest_m = min((math.dist((x_m, y_m), car.motion[:2]) for car in cars), default=math.inf)
    room = room_m[edge] > min(ENTRY_ROOM_M + LONGEST_M, 0.9 * float(network.length_m[edge]))
    return edge if room and nearest_m > ENTRY_FREE_M else None

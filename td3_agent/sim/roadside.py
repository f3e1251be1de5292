# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What lies and stands beside a map's roads: kerb, pavement, scenery, and paint before junctions.

It belongs to the map: equal seeds give equal roadsides. How it is coloured belongs to the
episode (:mod:`td3_agent.sim.look`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from td3_agent.sim.randomisation import Randomisation
    from td3_agent.sim.road import LaneGeometry, RoadMap

    FloatArray = NDArray[np.float64]

STREAM = 2  # apart from geometry and markings
SHORTEST_M = 25.0  # lanes that are shorter have no room for signs
STOP_FROM_END_M = (0.6, 1.1)
CROSSING_FROM_END_M = (2.0, 5.0)
BAR_M, BAR_GAP_M = 0.5, 0.5
ARROW_FROM_END_M = 14.0
# Forward and left [m] of an arrow that points ahead, and of one that turns left.
AHEAD = ((0.0, 0.09), (0.0, -0.09), (2.0, -0.09), (2.0, 0.09))
HEAD = ((2.0, 0.4), (2.0, -0.4), (3.4, 0.0))
BEND = ((1.5, 0.09), (1.75, -0.09), (2.1, 0.7), (1.85, 0.8))
TURNED_HEAD = ((1.4, 0.65), (2.5, 0.65), (2.0, 1.35))


@dataclass(frozen=True, kw_only=True)
class Roadside:
    """Widths, paint and densities of one map.

    Attributes:
        kerb_m: width of the kerb [m].
        pavement_m: width of the pavement behind it [m]; 0: none but what the map has itself.
        marking_m: width of a painted line [m].
        dash_m: length of a dash, and of the gap after it [m].
        stop_lines: whether there are lines before junctions.
        arrows: whether there are arrows before junctions.
        crossings: whether there are zebra crossings before junctions.
        trees: density, 0 .. 1.
        houses: density, 0 .. 1.
        walls: density of walls and fences, 0 .. 1.
        hedges: density, 0 .. 1.
        poles: density of street lights and poles, 0 .. 1.
        near_m: distance from the road's edge at which the scenery begins [m].
        sun_rad: direction that light comes from, in the map frame [rad].
        shadow_per_height: length of a shadow by height.
        seed: of everything that is placed.
    """

    kerb_m: float = 0.3
    pavement_m: float = 0.0
    marking_m: float = 0.16
    dash_m: float = 3.0
    stop_lines: bool = False
    arrows: bool = False
    crossings: bool = False
    trees: float = 0.6
    houses: float = 0.25
    walls: float = 0.15
    hedges: float = 0.25
    poles: float = 0.3
    near_m: float = 3.2
    sun_rad: float = 0.507
    shadow_per_height: float = 0.8
    seed: int = 0

    @classmethod
    def drawn(cls, limits: Randomisation, seed: int) -> Roadside:
        """Return the roadside that belongs to the seed of a map."""
        rng = np.random.default_rng((seed, STREAM))
        paved = rng.random() < limits.pavement_probability
        signs = (rng.random(3) < limits.sign_probability).tolist()
        densities = rng.uniform(0.0, limits.scenery_most, 5) * (rng.random(5) < 0.75)
        width_m = rng.uniform(limits.pavement_least_m, limits.pavement_most_m)
        return cls(
            kerb_m=rng.uniform(limits.kerb_least_m, limits.kerb_most_m),
            pavement_m=width_m if paved else 0.0,
            marking_m=rng.uniform(limits.marking_width_least_m, limits.marking_width_most_m),
            dash_m=rng.uniform(limits.dash_least_m, limits.dash_most_m),
            stop_lines=signs[0],
            arrows=signs[1],
            crossings=signs[2],
            trees=float(densities[0]),
            houses=float(densities[1]),
            walls=float(densities[2]),
            hedges=float(densities[3]),
            poles=float(densities[4]),
            near_m=rng.uniform(0.6, 5.0),
            sun_rad=rng.uniform(-math.pi, math.pi),
            shadow_per_height=rng.uniform(0.2, 1.6),
            seed=seed,
        )


STREET = Roadside(
    pavement_m=2.2,
    stop_lines=True,
    crossings=True,
    arrows=True,
    trees=0.5,
    houses=0.8,
    walls=0.15,
    hedges=0.3,
    poles=0.6,
    near_m=2.8,
)
VILLAGE = Roadside(
    pavement_m=1.6, trees=0.6, houses=0.4, walls=0.2, hedges=0.4, poles=0.4, near_m=3.0
)
OPEN_COUNTRY = Roadside(trees=0.6, houses=0.05, walls=0.6, hedges=0.1, poles=0.5)
OF_BUILT_IN = {
    'oval': STREET,
    'town': STREET,
    'arterial': STREET,
    'winding': VILLAGE,
    'highway': OPEN_COUNTRY,
}


def default_roadside(map_name: str, seed: int) -> Roadside:
    """Return the fixed roadside of a map; what stands where still follows the seed."""
    return replace(OF_BUILT_IN.get(map_name, Roadside()), seed=seed)


def sign_outlines(road_map: RoadMap, roadside: Roadside) -> list[FloatArray]:
    """Return the convex polygons, (K, 2) map positions [m] each, that a map is signed with."""
    if not (roadside.stop_lines or roadside.arrows or roadside.crossings):
        return []
    if not any(lane.span.in_junction for lane in road_map.driving_lanes):
        return []
    rng = np.random.default_rng([roadside.seed, 4])
    entering = _before_junctions(road_map)
    return [
        outline
        for lane in entering
        for outline in (*_lines(lane, roadside), *_arrow(lane, roadside, rng))
    ]


def _before_junctions(road_map: RoadMap) -> list[LaneGeometry]:
    """Return the lanes that lead into a junction and are long enough for signs."""
    starts = np.array(
        [lane.centre[0, :2] for lane in road_map.driving_lanes if lane.span.in_junction]
    )
    return [
        lane
        for lane in road_map.driving_lanes
        if not lane.span.in_junction
        and len(lane.centre) > SHORTEST_M
        and np.hypot(*(starts - lane.centre[-1, :2]).T).min() < 1.0
    ]


def _lines(lane: LaneGeometry, roadside: Roadside) -> Iterator[FloatArray]:
    """Yield the stop line and the bars of the crossing of one lane."""
    half_m = 0.5 * float(lane.width_m[-1])
    if roadside.stop_lines:
        near, far = STOP_FROM_END_M
        if roadside.crossings:
            near, far = near + CROSSING_FROM_END_M[1], far + CROSSING_FROM_END_M[1]
        yield _rectangle(lane, near, far, half_m - 0.1, -half_m + 0.1)
    if roadside.crossings:
        for left_m in np.arange(half_m - 0.5 * BAR_GAP_M, -half_m + BAR_M, -(BAR_M + BAR_GAP_M)):
            yield _rectangle(lane, *CROSSING_FROM_END_M, float(left_m), float(left_m) - BAR_M)


def _arrow(
    lane: LaneGeometry, roadside: Roadside, rng: np.random.Generator
) -> Iterator[FloatArray]:
    """Yield the pieces of the arrow of one lane: ahead, and perhaps to a side."""
    side = float(rng.integers(-1, 2))
    if not roadside.arrows:
        return
    for piece in (AHEAD, HEAD, *((BEND, TURNED_HEAD) if side else ())):
        forward, left = np.array(piece).T
        yield _placed(lane, ARROW_FROM_END_M - forward, left * (side or 1.0))


def _rectangle(
    lane: LaneGeometry, near_m: float, far_m: float, left_m: float, right_m: float
) -> FloatArray:
    """Return a rectangle between two distances from the lane's end."""
    from_end = np.array([near_m, near_m, far_m, far_m])
    return _placed(lane, from_end, np.array([left_m, right_m, right_m, left_m]))


def _placed(lane: LaneGeometry, from_end_m: FloatArray, left_m: FloatArray) -> FloatArray:
    """Return map positions of points before the end of a lane, to the left of its centre."""
    heading = float(lane.heading_rad[-1 - round(float(from_end_m.max()))])
    ahead = np.array([np.cos(heading), np.sin(heading)])
    left = np.array([-ahead[1], ahead[0]])
    anchor = lane.centre[-1, :2]
    # Straight enough where signs are: the lane's direction there, through its own centre.
    middle = lane.centre[-1 - round(float(from_end_m.mean())), :2]
    offset = middle - (anchor - from_end_m.mean() * ahead)
    points = anchor + offset - from_end_m[:, np.newaxis] * ahead + left_m[:, np.newaxis] * left
    return np.asarray(points)

# SPDX-License-Identifier: Apache-2.0
"""Paint before junctions: stop lines, arrows and zebra crossings, as polygons."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from td3_agent.sim.road import LaneGeometry, RoadMap
    from td3_agent.sim.roadside import Roadside

    FloatArray = NDArray[np.float64]

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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The painted lines of a map, from the boundaries of its lanes.

None inside junctions, where lanes overlap, and none where roads cross at different heights: the
ground is flat here, and the lines of a bridge would lie across the road below it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.sim.lane_network import STOREY_M, ByCell

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.lane_network import FloatArray
    from td3_agent.sim.road import LaneGeometry

NO_MARKING = 10  # carla.LaneMarkingType.NONE
CELL_M = 16.0
PIECE = 64  # samples of a lane that are compared at a time


@dataclass(frozen=True, eq=False)
class Marking:
    """A painted line of one type and colour.

    Attributes:
        points: (N, 2) in the map frame [m].
        kind: CARLA ``LaneMarkingType`` as int: OTHER 0, BROKEN 1, SOLID 2, ...
        colour: CARLA ``LaneMarkingColor`` as int: WHITE 0, ..., YELLOW 4.
    """

    points: NDArray[np.float64]
    kind: int
    colour: int


def markings_of(lanes: Sequence[LaneGeometry]) -> list[Marking]:
    """Return every painted line once.

    Neighbouring lanes share a boundary: it is taken as the outer one of the inner lane, and as
    the inner one only where no driving lane lies further in. Outer is away from the centre
    line: right where traffic keeps to the right.
    """
    present = {(lane.span.road_id, lane.span.section, lane.span.lane_id) for lane in lanes}
    markings = []
    for lane, crossed in zip(lanes, _crossed(lanes), strict=True):
        span = lane.span
        if span.in_junction:
            continue
        bare = crossed[:, np.newaxis]
        right = lane.right, np.where(bare, (NO_MARKING, 0), lane.right_marking)
        left = lane.left, np.where(bare, (NO_MARKING, 0), lane.left_marking)
        outer, inner = (left, right) if span.left_hand else (right, left)
        markings += _runs(*outer)
        further_in = span.lane_id - int(math.copysign(1, span.lane_id))
        if further_in == 0 and not span.along_s:
            further_in = -span.lane_id  # the centre line belongs to the lane along it
        if (span.road_id, span.section, further_in) not in present:
            markings += _runs(*inner)
    return markings


def _runs(points: NDArray[np.float64], paint: NDArray[np.int64]) -> list[Marking]:
    """Split a boundary where its marking changes; unmarked parts are left out."""
    changes = np.flatnonzero((paint[1:] != paint[:-1]).any(axis=1)) + 1
    runs = []
    for first, last in zip([0, *changes], [*changes, len(points)], strict=True):
        piece = points[first : last + 1]  # one point more, so that runs meet
        kind, colour = int(paint[first, 0]), int(paint[first, 1])
        if kind != NO_MARKING and len(piece) > 1:
            runs.append(Marking(piece, kind, colour))
    return runs


def _crossed(lanes: Sequence[LaneGeometry]) -> list[NDArray[np.bool_]]:
    """Return for the samples of each lane whether another lane passes over or under them, (N,)."""
    places = np.concatenate([lane.centre for lane in lanes])
    half_m = 0.5 * np.concatenate([lane.width_m for lane in lanes])
    crossed = np.zeros(len(places), dtype=np.bool_)
    ends = np.cumsum([len(lane.centre) for lane in lanes]).tolist()
    if np.ptp(places[:, 2]) > STOREY_M:
        by_cell = ByCell(places[:, :2], CELL_M)
        for first, end in pairwise([0, *ends]):
            for start in range(first, end, PIECE):
                piece = slice(start, min(start + PIECE, end))
                crossed[piece] = _crossed_piece(places, half_m, piece, by_cell)
    return np.split(crossed, ends[:-1])


def _crossed_piece(
    places: FloatArray, half_m: FloatArray, piece: slice, by_cell: ByCell
) -> NDArray[np.bool_]:
    """Return the same of a piece of a lane, among the (M, 3) samples of all lanes."""
    mine, reach_m = places[piece], 2.0 * float(half_m.max())
    (x0, y0, low_m), (x1, y1, high_m) = mine.min(axis=0).tolist(), mine.max(axis=0).tolist()
    near = by_cell.within(x0 - reach_m, y0 - reach_m, x1 + reach_m, y1 + reach_m)
    z = places[near, 2]
    near = near[(z > low_m + STOREY_M) | (z < high_m - STOREY_M)]
    dx, dy, dz = (mine[:, np.newaxis] - places[near]).transpose(2, 0, 1)
    meets = np.hypot(dx, dy) < half_m[piece, np.newaxis] + half_m[near]
    return np.asarray((meets & (np.abs(dz) > STOREY_M)).any(axis=1))

# SPDX-License-Identifier: Apache-2.0
"""Lane invasions: says when the car's outline starts to touch a painted line.

Lines that continue each other (road after road) are one line, so driving along a marking is
one invasion, not one per road. Segments lie in a grid of square cells; a query reads the cells
around the car.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import pairwise
import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from td3_agent.sim.road import Marking

CELL_M = 4.0
JOIN_M = 0.25  # ends of markings this close belong together


class _Segment(NamedTuple):
    """A piece of a line: both ends [m], the line it belongs to, and its marking type."""

    x0: float
    y0: float
    x1: float
    y1: float
    line: int
    kind: int


class LaneWatch:
    """Remembers which lines the car touches, and reports the new ones.

    Args:
        markings: all painted lines of the map.
        length_m: of the car [m].
        width_m: of the car [m].
    """

    def __init__(self, markings: Sequence[Marking], length_m: float, width_m: float) -> None:
        """Sort the markings into the grid."""
        self._half_l, self._half_w = 0.5 * length_m, 0.5 * width_m
        self._reach_m = math.hypot(self._half_l, self._half_w)
        self._cells = _grid(markings)
        self._touched: frozenset[int] = frozenset()

    def start(self, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Begin at a pose: lines touched there are no invasion."""
        self._touched = frozenset(self._touching(x_m, y_m, yaw_rad))

    def update(self, x_m: float, y_m: float, yaw_rad: float) -> list[int]:
        """Return the marking types (CARLA enum) of the lines newly touched at a pose."""
        touching = self._touching(x_m, y_m, yaw_rad)
        new = [kind for line, kind in sorted(touching.items()) if line not in self._touched]
        self._touched = frozenset(touching)
        return new

    def _touching(self, x_m: float, y_m: float, yaw_rad: float) -> dict[int, int]:
        """Return the lines under the car's outline, with their types."""
        reach = self._reach_m
        half_l, half_w = self._half_l, self._half_w
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        found: dict[int, int] = {}
        for i in range(math.floor((x_m - reach) / CELL_M), math.floor((x_m + reach) / CELL_M) + 1):
            for j in range(
                math.floor((y_m - reach) / CELL_M), math.floor((y_m + reach) / CELL_M) + 1
            ):
                for segment in self._cells.get((i, j), ()):
                    if segment.line in found:
                        continue
                    dx, dy = segment.x0 - x_m, segment.y0 - y_m
                    ax, ay = cos * dx + sin * dy, cos * dy - sin * dx
                    dx, dy = segment.x1 - x_m, segment.y1 - y_m
                    bx, by = cos * dx + sin * dy, cos * dy - sin * dx
                    if _meets_rectangle((ax, ay), (bx, by), half_l, half_w):
                        found[segment.line] = segment.kind
        return found


def _meets_rectangle(
    a: tuple[float, float], b: tuple[float, float], half_l: float, half_w: float
) -> bool:
    """Whether the segment a-b meets the rectangle |x| <= half_l, |y| <= half_w.

    Separating axes of a segment and an axis-aligned box: x, y, and the segment's normal.
    """
    (ax, ay), (bx, by) = a, b
    if (ax > half_l and bx > half_l) or (ax < -half_l and bx < -half_l):
        return False
    if (ay > half_w and by > half_w) or (ay < -half_w and by < -half_w):
        return False
    normal_x, normal_y = by - ay, ax - bx
    reach = abs(normal_x) * half_l + abs(normal_y) * half_w
    return abs(normal_x * ax + normal_y * ay) <= reach


def _grid(markings: Sequence[Marking]) -> dict[tuple[int, int], tuple[_Segment, ...]]:
    cells: dict[tuple[int, int], list[_Segment]] = defaultdict(list)
    for marking, line in zip(markings, _line_numbers(markings), strict=True):
        points = marking.points.tolist()
        for (x0, y0), (x1, y1) in pairwise(points):
            segment = _Segment(x0, y0, x1, y1, line, marking.kind)
            for cell in _cells_of(segment):
                cells[cell].append(segment)
    return {cell: tuple(segments) for cell, segments in cells.items()}


def _cells_of(segment: _Segment) -> Iterable[tuple[int, int]]:
    columns = sorted((math.floor(segment.x0 / CELL_M), math.floor(segment.x1 / CELL_M)))
    rows = sorted((math.floor(segment.y0 / CELL_M), math.floor(segment.y1 / CELL_M)))
    return ((i, j) for i in range(columns[0], columns[1] + 1) for j in range(rows[0], rows[1] + 1))


def _line_numbers(markings: Sequence[Marking]) -> list[int]:
    """Number the lines: markings of one type whose ends meet share a number (union-find)."""
    parent = list(range(len(markings)))

    def root(index: int) -> int:
        while parent[index] != index:
            index = parent[index]
        return index

    ends: dict[tuple[int, int, int], list[tuple[float, float, int]]] = defaultdict(list)
    for index, marking in enumerate(markings):
        for x, y in (marking.points[0].tolist(), marking.points[-1].tolist()):
            i, j = math.floor(x / JOIN_M), math.floor(y / JOIN_M)
            for cell in ((i + di, j + dj) for di in (-1, 0, 1) for dj in (-1, 0, 1)):
                for other_x, other_y, other in ends.get((*cell, marking.kind), ()):
                    if math.hypot(x - other_x, y - other_y) <= JOIN_M:
                        parent[root(index)] = root(other)
            ends[i, j, marking.kind].append((x, y, index))
    return [root(index) for index in range(len(markings))]

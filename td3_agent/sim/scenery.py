# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What stands beside the roads: trees, houses, walls, hedges, poles, as upright blocks.

Placed along the edges of a map's lanes, clear of every lane; it follows from the map and its
roadside. Scenery is seen, not touched: what leaves the road ends its episode anyway.
"""

from __future__ import annotations

from functools import lru_cache
import math
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import cv2
import numpy as np

from td3_agent.sim.lane_network import arc_lengths
from td3_agent.sim.look import MATERIALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.boxes import Box
    from td3_agent.sim.road import LaneGeometry, RoadMap
    from td3_agent.sim.roadside import Roadside

    FloatArray = NDArray[np.float64]
    Scenery: TypeAlias = 'np.recarray[Any, Any]'

RASTER_M, RASTER_CELLS = 0.5, 1 << 24  # edge of a cell; of larger maps the cells are larger
MARGIN_M = 30.0
BESIDE_PARKED_M = 1.4
MATERIAL_NUMBER = {name: number for number, name in enumerate(MATERIALS)}


class Block(NamedTuple):
    """An upright block: a part of something that stands on the ground.

    Attributes:
        x_m: centre in the map frame [m].
        y_m: centre in the map frame [m].
        yaw_rad: direction of its length [rad].
        half_l: half its length [m].
        half_w: half its width [m].
        bottom: above the ground [m].
        top: above the ground [m].
        material: what it is made of, a key of ``MATERIALS``.
        shade: brightness beside others of the same material.
        hangs: whether its underside can be seen: nothing as wide is below it.
    """

    x_m: float
    y_m: float
    yaw_rad: float
    half_l: float
    half_w: float
    bottom: float
    top: float
    material: str
    shade: float
    hangs: bool = False


# Blocks of a map, those of one thing one after another: fields of ``Block``, material as its
# number in ``MATERIALS``, and the number of the thing that each belongs to.
RECORD = [(name, 'f8') for name in Block._fields[:7]]
RECORD += [('material', 'p'), ('shade', 'f8'), ('hangs', '?'), ('thing', 'p')]


def scenery_from(things: Sequence[Sequence[Block]]) -> Scenery:
    """Return things, each a sequence of blocks, as one array."""
    rows = [
        (*block[:7], MATERIAL_NUMBER[block.material], block.shade, block.hangs, number)
        for number, thing in enumerate(things)
        for block in thing
    ]
    return np.rec.array(rows, dtype=RECORD) if rows else np.recarray(0, dtype=RECORD)


def without_boxes(scenery: Scenery, boxes: Sequence[Box]) -> Scenery:
    """Return the scenery without the things that stand where boxes are."""
    if not boxes or not len(scenery):
        return scenery
    hit = np.zeros(len(scenery), dtype=np.bool_)
    cos, sin = np.cos(scenery.yaw_rad.copy()), np.sin(scenery.yaw_rad.copy())
    for box in boxes:
        dx, dy = box.x_m - scenery.x_m, box.y_m - scenery.y_m
        along, across = cos * dx + sin * dy, cos * dy - sin * dx
        reach = 0.5 * box.length_m
        hit |= (np.abs(along) < scenery.half_l + reach) & (
            np.abs(across) < scenery.half_w + BESIDE_PARKED_M
        )
    kept = scenery[~np.isin(scenery.thing, scenery.thing[hit])]
    return kept.view(np.recarray)


@lru_cache(maxsize=4)
def scenery_of(road_map: RoadMap, roadside: Roadside) -> Scenery:
    """Return what stands beside a map's roads."""
    rng = np.random.default_rng([roadside.seed, 3])
    site = _Site(road_map)
    lanes = [lane for lane in road_map.driving_lanes if not lane.span.in_junction]
    edges = [edge for lane in lanes for edge in _edges(lane)]
    things: list[list[Block]] = []
    for density, every_m, make in (
        (roadside.houses, 17.0, _house),
        (max(roadside.walls, roadside.hedges), 7.0, _Runs(roadside)),
        (roadside.trees, 9.0, _tree),
        (roadside.poles, 22.0, _pole),
    ):
        if density:
            things += _placed(site, edges, roadside, rng, density, every_m, make)
    return scenery_from(things)


class _Anchor(NamedTuple):
    """A place beside a road: its edge's pose, outward is to the right."""

    x_m: float
    y_m: float
    yaw_rad: float

    def beside(self, away_m: float) -> tuple[float, float]:
        """Return the position so far to the right [m]."""
        return (
            self.x_m + away_m * math.sin(self.yaw_rad),
            self.y_m - away_m * math.cos(self.yaw_rad),
        )


def _edges(lane: LaneGeometry) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield points and headings of a lane's two sides, so that outward is to the right."""
    yield lane.right, lane.heading_rad
    yield lane.left[::-1], lane.heading_rad[::-1] + math.pi


def _placed(  # noqa: PLR0913  what is placed where
    site: _Site,
    edges: Sequence[tuple[FloatArray, FloatArray]],
    roadside: Roadside,
    rng: np.random.Generator,
    density: float,
    every_m: float,
    make: Callable[[_Anchor, Roadside, np.random.Generator], list[Block]],
) -> list[list[Block]]:
    """Return the things that found room along the edges, ``every_m`` apart [m]."""
    found = []
    for points, headings in edges:
        along = arc_lengths(points)
        at = np.searchsorted(along, np.arange(0.5 * every_m, along[-1], every_m))
        for (x_m, y_m), yaw_rad in zip(points[at].tolist(), headings[at].tolist(), strict=True):
            place = _Anchor(x_m, y_m, yaw_rad)
            blocks = make(place, roadside, rng)  # always: draws do not depend on the room
            if rng.random() < density and blocks and site.take(blocks):
                found.append(blocks)
    return found


class _Site:
    """A raster of the free ground: apart from the lanes and from what stands already."""

    def __init__(self, road_map: RoadMap) -> None:
        x0, y0, x1, y1 = road_map.bounds_m
        self._x0, self._y0 = x0 - MARGIN_M, y0 - MARGIN_M
        width_m, height_m = x1 - x0 + 2.0 * MARGIN_M, y1 - y0 + 2.0 * MARGIN_M
        self._cell_m = max(RASTER_M, math.sqrt(width_m * height_m / RASTER_CELLS))
        rows, columns = math.ceil(height_m / self._cell_m), math.ceil(width_m / self._cell_m)
        free = np.full((rows, columns), 255, dtype=np.uint8)
        for lane in road_map.lanes:
            for points in (lane.left, lane.right, lane.centre[:, :2]):
                cells = np.rint(self._cells(points)).astype(np.int32)
                cv2.polylines(free, [cells], isClosed=False, color=0, thickness=3)
            outline = np.vstack((lane.left, lane.right[::-1]))
            cv2.fillPoly(free, [np.rint(self._cells(outline)).astype(np.int32)], 0)
        away_m = cv2.distanceTransform(free, cv2.DIST_L2, 3) * np.float32(self._cell_m)
        self._free = (away_m >= 2.0 * self._cell_m).astype(np.uint8)
        # Its edge is not free: what stands there would reach out of it.
        self._free[[0, -1]] = self._free[:, [0, -1]] = 0

    def take(self, blocks: Sequence[Block]) -> bool:
        """Claim the ground of a thing; False where it is not free."""
        x0, y0, cell_m = self._x0, self._y0, self._cell_m
        cells = [
            (round((x - x0) / cell_m), round((y - y0) / cell_m))
            for block in blocks
            for x, y in _footprint(block)
        ]
        rows, columns = self._free.shape
        free = self._free
        if not all(0 <= x < columns and 0 <= y < rows and free[y, x] for x, y in cells):
            return False
        cv2.fillConvexPoly(free, cv2.convexHull(np.array(cells, dtype=np.int32)), 0)
        return True

    def _cells(self, points: FloatArray) -> FloatArray:
        return np.asarray((points - (self._x0, self._y0)) / self._cell_m)


def _footprint(block: Block) -> list[tuple[float, float]]:
    """Return points of a block's outline and middle, no more than 2 m apart [m]."""
    cos, sin = math.cos(block.yaw_rad), math.sin(block.yaw_rad)
    return [
        (block.x_m + cos * u - sin * v, block.y_m + sin * u + cos * v)
        for v in _spread(block.half_w)
        for u in _spread(block.half_l)
    ]


def _spread(half_m: float) -> list[float]:
    """Return places from -half_m to half_m, evenly spaced, no more than 2 m apart."""
    steps = max(1, math.ceil(half_m))
    step_m = 2.0 * half_m / steps
    return [*(number * step_m - half_m for number in range(steps)), half_m]


def _tree(place: _Anchor, roadside: Roadside, rng: np.random.Generator) -> list[Block]:
    """Return a trunk and a crown, leaves or needles."""
    radius, height, away = rng.uniform(1.0, 2.4), rng.uniform(4.0, 9.0), rng.uniform(0.0, 9.0)
    needles, shade = rng.random() < 0.3, rng.uniform(0.7, 1.3)
    x, y = place.beside(roadside.pavement_m + roadside.near_m + away)
    yaw, trunk = rng.uniform(0.0, math.pi), 0.14 + 0.02 * height
    base = (0.12 if needles else 0.35) * height
    crown = 'needle' if needles else 'leaf'
    middle = base + 0.55 * (height - base)
    slim = 0.6 if needles else 0.75
    return [
        Block(x, y, yaw, trunk, trunk, 0.0, base, 'bark', shade),
        Block(x, y, yaw, radius, radius, base, middle, crown, shade, hangs=True),
        Block(x, y, yaw + 0.6, slim * radius, slim * radius, middle, height, crown, 1.1 * shade),
    ]


def _house(place: _Anchor, roadside: Roadside, rng: np.random.Generator) -> list[Block]:
    """Return walls, a row of windows, and a roof."""
    half_l, half_w = rng.uniform(4.0, 7.0), rng.uniform(3.5, 5.5)
    eaves, away = rng.uniform(3.0, 8.0), rng.uniform(1.5, 8.0)
    wall = ('render', 'brick', 'stone')[int(rng.integers(3))]
    roof, shade = ('tiles', 'slate')[int(rng.integers(2))], rng.uniform(0.75, 1.2)
    x, y = place.beside(roadside.pavement_m + roadside.near_m + away + half_w)
    yaw = place.yaw_rad + rng.normal(0.0, 0.03)
    return [
        Block(x, y, yaw, half_l, half_w, 0.0, eaves, wall, shade),
        Block(x, y, yaw, 0.8 * half_l, half_w + 0.03, 0.45 * eaves, 0.7 * eaves, 'glass', 1.0),
        Block(x, y, yaw, half_l + 0.06, half_w + 0.06, eaves, eaves + 0.5, roof, shade),
        Block(x, y, yaw, 0.9 * half_l, 0.5 * half_w, eaves + 0.5, eaves + 1.6, roof, 1.1 * shade),
    ]


def _pole(place: _Anchor, roadside: Roadside, rng: np.random.Generator) -> list[Block]:
    """Return a street light, or a bare pole."""
    height, lamp, away = rng.uniform(4.5, 7.5), rng.random() < 0.7, rng.uniform(0.0, 0.8)
    x, y = place.beside(roadside.kerb_m + 1.1 + away)
    shade = rng.uniform(0.6, 1.3)
    yaw, top = place.yaw_rad, height + 0.14
    blocks = [Block(x, y, yaw, 0.08, 0.08, 0.0, height, 'metal', shade)]
    if lamp:
        x, y = place.beside(roadside.kerb_m + 0.6 + away)
        blocks.append(Block(x, y, yaw, 0.12, 0.6, height, top, 'metal', shade, hangs=True))
    return blocks


class _Runs:
    """Makes walls, fences and hedges: pieces of one kind for some way, then gaps or others."""

    def __init__(self, roadside: Roadside) -> None:
        total = max(roadside.walls + roadside.hedges, 1e-9)
        self._wall_probability = roadside.walls / total
        self._left = 0
        self._make: Callable[[float, float, float, float, float], list[Block]] = _wall

    def __call__(
        self, place: _Anchor, roadside: Roadside, rng: np.random.Generator
    ) -> list[Block]:
        if self._left == 0:
            self._left = int(rng.integers(2, 9))
            walls = (_wall, _fence) if rng.random() < self._wall_probability else (_hedge,)
            self._make = walls[int(rng.integers(len(walls)))]
            self._height, self._shade = rng.uniform(0.7, 1.0), rng.uniform(0.7, 1.2)
            self._away = rng.uniform(0.0, 1.5)
        self._left -= 1
        x, y = place.beside(roadside.pavement_m + roadside.near_m - 0.4 + self._away)
        return self._make(x, y, place.yaw_rad, self._height, self._shade)


def _wall(x: float, y: float, yaw: float, height: float, shade: float) -> list[Block]:
    return [Block(x, y, yaw, 3.5, 0.15, 0.0, 1.8 * height, 'stone', shade)]


def _hedge(x: float, y: float, yaw: float, height: float, shade: float) -> list[Block]:
    return [Block(x, y, yaw, 3.4, 0.4, 0.0, 1.4 * height, 'hedge', shade)]


def _fence(x: float, y: float, yaw: float, height: float, shade: float) -> list[Block]:
    rails = [Block(x, y, yaw, 3.5, 0.04, z * height, (z + 0.18) * height, 'timber', shade)
             for z in (0.35, 0.85)]  # fmt: skip
    return [Block(x, y, yaw, 0.06, 0.06, 0.0, 1.1 * height, 'timber', 0.8 * shade), *rails]


def shadow_outlines(scenery: Scenery, roadside: Roadside) -> FloatArray:
    """Return the convex outlines that N blocks shade, (N, 6, 2) map positions [m].

    A block's shadow is its footprint swept away from the sun by the height of its top: of the
    swept corners, six are on the hull, beginning with the one that is nearest to the sun.
    """
    away = np.array([math.cos(roadside.sun_rad), math.sin(roadside.sun_rad)])
    # Not by NumPy's cosine, whose last bit may depend on the machine.
    directions = [(math.cos(yaw), math.sin(yaw)) for yaw in scenery.yaw_rad.tolist()]
    ahead = np.array(directions).reshape(-1, 1, 2)
    left = np.stack((-ahead[..., 1], ahead[..., 0]), axis=-1)
    u, v = np.array(((1, -1, -1, 1), (1, 1, -1, -1)))[..., np.newaxis]
    half_l, half_w = (half[:, np.newaxis, np.newaxis] for half in (scenery.half_l, scenery.half_w))
    middles = np.stack((scenery.x_m, scenery.y_m), axis=-1)[:, np.newaxis]
    corners = middles + (u * half_l * ahead + v * half_w * left)
    first = (corners[..., 0] * away[0] + corners[..., 1] * away[1]).argmax(axis=1)
    number = np.arange(len(corners))[:, np.newaxis]
    near, far = (
        (-roadside.shadow_per_height * height)[:, np.newaxis, np.newaxis] * away
        for height in (scenery.bottom, scenery.top)
    )
    return np.concatenate(
        (
            corners[number, (first[:, np.newaxis] + (3, 0, 1)) % 4] + near,
            corners[number, (first[:, np.newaxis] + (1, 2, 3)) % 4] + far,
        ),
        axis=1,
    )

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Built-in maps, made with scenariogeneration: the same name and seed give the same road.

=========  =====================================================================================
oval       closed circuit, two-way, clothoids between straights and bends
winding    open country road, two-way, at least 900 m, bends of 45 m radius and more
town       4 x 3 street grid, eight junctions, no marking inside the junctions
highway    open road of several lanes per direction, bends of 120 m radius and more
arterial   street grid as in ``town``, two lanes per direction, all of them through the junctions
=========  =====================================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
import logging
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias
from xml.etree import ElementTree as ET

import numpy as np
from scenariogeneration import xodr

from td3_agent.sim.map_reader import survive_loading
from td3_agent.sim.opendrive import MapError, PreparedMap, checked, read_opendrive, warning
from td3_agent.sim.road import RoadMap

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from td3_agent.sim.randomisation import Randomisation

LOG = logging.getLogger(__name__)

MARKING_WIDTH_M = 0.15
WINDING_LENGTH_M = 950.0
WINDING_RADII_M = (45.0, 110.0)
WINDING_CLOTHOIDS_M, COUNTRY_CLOTHOIDS_M = (18.0, 28.0), (4.0, 12.0)
COUNTRY_RADII_M = (11.0, 60.0)
GEO_REFERENCE = '+proj=tmerc +lat_0=0 +lon_0=0 +datum=WGS84'
STRAIGHT = 1e-12  # scenariogeneration wants a number, not zero, for a straight end
GRID_COLUMNS = 4
GRID_ROWS = 3
CORNER_RADIUS_M = 14.0  # half a junction, and the radius of a turn's reference line
ARTERIAL_RADIUS_M = 20.0
BLOCK_M, ARTERIAL_BLOCK_M = (75.0, 105.0), (115.0, 150.0)  # between two junctions
HIGHWAY_RADII_M = (120.0, 260.0)
LANES = {'highway': 2, 'arterial': 2}  # per direction, unless they are drawn
MOST_LANES = {'highway': 4, 'arterial': 2}

MARK_TYPES = (xodr.RoadMarkType.broken, xodr.RoadMarkType.solid, xodr.RoadMarkType.solid_solid)
EDGE_TYPES = (xodr.RoadMarkType.solid, xodr.RoadMarkType.broken)
COLOURS = (xodr.RoadMarkColor.white, xodr.RoadMarkColor.yellow)

Geometry: TypeAlias = 'xodr.Line | xodr.Arc | xodr.Spiral'


@dataclass(frozen=True, kw_only=True)
class RoadStyle:
    """How a built-in road looks.

    Attributes:
        lane_width_m: of every lane [m].
        centre: type and colour of the line between the directions.
        edge: type and colour of the outer lines.
        lanes: per direction.
    """

    lane_width_m: float = 3.5
    centre: tuple[xodr.RoadMarkType, xodr.RoadMarkColor] = (
        xodr.RoadMarkType.broken,
        xodr.RoadMarkColor.yellow,
    )
    edge: tuple[xodr.RoadMarkType, xodr.RoadMarkColor] = (
        xodr.RoadMarkType.solid,
        xodr.RoadMarkColor.white,
    )
    lanes: int = 1

    @classmethod
    def default(cls, name: str) -> RoadStyle:
        """Return the style of a built-in map."""
        if name not in LANES:
            return cls()
        return cls(lanes=LANES[name], centre=(xodr.RoadMarkType.solid_solid, COLOURS[1]))

    @classmethod
    def drawn(cls, name: str, seed: int, limits: Randomisation) -> RoadStyle:
        """Return the style that belongs to a built-in map and a seed."""
        rng = np.random.default_rng((seed, 1))  # apart from what decides on the geometry
        unmarked = rng.random() < limits.edge_unmarked_probability
        edge = xodr.RoadMarkType.none if unmarked else EDGE_TYPES[rng.integers(len(EDGE_TYPES))]
        return cls(
            lane_width_m=float(rng.uniform(limits.lane_width_least_m, limits.lane_width_most_m)),
            centre=(MARK_TYPES[rng.integers(len(MARK_TYPES))], COLOURS[rng.integers(2)]),
            edge=(edge, COLOURS[rng.integers(2)]),
            lanes=int(rng.integers(2, min(limits.lanes_most, MOST_LANES[name]) + 1))
            if name in LANES
            else 1,
        )


def load_map(name_or_path: str, seed: int = 0, *, limits: Randomisation | None = None) -> RoadMap:
    """Return a built-in map by name, or the map in an ``.xodr`` file.

    Maps are cached: asking again for the same one is free.

    Args:
        name_or_path: ``'oval'``, ``'winding'``, ``'town'``, or a path that ends in ``.xodr``.
        seed: of a built-in map; a file has none.
        limits: draw lane widths and markings of a built-in map from its seed, within these.

    Raises:
        MapError: no such map, or the file is not usable.
    """
    if name_or_path in BUILT_IN:
        return _built_in(name_or_path, seed, limits)
    if not name_or_path.lower().endswith('.xodr'):
        known = ', '.join(BUILT_IN)
        raise MapError(
            f'map must be one of {known} or a path to an .xodr file, got {name_or_path!r}'
        )
    path = Path(name_or_path)
    return _from_outside(path.stem, read_opendrive(path))


@lru_cache(maxsize=8)
def _built_in(name: str, seed: int, limits: Randomisation | None) -> RoadMap:
    return RoadMap(name, built_in_opendrive(name, seed, limits=limits))


@lru_cache(maxsize=4)
def _from_outside(name: str, opendrive: str) -> RoadMap:
    found = checked(name, opendrive)  # a plain refusal costs no child process
    if found.faults:
        LOG.warning(warning(name, found.faults))
    return loaded(name, found)


def loaded(name: str, found: PreparedMap) -> RoadMap:
    """Load a map without errors.

    Raises:
        MapError: ``carla.Map`` crashed on it, or there is no lane to drive on.
    """
    survive_loading(name, found.opendrive)
    return RoadMap(name, found.opendrive, origin_m=found.origin_m)


def built_in_opendrive(name: str, seed: int, *, limits: Randomisation | None = None) -> str:
    """Return the OpenDRIVE text of a built-in map; equal arguments give equal text."""
    style = RoadStyle.default(name) if limits is None else RoadStyle.drawn(name, seed, limits)
    root = BUILT_IN[name](np.random.default_rng(seed), style).get_element()
    header = root.find('header')
    header.set('date', '1970-01-01T00:00:00')  # the library writes the time of day
    return ET.tostring(root, encoding='unicode')


def oval(rng: np.random.Generator, style: RoadStyle) -> xodr.OpenDrive:
    """Return a stadium: two straights, two half turns with clothoids at both ends."""
    straight_m = float(rng.uniform(70.0, 110.0))
    radius_m = float(rng.uniform(28.0, 36.0))
    clothoid_m = 20.0
    bend = _bend(1.0 / radius_m, math.pi, clothoid_m)
    return _chain(
        'oval', [[xodr.Line(straight_m)], bend, [xodr.Line(straight_m)], bend], style, closed=True
    )


def _swinging(
    name: str,
    radii_m: tuple[float, float],
    clothoids_m: tuple[float, float],
    rng: np.random.Generator,
    style: RoadStyle,
) -> xodr.OpenDrive:
    """Return a road that swings left and right about its main direction.

    The heading stays within a right angle of that direction, so the road never meets itself.
    """
    parts: list[list[Geometry]] = [[xodr.Line(40.0)]]
    length_m, heading, side = 40.0, 0.0, float(rng.choice([-1.0, 1.0]))
    while length_m < WINDING_LENGTH_M:
        target = side * float(rng.uniform(0.35, 1.2))
        curvature = math.copysign(1.0 / float(rng.uniform(*radii_m)), side)
        bend = _bend(curvature, abs(target - heading), float(rng.uniform(*clothoids_m)))
        line = xodr.Line(float(rng.uniform(8.0, 40.0)))
        parts += [bend, [line]]
        length_m += sum(piece.length for piece in [*bend, line])
        heading, side = target, -side
    return _chain(name, parts, style, closed=False)


def _grid(
    name: str,
    block_m: tuple[float, float],
    radius_m: float,
    rng: np.random.Generator,
    style: RoadStyle,
) -> xodr.OpenDrive:
    """Return a street grid: curved corners, T junctions on the rim, crossings inside."""
    xs = np.concatenate(([0.0], np.cumsum(rng.uniform(*block_m, GRID_COLUMNS - 1))))
    ys = np.concatenate(([0.0], np.cumsum(rng.uniform(*block_m, GRID_ROWS - 1))))
    return _TownBuilder(name, xs.tolist(), ys.tolist(), style, radius_m).build()


BUILT_IN: dict[str, Callable[[np.random.Generator, RoadStyle], xodr.OpenDrive]] = {
    'oval': oval,
    'winding': partial(_swinging, 'winding', WINDING_RADII_M, WINDING_CLOTHOIDS_M),
    # Bends as tight as a town's corners.
    'country': partial(_swinging, 'country', COUNTRY_RADII_M, COUNTRY_CLOTHOIDS_M),
    'town': partial(_grid, 'town', BLOCK_M, CORNER_RADIUS_M),
    'highway': partial(_swinging, 'highway', HIGHWAY_RADII_M, WINDING_CLOTHOIDS_M),
    # Every lane goes on through every junction.
    'arterial': partial(_grid, 'arterial', ARTERIAL_BLOCK_M, ARTERIAL_RADIUS_M),
}


def _bend(curvature: float, angle_rad: float, clothoid_m: float) -> list[Geometry]:
    """Return clothoid, arc, clothoid that turn by ``angle_rad`` towards the curvature's side.

    A clothoid of length l turns by l * curvature / 2. A turn too short for two whole ones gets
    two shorter ones and no arc to speak of.
    """
    clothoid_m = min(clothoid_m, 0.9 * angle_rad / abs(curvature))
    arc_m = angle_rad / abs(curvature) - clothoid_m
    return [
        xodr.Spiral(STRAIGHT, curvature, clothoid_m),
        xodr.Arc(curvature, length=arc_m),
        xodr.Spiral(curvature, STRAIGHT, clothoid_m),
    ]


BETWEEN_LANES = (xodr.RoadMarkType.broken, xodr.RoadMarkColor.white)
UNMARKED = (xodr.RoadMarkType.none, xodr.RoadMarkColor.white)


def _lane(style: RoadStyle, mark: tuple[xodr.RoadMarkType, xodr.RoadMarkColor]) -> xodr.Lane:
    """Return a lane with a line on its outer side."""
    lane = xodr.Lane(a=style.lane_width_m)
    kind, colour = mark
    lane.add_roadmark(xodr.RoadMark(kind, MARKING_WIDTH_M, color=colour))
    return lane


def _two_way_lanes(style: RoadStyle) -> xodr.Lanes:
    """Lanes each way, lines between them, another between the directions, one at each edge."""
    centre = xodr.Lane(a=0.0)
    kind, colour = style.centre
    centre.add_roadmark(xodr.RoadMark(kind, MARKING_WIDTH_M, color=colour))
    section = xodr.LaneSection(0, centre)
    for mark in (*[BETWEEN_LANES] * (style.lanes - 1), style.edge):
        section.add_right_lane(_lane(style, mark))
        section.add_left_lane(_lane(style, mark))
    lanes = xodr.Lanes()
    lanes.add_lanesection(section)
    return lanes


def _connecting_lanes(style: RoadStyle) -> xodr.Lanes:
    """Return the unmarked lanes of a path through a junction."""
    section = xodr.LaneSection(0, xodr.Lane(a=0.0))
    for _ in range(style.lanes):
        section.add_right_lane(_lane(style, UNMARKED))
    lanes = xodr.Lanes()
    lanes.add_lanesection(section)
    return lanes


def _plan(pieces: Sequence[Geometry], x: float, y: float, heading: float) -> xodr.PlanView:
    plan = xodr.PlanView(x, y, heading)
    for piece in pieces:
        plan.add_geometry(piece)
    return plan


def _chain(
    name: str, parts: list[list[Geometry]], style: RoadStyle, *, closed: bool
) -> xodr.OpenDrive:
    """Join parts, one road each, head to tail."""
    drive = xodr.OpenDrive(name, geo_reference=GEO_REFERENCE)
    last = len(parts)
    for number, pieces in enumerate(parts, start=1):
        plan = xodr.PlanView()
        for piece in pieces:
            plan.add_geometry(piece)
        road = xodr.Road(number, plan, _two_way_lanes(style))
        if closed or number > 1:
            before = number - 1 or last
            road.add_predecessor(xodr.ElementType.road, before, xodr.ContactPoint.end)
        if closed or number < last:
            after = number % last + 1
            road.add_successor(xodr.ElementType.road, after, xodr.ContactPoint.start)
        drive.add_road(road)
    drive.adjust_roads_and_lanes()
    return drive


Node = tuple[int, int]


class _Arm:
    """Where one street meets a junction.

    ``heading`` points along the street's reference line, into the junction at the street's end
    and out of it at its start.
    """

    def __init__(self, road: int, *, at_start: bool, x: float, y: float, outward: float) -> None:
        self.road = road
        self.x, self.y = x, y
        self.outward = outward  # direction from the junction into the street [rad]
        self.contact = xodr.ContactPoint.start if at_start else xodr.ContactPoint.end
        self.lane_in = 1 if at_start else -1  # innermost lane that drives into the junction


class _TownBuilder:
    """Lays out the street grid; junctions are the nodes with three or four arms."""

    def __init__(
        self, name: str, xs: list[float], ys: list[float], style: RoadStyle, radius_m: float
    ) -> None:
        self._xs, self._ys = xs, ys
        self._style, self._radius_m = style, radius_m
        self._drive = xodr.OpenDrive(name, geo_reference=GEO_REFERENCE)
        self._arms: dict[Node, list[_Arm]] = {}
        self._next_road = 1

    def build(self) -> xodr.OpenDrive:
        for start, corner, end in self._streets():
            self._add_street(start, corner, end)
        self._next_road = 100
        for number, (node, arms) in enumerate(sorted(self._arms.items())):
            self._add_junction(self._junction_id(node), f'junction {number}', arms)
        for road in self._drive.roads.values():
            road.planview.adjust_geometries()
        self._drive.adjust_roads_and_lanes()
        return self._drive

    def _junction_id(self, node: Node) -> int:
        return 1000 + 10 * node[0] + node[1]

    def _is_corner(self, node: Node) -> bool:
        return node[0] in (0, len(self._xs) - 1) and node[1] in (0, len(self._ys) - 1)

    def _streets(self) -> list[tuple[Node, Node | None, Node]]:
        """Return (from, corner on the way or None, to) for every street of the grid."""
        columns, rows = len(self._xs), len(self._ys)
        edges = [((i, j), (i + 1, j)) for i in range(columns - 1) for j in range(rows)]
        edges += [((i, j), (i, j + 1)) for i in range(columns) for j in range(rows - 1)]
        streets: list[tuple[Node, Node | None, Node]] = [
            (a, None, b) for a, b in edges if not (self._is_corner(a) or self._is_corner(b))
        ]
        for corner in ((0, 0), (columns - 1, 0), (columns - 1, rows - 1), (0, rows - 1)):
            ends = [a if b == corner else b for a, b in edges if corner in (a, b)]
            streets.append((ends[0], corner, ends[1]))
        return streets

    def _point(self, node: Node) -> complex:
        return complex(self._xs[node[0]], self._ys[node[1]])

    def _add_street(self, start: Node, corner: Node | None, end: Node) -> None:
        """Add a street between two junctions, straight or round a corner."""
        bend_at = self._point(end if corner is None else corner)
        first = bend_at - self._point(start)
        direction = first / abs(first)
        origin = self._point(start) + self._radius_m * direction
        pieces: list[Geometry] = [xodr.Line(abs(first) - 2.0 * self._radius_m)]
        final = direction
        if corner is not None:
            second = self._point(end) - bend_at
            final = second / abs(second)
            curvature = math.copysign(1.0 / self._radius_m, (final / direction).imag)
            pieces.append(xodr.Arc(curvature, angle=math.copysign(math.pi / 2.0, curvature)))
            pieces.append(xodr.Line(abs(second) - 2.0 * self._radius_m))
        plan = _plan(pieces, origin.real, origin.imag, _angle(direction))
        number = self._take_road_number()
        road = xodr.Road(number, plan, _two_way_lanes(self._style))
        road.add_predecessor(xodr.ElementType.junction, self._junction_id(start))
        road.add_successor(xodr.ElementType.junction, self._junction_id(end))
        self._drive.add_road(road)
        target = self._point(end) - self._radius_m * final
        self._arms.setdefault(start, []).append(
            _Arm(number, at_start=True, x=origin.real, y=origin.imag, outward=_angle(direction))
        )
        self._arms.setdefault(end, []).append(
            _Arm(number, at_start=False, x=target.real, y=target.imag, outward=_angle(-final))
        )

    def _add_junction(self, junction_id: int, name: str, arms: list[_Arm]) -> None:
        """Add a path from every arm to every other arm, lane by lane."""
        junction = xodr.Junction(name, junction_id)
        for source in arms:
            for target in arms:
                if source is not target:
                    number = self._add_path(junction_id, source, target)
                    connection = xodr.Connection(source.road, number, xodr.ContactPoint.start)
                    for lane in range(1, self._style.lanes + 1):
                        connection.add_lanelink(source.lane_in * lane, -lane)
                    junction.add_connection(connection)
        self._drive.add_junction(junction)

    def _add_path(self, junction_id: int, source: _Arm, target: _Arm) -> int:
        heading_in = source.outward + math.pi
        turn = math.remainder(target.outward - heading_in, 2.0 * math.pi)
        pieces: list[Geometry] = [xodr.Line(2.0 * self._radius_m)]
        if abs(turn) > 0.1:  # the grid knows straight on and quarter turns only
            pieces = [xodr.Arc(math.copysign(1.0 / self._radius_m, turn), angle=turn)]
        number = self._take_road_number()
        plan = _plan(pieces, source.x, source.y, heading_in)
        road = xodr.Road(number, plan, _connecting_lanes(self._style), road_type=junction_id)
        road.add_predecessor(xodr.ElementType.road, source.road, source.contact)
        road.add_successor(xodr.ElementType.road, target.road, target.contact)
        self._drive.add_road(road)
        return number

    def _take_road_number(self) -> int:
        self._next_road += 1
        return self._next_road - 1


def _angle(direction: complex) -> float:
    return math.atan2(direction.imag, direction.real)

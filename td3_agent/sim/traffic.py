# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Traffic: vehicles that follow lanes, keep their distance, and take turns at junctions.

Along the lane, a vehicle follows the Intelligent Driver Model (:mod:`td3_agent.driving.idm`):
behind the vehicle ahead, driven cars included, and before a stop line until it is granted a path
through the junction (:mod:`td3_agent.sim.right_of_way`). The lane's table limits the speed in
bends. Vehicles stay on the lane's centre and never change lanes. They leave the map where a road
ends and enter it where one begins.

All vehicles step at once, from the state of the frame before. Each has its own random generator:
neither their order nor their number changes what one of them draws.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.idm import HARDEST_BRAKING_MPS2, IdmParams, advanced, idm_acceleration
from td3_agent.driving.parameters import param
from td3_agent.sim.boxes import DRIVEN_UP_TO, EVEN_UP_TO, LONGEST_M, Box, drawn_vehicle
from td3_agent.sim.fleet import OFF_MAP, Fleet, Queues, cars_on_edges
from td3_agent.sim.lane_network import PLANNED_DECELERATION_MPS2, STOREY_M, lane_network
from td3_agent.sim.lead import BEHAVIOURS, LEADERS, NO_LEADER, LeadVehicle
from td3_agent.sim.placement import edge_pairs_of_route, entry_place, free_places, place_on_route
from td3_agent.sim.right_of_way import RightOfWay

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.car import Car
    from td3_agent.sim.lane_network import FloatArray
    from td3_agent.sim.placement import StartPlace
    from td3_agent.sim.road import RoadMap

STREAM = 1000  # keeps its generators apart from those of the driven cars
PLANNED_EDGES = 3  # a path through a junction, a street, another path
SPEED_SPREAD = (0.8, 1.1)  # of desired speeds
RIGHT_OF_WAY_PERIOD_S = 0.2  # between updates of the right of way
# A street between two junctions on which the longest vehicle can wait, clear of both.
SHORTEST_STREET_M = LONGEST_M + 3.5
LEAD = 0  # number of the lead vehicle of the first driven car, where there is one


@dataclass(frozen=True, kw_only=True)
class TrafficConfig(IdmParams):
    """How much traffic there is, and how it drives.

    Raises:
        ParameterError: a value out of range; every fault is named with value and unit.
    """

    vehicles: int = param(0, 'vehicles that drive by themselves', low=0, high=200)
    leader: str = param(
        NO_LEADER, 'what one more vehicle, ahead of the first driven car, does', choices=LEADERS
    )
    even_kinds: bool = param(
        False, 'each kind of vehicle, bicycle to bus, as often as any other; not as on a road'
    )

    @property
    def count(self) -> int:
        """All vehicles, the leading one included."""
        return self.vehicles + (self.leader != NO_LEADER)


class Traffic:
    """Vehicles that drive by themselves; :meth:`start`, then :meth:`step` once per frame.

    Args:
        road_map: where they drive.
        first_actor_id: CARLA actor ids count up from here.

    Attributes:
        fleet: places on the lanes and speeds.
        x_m: (N,) middle of each in the map frame [m].
        y_m: (N,) the same [m].
        yaw_rad: (N,) heading [rad], not wrapped.
        width_m: (N,) of each body [m].
    """

    def __init__(self, road_map: RoadMap, first_actor_id: int) -> None:
        self._network = lane_network(road_map, SHORTEST_STREET_M)
        self._first_actor_id = first_actor_id

    @property
    def actor_ids(self) -> range:
        """CARLA actor ids of all vehicles."""
        return range(self._first_actor_id, self._first_actor_id + len(self.fleet))

    @property
    def z_m(self) -> FloatArray:
        """(N,) height of the road under each [m]."""
        return self._network.heights_m(self.fleet.edge, self.fleet.s_m)

    def start(self, config: TrafficConfig, seed: int, cars: Sequence[Car]) -> None:
        """Place the vehicles, clear of the driven cars; fewer where there is no room.

        Args:
            config: how many, and how they drive.
            seed: of everything that is drawn.
            cars: the driven cars, at their starts.
        """
        self._config = config
        self._elapsed_frames = 0
        self._edges_of_car: set[tuple[int, int]] = set()
        self._lead_vehicle: LeadVehicle | None = None
        places = [] if config.leader == NO_LEADER else self._lead(seed, cars)
        rng = np.random.default_rng([seed, STREAM])
        places += free_places(self._network, rng, config.vehicles, cars, places)
        self._rngs = [np.random.default_rng([seed, STREAM, i]) for i in range(len(places))]
        self._draw_vehicles(places)
        self._right_of_way = RightOfWay(self._network, config, len(places))
        self._take_off(cars)
        self._locate()

    def step(self, cars: Sequence[Car], step_s: float) -> None:
        """Move all vehicles by one step [s]."""
        self._elapsed_frames += 1
        fleet, seen = self.fleet, cars_on_edges(self._network, cars)
        queues = Queues(fleet, seen, self._network.length_m)
        if (self._elapsed_frames - 1) % max(1, round(RIGHT_OF_WAY_PERIOD_S / step_s)) == 0:
            self._right_of_way.update(fleet, seen, queues, self._elapsed_frames * step_s)
            self._replan()
        acceleration = self._acceleration(queues, step_s)
        distance_m, fleet.speed_mps = advanced(fleet.speed_mps, acceleration, step_s)
        fleet.s_m = fleet.s_m + distance_m
        self._right_of_way.advance(distance_m)
        self._change_edges()
        self._come_back(queues, cars)
        self._locate()

    def outlines(
        self, x_m: float, y_m: float, reach_m: float, z_m: float | None = None
    ) -> tuple[Box, ...]:
        """Return the vehicles whose middle is within ``reach_m`` of a position, as boxes.

        Args:
            x_m: position in the map frame [m].
            y_m: position in the map frame [m].
            reach_m: horizontally [m].
            z_m: height of the position, where vehicles above and below do not count [m].
        """
        dx, dy = self.x_m - x_m, self.y_m - y_m
        near = np.flatnonzero((dx * dx + dy * dy < reach_m * reach_m) & self._present(z_m))
        poses = (self.x_m[near].tolist(), self.y_m[near].tolist(), self.yaw_rad[near].tolist())
        boxes = []
        for i, x, y, yaw in zip(near.tolist(), *poses, strict=True):
            kind, length_m, width_m, height_m, bgr = self._looks[i]
            actor_id = self._first_actor_id + i
            boxes.append(Box(x, y, yaw, length_m, width_m, height_m, bgr, actor_id, kind))
        return tuple(boxes)

    def bodies(self, z_m: float | None = None) -> FloatArray:
        """Return vehicles on the map, (B, 7): x, y, yaw, length, width, velocity in map axes.

        Args:
            z_m: height where those above and below do not count [m].
        """
        fleet = self.fleet
        vx, vy = fleet.speed_mps * np.cos(self.yaw_rad), fleet.speed_mps * np.sin(self.yaw_rad)
        columns = (self.x_m, self.y_m, self.yaw_rad, fleet.length_m, self.width_m, vx, vy)
        return np.asarray(np.column_stack(columns)[self._present(z_m)])

    def _present(self, z_m: float | None) -> NDArray[np.bool_]:
        """Return which vehicles are on the map, near a height where one is given, (N,)."""
        on_map = self.fleet.edge != OFF_MAP
        if z_m is not None and self._network.has_storeys:
            on_map &= np.abs(self.z_m - z_m) < STOREY_M
        return np.asarray(on_map)

    def _locate(self) -> None:
        """Update the poses in the map frame."""
        self.x_m, self.y_m, self.yaw_rad = self._network.poses(self.fleet.edge, self.fleet.s_m)

    # ---- The start -----------------------------------------------------------------------------

    def _lead(self, seed: int, cars: Sequence[Car]) -> list[StartPlace]:
        """Return the place of the lead vehicle on the first car's route, if there is room."""
        behaviour = BEHAVIOURS[self._config.leader]
        place = place_on_route(self._network, cars, behaviour.ahead_m)
        if place is None:
            return []
        self._lead_vehicle = LeadVehicle(behaviour, np.random.default_rng([seed, STREAM, LEAD, 1]))
        self._edges_of_car = edge_pairs_of_route(self._network, cars[0].route)
        return [place]

    def _draw_vehicles(self, places: Sequence[StartPlace]) -> None:
        """Draw bodies, desired speeds and the first turns."""
        up_to = EVEN_UP_TO if self._config.even_kinds else DRIVEN_UP_TO
        looks = [drawn_vehicle(rng, up_to) for rng in self._rngs]
        spread = [rng.uniform(*SPEED_SPREAD) for rng in self._rngs]
        number = len(places)
        self._looks = looks
        self.width_m = np.array([look.width_m for look in looks])
        self._desired_mps = self._config.desired_speed_mps * np.array(spread)
        self.fleet = Fleet(
            edge=np.array([edge for edge, _ in places], dtype=np.intp),
            s_m=np.array([s_m for _, s_m in places], dtype=np.float64),
            speed_mps=np.zeros(number),
            length_m=np.array([look.length_m for look in looks], dtype=np.float64),
            plan=np.full((number, PLANNED_EDGES), OFF_MAP, dtype=np.intp),
        )
        for i in range(number):
            self._plan_ahead(i, 0)

    def _take_off(self, cars: Sequence[Car]) -> None:
        """Set the initial speeds, no faster than the distance to the next vehicle allows."""
        fleet, config = self.fleet, self._config
        gap_m, _ = Queues(
            fleet, cars_on_edges(self._network, cars), self._network.length_m
        ).ahead()
        room_m = np.minimum(gap_m, self._right_of_way.to_stop_line_m(fleet))
        room_m = np.minimum(room_m, self._network.length_m[fleet.edge] - fleet.s_m)
        safe = np.maximum(room_m - config.minimum_gap_m, 0.0) / (2.0 * config.time_headway_s)
        fleet.speed_mps = np.minimum(np.minimum(safe, self._desired_mps), self._allowed_mps())
        if self._lead_vehicle is not None:
            fleet.speed_mps[LEAD] = 0.0

    # ---- Speed ------------------------------------------------------------------------

    def _acceleration(self, queues: Queues, step_s: float) -> FloatArray:
        """Return the accelerations, (N,) [m/s^2]."""
        fleet, config = self.fleet, self._config
        speed = fleet.speed_mps
        gap_m, ahead_mps = queues.ahead()
        line_m = self._right_of_way.to_stop_line_m(fleet)
        wanted = np.minimum(
            idm_acceleration(config, speed, gap_m, speed - ahead_mps, self._desired_mps),
            idm_acceleration(config, speed, line_m, speed, self._desired_mps),
        )
        wanted = np.minimum(wanted, (self._allowed_mps() - speed) / step_s)
        if self._lead_vehicle is not None:
            limit_mps = self._lead_vehicle.limit_mps(self._elapsed_frames * step_s)
            change = (limit_mps - float(speed[LEAD])) / step_s
            slowing = max(change, -self._lead_vehicle.behaviour.braking_mps2)
            wanted[LEAD] = min(float(wanted[LEAD]), slowing)
        return np.where(fleet.edge == OFF_MAP, 0.0, np.maximum(wanted, -HARDEST_BRAKING_MPS2))

    def _allowed_mps(self) -> FloatArray:
        """Return the speed that bends allow, here and on the edges ahead, (N,) [m/s]."""
        network, fleet = self._network, self.fleet
        to_end_m = network.length_m[fleet.edge] - fleet.s_m
        lengths_m = np.hstack((to_end_m[:, np.newaxis], network.length_m[fleet.plan[:, :-1]]))
        ahead_m = np.maximum(np.cumsum(lengths_m, axis=1), 0.0)
        entry = network.entry_limits_mps(fleet.plan)
        braking = np.sqrt(entry**2 + 2.0 * PLANNED_DECELERATION_MPS2 * ahead_m)
        braking[fleet.plan == OFF_MAP] = np.inf
        limits = network.limits_mps(fleet.edge, fleet.s_m)
        return np.asarray(np.minimum(limits, braking.min(axis=1)))

    # ---- From edge to edge ---------------------------------------------------------------------

    def _change_edges(self) -> None:
        """Move vehicles at the end of their edge to the next one, or off the map."""
        fleet, length_m = self.fleet, self._network.length_m
        ends = (fleet.plan[:, 0] == OFF_MAP) & (fleet.s_m + fleet.half_m >= length_m[fleet.edge])
        over = (fleet.edge != OFF_MAP) & (ends | (fleet.s_m >= length_m[fleet.edge]))
        for i in np.flatnonzero(over).tolist():
            fleet.s_m[i] -= length_m[fleet.edge[i]]
            fleet.edge[i] = fleet.plan[i, 0]
            fleet.plan[i, :-1] = fleet.plan[i, 1:]
            self._plan_ahead(i, PLANNED_EDGES - 1)
            self._right_of_way.forget(i)
            if fleet.edge[i] == OFF_MAP:
                fleet.s_m[i] = fleet.speed_mps[i] = 0.0

    def _plan_ahead(self, i: int, first: int) -> None:
        """Choose a vehicle's edges from number ``first`` of its plan on."""
        plan = self.fleet.plan[i]
        for k in range(first, PLANNED_EDGES):
            before = int(self.fleet.edge[i] if k == 0 else plan[k - 1])
            plan[k] = OFF_MAP if before == OFF_MAP else self._choose(i, before)

    def _choose(self, i: int, edge: int) -> int:
        """Return the edge that a vehicle takes after another one."""
        ways = self._network.followers[edge]
        if not ways:
            return OFF_MAP
        if i == LEAD and self._lead_vehicle is not None:
            ways = tuple(way for way in ways if (edge, way) in self._edges_of_car) or ways
        return ways[int(self._rngs[i].integers(len(ways)))]

    def _replan(self) -> None:
        """Replan vehicles that wait for room in a full street: another street that has some."""
        for i in self._right_of_way.impatient:
            ways = [
                (way, after)
                for way in self._network.followers[self.fleet.edge[i]]
                for after in self._network.followers[way]
                if self._right_of_way.has_room(self.fleet, i, after)
            ]
            is_lead = i == LEAD and self._lead_vehicle is not None
            if ways and not is_lead:
                self.fleet.plan[i, :2] = ways[int(self._rngs[i].integers(len(ways)))]
                self._plan_ahead(i, 2)

    def _come_back(self, queues: Queues, cars: Sequence[Car]) -> None:
        """Let vehicles that have left the map enter it where there is room, one by one."""
        fleet = self.fleet
        away = np.flatnonzero(fleet.edge == OFF_MAP).tolist()
        if not away:
            return
        room_m = queues.room_m()
        for i in away:
            edge = entry_place(self._network, i, room_m, cars)
            if edge is None:
                continue
            room_m[edge] = 0.0
            limit_mps = self._network.entry_limits_mps(np.array([edge]))
            fleet.edge[i], fleet.s_m[i] = edge, fleet.half_m[i]
            fleet.speed_mps[i] = min(float(self._desired_mps[i]), float(limit_mps[0]))
            self._plan_ahead(i, 0)

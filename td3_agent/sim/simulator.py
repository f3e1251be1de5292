# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded world: cars on one map, stepped by hand; the stand-in for a CARLA server.

Everything it does follows from its configuration and the commands it is given: equal
configurations and commands give bit-identical states, events and images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.geometry import nanoseconds_from_stamp, stamp_from_seconds
from td3_agent.driving.parameters import ParameterError, Params, param
from td3_agent.sim.boxes import PAINTS_BGR
from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.car import CONTACT_REACH_M, Car
from td3_agent.sim.ground import Ground, TiledGround, paint_ground
from td3_agent.sim.look import Look
from td3_agent.sim.maps import BUILT_IN, load_map
from td3_agent.sim.placement import FREE_AROUND_CAR_M, park
from td3_agent.sim.randomisation import Randomisation
from td3_agent.sim.roadside import Roadside, default_roadside
from td3_agent.sim.scenery import scenery_of, without_boxes
from td3_agent.sim.traffic import Traffic, TrafficConfig

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from td3_agent.driving.command import VehicleControl
    from td3_agent.sim.boxes import Box
    from td3_agent.sim.lane_network import Pose
    from td3_agent.sim.road import RoadMap, RouteTrace
    from td3_agent.sim.scenery import Scenery

FIRST_FRAME = 1
EGO_ACTOR_ID = 100  # the other driven cars count up from it
FIRST_PARKED_ID = 200
FIRST_TRAFFIC_ID = 400
MOST_VEHICLES = 16
SHORTEST_ROUTE_M = 150.0  # what a seeded spawn point must have before it
PLACES = 256  # that are kept
BRIGHTEST_GAIN = 1.33  # paint is mixed for the dullest light
LOOK_STREAM = 2000  # keeps the generator of looks apart from the others


@dataclass(frozen=True, kw_only=True)
class SimulatorConfig(Params):
    """What the world is made of.

    Raises:
        ParameterError: a value out of range; every fault is named with value and unit.
    """

    map: str = param(
        'oval', f'built-in map ({", ".join(BUILT_IN)}) or path to an .xodr file', path=True
    )
    map_seed: int = param(0, 'seed of a built-in map', low=0)
    seed: int = param(0, 'seed of spawn point, route, parked vehicles, light and traffic', low=0)
    fixed_delta_seconds: float = param(
        0.05, 'simulated time per tick', unit='s', low=0.001, high=0.1
    )
    start_time_s: float = param(
        10.0, 'simulated time before the first frame', unit='s', low=0.0, high=1e6
    )
    spawn_index: int = param(-1, 'spawn point on the map; -1 draws one from the seed', low=-1)
    route_length_m: float = param(
        1000.0, 'length at which an open route ends', unit='m', low=20.0, high=1e5
    )
    vehicles: int = param(1, 'vehicles that are driven', low=1, high=MOST_VEHICLES)
    parked_vehicles: int = param(6, 'vehicles parked beside the lanes', low=0, high=200)
    traffic: TrafficConfig = param(  # noqa: RUF009  it is a dataclasses.field
        TrafficConfig(), 'vehicles that drive by themselves'
    )
    random_light: bool = param(default=True, text='draw the brightness from the seed')
    random_style: bool = param(
        default=False,
        text='draw lanes, markings and roadside from the seed of the map, colours, textures '
        'and shadows from the seed',
    )
    camera: CameraConfig = param(  # noqa: RUF009  it is a dataclasses.field
        CameraConfig(), 'image size and mounting'
    )


class Simulator:
    """Cars on one map.

    Args:
        config: what the world is made of; by default one car on the oval.
        limits: of what is drawn where the configuration has ``random_style``.

    Attributes:
        frame: frame number, ``FIRST_FRAME`` after construction and reset, one more per tick.
        cars: the cars that are driven, in the order of their commands.
        ego: the first of them.
        parked: vehicles beside the lanes.
        traffic: vehicles that drive by themselves; None where there are none.
        light_gain: brightness of the camera images, >= 1.
        look: colours, textures and shadows.
        map: the road network.

    Raises:
        MapError: the map cannot be used.
        ParameterError: the map has no such spawn point, or no room for so many vehicles.
    """

    def __init__(
        self, config: SimulatorConfig | None = None, limits: Randomisation | None = None
    ) -> None:
        self.config = config or SimulatorConfig()
        config = self.config
        self._limits = limits or Randomisation()
        styled = self._limits if config.random_style else None
        self.map = load_map(config.map, config.map_seed, limits=styled)
        self.roadside = (
            default_roadside(config.map, config.map_seed)
            if styled is None
            else Roadside.drawn(styled, config.map_seed)
        )
        self._mounted = config.camera
        self.cars = tuple(
            Car(self.map, EGO_ACTOR_ID + number, PAINTS_BGR[number % len(PAINTS_BGR)])
            for number in range(config.vehicles)
        )
        self.ego = self.cars[0]
        self._camera: Camera | None = None  # painted when the first image is asked for
        self._seed = self.config.seed
        self.start_at = lru_cache(maxsize=PLACES)(self._found_start)
        self._traffic_config = self.config.traffic
        self.reset()

    def reset(
        self,
        seed: int | None = None,
        traffic: TrafficConfig | None = None,
        place: int | None = None,
    ) -> None:
        """Begin again at the first frame.

        Args:
            seed: of spawn points, routes, parked vehicles, light and traffic; by default the
                same again.
            traffic: how much there is from now on; by default as before.
            place: seed of the first car's spawn point and route where they are not to follow
                from ``seed``; the last ones are kept.
        """
        if seed is not None:
            self._seed = seed
        if traffic is not None:
            self._traffic_config = traffic
        self.frame = FIRST_FRAME
        rng = np.random.default_rng(self._seed)
        spawn, trace = self._start_of_ego(rng) if place is None else self.start_at(place)
        self.parked: tuple[Box, ...] = park(
            self.map, self.config.parked_vehicles, (spawn.x_m, spawn.y_m), FIRST_PARKED_ID, rng
        )
        self.light_gain = float(rng.uniform(1.0, BRIGHTEST_GAIN))
        if not self.config.random_light:
            self.light_gain = 0.5 * (1.0 + BRIGHTEST_GAIN)
        self.draw_look(np.random.default_rng([self._seed, LOOK_STREAM]))
        starts = [spawn]
        self.ego.start(spawn, trace, self.stamp_ns)
        for number, car in enumerate(self.cars[1:], start=1):
            # A generator of its own: one car more changes nothing for those before it.
            another, trace = self._start_apart(starts, np.random.default_rng([self._seed, number]))
            starts.append(another)
            car.start(another, trace, self.stamp_ns)
        self.traffic = self._started_traffic()

    def draw_look(self, rng: np.random.Generator) -> None:
        """Draw colours, textures and shadows where ``random_style`` is set."""
        self.look = Look.drawn(self._limits, rng) if self.config.random_style else Look()
        self._camera = None  # it has another look

    def _started_traffic(self) -> Traffic | None:
        if not self._traffic_config.count:
            return None
        traffic = Traffic(self.map, FIRST_TRAFFIC_ID)
        traffic.start(self._traffic_config, self._seed, self.cars)
        return traffic

    @property
    def elapsed_s(self) -> float:
        """Simulated time [s]: a product, never a sum that drifts."""
        return self.config.start_time_s + self.frame * self.config.fixed_delta_seconds

    @property
    def stamp(self) -> tuple[int, int]:
        """Simulated time as the bridge stamps it: (sec, nanosec), truncated."""
        return stamp_from_seconds(self.elapsed_s)

    @property
    def stamp_ns(self) -> int:
        """Simulated time as the bridge stamps it [ns]."""
        return nanoseconds_from_stamp(*self.stamp)

    def tick(self, *controls: VehicleControl) -> None:
        """Advance by one step.

        Args:
            controls: one command per car, what CARLA would be given; rounded to float32 as on
                the wire, then values beyond their range are clamped.

        Raises:
            ValueError: not one command per car, or throttle, brake or steer is not a finite
                number; nothing has moved.
        """
        if len(controls) != len(self.cars):
            raise ValueError(f'tick takes {len(self.cars)} commands, got {len(controls)}')
        checked = [_checked(control.as_float32()) for control in controls]
        step_s = self.config.fixed_delta_seconds
        self.frame += 1
        stamp_ns = self.stamp_ns
        if self.traffic is not None:
            self.traffic.step(self.cars, step_s)  # first: all act on the frame before
        for car, control in zip(self.cars, checked, strict=True):
            car.move(control, step_s, stamp_ns)
        for one, other in combinations(self.cars, 2):
            one.meet(other)
        for car in self.cars:
            # Last: what does not give way has the last word.
            car.run_into(self.parked + self._traffic_around(car, CONTACT_REACH_M))
            car.settle(step_s)

    def render(self, car: Car | None = None) -> NDArray[np.uint8]:
        """Return what the camera of a car sees in this frame.

        Args:
            car: one of :attr:`cars`; by default the first.

        Returns:
            (height, width, 4) uint8 BGRA, alpha 255; a new array every time.
        """
        seeing = car or self.ego
        others = tuple(other.outline for other in self.cars if other is not seeing)
        motion = seeing.motion
        return self.camera.render(
            motion.x_m,
            motion.y_m,
            motion.yaw_rad,
            boxes=self.parked + others + self._traffic_around(seeing, self.look.visible_m),
            gain=self.light_gain,
        )

    def _traffic_around(self, car: Car, reach_m: float) -> tuple[Box, ...]:
        """Return the traffic that has its middle within ``reach_m`` of a car's."""
        if self.traffic is None:
            return ()
        return self.traffic.outlines(car.motion.x_m, car.motion.y_m, reach_m, car.state.z_m)

    @property
    def camera(self) -> Camera:
        """The camera; asked for the first time, it has the map painted."""
        if self._camera is None:
            scenery = without_boxes(self._scenery, self.parked)
            self._camera = Camera(
                self._mounted, self._ground, self.look, scenery, self.roadside.sun_rad
            )
        return self._camera

    def mount_camera(self, config: CameraConfig) -> None:
        """Put another camera, or the same one elsewhere, on every car."""
        self._mounted = config
        self._camera = None

    @cached_property
    def _ground(self) -> Ground | TiledGround:
        return _painted(self.map, self.roadside)

    @cached_property
    def _scenery(self) -> Scenery:
        return scenery_of(self.map, self.roadside)

    def _found_start(self, place: int) -> tuple[Pose, RouteTrace]:
        """Return the first car's spawn point and route for a seed of their own."""
        return self._start_of_ego(np.random.default_rng(place))

    def _start_of_ego(self, rng: np.random.Generator) -> tuple[Pose, RouteTrace]:
        """Choose the first car's spawn point and follow its route."""
        spawns = self.map.spawn_points
        index = self.config.spawn_index
        if index >= len(spawns):
            raise ParameterError(
                f'spawn_index must be in [-1, {len(spawns) - 1}] on map {self.map.name!r}, '
                f'got {index}'
            )
        order = [index] if index >= 0 else rng.permutation(len(spawns)).tolist()
        start = self._best_start([spawns[i] for i in order], rng)
        assert start is not None  # noqa: S101  a map has at least one spawn point
        return start

    def _start_apart(self, taken: list[Pose], rng: np.random.Generator) -> tuple[Pose, RouteTrace]:
        """Choose the start of one more car, apart from those before it and what is parked.

        Raises:
            ParameterError: there is no such place.
        """
        occupied = [(car.x_m, car.y_m, FREE_AROUND_CAR_M) for car in taken]
        occupied += [(box.x_m, box.y_m, CONTACT_REACH_M) for box in self.parked]
        spawns = self.map.spawn_points
        order = [spawns[i] for i in rng.permutation(len(spawns)).tolist()]
        free = [
            spawn
            for spawn in order
            if all(math.dist((x, y), spawn[:2]) > far_m for x, y, far_m in occupied)
        ]
        start = self._best_start(free, rng)
        if start is None:
            raise ParameterError(
                f'vehicles must be in [1, {len(taken)}] on map {self.map.name!r} with '
                f'{len(self.parked)} parked vehicles, got {self.config.vehicles}'
            )
        return start

    def _best_start(
        self, spawns: Iterable[Pose], rng: np.random.Generator
    ) -> tuple[Pose, RouteTrace] | None:
        """Return the first spawn point with some road before it, and its route.

        If none has, the one with the longest route; None of none.
        """
        best: tuple[Pose, RouteTrace] | None = None
        for spawn in spawns:
            trace = self.map.route(spawn, rng, self.config.route_length_m)
            if best is None or len(trace.points) > len(best[1].points):
                best = spawn, trace
            wanted_m = min(SHORTEST_ROUTE_M, 0.9 * self.config.route_length_m)
            if trace.closed or len(trace.points) >= wanted_m:
                break
        return best


@lru_cache(maxsize=2)
def _painted(road_map: RoadMap, roadside: Roadside) -> Ground | TiledGround:
    """Paint a map, or return it as painted before: grounds are large, keep few."""
    return paint_ground(road_map, roadside, scenery_of(road_map, roadside))


def _checked(control: VehicleControl) -> VehicleControl:
    for name in ('throttle', 'steer', 'brake'):
        value = getattr(control, name)
        if not math.isfinite(value):
            raise ValueError(f'control.{name} must be a finite number, got {value}')
    return control

# SPDX-License-Identifier: Apache-2.0
"""The embedded world: one car on one map, stepped by hand; the stand-in for a CARLA server.

Everything it does follows from its configuration and the commands it is given: equal
configurations and commands give bit-identical states, events and images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
import math
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.frames import (
    carla_from_ros_location,
    nanoseconds_from_stamp,
    stamp_from_seconds,
    wrap_angle,
)
from td3_agent.driving.parameters import ParameterError, Params, param
from td3_agent.driving.route import Route
from td3_agent.driving.vehicle import VehicleState
from td3_agent.sim.boxes import Box, overlap
from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.ground import Ground, Palette, paint_ground
from td3_agent.sim.lane_watch import LaneWatch
from td3_agent.sim.maps import load_map
from td3_agent.sim.parking import park
from td3_agent.sim.vehicle import Motion, Vehicle, VehicleInfo, vehicle_info

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.boxes import Overlap
    from td3_agent.sim.road import LaneFix, RoadMap, RouteTrace, SpawnPoint

FIRST_FRAME = 1
EGO_ACTOR_ID = 100
FIRST_PARKED_ID = 200
SHORTEST_ROUTE_M = 150.0  # what a seeded spawn point must have before it
CONTACT_REACH_M = 8.0  # more than two cars' half diagonals
BRIGHTEST_GAIN = 1.33  # paint is mixed for the dullest light


@dataclass(frozen=True, kw_only=True)
class WorldConfig(Params):
    """What the world is made of.

    Raises:
        ParameterError: a value out of range; every fault is named with value and unit.
    """

    map: str = param('oval', 'built-in map (oval, winding, town) or path to an .xodr file')
    map_seed: int = param(0, 'seed of a built-in map', low=0)
    seed: int = param(0, 'seed of spawn point, route, parked vehicles and light', low=0)
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
    parked_vehicles: int = param(6, 'vehicles parked beside the lanes', low=0, high=200)
    random_light: bool = param(default=True, text='draw the brightness from the seed')
    random_style: bool = param(
        default=False, text='draw lane width, markings and colours from the seed of the map'
    )
    camera: CameraConfig = param(  # noqa: RUF009  it is a dataclasses.field
        CameraConfig(), 'image size and mounting'
    )


@dataclass(frozen=True, kw_only=True)
class CollisionEvent:
    """The car touched something in this frame.

    Attributes:
        frame: frame of the contact.
        stamp_ns: simulated time of that frame [ns].
        other_actor_id: what it touched.
        normal_impulse: on the car, (x, y, z) in CARLA's map axes [N s].
    """

    frame: int
    stamp_ns: int
    other_actor_id: int
    normal_impulse: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class LaneInvasionEvent:
    """The car's outline started to cross painted lines in this frame.

    Attributes:
        frame: frame of the crossing.
        stamp_ns: simulated time of that frame [ns].
        crossed_lane_markings: CARLA ``LaneMarkingType`` each: OTHER 0, BROKEN 1, SOLID 2, ...
    """

    frame: int
    stamp_ns: int
    crossed_lane_markings: tuple[int, ...]


class World:
    """One car on one map.

    Args:
        config: what the world is made of; by default the oval.

    Attributes:
        frame: frame number, ``FIRST_FRAME`` after construction and reset, one more per tick.
        state: motion of the car in this frame, as odometry carries it.
        lane: where the car is on the map.
        acceleration: (x, y, z) over the last tick, in map axes [m/s^2].
        control: command of the last tick, as rounded by the wire.
        collisions: contacts of the last tick, one event per obstacle touched.
        lane_invasions: of the last tick, at most one event.
        route: the way to drive, from the spawn point.
        route_points: (N, 3) the same as points about 1 m apart [m].
        route_turns: 'left', 'right' or 'straight' at each junction of the route.
        parked: vehicles beside the lanes.
        light_gain: brightness of the camera image, >= 1.
        map: the road network.
        vehicle_info: what the bridge publishes about the car.

    Raises:
        MapError: the map cannot be used.
        ParameterError: the map has no such spawn point.
    """

    def __init__(self, config: WorldConfig | None = None) -> None:
        """Load and paint the map, then place the car (the first frame)."""
        self.config = config or WorldConfig()
        config = self.config
        self.map = load_map(config.map, config.map_seed, random_style=config.random_style)
        self.vehicle_info: VehicleInfo = vehicle_info()
        self._vehicle = Vehicle()
        self.collisions: list[CollisionEvent] = []
        self.lane_invasions: list[LaneInvasionEvent] = []
        self._lanes = LaneWatch(
            self.map.markings, self.vehicle_info.length_m, self.vehicle_info.width_m
        )
        self._camera: Camera | None = None  # painted when the first image is asked for
        self._seed = self.config.seed
        self.reset()

    def reset(self, seed: int | None = None) -> None:
        """Begin again at the first frame.

        Args:
            seed: of spawn point, route, parked vehicles and light; by default the same again.
        """
        if seed is not None:
            self._seed = seed
        rng = np.random.default_rng(self._seed)
        spawn, trace = self._start(rng)
        self.route = Route(trace.points[:, :2], closed=trace.closed)
        self.route_points: NDArray[np.float64] = trace.points
        self.route_turns = trace.turns
        self.parked: tuple[Box, ...] = park(
            self.map, self.config.parked_vehicles, (spawn.x_m, spawn.y_m), FIRST_PARKED_ID, rng
        )
        self.light_gain = float(rng.uniform(1.0, BRIGHTEST_GAIN))
        if not self.config.random_light:
            self.light_gain = 0.5 * (1.0 + BRIGHTEST_GAIN)
        self.frame = FIRST_FRAME
        self.control = VehicleControl()
        self.set_pose(spawn.x_m, spawn.y_m, spawn.yaw_rad)

    @property
    def map_name(self) -> str:
        """Name of the map."""
        return self.map.name

    @property
    def opendrive(self) -> str:
        """OpenDRIVE text of the map."""
        return self.map.opendrive

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

    @property
    def on_road(self) -> bool:
        """Whether the car's origin lies on a driving lane."""
        return self.lane.on_road

    @property
    def motion(self) -> Motion:
        """Full state of the car's model."""
        return self._vehicle.motion

    @property
    def velocity(self) -> tuple[float, float, float]:
        """Velocity of the car in map axes [m/s]."""
        return (*self._vehicle.motion.velocity_mps, 0.0)

    def tick(self, control: VehicleControl) -> VehicleState:
        """Advance by one step under a command and return the new state.

        Args:
            control: what CARLA would be given; rounded to float32 as on the wire, then values
                beyond their range are clamped.

        Raises:
            ValueError: throttle, brake or steer is not a finite number; nothing has moved.
        """
        control = _checked(control.as_float32())
        before = self._vehicle.motion.velocity_mps
        step_s = self.config.fixed_delta_seconds
        self._vehicle.step(control, step_s)
        self.control = control
        self.frame += 1
        stamp_ns = self.stamp_ns
        self.collisions = self._collide(stamp_ns)
        motion = self._vehicle.motion
        after = motion.velocity_mps
        self.acceleration = ((after[0] - before[0]) / step_s, (after[1] - before[1]) / step_s, 0.0)
        crossed = self._lanes.update(motion.x_m, motion.y_m, motion.yaw_rad)
        self.lane_invasions = (
            [
                LaneInvasionEvent(
                    frame=self.frame, stamp_ns=stamp_ns, crossed_lane_markings=tuple(crossed)
                )
            ]
            if crossed
            else []
        )
        self._observe(stamp_ns)
        return self.state

    def set_pose(self, x_m: float, y_m: float, yaw_rad: float, z_m: float | None = None) -> None:
        """Put the car somewhere, at rest; events of the last tick are forgotten.

        Args:
            x_m: position in the map frame [m].
            y_m: position in the map frame [m].
            yaw_rad: heading [rad], left positive.
            z_m: picks the road where roads cross on several levels; the car stands on it [m].

        Raises:
            ValueError: a value is not finite.
        """
        if not all(math.isfinite(v) for v in (x_m, y_m, yaw_rad, z_m or 0.0)):
            raise ValueError(f'pose must be finite [m, rad], got {(x_m, y_m, yaw_rad, z_m)}')
        self._vehicle.motion = Motion(x_m=x_m, y_m=y_m, yaw_rad=yaw_rad)
        self._lanes.start(x_m, y_m, yaw_rad)
        self._height_m = z_m or 0.0
        self._forget_events()

    def set_velocity(
        self, vx_mps: float, vy_mps: float = 0.0, yaw_rate_radps: float = 0.0
    ) -> None:
        """Set the car in motion.

        Args:
            vx_mps: forward speed in the car's axes [m/s].
            vy_mps: speed to the left in the car's axes [m/s].
            yaw_rate_radps: turning rate [rad/s], left positive.

        Raises:
            ValueError: a value is not finite.
        """
        if not all(math.isfinite(v) for v in (vx_mps, vy_mps, yaw_rate_radps)):
            raise ValueError(
                f'velocity must be finite [m/s, rad/s], got {(vx_mps, vy_mps, yaw_rate_radps)}'
            )
        backwards = vx_mps < 0.0
        speed = math.hypot(vx_mps, vy_mps)
        slip = math.atan2(-vy_mps if backwards else vy_mps, abs(vx_mps)) if speed else 0.0
        self._vehicle.motion = self._vehicle.motion._replace(
            speed_mps=-speed if backwards else speed,
            slip_rad=slip,
            yaw_rate_radps=yaw_rate_radps,
        )
        self._forget_events()

    def render(self) -> NDArray[np.uint8]:
        """Return what the camera sees in this frame.

        Returns:
            (height, width, 4) uint8 BGRA, alpha 255; a new array every time.
        """
        motion = self._vehicle.motion
        return self.camera.render(
            motion.x_m, motion.y_m, motion.yaw_rad, boxes=self.parked, gain=self.light_gain
        )

    @property
    def camera(self) -> Camera:
        """The camera; asked for the first time, it has the map painted."""
        if self._camera is None:
            self._camera = Camera(self.config.camera, self._ground)
        return self._camera

    def mount_camera(self, config: CameraConfig) -> None:
        """Put another camera, or the same one elsewhere, on the car."""
        self._camera = Camera(config, self._ground)

    @cached_property
    def _ground(self) -> Ground:
        config = self.config
        palette = Palette.drawn(config.map_seed) if config.random_style else Palette()
        return _painted(self.map, palette)

    def _start(self, rng: np.random.Generator) -> tuple[SpawnPoint, RouteTrace]:
        """Choose a spawn point and follow its route.

        A drawn spawn point must have some road before it; if the map has no such place, the
        longest route of those tried is taken.
        """
        spawns = self.map.spawn_points
        index = self.config.spawn_index
        if index >= len(spawns):
            raise ParameterError(
                f'spawn_index must be in [-1, {len(spawns) - 1}] on map {self.map.name!r}, '
                f'got {index}'
            )
        order = [index] if index >= 0 else rng.permutation(len(spawns)).tolist()
        best: tuple[SpawnPoint, RouteTrace] | None = None
        for candidate in order:
            trace = self.map.route(spawns[candidate], rng, self.config.route_length_m)
            if best is None or len(trace.points) > len(best[1].points):
                best = spawns[candidate], trace
            wanted_m = min(SHORTEST_ROUTE_M, 0.9 * self.config.route_length_m)
            if trace.closed or len(trace.points) >= wanted_m:
                break
        assert best is not None  # noqa: S101  a map has at least one spawn point
        return best

    def _collide(self, stamp_ns: int) -> list[CollisionEvent]:
        """Part the car from whatever it ran into; inelastic, no friction along the wall."""
        events: list[CollisionEvent] = []
        for box in self.parked:
            motion = self._vehicle.motion
            if math.hypot(box.x_m - motion.x_m, box.y_m - motion.y_m) > CONTACT_REACH_M:
                continue  # most are far away; an outline costs more than this
            contact = overlap(self._outline(), box)
            if contact is not None:
                impulse = self._stop_against(contact)
                events.append(
                    CollisionEvent(
                        frame=self.frame,
                        stamp_ns=stamp_ns,
                        other_actor_id=box.actor_id,
                        normal_impulse=carla_from_ros_location(
                            impulse * contact.normal_x, impulse * contact.normal_y, 0.0
                        ),
                    )
                )
        return events

    def _outline(self) -> Box:
        motion, info = self._vehicle.motion, self.vehicle_info
        return Box(
            x_m=motion.x_m,
            y_m=motion.y_m,
            yaw_rad=motion.yaw_rad,
            length_m=info.length_m,
            width_m=info.width_m,
            height_m=info.height_m,
            actor_id=EGO_ACTOR_ID,
        )

    def _stop_against(self, contact: Overlap) -> float:
        """Move the car out of a contact and take away its speed into it; return impulse [N s]."""
        motion = self._vehicle.motion
        vx, vy = motion.velocity_mps
        into_mps = -(vx * contact.normal_x + vy * contact.normal_y)
        cos, sin = math.cos(motion.yaw_rad), math.sin(motion.yaw_rad)
        if into_mps > 0.0:
            vx += into_mps * contact.normal_x
            vy += into_mps * contact.normal_y
        self._vehicle.motion = motion._replace(
            x_m=motion.x_m + contact.depth_m * contact.normal_x,
            y_m=motion.y_m + contact.depth_m * contact.normal_y,
            speed_mps=cos * vx + sin * vy,  # tyres take up what would slide sideways
            yaw_rate_radps=0.0,
            slip_rad=0.0,
        )
        return self.vehicle_info.mass * max(into_mps, 0.0)

    def _forget_events(self) -> None:
        self.acceleration = (0.0, 0.0, 0.0)
        self.collisions = []
        self.lane_invasions = []
        self._observe(self.stamp_ns)

    def _observe(self, stamp_ns: int) -> None:
        """Note where the car is on the map, and its state as odometry carries it."""
        motion = self._vehicle.motion
        self.lane: LaneFix = self.map.locate(motion.x_m, motion.y_m, self._height_m)
        self._height_m = self.lane.z_m
        self.state = VehicleState(
            stamp_ns=stamp_ns,
            x_m=motion.x_m,
            y_m=motion.y_m,
            z_m=self._height_m,
            yaw_rad=wrap_angle(motion.yaw_rad),
            speed_mps=motion.forward_mps,
            yaw_rate_radps=motion.yaw_rate_radps,
        )


@lru_cache(maxsize=2)
def _painted(road_map: RoadMap, palette: Palette) -> Ground:
    """Paint a map, or return it as painted before: grounds are large, keep few."""
    return paint_ground(road_map, palette=palette)


def _checked(control: VehicleControl) -> VehicleControl:
    for name in ('throttle', 'steer', 'brake'):
        value = getattr(control, name)
        if not math.isfinite(value):
            raise ValueError(f'control.{name} must be a finite number, got {value}')
    return control

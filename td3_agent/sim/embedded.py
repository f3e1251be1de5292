# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded simulator as a world to drive in, see :mod:`td3_agent.driving.loop`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.loop import Frame
from td3_agent.driving.loop_check import Contract
from td3_agent.driving.observation import ImageView
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.route import route_from_points
from td3_agent.driving.vehicle import DEFAULT_WHEELBASE_M, geometry_from_wheels

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry
    from td3_agent.sim.car import Car
    from td3_agent.sim.simulator import Simulator

SEED_BOUND = 2**31


class EpisodeSetup:
    """How episodes begin, and what comes between the driver and the simulator: here nothing."""

    def begin(self, simulator: Simulator, rng: np.random.Generator) -> Simulator:
        """Begin an episode and return the simulator that it takes place in.

        Args:
            simulator: of the last episode.
            rng: everything is drawn from it.
        """
        simulator.reset(int(rng.integers(SEED_BOUND)))
        return simulator

    def executed(self, control: VehicleControl) -> VehicleControl:
        """Return what the car executes when it is sent ``control``."""
        return control

    def pictured(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return what the camera makes of (H, W, 4) BGRA pixels."""
        del rng
        return pixels

    def disguise(self) -> NDArray[np.float64] | None:
        """Return what a learner is shown in place of yaw rate and last action; None: those."""
        return None


class EmbeddedWorld:
    """The one car of a simulator.

    Args:
        simulator: at its present frame.
        as_on_the_wire: round every value where the bridge's messages would, so that the ledger
            of a drive equals, hash by hash, that of the same drive over ROS; a learner takes
            them as they are.
        setup: of the episodes.

    Attributes:
        simulator: of the present episode.
        setup: of the episodes.
    """

    def __init__(
        self,
        simulator: Simulator,
        *,
        as_on_the_wire: bool = True,
        setup: EpisodeSetup | None = None,
    ) -> None:
        """Take the simulator as it is.

        Raises:
            ParameterError: it has another number of cars than one.
        """
        if len(simulator.cars) != 1:
            raise ParameterError(
                f'vehicles must be 1 in a world of one driver, got {len(simulator.cars)}'
            )
        self.simulator = simulator
        self.setup = setup or EpisodeSetup()
        self._as_on_the_wire = as_on_the_wire
        self._rng = np.random.default_rng()
        self._read: tuple[Route, Route] | None = None  # the car's, and as it is read

    @property
    def step_s(self) -> float:
        """Simulated time of a step [s]."""
        return self.simulator.config.fixed_delta_seconds

    @property
    def contract(self) -> Contract:
        """What a policy that learns here is trained with."""
        config = self.simulator.config
        return Contract(rate_hz=1.0 / config.fixed_delta_seconds, camera=config.camera.view)

    @property
    def route(self) -> Route:
        """The car's route."""
        ego = self.simulator.ego
        if not self._as_on_the_wire:
            return ego.route
        if self._read is None or self._read[0] is not ego.route:
            self._read = ego.route, route_on_the_wire(ego)
        return self._read[1]

    def reset(self, seed: int | None = None) -> Frame:
        """Draw everything that is not the same in every episode, and begin there."""
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        self.simulator = self.setup.begin(self.simulator, self._rng)
        return self._frame()

    def step(self, control: VehicleControl) -> Frame:
        """Tick once; see :class:`~td3_agent.driving.loop.World`."""
        self.simulator.tick(self.setup.executed(control))
        return self._frame()

    def _frame(self) -> Frame:
        simulator = self.simulator
        pixels = self.setup.pictured(simulator.render(), self._rng)
        return frame_of(simulator, simulator.ego, pixels, as_on_the_wire=self._as_on_the_wire)

    def close(self) -> None:
        """Nothing is held."""


def frame_of(
    simulator: Simulator,
    car: Car,
    pixels: NDArray[np.uint8] | None = None,
    *,
    as_on_the_wire: bool = True,
) -> Frame:
    """Return the present frame of one of the simulator's cars.

    Args:
        simulator: the simulator.
        car: one of its cars.
        pixels: (H, W, 4) BGRA of its camera; None renders them.
        as_on_the_wire: see :class:`EmbeddedWorld`.
    """
    if as_on_the_wire:
        state, geometry = car.as_carla_has_it()[0].as_odometry(), geometry_on_the_wire(car)
    else:
        state, geometry = car.state, car.vehicle_info.geometry
    collided = [event.other_actor_id for event in car.collisions]
    return Frame(
        number=simulator.frame,
        image=image_of(simulator.render(car) if pixels is None else pixels),
        state=state,
        geometry=geometry,
        acceleration_mps2=car.acceleration[:2],
        applied=car.control,
        collision=collided[-1] if collided else None,
        crossed_markings=car.crossed_markings,
        on_road=car.on_road,
    )


def image_of(pixels: NDArray[np.uint8]) -> ImageView:
    """Return (height, width, 4) BGRA pixels as an image; they are not copied."""
    height, width, channels = pixels.shape
    return ImageView(
        data=pixels.data, height=height, width=width, encoding='bgra8', step=width * channels
    )


def route_on_the_wire(car: Car) -> Route:
    """Return the car's route as a reader of its path message gets it."""
    points = car.route_points[:, :2]
    return route_from_points(np.vstack((points, points[:1])) if car.route.closed else points)


def geometry_on_the_wire(car: Car) -> VehicleGeometry:
    """Return the vehicle's geometry as a reader of vehicle_info gets it."""
    wheels = car.vehicle_info.wheels
    return geometry_from_wheels(
        [np.asarray(wheel.position[:2], np.float32).tolist() for wheel in wheels],
        float(np.float32(wheels[0].max_steer_angle)),
        DEFAULT_WHEELBASE_M,
    )

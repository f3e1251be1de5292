# SPDX-License-Identifier: Apache-2.0
"""The direct path: world, agents and gates in one process, frame by frame as over ROS.

Every value is rounded where the wire would round it, so the ledger of a direct drive equals,
hash by hash, that of the same drive over ROS.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import FrameLog
from td3_agent.driving.observation import ImageView
from td3_agent.driving.vehicle import geometry_from_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.driving.agent import Agent
    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.gate import TwistConverter
    from td3_agent.driving.vehicle import VehicleGeometry
    from td3_agent.sim.car import Car
    from td3_agent.sim.world import World

DEFAULT_WHEELBASE_M = 2.87


@dataclass(frozen=True)
class Pilot:
    """Who drives one car.

    Attributes:
        agent: answers its frames.
        converter: makes commands of the answers, as its gate.
        role_name: role name of the vehicle.
    """

    agent: Agent
    converter: TwistConverter
    role_name: str = 'ego_vehicle'


class DirectDrive:
    """Vehicles driven without ROS.

    The world is taken as it is: the first frame answered is the one after its present frame,
    as when a synchronizer sends its first step.
    """

    def __init__(self, world: World, *pilots: Pilot) -> None:
        """Put one pilot in charge of each of the world's cars, in their order.

        Raises:
            ValueError: there are more or fewer pilots than cars.
        """
        self._world = world
        self._seats = [
            _Seat(world, car, pilot) for car, pilot in zip(world.cars, pilots, strict=True)
        ]

    def drive(self, frames: int) -> Iterator[dict[str, Any]]:
        """Drive ``frames`` frames and yield their ledger records."""
        world = self._world
        for _ in range(frames):
            world.tick(*(seat.control for seat in self._seats))
            for seat in self._seats:
                seat.answer()
            for seat in self._seats:
                yield from seat.log.close_frame(world.frame, world.stamp_ns)
        for seat in self._seats:
            yield from seat.log.flush()


class _Seat:
    """One car with its pilot and its log.

    Attributes:
        control: the newest command.
        log: of the car's frames.
    """

    def __init__(self, world: World, car: Car, pilot: Pilot) -> None:
        self.control: VehicleControl = car.control
        self.log = FrameLog(pilot.role_name)
        self._world, self._car, self._pilot = world, car, pilot
        self._geometry = geometry_on_the_wire(car)

    def answer(self) -> None:
        """Let the agent answer the newest frame and the gate convert; enter it into the log."""
        pixels = self._world.render(self._car)
        height, width, channels = pixels.shape
        image = ImageView(
            data=pixels.data, height=height, width=width, encoding='bgra8', step=width * channels
        )
        car, stamp_ns = self._car, self._world.stamp_ns
        state = car.as_carla_has_it()[0].as_odometry()
        agent = self._pilot.agent
        decision = agent.decide(agent.see(image), state)
        self.control = self._pilot.converter.convert(decision.twist, state, self._geometry)
        facts = asdict(state)
        del facts['stamp_ns']
        for collision in car.collisions:
            facts['collision'] = collision.other_actor_id
        for invasion in car.lane_invasions:
            facts['lane_invasion'] = list(invasion.crossed_lane_markings)
        self.log.note_status(stamp_ns, car.control)
        self.log.note_command(stamp_ns, self.control, heard_ns=0)
        self.log.note(stamp_ns, outcome=Outcome.OK.value, **decision.facts(), **facts)


def geometry_on_the_wire(car: Car) -> VehicleGeometry:
    """Return the vehicle's geometry as a reader of vehicle_info gets it."""
    wheels = car.vehicle_info.wheels
    return geometry_from_wheels(
        [np.asarray(wheel.position[:2], np.float32).tolist() for wheel in wheels],
        float(np.float32(wheels[0].max_steer_angle)),
        DEFAULT_WHEELBASE_M,
    )

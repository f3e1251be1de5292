# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The drive loop, the same in every world.

:class:`World` is the embedded simulator, a CARLA ROS bridge, or a recorded bag.
:class:`~td3_agent.driving.agent.Agent` and
:class:`~td3_agent.driving.velocity_control.TwistConverter` are the two halves of a driver, the
same objects that the agent node and the gate node run. :func:`drive` yields steps;
:func:`ledger_records` turns them into the ledger that the nodes would write.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
import math
from typing import TYPE_CHECKING, Any, Protocol

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import FrameLog

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from td3_agent.driving.agent import Agent, Response
    from td3_agent.driving.loop_check import Contract
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState
    from td3_agent.driving.velocity_control import TwistConverter


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One vehicle at one time of its world; all parts have the same stamp.

    Attributes:
        number: rises by one with each step of the world.
        image: what the camera sees.
        state: motion, with the stamp.
        geometry: of the vehicle; None while it is not known.
        acceleration_mps2: (x, y) over the last step, in the map's axes [m/s^2].
        applied: the command executed in the last step; None where it is unknown.
        collision: id of the actor or object that the vehicle touched in that step, or None.
        crossed_markings: CARLA ``LaneMarkingType`` of the lines it began to cross.
        on_road: whether it is on a driving lane; None where it is unknown.
        is_fresh: whether time has jumped before this frame.
    """

    number: int
    image: ImageView
    state: VehicleState
    geometry: VehicleGeometry | None
    acceleration_mps2: tuple[float, float] = (0.0, 0.0)
    applied: VehicleControl | None = None
    collision: int | None = None
    crossed_markings: tuple[int, ...] = ()
    on_road: bool | None = None
    is_fresh: bool = False

    @property
    def stamp_ns(self) -> int:
        """Simulated time [ns]."""
        return self.state.stamp_ns

    @property
    def acceleration_in_car_mps2(self) -> tuple[float, float]:
        """(forward, left) over the last step, in the car's axes [m/s^2]."""
        x, y = self.acceleration_mps2
        cos, sin = math.cos(self.state.yaw_rad), math.sin(self.state.yaw_rad)
        return cos * x + sin * y, cos * y - sin * x


class WorldEndError(Exception):
    """The world has no further frame."""


class DriverError(ValueError):
    """The driver has failed; the text names frame and reason."""


class World(Protocol):
    """A world in which one vehicle drives, one step at a time.

    Attributes:
        step_s: simulated time of a step [s].
        contract: of a policy trained here; None if it is unknown.
        route: to follow, or None; another route is another object.
    """

    @property
    def step_s(self) -> float:
        """See the class."""

    @property
    def contract(self) -> Contract | None:
        """See the class."""

    @property
    def route(self) -> Route | None:
        """See the class."""

    def reset(self, seed: int | None = None) -> Frame:
        """Begin an episode and return its first frame.

        Args:
            seed: of everything random; None continues with the generator. A recording ignores it.
        """

    def step(self, control: VehicleControl) -> Frame:
        """Apply a command to the newest frame, and return the next one.

        Raises:
            WorldEndError: there is no next one.
            ValueError: the command is not finite.
        """

    def close(self) -> None:
        """Release what the world holds."""


@dataclass(frozen=True)
class Step:
    """One frame with its response and command.

    Attributes:
        frame: the frame.
        response: of the agent.
        control: the command that the vehicle gets.
    """

    frame: Frame
    response: Response
    control: VehicleControl


def respond(agent: Agent, converter: TwistConverter, frame: Frame) -> Step:
    """Return the step for a frame: agent node and gate node without messages.

    Raises:
        DriverError: the driver failed, or its action is not two finite numbers.
    """
    if frame.is_fresh:
        agent.reset()
        converter.reset()
    try:
        response = agent.respond(agent.preprocess(frame.image), frame.state)
    except Exception as error:  # whatever a driver raises
        raise DriverError(f'frame {frame.number}: driver failed: {error}') from error
    control = converter.convert(response.twist, frame.state, frame.geometry)
    return Step(frame, response, control)


def drive(world: World, agent: Agent, converter: TwistConverter) -> Iterator[Step]:
    """Drive from the world's present frame, along its route, until it ends.

    The first response is for the frame after the present one, as after the first step of a
    synchronizer.

    Raises:
        DriverError: the driver failed.
    """
    control, route = VehicleControl(), None
    with suppress(WorldEndError):
        while True:
            frame = world.step(control)
            if world.route is not None and world.route is not route:
                route = world.route
                agent.set_route(route)
            step = respond(agent, converter, frame)
            control = step.control
            yield step


def ledger_records(
    steps: Iterable[Step], role_name: str = 'ego_vehicle'
) -> Iterator[dict[str, Any]]:
    """Yield the ledger records of steps, each when the next frame has confirmed it."""
    log = FrameLog(role_name)
    for step in steps:
        frame = step.frame
        fields = asdict(frame.state)
        stamp_ns = fields.pop('stamp_ns')
        if frame.collision is not None:
            fields['collision'] = frame.collision
        if frame.crossed_markings:
            fields['lane_invasion'] = list(frame.crossed_markings)
        if frame.applied is not None:
            log.note_status(stamp_ns, frame.applied)
        log.note_command(stamp_ns, step.control, received_ns=0)
        log.note(stamp_ns, outcome=Outcome.OK.value, **step.response.record(), **fields)
        yield from log.close_frame(frame.number, stamp_ns)
    yield from log.flush()

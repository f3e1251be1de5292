# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""One loop, whatever the world: a frame is preprocessed, acted on, converted, and stepped from.

:class:`World` is what is driven in: the embedded simulator, a CARLA ROS bridge, a recorded bag.
:class:`~td3_agent.driving.agent.Agent` and
:class:`~td3_agent.driving.velocity_control.TwistConverter` are the two halves of a driver, the
same objects that the agent node and the gate node run. :func:`drive` yields steps;
:func:`ledger_records` makes of them the ledger that the nodes would write.
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
    """One vehicle at one instant of its world; all parts have the same stamp.

    Attributes:
        number: rises by one with each step of the world.
        image: what the camera sees.
        state: motion, with the stamp.
        geometry: what a converter must know of the vehicle; None while it is not known.
        acceleration_mps2: (x, y) over the last step, in the map's axes [m/s^2].
        applied: the command that was executed in the step that led here; None where a recording
            does not tell.
        collision: id of what the vehicle touched in that step; None if nothing.
        crossed_markings: CARLA ``LaneMarkingType`` of the lines it began to cross.
        on_road: whether it stands on a driving lane; None where the world does not tell.
        is_fresh: whether time has jumped: what was seen before does not lead up to this frame.
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
    """The world has no further frame: a recording is over."""


class DriverError(ValueError):
    """The driver has failed; the text says at which frame and why."""


class World(Protocol):
    """Something to drive one vehicle in, a step at a time.

    Attributes:
        step_s: simulated time of a step [s].
        contract: what a policy that learns here is trained with; None if that is not known.
        route: the line to follow; None while there is none. Another line is another object.
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
            seed: decides on everything that is drawn; None draws on from where the last episode
                has left the generator. A recording begins at its begin.
        """

    def step(self, control: VehicleControl) -> Frame:
        """Answer the newest frame with a command, and return the next one.

        Raises:
            WorldEndError: there is none.
            ValueError: the command is not finite.
        """

    def close(self) -> None:
        """Release what the world holds."""


@dataclass(frozen=True)
class Step:
    """One frame and what was made of it.

    Attributes:
        frame: the frame.
        response: of the agent.
        control: the command that the vehicle gets.
    """

    frame: Frame
    response: Response
    control: VehicleControl


def respond(agent: Agent, converter: TwistConverter, frame: Frame) -> Step:
    """Return the step that answers a frame: what agent node and gate node do, without messages.

    Raises:
        DriverError: the driver has failed, or its action is not two finite numbers.
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
    """Drive on from the world's present frame, along its route, until it ends.

    The first frame answered is the one after the present one, as when a synchronizer sends its
    first step.

    Raises:
        DriverError: the driver has failed.
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

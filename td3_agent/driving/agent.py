# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent of one vehicle: observation, driver, action; the same code on every path.

The ROS node, the direct environment and bag replay all drive through :class:`Agent`, which is
why their ledgers can be compared hash by hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
import hashlib
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from td3_agent.driving.command import (
    ACTION_SIZE,
    TwistCommand,
    TwistConvention,
    twist_from_action,
    upstream_twist_from_control,
)
from td3_agent.driving.observation import ObservationBuilder, ObservationSpec
from td3_agent.driving.velocity_control import VelocityController

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from td3_agent.driving.observation import ImageView, Observation
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState


class Driver(Protocol):
    """Turns one observation into one action."""

    def reset(self) -> None:
        """Forget the past: the next observation starts a new drive."""

    def set_route(self, route: Route) -> None:
        """Take note of the route; drivers that only look ahead have nothing to do."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action, (2,) float32 in [-1, 1]: target speed and yaw rate.

        The numbers mean what :func:`td3_agent.driving.command.twist_from_action` says.
        """


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What the agent will see of one image.

    Attributes:
        frame: (height, width) uint8, grey, in the network's size.
        image_size: (height, width) of the image itself [px].
        times: when it was made of the image [ns, steady]; empty where nobody asked for it.
    """

    frame: NDArray[np.uint8]
    image_size: tuple[int, int]
    times: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What the agent made of one frame.

    Attributes:
        twist: command in the velocity convention.
        action: (2,) float32 in [-1, 1], as the driver gave it.
        observation: what the driver saw.
        times: when the image was prepared, the observation was built and the driver had answered
            [ns, steady]; empty where nobody asked for it.
    """

    twist: TwistCommand
    action: NDArray[np.float32]
    observation: Observation
    times: dict[str, int] = field(default_factory=dict)

    @cached_property
    def observation_sha256(self) -> str:
        """Hash of what the driver saw; taken when asked for, a command need not wait for it."""
        return self.observation.sha256()

    def facts(self) -> dict[str, Any]:
        """Return what the ledger records of a decision."""
        return {
            'observation_sha256': self.observation_sha256,
            'action': [float(value) for value in self.action],
            'action_sha256': action_sha256(self.action),
            'twist': [self.twist.linear_x, self.twist.angular_z],
            **self.times,
        }


def action_sha256(action: ArrayLike) -> str:
    """Return the hash of an action's float32 values, (N,)."""
    return hashlib.sha256(np.asarray(action, dtype='<f4').tobytes()).hexdigest()


class Agent:
    """Turns image and motion of one frame into a command; remembers stack and last action."""

    def __init__(
        self,
        driver: Driver,
        spec: ObservationSpec | None = None,
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        """Drive with ``driver``, which sees observations made after ``spec``.

        Args:
            driver: answers observations.
            spec: how these are made.
            clock_ns: steady clock [ns] that decisions are timed with; None times nothing.
        """
        self._driver = driver
        self._clock_ns = clock_ns
        self._builder = ObservationBuilder(spec)
        self._previous_action = np.zeros(ACTION_SIZE, dtype=np.float32)

    def set_route(self, route: Route) -> None:
        """Drive along this route from now on, as far as driver and observation know of any."""
        self._driver.set_route(route)
        self._builder.set_route(route)

    def reset(self) -> None:
        """Forget the past: a new drive begins, or time has jumped."""
        self._driver.reset()
        self._builder.reset()
        self._previous_action = np.zeros(ACTION_SIZE, dtype=np.float32)

    def see(self, image: ImageView) -> Sight:
        """Prepare an image, which may come before the motion of its frame; changes nothing."""
        times: dict[str, int] = {}
        frame = self._builder.frame(image)
        self._mark(times, 'image_prepared_ns')
        return Sight(frame=frame, image_size=(image.height, image.width), times=times)

    def decide(self, sight: Sight, state: VehicleState) -> Decision:
        """Return the command for one frame.

        Raises:
            ValueError: the driver's action is not finite or has the wrong shape.
        """
        times = dict(sight.times)
        observation = self._builder.build_from(sight.frame, state, self._previous_action)
        self._mark(times, 'observed_ns')
        action = self._driver.act(observation)
        self._mark(times, 'decided_ns')
        twist = twist_from_action(action)
        self._previous_action = np.clip(action, -1.0, 1.0)  # as executed
        return Decision(twist=twist, action=action, observation=observation, times=times)

    def _mark(self, times: dict[str, int], name: str) -> None:
        """Note what time it is, if there is a clock."""
        if self._clock_ns is not None:
            times[name] = self._clock_ns()


class TwistEncoder:
    """Says the agent's velocity command in the convention that the receiver understands."""

    def __init__(self, convention: TwistConvention) -> None:
        """Encode for ``convention``; upstream's needs a speed loop on this side."""
        self.convention = convention
        self._controller = VelocityController()

    @property
    def needs_geometry(self) -> bool:
        """Whether commands cannot be encoded before vehicle_info has arrived."""
        return self.convention is TwistConvention.CARLA_TWIST_TO_CONTROL

    def reset(self) -> None:
        """Forget the speed loop's state."""
        self._controller.reset()

    def encode(
        self, twist: TwistCommand, state: VehicleState, geometry: VehicleGeometry | None
    ) -> TwistCommand:
        """Return the Twist to publish.

        Raises:
            ValueError: the convention needs the vehicle's geometry and it is not known yet.
        """
        if self.convention is TwistConvention.VELOCITY:
            return twist
        if geometry is None:
            raise ValueError('carla_twist_to_control needs vehicle_info, which has not arrived')
        control = self._controller.control(twist, state, geometry)
        return upstream_twist_from_control(control, geometry.max_steer_angle_rad)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent of one vehicle: from observation to action, the same code on every path.

The ROS node, the in-process environment and bag replay all drive through :class:`Agent`, so their
ledgers can be compared hash by hash.
"""

from __future__ import annotations

from dataclasses import dataclass, field
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
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike, NDArray

    from td3_agent.driving.observation import ImageView, Observation
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState


class Driver(Protocol):
    """Turns one observation into one action."""

    def reset(self) -> None:
        """Forget the past: the next observation starts a new drive."""

    def set_route(self, route: Route) -> None:
        """Use this route from now on; a driver that needs no route ignores it."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action, (2,) float32 in [-1, 1]: target speed and yaw rate.

        :func:`td3_agent.driving.command.twist_from_action` defines their meaning.
        """


@dataclass(frozen=True, kw_only=True)
class Response:
    """The command for one frame, and what the ledger records of it.

    Attributes:
        stamp_ns: simulated time of the frame [ns].
        twist: in the velocity convention, or encoded for the receiver by a :class:`TwistEncoder`.
        action: (2,) float32, as the driver returned it; None where no driver was asked.
        observation: the driver's input; None where no driver was asked.
        timestamps: when the parts of the response were ready [ns, steady]; empty without a clock.
        error: why the car is stopped; empty if it is not.
    """

    stamp_ns: int
    twist: TwistCommand
    action: NDArray[np.float32] | None = None
    observation: Observation | None = None
    timestamps: dict[str, int] = field(default_factory=dict)
    error: str = ''

    def record(self) -> dict[str, Any]:
        """Return the fields of the ledger; empty for a command that repeats an earlier one.

        Hashes take time: publish the command first.
        """
        fields: dict[str, Any] = dict(self.timestamps)
        if self.observation is not None and self.action is not None:
            twist = twist_from_action(self.action)
            fields |= {
                'observation_sha256': self.observation.sha256(),
                'action': [float(value) for value in self.action],
                'action_sha256': action_sha256(self.action),
                'twist': [twist.linear_x, twist.angular_z],
            }
        if self.error:
            fields['agent_error'] = self.error
        return fields


def action_sha256(action: ArrayLike) -> str:
    """Return the hash of an action's float32 values, (N,)."""
    return hashlib.sha256(np.asarray(action, dtype='<f4').tobytes()).hexdigest()


class Agent:
    """Turns image and motion of one frame into a command; remembers image stack and last action.

    Args:
        driver: computes actions.
        spec: how observations are made.
        clock_ns: steady clock [ns] for timestamps; None for none.
    """

    def __init__(
        self,
        driver: Driver,
        spec: ObservationSpec | None = None,
        clock_ns: Callable[[], int] | None = None,
    ) -> None:
        self._driver = driver
        self._clock_ns = clock_ns
        self._builder = ObservationBuilder(spec)
        self._previous_action = np.zeros(ACTION_SIZE, dtype=np.float32)

    def set_route(self, route: Route) -> None:
        """Follow this route from now on, as far as driver and observation use one."""
        self._driver.set_route(route)
        self._builder.set_route(route)

    def reset(self) -> None:
        """Forget the past: a new drive begins, or time has jumped."""
        self._driver.reset()
        self._builder.reset()
        self._previous_action = np.zeros(ACTION_SIZE, dtype=np.float32)

    def preprocess(
        self, image: ImageView, timestamps: dict[str, int] | None = None
    ) -> NDArray[np.uint8]:
        """Return an image in the network's size, (height, width) uint8; the agent stays as it is.

        The image may come before the motion of its frame. ``timestamps`` gets
        ``image_prepared_ns``.
        """
        preprocessed = self._builder.preprocess(image)
        self._mark(timestamps, 'image_prepared_ns')
        return preprocessed

    def respond(
        self,
        preprocessed: NDArray[np.uint8],
        state: VehicleState,
        timestamps: Mapping[str, int] | None = None,
    ) -> Response:
        """Return the command for one frame, in the velocity convention.

        Args:
            preprocessed: image of the frame, from :meth:`preprocess`.
            state: motion of the vehicle in the frame.
            timestamps: of the frame so far [ns, steady]; part of the response.

        Raises:
            ValueError: the driver's action is not finite or has the wrong shape.
        """
        timestamps = dict(timestamps or {})
        observation = self._builder.build_from(preprocessed, state, self._previous_action)
        self._mark(timestamps, 'observed_ns')
        action = self._driver.act(observation)
        self._mark(timestamps, 'decided_ns')
        twist = twist_from_action(action)
        self._previous_action = np.clip(action, -1.0, 1.0)  # as executed
        return Response(
            stamp_ns=state.stamp_ns,
            twist=twist,
            action=action,
            observation=observation,
            timestamps=timestamps,
        )

    def _mark(self, timestamps: dict[str, int] | None, name: str) -> None:
        if self._clock_ns is not None and timestamps is not None:
            timestamps[name] = self._clock_ns()


class TwistEncoder:
    """Encodes the agent's velocity command in the convention of its receiver.

    Upstream's convention needs a speed loop on this side.
    """

    def __init__(self, convention: TwistConvention) -> None:
        self.convention = convention
        self._controller = VelocityController()

    @property
    def needs_geometry(self) -> bool:
        """Whether commands cannot be encoded before vehicle_info has arrived."""
        return self.convention is TwistConvention.CARLA_TWIST_TO_CONTROL

    def reset(self) -> None:
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

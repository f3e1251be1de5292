# SPDX-License-Identifier: Apache-2.0
"""Pure pursuit that keeps its distance: the yardstick where there is traffic.

It steers and plans its speed as :class:`~td3_agent.driving.pure_pursuit.PurePursuitDriver`, and
brakes for what is ahead by the Intelligent Driver Model. It does not look at the image: distance
and speed of what is ahead are told by whoever owns the world. That is more than any camera
knows, and there is no topic for it, so this driver exists on the direct path only.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from td3_agent.driving.command import (
    CONTROL_MAX_SPEED_MPS,
    action_from_twist,
    clamp,
)
from td3_agent.driving.idm import IdmParams, idm_acceleration

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from td3_agent.driving.observation import Observation
    from td3_agent.driving.pure_pursuit import PurePursuitDriver
    from td3_agent.driving.route import Route

# A target so much ahead of the speed makes the gate's loop accelerate by about as much per second.
RESPONSE_S = 0.45
# The desired speed is pure pursuit's own; this one is never reached.
PARAMS = IdmParams(desired_speed_mps=1.2 * CONTROL_MAX_SPEED_MPS, minimum_gap_m=2.5)


class Lead(NamedTuple):
    """What is ahead on the route.

    Attributes:
        gap_m: from bumper to bumper, along the route [m].
        speed_mps: along the route.
    """

    gap_m: float
    speed_mps: float


class FollowingDriver:
    """Pure pursuit with IDM following.

    Args:
        pursuit: steers, and decides on the speed where the road is free.
        sees: returns what is ahead in the present frame, None where nothing is.
        params: how the distance is kept.
    """

    def __init__(
        self,
        pursuit: PurePursuitDriver,
        sees: Callable[[], Lead | None],
        params: IdmParams = PARAMS,
    ) -> None:
        """Keep its parts."""
        self._pursuit, self._sees, self._params = pursuit, sees, params

    def reset(self) -> None:
        """Forget the past: the next observation starts a new drive."""
        self._pursuit.reset()

    def set_route(self, route: Route) -> None:
        """Follow another route from now on."""
        self._pursuit.set_route(route)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action, (2,) float32 in [-1, 1]: target speed and yaw rate."""
        twist = self._pursuit.twist(observation.vehicle)
        lead = self._sees()
        if lead is not None:
            behind_mps = self._speed_behind(lead, max(observation.vehicle.speed_mps, 0.0))
            twist = replace(twist, linear_x=min(twist.linear_x, behind_mps))
        return action_from_twist(twist)

    def _speed_behind(self, lead: Lead, speed_mps: float) -> float:
        """Return the target speed that keeps the distance [m/s]."""
        acceleration = idm_acceleration(
            self._params,
            np.array([speed_mps]),
            np.array([lead.gap_m]),
            np.array([speed_mps - lead.speed_mps]),
        )
        return clamp(speed_mps + RESPONSE_S * float(acceleration[0]), 0.0, CONTROL_MAX_SPEED_MPS)

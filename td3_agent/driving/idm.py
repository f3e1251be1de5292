# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The Intelligent Driver Model: the acceleration of a driver behind a lead vehicle.

Treiber, Hennecke, Helbing, *Congested traffic states in empirical observations and microscopic
simulations*, Phys. Rev. E 62 (2000) 1805, equations 3 and 4, with their names::

    dv/dt = a [ 1 - (v / v0)^4 - (s* / s)^2 ]
    s*    = s0 + max(0, v T + v dv / (2 sqrt(a b)))

One departure: deceleration ends at what tyres give, ``HARDEST_BRAKING_MPS2``.

Traffic uses it, and so does :class:`FollowingDriver`, the reference driver in traffic. It steers
and plans its speed as :class:`~td3_agent.driving.pure_pursuit.PurePursuitDriver`, and brakes for
the lead vehicle, whose distance and speed come from the world. No topic carries them, so this
driver exists in process only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from td3_agent.driving.command import (
    CONTROL_MAX_SPEED_MPS,
    action_from_twist,
    clamp,
)
from td3_agent.driving.parameters import Params, param

if TYPE_CHECKING:
    from collections.abc import Callable

    from td3_agent.driving.observation import Observation
    from td3_agent.driving.pure_pursuit import PurePursuitDriver
    from td3_agent.driving.route import Route

FloatArray = NDArray[np.float64]

EXPONENT = 4
HARDEST_BRAKING_MPS2 = 8.0
SMALLEST_GAP_M = 0.01  # avoids a division by zero: a vehicle in contact brakes as hard as it can


@dataclass(frozen=True, kw_only=True)
class IdmParams(Params):
    """Settings of a driver, with the paper's symbols."""

    desired_speed_mps: float = param(
        7.0, 'IDM v0: speed on a free road', unit='m/s', low=0.5, high=40.0
    )
    time_headway_s: float = param(
        1.5, 'IDM T: time to the vehicle ahead', unit='s', low=0.5, high=10.0
    )
    minimum_gap_m: float = param(
        2.0, 'IDM s0: distance in a standing queue', unit='m', low=0.5, high=20.0
    )
    maximum_acceleration_mps2: float = param(
        1.5, 'IDM a: acceleration from a standstill', unit='m/s^2', low=0.1, high=5.0
    )
    comfortable_deceleration_mps2: float = param(
        2.0, 'IDM b: braking that is felt as comfortable', unit='m/s^2', low=0.1, high=5.0
    )


def idm_acceleration(
    params: IdmParams,
    speed_mps: FloatArray,
    gap_m: FloatArray,
    closing_mps: FloatArray,
    desired_speed_mps: FloatArray | float | None = None,
) -> FloatArray:
    """Return the acceleration of drivers, (N,) [m/s^2], never below ``-HARDEST_BRAKING_MPS2``.

    Args:
        params: settings.
        speed_mps: (N,), >= 0.
        gap_m: (N,) bumper to bumper to the vehicle ahead; infinite where the road is free.
        closing_mps: (N,) own speed minus that of the vehicle ahead.
        desired_speed_mps: (N,) v0 of each; by default that of ``params``.
    """
    v0 = params.desired_speed_mps if desired_speed_mps is None else desired_speed_mps
    a, b = params.maximum_acceleration_mps2, params.comfortable_deceleration_mps2
    dynamic = speed_mps * params.time_headway_s + speed_mps * closing_mps / (2.0 * (a * b) ** 0.5)
    wanted_m = params.minimum_gap_m + np.maximum(dynamic, 0.0)
    ratio = wanted_m / np.maximum(gap_m, SMALLEST_GAP_M)
    acceleration = a * (1.0 - (speed_mps / v0) ** EXPONENT - ratio * ratio)
    return np.asarray(np.maximum(acceleration, -HARDEST_BRAKING_MPS2))


def equilibrium_gap_m(params: IdmParams, speed_mps: float) -> float:
    """Return the gap at which a driver keeps a speed below v0 [m] (Treiber et al. 2000, eq. 5)."""
    free = 1.0 - (speed_mps / params.desired_speed_mps) ** EXPONENT
    return float((params.minimum_gap_m + speed_mps * params.time_headway_s) / np.sqrt(free))


def advanced(
    speed_mps: FloatArray, acceleration_mps2: FloatArray, step_s: float
) -> tuple[FloatArray, FloatArray]:
    """Return distance [m] and new speed [m/s] after a step; vehicles never roll backwards.

    Constant acceleration over the step (Treiber & Kesting, *Traffic Flow Dynamics*, 2013,
    eqs. 11.24 and 11.25); a vehicle that stops within the step stays there.
    """
    after = speed_mps + acceleration_mps2 * step_s
    distance_m = 0.5 * (speed_mps + after) * step_s
    stopped = after < 0.0
    braking = np.where(stopped, -acceleration_mps2, 1.0)
    distance_m = np.where(stopped, 0.5 * speed_mps * speed_mps / braking, distance_m)
    return distance_m, np.maximum(after, 0.0)


# Time constant: the speed loop closes the gap between target and speed in about this time.
RESPONSE_S = 0.45
# Pure pursuit limits the speed; this desired speed is never reached.
PARAMS = IdmParams(desired_speed_mps=1.2 * CONTROL_MAX_SPEED_MPS, minimum_gap_m=2.5)


class Lead(NamedTuple):
    """The lead vehicle on the route.

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
        lead: returns the lead vehicle of the present frame, None on a free road.
        params: settings of the IDM.
    """

    def __init__(
        self,
        pursuit: PurePursuitDriver,
        lead: Callable[[], Lead | None],
        params: IdmParams = PARAMS,
    ) -> None:
        self._pursuit, self._lead, self._params = pursuit, lead, params

    def reset(self) -> None:
        self._pursuit.reset()

    def set_route(self, route: Route) -> None:
        self._pursuit.set_route(route)

    def act(self, observation: Observation) -> NDArray[np.float32]:
        twist = self._pursuit.twist(observation.vehicle)
        lead = self._lead()
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

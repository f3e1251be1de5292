# SPDX-License-Identifier: Apache-2.0
"""What every driver offers, be it a network or a classical controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from td3_agent.driving.observation import Observation
    from td3_agent.driving.route import Route


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

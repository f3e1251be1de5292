# SPDX-License-Identifier: Apache-2.0
"""What every driver offers, be it a network or a classical controller."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from td3_agent.driving.observation import Observation


class Driver(Protocol):
    """Turns one observation into one action."""

    def reset(self) -> None:
        """Forget the past: the next observation starts a new drive."""

    def act(self, observation: Observation) -> NDArray[np.float32]:
        """Return the action, (2,) float32 in [-1, 1]: target speed and yaw rate.

        The numbers mean what :func:`td3_agent.driving.command.twist_from_action` says.
        """

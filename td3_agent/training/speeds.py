# SPDX-License-Identifier: Apache-2.0
"""How fast the stored drives were: a buffer full of a parked car teaches nothing."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, starmap
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS

if TYPE_CHECKING:
    import gymnasium
    from numpy.typing import NDArray

EDGES_MPS = (-math.inf, 0.5, 2.0, 4.0, 6.0, 8.0, math.inf)
PARKED = 'speed_below_0.5_mps'
LARGEST_PARKED_SHARE = 0.8


@dataclass(frozen=True)
class SpeedState:
    """Where the speed stands in a state vector.

    Attributes:
        index: of the number.
        scale_mps: what 1.0 means [m/s].
    """

    index: int
    scale_mps: float

    def shares(self, states: NDArray[np.float32]) -> dict[str, float]:
        """Return the share of states in each range of speed, by name; half-open ranges.

        Args:
            states: (N, state_size), N >= 1.
        """
        speeds_mps = states[:, self.index] * self.scale_mps
        counts = np.histogram(speeds_mps, EDGES_MPS)[0] / len(speeds_mps)
        return dict(zip(starmap(_name, pairwise(EDGES_MPS)), counts.tolist(), strict=True))


def _name(low_mps: float, high_mps: float) -> str:
    if math.isinf(low_mps):
        return f'speed_below_{high_mps:g}_mps'
    return f'speed_from_{low_mps:g}_mps'


def speed_state_of(env: gymnasium.Env[Any, Any]) -> SpeedState | None:
    """Return where an environment shows a vehicle's speed, None where there is none.

    It may say so by an attribute ``speed_state`` (index, scale [m/s]).
    """
    inner = env.unwrapped
    told = getattr(inner, 'speed_state', None)
    if told is not None:
        return SpeedState(*told)
    # The vector of td3_agent.driving.observation begins with the speed.
    drives = hasattr(inner, 'spec_of_observation')
    return SpeedState(0, CONTROL_MAX_SPEED_MPS) if drives else None


def parked_alarm(shares: dict[str, float]) -> dict[str, str]:
    """Return the alarm that the buffer holds little but a car that stands, by name."""
    share = shares.get(PARKED, 0.0)
    if share <= LARGEST_PARKED_SHARE:
        return {}
    return {'parked': f'the car stands in {share:.0%} of the buffer'}

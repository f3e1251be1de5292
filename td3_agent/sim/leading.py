# SPDX-License-Identifier: Apache-2.0
"""What the vehicle ahead of the first driven car does, by name: the cases that try a follower.

============  =====================================================================
none          there is no such vehicle
slow          drives at 3 m/s
stop_and_go   drives for 6 to 10 s, brakes gently and stands for 4 to 8 s, and so on
sudden_stop   drives for 8 to 14 s, brakes at 6 m/s^2 and stands for 5 s, and so on
standing      stands in the lane, 60 m ahead, for 25 s; then it drives away
============  =====================================================================
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from td3_agent.sim.lane_network import FloatArray

CYCLES = 200


@dataclass(frozen=True, kw_only=True)
class Habit:
    """How a leading vehicle drives.

    Attributes:
        ahead_m: where it starts, on the route before the driven car [m].
        speed_mps: fastest while it drives; infinite: as fast as everybody.
        drives_s: shortest and longest time that it drives [s].
        stands_s: shortest and longest time that it brakes and stands [s].
        braking_mps2: how it comes to a stand.
        stands_first: whether it begins standing.
    """

    ahead_m: float = 25.0
    speed_mps: float = math.inf
    drives_s: tuple[float, float] = (math.inf, math.inf)
    stands_s: tuple[float, float] = (0.0, 0.0)
    braking_mps2: float = 2.0
    stands_first: bool = False


NO_LEADER = 'none'
HABITS = {
    'slow': Habit(speed_mps=3.0),
    'stop_and_go': Habit(drives_s=(6.0, 10.0), stands_s=(4.0, 8.0)),
    'sudden_stop': Habit(drives_s=(8.0, 14.0), stands_s=(5.0, 5.0), braking_mps2=6.0),
    'standing': Habit(ahead_m=60.0, stands_s=(25.0, 25.0), stands_first=True),
}
LEADERS = (NO_LEADER, *HABITS)


class LeadingVehicle:
    """What one leading vehicle does in one episode.

    Args:
        habit: how it drives.
        rng: draws when it stands.
    """

    def __init__(self, habit: Habit, rng: np.random.Generator) -> None:
        """Draw all its stops."""
        self.habit = habit
        self._changes_s = _changes_s(habit, rng)

    def limit_mps(self, elapsed_s: float) -> float:
        """Return the speed that it wants at most [m/s], ``elapsed_s`` after the start [s]."""
        changes = int(np.searchsorted(self._changes_s, elapsed_s, side='right'))
        stands = (changes % 2 == 1) != self.habit.stands_first
        return 0.0 if stands else self.habit.speed_mps


def _changes_s(habit: Habit, rng: np.random.Generator) -> FloatArray:
    """Return when driving and standing take turns [s]."""
    if habit.stands_first:
        return np.array([rng.uniform(*habit.stands_s)])
    if math.isinf(habit.drives_s[0]):
        return np.empty(0)
    drives = rng.uniform(*habit.drives_s, CYCLES)
    stands = rng.uniform(*habit.stands_s, CYCLES)
    return np.cumsum(np.column_stack((drives, stands)).ravel())

# SPDX-License-Identifier: Apache-2.0
"""Silence: when nobody asks for the next frame, the car must not keep its last command.

Pure logic: no clocks; every call is given the steady time, because simulated time stands still
exactly when this is needed.
"""

from __future__ import annotations

from collections import deque
from statistics import median

PERIODS_KEPT = 5
# A simulator that is slow by nature is not silent: so many of its own frames are.
SILENT_FRAMES = 4


class SilenceHold:
    """Says when a car that was told to drive must be told to stop, and keeps saying so.

    A paused or dead simulator asks for no frame, so no deadline runs: whatever was sent last
    would be executed by the next step, however late that comes.
    """

    def __init__(self, limit_ns: int, repeat_ns: int = 1_000_000_000) -> None:
        """Stop after ``limit_ns`` [ns, steady] without a frame, and again every ``repeat_ns``.

        Where frames come further apart than a quarter of the limit, by their own median, four
        of their periods count instead.
        """
        self._limit_ns = limit_ns
        self._repeat_ns = repeat_ns
        self._periods_ns: deque[int] = deque(maxlen=PERIODS_KEPT)
        self._begun_ns: int | None = None
        self._due_ns: int | None = None
        self.holding = False
        self.count = 0

    @property
    def due_ns(self) -> int | None:
        """Steady time [ns] at which :meth:`on_time` must be called; None when nothing waits."""
        return self._due_ns

    @property
    def limit_ns(self) -> int:
        """Silence after which the car is stopped at the moment [ns]."""
        usual_ns = median(self._periods_ns) if self._periods_ns else 0
        return max(self._limit_ns, round(SILENT_FRAMES * usual_ns))

    def frame_begun(self, now_ns: int) -> None:
        """Take note of a new frame: from now on its own deadline is in charge."""
        if self._begun_ns is not None:
            self._periods_ns.append(now_ns - self._begun_ns)
        self._begun_ns = now_ns
        self._due_ns, self.holding = None, False

    def answered(self, now_ns: int, *, stopped: bool) -> None:
        """Take note that the frame has its command; ``stopped`` means that this is a stop."""
        self._due_ns = None if stopped else now_ns + self.limit_ns

    def on_time(self, now_ns: int) -> bool:
        """Return whether the car is to be stopped now."""
        if self._due_ns is None or now_ns < self._due_ns:
            return False
        self.count += not self.holding
        self.holding = True
        self._due_ns = now_ns + self._repeat_ns
        return True

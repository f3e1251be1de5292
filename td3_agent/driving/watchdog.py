# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Watches over a gate: silence after an answer, a dead agent, and the status of the gate.

Pure logic: no clocks; every call takes the steady time, because simulated time stands still
exactly when this is needed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import asdict, replace
from statistics import median
from typing import TYPE_CHECKING

from td3_agent.driving.command import FULL_BRAKE
from td3_agent.driving.gate import Gate, Outcome
from td3_agent.driving.loop_check import REMEDIES, OutcomeWindow
from td3_agent.driving.reports import Status, loop_status

if TYPE_CHECKING:
    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.gate import FreeRunningGate, GateResponse

PERIODS_KEPT = 5
# Silence is at least this many typical frame periods.
SILENT_FRAMES = 4


class IdleStopTimer:
    """Says when a car without a next frame must be stopped, and repeats the stop.

    A paused or dead simulator begins no frame, so no deadline runs: the next step would execute
    the last command, however late it comes.
    """

    def __init__(self, limit_ns: int, repeat_ns: int = 1_000_000_000) -> None:
        """Stop after ``limit_ns`` [ns, steady] without a frame, and again every ``repeat_ns``.

        Where four median frame periods are longer than the limit, they count instead.
        """
        self._limit_ns = limit_ns
        self._repeat_ns = repeat_ns
        self._periods_ns: deque[int] = deque(maxlen=PERIODS_KEPT)
        self._begun_ns: int | None = None
        self._due_ns: int | None = None
        self.is_stopping = False
        self.count = 0

    @property
    def due_ns(self) -> int | None:
        """Steady time [ns] at which :meth:`on_time` must be called; None when nothing waits."""
        return self._due_ns

    @property
    def limit_ns(self) -> int:
        """Silence after which the car is stopped, at the present frame rate [ns]."""
        usual_ns = median(self._periods_ns) if self._periods_ns else 0
        return max(self._limit_ns, round(SILENT_FRAMES * usual_ns))

    def frame_begun(self, now_ns: int) -> None:
        """Note a new frame: its own deadline takes over."""
        if self._begun_ns is not None:
            self._periods_ns.append(now_ns - self._begun_ns)
        self._begun_ns = now_ns
        self._due_ns, self.is_stopping = None, False

    def answered(self, now_ns: int, *, stopped: bool) -> None:
        """Note that the frame has its command, and whether that is a stop."""
        self._due_ns = None if stopped else now_ns + self.limit_ns

    def on_time(self, now_ns: int) -> bool:
        """Return whether to send an idle stop now."""
        if self._due_ns is None or now_ns < self._due_ns:
            return False
        self.count += not self.is_stopping
        self.is_stopping = True
        self._due_ns = now_ns + self._repeat_ns
        return True


class GateWatch:
    """Watches one gate.

    Attributes:
        idle_stop: when to send one.
        frame_ns: stamp of the newest frame [ns]; -1 before any.
    """

    def __init__(
        self, gate: Gate | FreeRunningGate, silence_ns: int, longest_deadline_s: float
    ) -> None:
        """Watch a gate.

        Args:
            gate: to watch.
            silence_ns: limit of :class:`IdleStopTimer` [ns].
            longest_deadline_s: highest useful deadline [s].
        """
        self.idle_stop = IdleStopTimer(silence_ns)
        self.frame_ns = -1
        self._gate, self._longest_deadline_s = gate, longest_deadline_s
        self._window = OutcomeWindow()
        self._last_outcome: Outcome | None = None
        self._lost = (0, 0)  # unanswered frames, late commands
        self._agent_seen_ns: int | None = None

    def note(self, answer: GateResponse | None, now_ns: int) -> None:
        """Take the response to an event at the gate, if there is one."""
        self._note_lost()
        if isinstance(self._gate, Gate):
            self._note_frame(self._gate, answer, now_ns)
        if answer is not None:
            self._last_outcome = answer.outcome
            if answer.outcome is not Outcome.IDLE:  # no frame of the drive
                self._window.add(answer.outcome.value)

    def _note_frame(self, gate: Gate, answer: GateResponse | None, now_ns: int) -> None:
        """Let the deadline of a frame take over from the idle stop, and back."""
        stamp_ns = gate.open_stamp_ns if answer is None else max(answer.stamp_ns, 0)
        if stamp_ns is not None and stamp_ns != self.frame_ns:
            self.frame_ns = stamp_ns
            self.idle_stop.frame_begun(now_ns)
        if answer is not None:
            self.idle_stop.answered(now_ns, stopped=answer.control == FULL_BRAKE)

    def _note_lost(self) -> None:
        counts, (unanswered, late) = self._gate.counts, self._lost
        self._lost = (counts.unanswered, counts.late)
        for _ in range(counts.unanswered - unanswered):
            self._window.add('unanswered')
        if counts.late > late:
            self._window.add_late()

    def look_for_agent(self, now_ns: int, *, is_there: bool) -> None:
        """Note whether an agent, once seen, is gone for longer than a frame waits for it."""
        if is_there:
            self._agent_seen_ns = now_ns
        if isinstance(self._gate, Gate) and self._agent_seen_ns is not None:
            self._gate.agent_gone = now_ns - self._agent_seen_ns > self._gate.deadline_ns

    def findings(self) -> list[Finding]:
        return self._window.findings()

    def describe(self, rejected: int) -> Status:
        """Return the state of the gate, with ``rejected`` messages so far."""
        values: dict[str, object] = asdict(self._gate.counts)
        values |= {'idle_stops': self.idle_stop.count, 'rejected': rejected}
        if self._gate.geometry is None:
            return Status('vehicle_info has not arrived', is_warning=True, values=values)
        if self._last_outcome is None:
            return Status('no frame yet', values=values)
        if self.idle_stop.is_stopping:
            silence_s, count = self.idle_stop.limit_ns / 1e9, self.idle_stop.count
            text = f'no frame for {silence_s:.2g} s or longer, {count} so far: the car is braked; '
            text += 'are synchronizer and bridge running?'
            return Status(text, is_error=True, values=values)
        if self._last_outcome is not Outcome.OK:
            text = f'last frame {self._last_outcome.value}, {self._gate.counts.stopped} so far: '
            text += f'the car is braked; {self._remedy(self._last_outcome)}'
            is_idle = self._last_outcome is Outcome.IDLE
            return Status(text, is_error=not is_idle, is_warning=is_idle, values=values)
        if found := self.findings():
            return replace(loop_status(found), values=values, console='')
        return Status('every frame answered', values=values)

    def _remedy(self, outcome: Outcome) -> str:
        """Return what to do about a frame that got a stop."""
        gate = self._gate
        if outcome is not Outcome.NO_COMMAND or not isinstance(gate, Gate) or not gate.late_ns:
            return REMEDIES[outcome.value]
        return (
            f'the commands come {gate.late_ns / 1e9:.2f} s after their frames, later than '
            f'deadline_s {gate.deadline_ns / 1e9:g} s: raise deadline_s, at most to '
            f'{self._longest_deadline_s:g} s, or see what delays the camera or the agent'
        )

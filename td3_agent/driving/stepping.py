# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the lockstep: settings, barrier, pace, and interruptions.

Pure logic: no ROS, no clocks; steady time is an argument [ns].
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from td3_agent.driving.parameters import Params, param, reject_bad_roles

if TYPE_CHECKING:
    from collections.abc import Iterable

# A larger gap, more than an hour at 20 Hz, is the count of another simulator or a corrupt number:
# a record for each frame would fill memory and disk.
MOST_SKIPPED = 100_000
# Answers for frames that are not open yet; a sender of invalid stamps must not fill memory.
EARLY_KEPT = 16
INTERRUPTION_REPORTED_NS = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class LockstepParams(Params):
    """Settings of the lockstep."""

    role_names: tuple[str, ...] = param(
        ('ego_vehicle',), 'vehicles whose command every frame needs'
    )
    real_time_factor: float = param(
        1.0, 'simulated time per wall time; 0 is as fast as possible', low=0.0, high=100.0
    )
    max_frames: int = param(0, 'frames to step, then end; 0 is without end', low=0)
    pause_timeout_s: float = param(
        2.5,
        'silence after PAUSE that means that the bridge was paused already',
        unit='s',
        low=1.1,
        high=60.0,
    )
    step_timeout_s: float = param(
        5.0, 'silence after STEP_ONCE before it is sent again', unit='s', low=1.1, high=600.0
    )
    command_timeout_s: float = param(
        1.5, 'wait for a missing command before the next step', unit='s', low=0.1, high=600.0
    )
    idle_period_s: float = param(
        0.5,
        'time between idle ticks, with full brake, in which a paused bridge may spawn a vehicle, '
        'or a route may come; 0 turns them off',
        unit='s',
        low=0.0,
        high=60.0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        reject_bad_roles(self.role_names)


class Verdict(Enum):
    """How an answer was treated."""

    ACCEPTED = 'accepted'
    EARLY = 'kept for a frame not yet open'
    REPEATED = 'dropped, already answered'
    STALE = 'dropped, for an older frame'


class StepBarrier:
    """Holds one frame until every member has responded to it.

    Members are a set, not a counter: answering twice counts once.
    """

    def __init__(self, members: Iterable[str]) -> None:
        self._members = frozenset(members)
        self._missing: set[str] = set()
        self._early: dict[int, set[str]] = {}  # answers ahead of the clock, by stamp [ns]
        self._stamp_ns = -1

    @property
    def missing(self) -> frozenset[str]:
        """Members that have not answered; empty when the simulator may step."""
        return frozenset(self._missing)

    @property
    def stamp_ns(self) -> int:
        """Stamp of the open frame [ns]; -1 before the first."""
        return self._stamp_ns

    def open(self, stamp_ns: int) -> None:
        """Wait for the answers to simulated time ``stamp_ns`` [ns].

        Raises:
            ValueError: time did not grow; a restarted simulator needs a new barrier.
        """
        if stamp_ns <= self._stamp_ns:
            raise ValueError(f'simulated time went from {self._stamp_ns} to {stamp_ns} ns')
        self._stamp_ns = stamp_ns
        self._missing = set(self._members - self._early.pop(stamp_ns, set()))
        self._early = {s: who for s, who in self._early.items() if s > stamp_ns}

    def answer(self, member: str, stamp_ns: int) -> Verdict:
        """Record that ``member`` has responded to frame ``stamp_ns`` [ns]."""
        if stamp_ns < self._stamp_ns:
            return Verdict.STALE
        if stamp_ns > self._stamp_ns:
            self._early.setdefault(stamp_ns, set()).add(member)
            while len(self._early) > EARLY_KEPT:  # the nearest ones are needed
                del self._early[max(self._early)]
            return Verdict.EARLY
        if member not in self._missing:
            return Verdict.REPEATED
        self._missing.remove(member)
        return Verdict.ACCEPTED


class Pacer:
    """Absolute step times on the steady clock: no drift, and no burst after a stall."""

    LARGEST_LAG_STEPS = 5

    def __init__(self, period_ns: int) -> None:
        """Pace steps ``period_ns`` apart [ns]; 0 is as fast as possible."""
        self.period_ns = period_ns
        self._due_ns: int | None = None

    def due_ns(self, now_ns: int) -> int:
        if self.period_ns == 0 or self._due_ns is None:
            return now_ns
        return self._due_ns

    def stepped(self, now_ns: int) -> None:
        """Note a step; a lag beyond a few periods is dropped, not caught up."""
        due = now_ns if self._due_ns is None else self._due_ns
        if now_ns - due > self.LARGEST_LAG_STEPS * self.period_ns:
            due = now_ns
        self._due_ns = due + self.period_ns


class BridgeRequest(Enum):
    """Commands for /carla/control."""

    PAUSE = 'pause'
    STEP_ONCE = 'step once'


@dataclass
class PendingStep:
    """The newest step that was sent, and what the bridge has said about it.

    Attributes:
        frame_before: frame number when it was sent; None before any status.
        is_open: whether its frame has not been closed.
        is_seen: whether a status has shown its frame.
        is_idle: whether it is an idle tick.
        stamp_ns: simulated time of its frame [ns]; None while only the status has shown it.
        has_clock: whether /clock has shown its frame.
        ticked_ns: steady time of the first status of its frame [ns].
        acked_ns: steady time of its acknowledgement [ns].
    """

    frame_before: int | None = None
    is_open: bool = False
    is_seen: bool = True
    is_idle: bool = False
    stamp_ns: int | None = None
    has_clock: bool = False
    ticked_ns: int | None = None
    acked_ns: int = 0

    def has_ticked(self, frame: int | None) -> bool:
        """Whether the bridge's count has grown to ``frame`` since the step was sent."""
        return frame is not None and frame != self.frame_before

    def is_ours(self, frame: int | None) -> bool:
        """Whether ``frame`` is the one that the step asked for."""
        return frame is not None and self.frame_before in {None, frame - 1}


@dataclass(frozen=True)
class EndedFrame:
    """A frame whose step has ended.

    Attributes:
        frame: its number.
        stamp_ns: its simulated time [ns].
        is_idle: whether it was an idle tick.
    """

    frame: int
    stamp_ns: int
    is_idle: bool = False


@dataclass
class LockstepCounts:
    """What happened, and how often.

    Frames without a step of ours count as ``skipped`` if no status showed them, else as
    ``uninvited``.
    """

    steps: int = 0
    resent: int = 0
    no_command: int = 0
    early_acknowledgements: int = 0
    lost_acknowledgements: int = 0
    skipped: int = 0
    uninvited: int = 0
    repeated: int = 0
    restarts: int = 0
    no_clock: int = 0
    idle: int = 0


class Cause(Enum):
    """Why the series of frames is broken."""

    FREE_RUNNING = 'free_running'  # the bridge ticked without a step of ours
    RESTARTED = 'bridge_restarted'  # another bridge, or time ran back


@dataclass(frozen=True)
class Break:
    """A break between two frames.

    Attributes:
        cause: what happened.
        frames: ticks without a step of ours.
        stamp_ns: simulated time at its end [ns]; None where it is not known.
    """

    cause: Cause
    frames: int
    stamp_ns: int | None


class Interruptions:
    """Breaks in the series of frames, until they are entered and while they are reported.

    Attributes:
        ran_free: frames without a step of ours that have not been entered.
    """

    def __init__(self) -> None:
        self.ran_free = 0
        self._pending: Cause | None = None  # not entered
        self._newest: Cause | None = None  # reported
        self._reported_from_ns: int | None = None  # steady time of the first report

    def note(self, cause: Cause) -> None:
        """Note one; a bridge that runs freely after a restart counts as restarted."""
        if cause is Cause.FREE_RUNNING:
            cause = self._pending or cause
        self._pending = self._newest = cause
        self._reported_from_ns = None

    def take(self, clock_ns: int | None) -> list[Break]:
        """Return, once, the break; a second /clock alone is not a frame yet.

        Args:
            clock_ns: simulated time at its end [ns]; None where it is not known.
        """
        cause, free = self._pending, self.ran_free
        self._pending, self.ran_free = None, 0
        if cause is None or not (free or cause is Cause.RESTARTED):
            return []
        return [Break(cause, free, clock_ns)]

    def describe(self, now_ns: int, counts: LockstepCounts) -> str:
        """Describe the newest one, for a while after it was over [ns, steady]."""
        if self._newest is None:
            return ''
        self._reported_from_ns = (
            now_ns if self._reported_from_ns is None else self._reported_from_ns
        )
        if now_ns - self._reported_from_ns > INTERRUPTION_REPORTED_NS:
            self._newest = None
            return ''
        free = f'{counts.skipped + counts.uninvited} frames without a step so far'
        if self._newest is Cause.RESTARTED:
            text = f'the bridge was started again, or its time ran back: {counts.restarts} so far'
            return f'{text}, {free}'
        return (
            f'the bridge went on by itself and is paused again, {free}: PLAY or STEP_ONCE on '
            '/carla/control from another program, or a bridge that was started again'
        )

# SPDX-License-Identifier: Apache-2.0
"""Lockstep: decides when the simulator may take its next step.

Pure logic: no ROS, no clocks, no threads; every call is given the steady time [ns]. The bridge
is paused and stepped with STEP_ONCE, one in flight. A step is over when the bridge has
acknowledged it (the frame grew and the running flag went back to False) *and* every role's
command for that frame is out: the acknowledgement alone is also what a bridge sends after its
own 1.0 s timeout, or when its count is shifted. The count shifts when a command arrives while
the bridge's loop is between its last message of the frame and its wait, which a busy machine
makes likely; the bridge then acknowledges every frame at once, before its command.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from td3_agent.driving.frames import NANOSECONDS_PER_SECOND
from td3_agent.driving.pairing import JUMP_BACK_NS
from td3_agent.driving.parameters import Params, param, refuse_bad_roles

if TYPE_CHECKING:
    from collections.abc import Iterable


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
        'silence after PAUSE that means: was paused already',
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
        """Refuse bad values, and roles that are empty or named twice.

        Raises:
            ParameterError: naming each field and value.
        """
        super().__post_init__()
        refuse_bad_roles(self.role_names)


# More frames than this between two of ours are another simulator's count, or a corrupt number:
# a record for each would fill memory and disk. At 20 Hz it is more than an hour.
MOST_SKIPPED = 100_000
# Answers for instants that are not open yet; a sender of absurd stamps must not fill memory.
EARLY_KEPT = 16
# Silence that is worth telling: far beyond a tick, and in time for somebody to look.
NO_ANSWER = 'the bridge does not answer'
TROUBLE_NS = 500_000_000
INTERRUPTION_TOLD_NS = 2_000_000_000
# What is only on its way, as processes that are about to find each other, needs no idle tick.
FIRST_IDLE_NS = 2_000_000_000
# A status this much older than the newest was overtaken; one older still is a restart.
REORDERED_FRAMES = 3


class Verdict(Enum):
    """What became of one answer."""

    ACCEPTED = 'accepted'
    EARLY = 'kept for an instant not yet open'
    REPEATED = 'dropped, already answered'
    STALE = 'dropped, computed from an instant already left'


class StepBarrier:
    """Holds one simulated instant until every member has answered it.

    Members are a set, not a counter: answering twice counts once.
    """

    def __init__(self, members: Iterable[str]) -> None:
        """Wait for ``members``; no instant is open yet."""
        self._members = frozenset(members)
        self._missing: set[str] = set()
        self._early: dict[int, set[str]] = {}  # answers ahead of the clock, by stamp [ns]
        self._stamp_ns = -1

    @property
    def missing(self) -> frozenset[str]:
        """Members still to answer; empty when the simulator may step."""
        return frozenset(self._missing)

    @property
    def stamp_ns(self) -> int:
        """The instant that is open [ns]; -1 before the first."""
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
        """Record that ``member`` answered the observation of ``stamp_ns`` [ns]."""
        if stamp_ns < self._stamp_ns:
            return Verdict.STALE
        if stamp_ns > self._stamp_ns:
            self._early.setdefault(stamp_ns, set()).add(member)
            while len(self._early) > EARLY_KEPT:  # the nearest ones are those that will be open
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
        """Return the steady time of the next step [ns]."""
        if self.period_ns == 0 or self._due_ns is None:
            return now_ns
        return self._due_ns

    def stepped(self, now_ns: int) -> None:
        """Take note of a step; a lag beyond a few periods is given up, not caught up."""
        due = now_ns if self._due_ns is None else self._due_ns
        if now_ns - due > self.LARGEST_LAG_STEPS * self.period_ns:
            due = now_ns
        self._due_ns = due + self.period_ns


class Phase(Enum):
    """Where the lockstep stands."""

    PAUSING = 'waiting for the bridge to pause'
    READY = 'ready to step'
    STEPPING = 'a step is in flight'
    HOLDING = 'waiting for missing commands'
    DONE = 'ended'


class Request(Enum):
    """What is to be sent to /carla/control."""

    PAUSE = 'pause'
    STEP_ONCE = 'step once'


class Cause(Enum):
    """Why the frames of a drive do not follow each other."""

    FREE_RUNNING = 'free_running'  # the bridge ticked without a step of ours
    RESTARTED = 'bridge_restarted'  # another bridge, or another time


@dataclass(frozen=True)
class Break:
    """Something between two frames.

    Attributes:
        cause: what happened.
        frames: how often the bridge ticked without a step of ours.
        stamp_ns: simulated time at its end [ns]; None where it is not known.
    """

    cause: Cause
    frames: int
    stamp_ns: int | None


@dataclass(frozen=True)
class EndedFrame:
    """A frame whose step has ended.

    Attributes:
        frame: its number.
        stamp_ns: its simulated time [ns].
        is_idle: whether it was an idle tick, and no frame of the drive.
    """

    frame: int
    stamp_ns: int
    is_idle: bool = False


@dataclass
class LockstepCounts:
    """How often what happened.

    Frames without a step of ours are counted as ``skipped`` when only a later one was announced,
    as ``uninvited`` otherwise.
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


class Lockstep:
    """The synchronizer's decisions: feed it events, send what :meth:`poll` asks for.

    A bridge that ticks without a step of ours (PLAY from another program, a bridge that was
    started again) is paused again, whatever the phase.
    """

    def __init__(self, params: LockstepParams, step_ns: int) -> None:
        """Step a simulator whose fixed step is ``step_ns`` [ns]."""
        factor = params.real_time_factor
        self._params = params
        self._barrier = StepBarrier(params.role_names)
        self._pacer = Pacer(round(step_ns / factor) if factor > 0.0 else 0)
        self._frame: int | None = None
        self._clock_ns: int | None = None
        self._is_clockless = False  # whether odometry alone told of the newest frame
        self._step = _Step()
        self._idle_due_ns: int | None = None  # steady time of the next idle tick
        self._is_held = False  # whether the bridge has been paused for us
        self._asked_to_pause = False
        self._sent_ns: int | None = None  # steady time of the request in flight
        self._heard_ns = 0  # steady time of the newest status
        self._break: Cause | None = None  # since the last step
        self._ran_free = 0  # frames without a step of ours since then
        self._interruption: Cause | None = None  # the newest one
        self._told_from_ns: int | None = None  # steady time when it was first told
        self._ended: list[EndedFrame | Break] = []
        self.phase = Phase.PAUSING
        self.counts = LockstepCounts()

    @property
    def frame(self) -> int | None:
        """Newest frame number of the bridge; None before any status."""
        return self._frame

    @property
    def stamp_ns(self) -> int | None:
        """Newest simulated time [ns]; None before any clock."""
        return self._clock_ns

    @property
    def missing(self) -> frozenset[str]:
        """Roles whose command for the newest frame has not been seen."""
        return self._barrier.missing

    def stop(self) -> None:
        """End: ask for nothing any more."""
        self._tell_break()
        self.phase = Phase.DONE

    def take_ended(self) -> list[EndedFrame | Break]:
        """Return, once, what has ended since the last call, in order."""
        ended, self._ended = self._ended, []
        return ended

    def restart(self) -> None:
        """Take note that another bridge, or another time, has begun: pause it, then go on."""
        self.counts.restarts += 1
        self._interrupt(Cause.RESTARTED)
        self._barrier = StepBarrier(self._params.role_names)
        self._clock_ns = self._frame = None  # the other one will run back too
        self._is_clockless = False
        self._pause()

    def on_status(self, frame: int, *, running: bool, now_ns: int) -> None:
        """Take a CarlaStatus: frame number and synchronous_mode_running."""
        self._heard_ns = now_ns
        # A bridge says 0 before it has asked the simulator for its count.
        grown = frame - self._frame if self._frame else min(frame, 1)
        if -REORDERED_FRAMES <= grown < 0:
            return  # overtaken on its way: it says nothing new
        if self._frame is None and self.phase is Phase.STEPPING and running:
            self._step.frame_before = frame  # first ever heard: the flag of our step, no tick
        elif grown < 0 or grown > MOST_SKIPPED:
            self.restart()
        elif grown > 0 and self._frame is not None:
            self._on_new_frame(grown)
        self._frame = frame
        if self.phase is Phase.PAUSING and not running and grown >= 0:
            self._is_held = True
            self._paused(now_ns)
        if self.phase is Phase.STEPPING and self._has_ticked():
            self._on_ticked(running=running, now_ns=now_ns)

    def on_clock(self, stamp_ns: int) -> None:
        """Take a /clock message [ns]; a repeated or slightly older one says nothing new."""
        if stamp_ns == self._clock_ns and self._is_clockless:  # only overtaken by the odometry
            self.counts.no_clock -= 1
        elif not self._open(stamp_ns):
            return
        elif self.phase is Phase.STEPPING and self._step.has_clock:
            self._lose()
        self._is_clockless = False
        self._step.has_clock = True

    def on_motion(self, stamp_ns: int) -> None:
        """Take the stamp of an odometry [ns]: it opens the frame when /clock did not.

        The frame is told apart and can be entered into the ledger; its end waits for /clock as
        for a missing command.
        """
        if self._clock_ns is None or stamp_ns <= self._clock_ns:
            return
        self._open(stamp_ns)
        self._is_clockless = True
        self.counts.no_clock += 1

    def _open(self, stamp_ns: int) -> bool:
        """Begin the frame ``stamp_ns`` [ns]; return whether it is new."""
        if self._clock_ns is not None and stamp_ns <= self._clock_ns:
            if self._clock_ns - stamp_ns <= JUMP_BACK_NS:
                return False
            self.restart()
        self._clock_ns = stamp_ns
        self._barrier.open(stamp_ns)
        if self._step.stamp_ns is None:
            self._step.stamp_ns = stamp_ns
        return True

    def on_command(self, role_name: str, stamp_ns: int) -> Verdict:
        """Take note that the gate's command of one role for a frame is out."""
        verdict = self._barrier.answer(role_name, stamp_ns)
        if verdict is Verdict.REPEATED:
            self.counts.repeated += 1
        return verdict

    def poll(
        self,
        now_ns: int,
        *,
        vehicles_present: bool = True,
        gates_present: bool = True,
        needs_ticks: bool = False,
    ) -> Request | None:
        """Return what to send now, if anything.

        Args:
            now_ns: steady time [ns].
            vehicles_present: whether every role has a vehicle with its sensors; without that the
                bridge is not paused, for a paused one spawns nothing, and one that is paused gets
                idle ticks.
            gates_present: whether someone publishes commands for every role; without that a
                paused bridge stays paused.
            needs_ticks: whether idle ticks may bring what is missing for a step.
        """
        if self.phase is Phase.PAUSING:
            return self._poll_pausing(now_ns, asks=vehicles_present)
        if self.phase is Phase.STEPPING:
            return self._poll_stepping(now_ns)
        if self.phase is Phase.HOLDING:
            self._poll_holding(now_ns)
        if self.phase is not Phase.READY:
            return None
        if vehicles_present and gates_present:
            self._idle_due_ns = None
            return self._poll_ready(now_ns)
        return self._poll_idle(now_ns) if needs_ticks or not vehicles_present else None

    def wake_ns(self, now_ns: int) -> int | None:
        """Return the steady time [ns] by which :meth:`poll` wants to be called again."""
        if self.phase is Phase.PAUSING:
            return (self._sent_ns or now_ns) + _ns(self._params.pause_timeout_s)
        if self.phase is Phase.STEPPING:
            since_ns = max(self._sent_ns or now_ns, self._heard_ns)
            return since_ns + self._step_patience_ns
        if self.phase is Phase.HOLDING:
            return self._step.acked_ns + _ns(self._params.command_timeout_s)
        if self.phase is Phase.READY:
            return self._idle_due_ns or self._pacer.due_ns(now_ns)
        return None

    def _poll_pausing(self, now_ns: int, *, asks: bool) -> Request | None:
        """Ask for the pause, and again while the bridge goes on ticking."""
        if self._sent_ns is None or (asks and not self._asked_to_pause):
            self._sent_ns = self._heard_ns = now_ns
            self._asked_to_pause = asks
            return Request.PAUSE if asks else None
        if now_ns - max(self._sent_ns, self._heard_ns) >= _ns(self._params.pause_timeout_s):
            self._is_held = self._is_held or self._asked_to_pause
            self._paused(now_ns)  # status is sent on change only: silent means paused
        elif asks and now_ns - self._sent_ns >= _ns(self._params.pause_timeout_s):
            self._sent_ns = now_ns
            return Request.PAUSE
        return None

    def _pause(self) -> None:
        """Wait for the bridge to pause, unless the drive has ended."""
        self._sent_ns, self._asked_to_pause = None, False
        if self.phase is not Phase.DONE:
            self.phase = Phase.PAUSING

    def _paused(self, now_ns: int) -> None:
        """Leave the wait for the pause; a step in which time ran back is one of ours."""
        self._tell_break()
        self.phase = Phase.READY
        if self._step.is_open and self._step.stamp_ns is not None and self._is_ours():
            self._step.acked_ns = now_ns
            self.phase = Phase.HOLDING

    def _interrupt(self, cause: Cause) -> None:
        """Take note of what breaks the row of frames, to be told and entered."""
        self._break = self._interruption = cause
        self._told_from_ns = None

    def _tell_break(self) -> None:
        """Enter what happened since the last step; a second /clock alone is not a frame yet."""
        if self._break is not None and (self._break is Cause.RESTARTED or self._ran_free):
            self._ended.append(Break(self._break, self._ran_free, self._clock_ns))
        self._break, self._ran_free = None, 0

    def _poll_ready(self, now_ns: int) -> Request | None:
        """Step when it is time, or end."""
        if self._params.max_frames and self.counts.steps >= self._params.max_frames:
            self.phase = Phase.DONE
            return None
        if now_ns < self._pacer.due_ns(now_ns):
            return None
        self._pacer.stepped(now_ns)
        self.counts.steps += 1
        return self._begin_step(now_ns)

    def _poll_idle(self, now_ns: int) -> Request | None:
        """Tick slowly, so that what is missing can appear; the gates know by then, and brake."""
        period_ns = _ns(self._params.idle_period_s)
        if self._idle_due_ns is None:
            self._idle_due_ns = now_ns + max(period_ns, FIRST_IDLE_NS)
        if not period_ns or now_ns < self._idle_due_ns:
            return None
        self._idle_due_ns = now_ns + period_ns
        self.counts.idle += 1
        return self._begin_step(now_ns, is_idle=True)

    def _begin_step(self, now_ns: int, *, is_idle: bool = False) -> Request:
        """Send one step, and wait for it."""
        self._step = _Step(self._frame, is_open=True, is_seen=False, is_idle=is_idle)
        self._sent_ns = now_ns
        self.phase = Phase.STEPPING
        return Request.STEP_ONCE

    def _poll_stepping(self, now_ns: int) -> Request | None:
        """Send the step again only if the frame did not grow.

        A single step always ends in a pause: after it has ticked, silence means paused.
        """
        since_ns = max(self._sent_ns or now_ns, self._heard_ns)
        if now_ns - since_ns < self._step_patience_ns:
            return None
        if self._has_ticked() or self._step.stamp_ns is not None:
            self.counts.lost_acknowledgements += 1
            if not self._has_ticked() and self._frame is not None:
                self._frame += 1  # time has grown: it is the word of it that was lost
                self._step.is_seen = True
            self._acknowledged(now_ns)
            return None
        self._sent_ns = now_ns
        self.counts.resent += 1
        return Request.STEP_ONCE

    @property
    def _step_patience_ns(self) -> int:
        """Silence after a step before it is sent again [ns]; the drive waits for an idle tick."""
        params = self._params
        patience_s = params.pause_timeout_s if self._step.is_idle else params.step_timeout_s
        return _ns(patience_s)

    def _on_ticked(self, *, running: bool, now_ns: int) -> None:
        """Take a status since the tick: the acknowledgement, or the word that it goes on."""
        if not running:
            self._acknowledged(now_ns)
            self.counts.early_acknowledgements += bool(self._barrier.missing)
        elif self._step.ticked_ns is None:
            self._step.ticked_ns = now_ns
        elif now_ns - self._step.ticked_ns > _ns(self._params.pause_timeout_s):
            self._lose()  # longer than any wait for a command: this is no single step

    def _acknowledged(self, now_ns: int) -> None:
        """Wait for what is missing of a frame whose step has ended."""
        self._is_held = True
        self._step.acked_ns = now_ns
        self.phase = Phase.HOLDING

    def _poll_holding(self, now_ns: int) -> None:
        """Leave an acknowledged step when all commands are in, or have been waited for."""
        is_complete = self._step.has_clock and not self._barrier.missing
        if not is_complete:
            if now_ns - self._step.acked_ns < _ns(self._params.command_timeout_s):
                return
            self.counts.no_command += not self._step.is_idle
        self._close_step()
        self.phase = Phase.READY

    def _close_step(self) -> None:
        """Enter the frame of the step in flight; without a time of its own it is a gap."""
        step = self._step
        stamp_ns = self._clock_ns if step.is_idle and step.stamp_ns is None else step.stamp_ns
        if step.is_open and stamp_ns is not None and self._is_ours():
            self._ended.append(EndedFrame(self._frame or 0, stamp_ns, step.is_idle))
        step.is_open = False

    def trouble(self, now_ns: int) -> str:
        """Return what the bridge owes us at the steady time ``now_ns`` [ns]; empty if nothing."""
        if self.phase is Phase.STEPPING:
            if now_ns - max(self._sent_ns or now_ns, self._heard_ns) <= TROUBLE_NS:
                return ''
            if self._has_ticked() or self._step.stamp_ns is not None:
                return f'{NO_ANSWER}: the newest frame is not acknowledged on /carla/status'
            return (
                f'{NO_ANSWER}: STEP_ONCE has no effect, {self.counts.resent} sent again so far; '
                'is it running?'
            )
        is_late = now_ns - self._step.acked_ns > TROUBLE_NS and not self._step.is_idle
        if self.phase is Phase.HOLDING and is_late:
            if not self._step.has_clock:
                return f'frame {self._frame} has no /clock: does the bridge publish it?'
            return f'frame {self._frame} has no command: are the gates running?'
        return ''

    def interruption(self, now_ns: int) -> str:
        """Return what has interrupted the steps a short while ago [ns, steady]; empty if nothing.

        It is told for a while, because taking the bridge back takes milliseconds.
        """
        if self._interruption is None:
            return ''
        self._told_from_ns = now_ns if self._told_from_ns is None else self._told_from_ns
        if now_ns - self._told_from_ns > INTERRUPTION_TOLD_NS:
            self._interruption = None
            return ''
        counts = self.counts
        free = f'{counts.skipped + counts.uninvited} frames without a step so far'
        if self._interruption is Cause.RESTARTED:
            told = f'the bridge was started again, or its time ran back: {counts.restarts} so far'
            return f'{told}, {free}'
        return (
            f'the bridge went on by itself and is paused again, {free}: PLAY or STEP_ONCE on '
            '/carla/control from another program, or a bridge that was started again'
        )

    def _has_ticked(self) -> bool:
        """Whether the frame grew since the step was sent."""
        return self._frame is not None and self._frame != self._step.frame_before

    def _is_ours(self) -> bool:
        """Whether the newest frame is the one that the step in flight has asked for."""
        before = self._step.frame_before
        return self._frame is not None and before in {None, self._frame - 1}

    def _on_new_frame(self, grown: int) -> None:
        """Count frames without a step of ours, and take the bridge back."""
        asked_for = not self._step.is_seen
        self._step.is_seen = True
        free = grown - asked_for
        if not free:
            return
        if self._is_held:  # before, it may play as it likes
            self.counts.skipped += grown - 1
            self.counts.uninvited += not asked_for
            self._ran_free += free
        self._lose()

    def _lose(self) -> None:
        """Take note that the bridge goes on by itself: pause it again."""
        if self._is_held:
            self._interrupt(self._break or Cause.FREE_RUNNING)
        else:
            self._step.is_open = False  # whatever ticked, it was not for us
        if self.phase is not Phase.PAUSING:
            if self.phase in {Phase.STEPPING, Phase.HOLDING}:
                self._close_step()
            self._pause()


@dataclass
class _Step:
    """The newest step that was sent, and what has been heard of it.

    Attributes:
        frame_before: frame number when it was sent; None before any status.
        is_open: whether its frame has not been closed.
        is_seen: whether a status has told of its frame.
        is_idle: whether it is an idle tick.
        stamp_ns: simulated time of its frame [ns]; None while only the status tells of it.
        has_clock: whether /clock has told of its frame.
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


def _ns(seconds: float) -> int:
    """Return seconds as integer nanoseconds."""
    return round(seconds * NANOSECONDS_PER_SECOND)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lockstep: decides when the simulator may take its next step.

Pure logic: no ROS, no clocks, no threads; every call takes the steady time [ns]. The bridge is
paused and stepped with STEP_ONCE, one in flight. A step is over when the bridge has acknowledged
it (the frame number grew and the running flag is False again) *and* every role's command for that
frame is out. The acknowledgement alone proves nothing: a bridge also sends it after its own 1.0 s
timeout, or when its count is shifted. The count shifts when a command arrives while the bridge is
between its last message of the frame and its wait, which is likely on a busy machine; the bridge
then acknowledges every frame at once, before its command.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from td3_agent.driving.geometry import JUMP_BACK_NS, NANOSECONDS_PER_SECOND
from td3_agent.driving.stepping import (
    MOST_SKIPPED,
    Break,
    BridgeRequest,
    Cause,
    EndedFrame,
    Interruptions,
    LockstepCounts,
    LockstepParams,
    Pacer,
    PendingStep,
    StepBarrier,
    Verdict,
)

if TYPE_CHECKING:
    from collections.abc import Callable

# Silence that is reported: far longer than a tick.
NO_ANSWER = 'the bridge does not answer'
FAULT_NS = 500_000_000
# Processes that are still discovering each other need no idle tick.
FIRST_IDLE_NS = 2_000_000_000
# A status this much older than the newest was overtaken; an older one means a restart.
REORDERED_FRAMES = 3


class Phase(Enum):
    """The state of the lockstep."""

    PAUSING = 'waiting for the bridge to pause'
    READY = 'ready to step'
    STEPPING = 'a step is in flight'
    WAITING = 'waiting for missing commands'
    DONE = 'ended'


class Event(Enum):
    """What changes the phase; see ``Lockstep.TRANSITIONS``."""

    PAUSED = 'the bridge has paused, or is silent and so was paused already'
    PAUSED_IN_STEP = 'the same, in the frame of a step of ours'
    DUE = 'everything is there, and the pace asks for the next step'
    IDLE_DUE = 'an idle tick is due'
    ENOUGH = 'max_frames steps were made'
    ACKNOWLEDGED = 'the step has ticked, and the bridge has paused again'
    OVER = 'all commands of the frame are in, or their time is up'
    WENT_ON = 'the bridge ticked without a step of ours'
    RESTARTED = 'another bridge, or another time, has begun'
    STOPPED = 'the drive ends'


class Lockstep:
    """Decides when to step: takes events, and :meth:`poll` returns what to send.

    The table ``TRANSITIONS`` holds its phases. A bridge that ticks without a step of ours (PLAY
    from another program, a restarted bridge) is paused again, in any phase.
    """

    def __init__(self, params: LockstepParams, step_ns: int) -> None:
        """Step a simulator whose fixed step is ``step_ns`` [ns]."""
        factor = params.real_time_factor
        self._params = params
        self._barrier = StepBarrier(params.role_names)
        self._pacer = Pacer(round(step_ns / factor) if factor > 0.0 else 0)
        self._frame: int | None = None
        self._clock_ns: int | None = None
        self._is_clockless = False  # whether only odometry has shown the newest frame
        self._step = PendingStep()
        self._idle_due_ns: int | None = None  # steady time of the next idle tick
        self._is_held = False  # whether the bridge has paused on our request
        self._asked_to_pause = False
        self._sent_ns: int | None = None  # steady time of the request in flight
        self._last_status_ns = 0  # steady time of the newest status
        self._interruptions = Interruptions()
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

    def take_ended(self) -> list[EndedFrame | Break]:
        """Return, once, the frames and breaks since the last call, in order."""
        ended, self._ended = self._ended, []
        return ended

    # Events

    def _on(self, event: Event, now_ns: int = 0) -> BridgeRequest | None:
        found = self.TRANSITIONS.get((self.phase, event))
        if found is None:
            return None
        self.phase, act = found
        return act(self, now_ns)

    def stop(self) -> None:
        self._on(Event.STOPPED)

    def restart(self) -> None:
        """Note that another bridge, or another time, has begun: pause it, then step it."""
        self.counts.restarts += 1
        self._interruptions.note(Cause.RESTARTED)
        self._barrier = StepBarrier(self._params.role_names)
        self._clock_ns = self._frame = None  # the other one will run back too
        self._is_clockless = False
        self._on(Event.RESTARTED)

    def on_status(self, frame: int, *, running: bool, now_ns: int) -> None:
        """Take a CarlaStatus: frame number and synchronous_mode_running."""
        self._last_status_ns = now_ns
        # A bridge reports 0 before it knows the simulator's count.
        grown = frame - self._frame if self._frame else min(frame, 1)
        if -REORDERED_FRAMES <= grown < 0:
            return  # overtaken: nothing new
        if self._frame is None and self.phase is Phase.STEPPING and running:
            self._step.frame_before = frame  # the first status: it shows our step, not a tick
        elif grown < 0 or grown > MOST_SKIPPED:
            self.restart()
        elif grown > 0 and self._frame is not None:
            self._on_new_frame(grown)
        self._frame = frame
        if self.phase is Phase.PAUSING and not running and grown >= 0:
            self._is_held = True
            self._on_paused(now_ns)
        if self.phase is Phase.STEPPING and self._step.has_ticked(self._frame):
            self._on_ticked(running=running, now_ns=now_ns)

    def on_clock(self, stamp_ns: int) -> None:
        """Take a /clock message [ns]; a repeated or slightly older one is ignored."""
        if stamp_ns == self._clock_ns and self._is_clockless:  # only overtaken by the odometry
            self.counts.no_clock -= 1
        elif not self._open(stamp_ns):
            return
        elif self.phase is Phase.STEPPING and self._step.has_clock:
            self._on_went_on()
        self._is_clockless = False
        self._step.has_clock = True

    def on_motion(self, stamp_ns: int) -> None:
        """Take the stamp of an odometry [ns]: it opens the frame when /clock did not.

        The frame gets its own ledger record; its end waits for /clock as for a missing command.
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
        """Note that the gate has sent the command of one role for a frame."""
        verdict = self._barrier.answer(role_name, stamp_ns)
        if verdict is Verdict.REPEATED:
            self.counts.repeated += 1
        return verdict

    def _on_new_frame(self, grown: int) -> None:
        """Count frames without a step of ours, and pause the bridge again."""
        asked_for = not self._step.is_seen
        self._step.is_seen = True
        free = grown - asked_for
        if not free:
            return
        if self._is_held:  # before the first pause it may run
            self.counts.skipped += grown - 1
            self.counts.uninvited += not asked_for
            self._interruptions.ran_free += free
        self._on_went_on()

    def _on_ticked(self, *, running: bool, now_ns: int) -> None:
        """Take a status since the tick: the acknowledgement, or that the bridge runs on."""
        if not running:
            self._on(Event.ACKNOWLEDGED, now_ns)
            self.counts.early_acknowledgements += bool(self._barrier.missing)
        elif self._step.ticked_ns is None:
            self._step.ticked_ns = now_ns
        elif now_ns - self._step.ticked_ns > _ns(self._params.pause_timeout_s):
            self._on_went_on()  # longer than any wait for a command: not a single step

    def _on_went_on(self) -> None:
        """Note that the bridge runs by itself: pause it again."""
        if self._is_held:
            self._interruptions.note(Cause.FREE_RUNNING)
        else:
            self._step.is_open = False  # whatever ticked, it was not for us
        self._on(Event.WENT_ON)

    def _on_paused(self, now_ns: int) -> None:
        """Leave the wait for the pause; a step during which time ran back is still ours."""
        step = self._step
        in_step = step.is_open and step.stamp_ns is not None and step.is_ours(self._frame)
        self._on(Event.PAUSED_IN_STEP if in_step else Event.PAUSED, now_ns)

    # What to send

    def poll(
        self,
        now_ns: int,
        *,
        vehicles_present: bool = True,
        gates_present: bool = True,
        needs_ticks: bool = False,
    ) -> BridgeRequest | None:
        """Return what to send now, if anything.

        Args:
            now_ns: steady time [ns].
            vehicles_present: whether every role has a vehicle with its sensors; otherwise the
                bridge is not paused, since a paused one spawns nothing, or gets idle ticks.
            gates_present: whether every role has a gate; otherwise a paused bridge stays paused.
            needs_ticks: whether idle ticks may bring what is missing.
        """
        if self.phase is Phase.PAUSING:
            return self._poll_pausing(now_ns, asks=vehicles_present)
        if self.phase is Phase.STEPPING:
            return self._poll_stepping(now_ns)
        if self.phase is Phase.WAITING:
            self._poll_waiting(now_ns)
        if self.phase is not Phase.READY:
            return None
        if vehicles_present and gates_present:
            self._idle_due_ns = None
            return self._poll_ready(now_ns)
        return self._poll_idle(now_ns) if needs_ticks or not vehicles_present else None

    def wake_ns(self, now_ns: int) -> int | None:
        """Return the steady time [ns] of the next due :meth:`poll`."""
        if self.phase is Phase.PAUSING:
            return (self._sent_ns or now_ns) + _ns(self._params.pause_timeout_s)
        if self.phase is Phase.STEPPING:
            return self._answer_due_ns(now_ns)
        if self.phase is Phase.WAITING:
            return self._step.acked_ns + _ns(self._params.command_timeout_s)
        if self.phase is Phase.READY:
            return self._idle_due_ns or self._pacer.due_ns(now_ns)
        return None

    def _poll_pausing(self, now_ns: int, *, asks: bool) -> BridgeRequest | None:
        """Ask for the pause, and again while the bridge ticks."""
        if self._sent_ns is None or (asks and not self._asked_to_pause):
            self._sent_ns = self._last_status_ns = now_ns
            self._asked_to_pause = asks
            return BridgeRequest.PAUSE if asks else None
        if now_ns - max(self._sent_ns, self._last_status_ns) >= _ns(self._params.pause_timeout_s):
            self._is_held = self._is_held or self._asked_to_pause
            self._on_paused(now_ns)  # the bridge sends status on change only: silence means paused
        elif asks and now_ns - self._sent_ns >= _ns(self._params.pause_timeout_s):
            self._sent_ns = now_ns
            return BridgeRequest.PAUSE
        return None

    def _poll_ready(self, now_ns: int) -> BridgeRequest | None:
        if self._params.max_frames and self.counts.steps >= self._params.max_frames:
            return self._on(Event.ENOUGH)
        if now_ns < self._pacer.due_ns(now_ns):
            return None
        return self._on(Event.DUE, now_ns)

    def _poll_idle(self, now_ns: int) -> BridgeRequest | None:
        """Tick slowly, so that what is missing can appear; the gates know, and brake."""
        period_ns = _ns(self._params.idle_period_s)
        if self._idle_due_ns is None:
            self._idle_due_ns = now_ns + max(period_ns, FIRST_IDLE_NS)
        if not period_ns or now_ns < self._idle_due_ns:
            return None
        self._idle_due_ns = now_ns + period_ns
        return self._on(Event.IDLE_DUE, now_ns)

    def _poll_stepping(self, now_ns: int) -> BridgeRequest | None:
        """Send the step again only if the frame did not grow.

        A single step always ends in a pause: silence after its tick means paused.
        """
        if now_ns < self._answer_due_ns(now_ns):
            return None
        if self._step.has_ticked(self._frame) or self._step.stamp_ns is not None:
            self.counts.lost_acknowledgements += 1
            if not self._step.has_ticked(self._frame) and self._frame is not None:
                self._frame += 1  # time has grown: the status was lost
                self._step.is_seen = True
            return self._on(Event.ACKNOWLEDGED, now_ns)
        self._sent_ns = now_ns
        self.counts.resent += 1
        return BridgeRequest.STEP_ONCE

    def _answer_due_ns(self, now_ns: int) -> int:
        """Return when the bridge must have acknowledged a step; idle ticks have less time."""
        params = self._params
        patience_s = params.pause_timeout_s if self._step.is_idle else params.step_timeout_s
        return max(self._sent_ns or now_ns, self._last_status_ns) + _ns(patience_s)

    def _poll_waiting(self, now_ns: int) -> None:
        """Leave an acknowledged step when all commands are in, or time is up."""
        is_complete = self._step.has_clock and not self._barrier.missing
        if not is_complete:
            if now_ns - self._step.acked_ns < _ns(self._params.command_timeout_s):
                return
            self.counts.no_command += not self._step.is_idle
        self._on(Event.OVER)

    # Actions of the table

    def _begin_pausing(self, _: int) -> None:
        self._sent_ns, self._asked_to_pause = None, False

    def _leave_step(self, now_ns: int) -> None:
        self._close_step(now_ns)
        self._begin_pausing(now_ns)

    def _enter_break(self, _: int) -> None:
        """Enter what broke the steps; a second /clock alone is not a frame yet."""
        self._ended += self._interruptions.take(self._clock_ns)

    def _resume_step(self, now_ns: int) -> None:
        self._enter_break(now_ns)
        self._step.acked_ns = now_ns

    def _begin_step(self, now_ns: int) -> BridgeRequest:
        self._pacer.stepped(now_ns)
        self.counts.steps += 1
        return self._send_step(now_ns, is_idle=False)

    def _begin_idle_tick(self, now_ns: int) -> BridgeRequest:
        self.counts.idle += 1
        return self._send_step(now_ns, is_idle=True)

    def _send_step(self, now_ns: int, *, is_idle: bool) -> BridgeRequest:
        self._step = PendingStep(self._frame, is_open=True, is_seen=False, is_idle=is_idle)
        self._sent_ns = now_ns
        return BridgeRequest.STEP_ONCE

    def _wait_for_commands(self, now_ns: int) -> None:
        """Wait for what a frame lacks after its step has ended."""
        self._is_held = True
        self._step.acked_ns = now_ns

    def _close_step(self, _: int) -> None:
        """Enter the frame of the step in flight; one without a stamp is a gap."""
        step = self._step
        stamp_ns = self._clock_ns if step.is_idle and step.stamp_ns is None else step.stamp_ns
        if step.is_open and stamp_ns is not None and step.is_ours(self._frame):
            self._ended.append(EndedFrame(self._frame or 0, stamp_ns, step.is_idle))
        step.is_open = False

    # Diagnostics

    def fault(self, now_ns: int) -> str:
        """Return what the bridge should have done by ``now_ns`` [ns, steady]; empty if nothing."""
        if self.phase is Phase.STEPPING:
            if now_ns - max(self._sent_ns or now_ns, self._last_status_ns) <= FAULT_NS:
                return ''
            if self._step.has_ticked(self._frame) or self._step.stamp_ns is not None:
                return f'{NO_ANSWER}: the newest frame is not acknowledged on /carla/status'
            return (
                f'{NO_ANSWER}: STEP_ONCE has no effect, {self.counts.resent} sent again so far; '
                'is it running?'
            )
        is_late = now_ns - self._step.acked_ns > FAULT_NS and not self._step.is_idle
        if self.phase is Phase.WAITING and is_late:
            if not self._step.has_clock:
                return f'frame {self._frame} has no /clock: does the bridge publish it?'
            return f'frame {self._frame} has no command: are the gates running?'
        return ''

    def interruption(self, now_ns: int) -> str:
        """Return what interrupted the steps a short while ago [ns, steady]; empty if nothing."""
        return self._interruptions.describe(now_ns, self.counts)

    # From phase and event to the next phase and an action. Other pairs change nothing: a bridge
    # may still tick before it pauses, and DONE is the end.
    TRANSITIONS: ClassVar[
        dict[tuple[Phase, Event], tuple[Phase, Callable[[Lockstep, int], BridgeRequest | None]]]
    ] = {
        (Phase.PAUSING, Event.PAUSED): (Phase.READY, _enter_break),
        (Phase.PAUSING, Event.PAUSED_IN_STEP): (Phase.WAITING, _resume_step),
        (Phase.PAUSING, Event.RESTARTED): (Phase.PAUSING, _begin_pausing),
        (Phase.READY, Event.DUE): (Phase.STEPPING, _begin_step),
        (Phase.READY, Event.IDLE_DUE): (Phase.STEPPING, _begin_idle_tick),
        (Phase.READY, Event.ENOUGH): (Phase.DONE, _enter_break),
        (Phase.READY, Event.WENT_ON): (Phase.PAUSING, _begin_pausing),
        (Phase.READY, Event.RESTARTED): (Phase.PAUSING, _begin_pausing),
        (Phase.STEPPING, Event.ACKNOWLEDGED): (Phase.WAITING, _wait_for_commands),
        (Phase.STEPPING, Event.WENT_ON): (Phase.PAUSING, _leave_step),
        (Phase.STEPPING, Event.RESTARTED): (Phase.PAUSING, _begin_pausing),
        (Phase.WAITING, Event.OVER): (Phase.READY, _close_step),
        (Phase.WAITING, Event.WENT_ON): (Phase.PAUSING, _leave_step),
        (Phase.WAITING, Event.RESTARTED): (Phase.PAUSING, _begin_pausing),
        **dict.fromkeys(((phase, Event.STOPPED) for phase in Phase), (Phase.DONE, _enter_break)),
    }


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS_PER_SECOND)

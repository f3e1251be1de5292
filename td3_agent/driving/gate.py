# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The gate: exactly one vehicle command per frame, from exactly one publisher.

Pure logic: no ROS, no clocks, no threads; every call takes the steady time. The CARLA ROS bridge
counts commands without checking their stamps, so a second command for a frame, or one before the
frame is complete, shifts all later ones (docs/architecture.md). Hence:

* a frame is answered once, when the agent's command *and* the odometry of that frame are in;
* at the deadline, below the bridge's own 1.0 s, it is answered with full brake;
* while the agent is gone, with full brake as soon as the odometry is in, so that the other
  vehicles do not wait for it;
* what arrives for an older frame is dropped and counted;
* the bridge counts an idle stop, sent because no frame followed, for a later frame: a frame whose
  step ends before the gate has answered gets no command.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, ClassVar

from td3_agent.driving.geometry import JUMP_BACK_NS

if TYPE_CHECKING:
    from collections.abc import Callable

    from td3_agent.driving.command import TwistCommand, VehicleControl
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState
    from td3_agent.driving.velocity_control import TwistConverter

EARLY_FRAMES_KEPT = 4
FRAMES_REMEMBERED = 32  # to measure how late a command is
# Frames whose wait one stop may end: two, if it arrives while the bridge begins to wait.
MOST_IN_ADVANCE = 2
REJECTED_IN_A_ROW = 3  # a single bad message is no reason to brake; the next one is 50 ms away


class Outcome(Enum):
    """Which command a frame got, and why."""

    OK = 'ok'  # the agent's command
    NO_COMMAND = 'stopped_no_command'  # none before the deadline
    NO_ODOMETRY = 'stopped_no_odometry'  # none before the deadline
    NO_VEHICLE_INFO = 'stopped_no_vehicle_info'  # wheel angles unknown
    INVALID_COMMAND = 'stopped_invalid_command'  # not finite
    SILENCE = 'stopped_silence'  # an idle stop: no frame followed
    IN_ADVANCE = 'stopped_in_advance'  # an idle stop before the frame is its command
    IDLE = 'stopped_idle'  # an idle tick: the car must not drive


@dataclass(frozen=True)
class GateResponse:
    """The one command of a frame.

    Attributes:
        stamp_ns: simulated time of the frame [ns].
        control: float32-rounded, in range.
        outcome: why this command.
        twist_received_ns: when the agent's command for the frame arrived [ns, steady]; None if
            that is unknown.
    """

    stamp_ns: int
    control: VehicleControl
    outcome: Outcome
    twist_received_ns: int | None = None

    @property
    def is_sent_already(self) -> bool:
        """Whether the bridge has it: another command would count for the next frame."""
        return self.outcome is Outcome.IN_ADVANCE


@dataclass(frozen=True)
class _ReceivedTwist:
    """A command of the agent, and when it arrived [ns, steady]."""

    twist: TwistCommand
    received_ns: int | None


@dataclass
class GateCounts:
    """What happened, and how often."""

    answered: int = 0
    stopped: int = 0
    late: int = 0
    repeated: int = 0
    invalid: int = 0
    unanswered: int = 0
    resets: int = 0
    in_advance: int = 0


class FrameState(Enum):
    """The state of the newest frame."""

    ANSWERED = 'it has its answer, or there was none yet'
    OPEN = 'it waits for its answer'
    DOUBTED = 'it waits, and the bridge may have counted an idle stop for it'


class FrameEvent(Enum):
    """What changes the state of a frame; see ``Gate.TRANSITIONS``."""

    BEGUN = 'a new frame'
    BEGUN_IN_DOUBT = 'a new frame, soon after an idle stop'
    NEWS = 'an input of its answer arrived'
    STEP_ENDED = 'the bridge is known to have ended the step of a frame'
    HALF_TIME = 'half of the deadline is over: its step would have ended without us'
    DEADLINE = 'the deadline is over'


@dataclass
class Gate:
    """Answers each frame of the lockstep once; the table ``TRANSITIONS`` says when.

    Attributes:
        converter: from Twist to vehicle command.
        deadline_ns: longest wait for an answer since the frame was first seen [ns, steady].
        geometry: of the vehicle; None until vehicle_info has arrived.
        agent_gone: whether no command will come.
        is_idle: whether the ticks are idle.
        counts: what happened so far.
        late_ns: delay of the newest late command after its frame [ns]; 0 before any.
    """

    converter: TwistConverter
    deadline_ns: int = 400_000_000
    geometry: VehicleGeometry | None = None
    agent_gone: bool = False
    is_idle: bool = False
    counts: GateCounts = field(default_factory=GateCounts)
    late_ns: int = 0
    _frame: FrameState = FrameState.ANSWERED
    _stamp_ns: int = -1  # newest frame seen
    _due_ns: int = 0  # steady time of its deadline
    _state: VehicleState | None = None
    _ended_ns: int = -1  # newest frame whose step has ended, by the synchronizer
    _doubts: int = 0  # frames from now on for which the bridge may have counted a stop
    _commands: dict[int, _ReceivedTwist] = field(default_factory=dict)
    _begun_ns: dict[int, int] = field(default_factory=dict)  # steady time of frames, by stamp

    @property
    def due_ns(self) -> int | None:
        """Steady time [ns] at which :meth:`on_time` must be called; None when nothing waits."""
        if self._frame is FrameState.ANSWERED:
            return None
        is_doubted = self._frame is FrameState.DOUBTED
        return self._due_ns - self.deadline_ns // 2 if is_doubted else self._due_ns

    @property
    def open_stamp_ns(self) -> int | None:
        """Stamp [ns] of the frame that waits for its answer; None when nothing waits."""
        return None if self._frame is FrameState.ANSWERED else self._stamp_ns

    def _on(self, event: FrameEvent) -> GateResponse | None:
        found = self.TRANSITIONS.get((self._frame, event))
        if found is None:
            return None
        self._frame, act = found
        return act(self)

    def on_frame(self, stamp_ns: int, now_ns: int) -> GateResponse | None:
        """Note that frame ``stamp_ns`` exists (from /clock or odometry)."""
        if stamp_ns <= self._stamp_ns:
            if self._stamp_ns - stamp_ns <= JUMP_BACK_NS:
                return None
            self._restart()
        # If the bridge went on without it: an answer now would count for the next frame.
        self.counts.unanswered += self._frame is not FrameState.ANSWERED
        self._stamp_ns, self._state = stamp_ns, None
        self._due_ns = now_ns + self.deadline_ns
        self._begun_ns[stamp_ns] = now_ns
        if len(self._begun_ns) > FRAMES_REMEMBERED:
            del self._begun_ns[next(iter(self._begun_ns))]
        self._commands = {s: received for s, received in self._commands.items() if s >= stamp_ns}
        return self._on(FrameEvent.BEGUN_IN_DOUBT if self._doubts > 0 else FrameEvent.BEGUN)

    def on_state(self, state: VehicleState, now_ns: int) -> GateResponse | None:
        """Take the odometry of a frame; it opens the frame when /clock did not."""
        answer = self.on_frame(state.stamp_ns, now_ns)
        if answer is not None:
            return answer
        if state.stamp_ns == self.open_stamp_ns:
            self._state = state
        return self._on(FrameEvent.NEWS)

    def idle_stop(self) -> VehicleControl:
        """Return the stop to send because no frame follows the last one.

        The bridge may count it for the next frame or not: see :meth:`on_step_ended`.
        """
        self._doubts = MOST_IN_ADVANCE
        return self.converter.stopped()

    def on_step_ended(self, stamp_ns: int) -> GateResponse | None:
        """Note that the bridge has ended the step of frame ``stamp_ns`` [ns].

        If that is the open frame, the bridge has counted an idle stop for it.
        """
        self._ended_ns = stamp_ns
        return self._on(FrameEvent.STEP_ENDED)

    def on_rejected_state(self, _: int) -> GateResponse | None:
        """Ignore rejected odometry: the deadline ends its frame."""

    def on_geometry(self, geometry: VehicleGeometry) -> GateResponse | None:
        """Take the vehicle's geometry; a frame may have been waiting for it."""
        self.geometry = geometry
        return self._on(FrameEvent.NEWS)

    def on_command(
        self, stamp_ns: int, twist: TwistCommand, now_ns: int | None = None
    ) -> GateResponse | None:
        """Take the agent's command for frame ``stamp_ns``; it may overtake the odometry."""
        if stamp_ns in self._commands:
            self.counts.repeated += 1
            return None
        if stamp_ns <= self._stamp_ns and stamp_ns != self.open_stamp_ns:
            self.counts.late += 1
            if now_ns is not None:
                self.late_ns = now_ns - self._begun_ns.get(stamp_ns, now_ns)
            return None
        if not twist.is_finite:
            self.counts.invalid += 1
        if len(self._commands) >= EARLY_FRAMES_KEPT:
            del self._commands[min(self._commands)]
        self._commands[stamp_ns] = _ReceivedTwist(twist, now_ns)
        return self._on(FrameEvent.NEWS)

    def on_time(self, now_ns: int) -> GateResponse | None:
        """Answer with full brake when the deadline of the open frame has passed.

        A frame in doubt is answered after half of the deadline.
        """
        due_ns = self.due_ns
        if due_ns is None or now_ns < due_ns:
            return None
        answer = self._on(FrameEvent.HALF_TIME)
        if answer is not None or now_ns < self._due_ns:
            return answer
        return self._on(FrameEvent.DEADLINE)

    def _answer_in_advance(self) -> GateResponse | None:
        """End a frame whose step has ended although no command was sent."""
        if self._ended_ns != self._stamp_ns:
            return None
        self._doubts -= 1
        self.counts.in_advance += 1
        return self._answer(Outcome.IN_ADVANCE)

    def _answer_without_doubt(self) -> GateResponse | None:
        self._doubts = 0
        return self._answer_if_complete()

    def _answer_if_complete(self) -> GateResponse | None:
        """Answer the open frame when nothing that may still arrive is missing."""
        # Even an invalid command waits for the odometry: a stop before the frame is complete
        # would shift the bridge's count.
        if self._state is None:
            return None
        outcome = self._outcome()
        waits = outcome is Outcome.NO_COMMAND and not self.agent_gone
        return None if waits or outcome is Outcome.NO_VEHICLE_INFO else self._answer(outcome)

    def _answer_anyhow(self) -> GateResponse:
        return self._answer(self._outcome())

    def _outcome(self) -> Outcome:
        """Return the outcome of the open frame with what has arrived."""
        received = self._commands.get(self._stamp_ns)
        if self.is_idle:
            return Outcome.IDLE
        if received is None:
            return Outcome.NO_COMMAND
        if self._state is None:
            return Outcome.NO_ODOMETRY
        if not received.twist.is_finite:
            return Outcome.INVALID_COMMAND
        return Outcome.NO_VEHICLE_INFO if self.geometry is None else Outcome.OK

    def _answer(self, outcome: Outcome) -> GateResponse:
        """Close the frame: with the agent's command, or full brake."""
        self.counts.answered += 1
        self._frame = FrameState.ANSWERED
        received = self._commands.pop(self._stamp_ns, None)
        if outcome is Outcome.OK and received and self._state and self.geometry:
            control = self.converter.convert(received.twist, self._state, self.geometry)
        else:
            self.counts.stopped += 1
            control = self.converter.stopped()
        received_ns = None if received is None else received.received_ns
        return GateResponse(self._stamp_ns, control, outcome, received_ns)

    def _restart(self) -> None:
        self.counts.resets += 1
        self._commands.clear()
        self._frame, self._ended_ns, self._doubts = FrameState.ANSWERED, -1, 0
        self.converter.reset()

    # From state and event to the next state and an action; an answer ends the frame. Other pairs
    # change nothing.
    TRANSITIONS: ClassVar[
        dict[
            tuple[FrameState, FrameEvent], tuple[FrameState, Callable[[Gate], GateResponse | None]]
        ]
    ] = {
        **dict.fromkeys(
            ((state, FrameEvent.BEGUN) for state in FrameState),
            (FrameState.OPEN, _answer_if_complete),
        ),
        **dict.fromkeys(
            ((state, FrameEvent.BEGUN_IN_DOUBT) for state in FrameState),
            (FrameState.DOUBTED, _answer_in_advance),
        ),
        (FrameState.DOUBTED, FrameEvent.STEP_ENDED): (FrameState.DOUBTED, _answer_in_advance),
        (FrameState.DOUBTED, FrameEvent.HALF_TIME): (FrameState.OPEN, _answer_without_doubt),
        (FrameState.OPEN, FrameEvent.NEWS): (FrameState.OPEN, _answer_if_complete),
        (FrameState.OPEN, FrameEvent.DEADLINE): (FrameState.OPEN, _answer_anyhow),
    }


@dataclass
class FreeRunningGate:
    """Converts commands as they arrive and brakes when they stop.

    For a bridge that does not wait, a bag or a real robot: the newest command counts, and silence
    on the *steady* clock means full brake. It lasts ``repeat_ns`` longer than the silence: a
    process that was suspended finds old commands first, and nothing in them tells their age.

    Attributes:
        converter: from Twist to vehicle command.
        timeout_ns: silence of commands or odometry after which the car is braked [ns, steady]:
            with an old speed the speed loop would keep accelerating.
        repeat_ns: period of full brake during silence [ns, steady].
        geometry: of the vehicle; None until vehicle_info has arrived.
        counts: what happened so far.
    """

    converter: TwistConverter
    timeout_ns: int = 400_000_000
    repeat_ns: int = 50_000_000
    geometry: VehicleGeometry | None = None
    counts: GateCounts = field(default_factory=GateCounts)
    _state: VehicleState | None = None
    _state_received_ns: int = 0
    _rejected_in_a_row: int = 0
    _last_command_ns: int = -1
    _due_ns: int | None = None
    _is_silent: bool = False
    _braked_until_ns: int = 0

    @property
    def due_ns(self) -> int | None:
        """Steady time [ns] at which :meth:`on_time` must be called; None before any command."""
        return self._due_ns

    def on_state(self, state: VehicleState, now_ns: int) -> GateResponse | None:
        self._state, self._state_received_ns = state, now_ns
        self._rejected_in_a_row = 0
        return None

    def on_rejected_state(self, now_ns: int) -> GateResponse | None:
        """Note rejected odometry; the third in a row brakes the car."""
        self._rejected_in_a_row += 1
        if self._rejected_in_a_row < REJECTED_IN_A_ROW or self._due_ns is None:
            return None
        self._state = None  # the old state is outdated
        self._due_ns = now_ns + self.repeat_ns
        return self._stop(Outcome.NO_ODOMETRY)

    def on_geometry(self, geometry: VehicleGeometry) -> GateResponse | None:
        self.geometry = geometry
        return None

    def on_command(self, stamp_ns: int, twist: TwistCommand, now_ns: int) -> GateResponse | None:
        """Convert a command at once; a command older than the last is dropped."""
        if stamp_ns < self._last_command_ns <= stamp_ns + JUMP_BACK_NS:
            self.counts.late += 1
            return None
        self._last_command_ns = stamp_ns
        if self._is_silent or (self._due_ns is not None and now_ns > self._due_ns):
            self._braked_until_ns = now_ns + self.repeat_ns
        self._due_ns, self._is_silent = now_ns + self.timeout_ns, False
        if not twist.is_finite:
            self.counts.invalid += 1
            return self._stop(Outcome.INVALID_COMMAND)
        if self._state is None or now_ns - self._state_received_ns > self.timeout_ns:
            return self._stop(Outcome.NO_ODOMETRY)
        if self.geometry is None:
            return self._stop(Outcome.NO_VEHICLE_INFO)
        if now_ns < self._braked_until_ns:
            return self._stop(Outcome.NO_COMMAND)
        self.counts.answered += 1
        control = self.converter.convert(twist, self._state, self.geometry)
        return GateResponse(stamp_ns, control, Outcome.OK)

    def on_time(self, now_ns: int) -> GateResponse | None:
        """Brake, repeatedly, while no command comes."""
        if self._due_ns is None or now_ns < self._due_ns:
            return None
        self._due_ns, self._is_silent = now_ns + self.repeat_ns, True
        return self._stop(Outcome.NO_COMMAND)

    def _stop(self, outcome: Outcome) -> GateResponse:
        """Return full brake with the stamp of the last command."""
        self.counts.answered += 1
        self.counts.stopped += 1
        return GateResponse(self._last_command_ns, self.converter.stopped(), outcome)

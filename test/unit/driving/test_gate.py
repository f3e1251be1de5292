# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The gate: exactly one answer per frame, after its odometry, whatever comes in what order."""

from dataclasses import dataclass, field

from harness.gates import (
    DEADLINE_NS,
    DRIVE,
    GEOMETRY,
    NOT_FINITE,
    START_NS,
    STEP_NS,
    answer_frame,
    expected,
    make_gate,
    moving,
    stamp,
)
from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import (
    FULL_BRAKE,
    TwistCommand,
    TwistConvention,
    control_from_upstream_twist,
)
from td3_agent.driving.gate import (
    Gate,
    Outcome,
)
from td3_agent.driving.velocity_control import (
    VelocityControlParams,
)


def test_command_after_odometry_is_answered_at_once():
    answer = answer_frame(make_gate(), 0)
    assert (answer.stamp_ns, answer.outcome) == (stamp(0), Outcome.OK)
    assert answer.control == expected(DRIVE, moving(stamp(0)))


def test_odometry_opens_the_frame_when_the_clock_did_not():
    gate = make_gate()
    assert gate.on_state(moving(stamp(0)), 7) is None
    assert (gate.open_stamp_ns, gate.due_ns) == (stamp(0), 7 + DEADLINE_NS)
    assert gate.on_command(stamp(0), DRIVE).outcome is Outcome.OK
    assert gate.on_frame(stamp(0), 8) is None  # the clock comes last
    assert gate.due_ns is None


def test_clock_after_odometry_does_not_move_the_deadline():
    gate = make_gate()
    gate.on_state(moving(stamp(0)), 7)
    gate.on_frame(stamp(0), 1_000_000)
    assert gate.due_ns == 7 + DEADLINE_NS


@pytest.mark.parametrize(
    ('events', 'outcome'),
    [
        ('clock', Outcome.NO_COMMAND),
        ('clock odometry', Outcome.NO_COMMAND),
        ('clock command', Outcome.NO_ODOMETRY),
        ('clock nan', Outcome.NO_ODOMETRY),
        ('clock odometry command', Outcome.NO_VEHICLE_INFO),
    ],
)
def test_deadline_brakes_fully_and_says_why(events, outcome):
    gate = make_gate(geometry=None)
    happen = {
        'clock': lambda: gate.on_frame(stamp(0), 100),
        'odometry': lambda: gate.on_state(moving(stamp(0)), 200),
        'command': lambda: gate.on_command(stamp(0), DRIVE),
        'nan': lambda: gate.on_command(stamp(0), NOT_FINITE),
    }
    assert [happen[event]() for event in events.split()] == [None] * len(events.split())
    assert gate.on_time(100 + DEADLINE_NS - 1) is None
    answer = gate.on_time(100 + DEADLINE_NS)
    assert (answer.stamp_ns, answer.control, answer.outcome) == (stamp(0), FULL_BRAKE, outcome)
    assert gate.on_time(100 + 9 * DEADLINE_NS) is None  # once
    assert (gate.counts.answered, gate.counts.stopped) == (1, 1)


@pytest.mark.parametrize('odometry_first', [False, True])
def test_command_that_is_not_finite_is_full_brake_but_only_after_the_odometry(odometry_first):
    gate = make_gate()
    gate.on_frame(stamp(0), 0)
    steps = [
        lambda: gate.on_command(stamp(0), NOT_FINITE),
        lambda: gate.on_state(moving(stamp(0)), 0),
    ]
    first, second = reversed(steps) if odometry_first else steps
    assert first() is None
    answer = second()
    assert (answer.control, answer.outcome) == (FULL_BRAKE, Outcome.INVALID_COMMAND)
    assert (gate.counts.invalid, gate.counts.stopped) == (1, 1)


def test_command_that_is_not_finite_does_not_wait_for_vehicle_info():
    gate = make_gate(geometry=None)
    assert answer_frame(gate, 0, NOT_FINITE).outcome is Outcome.INVALID_COMMAND


def test_late_command_is_dropped_and_counted():
    gate = make_gate()
    gate.on_state(moving(stamp(0)), 0)
    gate.on_time(DEADLINE_NS)
    assert gate.on_command(stamp(0), DRIVE) is None
    gate.on_frame(stamp(1), 0)
    assert gate.on_command(stamp(0), DRIVE) is None
    assert (gate.counts.late, gate.counts.answered) == (2, 1)


def test_second_command_is_counted_and_the_first_one_kept():
    gate = make_gate()
    gate.on_frame(stamp(0), 0)
    gate.on_command(stamp(0), DRIVE)
    gate.on_command(stamp(0), TwistCommand(0.0, -1.0))
    answer = gate.on_state(moving(stamp(0)), 0)
    assert answer.control == expected(DRIVE, moving(stamp(0)))
    assert gate.counts.repeated == 1


def test_frame_that_was_left_unanswered_is_never_answered_later():
    gate = make_gate()
    gate.on_frame(stamp(0), 0)
    gate.on_command(stamp(0), DRIVE)
    assert gate.on_frame(stamp(1), 10) is None
    assert gate.on_state(moving(stamp(0)), 20) is None
    answer = gate.on_time(10 + DEADLINE_NS)
    assert answer.stamp_ns == stamp(1)
    assert (gate.counts.unanswered, gate.counts.answered) == (1, 1)


def test_vehicle_info_that_arrives_late_releases_the_waiting_frame():
    gate = make_gate(geometry=None)
    assert answer_frame(gate, 0) is None
    answer = gate.on_geometry(GEOMETRY)
    assert (answer.stamp_ns, answer.outcome) == (stamp(0), Outcome.OK)
    assert gate.on_geometry(GEOMETRY) is None
    assert answer_frame(gate, 1).outcome is Outcome.OK


def test_small_step_back_of_time_is_ignored():
    gate = make_gate()
    answer_frame(gate, 5)
    assert gate.on_frame(stamp(4), 0) is None
    assert gate.on_state(moving(stamp(4)), 0) is None
    assert gate.due_ns is None
    assert gate.counts.resets == 0


def test_restart_begins_anew_and_old_commands_are_gone():
    gate, fresh = make_gate(), make_gate()
    for frame in range(20):
        answer_frame(gate, frame)
    gate.on_command(5 * STEP_NS + START_NS * 2, DRIVE)  # for a frame that never comes
    assert gate.on_frame(STEP_NS, 0) is None  # the simulator was restarted
    assert (gate.open_stamp_ns, gate.counts.resets) == (STEP_NS, 1)
    for target in (gate, fresh):
        target.on_state(moving(STEP_NS), 0)
    answer = gate.on_command(STEP_NS, DRIVE)
    assert answer == fresh.on_command(STEP_NS, DRIVE)  # ramps and integral too
    assert gate.on_state(moving(2 * STEP_NS), 0) is None
    assert gate.counts.resets == 1


def test_command_from_before_a_restart_does_not_serve_the_same_stamp_after_it():
    gate = make_gate()
    gate.on_frame(stamp(20), 0)
    gate.on_command(stamp(21), DRIVE)
    gate.on_frame(0, 0)  # the simulator was restarted
    assert gate.on_state(moving(stamp(21)), 0) is None


def test_ramps_start_anew_after_a_stop():
    gate = make_gate()
    for frame in range(20):
        answer_frame(gate, frame)
    gate.on_state(moving(stamp(20)), 0)
    gate.on_time(DEADLINE_NS)
    control = answer_frame(gate, 21).control
    since_converted_s = 2 * STEP_NS / 1e9
    rate = VelocityControlParams().max_throttle_rate
    assert control.throttle == pytest.approx(rate * since_converted_s)


def test_upstream_convention_is_upstreams_conversion_rounded_to_the_wire():
    gate = make_gate(convention=TwistConvention.CARLA_TWIST_TO_CONTROL)
    for frame, twist in enumerate(
        [TwistCommand(3.3, 0.1), TwistCommand(0.0, 0.3), TwistCommand(-0.1, 0.0)]
    ):
        wanted = control_from_upstream_twist(twist, GEOMETRY.max_steer_angle_rad)
        assert answer_frame(gate, frame, twist).control == wanted.as_float32()
    assert answer_frame(gate, 3, TwistCommand(0.0, 0.0)).control == FULL_BRAKE


@dataclass
class FedGate:
    """Feeds one gate, and keeps every answer with what was known when it came."""

    gate: Gate = field(default_factory=lambda: make_gate(geometry=None))
    now_ns: int = 0
    seen: set = field(default_factory=set)
    answers: list = field(default_factory=list)

    def happen(self, event, frame):
        self.now_ns += 1_000_000
        self.seen.add((event, frame))
        answer = {
            'clock': lambda: self.gate.on_frame(stamp(frame), self.now_ns),
            'odometry': lambda: self.gate.on_state(moving(stamp(frame)), self.now_ns),
            'command': lambda: self.gate.on_command(stamp(frame), DRIVE),
            'nan': lambda: self.gate.on_command(stamp(frame), NOT_FINITE),
            'vehicle_info': lambda: self.gate.on_geometry(GEOMETRY),
            'time': lambda: self.gate.on_time(self.now_ns),
        }[event]()
        self.note(answer)

    def note(self, answer):
        if answer is None:
            return
        self.answers.append(answer)
        frame = (answer.stamp_ns - START_NS) // STEP_NS
        if answer.outcome in {Outcome.OK, Outcome.INVALID_COMMAND}:
            assert ('odometry', frame) in self.seen  # race R1
        if answer.outcome is Outcome.OK:
            assert ('command', frame) in self.seen
            assert any(event == 'vehicle_info' for event, _ in self.seen)
        else:
            assert answer.control == FULL_BRAKE
        assert answer.control.faults() == []

    def run_out(self):
        """Let the deadline of the open frame pass."""
        if self.gate.due_ns is not None:
            self.now_ns = max(self.now_ns, self.gate.due_ns)
            self.note(self.gate.on_time(self.now_ns))


EVENTS = ['clock', 'odometry', 'command', 'nan', 'vehicle_info', 'time']


@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 8)), max_size=60))
def test_no_frame_is_ever_answered_twice_or_out_of_order(events):
    transport = FedGate()
    for event, frame in events:
        transport.happen(event, frame)
        transport.happen('time', 0)
    stamps = [answer.stamp_ns for answer in transport.answers]
    assert stamps == sorted(set(stamps))
    counts = transport.gate.counts
    stopped = [a for a in transport.answers if a.outcome is not Outcome.OK]
    assert (counts.answered, counts.stopped) == (len(stamps), len(stopped))


@given(
    st.lists(
        st.lists(
            st.tuples(st.sampled_from(EVENTS), st.sampled_from([-2, -1, 0, 0, 0, 1])),
            max_size=8,
        ),
        min_size=1,
        max_size=8,
    )
)
def test_every_frame_of_a_waiting_bridge_gets_exactly_one_answer(frames):
    transport, announced = FedGate(), set()
    for frame, events in enumerate(frames):
        transport.happen('clock', frame)
        announced.add(frame)
        for event, offset in events:
            # What a frame brings before it exists can only be a command out of thin air.
            if offset <= 0 or event in {'command', 'nan'}:
                transport.happen(event, max(frame + offset, 0))
        transport.run_out()
        assert [a.stamp_ns for a in transport.answers] == [stamp(f) for f in sorted(announced)]
    assert transport.gate.counts.unanswered == 0
    assert transport.gate.due_ns is None


@given(st.data())
def test_odometry_command_and_clock_in_any_order_and_number_give_the_same_drive(data):
    transport, plain = FedGate(), make_gate()
    transport.happen('vehicle_info', 0)
    for frame in range(4):
        halves = data.draw(st.permutations(['clock', 'odometry', 'command'] * 2))
        for event in halves:
            transport.happen(event, frame)
        assert transport.answers[frame:] == [answer_frame(plain, frame)]


@pytest.mark.parametrize('early', [False, True])
def test_answer_tells_when_the_command_came(early):
    gate = make_gate()
    if early:
        gate.on_command(stamp(0), DRIVE, 700)
    gate.on_frame(stamp(0), 800)
    answer = gate.on_state(moving(stamp(0)), 900)
    if not early:
        answer = gate.on_command(stamp(0), DRIVE, 1000)
    assert answer.twist_received_ns == (700 if early else 1000)


def test_stop_for_want_of_a_command_names_no_time_of_it():
    gate = make_gate()
    gate.on_state(moving(stamp(0)), 0)
    assert gate.on_time(DEADLINE_NS).twist_received_ns is None


class TestAgentGone:
    def gate(self):
        gate = make_gate()
        gate.agent_gone = True
        return gate

    @pytest.mark.parametrize('clock_first', [True, False])
    def test_frame_is_braked_as_soon_as_it_is_complete(self, clock_first):
        gate = self.gate()
        if clock_first:
            assert gate.on_frame(stamp(0), 0) is None  # an answer now would come too early
        answer = gate.on_state(moving(stamp(0)), 1)
        assert (answer.stamp_ns, answer.control) == (stamp(0), FULL_BRAKE)
        assert answer.outcome is Outcome.NO_COMMAND
        assert gate.due_ns is None
        assert gate.on_frame(stamp(0), 2) is None  # once

    def test_command_that_came_before_is_still_obeyed(self):
        gate = self.gate()
        gate.on_frame(stamp(0), 0)
        gate.on_command(stamp(0), DRIVE)
        assert gate.on_state(moving(stamp(0)), 1).outcome is Outcome.OK

    def test_agent_that_is_back_is_waited_for(self):
        gate = self.gate()
        assert gate.on_state(moving(stamp(0)), 0) is not None
        gate.agent_gone = False
        assert gate.on_state(moving(stamp(1)), 1) is None
        assert gate.on_command(stamp(1), DRIVE).outcome is Outcome.OK


class TestIdle:
    def gate(self):
        gate = make_gate()
        gate.is_idle = True
        return gate

    @pytest.mark.parametrize('commanded', [True, False])
    def test_frame_is_braked_as_soon_as_it_is_complete_whatever_the_agent_says(self, commanded):
        gate = self.gate()
        gate.on_frame(stamp(0), 0)
        if commanded:
            assert gate.on_command(stamp(0), DRIVE) is None  # an answer now would be race R1
        answer = gate.on_state(moving(stamp(0)), 1)
        assert (answer.control, answer.outcome) == (FULL_BRAKE, Outcome.IDLE)
        assert gate.on_command(stamp(0), DRIVE) is None  # once

    def test_frame_without_odometry_is_braked_at_its_deadline(self):
        gate = self.gate()
        gate.on_frame(stamp(0), 0)
        answer = gate.on_time(DEADLINE_NS)
        assert (answer.control, answer.outcome) == (FULL_BRAKE, Outcome.IDLE)

    def test_drive_goes_on_with_the_next_frame(self):
        gate = self.gate()
        gate.on_state(moving(stamp(0)), 0)
        gate.is_idle = False
        assert answer_frame(gate, 1).outcome is Outcome.OK


def test_command_that_is_too_late_tells_how_late():
    gate = make_gate()
    gate.on_state(moving(stamp(0)), 0)
    assert gate.on_time(DEADLINE_NS).outcome is Outcome.NO_COMMAND
    gate.on_state(moving(stamp(1)), DEADLINE_NS + 1)
    assert gate.on_command(stamp(0), DRIVE, 620_000_000) is None
    assert gate.late_ns == 620_000_000

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Commands where no frame asks for them: a freely running gate, and stops between frames."""

from harness.gates import (
    DEADLINE_NS,
    DRIVE,
    GEOMETRY,
    NOT_FINITE,
    answer_frame,
    expected,
    make_gate,
    moving,
    stamp,
)
from harness.stage import ROLE, BridgeLoop, Stage
from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import (
    FULL_BRAKE,
    TwistConvention,
    VehicleControl,
)
from td3_agent.driving.gate import (
    FreeRunningGate,
    Outcome,
)
from td3_agent.driving.stepping import BridgeRequest
from td3_agent.driving.velocity_control import (
    TwistConverter,
)


def free_running(geometry=GEOMETRY):
    return FreeRunningGate(TwistConverter(TwistConvention.VELOCITY), geometry=geometry)


class TestFreeRunningGate:
    def test_every_command_is_converted_at_once(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        answer = gate.on_command(stamp(0), DRIVE, 0)
        assert (answer.stamp_ns, answer.outcome) == (stamp(0), Outcome.OK)
        assert answer.control == expected(DRIVE, moving(stamp(0)))

    def test_silence_brakes_and_goes_on_braking(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        gate.on_command(stamp(0), DRIVE, 1000)
        assert gate.due_ns == 1000 + gate.timeout_ns
        assert gate.on_time(gate.due_ns - 1) is None
        for _ in range(3):
            now_ns = gate.due_ns
            answer = gate.on_time(now_ns)
            assert (answer.control, answer.outcome) == (FULL_BRAKE, Outcome.NO_COMMAND)
            assert gate.due_ns == now_ns + gate.repeat_ns
        assert gate.counts.stopped == 3

    @pytest.mark.parametrize('suspended', [False, True])
    def test_command_after_silence_drives_again(self, suspended):
        """But not those that waited for a suspended gate: they come all at once."""
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        gate.on_command(stamp(0), DRIVE, 0)
        if not suspended:
            gate.on_time(gate.due_ns)
        woken_ns = 10**10
        gate.on_state(moving(stamp(1)), woken_ns)
        for n in range(10):
            answer = gate.on_command(stamp(1 + n), DRIVE, woken_ns + n * gate.repeat_ns // 10)
            assert (answer.outcome, answer.control) == (Outcome.NO_COMMAND, FULL_BRAKE)
        now_ns = woken_ns + gate.repeat_ns
        assert gate.on_command(stamp(11), DRIVE, now_ns).outcome is Outcome.OK
        assert gate.due_ns == now_ns + gate.timeout_ns

    def test_old_odometry_brakes_although_commands_go_on(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        at_the_limit, too_late = gate.timeout_ns, gate.timeout_ns + 1
        assert gate.on_command(stamp(0), DRIVE, at_the_limit).outcome is Outcome.OK
        assert gate.on_command(stamp(1), DRIVE, too_late).outcome is Outcome.NO_ODOMETRY

    def test_third_rejected_odometry_in_a_row_brakes_at_once(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        assert gate.on_command(stamp(0), DRIVE, 1).outcome is Outcome.OK
        assert [gate.on_rejected_state(2), gate.on_rejected_state(3)] == [None, None]
        gate.on_state(moving(stamp(1)), 4)  # one good message begins the count anew
        assert [gate.on_rejected_state(5), gate.on_rejected_state(6)] == [None, None]
        stop = gate.on_rejected_state(7)
        assert (stop.outcome, stop.control) == (Outcome.NO_ODOMETRY, FULL_BRAKE)
        assert gate.on_command(stamp(2), DRIVE, 8).outcome is Outcome.NO_ODOMETRY
        gate.on_state(moving(stamp(3)), 9)
        assert gate.on_command(stamp(3), DRIVE, 10).outcome is Outcome.OK

    def test_rejected_odometry_before_any_command_says_nothing(self):
        gate = free_running()
        assert [gate.on_rejected_state(n) for n in range(5)] == [None] * 5

    def test_older_command_is_dropped_and_does_not_feed_the_watchdog(self):
        gate = free_running()
        gate.on_state(moving(stamp(1)), 0)
        gate.on_command(stamp(1), DRIVE, 0)
        assert gate.on_command(stamp(0), DRIVE, 1000) is None
        assert (gate.counts.late, gate.due_ns) == (1, gate.timeout_ns)

    def test_time_that_runs_back_is_followed(self):
        gate = free_running()
        gate.on_state(moving(stamp(100)), 0)
        gate.on_command(stamp(100), DRIVE, 0)
        gate.on_state(moving(0), 0)
        assert gate.on_command(0, DRIVE, 1000).outcome is Outcome.OK  # a looped bag

    @pytest.mark.parametrize(
        ('geometry', 'with_odometry', 'twist', 'outcome'),
        [
            (GEOMETRY, False, DRIVE, Outcome.NO_ODOMETRY),
            (None, True, DRIVE, Outcome.NO_VEHICLE_INFO),
            (GEOMETRY, True, NOT_FINITE, Outcome.INVALID_COMMAND),
        ],
    )
    def test_what_cannot_be_converted_is_full_brake(self, geometry, with_odometry, twist, outcome):
        gate = free_running(geometry)
        if with_odometry:
            gate.on_state(moving(stamp(0)), 0)
        answer = gate.on_command(stamp(0), twist, 0)
        assert (answer.control, answer.outcome) == (FULL_BRAKE, outcome)
        assert (gate.counts.answered, gate.counts.stopped) == (1, 1)

    def test_vehicle_info_serves_from_the_next_command_on(self):
        gate = free_running(geometry=None)
        gate.on_state(moving(stamp(0)), 0)
        assert gate.on_geometry(GEOMETRY) is None
        assert gate.on_command(stamp(0), DRIVE, 0).outcome is Outcome.OK


def test_converter_forgets_on_reset():
    used, fresh = (TwistConverter(TwistConvention.VELOCITY) for _ in range(2))
    for frame in range(20):
        used.convert(DRIVE, moving(stamp(frame)), GEOMETRY)
    used.reset()
    state = moving(stamp(20))
    assert used.convert(DRIVE, state, GEOMETRY) == fresh.convert(DRIVE, state, GEOMETRY)


@pytest.mark.parametrize('convention', TwistConvention)
def test_converter_rejects_what_is_not_finite(convention):
    with pytest.raises(ValueError, match='twist must be finite'):
        TwistConverter(convention).convert(NOT_FINITE, moving(0), GEOMETRY)


def test_converter_stops_with_full_brake():
    assert TwistConverter(TwistConvention.VELOCITY).stopped() == VehicleControl(brake=1.0)


def tick(bridge, meanwhile):
    """Step a paused bridge; ``meanwhile`` commands come before it begins to wait for one."""
    bridge.on_control(BridgeRequest.STEP_ONCE)
    bridge.advance()
    for _ in range(meanwhile):
        bridge.on_command(ROLE)
    bridge.stage.now_ns = bridge.wake_ns
    bridge.advance()


class TestHold:
    """A stop between frames: the bridge counts it, so a frame to come needs no other."""

    @pytest.fixture
    def gate(self):
        gate = make_gate()
        assert answer_frame(gate, 1).outcome is Outcome.OK
        return gate

    def test_frame_that_ends_without_us_is_answered_already(self, gate):
        assert gate.idle_stop() == FULL_BRAKE
        assert gate.on_frame(stamp(2), 0) is None
        assert gate.on_state(moving(stamp(2)), 0) is None
        assert gate.on_command(stamp(2), DRIVE) is None
        told = gate.on_step_ended(stamp(2))
        assert (told.outcome, told.control) == (Outcome.IN_ADVANCE, FULL_BRAKE)
        assert told.is_sent_already
        assert gate.due_ns is None

    def test_end_may_be_told_before_the_frame(self, gate):
        gate.idle_stop()
        assert gate.on_step_ended(stamp(2)) is None
        assert gate.on_state(moving(stamp(2)), 0).is_sent_already
        assert gate.on_frame(stamp(2), 0) is None

    def test_end_of_another_frame_proves_nothing(self, gate):
        gate.idle_stop()
        gate.on_frame(stamp(2), 0)
        assert gate.on_step_ended(stamp(1)) is None
        assert gate.open_stamp_ns == stamp(2)

    def test_bridge_that_waits_all_the_same_is_answered(self, gate):
        """It did not count the stop: it had been waiting for another vehicle."""
        gate.idle_stop()
        for event in (
            lambda: gate.on_frame(stamp(2), 0),
            lambda: gate.on_state(moving(stamp(2)), 0),
            lambda: gate.on_command(stamp(2), DRIVE),
            lambda: gate.on_time(DEADLINE_NS // 2 - 1),
        ):
            assert event() is None
        assert gate.due_ns == DEADLINE_NS // 2
        assert gate.on_time(DEADLINE_NS // 2).outcome is Outcome.OK
        assert gate.on_step_ended(stamp(2)) is None
        assert answer_frame(gate, 3).outcome is Outcome.OK  # no doubt any more

    def test_end_that_is_told_without_a_stop_changes_nothing(self, gate):
        assert gate.on_step_ended(stamp(2)) is None
        assert answer_frame(gate, 2).outcome is Outcome.OK

    def test_no_command_while_in_doubt_is_full_brake_at_the_deadline(self, gate):
        gate.idle_stop()
        gate.on_state(moving(stamp(2)), 0)
        assert gate.on_time(DEADLINE_NS // 2) is None
        assert gate.due_ns == DEADLINE_NS
        assert gate.on_time(DEADLINE_NS).outcome is Outcome.NO_COMMAND

    def test_bridge_that_never_waits_is_answered_after_two_frames(self, gate):
        gate.idle_stop()
        for frame in (2, 3):
            gate.on_frame(stamp(frame), 0)
            assert gate.on_step_ended(stamp(frame)).is_sent_already
        assert answer_frame(gate, 4).outcome is Outcome.OK

    def test_restarted_bridge_has_counted_nothing(self):
        gate = make_gate()
        answer_frame(gate, 1000)
        gate.idle_stop()
        assert answer_frame(gate, 1).outcome is Outcome.OK

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
    def test_bridge_waits_exactly_for_the_commands_that_it_gets(self, stops):
        """However often the car is stopped, and when, no command is counted for another."""
        gate, now_ns = make_gate(), 0
        bridge = BridgeLoop(Stage(), [ROLE], paused=True)
        bridge.advance()
        for frame, (between, within) in enumerate(stops, start=1):
            for _ in range(between):
                gate.idle_stop()
                bridge.on_command(ROLE)
            for _ in range(within):
                gate.idle_stop()
            tick(bridge, within)
            gate.on_state(moving(stamp(frame)), now_ns)
            told = gate.on_command(stamp(frame), DRIVE)
            if bridge.is_waiting:
                now_ns += DEADLINE_NS // 2
                told = told or gate.on_time(now_ns)
                assert told.outcome is Outcome.OK
                bridge.on_command(ROLE)
                bridge.advance()
                assert not bridge.is_waiting
                assert gate.on_step_ended(stamp(frame)) is None
            else:
                assert told is None
                assert gate.on_step_ended(stamp(frame)).is_sent_already

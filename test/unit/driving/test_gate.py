# SPDX-License-Identifier: Apache-2.0
"""The gate: exactly one answer per frame, after its odometry, whatever comes in what order."""

from dataclasses import dataclass, field
import math

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import (
    FULL_BRAKE,
    TwistCommand,
    TwistConvention,
    VehicleControl,
    control_from_upstream_twist,
)
from td3_agent.driving.gate import (
    EARLY_FRAMES_KEPT,
    FreeRunningGate,
    Gate,
    Outcome,
)
from td3_agent.driving.vehicle import VehicleGeometry, VehicleState
from td3_agent.driving.velocity_control import (
    TwistConverter,
    VelocityController,
    VelocityControlParams,
)

unhurried = settings(deadline=None)  # the machine may be busy with something else
STEP_NS = 50_000_000
START_NS = 10 * 10**9
DEADLINE_NS = 500_000_000
GEOMETRY = VehicleGeometry(wheelbase_m=2.7, max_steer_angle_rad=1.22)
DRIVE = TwistCommand(5.0, 0.2)
NOT_FINITE = TwistCommand(math.nan, 0.0)


def stamp(frame):
    return START_NS + frame * STEP_NS


def moving(stamp_ns, speed_mps=2.0):
    return VehicleState(
        stamp_ns=stamp_ns,
        x_m=0.0,
        y_m=0.0,
        z_m=0.0,
        yaw_rad=0.0,
        speed_mps=speed_mps,
        yaw_rate_radps=0.0,
    )


def make_gate(geometry=GEOMETRY, convention=TwistConvention.VELOCITY):
    return Gate(TwistConverter(convention), DEADLINE_NS, geometry)


def expected(twist, state, params=None):
    return VelocityController(params).control(twist, state, GEOMETRY).as_float32()


def answer_frame(gate, frame, twist=DRIVE, now_ns=0):
    """Send clock, odometry and command of a frame; return what comes of the last."""
    assert gate.on_frame(stamp(frame), now_ns) is None
    assert gate.on_state(moving(stamp(frame)), now_ns) is None
    return gate.on_command(stamp(frame), twist)


def test_command_after_odometry_is_answered_at_once():
    answer = answer_frame(make_gate(), 0)
    assert (answer.stamp_ns, answer.outcome) == (stamp(0), Outcome.OK)
    assert answer.control == expected(DRIVE, moving(stamp(0)))


def test_command_before_odometry_is_kept():
    gate = make_gate()
    gate.on_frame(stamp(0), 0)
    assert gate.on_command(stamp(0), DRIVE) is None  # an answer now would be race R1
    answer = gate.on_state(moving(stamp(0)), 0)
    assert (answer.stamp_ns, answer.outcome) == (stamp(0), Outcome.OK)


def test_command_may_come_before_anything_else_of_its_frame():
    gate = make_gate()
    assert gate.on_command(stamp(0), DRIVE) is None
    assert gate.on_frame(stamp(0), 0) is None
    assert gate.on_state(moving(stamp(0)), 0).outcome is Outcome.OK


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


def test_odometry_of_another_frame_does_not_complete_this_one():
    gate = make_gate()
    gate.on_state(moving(stamp(0)), 0)
    gate.on_frame(stamp(1), 0)
    assert gate.on_command(stamp(1), DRIVE) is None
    assert gate.on_state(moving(stamp(0)), 0) is None
    assert gate.on_state(moving(stamp(1)), 0).stamp_ns == stamp(1)


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


def test_late_command_does_not_serve_a_later_frame():
    gate = make_gate()
    gate.on_state(moving(stamp(0)), 0)
    gate.on_time(DEADLINE_NS)
    gate.on_command(stamp(0), DRIVE)
    assert gate.on_state(moving(stamp(1)), 0) is None
    assert gate.on_time(DEADLINE_NS).outcome is Outcome.NO_COMMAND


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


def test_next_frame_has_a_deadline_of_its_own():
    gate = make_gate()
    gate.on_frame(stamp(0), 0)
    gate.on_frame(stamp(1), 400_000_000)
    assert gate.on_time(DEADLINE_NS) is None
    assert gate.on_time(400_000_000 + DEADLINE_NS).stamp_ns == stamp(1)


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


def test_restart_while_a_frame_is_open_does_not_answer_it():
    gate = make_gate()
    gate.on_frame(stamp(3), 0)
    gate.on_command(stamp(3), DRIVE)
    gate.on_frame(0, 10)
    assert gate.on_state(moving(0), 10) is None
    assert gate.on_time(10 + DEADLINE_NS).stamp_ns == 0


def test_commands_far_ahead_are_not_hoarded():
    gate = make_gate()
    for frame in range(1000):
        gate.on_command(stamp(frame), DRIVE)
    assert len(gate._commands) == EARLY_FRAMES_KEPT


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


def test_controls_are_what_a_float32_message_can_hold():
    control = answer_frame(make_gate(), 0, TwistCommand(3.3, 0.123)).control
    assert control == control.as_float32()


@dataclass
class Transport:
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


@unhurried
@given(st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(0, 8)), max_size=60))
def test_no_frame_is_ever_answered_twice_or_out_of_order(events):
    transport = Transport()
    for event, frame in events:
        transport.happen(event, frame)
        transport.happen('time', 0)
    stamps = [answer.stamp_ns for answer in transport.answers]
    assert stamps == sorted(set(stamps))
    counts = transport.gate.counts
    stopped = [a for a in transport.answers if a.outcome is not Outcome.OK]
    assert (counts.answered, counts.stopped) == (len(stamps), len(stopped))


@unhurried
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
    transport, announced = Transport(), set()
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


@unhurried
@given(st.data())
def test_odometry_command_and_clock_in_any_order_and_number_give_the_same_drive(data):
    transport, plain = Transport(), make_gate()
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


def free_running(geometry=GEOMETRY):
    return FreeRunningGate(TwistConverter(TwistConvention.VELOCITY), geometry=geometry)


class TestFreeRunningGate:
    def test_every_command_is_converted_at_once(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        answer = gate.on_command(stamp(0), DRIVE, 0)
        assert (answer.stamp_ns, answer.outcome) == (stamp(0), Outcome.OK)
        assert answer.control == expected(DRIVE, moving(stamp(0)))

    def test_nothing_is_due_before_the_first_command(self):
        gate = free_running()
        assert gate.due_ns is None
        assert gate.on_time(10**12) is None

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

    def test_command_after_silence_drives_again(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        gate.on_command(stamp(0), DRIVE, 0)
        gate.on_time(gate.due_ns)
        now_ns = 10**10
        gate.on_state(moving(stamp(1)), now_ns)
        assert gate.on_command(stamp(1), DRIVE, now_ns).outcome is Outcome.OK
        assert gate.due_ns == now_ns + gate.timeout_ns

    def test_old_odometry_brakes_although_commands_go_on(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        at_the_limit, too_late = gate.timeout_ns, gate.timeout_ns + 1
        assert gate.on_command(stamp(0), DRIVE, at_the_limit).outcome is Outcome.OK
        assert gate.on_command(stamp(1), DRIVE, too_late).outcome is Outcome.NO_ODOMETRY

    def test_third_refused_odometry_in_a_row_brakes_at_once(self):
        gate = free_running()
        gate.on_state(moving(stamp(0)), 0)
        assert gate.on_command(stamp(0), DRIVE, 1).outcome is Outcome.OK
        assert [gate.on_refused_state(2), gate.on_refused_state(3)] == [None, None]
        gate.on_state(moving(stamp(1)), 4)  # one good message begins the count anew
        assert [gate.on_refused_state(5), gate.on_refused_state(6)] == [None, None]
        stop = gate.on_refused_state(7)
        assert (stop.outcome, stop.control) == (Outcome.NO_ODOMETRY, FULL_BRAKE)
        assert gate.on_command(stamp(2), DRIVE, 8).outcome is Outcome.NO_ODOMETRY
        gate.on_state(moving(stamp(3)), 9)
        assert gate.on_command(stamp(3), DRIVE, 10).outcome is Outcome.OK

    def test_refused_odometry_before_any_command_says_nothing(self):
        gate = free_running()
        assert [gate.on_refused_state(n) for n in range(5)] == [None] * 5

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
def test_converter_refuses_what_is_not_finite(convention):
    with pytest.raises(ValueError, match='twist must be finite'):
        TwistConverter(convention).convert(NOT_FINITE, moving(0), GEOMETRY)


def test_converter_stops_with_full_brake():
    assert TwistConverter(TwistConvention.VELOCITY).stopped() == VehicleControl(brake=1.0)


class Bridge:
    """How CARLA's bridge counts the commands of one vehicle, whatever they answer.

    Attributes:
        waits: whether it waits for the command of the newest frame.
    """

    def __init__(self):
        self._is_missing = self._is_told = self.waits = False

    def tick(self, meanwhile=0):
        """Step; ``meanwhile`` commands come before it begins to wait for one."""
        self._is_missing = True
        for _ in range(meanwhile):
            self.command()
        if self._is_missing:  # nobody looks at what was told where nothing is missing
            self.waits, self._is_told = not self._is_told, False

    def command(self):
        self._is_missing = False
        self._is_told, self.waits = not self.waits, False


class TestHold:
    """A stop between frames: the bridge counts it, so a frame to come needs no other."""

    @pytest.fixture
    def gate(self):
        gate = make_gate()
        assert answer_frame(gate, 1).outcome is Outcome.OK
        return gate

    def test_frame_that_ends_without_us_is_answered_already(self, gate):
        assert gate.hold() == FULL_BRAKE
        assert gate.on_frame(stamp(2), 0) is None
        assert gate.on_state(moving(stamp(2)), 0) is None
        assert gate.on_command(stamp(2), DRIVE) is None
        told = gate.on_step_ended(stamp(2))
        assert (told.outcome, told.control) == (Outcome.IN_ADVANCE, FULL_BRAKE)
        assert told.is_sent_already
        assert gate.due_ns is None

    def test_end_may_be_told_before_the_frame(self, gate):
        gate.hold()
        assert gate.on_step_ended(stamp(2)) is None
        assert gate.on_state(moving(stamp(2)), 0).is_sent_already
        assert gate.on_frame(stamp(2), 0) is None

    def test_end_of_another_frame_proves_nothing(self, gate):
        gate.hold()
        gate.on_frame(stamp(2), 0)
        assert gate.on_step_ended(stamp(1)) is None
        assert gate.open_stamp_ns == stamp(2)

    def test_bridge_that_waits_all_the_same_is_answered(self, gate):
        """It did not count the stop: it had been waiting for another vehicle."""
        gate.hold()
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
        gate.hold()
        gate.on_state(moving(stamp(2)), 0)
        assert gate.on_time(DEADLINE_NS // 2) is None
        assert gate.due_ns == DEADLINE_NS
        assert gate.on_time(DEADLINE_NS).outcome is Outcome.NO_COMMAND

    def test_bridge_that_never_waits_is_answered_after_two_frames(self, gate):
        gate.hold()
        for frame in (2, 3):
            gate.on_frame(stamp(frame), 0)
            assert gate.on_step_ended(stamp(frame)).is_sent_already
        assert answer_frame(gate, 4).outcome is Outcome.OK

    def test_restarted_bridge_has_counted_nothing(self):
        gate = make_gate()
        answer_frame(gate, 1000)
        gate.hold()
        assert answer_frame(gate, 1).outcome is Outcome.OK

    @given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), max_size=30))
    def test_bridge_waits_exactly_for_the_commands_that_it_gets(self, stops):
        """However often the car is stopped, and when, no command is counted for another."""
        gate, bridge, now_ns = make_gate(), Bridge(), 0
        for frame, (between, within) in enumerate(stops, start=1):
            for _ in range(between):
                gate.hold()
                bridge.command()
            for _ in range(within):
                gate.hold()
            bridge.tick(within)
            gate.on_state(moving(stamp(frame)), now_ns)
            told = gate.on_command(stamp(frame), DRIVE)
            if bridge.waits:
                now_ns += DEADLINE_NS // 2
                told = told or gate.on_time(now_ns)
                assert told.outcome is Outcome.OK
                bridge.command()
                assert not bridge.waits
                assert gate.on_step_ended(stamp(frame)) is None
            else:
                assert told is None
                assert gate.on_step_ended(stamp(frame)).is_sent_already


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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The ledger: records in order without gaps, whatever order the fields came in."""

from harness.ledgers import (
    FRAME_ZERO,
    ROLE,
    STEP_NS,
    check_ledger,
    clean_drive,
    command,
    facts_of,
    stamp,
    tell,
)
from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import FULL_BRAKE, VehicleControl
from td3_agent.driving.ledger import (
    IDLE,
    LAG_FRAMES,
    NO_COMMAND,
    PARTS_KEPT,
    SKIPPED,
    UNREPORTED,
    FrameLog,
    LogCounts,
    control_record,
)
from td3_agent.driving.stepping import Break, Cause, EndedFrame


def test_record_holds_everything_that_was_learnt():
    _, records = clean_drive(2)
    assert records[0] == {
        'frame': FRAME_ZERO + 1,
        'stamp_ns': stamp(1),
        'role_name': ROLE,
        'outcome': 'ok',
        'commands': 1,
        'sent': control_record(command(1)),
        'applied': control_record(command(1)),
        'command_received_ns': 1001,
        'x_m': 1.0,
    }


def test_applied_command_of_the_next_frame_confirms_this_one():
    log, records = clean_drive(10)
    for i, record in enumerate(records[:-1], start=1):
        assert record['applied'] == record['sent'] == control_record(command(i))
    assert records[-1]['applied'] is None  # nobody saw what became of it
    assert (log.counts.misapplied, log.counts.violations, log.counts.frames) == (0, 0, 10)
    assert check_ledger(records) == []


def test_frames_are_released_with_a_lag_for_late_reports():
    log = FrameLog(ROLE)
    released = [log.close_frame(FRAME_ZERO + i, stamp(i)) for i in range(10)]
    assert released[:LAG_FRAMES] == [[]] * LAG_FRAMES
    assert [record['frame'] for (record,) in released[LAG_FRAMES:]] == [
        FRAME_ZERO + i for i in range(10 - LAG_FRAMES)
    ]
    assert [record['frame'] for record in log.flush()] == [
        FRAME_ZERO + i for i in range(10 - LAG_FRAMES, 10)
    ]
    assert log.flush() == []


@given(st.data())
def test_facts_may_come_in_any_order_within_the_lag(data):
    frames, delays = 7, st.integers(0, LAG_FRAMES - 1)
    reports = [
        (i + data.draw(delays), fields) for i in range(1, frames + 1) for fields in facts_of(i)
    ]
    log, records = FrameLog(ROLE), []
    for i in range(1, frames + LAG_FRAMES):
        for fields in data.draw(st.permutations([f for when, f in reports if when == i])):
            tell(log, fields)
        if i <= frames:
            records += log.close_frame(FRAME_ZERO + i, stamp(i))
    assert records + log.flush() == clean_drive(frames)[1]


def test_facts_may_come_before_their_frame_is_closed_or_known():
    log = FrameLog(ROLE)
    for i in range(1, 4):
        for fields in facts_of(i):
            tell(log, fields)
    records = [r for i in range(1, 4) for r in log.close_frame(FRAME_ZERO + i, stamp(i))]
    assert records + log.flush() == clean_drive(3)[1]


def test_report_that_comes_too_late_changes_nothing():
    log, records = FrameLog(ROLE), []
    for i in range(1, 7):
        records += log.close_frame(FRAME_ZERO + i, stamp(i))
    log.note(stamp(1), outcome='ok')
    records += log.flush()
    assert records[0]['outcome'] == NO_COMMAND
    assert [r['frame'] for r in records] == list(range(FRAME_ZERO + 1, FRAME_ZERO + 7))


def test_frame_without_any_report():
    log = FrameLog(ROLE)
    log.close_frame(FRAME_ZERO, stamp(0))
    (record,) = log.flush()
    assert (record['outcome'], record['commands'], record['sent']) == (NO_COMMAND, 0, None)


def test_command_without_the_gates_word_is_unreported():
    log = FrameLog(ROLE)
    log.note_command(stamp(0), command(0), received_ns=5)
    log.close_frame(FRAME_ZERO, stamp(0))
    (record,) = log.flush()
    assert (record['outcome'], record['commands']) == (UNREPORTED, 1)


def test_two_commands_for_a_frame_are_doubled_and_the_first_one_is_recorded():
    log = FrameLog(ROLE)
    log.note_command(stamp(0), command(1), received_ns=5)
    log.note_command(stamp(0), command(2), received_ns=6)
    log.close_frame(FRAME_ZERO, stamp(0))
    (record,) = log.flush()
    assert (record['commands'], record['command_received_ns']) == (2, 5)
    assert record['sent'] == control_record(command(1))
    assert (log.counts.duplicate, log.counts.violations) == (1, 1)
    assert check_ledger([record]) == [f'frame {FRAME_ZERO}: 2 commands']


@pytest.mark.parametrize(
    'changed',
    [
        {'throttle': 0.25},
        {'steer': 0.25},
        {'brake': 0.25},
        {'reverse': True},
        {'hand_brake': True},
    ],
)
def test_another_applied_command_is_slipped_whatever_field_differs(changed):
    log = FrameLog(ROLE)
    applied = VehicleControl(**({'throttle': 0.5} | changed))
    log.note_command(stamp(0), VehicleControl(throttle=0.5), received_ns=0)
    log.note_status(stamp(1), applied)
    log.close_frame(FRAME_ZERO, stamp(0))
    log.close_frame(FRAME_ZERO + 1, stamp(1))
    records = log.flush()
    assert records[0]['applied'] == control_record(applied)
    assert (log.counts.misapplied, log.counts.violations) == (1, 1)
    assert len(check_ledger(records)) == 1


@pytest.mark.parametrize('stops', [1, 3])
@pytest.mark.parametrize('report_first', [False, True])
@pytest.mark.parametrize(
    ('applied', 'misapplied'), [(FULL_BRAKE, 0), (command(3), 0), (command(9), 1)]
)
def test_stop_that_was_sent_because_nothing_followed_is_no_second_command(
    applied, misapplied, report_first, stops
):
    """The bridge may have executed either: the stop came between the frames."""
    log = FrameLog(ROLE)
    log.note_command(stamp(3), command(3), received_ns=0)
    log.note(stamp(3), outcome='ok')
    for _ in range(stops):
        if report_first:  # two topics have no common order
            log.note_idle_stop(stamp(3))
        log.note_command(stamp(3), FULL_BRAKE, received_ns=0)
        if not report_first:
            log.note_idle_stop(stamp(3))
    log.note(stamp(3), outcome='stopped_silence')
    records = log.close_frame(FRAME_ZERO + 3, stamp(3))
    log.note_status(stamp(4), applied)
    records += log.close_frame(FRAME_ZERO + 4, stamp(4)) + log.flush()
    assert (records[0]['commands'], records[0]['outcome']) == (1, 'stopped_silence')
    assert records[0]['sent'] == control_record(command(3))
    assert records[0]['idle_stop'] == control_record(FULL_BRAKE)
    assert log.counts.misapplied == misapplied


@pytest.mark.parametrize(('others', 'commands'), [((), 1), ((command(4),), 2)])
def test_stop_sent_in_advance_is_the_command_of_the_next_frame(others, commands):
    log = FrameLog(ROLE)
    log.note_command(stamp(3), command(3), received_ns=0)
    log.note_command(stamp(3), FULL_BRAKE, received_ns=0)
    log.note_idle_stop(stamp(3))
    log.note(stamp(3), outcome='stopped_silence')
    log.note(stamp(4), outcome='stopped_in_advance')
    for other in others:  # what must not come is found
        log.note_command(stamp(4), other, received_ns=0)
    log.note_status(stamp(5), FULL_BRAKE)
    for number in (3, 4, 5):
        log.close_frame(FRAME_ZERO + number, stamp(number))
    record = log.flush()[1]
    assert (record['frame'], record['commands']) == (FRAME_ZERO + 4, commands)
    assert record['applied'] == control_record(FULL_BRAKE)
    assert log.counts.duplicate == commands - 1
    assert log.counts.misapplied == len(others)


def test_stops_that_were_seen_without_the_answer_before_them_are_not_taken_for_it():
    log = FrameLog(ROLE)
    log.note(stamp(3), outcome='stopped_silence')
    log.note_command(stamp(3), FULL_BRAKE, received_ns=0)
    for _ in range(2):
        log.note_idle_stop(stamp(3))
    log.note_status(stamp(4), command(3))
    for number in (3, 4):
        log.close_frame(FRAME_ZERO + number, stamp(number))
    record = log.flush()[0]
    assert (record['commands'], record['sent']) == (0, None)
    assert log.counts.violations == 0


def test_stop_in_advance_that_nobody_sent_is_no_command():
    log = FrameLog(ROLE)
    log.note(stamp(4), outcome='stopped_in_advance')
    log.close_frame(FRAME_ZERO + 4, stamp(4))
    assert log.flush()[0]['commands'] == 0


def test_skipped_frames_are_recorded_in_their_place():
    log, records = FrameLog(ROLE), []
    for i in (1, 2, 5, 6):
        log.note(stamp(i), outcome='ok')
        records += log.close_frame(FRAME_ZERO + i, stamp(i))
    records += log.flush()
    assert [r['frame'] for r in records] == [FRAME_ZERO + i for i in range(1, 7)]
    assert [r['outcome'] for r in records] == ['ok', 'ok', SKIPPED, SKIPPED, 'ok', 'ok']
    assert (log.counts.skipped, log.counts.frames, log.counts.violations) == (2, 4, 2)
    assert log.counts.outcomes == {'ok': 4, SKIPPED: 2}


def test_frame_before_the_first_one_is_not_skipped():
    log = FrameLog(ROLE)
    log.close_frame(5000, stamp(0))
    log.flush()
    assert log.counts.skipped == 0


@pytest.mark.parametrize('frame_runs_back', [False, True])
def test_restart_releases_the_old_frames_and_keeps_the_facts_of_the_new_ones(frame_runs_back):
    log = FrameLog(ROLE)
    records = drive(log, 3)
    first = 1 if frame_runs_back else FRAME_ZERO + 50
    for i in range(3):  # the restarted simulator; its first frame is heard of before it is told
        log.note_status(i * STEP_NS, command(i - 1))
        log.note_command(i * STEP_NS, command(i), received_ns=i)
        log.note(i * STEP_NS, outcome='ok')
        if i == 0:
            records += log.close(Break(Cause.RESTARTED, 3, 0))
        records += log.close_frame(first + i, i * STEP_NS)
    records += log.flush()
    assert records.pop(3) == {'event': 'bridge_restarted', 'role_name': ROLE, 'frames': 3}
    assert [r['frame'] for r in records] == [FRAME_ZERO + i for i in (1, 2, 3)] + [
        first + i for i in range(3)
    ]
    assert [r['outcome'] for r in records] == ['ok'] * 6
    assert [r['commands'] for r in records] == [1] * 6
    assert [r['applied'] is None for r in records] == [False, False, True] * 2
    assert log.counts.violations == 0


def drive(log, frames, first=1):
    """Close good frames in order; return the records that are complete by then."""
    records = []
    for i in range(first, first + frames):
        for fields in facts_of(i):
            tell(log, fields)
        records += log.close(EndedFrame(FRAME_ZERO + i, stamp(i)))
    return records


def idle(log, ticks, first):
    records = []
    for i in range(first, first + ticks):
        tell(log, facts_of(i)[0])  # the gate brakes
        records += log.close(EndedFrame(FRAME_ZERO + i, stamp(i), is_idle=True))
    return records


@pytest.mark.parametrize('ticks', [1, LAG_FRAMES, 100])
def test_idle_ticks_are_one_event_between_two_frames(ticks):
    log = FrameLog(ROLE)
    records = idle(log, 3, 1) + drive(log, 6, 4) + idle(log, ticks, 10)
    records += drive(log, 3, 10 + ticks) + log.flush()
    events = [record for record in records if 'event' in record]
    assert [event['event'] for event in events] == [IDLE, IDLE]
    assert [event['frames'] for event in events] == [3, ticks]
    assert [event['last_frame'] for event in events] == [103, 109 + ticks]
    assert check_ledger(records) == []
    assert log.counts.frames == 9
    last_before = records[records.index(events[1]) - 1]
    assert (last_before['frame'], last_before['applied']) == (109, None)  # of another car, perhaps
    assert len(log._parts) <= 3 * LAG_FRAMES


def test_idle_ticks_whose_number_does_not_fit_are_found():
    log = FrameLog(ROLE)
    records = drive(log, 3) + idle(log, 5, 4) + drive(log, 3, 9) + log.flush()
    records[3]['frames'] = 4
    assert check_ledger(records) == ['frame 109 follows frame 103 and 4 idle ticks']


def test_frames_that_ran_freely_are_skipped_and_told():
    log = FrameLog(ROLE)
    records = drive(log, 5) + log.close(Break(Cause.FREE_RUNNING, 4, stamp(9)))
    records += drive(log, 5, 10) + log.flush()
    assert records[5] == {'event': 'free_running', 'role_name': ROLE, 'frames': 4}
    assert [r.get('outcome') for r in records] == ['ok'] * 5 + [None] + [SKIPPED] * 4 + ['ok'] * 5
    assert check_ledger(records) == [f'frame {FRAME_ZERO + i}: skipped' for i in range(6, 10)]


def test_many_frames_that_ran_freely_do_not_push_out_what_is_not_written_yet():
    log = FrameLog(ROLE)
    records = drive(log, 5)
    for i in range(6, 6 + 2 * PARTS_KEPT):
        tell(log, facts_of(i)[0])
    records += log.flush()
    assert [record['outcome'] for record in records] == ['ok'] * 5


def test_restart_of_a_bridge_whose_world_goes_on_breaks_nothing():
    log = FrameLog(ROLE)
    records = drive(log, 5) + log.close(Break(Cause.RESTARTED, 37, stamp(50)))
    records += drive(log, 5, 51) + log.flush()
    assert records[5] == {'event': 'bridge_restarted', 'role_name': ROLE, 'frames': 37}
    assert check_ledger(records) == []
    assert check_ledger(records[:5] + records[6:]) != []
    assert log.counts.violations == 0


def test_frames_that_are_never_closed_do_not_pile_up():
    log = FrameLog(ROLE)
    for i in range(1000):
        log.note_status(stamp(i), command(0))
    assert len(log._parts) == PARTS_KEPT


def test_counts_add_up_from_the_records_alone():
    log, records = clean_drive(6)
    counts = LogCounts()
    for record in records:
        counts.add(record)
    assert counts == log.counts


def test_frame_without_a_command_has_not_slipped():
    log = FrameLog('ego_vehicle')
    log.note_status(2 * 50, VehicleControl(throttle=0.5))
    log.close_frame(1, 50)
    log.close_frame(2, 2 * 50)
    records = log.flush()
    assert records[0]['outcome'] == NO_COMMAND
    assert log.counts.misapplied == 0
    assert check_ledger(records) == []


def test_log_of_a_drive_with_skipped_frames_is_checked_without_a_crash():
    log, records = FrameLog(ROLE), []
    for i in (1, 2, 5):
        records += log.close_frame(FRAME_ZERO + i, stamp(i))
    records += log.flush()
    assert check_ledger(records) == [f'frame {FRAME_ZERO + i}: skipped' for i in (3, 4)]

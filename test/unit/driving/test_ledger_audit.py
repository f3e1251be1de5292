# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A ledger that holds has no fault; each planted fault is found by the check that it is for."""

import copy
import json

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.agent import action_sha256
from td3_agent.driving.command import VehicleControl, twist_from_action
from td3_agent.driving.ledger import (
    NO_COMMAND,
    SKIPPED,
    UNREPORTED,
    LedgerError,
    LedgerWriter,
    control_record,
)
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.driving.stages import stage_durations_ns

STEP_NS = 50_000_000
ROLE = 'ego_vehicle'
INSTANTS = (
    'step_sent_ns',
    'announced_ns',
    'image_received_ns',
    'image_prepared_ns',
    'odometry_received_ns',
    'observed_ns',
    'decided_ns',
    'twist_published_ns',
    'twist_received_ns',
    'gate_published_ns',
    'frame_closed_ns',
)


def record(i, **changes):
    """Return a good record of frame i."""
    action = np.array([0.1 * i - 0.9, 0.25], dtype=np.float32)
    twist = twist_from_action(action)
    sent = control_record(VehicleControl(throttle=i / 64.0))
    times = {name: 10**12 + i * STEP_NS + 1000 * n for n, name in enumerate(INSTANTS)}
    return {
        'frame': 100 + i,
        'stamp_ns': 10**10 + i * STEP_NS,
        'role_name': ROLE,
        'outcome': 'ok',
        'commands': 1,
        'sent': sent,
        'applied': sent,
        'observation_sha256': f'{i:064x}',
        'action': [float(value) for value in action],
        'action_sha256': action_sha256(action),
        'twist': [twist.linear_x, twist.angular_z],
        **times,
        'stages_ns': stage_durations_ns(times),
        **changes,
    }


GOOD = [record(i) for i in range(12)]
GOOD[-1]['applied'] = None  # nobody saw what became of the last one


def written(path, records, **options):
    with LedgerWriter(path, **options) as writer:
        for one in records:
            writer.write(one)
    return path


@pytest.fixture
def faults(tmp_path):
    """Return a function that writes records and returns what was found, by check."""

    def found(records):
        audit = audit_ledger(written(tmp_path / 'ledger.jsonl', records))
        return {name: one.faults for name, one in audit.checks.items() if one.faults}

    return found


def test_good_ledger_holds(tmp_path):
    audit = audit_ledger(written(tmp_path / 'ledger.jsonl', GOOD))
    assert audit.holds, audit.checks
    assert (audit.ended, audit.torn_bytes, audit.counts.frames) == (True, 0, 12)
    assert audit.records == GOOD
    notes = {name: finding.note for name, finding in audit.checks.items()}
    assert notes['file'] == '12 records, ended'
    assert notes['stamps'] == 'rising by 50 ms'
    assert notes['hashes'] == '12 observations; 12 actions computed again'
    assert notes['applied'] == 'as sent in 11 of 12 frames'
    assert notes['stages'] == 'add up in 12 frames, within 0.00%'


RESTARTED = {'event': 'bridge_restarted', 'role_name': ROLE, 'frames': 3}
IDLE = {'event': 'idle', 'role_name': ROLE, 'frames': 5, 'last_frame': 110}


def test_ledger_that_spans_a_restart_holds_and_tells_of_it(tmp_path):
    before, after = copy.deepcopy(GOOD[:6]), copy.deepcopy(GOOD)
    before[-1]['applied'] = None
    audit = audit_ledger(written(tmp_path / 'ledger.jsonl', [*before, RESTARTED, *after]))
    assert audit.holds, audit.checks
    assert audit.records == before + after
    assert audit.events == [RESTARTED]
    note = 'the bridge was started again, or its time ran back, 1 times'
    assert audit.checks['events'].note == note


def test_ledger_with_idle_ticks_holds_and_tells_of_them(tmp_path):
    records = copy.deepcopy([*GOOD[:6], *GOOD[11:]])
    records[5]['applied'] = None
    records.insert(6, IDLE)
    audit = audit_ledger(written(tmp_path / 'ledger.jsonl', records))
    assert audit.holds, audit.checks
    assert audit.checks['events'].note == '5 idle ticks'
    assert audit.counts.frames == 7


def test_last_answer_of_an_agent_that_was_killed_may_lack_its_report(faults):
    records = without('observation_sha256', 'action', 'action_sha256', 'twist', 'stages_ns')
    del records[5]['observed_ns']
    assert 'hashes' in faults(records)
    for name in ('observation_sha256', 'action', 'action_sha256', 'twist', 'stages_ns'):
        del records[6][name]
    del records[6]['observed_ns']
    records[6]['outcome'] = 'stopped_no_command'
    assert faults(records) == {}


def test_last_frame_of_a_drive_may_lack_the_report_of_an_agent_that_ended(faults):
    records = copy.deepcopy(GOOD)
    for name in ('observation_sha256', 'action', 'action_sha256', 'twist', 'stages_ns'):
        del records[-1][name]
    del records[-1]['observed_ns']
    assert faults(records) == {}


def test_vehicle_that_is_destroyed_says_no_more_what_it_did(faults):
    records = copy.deepcopy(GOOD)
    records[-2] |= {'applied': None}
    assert 'applied' in faults(records)
    records[-1] |= {'outcome': 'stopped_no_command'}
    assert 'applied' not in faults(records)


def planted(**changes):
    """Return the good ledger with something else in its sixth frame."""
    records = copy.deepcopy(GOOD)
    records[5] |= changes
    return records


def without(*names):
    records = copy.deepcopy(GOOD)
    for name in names:
        del records[5][name]
    return records


SKIP = {'frame': 105, 'role_name': ROLE, 'outcome': SKIPPED}
PLANTED = {
    'restart that is not told': ([*GOOD[:6], *GOOD], {'frames': 'frame 100 follows frame 105'}),
    'idle ticks beside frames': (
        [*GOOD[:6], IDLE, *GOOD[6:]],
        {'frames': 'frame 106 follows frame 105 and 5 idle ticks'},
    ),
    'unknown event': (
        [*GOOD, {**IDLE, 'event': 'tea break'}],
        {'events': "unknown event 'tea break'"},
    ),
    'event without frames': (
        [*GOOD, {'event': 'idle', 'role_name': ROLE}],
        {'file': 'frames must be int, got None'},
    ),
    'event of negative frames': ([*GOOD, {**IDLE, 'frames': -1}], {'events': 'idle of -1 frames'}),
    'missing frame': (GOOD[:5] + GOOD[6:], {'frames': 'frame 106 follows frame 104'}),
    'repeated frame': ([*GOOD[:6], *GOOD[5:]], {'frames': 'frame 105 follows frame 105'}),
    'skipped frame': ([*GOOD[:5], SKIP, *GOOD[6:]], {'frames': 'frame 105: skipped'}),
    'stamp off the grid': (
        planted(stamp_ns=GOOD[5]['stamp_ns'] + 10_000_000),
        {'stamps': 'frame 105: 60 ms after the frame before, expected 50 ms'},
    ),
    'stamp that stands still': (
        planted(stamp_ns=GOOD[4]['stamp_ns']),
        {'stamps': 'frame 105: 0 ms after'},
    ),
    'unknown outcome': (planted(outcome='fine'), {'outcomes': "unknown outcome 'fine'"}),
    'no command': (
        planted(outcome=NO_COMMAND, commands=0, sent=None),
        {'commands': 'frame 105: 0 commands, no_command'},
    ),
    'two commands': (planted(commands=2), {'commands': 'frame 105: 2 commands, ok'}),
    'unreported': (planted(outcome=UNREPORTED), {'commands': 'frame 105: unreported'}),
    'misapplied': (planted(applied=GOOD[4]['sent']), {'applied': 'frame 105: applied'}),
    'unconfirmed': (planted(applied=None), {'applied': 'no vehicle_status confirms the command'}),
    'no hash': (
        without('observation_sha256', 'action', 'action_sha256', 'twist'),
        {'hashes': 'no observation hash: the agent has reported nothing'},
    ),
    'half a hash': (planted(observation_sha256='abc'), {'hashes': '64 hexadecimal digits'}),
    'changed action': (
        planted(action=[0.5, 0.25]),
        {'hashes': 'action_sha256 is not that of action'},
    ),
    'action without a number': (planted(action=[None, 0.25]), {'hashes': 'two finite numbers'}),
    'changed twist': (planted(twist=[1.0, 0.25]), {'hashes': 'does not come from action'}),
    'changed stage': (
        planted(stages_ns=GOOD[5]['stages_ns'] | {'gate': 1}),
        {'stages': 'not what the timestamps say'},
    ),
    'timestamps out of order': (
        planted(gate_published_ns=GOOD[5]['frame_closed_ns'] + 1),
        {'stages': 'not what the timestamps say'},
    ),
    'field of another type': (
        planted(commands='1'),
        {'file': 'commands must be int', 'frames': 'frame 106 follows frame 104'},
    ),
    'timestamp that is none': (
        planted(observed_ns='soon'),
        {'file': "observed_ns must be int, got 'soon'", 'frames': 'frame 106 follows frame 104'},
    ),
    'field that is not there': (
        without('applied'),
        {'file': 'applied must be there', 'frames': 'frame 106 follows frame 104'},
    ),
}


@pytest.mark.parametrize('name', PLANTED)
def test_each_planted_fault_is_found_by_its_check(faults, name):
    records, expected = PLANTED[name]
    found = faults(records)
    assert set(found) == set(expected)
    for check, text in expected.items():
        assert any(text in fault for fault in found[check]), found


def test_stopped_frames_hold_without_an_agent(faults):
    brake = control_record(VehicleControl(brake=1.0))
    agent = ('observation_sha256', 'action', 'action_sha256', 'twist', 'stages_ns', 'decided_ns')
    records = without(*agent)
    records[5] |= {'outcome': 'stopped_no_command', 'sent': brake, 'applied': brake}
    assert faults(records) == {}


def test_stamps_one_nanosecond_short_of_the_grid_hold(faults):
    records = [one | {'stamp_ns': one['stamp_ns'] - one['frame'] % 2} for one in GOOD]
    assert faults(records) == {}


def test_roles_and_episodes_are_told_apart(faults):
    records = [one | {'episode': e} for e in (0, 1) for one in GOOD]
    both = [one | {'role_name': role} for one in records for role in (ROLE, 'hero')]
    assert faults(both) == {}


def test_drive_without_ros_has_no_times(tmp_path):
    records = [{k: v for k, v in one.items() if k not in (*INSTANTS, 'stages_ns')} for one in GOOD]
    audit = audit_ledger(written(tmp_path / 'ledger.jsonl', records))
    assert audit.holds
    assert audit.checks['stages'].note == 'not timed'


def test_empty_ledger_is_a_fault(faults):
    assert faults([]) == {'frames': ['there are no records']}


def test_torn_last_line_is_told_and_no_fault(tmp_path):
    path = written(tmp_path / 'ledger.jsonl', GOOD)
    *lines, _ = path.read_bytes().splitlines(keepends=True)
    for cut in (1, 40, len(lines[-1]) - 1):
        path.write_bytes(b''.join(lines)[:-cut])
        audit = audit_ledger(path)
        assert audit.holds, audit.checks
        assert not audit.ended
        assert audit.torn_bytes == len(lines[-1]) - cut
        assert audit.records == GOOD[:-1]
        assert 'torn' in audit.checks['file'].note


def test_killed_between_two_lines_is_told_and_no_fault(tmp_path):
    path = written(tmp_path / 'ledger.jsonl', GOOD)
    *lines, _ = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join(lines[:-2]))
    audit = audit_ledger(path)
    assert audit.holds
    assert (audit.ended, audit.torn_bytes) == (False, 0)
    assert 'no end' in audit.checks['file'].note


@given(st.data())
def test_no_line_can_be_lost_moved_or_changed(tmp_path_factory, data):
    path = written(tmp_path_factory.mktemp('ledger') / 'ledger.jsonl', GOOD)
    header, *lines = path.read_bytes().splitlines(keepends=True)
    i = data.draw(st.integers(0, len(GOOD) - 1))
    how = data.draw(st.sampled_from(('lost', 'twice', 'moved', 'changed')))
    if how == 'lost':
        lines.pop(i)
    elif how == 'twice':
        lines.insert(i, lines[i])
    elif how == 'moved':
        j = data.draw(st.integers(0, len(GOOD) - 1).filter(lambda j: j != i))
        lines[i], lines[j] = lines[j], lines[i]
    else:
        place = data.draw(st.integers(0, len(lines[i]) - 2))
        new = data.draw(st.integers(32, 126).filter(lambda b: b != lines[i][place]))
        lines[i] = lines[i][:place] + bytes([new]) + lines[i][place + 1 :]
    path.write_bytes(header + b''.join(lines))
    assert not audit_ledger(path).checks['chain'].holds


def test_lines_cut_off_before_the_end_are_missed(tmp_path):
    path = written(tmp_path / 'ledger.jsonl', GOOD)
    *lines, end = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b''.join([*lines[:-3], end]))
    audit = audit_ledger(path)
    assert audit.checks['file'].faults == ['12 records were written, 9 are here']
    assert not audit.checks['chain'].holds


def test_line_that_is_no_record_is_one_fault_and_the_rest_is_checked(tmp_path):
    path = written(tmp_path / 'ledger.jsonl', GOOD)
    lines = path.read_bytes().splitlines(keepends=True)
    lines[6] = b'{"frame":\n'
    path.write_bytes(b''.join(lines))
    audit = audit_ledger(path)
    assert 'ledger.jsonl:7: not JSON' in audit.checks['file'].faults[0]
    assert audit.counts.frames == 11


def test_line_after_the_end_is_a_fault(tmp_path):
    path = written(tmp_path / 'ledger.jsonl', GOOD)
    with path.open('ab') as file:
        file.write(json.dumps(record(12)).encode() + b'\n')
    audit = audit_ledger(path)
    assert 'line 15 comes after the end' in audit.checks['file'].faults
    assert audit.checks['chain'].faults == ['line 15 has no hash']


def test_what_is_no_ledger_is_rejected(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    path.write_text('hello\n', 'utf-8')
    with pytest.raises(LedgerError, match=r'ledger\.jsonl:1'):
        audit_ledger(path)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""``td3_agent ledger check``: what it prints, the status that scripts go by, and what is equal."""

import copy
import json

import pytest

from td3_agent.__main__ import main
from td3_agent.driving.command import VehicleControl, twist_from_action
from td3_agent.driving.ledger import LedgerWriter, control_record
from td3_agent.evaluation.ledger_command import action_hash, agreement, first_difference


def drive(frames=5, **changes):
    """Return the records of a drive; the changes are in its third frame."""
    sent = control_record(VehicleControl(throttle=0.5))
    twist = twist_from_action([0.5, 0.25])
    records = [
        {
            'frame': i,
            'stamp_ns': i * 50_000_000,
            'role_name': 'ego_vehicle',
            'outcome': 'ok',
            'commands': 1,
            'sent': sent,
            'applied': sent,
            'observation_sha256': f'{i:064x}',
            'action': [0.5, 0.25],
            'twist': [twist.linear_x, twist.angular_z],
        }
        for i in range(1, frames + 1)
    ]
    records[2] |= changes
    return records


@pytest.fixture
def check(tmp_path, capsys):
    """Return a function that writes ledgers, checks them, and gives status and output."""

    def checked(*drives, options=(), action='check'):
        paths = [tmp_path / f'{n}.jsonl' for n in range(len(drives))]
        for path, records in zip(paths, drives, strict=True):
            with LedgerWriter(path) as writer:
                for record in records:
                    writer.write(record)
        with pytest.raises(SystemExit) as end:
            main(['ledger', action, *map(str, paths), *options])
        return end.value.code, capsys.readouterr()

    return checked


@pytest.mark.parametrize('action', ['check', 'CHECK'])
def test_good_ledger(check, action):
    status, said = check(drive(), action=action)
    assert status == 0
    lines = said.out.splitlines()
    assert lines[0].endswith('0.jsonl')
    assert len(lines) == 11
    assert all(line.split()[1] == 'ok' for line in lines[1:])


def test_fault_is_named_and_fails(check):
    status, said = check(drive(), drive(commands=2))
    assert status == 1
    assert said.out.count('FAULT') == 1
    assert '      frame 3: 2 commands, ok' in said.out.splitlines()


def test_only_the_first_faults_are_shown_and_the_rest_counted(check):
    status, said = check([record | {'commands': 2} for record in drive(9)])
    assert status == 1
    assert 'and 6 more' in said.out
    assert 'frame 4: 2' not in said.out


def test_json_and_summary_file_say_the_same(check, tmp_path):
    out = tmp_path / 'out'
    status, said = check(drive(commands=2), options=('--json', '--out', str(out)))
    assert status == 1
    summary = json.loads(said.out)
    assert summary == json.loads((out / 'summary.json').read_text('utf-8'))
    assert summary['holds'] is summary['files'][0]['holds'] is False
    assert summary['files'][0]['checks']['commands']['faults'] == ['frame 3: 2 commands, ok']
    assert summary['files'][0]['outcomes'] == {'ok': 5}


def test_equal_drives(check):
    status, said = check(drive(), drive(command_received_ns=7), options=('--equal', '--json'))
    assert status == 0  # when they were driven does not matter
    comparison = json.loads(said.out)['comparison']
    assert comparison == {
        'frames': [5, 5],
        'observation_hashes_different': 0,
        'action_hashes_different': 0,
        'first_difference': None,
        'equal': True,
    }


def test_difference_is_named_and_fails(check):
    status, said = check(drive(), drive(x_m=1.0), options=('--equal',))
    assert status == 1
    assert 'NOT EQUAL' in said.out
    assert 'first at frame 3, x_m:' in said.out


@pytest.mark.parametrize(('drives', 'count'), [([drive()], 1), ([drive()] * 3, 3)])
def test_equal_needs_two_files(check, drives, count):
    status, said = check(*drives, options=('--equal',))
    assert status == 2
    assert said.err == f'td3_agent ledger: --equal compares two files, got {count}\n'


def test_what_is_no_ledger_is_one_sentence(tmp_path, capsys):
    (tmp_path / 'notes.txt').write_text('hello\n', 'utf-8')
    for name, text in (('notes.txt', 'not JSON'), ('nowhere.jsonl', 'No such file')):
        with pytest.raises(SystemExit) as end:
            main(['ledger', 'check', str(tmp_path / name)])
        said = capsys.readouterr().err
        assert end.value.code == 2
        assert name in said
        assert text in said
        assert said.count('\n') == 1


LEDGER = [
    {'frame': i, 'observation_sha256': f'{i:064x}', 'action': [0.125 * i, -0.5]}
    for i in range(2, 10)
]


def changed(change):
    ledger = copy.deepcopy(LEDGER)
    change(ledger)
    return ledger


@pytest.mark.parametrize(
    ('change', 'observations', 'actions', 'same_ending'),
    [
        (lambda led: led[3].update(observation_sha256='0'), 1, 0, True),
        (lambda led: led[3]['action'].__setitem__(0, 0.3750001), 0, 1, True),
        (lambda led: led[3]['action'].__setitem__(1, 0.5), 0, 1, True),
        (lambda led: led[4].pop('action'), 0, 1, True),
        (lambda led: led[4].pop('observation_sha256'), 1, 0, True),
        (lambda led: led.pop(), 1, 1, False),
        (lambda led: led[-1].update(frame=11), 0, 0, False),
        (list.clear, 8, 8, False),
    ],
)
def test_every_difference_is_found(change, observations, actions, same_ending):
    for pair in ((LEDGER, changed(change)), (changed(change), LEDGER)):
        got = agreement(*pair)
        assert got['observation_hashes_different'] == observations
        assert got['action_hashes_different'] == actions
        assert got['same_ending_frame'] is same_ending
        assert not got['equal']


def test_equal_ledgers_have_no_first_difference():
    later = changed(lambda led: [record.update(step_sent_ns=9) for record in led])
    assert first_difference(LEDGER, later) is None  # when they were driven does not matter
    assert first_difference([], []) is None


@pytest.mark.parametrize(
    ('change', 'frame', 'field', 'values'),
    [
        (lambda led: led[3].update(observation_sha256='0'), 5, 'observation_sha256', None),
        (lambda led: led[3].update(x_m=1.0), 5, 'x_m', [None, 1.0]),
        (lambda led: led[3].update(twist=[0.0], action=[0.0]), 5, 'action', None),
        (lambda led: led[-1].update(frame=11), 9, 'frame', [9, 11]),
        (lambda led: led.append({'frame': 10}), 10, 'frame', [None, 10]),
        (lambda led: led.pop(), 9, 'frame', [9, None]),
        (list.clear, 2, 'frame', [2, None]),
    ],
)
def test_first_difference_is_named(change, frame, field, values):
    got = first_difference(LEDGER, changed(change))
    assert (got['frame'], got['field']) == (frame, field)
    assert values in (None, got['values'])


def test_frames_that_neither_answered_do_not_agree():
    mute = [{'frame': 2}]
    got = agreement(mute, mute)
    assert (got['observation_hashes_different'], got['action_hashes_different']) == (1, 1)
    assert not got['equal']


def test_two_empty_ledgers_do_not_agree():
    assert not agreement([], [])['equal']


def test_hash_is_of_the_float32_values():
    assert action_hash({'action': [0.1, 0.2]}) == action_hash({'action': [0.1 + 1e-12, 0.2]})
    assert action_hash({'action': [0.1, 0.2]}) != action_hash({'action': [0.1 + 1e-7, 0.2]})
    assert action_hash({}) is None

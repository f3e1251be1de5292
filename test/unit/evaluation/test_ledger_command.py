# SPDX-License-Identifier: Apache-2.0
"""``td3_agent ledger check``: what it prints, and the status that scripts go by."""

import json

import pytest

from td3_agent.__main__ import main
from td3_agent.driving.command import VehicleControl, twist_from_action
from td3_agent.driving.ledger import LedgerWriter, control_record


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
    status, said = check(drive(), drive(command_heard_ns=7), options=('--equal', '--json'))
    assert status == 0  # when they were driven does not matter
    comparison = json.loads(said.out)['comparison']
    assert comparison == {
        'frames': [5, 5],
        'observation_hashes_different': 0,
        'action_hashes_different': 0,
        'first_difference': None,
        'equal': True,
    }


@pytest.mark.parametrize(
    ('other', 'frame', 'field'),
    [
        (drive(observation_sha256='f' * 64), 3, 'observation_sha256'),
        (drive(x_m=1.0), 3, 'x_m'),
        (drive(4), 5, 'frame'),
        (drive(6), 6, 'frame'),
    ],
)
def test_first_difference_is_named_and_fails(check, other, frame, field):
    status, said = check(drive(), other, options=('--equal',))
    assert status == 1
    assert 'NOT EQUAL' in said.out
    assert f'first at frame {frame}, {field}:' in said.out


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

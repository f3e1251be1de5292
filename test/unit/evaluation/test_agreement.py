# SPDX-License-Identifier: Apache-2.0
"""Two ledgers of one episode agree only if nothing at all differs."""

import copy

import pytest

from td3_agent.evaluation.ledger_command import action_hash, agreement, first_difference

LEDGER = [
    {'frame': i, 'observation_sha256': f'{i:064x}', 'action': [0.125 * i, -0.5]}
    for i in range(2, 10)
]


def changed(change):
    ledger = copy.deepcopy(LEDGER)
    change(ledger)
    return ledger


def test_equal_ledgers_agree():
    got = agreement(LEDGER, copy.deepcopy(LEDGER))
    assert got == {
        'frames_direct': 8,
        'frames_ros': 8,
        'observation_hashes_different': 0,
        'action_hashes_different': 0,
        'same_ending_frame': True,
        'equal': True,
    }


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

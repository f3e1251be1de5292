# SPDX-License-Identifier: Apache-2.0
"""Two ledgers of one episode agree only if nothing at all differs."""

import copy

import pytest

from td3_agent.evaluation.agreement import action_hash, agreement

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

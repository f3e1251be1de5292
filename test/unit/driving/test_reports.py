# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Frame reports: what may be said of a frame, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.reports import (
    AGENT_FACTS,
    ALL_FACTS,
    GATE_FACTS,
    checked_facts,
    fact_text,
    shown,
)

HASH = 'a' * 64


def wire(**facts):
    return [(name, fact_text(value)) for name, value in facts.items()]


def test_what_agent_and_gate_say_is_taken():
    agent = {
        'observation_sha256': HASH,
        'action': [0.5, -1],
        'action_sha256': HASH,
        'twist': [4.0, 0.1],
        'agent_error': 'driver failed: out of order',
        'image_received_ns': 3,
        'odometry_received_ns': 2,
        'observed_ns': 4,
        'decided_ns': 5,
        'twist_published_ns': 6,
    }
    gate = {'outcome': 'stopped_no_command', 'gate_published_ns': 9, 'twist_received_ns': 0}
    assert checked_facts(wire(**agent), AGENT_FACTS) == agent
    assert checked_facts(wire(**gate), GATE_FACTS) == gate


@pytest.mark.parametrize(
    ('pair', 'text'),
    [
        (('stamp_ns', '1'), "no fact 'stamp_ns'"),  # would be an argument of FrameLog.note
        (('self', '1'), "no fact 'self'"),
        (('outcome', 'ok'), "no fact 'outcome'"),  # the gate's to say, not the agent's
        (('x' * 1000, '1'), '(1000 characters)'),
        (('action', 'nan 0'), 'action must be up to 16 finite numbers'),
        (('action', 'inf'), 'finite'),
        (('action', '1e999'), 'finite'),
        (('action', '1_0'), 'finite'),
        (('action', '[0.5, 0.0]'), 'separated by spaces'),
        (('action', '0 ' * 17), 'up to 16'),
        (('action', '0' * 100_000), 'finite numbers'),
        (('action', 'True'), 'finite numbers'),
        (('observation_sha256', 'A' * 64), '64 hexadecimal digits'),
        (('decided_ns', '-1'), 'a steady time [ns]'),
        (('decided_ns', '1.5'), 'a steady time [ns]'),
        (('decided_ns', '9' * 19), 'a steady time [ns]'),
        (('decided_ns', '9' * 4096), 'decided_ns must be'),
        (('decided_ns', '\u0664'), 'a steady time [ns]'),  # a digit, but not of ASCII
        (('decided_ns', 'now'), 'a steady time [ns]'),
        (('agent_error', 'x' * 2000), 'up to 1024 characters'),
    ],
    ids=lambda value: value[0][:20] if isinstance(value, tuple) else '',
)
def test_everything_else_is_refused_by_name(pair, text):
    with pytest.raises(ValueError, match=r'must|fact') as refusal:
        checked_facts([pair], AGENT_FACTS)
    assert text in str(refusal.value)
    assert len(str(refusal.value)) < 250


def test_outcome_is_a_word():
    for bad in ('OK!', 'x' * 41, '', 3):
        with pytest.raises(ValueError, match='outcome must be lower-case letters'):
            checked_facts(wire(outcome=bad), GATE_FACTS)


def test_endless_reports_are_refused():
    with pytest.raises(ValueError, match='at most 64 facts'):
        checked_facts(
            wire(**{f'fact_{n}': 1 for n in range(100)}),
            {f'fact_{n}': (str, '') for n in range(100)},
        )


@given(
    st.lists(st.tuples(st.sampled_from([*ALL_FACTS, 'frame']), st.text() | st.binary().map(repr)))
)
def test_any_text_is_either_a_fact_or_refused(pairs):
    try:
        facts = checked_facts(pairs, ALL_FACTS)
    except ValueError:
        return
    assert checked_facts(wire(**facts), ALL_FACTS) == facts


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=16))
def test_numbers_arrive_bit_by_bit(numbers):
    (found,) = checked_facts(wire(action=numbers), AGENT_FACTS).values()
    assert list(map(repr, found)) == list(map(repr, numbers))


def test_long_values_are_shown_short():
    assert shown('short') == "'short'"
    assert shown('x' * 1_000_000) == "'" + 'x' * 60 + "'... (1000000 characters)"
    assert shown(3) == '3'

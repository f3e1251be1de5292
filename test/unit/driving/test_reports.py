# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Frame reports: what may be said of a frame, and nothing else."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.reports import (
    AGENT_FIELDS,
    ALL_FIELDS,
    GATE_FIELDS,
    checked_fields,
    field_text,
    shown,
)

HASH = 'a' * 64


def wire(**fields):
    return [(name, field_text(value)) for name, value in fields.items()]


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
    assert checked_fields(wire(**agent), AGENT_FIELDS) == agent
    assert checked_fields(wire(**gate), GATE_FIELDS) == gate


@pytest.mark.parametrize(
    ('pair', 'text'),
    [
        (('stamp_ns', '1'), "no field 'stamp_ns'"),  # would be an argument of FrameLog.note
        (('self', '1'), "no field 'self'"),
        (('outcome', 'ok'), "no field 'outcome'"),  # the gate's to say, not the agent's
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
def test_everything_else_is_rejected_by_name(pair, text):
    with pytest.raises(ValueError, match=r'must|field') as rejection:
        checked_fields([pair], AGENT_FIELDS)
    assert text in str(rejection.value)
    assert len(str(rejection.value)) < 250


def test_outcome_is_a_word():
    for bad in ('OK!', 'x' * 41, '', 3):
        with pytest.raises(ValueError, match='outcome must be lower-case letters'):
            checked_fields(wire(outcome=bad), GATE_FIELDS)


def test_endless_reports_are_rejected():
    with pytest.raises(ValueError, match='at most 64 fields'):
        checked_fields(
            wire(**{f'fact_{n}': 1 for n in range(100)}),
            {f'fact_{n}': (str, '') for n in range(100)},
        )


@given(
    st.lists(st.tuples(st.sampled_from([*ALL_FIELDS, 'frame']), st.text() | st.binary().map(repr)))
)
def test_any_text_is_either_a_fact_or_rejected(pairs):
    try:
        fields = checked_fields(pairs, ALL_FIELDS)
    except ValueError:
        return
    assert checked_fields(wire(**fields), ALL_FIELDS) == fields


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=16))
def test_numbers_arrive_bit_by_bit(numbers):
    (found,) = checked_fields(wire(action=numbers), AGENT_FIELDS).values()
    assert list(map(repr, found)) == list(map(repr, numbers))


def test_long_values_are_shown_short():
    assert shown('short') == "'short'"
    assert shown('x' * 1_000_000) == "'" + 'x' * 60 + "'... (1000000 characters)"
    assert shown(3) == '3'

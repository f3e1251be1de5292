# SPDX-License-Identifier: Apache-2.0
"""Frame reports: what may be said of a frame, and nothing else."""

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.reports import AGENT_FACTS, ALL_FACTS, GATE_FACTS, checked_facts, shown

HASH = 'a' * 64


def wire(**facts):
    return [(name, json.dumps(value)) for name, value in facts.items()]


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
        (('outcome', '"ok"'), "no fact 'outcome'"),  # the gate's to say, not the agent's
        (('x' * 1000, '1'), '(1000 characters)'),
        (('action', '[NaN, 0]'), 'action must be a list of up to 16 finite numbers'),
        (('action', '[Infinity]'), 'finite'),
        (('action', '[' * 100_000), '<= 4096 characters'),
        (('action', '[' * 4000), 'action must be JSON'),
        (('action', '[' + '0,' * 16 + '0]'), 'up to 16'),
        (('action', '[true]'), 'finite numbers'),
        (('observation_sha256', '"' + 'A' * 64 + '"'), '64 hexadecimal digits'),
        (('decided_ns', '-1'), 'a steady time [ns]'),
        (('decided_ns', '1.5'), 'a steady time [ns]'),
        (('decided_ns', '9' * 30), 'a steady time [ns]'),
        (('decided_ns', '9' * 4096), 'decided_ns must be'),
        (('decided_ns', '"now"'), 'a steady time [ns]'),
        (('agent_error', '"' + 'x' * 2000 + '"'), 'up to 1024 characters'),
        (('agent_error', ''), 'must be JSON'),
    ],
    ids=lambda value: value[0][:20] if isinstance(value, tuple) else '',
)
def test_everything_else_is_refused_by_name(pair, text):
    with pytest.raises(ValueError, match=r'must|fact') as refusal:
        checked_facts([pair], AGENT_FACTS)
    assert text in str(refusal.value)
    assert len(str(refusal.value)) < 250


def test_outcome_is_a_word():
    for bad in (['ok'], {'a': 1}, 'OK!', 'x' * 41, '', 3):
        with pytest.raises(ValueError, match='outcome must be lower-case letters'):
            checked_facts(wire(outcome=bad), GATE_FACTS)


def test_endless_reports_are_refused():
    with pytest.raises(ValueError, match='at most 64 facts'):
        checked_facts(
            wire(**{f'fact_{n}': 1 for n in range(100)}),
            {f'fact_{n}': (lambda _: True, '') for n in range(100)},
        )


@given(
    st.lists(st.tuples(st.sampled_from([*ALL_FACTS, 'frame']), st.text() | st.binary().map(repr)))
)
def test_any_text_is_either_a_fact_or_refused(pairs):
    try:
        facts = checked_facts(pairs, ALL_FACTS)
    except ValueError:
        return
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_long_values_are_shown_short():
    assert shown('short') == "'short'"
    assert shown('x' * 1_000_000) == "'" + 'x' * 60 + "'... (1000000 characters)"
    assert shown(3) == '3'

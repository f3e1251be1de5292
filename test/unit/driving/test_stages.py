# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Stages lie end to end: whatever the timestamps are, they add up to the whole."""

import json

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.ledger import FrameLog
from td3_agent.driving.stages import (
    AGENT_STAGES,
    END_TO_END,
    STAGES,
    StageWindow,
    agent_durations_ns,
    end_to_end_ns,
    percentiles_ms,
    stage_durations_ns,
    timestamps_ns,
)

START_NS = 10**12
FRAME = {
    'step_sent_ns': START_NS,
    'announced_ns': START_NS + 100,
    'image_received_ns': START_NS + 300,
    'image_prepared_ns': START_NS + 330,
    'odometry_received_ns': START_NS + 350,
    'observed_ns': START_NS + 500,
    'decided_ns': START_NS + 1500,
    'twist_published_ns': START_NS + 1700,
    'twist_received_ns': START_NS + 1800,
    'gate_published_ns': START_NS + 2100,
    'frame_closed_ns': START_NS + 3000,
}
SPANS = {
    'tick': 100,
    'receive': 200,
    'pair': 20,
    'preprocess': 180,
    'inference': 1000,
    'publish': 200,
    'gate': 400,
    'acknowledge': 900,
}


def at(**offsets):
    """Return the frame with other timestamps."""
    return FRAME | {f'{name}_ns': START_NS + offset for name, offset in offsets.items()}


def test_each_stage_of_a_known_frame():
    assert stage_durations_ns(FRAME) == SPANS
    assert sum(SPANS.values()) == end_to_end_ns(FRAME) == 3000


def test_odometry_may_come_first():
    durations = stage_durations_ns(
        at(odometry_received=300, image_received=420, image_prepared=450)
    )
    assert (durations['receive'], durations['pair'], durations['preprocess']) == (200, 120, 80)


def test_receiver_that_has_a_message_ends_its_sending():
    """The sender may lose the processor between publishing and looking at the clock."""
    durations = stage_durations_ns(at(twist_published=2050))
    assert (durations['publish'], durations['gate']) == (300, 300)
    durations = stage_durations_ns(at(announced=900))
    assert (durations['tick'], durations['receive']) == (300, 0)


@pytest.mark.parametrize('name', list(FRAME))
def test_stages_are_unknown_without_any_one_instant(name):
    record = {key: value for key, value in FRAME.items() if key != name}
    assert timestamps_ns(record) is None
    assert stage_durations_ns(record) is None


@pytest.mark.parametrize(
    'offsets',
    [
        # A frame that we have not stepped.
        {'image_received': -5, 'image_prepared': -4, 'odometry_received': -4},
        {'observed': 1501},
        {'gate_published': 1600},
        {'frame_closed': 2000},  # given up before the answer
    ],
)
def test_stages_are_unknown_when_instants_are_out_of_order(offsets):
    assert timestamps_ns(at(**offsets)) is not None
    assert stage_durations_ns(at(**offsets)) is None


@given(
    st.lists(st.integers(0, 10**9), min_size=10, max_size=10), st.booleans(), st.integers(0, 10)
)
def test_stages_add_up_whatever_the_instants(offsets, odometry_first, lag_ns):
    names = [name for name in FRAME if name != 'twist_received_ns']
    record = dict(zip(names, sorted(offsets), strict=True))
    record['twist_received_ns'] = record['twist_published_ns']
    record['twist_published_ns'] += lag_ns
    if odometry_first:
        image_ns, prepared_ns = record['image_received_ns'], record['image_prepared_ns']
        record['image_received_ns'] = prepared_ns
        record['image_prepared_ns'] = record['odometry_received_ns']
        record['odometry_received_ns'] = image_ns
    durations = stage_durations_ns(record)
    assert list(durations) == list(STAGES)
    assert min(durations.values()) >= 0
    assert sum(durations.values()) == end_to_end_ns(record)


def test_agent_knows_its_own_stages():
    assert agent_durations_ns(FRAME) == {name: SPANS[name] for name in AGENT_STAGES}
    assert agent_durations_ns({'image_received_ns': 1, 'odometry_received_ns': 2}) is None


def test_end_to_end_needs_both_ends():
    assert end_to_end_ns({'step_sent_ns': 1}) is None
    assert end_to_end_ns({'frame_closed_ns': 1}) is None


def test_percentiles_of_stages_and_of_their_sum():
    frames = [{'gate': i * 1_000_000, 'tick': 2_000_000} for i in range(101)]
    got = percentiles_ms(frames)
    assert got['gate'] == pytest.approx({'p50': 50.0, 'p99': 99.0})
    assert got['tick'] == {'p50': 2.0, 'p99': 2.0}
    assert got[END_TO_END] == pytest.approx({'p50': 52.0, 'p99': 101.0})
    assert percentiles_ms([]) == {}


def test_window_forgets_old_frames_and_frames_that_are_not_timed():
    window = StageWindow(frames=10)
    assert window.figures() == {}
    for i in range(25):
        window.add({'gate': i * 1_000_000})
        window.add(None)
    figures = window.figures()
    assert figures['gate_p50_ms'] == 19.5  # of 15 ... 24
    assert set(figures) == {
        f'{stage}_{p}_ms' for stage in ('gate', END_TO_END) for p in ('p50', 'p99')
    }


def test_log_enters_the_stages_of_each_frame():
    log = FrameLog('ego_vehicle')
    log.note_command(50, VehicleControl(), received_ns=1)
    log.note(50, outcome='ok', **FRAME)
    log.close_frame(1, 50)
    log.close_frame(2, 100)
    timed, untimed = json.loads(json.dumps(log.flush()))
    assert timed['stages_ns'] == SPANS
    assert 'stages_ns' not in untimed

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of a drive, each against a drive whose figures are known."""

import math

import numpy as np
import pytest

from td3_agent.driving.endpoints import Finding
from td3_agent.driving.ledger import SKIPPED
from td3_agent.driving.route import Route
from td3_agent.evaluation.summary import (
    along,
    command_pace,
    finding_lines,
    findings_of,
    latencies,
    onsets,
    summarize,
    table,
    track,
    travelled_m,
)

LINE = Route(np.column_stack((np.arange(101.0), np.zeros(101))))
CIRCLE_RADIUS_M = 20.0
ANGLES = np.linspace(0.0, 2.0 * math.pi, 400, endpoint=False)
CIRCLE = Route(CIRCLE_RADIUS_M * np.column_stack((np.cos(ANGLES), np.sin(ANGLES))), closed=True)
SENT = {'throttle': 0.5}


def record(frame=1, **facts):
    good = {'frame': frame, 'outcome': 'ok', 'commands': 1, 'sent': SENT, 'applied': SENT}
    return good | facts


def skipped(frame=1):
    return {'frame': frame, 'role_name': 'ego_vehicle', 'outcome': SKIPPED}


def on_line(xs, y_m=0.0, speed_mps=2.0):
    return [record(i, x_m=float(x), y_m=y_m, speed_mps=speed_mps) for i, x in enumerate(xs)]


def on_circle(turns, frames=200):
    angles = np.linspace(0.0, 2.0 * math.pi * turns, frames)
    return CIRCLE_RADIUS_M * np.column_stack((np.cos(angles), np.sin(angles)))


def test_lateral_error_counts_on_either_side():
    places = np.array([(10.0, 0.0), (11.0, 0.4), (12.0, -0.8)])
    arc_m, lateral_m = along(places, LINE)
    np.testing.assert_allclose(arc_m, [10.0, 11.0, 12.0])
    np.testing.assert_allclose(lateral_m, [0.0, 0.4, -0.8])  # left positive
    driven = [record(x_m=x, y_m=y, speed_mps=1.0) for x, y in places.tolist()]
    got = track(driven, LINE)
    assert got['lateral_error_max_m'] == pytest.approx(0.8)
    assert got['lateral_error_rms_m'] == pytest.approx(math.sqrt((0.16 + 0.64) / 3.0))


@pytest.mark.parametrize(
    ('xs', 'distance_m', 'completion'),
    [
        (np.arange(0.0, 50.5, 0.5), 50.0, 0.5),
        (range(101), 100.0, 1.0),
        (range(130), 129.0, 1.0),
        ([*range(60), *range(60, 0, -1)], 119.0, 0.6),  # turning back undoes nothing
        ([5.0], 0.0, 0.05),
    ],
)
def test_distance_and_progress(xs, distance_m, completion):
    got = track(on_line(xs, y_m=0.3), LINE)
    assert got['distance_m'] == pytest.approx(distance_m)
    assert got['route_completion'] == pytest.approx(completion)
    assert got['mean_speed_mps'] == pytest.approx(2.0)


def test_teleport_is_no_distance():
    assert track(on_line([0.0, 1.0, 2.0, 52.0, 53.0]), LINE)['distance_m'] == pytest.approx(3.0)


@pytest.mark.parametrize('turns', [0.25, 0.5, 0.9, 1.0, 1.5, 2.25])
def test_way_along_a_closed_route_goes_on_beyond_the_seam(turns):
    arc_m, _ = along(on_circle(turns), CIRCLE)
    assert travelled_m(arc_m, CIRCLE) == pytest.approx(turns * CIRCLE.length_m, rel=1e-3)


def test_lap_that_begins_anywhere_is_one_lap():
    places = np.roll(on_circle(1.0)[:-1], 70, axis=0)
    arc_m, _ = along(places, CIRCLE)
    assert travelled_m(arc_m, CIRCLE) == pytest.approx(CIRCLE.length_m * 198 / 199, rel=1e-3)


def test_driving_a_lap_backwards_completes_nothing():
    arc_m, _ = along(on_circle(1.0)[::-1], CIRCLE)
    assert travelled_m(arc_m, CIRCLE) == 0.0


def test_frames_without_odometry_are_left_out_of_the_track():
    records = [record(0), *on_line([1.0, 2.0]), record(3)]
    got = summarize(records, LINE)
    assert got['frames'] == 4
    assert got['distance_m'] == pytest.approx(1.0)


def test_drive_without_any_odometry_has_no_track():
    got = summarize([record(1), record(2)], LINE)
    names = ('distance_m', 'mean_speed_mps', 'route_completion')
    assert [got[name] for name in names] == [None] * 3
    assert (got['lateral_error_max_m'], got['lateral_error_rms_m']) == (None, None)


def test_counts_of_outcomes_and_violations():
    records = [
        record(1),
        record(2, outcome='stopped_no_command'),
        record(3, applied={'throttle': 0.0}),
        skipped(4),
        skipped(5),
        record(6, commands=2, applied=None),
    ]
    got = summarize(records, LINE)
    assert got['frames'] == 4
    assert got['outcomes'] == {'ok': 3, 'stopped_no_command': 1, SKIPPED: 2}
    assert (got['frames_skipped'], got['frames_duplicate'], got['frames_misapplied']) == (2, 1, 1)
    assert got['violations'] == 4


def test_empty_drive():
    got = summarize([], LINE)
    assert (got['frames'], got['violations'], got['outcomes']) == (0, 0, {})
    assert got['command_rate_hz'] is None
    assert got['image_to_twist_p50_ms'] is None


def test_even_pace_has_a_rate_and_no_jitter():
    records = [record(i, command_received_ns=10**12 + i * 50_000_000) for i in range(100)]
    pace = command_pace(records)
    assert pace['command_rate_hz'] == pytest.approx(20.0)
    assert pace['command_jitter_ms'] == pytest.approx(0.0, abs=1e-6)


def test_jitter_is_the_standard_deviation_of_the_intervals():
    received_ns, records = 10**12, []
    for i in range(101):
        records.append(record(i, command_received_ns=received_ns))
        received_ns += 50_000_000 + (3_000_000 if i % 2 else -3_000_000)
    assert command_pace(records)['command_jitter_ms'] == pytest.approx(3.0)
    assert command_pace(records[::-1])['command_rate_hz'] == pytest.approx(20.0, rel=1e-2)


@pytest.mark.parametrize('heard', [[], [5], [0, 0, 0]])  # the direct path hears nothing: 0
def test_pace_of_fewer_than_two_commands_is_unknown(heard):
    pace = command_pace([record(command_received_ns=ns) for ns in heard])
    assert pace == {'command_rate_hz': None, 'command_jitter_ms': None}


def test_latency_percentiles():
    records = [
        record(i, image_received_ns=10**12, twist_published_ns=10**12 + i * 1_000_000)
        for i in range(1, 102)
    ]
    records += [record(image_received_ns=5), record(twist_published_ns=5), skipped()]
    got = latencies(records)
    assert got['image_to_twist_p50_ms'] == pytest.approx(51.0)
    assert got['image_to_twist_p99_ms'] == pytest.approx(100.0)


def test_stages_are_a_table_within_the_table():
    spans = {'gate': 2_000_000, 'acknowledge': 500_000}
    summary = summarize([record(i, stages_ns=spans) for i in range(5)] + [record()], LINE)
    assert summary['stages_ms']['gate'] == {'p50': 2.0, 'p99': 2.0}
    assert summary['stages_ms']['end_to_end'] == {'p50': 2.5, 'p99': 2.5}
    lines = [line.split() for line in table(summary).splitlines()]
    at = lines.index(['stages_ms', 'p50', 'p99'])
    assert lines[at + 1 : at + 4] == [
        ['gate', '2.000', '2.000'],
        ['acknowledge', '0.500', '0.500'],
        ['end_to_end', '2.500', '2.500'],
    ]


def test_contact_counts_once_while_it_lasts_and_again_after_a_pause():
    hit = record(collision=200)
    records = [record(), hit, hit, hit, record(), hit, record()]
    assert onsets(records, 'collision') == [False, True, False, False, False, True, False]
    records[2] = hit | {'lane_invasion': [2]}
    got = summarize(records, LINE)
    assert (got['collisions'], got['lane_invasions']) == (2, 1)


def test_table_has_a_line_per_figure():
    summary = summarize([*on_line([0.0, 1.0]), skipped()], LINE)
    lines = table(summary).splitlines()
    assert [line.split()[0] for line in lines] == list(summary)
    texts = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    assert texts['distance_m'] == '1.000'
    assert texts['outcomes'] == f'ok 2, {SKIPPED} 1'
    assert texts['command_rate_hz'] == '-'
    assert texts['violations'] == '1'


def test_findings_of_stopped_frames_come_from_the_frames_or_from_the_ledger():
    records = [record(outcome='stopped_no_command' if i % 2 else 'ok') for i in range(60)]
    (found,) = findings_of(records)
    assert found.is_error
    assert found.text.startswith('30 of 60 frames without the command')
    cause = Finding('td3_agent: every second frame has no image', is_error=False)
    assert findings_of(records, [cause]) == [found, cause]  # cut off before its verdict
    bridges = Finding('two bridges in ROS domain 7', is_error=True)
    assert findings_of(records, [cause, bridges]) == [bridges, cause]
    assert findings_of([record()] * 60) == []


def test_findings_have_lines_of_their_own_beside_the_table():
    found = [Finding('no image', is_error=True), Finding('10 Hz', is_error=False)]
    assert finding_lines(found) == 'error: no image\nwarning: 10 Hz\n'
    assert 'findings' not in table({'frames': 3, 'findings': ['x']})

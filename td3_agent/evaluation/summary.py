# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a drive adds up to, computed from its ledger alone, in simulated time."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.ledger import SKIPPED, LogCounts
from td3_agent.driving.loop_check import drive_findings
from td3_agent.driving.stages import percentiles_ms

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.route import Route

# A car moves less than this between two frames; more is a teleport and no distance driven.
LONGEST_FRAME_M = 5.0


def summarize(records: Sequence[dict[str, Any]], route: Route) -> dict[str, Any]:
    """Return the figures of a drive along ``route``; units are part of the names."""
    counts = LogCounts()
    for record in records:
        counts.add(record)
    driven = [record for record in records if 'x_m' in record]
    return {
        'frames': counts.frames,
        'outcomes': counts.outcomes,
        'violations': counts.violations,
        'frames_skipped': counts.skipped,
        'frames_duplicate': counts.duplicate,
        'frames_misapplied': counts.misapplied,
        **command_pace(records),
        **latencies(records),
        'stages_ms': percentiles_ms([r['stages_ns'] for r in records if 'stages_ns' in r]),
        **track(driven, route),
        'collisions': sum(onsets(records, 'collision')),
        'lane_invasions': sum(onsets(records, 'lane_invasion')),
    }


def command_pace(records: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Return rate [Hz] and jitter [ms] (standard deviation of intervals) of the commands."""
    received = [r['command_received_ns'] for r in records if r.get('command_received_ns')]
    intervals_ms = np.diff(np.array(sorted(received), dtype=np.float64)) / 1e6
    if not intervals_ms.any():
        return {'command_rate_hz': None, 'command_jitter_ms': None}
    return {
        'command_rate_hz': float(1e3 / intervals_ms.mean()),
        'command_jitter_ms': float(intervals_ms.std()),
    }


def latencies(records: Iterable[dict[str, Any]]) -> dict[str, float | None]:
    """Return median and 99th percentile [ms] from image received to Twist published."""
    spans = [
        (r['twist_published_ns'] - r['image_received_ns']) / 1e6
        for r in records
        if 'twist_published_ns' in r and 'image_received_ns' in r
    ]
    if not spans:
        return {'image_to_twist_p50_ms': None, 'image_to_twist_p99_ms': None}
    p50, p99 = np.percentile(spans, [50, 99])
    return {'image_to_twist_p50_ms': float(p50), 'image_to_twist_p99_ms': float(p99)}


def track(driven: Sequence[dict[str, Any]], route: Route) -> dict[str, float | None]:
    """Return distance, speed, progress and lateral error of the frames with odometry."""
    if not driven:
        names = ('distance_m', 'mean_speed_mps', 'route_completion', 'lateral_error_max_m')
        return dict.fromkeys((*names, 'lateral_error_rms_m'))
    places = np.array([(r['x_m'], r['y_m']) for r in driven])
    steps_m = np.hypot(*np.diff(places, axis=0).T) if len(places) > 1 else np.zeros(0)
    arc_m, lateral_m = along(places, route)
    return {
        'distance_m': float(steps_m[steps_m < LONGEST_FRAME_M].sum()),
        'mean_speed_mps': float(np.mean([r['speed_mps'] for r in driven])),
        'route_completion': float(min(travelled_m(arc_m, route) / route.length_m, 1.0)),
        'lateral_error_max_m': float(np.abs(lateral_m).max()),
        'lateral_error_rms_m': float(np.sqrt(np.mean(lateral_m**2))),
    }


def along(
    places: NDArray[np.float64], route: Route
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return arc length and lateral error (left positive) of each place, both (N,) [m]."""
    arc_m, lateral_m = np.empty(len(places)), np.empty(len(places))
    near_m: float | None = None
    for i, (x_m, y_m) in enumerate(places.tolist()):
        projection = route.project(x_m, y_m, near_m)
        near_m = arc_m[i] = projection.s_m
        lateral_m[i] = projection.lateral_m
    return arc_m, lateral_m


def travelled_m(arc_m: NDArray[np.float64], route: Route) -> float:
    """Return the distance along the route since its start [m]; laps of a closed one count."""
    steps_m = np.diff(arc_m)
    if not route.closed:
        return float(arc_m.max())
    half_m = route.length_m / 2.0
    steps_m = (steps_m + half_m) % route.length_m - half_m
    return float(np.cumsum(steps_m).max(initial=0.0))


def onsets(records: Iterable[dict[str, Any]], event: str) -> list[bool]:
    """Return for each record whether ``event`` begins there: lasting contact counts once."""
    begins, lasted = [], False
    for record in records:
        happens = event in record
        begins.append(happens and not lasted)
        lasted = happens and record['outcome'] != SKIPPED
    return begins


def findings_of(
    records: Iterable[dict[str, Any]], at_the_end: Iterable[Finding] = ()
) -> list[Finding]:
    """Return the findings of a drive, errors first.

    Args:
        records: its frames; they give the findings of a ledger that was cut off.
        at_the_end: findings at the end of its ledger.
    """
    outcomes = Counter(str(record['outcome']) for record in records)
    found = list(at_the_end)
    if not any(finding.is_error for finding in found):
        found = drive_findings(outcomes) + found
    return sorted(found, key=lambda finding: not finding.is_error)


def finding_lines(found: Iterable[Finding]) -> str:
    """Return findings as lines for a terminal."""
    return ''.join(f'{"error" if one.is_error else "warning"}: {one.text}\n' for one in found)


def table(summary: dict[str, Any]) -> str:
    """Return the figures as lines for a terminal; a table within has a line per row.

    Findings have lines of their own.
    """
    figures = {name: value for name, value in summary.items() if name != 'findings'}
    rows = [row for name, value in figures.items() for row in _rows(name, value)]
    width = max(len(name) for name, _ in rows)
    return '\n'.join(f'  {name:<{width}}  {text}' for name, text in rows)


def _rows(name: str, value: object) -> list[tuple[str, str]]:
    """Return the lines of one figure, each a label and a text."""
    if not isinstance(value, dict) or not value:
        return [(name, _text(value))]
    if not all(isinstance(row, dict) for row in value.values()):
        return [(name, _text(value))]
    heads = next(iter(value.values()))
    rows = [(f'  {label}', _cells(map(_text, row.values()))) for label, row in value.items()]
    return [(name, _cells(heads)), *rows]


def _cells(texts: Iterable[str]) -> str:
    """Return the cells of one row, aligned."""
    return '  '.join(f'{text:>7}' for text in texts)


def _text(value: object) -> str:
    """Return a figure as a short text."""
    if value is None or (isinstance(value, (str, list, dict)) and not value):
        return '-'
    if isinstance(value, float):
        return f'{value:.3f}'
    if isinstance(value, dict):
        return ', '.join(f'{key} {item}' for key, item in value.items())
    return str(value)


def who_drives(summary: dict[str, Any]) -> str:
    """Return the driver as people call it."""
    if summary['driver'] == 'td3':
        return f'TD3 policy {Path(summary["policy"]).name}'
    return str(summary['driver']).replace('_', ' ')

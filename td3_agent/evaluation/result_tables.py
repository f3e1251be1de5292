# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Results of an evaluation as text: for the terminal, for a spreadsheet, for the docs."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PERCENT = 100.0
DEGREES_PER_RADIAN = 57.29577951308232

# Figure, heading, factor, digits.
EPISODE_COLUMNS = (
    ('route_completion', 'route [%]', PERCENT, 1),
    ('driving_score', 'score [%]', PERCENT, 1),
    ('collisions', 'collisions', 1.0, 0),
    ('lane_invasions', 'invasions', 1.0, 0),
    ('off_road_share', 'off road [%]', PERCENT, 1),
    ('distance_m', 'distance [m]', 1.0, 0),
    ('mean_speed_mps', 'speed [m/s]', 1.0, 2),
    ('lateral_error_rms_m', 'lateral RMS [m]', 1.0, 2),
    ('jerk_rms_mps3', 'jerk RMS [m/s³]', 1.0, 1),
    ('attempts', 'attempts', 1.0, 0),
)
FIGURE_ROWS = (
    ('success_rate', 'success [%]', PERCENT, 1),
    ('route_completion', 'route completion [%]', PERCENT, 1),
    ('driving_score', 'driving score [%]', PERCENT, 1),
    ('collisions_per_km', 'collisions [1/km]', 1.0, 2),
    ('lane_invasions_per_km', 'lane invasions [1/km]', 1.0, 2),
    ('off_road_share', 'off road [% of the distance]', PERCENT, 2),
    ('outside_lanes_share', "outside the route's lanes [% of the distance]", PERCENT, 2),
    ('mean_speed_mps', 'mean speed [m/s]', 1.0, 2),
    ('lateral_error_rms_m', 'lateral error RMS [m]', 1.0, 3),
    ('lateral_error_p95_m', 'lateral error p95 [m]', 1.0, 3),
    ('heading_error_rms_rad', 'heading error RMS [°]', DEGREES_PER_RADIAN, 2),
    ('longitudinal_jerk_rms_mps3', 'longitudinal jerk RMS [m/s³]', 1.0, 2),
    ('lateral_jerk_rms_mps3', 'lateral jerk RMS [m/s³]', 1.0, 2),
    ('jerk_rms_mps3', 'jerk RMS [m/s³]', 1.0, 2),
    ('lateral_acceleration_rms_mps2', 'lateral acceleration RMS [m/s²]', 1.0, 2),
    ('lateral_acceleration_max_mps2', 'lateral acceleration, largest [m/s²]', 1.0, 2),
)
NOTHING = '-'


def report(summary: dict[str, Any], out: Path) -> str:
    """Return what is printed at the end."""
    parts = [episode_table(summary['episodes']), figure_table(summary)]
    if 'comparison' in summary:
        parts.append(agreement_table(summary['comparison']))
    parts += [finding_lines(summary['findings'])] if summary['findings'] else []
    return '\n\n'.join(parts) + f'\n\nresults in {out}\n'


def finding_lines(found: list[dict[str, Any]]) -> str:
    """Return what was wrong with the drives, a line for each thing."""
    return '\n'.join(
        f'{"error" if one["is_error"] else "warning"}: {one["text"]} '
        f'(episodes {", ".join(map(str, one["episodes"]))})'
        for one in found
    )


def episode_table(episodes: Sequence[dict[str, Any]]) -> str:
    """Return one line per episode for a terminal."""
    header = ['episode', 'ending', *(heading for _, heading, _, _ in EPISODE_COLUMNS)]
    rows = [
        [
            str(episode['episode']),
            ending_text(episode),
            *(number(episode[name], scale, digits) for name, _, scale, digits in EPISODE_COLUMNS),
        ]
        for episode in episodes
    ]
    return aligned([header, *rows])


def ending_text(episode: dict[str, Any]) -> str:
    """Return how an episode ended; a goal reached with an infraction is no plain goal."""
    text = str(episode['ending']).replace('_', ' ')
    return f'{text}, infraction' if text == 'goal' and not episode['success'] else text


def figure_table(summary: dict[str, Any]) -> str:
    """Return the figures of all drivers for a terminal, one line per figure."""
    drivers = rows_of(summary)
    header = ['', *drivers]
    rows = [
        [label, *(with_interval(figures, name, scale, digits) for figures in drivers.values())]
        for name, label, scale, digits in FIGURE_ROWS
    ]
    return aligned([header, *rows])


def figure_markdown(summary: dict[str, Any]) -> str:
    """Return the same as a Markdown table."""
    drivers = rows_of(summary)
    lines = ['| figure | ' + ' | '.join(drivers) + ' |', '|---|' + '---:|' * len(drivers)]
    for name, label, scale, digits in FIGURE_ROWS:
        cells = [with_interval(figures, name, scale, digits) for figures in drivers.values()]
        lines.append(f'| {label} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def rows_of(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the figures by driver: the one evaluated first, then the other references."""
    first = f'{summary["title"]} ({summary["transport"]})'
    references = summary.get('references') or {}
    return {first: summary} | {
        f'{name.replace("_", " ")} ({figures["transport"]})': figures
        for name, figures in references.items()
        if not figures['is_the_driver']
    }


def with_interval(figures: dict[str, Any], name: str, scale: float, digits: int) -> str:
    """Return a figure with its interval, such as ``95.0 [80.1, 99.2]``."""
    interval = figures.get(f'{name}_ci95')
    text = number(figures[name], scale, digits)
    if interval is None:
        return text
    low, high = (number(bound, scale, digits) for bound in interval)
    return f'{text} [{low}, {high}]'


def agreement_table(comparison: Sequence[dict[str, Any]]) -> str:
    """Return one line per episode that was driven over both transports."""
    columns = {
        'episode': 'episode',
        'frames_direct': 'frames direct',
        'frames_ros': 'frames ros',
        'observation_hashes_different': 'observation hashes different',
        'action_hashes_different': 'action hashes different',
    }
    header = [*columns.values(), 'same ending frame']
    rows = [
        [*(str(row[name]) for name in columns), 'yes' if row['same_ending_frame'] else 'NO']
        for row in comparison
    ]
    return aligned([header, *rows])


def episode_csv(episodes: Sequence[dict[str, Any]]) -> str:
    """Return all figures of all episodes, comma-separated with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(episodes[0]), lineterminator='\n')
    writer.writeheader()
    writer.writerows(episodes)
    return text.getvalue()


def number(value: float | None, scale: float, digits: int) -> str:
    """Return a number as text."""
    return NOTHING if value is None else f'{value * scale:.{digits}f}'


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return rows of cells with their columns aligned, the first to the left."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )

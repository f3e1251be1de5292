#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tables of docs/driving.md, docs/traffic.md and docs/carla.md from docs/results.

``td3_agent evaluate ... --out DIR`` and then ``scripts/traffic_tables.py --keep DIR`` renew the
rows of an evaluation, also of one with ``--pictures``; ``benchmarks/sim_steps.py --json >
docs/results/bench/sim_steps.json`` the steps per second. With ``--check`` nothing is written; the
exit status is 1 if something would change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import Any

from marked import renewed

from td3_agent.evaluation.result_tables import PERCENT, number, rows_of, with_interval
from td3_agent.evaluation.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / 'docs'
RECORDS = ROOT / 'docs' / 'results' / 'evaluations'
STEPS = ROOT / 'docs' / 'results' / 'bench' / 'sim_steps.json'
FIGURES = (
    ('success_rate', 'success [%]', PERCENT, 1),
    ('route_completion', 'route [%]', PERCENT, 1),
    ('driving_score', 'driving score [%]', PERCENT, 1),
    ('collisions_per_km', 'collisions [1/km]', 1.0, 2),
    ('mean_speed_mps', 'mean speed [m/s]', 1.0, 2),
)

CHECKED = (
    ('success_rate', 'success [%]', PERCENT, 0),
    ('collisions_per_km', 'collisions [1/km]', 1.0, 2),
    ('lane_invasions_per_km', 'lane invasions [1/km]', 1.0, 2),
    ('mean_speed_mps', 'speed [m/s]', 1.0, 1),
    ('jerk_rms_mps3', 'jerk RMS [m/s³]', 1.0, 1),
    ('lateral_acceleration_max_mps2', 'lateral acceleration, largest [m/s²]', 1.0, 1),
)
COMPARED = {'lane_invasions_per_km', 'jerk_rms_mps3'}
PICTURES = {
    'frames': 'number',
    'sign': 'sign right',
    'r': 'r',
    'rmse_radps': 'RMSE [rad/s]',
    'constant_rmse_radps': 'of a constant 0',
    'grey_rmse_radps': 'on a grey picture',
}
ALONE = 'alone'  # no scenario


def keep(folder: Path) -> Path:
    """Keep the figures of an evaluation as a record, and return where.

    Raises:
        ValueError: the folder holds no evaluation.
    """
    summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
    name = record_name(summary)
    if name is None:
        raise ValueError(f'{folder} must hold an evaluation of a policy, found none')
    record = {key: value for key, value in summary.items() if key != 'episodes'}
    path = RECORDS / f'{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    return path


def record_name(summary: dict[str, Any]) -> str | None:
    """Return policy, scenario and map; None for what is none of these."""
    policy = Path(summary.get('policy') or '').name
    if 'groups' in summary:
        return f'{policy}_pictures'
    if not policy or 'plan' not in summary:
        return None
    return f'{policy}_{summary["scenario"] or ALONE}_{Path(summary["plan"]["map"]).stem}'


def records(pattern: str) -> list[dict[str, Any]]:
    """Return the records whose names match, in the order of their names."""
    return [
        json.loads(path.read_text('utf-8')) for path in sorted(RECORDS.glob(f'{pattern}.json'))
    ]


def scenarios_text() -> str:
    """Return a row per scenario and driver, of the scenarios that have a record."""
    lines = [
        '| scenario | driver | episodes | '
        + ' | '.join(label for _, label, _, _ in FIGURES)
        + ' |',
        '|---|---|' + '---:|' * (1 + len(FIGURES)),
    ]
    for name, scenario in SCENARIOS.items():
        for record in records(f'route_{name}_{scenario.map}'):
            for driver, figures in rows_of(record).items():
                cells = [with_interval(figures, *columns(figure)) for figure in FIGURES]
                count = record['plan']['episodes']
                lines.append(f'| `{name}` | {driver} | {count} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(['Family test, seed 0; 95 % intervals in brackets.', '', *lines])


def columns(figure: tuple[str, str, float, int]) -> tuple[str, float, int]:
    """Return name, factor and digits of a figure."""
    name, _, scale, digits = figure
    return name, scale, digits


def steps_text() -> str:
    """Return steps per second by number of vehicles."""
    report: dict[str, Any] = json.loads(STEPS.read_text(encoding='utf-8'))
    machine = report['machine']
    lines = ['| vehicles | steps/s | steps per second of processor time |', '|---:|---:|---:|']
    lines += [
        f'| {vehicles} | {row["steps_per_s"]:.0f} | {row["steps_per_processor_s"]:.0f} |'
        for vehicles, row in report['traffic'].items()
    ]
    where = (
        f'{machine["cpu"]}, one core of {machine["cores"]}, Python {machine["python"]}; load from '
        f'elsewhere before the run {machine["load_before"]:.1f}.'
    )
    return '\n'.join([*lines, '', where])


def checks_text() -> str:
    """Return a row per policy and kind of road, with pure pursuit's figures on the same roads."""
    heads = ('policy', 'road', 'scenario', 'episodes', *(label for _, label, _, _ in CHECKED))
    lines = ['| ' + ' | '.join(heads) + ' |', '|---|---|---|' + '---:|' * (len(heads) - 3)]
    for record in sorted(records('*_*_*'), key=order):
        plan, references = record['plan'], record['references']
        yardstick = references.get('pure_pursuit_idm') or references['pure_pursuit']
        cells = [Path(record['policy']).name, Path(plan['map']).stem]
        cells += [record['scenario'] or '', str(plan['episodes'])]
        for figure in CHECKED:
            cell = with_interval(record, *columns(figure))
            if figure[0] in COMPARED:
                cell += f' ({number(yardstick[figure[0]], figure[2], figure[3])})'
            cells.append(cell)
        lines.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def order(record: dict[str, Any]) -> tuple[str, str, int, str]:
    """Return what the rows of the checks are sorted by."""
    plan = record['plan']
    return record['policy'], plan['map'], plan['traffic_vehicles'], record['scenario']


def pictures_text() -> str:
    """Return a row per policy and group of frames."""
    lines = ['| policy | frames | ' + ' | '.join(PICTURES.values()) + ' |']
    lines += ['|---|---|' + '---:|' * len(PICTURES)]
    for record in records('*_pictures'):
        policy = Path(record['policy']).name
        for group, figures in record['groups'].items():
            cells = [number(figures.get(name), 1.0, 3 * (name != 'frames')) for name in PICTURES]
            lines.append(f'| `{policy}` | {group} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


TEXTS = {
    ('driving.md', 'checks'): checks_text,
    ('carla.md', 'pictures'): pictures_text,
    ('traffic.md', 'traffic scenarios'): scenarios_text,
    ('traffic.md', 'traffic steps'): steps_text,
}


def with_tables(name: str) -> str:
    """Return a page of docs with its tables renewed.

    Raises:
        ValueError: a marker is missing.
    """
    page = (DOCS / name).read_text(encoding='utf-8')
    for (document, block), text in TEXTS.items():
        if document == name:
            page = renewed(page, block, text())
    return page


def main() -> int:
    """Keep, write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--keep', type=Path, action='append', default=[], metavar='DIR')
    arguments.add_argument('--check', action='store_true', help='write nothing')
    args = arguments.parse_args()
    for folder in args.keep:
        sys.stdout.write(f'{keep(folder).relative_to(ROOT)}\n')
    pages = {name: with_tables(name) for name, _ in TEXTS}
    if args.check:
        return int(any((DOCS / name).read_text('utf-8') != page for name, page in pages.items()))
    for name, page in pages.items():
        (DOCS / name).write_text(page, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

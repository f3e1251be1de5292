#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/traffic.md from docs/results.

``td3_agent evaluate --scenario NAME --driver pure_pursuit_idm --out DIR`` and then
``scripts/traffic_tables.py --keep DIR`` renew the row of a scenario,
``benchmarks/sim_steps.py --json > docs/results/bench/sim_steps.json`` the steps per second. With
``--check`` nothing is written; the exit status is 1 if something would change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import Any

from marked import renewed

from td3_agent.evaluation.result_tables import PERCENT, rows_of, with_interval
from td3_agent.evaluation.scenarios import SCENARIOS

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'traffic.md'
RECORDS = ROOT / 'docs' / 'results' / 'traffic'
STEPS = ROOT / 'docs' / 'results' / 'bench' / 'sim_steps.json'
FIGURES = (
    ('success_rate', 'success [%]', PERCENT, 1),
    ('route_completion', 'route [%]', PERCENT, 1),
    ('driving_score', 'driving score [%]', PERCENT, 1),
    ('collisions_per_km', 'collisions [1/km]', 1.0, 2),
    ('mean_speed_mps', 'mean speed [m/s]', 1.0, 2),
)


def keep(folder: Path) -> Path:
    """Keep the figures of an evaluation as the record of its scenario, and return where.

    Raises:
        ValueError: the folder holds no evaluation of a scenario.
    """
    summary = json.loads((folder / 'summary.json').read_text(encoding='utf-8'))
    if not summary.get('scenario'):
        raise ValueError(f'{folder} must hold an evaluation of a scenario, found none')
    record = {name: value for name, value in summary.items() if name != 'episodes'}
    path = RECORDS / f'{summary["scenario"]}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + '\n', encoding='utf-8')
    return path


def scenarios_text() -> str:
    """Return a row per scenario and driver, of the scenarios that have a record."""
    lines = [
        '| scenario | driver | episodes | '
        + ' | '.join(label for _, label, _, _ in FIGURES)
        + ' |',
        '|---|---|' + '---:|' * (1 + len(FIGURES)),
    ]
    for name in SCENARIOS:
        path = RECORDS / f'{name}.json'
        if not path.exists():
            continue
        record = json.loads(path.read_text(encoding='utf-8'))
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


def with_tables(page: str) -> str:
    """Return the page with its tables renewed.

    Raises:
        ValueError: a marker is missing.
    """
    page = renewed(page, 'traffic scenarios', scenarios_text())
    return renewed(page, 'traffic steps', steps_text())


def main() -> int:
    """Keep, write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--keep', type=Path, action='append', default=[], metavar='DIR')
    arguments.add_argument('--check', action='store_true', help='write nothing')
    args = arguments.parse_args()
    for folder in args.keep:
        sys.stdout.write(f'{keep(folder).relative_to(ROOT)}\n')
    page = PAGE.read_text(encoding='utf-8')
    wanted = with_tables(page)
    if args.check:
        return int(page != wanted)
    PAGE.write_text(wanted, encoding='utf-8')
    return 0


if __name__ == '__main__':
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the table and the picture of docs/reliability.md from docs/results.

``make faults FAULTS_ARGS='--all --out DIR'`` leaves ``DIR/faults.json`` and ``DIR/L1/soak.json``;
as ``docs/results/faults.json`` and ``docs/results/soak.json`` they renew the page. Rows that were
run apart, ``docs/results/faults_*.json``, follow with what they were measured on. With
``--check`` nothing is written; the exit status is 1 if the table would change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from marked import renewed
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from collections.abc import Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'reliability.md'
RESULTS = sorted((ROOT / 'docs' / 'results').glob('faults*.json'))
SOAK = ROOT / 'docs' / 'results' / 'soak.json'
PICTURE = ROOT / 'docs' / 'images' / 'soak.png'
FIGURES_SHOWN = 6
MEGABYTE = 1e6


def table_text(reports: Sequence[dict[str, Any]]) -> str:
    """Return the table of rows, and what they were measured on."""
    lines = ['| row | load or fault | | s | figures |', '|---|---|---|---:|---|']
    lines += [row_text(row) for report in reports for row in report['rows']]
    return '\n\n'.join(['\n'.join(lines), *map(about_text, reports)])


def row_text(row: dict[str, Any]) -> str:
    """Return the line of a row."""
    figures = list(row['figures'].items())[:FIGURES_SHOWN]
    told = ', '.join(f'{name} {number(value)}' for name, value in figures)
    verdict = 'pass' if row['passed'] else '**fail**'
    name, title = row['name'], row['title']
    return f'| {name} | {title} | {verdict} | {row["duration_s"]:.0f} | {told} |'


def about_text(report: dict[str, Any]) -> str:
    """Return how many rows of a report passed, and what they were measured on."""
    rows, machine = report['rows'], report['machine']
    checks = sum(len(row['checks']) for row in rows)
    return (
        f'{rows[0]["name"]} to {rows[-1]["name"]}: '
        f'{sum(row["passed"] for row in rows)} of {len(rows)} rows passed, '
        f'{checks} checks. {machine["cpu"]}, {machine["cores"]} cores, Python '
        f'{machine["python"]}, {machine["rmw"]}; load {machine["load_before"]:.1f} before and '
        f'{machine["load_after"]:.1f} after.'
    )


def number(value: float | str) -> str:
    """Return a figure, short."""
    return f'{value:.3g}' if isinstance(value, float) else str(value)


def with_table(page: str, reports: Sequence[dict[str, Any]]) -> str:
    """Return the page with the text between its markers renewed.

    Raises:
        ValueError: the markers are missing.
    """
    return renewed(page, 'faults', table_text(reports))


def draw(soak: dict[str, Any], path: Path) -> None:
    """Draw memory and open files of every process over the soak."""
    figure = Figure(figsize=(9.0, 5.0), layout='constrained')
    FigureCanvasAgg(figure)
    memory, handles = figure.subplots(2, 1, sharex=True)
    for name, found in soak['processes'].items():
        count = len(found['rss_bytes']) - 1  # at the last sample the first one is ending
        minutes = [soak['soak_s'] / 60.0 * k / count for k in range(count)]
        memory.plot(minutes, [v / MEGABYTE for v in found['rss_bytes'][:count]], label=name)
        handles.plot(minutes, found['fds'][:count], label=f'{name}: files')
        colour = handles.lines[-1].get_color()
        handles.plot(minutes, found['threads'][:count], '--', color=colour)
    memory.set_ylabel('resident memory [MB]')
    memory.set_ylim(bottom=0.0)
    memory.legend(loc=(0.35, 0.5), fontsize='small', ncols=2)
    handles.set_ylabel('open files; threads (dashed)')
    handles.set_ylim(bottom=0.0)
    handles.set_xlabel(f'time [min], {soak["frames"]} frames of 800x600')
    figure.savefig(path, dpi=110)


def main() -> int:
    """Write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--check', action='store_true', help='write nothing')
    check = arguments.parse_args().check
    old = PAGE.read_text(encoding='utf-8')
    new = with_table(old, [json.loads(path.read_text(encoding='utf-8')) for path in RESULTS])
    if not check and SOAK.exists():
        draw(json.loads(SOAK.read_text(encoding='utf-8')), PICTURE)
    if new == old:
        return 0
    sys.stdout.write(f'{"stale" if check else "written"}: {PAGE.relative_to(ROOT)}\n')
    if not check:
        PAGE.write_text(new, encoding='utf-8')
    return 1 if check else 0


if __name__ == '__main__':
    sys.exit(main())

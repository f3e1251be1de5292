#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Keeps the records of training runs on standard tasks, and prints what they prove.

``scripts/standard_tasks.py build/train/pendulum_0 ...`` copies the small logs of runs to
``docs/results/<task>/seed_<n>``; ``--bench FILE`` copies what ``td3_agent bench learner --json``
has printed. With or without, the tables in ``docs/td3.md`` and the picture of the learning curves
are made anew from what lies in ``docs/results``.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
import shutil
from typing import Any

from marked import renewed
import matplotlib as mpl
from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'docs/results'
DOCUMENT = ROOT / 'docs/td3.md'
PICTURE = ROOT / 'docs/images/standard_tasks.png'
BENCH = RESULTS / 'bench/learner.json'
LOGS = ('config.json', 'eval.csv', 'summary.json')
PAPER = RESULTS / 'HalfCheetah-v5/paper.csv'
# Task: what is asked of each seed.
TASKS = {
    'Pendulum-v1': 'last policy at least -180',
    'InvertedPendulum-v5': '1000 within 60 000 steps',
    'HalfCheetah-v5': 'shown beside the paper',
}


def keep(run: Path) -> None:
    """Copy the logs of a run."""
    config = json.loads((run / 'config.json').read_text(encoding='utf-8'))
    target = RESULTS / config['env'][0] / f'seed_{config["train"]["seed"]}'
    target.mkdir(parents=True, exist_ok=True)
    for name in LOGS:
        if (run / name).exists():  # a run that goes on has no summary yet
            shutil.copyfile(run / name, target / name)


def rows_of(path: Path) -> list[dict[str, float]]:
    """Return the rows of a table of numbers."""
    with path.open(newline='', encoding='utf-8') as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def runs_of(task: str) -> list[tuple[int, list[dict[str, float]]]]:
    """Return seed and evaluations of each run of a task."""
    folders = sorted((RESULTS / task).glob('seed_*'))
    return [(int(folder.name[5:]), rows_of(folder / 'eval.csv')) for folder in folders]


def settings_of(task: str, seed: int) -> dict[str, Any]:
    """Return what a run was made with."""
    path = RESULTS / task / f'seed_{seed}' / 'config.json'
    return dict(json.loads(path.read_text(encoding='utf-8')))


def task_table() -> str:
    """Return one row per run."""
    lines = [
        '| task | seed | steps | untrained | last policy | best policy | asked |',
        '|---|---:|---:|---:|---:|---:|---|',
    ]
    for task, asked in TASKS.items():
        for seed, rows in runs_of(task):
            first, last = rows[0], rows[-1]
            best = max(rows, key=lambda row: row['return_mean'])
            lines.append(
                f'| {task} | {seed} | {last["step"]:.0f} | {round(first["return_mean"])} '
                f'| **{last["return_mean"]:.1f}** ± {last["return_std"]:.1f} '
                f'| {best["return_mean"]:.1f} at step {best["step"]:.0f} | {asked} |'
            )
    return '\n'.join(lines)


def paper_table() -> str:
    """Return our HalfCheetah beside the paper's at the same steps."""
    paper = {int(row['step']): row for row in rows_of(PAPER)}
    lines = [
        '| steps | paper, HalfCheetah-v1, 10 seeds | here, HalfCheetah-v5, 1 seed |',
        '|---:|---:|---:|',
    ]
    ours = {int(row['step']): row for row in runs_of('HalfCheetah-v5')[0][1]}
    for step in (50_000, 100_000, 200_000, 300_000, 1_000_000):
        there = f'{paper[step]["return_mean"]:.0f} ± {paper[step]["return_std"]:.0f}'
        here = f'{ours[step]["return_mean"]:.0f}' if step in ours else '-'
        lines.append(f'| {step} | {there} | {here} |')
    return '\n'.join(lines)


def versions_line() -> str:
    """Return what the runs were made with, where all agree."""
    found = set()
    for task in TASKS:
        for seed, _ in runs_of(task):
            versions = settings_of(task, seed)['versions']
            found.add(', '.join(f'{k} {versions[k]}' for k in ('torch', 'numpy', 'gymnasium')))
    return 'Made with ' + '; '.join(sorted(found)) + '; mujoco 4.0.0.'


def bench_table() -> str:
    """Return one row per case of the benchmark."""
    report = json.loads(BENCH.read_text(encoding='utf-8'))
    machine, versions = report['machine'], report['versions']
    lines = ['| case | td3_agent | Stable-Baselines3 | ratio |', '|---|---:|---:|---:|']
    for name, figures in report['cases'].items():
        unit = next(iter(figures)).replace('_per_s', '/s')
        mine, other, ratio = figures.values()
        lines.append(f'| {name} | {mine:.1f} {unit} | {other:.1f} {unit} | **{ratio:.2f}** |')
    about = (
        f'{machine["cpu"]}, {machine["cores"]} cores, load {machine["load_before"]} before and '
        f'{machine["load_after"]} after; torch {versions["torch"]}, stable-baselines3 '
        f'{versions["stable_baselines3"]}, one thread each.'
    )
    return '\n'.join([*lines, '', about])


def draw() -> None:
    """Draw the learning curves, each task in a picture of its own."""
    mpl.rcParams['font.size'] = 9
    figure = Figure(figsize=(9.6, 3.0), layout='constrained')
    for axes, task in zip(figure.subplots(1, len(TASKS)), TASKS, strict=True):
        last = 0.0
        for seed, rows in runs_of(task):
            steps = [row['step'] for row in rows]
            last = max(last, steps[-1])
            axes.plot(steps, [row['return_mean'] for row in rows], lw=1.2, label=f'seed {seed}')
        if task == 'HalfCheetah-v5':
            _draw_paper(axes, last)
        axes.set(xlabel='environment steps', title=task)
        axes.legend(loc='lower right', fontsize=7)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.axes[0].set_ylabel('mean return of the evaluation')
    figure.savefig(PICTURE, dpi=130)


def _draw_paper(axes: Any, last: float) -> None:  # noqa: ANN401  matplotlib's own
    rows = [row for row in rows_of(PAPER) if row['step'] <= last]
    steps = [row['step'] for row in rows]
    low = [row['return_mean'] - row['return_std'] for row in rows]
    high = [row['return_mean'] + row['return_std'] for row in rows]
    axes.fill_between(steps, low, high, color='grey', alpha=0.25, lw=0)
    axes.plot(steps, [row['return_mean'] for row in rows], color='grey', label='paper, v1')


def with_tables(document: str) -> str:
    """Return the document with all tables made anew."""
    blocks = {
        'standard tasks': f'{task_table()}\n\n{versions_line()}',
        'paper': paper_table(),
        'bench learner': bench_table(),
    }
    for name, text in blocks.items():
        document = renewed(document, name, text)
    return document


def main() -> None:
    """Copy, print, draw."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('runs', type=Path, nargs='*', help='folders that train --out named')
    arguments.add_argument(
        '--bench', type=Path, help='what td3_agent bench learner --json printed'
    )
    args = arguments.parse_args()
    for run in args.runs:
        keep(run)
    if args.bench:
        BENCH.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(args.bench, BENCH)
    DOCUMENT.write_text(with_tables(DOCUMENT.read_text(encoding='utf-8')), encoding='utf-8')
    draw()


if __name__ == '__main__':
    main()

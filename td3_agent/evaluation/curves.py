# SPDX-License-Identifier: Apache-2.0
"""Learning curves of several trainings; runs that differ in their seed alone make one curve.

A curve is the mean over seeds of a column of ``eval.csv``, the band its 95 % interval by Student's
t, at every step at which one of its runs was evaluated and all of them had come so far; between
its evaluations a run counts as a straight line. In the folder: ``compare.png``, ``compare.csv``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
import io
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np

from td3_agent.evaluation.intervals import mean_with_t_interval
from td3_agent.evaluation.pictures import DPI, INK, QUIET, save

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

RETURN = 'return_mean'
# Settings that change nothing about what is learned, or the seed, over which a band goes.
LEFT_OUT = ('seed', 'keep', 'log_every', 'snapshot_every', 'steps')
COLOURS = ('#1d5fbf', '#c9620a', '#1e7d70', '#7a0c2e', '#6b4ea0', '#8a7a12', '#3f4650', '#d16ba5')
GRID = '#e3e6ea'


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        folder: where it lies.
        settings: all of them, by name, but those that are left out.
        steps: (N,) of its evaluations, growing.
        values: (N,) a figure of each.
    """

    folder: Path
    settings: Mapping[str, str]
    steps: NDArray[np.float64]
    values: NDArray[np.float64]


class Point(NamedTuple):
    """A point of a curve: the mean over seeds, and its interval, None for a single run."""

    step: float
    mean: float
    interval: list[float] | None


@dataclass(frozen=True, kw_only=True)
class Curve:
    """What runs with equal settings come to.

    Attributes:
        name: what tells it from the other curves.
        runs: how many.
        points: in order of their steps.
        best: mean over the runs of the best value of each, and its interval.
    """

    name: str
    runs: int
    points: tuple[Point, ...]
    best: tuple[float, list[float] | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        'folders',
        type=Path,
        nargs='+',
        metavar='DIR',
        help='folder of a training, or of several: that of a sweep',
    )
    parser.add_argument('--column', default=RETURN, help='of eval.csv')
    parser.add_argument('--out', type=Path, default=Path('comparison'), help='for the results')


def run(args: argparse.Namespace) -> int:
    """Compare, write picture and table, and return the exit status.

    Raises:
        ValueError: a folder holds no training, or none with such a column.
    """
    curves = curves_of([read_run(folder, args.column) for folder in run_folders(args.folders)])
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / 'compare.csv').write_text(curve_csv(curves), encoding='utf-8')
    draw_curves(args.out / 'compare.png', curves, args.column)
    sys.stdout.write(f'{curve_table(curves, args.column)}\n\nresults in {args.out}\n')
    return 0


def run_folders(folders: Iterable[Path]) -> list[Path]:
    """Return the folders of all trainings: those named, or those within.

    Raises:
        ValueError: there is none in one of them.
    """
    found: list[Path] = []
    for folder in folders:
        within = sorted(path.parent for path in folder.glob('*/config.json'))
        mine = [folder] if (folder / 'config.json').exists() else within
        if not mine:
            raise ValueError(f'{folder} holds no training: no config.json, nor in a folder of it')
        found += mine
    return list(dict.fromkeys(found))


def read_run(folder: Path, column: str = RETURN) -> Run:
    """Return a training.

    Raises:
        ValueError: it has not been evaluated, or not by that figure.
    """
    config = json.loads((folder / 'config.json').read_text(encoding='utf-8'))
    table = folder / 'eval.csv'
    rows = []
    if table.exists():
        with table.open(newline='', encoding='utf-8') as file:
            rows = list(csv.DictReader(file))
    if not rows:
        raise ValueError(f'{table} has no evaluations')
    if column not in rows[0]:
        raise ValueError(f'{table} has no column {column!r}, but {", ".join(rows[0])}')
    steps, values = (np.array([float(row[name]) for row in rows]) for name in ('step', column))
    return Run(folder=folder, settings=settings_of(config), steps=steps, values=values)


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return all settings of a training as texts, by name."""
    settings = {'env': ', '.join(config['env']), 'commit': str(config['versions']['commit'])}
    for group in ('td3', 'train', 'ray'):
        settings |= {name: str(value) for name, value in config.get(group, {}).items()}
    return {name: value for name, value in settings.items() if name not in LEFT_OUT}


def curves_of(runs: Sequence[Run]) -> list[Curve]:
    """Return a curve for each set of equal settings, in order of the runs."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    telling = [name for name in names if len({run.settings.get(name) for run in runs}) > 1]
    groups: dict[str, list[Run]] = {}
    for one in runs:
        words = (f'{name}={one.settings.get(name, "-")}' for name in telling)
        groups.setdefault(', '.join(words) or one.settings['env'], []).append(one)
    return [curve_of(name, group) for name, group in groups.items()]


def curve_of(name: str, runs: Sequence[Run]) -> Curve:
    """Return the curve of runs with equal settings."""
    common = min(run.steps[-1] for run in runs)
    steps = np.unique(np.concatenate([run.steps for run in runs]))
    steps = steps[steps <= common]
    values = np.stack([np.interp(steps, run.steps, run.values) for run in runs], axis=1)
    points = tuple(
        Point(float(step), *mean_with_t_interval(column))
        for step, column in zip(steps, values, strict=True)
    )
    best = mean_with_t_interval([float(run.values.max()) for run in runs])
    return Curve(name=name, runs=len(runs), points=points, best=best)


def curve_csv(curves: Sequence[Curve]) -> str:
    """Return every point of every curve as a row."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator='\n')
    rows.writerow(['curve', 'runs', 'step', 'mean', 'low', 'high'])
    for curve in curves:
        for point in curve.points:
            rows.writerow([curve.name, curve.runs, *point[:2], *(point.interval or ('', ''))])
    return text.getvalue()


def curve_table(curves: Sequence[Curve], column: str) -> str:
    """Return the end and the best of every curve as lines of text."""
    width = max(len('curve'), *(len(curve.name) for curve in curves)) + 2
    lines = [f'{column}, means over seeds with 95 % intervals', '']
    lines.append(f'{"curve":<{width}}{"runs":>4}{"at step":>10}{"last":>32}{"best":>32}')
    for curve in curves:
        last = curve.points[-1]
        cells = (shown(last.mean, last.interval), shown(*curve.best))
        lines.append(
            f'{curve.name:<{width}}{curve.runs:>4}{last.step:>10.0f}'
            + ''.join(f'{cell:>32}' for cell in cells)
        )
    return '\n'.join(lines)


def shown(mean: float, interval: list[float] | None) -> str:
    """Return a mean and its interval as text."""
    return f'{mean:.2f}' + (f' [{interval[0]:.2f}, {interval[1]:.2f}]' if interval else '')


def draw_curves(path: Path, curves: Sequence[Curve], column: str) -> None:
    """Draw all curves with their bands as a PNG."""
    figure = Figure(figsize=(8.2, 4.6), dpi=DPI, facecolor='white', layout='constrained')
    axes = figure.subplots()
    for number, curve in enumerate(curves):
        colour = COLOURS[number % len(COLOURS)]
        steps = [point.step for point in curve.points]
        means = [point.mean for point in curve.points]
        lows, highs = zip(
            *(point.interval or [point.mean, point.mean] for point in curve.points), strict=True
        )
        plural = '' if curve.runs == 1 else 's'
        label = f'{curve.name} ({curve.runs} run{plural})'
        axes.plot(steps, means, color=colour, linewidth=1.6, marker='o', markersize=3, label=label)
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.16, linewidth=0)
    axes.set_xlabel('environment steps', color=INK)
    axes.set_ylabel(column, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    figure.legend(loc='outside lower center', frameon=False, fontsize=9, ncols=min(len(curves), 2))
    save(figure, path)

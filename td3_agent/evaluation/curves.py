# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Learning curves of several trainings; runs that differ in their seed alone make one curve.

A curve is the mean over seeds of a column of ``eval.csv``, the band its 95 % interval by Student's
t, at every step at which one of its runs was evaluated and all of them had come so far; between
its evaluations a run counts as a straight line. In the folder: ``compare.png``, ``compare.csv``.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, fields
import io
from pathlib import Path
import sys
import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

from matplotlib.figure import Figure
import numpy as np

from td3_agent.evaluation.intervals import mean_with_t_interval
from td3_agent.evaluation.pictures import DPI, INK, QUIET, save
from td3_agent.evaluation.result_tables import aligned
from td3_agent.training.params import GROUPS, RayParams, read_config

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

RETURN = 'return_mean'
# Settings that change nothing about what is learned, or the seed, over which a band goes.
LEFT_OUT = ('seed', 'keep', 'log_every', 'snapshot_every', 'steps')
RAY = 'ray'  # whether a run has that group
RAY_SETTINGS = tuple(spec.name for spec in fields(RayParams))
HASH_DIGITS = 7  # of a commit in a name, as git shortens it
COLOURS = ('#1d5fbf', '#c9620a', '#1e7d70', '#7a0c2e', '#6b4ea0', '#8a7a12', '#3f4650', '#d16ba5')
LINE_STYLES = ('-', '--', ':')  # of the first curves, and of those that have a colour again
GRID = '#e3e6ea'
LABEL_CHARACTERS = 120  # of a line of the legend
LABEL_IN, AXES_IN = 0.17, 4.2  # height of such a line, and of the rest


@dataclass(frozen=True, kw_only=True)
class Run:
    """One training.

    Attributes:
        folder: where it lies.
        settings: all that it has, by name, but those that are left out.
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
    config = read_config(folder / 'config.json')
    table = folder / 'eval.csv'
    rows = read_table(table) if table.exists() else []
    if rows and column not in rows[0]:
        raise ValueError(f'{table} has no column {column!r}, but {", ".join(rows[0])}')
    rows = [row for row in rows if row.get('step') and row[column]]
    if not rows:
        raise ValueError(f'{table} has no evaluations')
    try:
        steps, values = (np.array([float(row[name]) for row in rows]) for name in ('step', column))
    except ValueError as error:
        raise ValueError(f'{table}: {error}') from error
    return Run(folder=folder, settings=settings_of(config), steps=steps, values=values)


def read_table(path: Path) -> list[dict[str, str]]:
    """Return the rows of a table that are whole; the last one may have been cut off."""
    text = path.read_text(encoding='utf-8', errors='replace')
    rows = csv.DictReader(io.StringIO(text[: text.rfind('\n') + 1]))
    return [row for row in rows if None not in row.values()]


def settings_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return all settings of a training as texts, by name."""
    commit = config.get('versions', {}).get('commit')
    settings = {'env': ', '.join(config['env']), 'commit': str(commit or 'unknown')}
    settings[RAY] = 'yes' if RAY in config else 'no'
    for group in GROUPS:
        settings |= {name: str(value) for name, value in config.get(group, {}).items()}
    return {name: value for name, value in settings.items() if name not in LEFT_OUT}


def curves_of(runs: Sequence[Run]) -> list[Curve]:
    """Return a curve for each set of equal settings, in order of the runs."""
    telling = telling_settings(runs)
    groups: dict[tuple[str | None, ...], list[Run]] = {}
    for one in runs:
        groups.setdefault(tuple(one.settings.get(name) for name in telling), []).append(one)
    return [curve_of(curve_name(group[0], telling), group) for group in groups.values()]


def telling_settings(runs: Sequence[Run]) -> list[str]:
    """Return the names of the settings that differ; those of Ray, among the runs that have it."""
    names = dict.fromkeys(name for run in runs for name in run.settings)
    return [
        name
        for name in names
        if len({run.settings.get(name) for run in runs if applies(run, name)}) > 1
    ]


def applies(run: Run, name: str) -> bool:
    """Whether a setting says anything about a run: without Ray its settings do not."""
    return name not in RAY_SETTINGS or run.settings[RAY] == 'yes'


def curve_name(run: Run, telling: Sequence[str]) -> str:
    """Return in what a run differs from others."""
    settings = dict(run.settings)
    number, dash, dirty = settings['commit'].partition('-')
    settings['commit'] = number[:HASH_DIGITS] + dash + dirty
    words = (f'{name}={settings.get(name, "-")}' for name in telling if applies(run, name))
    return ', '.join(words) or settings['env']


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
    rows = [['curve', 'runs', 'at step', 'last', 'best']]
    for curve in curves:
        last = curve.points[-1]
        figures = (shown(last.mean, last.interval), shown(*curve.best))
        rows.append([curve.name, str(curve.runs), f'{last.step:.0f}', *figures])
    return f'{column}, means over seeds with 95 % intervals\n\n{aligned(rows)}'


def shown(mean: float, interval: list[float] | None) -> str:
    """Return a mean and its interval as text."""
    return f'{mean:.2f}' + (f' [{interval[0]:.2f}, {interval[1]:.2f}]' if interval else '')


def draw_curves(path: Path, curves: Sequence[Curve], column: str) -> None:
    """Draw all curves with their bands as a PNG."""
    labels = [curve_label(curve) for curve in curves]
    lines = sum(label.count('\n') + 1 for label in labels)
    size_in = (8.2, AXES_IN + LABEL_IN * lines)
    figure = Figure(figsize=size_in, dpi=DPI, facecolor='white', layout='constrained')
    axes = figure.subplots()
    for number, (curve, label) in enumerate(zip(curves, labels, strict=True)):
        again, place = divmod(number, len(COLOURS))
        colour, style = COLOURS[place], LINE_STYLES[again % len(LINE_STYLES)]
        steps = [point.step for point in curve.points]
        means = [point.mean for point in curve.points]
        lows, highs = zip(
            *(point.interval or [point.mean, point.mean] for point in curve.points), strict=True
        )
        (line,) = axes.plot(steps, means, style, color=colour, linewidth=1.6, label=label)
        line.set(marker='o', markersize=3)
        axes.fill_between(steps, lows, highs, color=colour, alpha=0.16, linewidth=0)
    axes.set_xlabel('environment steps', color=INK)
    axes.set_ylabel(column, color=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9)
    for side in ('top', 'right'):
        axes.spines[side].set_visible(False)
    figure.legend(loc='outside lower left', frameon=False, fontsize=8, handlelength=3)
    save(figure, path)


def curve_label(curve: Curve) -> str:
    """Return a curve's name and how many runs it has, in lines that the picture has room for."""
    text = f'{curve.name} ({curve.runs} run{"" if curve.runs == 1 else "s"})'
    return textwrap.fill(text, LABEL_CHARACTERS, break_on_hyphens=False)

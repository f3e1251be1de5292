#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Ships the policy of a finished driving training, and keeps its record.

``scripts/ship_policy.py build/train/lane lane`` copies ``best.safetensors``, or with ``--last``
the newest policy, to ``td3_agent/weights/lane.safetensors``, the logs to
``docs/results/driving/lane``, and draws the learning curve from them.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
import shutil

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.policy_file import SHIPPED, policy_file

ROOT = Path(__file__).resolve().parents[1]
LOGS = ('config.json', 'eval.csv', 'progress.csv', 'summary.json')


def columns(path: Path, *names: str) -> list[list[float]]:
    """Return columns of a CSV file; rows with a gap in one of them are left out."""
    with path.open(newline='', encoding='utf-8') as file:
        rows = [[row[name] for name in names] for row in csv.DictReader(file)]
    whole = [[float(value) for value in row] for row in rows if all(row)]
    return [list(column) for column in zip(*whole, strict=True)]


def draw(logs: Path, picture: Path, title: str) -> None:
    """Draw validation return and driven time, and the return of the training episodes."""
    mpl.rcParams['font.size'] = 9
    figure = Figure(figsize=(8.0, 3.2), layout='constrained')
    left, right = figure.subplots(1, 2)
    step, mean, low, high = columns(
        logs / 'eval.csv', 'step', 'return_mean', 'return_min', 'return_max'
    )
    left.fill_between(step, low, high, alpha=0.25, label='worst to best road')
    left.plot(step, mean, marker='.', label='mean of the validation roads')
    left.set(xlabel='environment steps', ylabel='return', title=f'{title}: validation')
    left.legend(loc='lower right')
    step, mean = columns(logs / 'progress.csv', 'step', 'return_mean')
    right.plot(step, mean, label='last 10 training episodes, with noise')
    right.set(xlabel='environment steps', ylabel='return', title=f'{title}: training')
    right.legend(loc='lower right')
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.savefig(picture, dpi=130)


def main() -> None:
    """Check, copy, draw."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('run', type=Path, help='folder that train --out named')
    arguments.add_argument('name', choices=SHIPPED, help='which of the policies that ship it is')
    arguments.add_argument(
        '--last', action='store_true', help='the last policy, not that with the highest return'
    )
    args = arguments.parse_args()
    summary = json.loads((args.run / 'summary.json').read_text(encoding='utf-8'))
    weights, logs = policy_file(args.name), ROOT / 'docs/results/driving' / args.name
    policy = args.run / 'best.safetensors'
    if args.last:
        policy = max((args.run / 'policies').glob('step_*'))
    load_checkpoint(policy, kind='driving')  # rejects a broken one
    shutil.copyfile(policy, weights)
    _, manifest = load_checkpoint(weights, kind='driving')
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    for name in LOGS:
        shutil.copyfile(args.run / name, logs / name)
    draw(logs, ROOT / f'docs/images/training_{args.name}.png', args.name)
    print(
        f'{args.name}: seed {summary["train"]["seed"]}, {summary["step"]} steps, policy of step '
        f'{manifest.training["step"]}'
    )


if __name__ == '__main__':
    main()

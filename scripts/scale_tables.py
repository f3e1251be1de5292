#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/scale.md, and draws its picture, from docs/results/bench/ray.json.

``td3_agent bench ray --json > docs/results/bench/ray.json`` renews the figures. With ``--check``
nothing is written; the exit status is 1 if something would change.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from marked import renewed
from performance_tables import machine_text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.axes import Axes

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'scale.md'
PICTURE = ROOT / 'docs' / 'images' / 'scale.png'
RESULTS = ROOT / 'docs' / 'results' / 'bench' / 'ray.json'
STORE, TRAIN = 'store', 'train'
PROJECTED = (1, 2, 4, 16, 64, 256, 1000)
LINKS_GBIT_PER_S = (1.0, 10.0)
BYTES_PER_GBIT = 1e9 / 8.0


@dataclass(frozen=True)
class Projection:
    """What any number of workers would ask of learner and network.

    Assumed: every worker has a core of its own, as fast as the one of the measurement; the learner
    stores and updates on one thread; each worker has one machine's share of no link but the
    learner's; fragments are sent as they are, and a policy once to each worker.

    Attributes:
        report: of ``td3_agent bench ray``.
    """

    report: Mapping[str, Any]

    def asked_per_s(self, workers: int) -> float:
        """Return the steps that workers would take if nothing held them up [1/s]."""
        return workers * float(self.report['parts']['worker_steps_per_s'])

    def learner_per_s(self) -> float:
        """Return the steps that the learner can store and make its updates for [1/s]."""
        parts = self.report['parts']
        updating_s = self.report['updates_per_step'] / parts['updates_per_s']
        return 1.0 / (updating_s + 1.0 / parts['stored_steps_per_s'])

    def steps_in_per_s(self, gbit_per_s: float) -> float:
        """Return the steps that a link can bring to the learner [1/s]."""
        return gbit_per_s * BYTES_PER_GBIT / float(self.report['parts']['bytes_per_step'])

    def policies_out_per_s(self, gbit_per_s: float, workers: int) -> float:
        """Return the steps for which a link can carry the policies that go with them [1/s].

        A worker is sent a policy with every fragment, if there has been a new one since.
        """
        ray = self.report['ray']
        new_ones = workers * self.report['updates_per_step'] / ray['broadcast_every']
        policies_per_step = min(1.0 / ray['fragment_steps'], new_ones)
        return (
            gbit_per_s
            * BYTES_PER_GBIT
            / (self.report['parts']['policy_bytes'] * policies_per_step)
        )

    def limits_per_s(self, workers: int) -> dict[str, float]:
        """Return the steps per second at which each part is saturated, by name."""
        limits = {'learner': self.learner_per_s()}
        for link in LINKS_GBIT_PER_S:
            limits[f'steps in, {link:g} Gbit/s'] = self.steps_in_per_s(link)
            limits[f'policies out, {link:g} Gbit/s'] = self.policies_out_per_s(link, workers)
        return limits

    def first(self, workers: int) -> str:
        """Return the name of what is saturated first."""
        limits = self.limits_per_s(workers)
        return min(limits, key=lambda name: limits[name])


def measured_text(report: dict[str, Any]) -> str:
    """Return the rates of all runs, and of what each part does alone."""
    lines = [
        '| workers | steps/s, stored only | steps/s, training | updates/s | learner at work |',
        '|---:|---:|---:|---:|---:|',
    ]
    for workers, runs in report['runs'].items():
        stored, trained = runs[STORE], runs[TRAIN]
        lines.append(
            f'| {workers} | {stored["steps_per_s"]:.0f} | {trained["steps_per_s"]:.1f} '
            f'| {trained["updates_per_s"]:.1f} | {100.0 * trained["learner_cpu_share"]:.0f} % |'
        )
    parts = report['parts']
    rows = {
        'a worker: steps with the policy [1/s]': f'{parts["worker_steps_per_s"]:.0f}',
        'the learner: updates [1/s]': f'{parts["updates_per_s"]:.1f}',
        'the learner: steps unpacked and stored [1/s]': f'{parts["stored_steps_per_s"]:.0f}',
        'on the wire: one step [B]': f'{parts["bytes_per_step"]:.0f}',
        'on the wire: one policy [B]': f'{parts["policy_bytes"]}',
    }
    lines += ['', '| alone, on one thread | |', '|---|---:|']
    lines += [f'| {name} | {value} |' for name, value in rows.items()]
    versions = ', '.join(f'{name} {version}' for name, version in report['versions'].items())
    ray = report['ray']
    about = (
        f'`{report["env"].rpartition(":")[2]}`, batch {report["batch_size"]}, '
        f'{report["updates_per_step"]:g} updates per step, fragments of {ray["fragment_steps"]} '
        f'steps, a policy every {ray["broadcast_every"]} updates. {versions}. '
    )
    return '\n'.join([*lines, '', about + machine_text(report['machine'])])


def projection_text(report: dict[str, Any]) -> str:
    """Return what saturates first, and by how much each part would be, for up to 1000 workers."""
    projection = Projection(report)
    learner = projection.learner_per_s()
    most = PROJECTED[-1]
    limits = projection.limits_per_s(most)
    alone = projection.asked_per_s(1)
    others = {name: limit for name, limit in limits.items() if name != 'learner'}
    next_one = min(others, key=lambda name: others[name])
    if projection.first(most) == 'learner':
        verdict = (
            f'**The learner saturates first**, at {learner:.0f} steps/s: the work of '
            f'{learner / alone:.2f} workers. The next to come is *{next_one}*, at '
            f'{others[next_one]:.0f} steps/s, {others[next_one] / learner:.0f} times as many '
            f'({others[next_one] / alone:.0f} workers).'
        )
    else:
        verdict = (
            f'**The network saturates first**: *{next_one}* at {others[next_one]:.0f} steps/s '
            f'({others[next_one] / alone:.0f} workers), the learner at {learner:.0f}.'
        )
    lines = [
        verdict,
        '',
        all_of_them(projection, most),
        '',
        '| workers | steps/s they could take | ' + ' | '.join(limits) + ' |',
        '|---:|---:|' + '---:|' * len(limits),
    ]
    for workers in PROJECTED:
        asked = projection.asked_per_s(workers)
        shares = (asked / limit for limit in projection.limits_per_s(workers).values())
        cells = ' | '.join(f'{share:.{2 if share < 10.0 else 0}f}' for share in shares)
        lines.append(f'| {workers} | {asked:.0f} | {cells} |')
    return '\n'.join(lines)


def all_of_them(projection: Projection, workers: int) -> str:
    """Return what so many workers would send and be sent, and the updates that would be due."""
    report = projection.report
    asked = projection.asked_per_s(workers)
    gigabit = {
        'in': asked / projection.steps_in_per_s(1.0),
        'out': asked / projection.policies_out_per_s(1.0, workers),
    }
    return (
        f'{workers} workers would take {asked:.0f} steps/s: {gigabit["in"]:.1f} Gbit/s of steps '
        f'to the learner, {gigabit["out"]:.1f} Gbit/s of policies from it, and '
        f'{asked * report["updates_per_step"]:.0f} updates/s, of which it makes '
        f'{report["parts"]["updates_per_s"]:.0f}. How many times what each part can carry:'
    )


def with_tables(page: str, report: dict[str, Any]) -> str:
    """Return the page with the text between its markers renewed.

    Raises:
        ValueError: the markers of a table are missing.
    """
    page = renewed(page, 'bench ray', measured_text(report))
    return renewed(page, 'projection', projection_text(report))


def draw(report: dict[str, Any], path: Path) -> None:
    """Draw rates as measured, and what is projected from the parts."""
    # Here, because the tables, which a test renews, need no matplotlib.
    from matplotlib.figure import Figure  # noqa: PLC0415

    from td3_agent.evaluation.pictures import DPI, save  # noqa: PLC0415

    figure = Figure(figsize=(10.6, 4.1), dpi=DPI, facecolor='white', layout='constrained')
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    _draw_measured(left, report)
    _draw_projection(right, Projection(report))
    save(figure, path)


def _draw_measured(axes: Axes, report: dict[str, Any]) -> None:
    workers = [int(name) for name in report['runs']]
    for kind, label, colour, marker in (
        (STORE, 'steps only stored', '#1d5fbf', 'o'),
        (TRAIN, 'training', '#c9620a', 's'),
    ):
        rates = [runs[kind]['steps_per_s'] for runs in report['runs'].values()]
        axes.plot(workers, rates, color=colour, marker=marker, label=label)
    first = report['runs'][str(workers[0])][STORE]['steps_per_s'] / workers[0]
    ends = [workers[0], workers[-1]]
    axes.plot(
        ends,
        [first * end for end in ends],
        color='#9aa0a8',
        linestyle='--',
        label='one worker, as many times',
    )
    axes.set_xticks(workers)
    axes.set_ylim(bottom=0.0)
    axes.set_xlabel(f'workers, on {report["machine"]["cores"]} cores')
    axes.set_ylabel('steps/s')
    axes.set_title('Measured', loc='left', fontweight='bold')
    axes.legend(frameon=False, fontsize=9)
    axes.grid(color='#e3e6ea')


def _draw_projection(axes: Axes, projection: Projection) -> None:
    workers = list(range(1, PROJECTED[-1] + 1))
    asked = [projection.asked_per_s(count) for count in workers]
    axes.plot(workers, asked, color='#1d5fbf')
    axes.text(40.0, asked[39] / 1.7, 'what workers could take', color='#1d5fbf', fontsize=9)
    limits = {
        name: [projection.limits_per_s(count)[name] for count in workers]
        for name in projection.limits_per_s(1)
    }
    styles = ('-', '--', ':', '--', ':')
    colours = ('#c9620a', '#7a0c2e', '#7a0c2e', '#1e7d70', '#1e7d70')
    for (name, values), style, colour in zip(limits.items(), styles, colours, strict=True):
        axes.plot(workers, values, color=colour, linestyle=style)
        above = name.startswith(('learner', 'steps'))  # steps and policies lie close together
        axes.annotate(
            name,
            (workers[-1], values[-1]),
            (6.0, 4.0 if above else -4.0),
            textcoords='offset points',
            color=colour,
            fontsize=8,
            va='center',
            annotation_clip=False,
        )
    axes.set_xlim(workers[0], workers[-1])
    axes.set_xscale('log')
    axes.set_yscale('log')
    axes.set_xlabel('workers, a core for each')
    axes.set_ylabel('steps/s')
    axes.set_title('Projected', loc='left', fontweight='bold')
    axes.grid(color='#e3e6ea')


def main() -> int:
    """Write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--check', action='store_true', help='write nothing')
    check = arguments.parse_args().check
    report = json.loads(RESULTS.read_text(encoding='utf-8'))
    old = PAGE.read_text(encoding='utf-8')
    new = with_tables(old, report)
    if new != old:
        sys.stdout.write(f'{"stale" if check else "written"}: {PAGE.relative_to(ROOT)}\n')
    if check:
        return 1 if new != old else 0
    PAGE.write_text(new, encoding='utf-8')
    draw(report, PICTURE)
    return 0


if __name__ == '__main__':
    sys.exit(main())

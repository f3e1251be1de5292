#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Renews every table in the documents, and ``config/*.yaml``, from docs/results and the code.

A table stands between ``<!-- NAME -->`` and ``<!-- end -->``. With ``--check`` nothing is written;
the exit status is 1 if something would change. ``--keep DIR`` first keeps what a program has left
there as a record: a training run on a standard task, an evaluation (``--name`` of its block; a
scenario has a name already), or a demo. Benchmarks write their records themselves.
"""

from __future__ import annotations

import argparse
import csv
from functools import partial
from importlib import import_module
import json
from pathlib import Path
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

from bench_tables import TABLES, Report, containers_text, projection_text, table

from td3_agent.driving.parameters import describe
from td3_agent.evaluation import summary as demo_summary
from td3_agent.evaluation.result_tables import PERCENT, figure_markdown, rows_of, with_interval
from td3_agent.evaluation.result_tables import number as fixed
from td3_agent.evaluation.scenarios import SCENARIOS
from td3_agent.files import write_json
from td3_agent.launch_settings import PROGRAMS
from td3_agent.sim.randomisation import Randomisation

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / 'docs' / 'results'
IMAGES = ROOT / 'docs' / 'images'
NODES = {name: program.load() for name, program in PROGRAMS.items()}
# Task: what is asked of each seed.
TASKS = {
    'Pendulum-v1': 'last policy at least -180',
    'InvertedPendulum-v5': '1000 within 60 000 steps',
    'HalfCheetah-v5': 'shown beside the paper',
}
RUN_LOGS = ('config.json', 'eval.csv', 'summary.json')
PAPER = 'HalfCheetah-v5/paper.csv'
PAPER_STEPS = (50_000, 100_000, 200_000, 300_000, 1_000_000)
TRAFFIC_FIGURES = (
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
    'sign': 'correct sign',
    'r': 'r',
    'rmse_radps': 'RMSE [rad/s]',
    'constant_rmse_radps': 'of a constant 0',
    'grey_rmse_radps': 'on a grey picture',
}
ALONE = 'alone'  # no scenario
EVALUATIONS = RESULTS / 'evaluations'
SHOWN_FIRST = ('lane_alone_winding', 'route_traffic-20_town')  # in the README
USUAL_CAMERAS = ((160, 120), (None, None))
FAULT_FIGURES_SHOWN = 6


def read(path: Path) -> Any:  # noqa: ANN401  what the file holds
    return json.loads(path.read_text(encoding='utf-8'))


# ---- parameters --------------------------------------------------------------------------------


def yaml_text(name: str) -> str:
    """Return the configuration file of a node: every parameter with its default."""
    lines = [
        '# SPDX-License-Identifier: Apache-2.0',
        f'# Parameters of {name}; written by scripts/tables.py.',
        '/**:',
        '  ros__parameters:',
    ]
    for key, default, unit, allowed, text in describe(NODES[name]):
        about = allowed or (f'[{unit}]' if unit else '')
        lines += [f'    # {text}' + (f'; {about}' if about else ''), f'    {key}: {default}']
    return '\n'.join(lines) + '\n'


def parameters_text(name: str) -> str:
    rows = (
        (f'`{key}`', f'`{default}`', allowed.replace('|', '\\|'), text)
        for key, default, _, allowed, text in describe(NODES[name])
    )
    return table(('parameter', 'default', 'allowed', 'meaning'), rows, left=4)


def randomisation_text() -> str:
    """Return what is drawn for each training episode, with its default limit and unit."""
    lines = ['| drawn | default | unit | meaning |', '|---|---:|---|---|']
    lines += [
        f'| `{name}` | {default} | {unit} | {text} |'
        for name, default, unit, _, text in describe(Randomisation)
    ]
    return '\n'.join(lines)


# ---- evaluations -------------------------------------------------------------------------------


def evaluation_text(summary: Report) -> str:
    """Return the caption of an evaluation, and its table unless it compares transports."""
    if summary.get('comparison'):
        return f'{caption(summary)}.\n'
    return f'{caption(summary)}; 95 % intervals in brackets.\n\n{figure_markdown(summary)}\n'


def caption(summary: Report) -> str:
    plan = summary['plan']
    text = (
        f'{plan["episodes"]} episodes, map `{Path(plan["map"]).name}`, family {plan["family"]}, '
        f'seed {plan["seed"]}, routes of {plan["route_length_m"]:g} m'
    )
    if scenario := summary.get('scenario'):
        text += f', scenario `{scenario}`'
    if busy := summary.get('busy_processes'):
        text += f', {busy} busy processes beside them'
    if (size := (plan.get('camera_width'), plan.get('camera_height'))) not in USUAL_CAMERAS:
        text += f', camera {size[0]}x{size[1]}'
    if comparison := summary.get('comparison'):
        frames = sum(row['frames_ros'] for row in comparison)
        equal = sum(row['equal'] for row in comparison)
        text += (
            f'; over ROS and without, {equal} of {len(comparison)} episodes are equal in every'
            f' observation and action hash, {frames} frames'
        )
    return text


def evaluations(pattern: str) -> list[Report]:
    """Return the records of evaluations whose names match, in the order of their names."""
    return [read(path) for path in sorted(EVALUATIONS.glob(f'{pattern}.json'))]


def driven() -> list[Report]:
    """Return the records of drives, those that compare transports left out."""
    return [record for record in evaluations('*_*_*') if not record.get('comparison')]


def record_name(summary: Report) -> str:
    """Return policy, scenario and map of an evaluation; empty for one without a policy."""
    policy = Path(summary.get('policy') or '').name
    if 'groups' in summary:
        return f'{policy}_pictures'
    kind = 'compare' if summary.get('comparison') else summary['scenario'] or ALONE
    return policy and f'{policy}_{kind}_{Path(summary["plan"]["map"]).stem}'


def scenarios_text() -> str:
    """Return a row per scenario and driver, of the scenarios that have a record."""
    rows = []
    for name, scenario in SCENARIOS.items():
        for record in evaluations(f'route_{name}_{scenario.map}'):
            for driver, figures in rows_of(record).items():
                cells = (
                    with_interval(figures, key, scale, digits)
                    for key, _, scale, digits in TRAFFIC_FIGURES
                )
                rows.append((f'`{name}`', driver, record['plan']['episodes'], *cells))
    columns = ('scenario', 'driver', 'episodes', *(label for _, label, _, _ in TRAFFIC_FIGURES))
    intro = 'Family test, seed 0; 95 % intervals in brackets.'
    return f'{intro}\n\n{table(columns, rows, left=2)}'


def checks_text() -> str:
    """Return a row per policy and kind of road, with pure pursuit's figures on the same roads."""

    def order(record: Report) -> tuple[str, str, int, str]:
        plan = record['plan']
        return record['policy'], plan['map'], plan['traffic_vehicles'], record['scenario']

    rows = []
    for record in sorted(driven(), key=order):
        plan, references = record['plan'], record.get('references', {})
        reference = references.get('pure_pursuit_idm') or references.get('pure_pursuit')
        cells = [Path(record['policy']).name, Path(plan['map']).stem, record['scenario'] or '']
        cells.append(str(plan['episodes']))
        for key, _, scale, digits in CHECKED:
            cell = with_interval(record, key, scale, digits)
            if reference and key in COMPARED:
                cell += f' ({fixed(reference[key], scale, digits)})'
            cells.append(cell)
        rows.append(cells)
    columns = ('policy', 'road', 'scenario', 'episodes', *(label for _, label, _, _ in CHECKED))
    return table(columns, rows, left=3)


def policies_text() -> str:
    """Return what the policies reach on one kind of unseen road, and on recorded frames."""
    rows = []
    for record in driven():
        plan, policy = record['plan'], Path(record['policy']).name
        if record_name(record) not in SHOWN_FIRST:
            continue
        road = f'{Path(plan["map"]).stem}, {record["scenario"] or "empty roads"}'
        cells = (with_interval(record, key, scale, digits) for key, _, scale, digits in CHECKED)
        frames = read(EVALUATIONS / f'{policy}_pictures.json')['groups']['all']
        seen = f'{fixed(frames["sign"], 100.0, 0)}, {fixed(frames["r"], 1.0, 2)}'
        rows.append((f'`{policy}`', road, plan['episodes'], *cells, seen))
    labels = (label for _, label, _, _ in CHECKED)
    seen = 'CARLA frames: correct sign [%], correlation with pure pursuit'
    return table(('policy', 'road', 'episodes', *labels, seen), rows, left=2)


def pictures_text() -> str:
    """Return a row per policy and group of recorded frames."""
    rows = []
    for record in evaluations('*_pictures'):
        for group, figures in record['groups'].items():
            cells = (fixed(figures.get(key), 1.0, 3 * (key != 'frames')) for key in PICTURES)
            rows.append((f'`{Path(record["policy"]).name}`', group, *cells))
    return table(('policy', 'frames', *PICTURES.values()), rows, left=2)


def demo_text() -> str:
    """Return the summary of a demo as its terminal showed it."""
    return f'```\n{demo_summary.table(read(RESULTS / "demo.json"))}\n```'


# ---- standard tasks ----------------------------------------------------------------------------


def csv_rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline='', encoding='utf-8') as file:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(file)]


def runs_of(task: str) -> list[tuple[int, list[dict[str, float]]]]:
    """Return seed and evaluations of each run of a task."""
    folders = sorted((RESULTS / task).glob('seed_*'))
    return [(int(folder.name[5:]), csv_rows(folder / 'eval.csv')) for folder in folders]


def tasks_text() -> str:
    """Return one row per run, and what they were made with."""
    rows, made_with = [], set()
    for task, asked in TASKS.items():
        for seed, evaluations in runs_of(task):
            first, last = evaluations[0], evaluations[-1]
            best = max(evaluations, key=lambda row: row['return_mean'])
            shown = f'**{last["return_mean"]:.1f}** ± {last["return_std"]:.1f}'
            at_best = f'{best["return_mean"]:.1f} at step {best["step"]:.0f}'
            begun = round(first['return_mean'])
            rows.append((task, seed, f'{last["step"]:.0f}', begun, shown, at_best, asked))
            versions = read(RESULTS / task / f'seed_{seed}' / 'config.json')['versions']
            names = ('torch', 'numpy', 'gymnasium')
            made_with.add(', '.join(f'{name} {versions[name]}' for name in names))
    columns = ('task', 'seed', 'steps', 'untrained', 'last policy', 'best policy', 'asked')
    return f'{table(columns, rows)}\n\nMade with {"; ".join(sorted(made_with))}; mujoco 4.0.0.'


def paper_text() -> str:
    """Return our HalfCheetah beside the paper's at the same steps."""
    paper = {row['step']: row for row in csv_rows(RESULTS / PAPER)}
    ours = {row['step']: row for row in runs_of('HalfCheetah-v5')[0][1]}
    rows = (
        (
            step,
            f'{paper[step]["return_mean"]:.0f} ± {paper[step]["return_std"]:.0f}',
            f'{ours[step]["return_mean"]:.0f}' if step in ours else '-',
        )
        for step in PAPER_STEPS
    )
    columns = ('steps', 'paper, HalfCheetah-v1, 10 seeds', 'here, HalfCheetah-v5, 1 seed')
    return table(columns, rows, left=0)


def planted_text() -> str:
    """Return the faults that the tests of the doctor plant, with what it finds."""
    sys.path.append(str(ROOT / 'test'))
    return str(import_module('planted_faults').table())


# ---- faults ------------------------------------------------------------------------------------


def faults_text() -> str:
    """Return the table of loads and faults, and what they were measured on."""
    reports = [read(path) for path in sorted(RESULTS.glob('faults*.json'))]
    lines = ['| case | load or fault | | s | figures |', '|---|---|---|---:|---|']
    for report in reports:
        for case in report['cases']:
            figures = list(case['figures'].items())[:FAULT_FIGURES_SHOWN]
            told = ', '.join(f'{name} {number(value)}' for name, value in figures)
            verdict = 'pass' if case['passed'] else '**fail**'
            about = f'{case["id"]} `{case["name"]}` | {case["title"]}'
            lines.append(f'| {about} | {verdict} | {case["duration_s"]:.0f} | {told} |')
    return '\n\n'.join(['\n'.join(lines), *map(faults_caption, reports)])


def faults_caption(report: Report) -> str:
    """Return how many cases of a report passed, and what they were measured on."""
    cases, machine = report['cases'], report['machine']
    return (
        f'{cases[0]["id"]} to {cases[-1]["id"]}: '
        f'{sum(case["passed"] for case in cases)} of {len(cases)} cases passed. '
        f'{machine["cpu"]}, {machine["cores"]} cores, Python '
        f'{machine["python"]}, {machine["rmw"]}; load {machine["load_before"]:.1f} before and '
        f'{machine["load_after"]:.1f} after.'
    )


def number(value: float | str) -> str:
    return f'{value:.3g}' if isinstance(value, float) else str(value)


# ---- documents ---------------------------------------------------------------------------------


def renewed(document: str, block: str, text: str) -> str:
    """Return the document with ``text`` between ``<!-- block -->`` and ``<!-- end -->``.

    Raises:
        ValueError: the document does not have exactly one such block.
    """
    pattern = rf'(<!-- {re.escape(block)} -->\n)(?:(?!<!--).)*(<!-- end -->)'
    document, count = re.subn(
        pattern, lambda m: f'{m[1]}{text.rstrip()}\n{m[2]}', document, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(f'the document must hold one block <!-- {block} -->, found {count}')
    return document


def blocks() -> dict[str, Callable[[], str]]:
    """Return what makes the text of each block whose record is there."""
    found: dict[str, Callable[[], str]] = {
        'randomisation': randomisation_text,
        'traffic scenarios': scenarios_text,
        'checks': checks_text,
        'containers': lambda: containers_text(read(RESULTS / 'containers.json')),
        'pictures': pictures_text,
        'policies': policies_text,
        'standard tasks': tasks_text,
        'paper': paper_text,
        'faults': faults_text,
        'planted faults': planted_text,
        'projection': lambda: projection_text(read(RESULTS / 'bench' / 'ray.json')),
    }
    found |= {f'parameters of {name}': partial(parameters_text, name) for name in NODES}
    for path in (RESULTS / 'bench').glob('*.json'):
        text = TABLES[path.stem.removesuffix('_docker')]
        found[f'bench {path.stem}'] = lambda text=text, path=path: text(read(path))
    for path in EVALUATIONS.glob('*_*_*.json'):
        found[f'evaluation {path.stem}'] = lambda path=path: evaluation_text(read(path))
    if (RESULTS / 'demo.json').exists():
        found['demo output'] = demo_text
    return found


def with_tables(document: str) -> str:
    """Return a document with the text of each of its blocks renewed."""
    made = blocks()
    for name in re.findall(r'^<!-- (.+) -->$', document, flags=re.MULTILINE):
        if name in made:
            document = renewed(document, name, made[name]())
    return document


def wanted_files() -> dict[Path, str]:
    """Return every file that holds generated text, with the text it should have."""
    files = {ROOT / 'config' / f'{name}.yaml': yaml_text(name) for name in NODES}
    for path in (ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))):
        files[path] = with_tables(path.read_text(encoding='utf-8'))
    return files


def keep(folder: Path) -> Path:
    """Keep the record of a training run, an evaluation or a demo; return where.

    Raises:
        ValueError: the folder holds none of these, or an evaluation without a policy.
    """
    if (folder / 'config.json').exists():
        config = read(folder / 'config.json')
        target = RESULTS / config['env'][0] / f'seed_{config["train"]["seed"]}'
        target.mkdir(parents=True, exist_ok=True)
        for log in RUN_LOGS:
            if (folder / log).exists():  # a run that goes on has no summary yet
                shutil.copyfile(folder / log, target / log)
        return target
    summary = read(folder / 'summary.json')
    target = RESULTS / 'demo.json'
    if 'plan' in summary or 'groups' in summary:
        if not (name := record_name(summary)):
            raise ValueError(f'{folder} holds the evaluation of a driver without a policy')
        target = EVALUATIONS / f'{name}.json'
        summary.pop('episodes', None)
        if 'plan' in summary:  # of a map from a file, its name: the folder says nothing elsewhere
            summary['plan']['map'] = Path(summary['plan']['map']).name
    for picture in ('trajectory.png', 'camera.png') if target.stem == 'demo' else ():
        shutil.copyfile(folder / picture, IMAGES / picture)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_json(target, summary)
    return target


def main() -> int:
    """Keep, write or check; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--keep', type=Path, action='append', default=[], metavar='DIR')
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args()
    for folder in args.keep:
        print(f'kept: {keep(folder).relative_to(ROOT)}')
    stale = {
        path: text
        for path, text in wanted_files().items()
        if not path.exists() or path.read_text(encoding='utf-8') != text
    }
    for path, text in stale.items():
        print(f'{"stale" if args.check else "written"}: {path.relative_to(ROOT)}')
        if not args.check:
            path.write_text(text, encoding='utf-8')
    return int(args.check and bool(stale))


if __name__ == '__main__':
    sys.exit(main())

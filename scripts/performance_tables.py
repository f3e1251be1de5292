#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/performance.md, and draws its pictures, from docs/results/bench.

``td3_agent bench NAME --json > docs/results/bench/NAME.json`` renews the figures, and for
``image_in`` and ``inference`` ``benchmarks/NAME.py --json``. With ``--check`` nothing is written;
the exit status is 1 if something would change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import Any

from marked import renewed

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'performance.md'
PICTURES = ROOT / 'docs' / 'images'
RESULTS = ROOT / 'docs' / 'results' / 'bench'


def machine_text(machine: dict[str, Any]) -> str:
    """Say where figures come from; a load above 0 means that others were at work."""
    return (
        f'{machine["cpu"]}, {machine["cores"]} cores, Python {machine["python"]}; '
        f'load from elsewhere before the run {machine["load_before"]:.1f}.'
    )


def image_in_text(report: dict[str, Any]) -> str:
    """Return ratios and latencies of images on their way in."""
    lines = [
        '| image | profile | freed memory kept | both | raw instead of typed |',
        '|---|---:|---:|---:|---:|',
    ]
    for size, found in report['sizes'].items():
        names = ('ratio_profile', 'ratio_memory', 'ratio', 'ratio_raw')
        lines.append(f'| {size} | ' + ' | '.join(f'{found[name]:.2f}' for name in names) + ' |')
    lines += ['', '| image | setting | reader | p50 [ms] | p99 [ms] | lost |']
    lines.append('|---|---|---|---:|---:|---:|')
    for size, found in report['sizes'].items():
        for setting, readers in found['latency'].items():
            for reader, row in readers.items():
                times = f'{row["p50_ms"]:.2f} | {row["p99_ms"]:.2f} | {row["lost"]}'
                lines.append(f'| {size} | {setting} | {reader} | {times} |')
    return '\n'.join([*lines, '', machine_text(report['machine'])])


def inference_text(report: dict[str, Any]) -> str:
    """Return ratio and latencies of one answer."""
    ratio = f'ONNX Runtime answers **{report["ratio"]:.1f} times** as fast.'
    difference = f'{report["largest_difference"]:.1e} of half its range'
    lines = [
        f'{ratio} The largest difference of an action is {difference}.',
        '',
        '| runtime | p50 [ms] | p99 [ms] |',
        '|---|---:|---:|',
    ]
    for runtime, row in report['latency'].items():
        lines.append(f'| {runtime} | {row["p50_ms"]:.3f} | {row["p99_ms"]:.3f} |')
    versions = ', '.join(f'{name} {version}' for name, version in report['versions'].items())
    return '\n'.join([*lines, '', f'{versions}. {machine_text(report["machine"])}'])


def command_text(report: dict[str, Any]) -> str:
    """Return ratio and times of one command."""
    native = report['native']
    lines = [
        f'A process for the command takes **{report["ratio"]:.0f} times** as long.',
        '',
        '| one command by | | p50 [ms] | p99 [ms] | max [ms] | ratio |',
        '|---|---|---:|---:|---:|---:|',
    ]
    kinds = {'whole': ('the call returns', '1'), 'processor': ('processor time in the call', '')}
    for name, (what, ratio) in (kinds | {'received': ('received', '1')}).items():
        row = native[name]
        times = f'{row["p50_ms"]:.3f} | {row["p99_ms"]:.3f} | {row["max_ms"]:.3f}'
        lines.append(f'| `publish()` in a process that stays | {what} | {times} | {ratio} |')
    for kind, times in report['processes'].items():
        for name, what in (('whole', 'the process has ended'), ('received', 'received')):
            row, ratio = times[name], report['ratios'][kind][name]
            figures = f'{row["p50_ms"]:.0f} | | {row["max_ms"]:.0f} | {ratio:.0f}'
            lines.append(f'| {kind} | {what} | {figures} |')
    starts = ', '.join(f'{count} of {kind}' for kind, count in report['starts'].items())
    counts = f'{native["commands"]} commands, {native["lost"]} lost; {starts}.'
    absent = ''.join(f' {kind}: absent here, not measured.' for kind in report['absent'])
    docker = f' docker exec is by `{report["docker"]}`.' if report.get('docker') else ''
    return '\n'.join([*lines, '', f'{counts}{absent}{docker} {machine_text(report["machine"])}'])


def rate_text(report: dict[str, Any]) -> str:
    """Return ratio, rates and misses of the free-running agent."""
    sigmas = ', '.join(f'{ratio:.2f} {run}' for run, ratio in report['ratio_sigma'].items())
    lines = [
        f'Loaded to idle, the rate is **{report["ratio"]:.4f}**.',
        f'The sigma of *sent* is that of the bare timer times {sigmas}.',
        '',
        '| | | rate [Hz] | sigma [ms] | p99 [ms] | max [ms] | ticks missed | commands |',
        '|---|---|---:|---:|---:|---:|---:|---:|',
    ]
    for run, found in report['runs'].items():
        for what in ('sent', 'received', 'control', 'bare timer'):
            row = found[what]
            times = f'{row["sigma_ms"]:.3f} | {row["p99_ms"]:.2f} | {row["max_ms"]:.2f}'
            counts = f'{row["missed"]} | {row["commands"]}'
            lines.append(f'| {run} | {what} | {row["rate_hz"]:.4f} | {times} | {counts} |')
    repeated = ', '.join(f'{found["repeated"]} {run}' for run, found in report['runs'].items())
    about = (
        f'{report["duration_s"]:g} s each, {report["busy_processes"]} busy processes when loaded; '
        f'commands for a frame that had one already: {repeated}.'
    )
    return '\n'.join([*lines, '', f'{about} {machine_text(report["machine"])}'])


def startup_text(report: dict[str, Any]) -> str:
    """Return ratios and times of starts, and the memory of the nodes."""
    ratio, no_network = report['ratio'], report['ratio_no_network']
    lines = [
        f'The agent takes **{ratio:.1f} times** as long as a lifecycle node that does nothing.',
        f'Without a network it takes {no_network:.1f} times as long.',
        '',
        '| process start → active | first [s] | again, median [s] | slowest [s] | processor [s] |',
        '|---|---:|---:|---:|---:|',
    ]
    for case, row in report['starts'].items():
        lines.append(f'| {case} | ' + ' | '.join(f'{s:.2f}' for s in row.values()) + ' |')
    lines += ['', '| memory while driving | resident [MB] | peak [MB] | proportional [MB] |']
    lines.append('|---|---:|---:|---:|')
    for name, row in report['memory'].items():
        columns = (row.get(column) for column in ('resident_mb', 'peak_mb', 'proportional_mb'))
        cells = ('' if value is None else f'{value:.0f}' for value in columns)
        lines.append(f'| `{name}` | ' + ' | '.join(cells) + ' |')
    about = f'{report["turns"]} starts of each.'
    return '\n'.join([*lines, '', f'{about} {machine_text(report["machine"])}'])


def latency_text(report: dict[str, Any]) -> str:
    """Return ratios and latencies from image to Twist."""
    lines = [
        '| image | ratio | agent p50 [ms] | p99 [ms] | lost | plain p50 [ms] | p99 [ms] | lost |',
        '|---|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for size, row in report['cases'].items():
        both = ' | '.join(
            f'{row[f"{side}p50_ms"]:.2f} | {row[f"{side}p99_ms"]:.2f} | {row[f"{side}lost"]}'
            for side in ('', 'plain_')
        )
        lines.append(f'| {size} | **{row["ratio"]:.2f}** | {both} |')
    versions = ', '.join(f'{name} {version}' for name, version in report['versions'].items())
    frames = f'{report["frames"]} frames of each size to each node'
    return '\n'.join([*lines, '', f'{frames}. {versions}. {machine_text(report["machine"])}'])


def lockstep_text(report: dict[str, Any]) -> str:
    """Return rates over ROS beside the direct path, and where the rest goes."""
    lines = [
        '| executor | frames/s | times real time | ratio to the direct path |',
        '|---|---:|---:|---:|',
    ]
    for name, found in report['cases'].items():
        rate = f'{found["frames_per_s"]:.0f} | {found["times_real_time"]:.1f}'
        lines.append(f'| {name} | {rate} | {found["ratio"]:.2f} |')
    lines.append(f'| direct path, one process | {report["direct_frames_per_s"]:.0f} | | 1 |')
    for title, key in (('stage, p50 [ms]', 'stages_ms'), ('processor time [ms]', 'cpu_ms')):
        columns = next(iter(report['cases'].values()))[key]
        lines += ['', f'| {title} | ' + ' | '.join(columns) + ' |']
        lines.append('|---|' + '---:|' * len(columns))
        for name, found in report['cases'].items():
            values = (v['p50'] if isinstance(v, dict) else v for v in found[key].values())
            lines.append(f'| {name} | ' + ' | '.join(f'{v:.2f}' for v in values) + ' |')
    width, height = report['camera']
    about = f'{report["frames"]} frames a drive, camera {width}x{height}.'
    return '\n'.join([*lines, '', f'{about} {machine_text(report["machine"])}'])


def scaling_text(report: dict[str, Any]) -> str:
    """Return rates and latencies of all cases, and what a vehicle and a megapixel cost."""
    costs = []
    for unit in ('vehicle', 'megapixel'):
        found = report[f'ms_per_{unit}']
        ros, direct = found['ros']['each'], found['direct']['each']
        costs.append(
            f'A {unit} more costs **{ros:.1f} ms** per frame over ROS, {direct:.1f} ms on the '
            f'direct path.'
        )
    lines = [
        *costs,
        '',
        '| vehicles | image | ratio | frames/s | direct path | p50 [ms] | p99 [ms] |',
        '|---:|---:|---:|---:|---:|---:|---:|',
    ]
    for row in report['cases'].values():
        whole = row['end_to_end_ms']
        lines.append(
            f'| {row["vehicles"]} | {row["width"]}x{row["height"]} | **{row["ratio"]:.2f}** '
            f'| {row["frames_per_s"]:.1f} | {row["direct_frames_per_s"]:.1f} '
            f'| {whole["p50"]:.2f} | {whole["p99"]:.2f} |'
        )
    columns = next(iter(report['cases'].values()))['cpu_ms']
    programs = ' | '.join(f'`{name}`' for name in columns)
    lines += [
        '',
        f'| vehicles | image | {programs} |',
        '|---:|---:|' + '---:|' * len(columns),
    ]
    for row in report['cases'].values():
        used = ' | '.join(f'{ms:.2f}' for ms in row['cpu_ms'].values())
        lines.append(f'| {row["vehicles"]} | {row["width"]}x{row["height"]} | {used} |')
    about = (
        f'{report["turns"]} drives of {report["frames"]} frames of each case, '
        f'{report["executor"]} executor.'
    )
    return '\n'.join([*lines, '', f'{about} {machine_text(report["machine"])}'])


def ros_env_text(report: dict[str, Any]) -> str:
    """Return steps per second of both environments."""
    lines = [
        '| environment | steps/s | reset [ms] | resets | steps/s, resets counted |',
        '|---|---:|---:|---:|---:|',
    ]
    names = {'direct': '`td3_agent/Driving-v0`', 'ros': '`td3_agent/RosDriving-v0`'}
    lines += [
        f'| {names[key]} | {row["steps_per_s"]:.0f} | {row["reset_ms"]:.0f} '
        f'| {row["resets"]} | {row["with_resets_per_s"]:.0f} |'
        for key, row in report['environments'].items()
    ]
    ratio = f'The direct one is **{report["ratio"]:.1f} times** as fast, resets counted.'
    about = f'{report["turns"]} turns of {report["steps"]} steps.'
    return '\n'.join([*lines, '', f'{ratio} {about} {machine_text(report["machine"])}'])


TABLES = {
    'command': command_text,
    'command_docker': command_text,
    'ros_env': ros_env_text,
    'rate': rate_text,
    'startup': startup_text,
    'latency': latency_text,
    'lockstep': lockstep_text,
    'scaling': scaling_text,
    'image_in': image_in_text,
    'inference': inference_text,
}


def results() -> dict[str, dict[str, Any]]:
    """Return the report of every benchmark on the page."""
    return {
        name: json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8')) for name in TABLES
    }


def with_tables(page: str) -> str:
    """Return the page with the text between its markers renewed.

    Raises:
        ValueError: the markers of a table are missing.
    """
    for name, report in results().items():
        page = renewed(page, f'bench {name}', TABLES[name](report))
    return page


def draw_pictures(reports: dict[str, dict[str, Any]]) -> None:
    """Draw the pictures of the page."""
    # Here, because the tables, which a test renews, need neither matplotlib nor ROS 2.
    from performance_pictures import draw_frame, draw_ratios  # noqa: PLC0415
    from scaling_picture import draw_scaling  # noqa: PLC0415

    draw_ratios(PICTURES / 'performance_ratios.png', reports)
    draw_frame(PICTURES / 'performance_frame.png', reports)
    draw_scaling(PICTURES / 'scaling.png', reports)


def main() -> int:
    """Write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--check', action='store_true', help='write nothing')
    check = arguments.parse_args().check
    old = PAGE.read_text(encoding='utf-8')
    new = with_tables(old)
    if new != old:
        sys.stdout.write(f'{"stale" if check else "written"}: {PAGE.relative_to(ROOT)}\n')
    if check:
        return 1 if new != old else 0
    PAGE.write_text(new, encoding='utf-8')
    draw_pictures(results())
    return 0


if __name__ == '__main__':
    sys.exit(main())

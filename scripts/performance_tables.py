#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tables of docs/performance.md from docs/results/bench.

``benchmarks/NAME.py --json > docs/results/bench/NAME.json`` renews the figures, or ``td3_agent
bench NAME --json`` where there is no such program. With ``--check`` nothing is written; the exit
status is 1 if something would change.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import re
import sys
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'performance.md'
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


TABLES = {
    'image_in': image_in_text,
    'inference': inference_text,
    'latency': latency_text,
}


def with_tables(page: str) -> str:
    """Return the page with the text between its markers renewed.

    Raises:
        ValueError: the markers of a table are missing.
    """
    for name, text_of in TABLES.items():
        report = json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8'))
        pattern = rf'(<!-- bench {name} -->\n)(?:(?!<!--).)*(<!-- end -->)'
        if not re.search(pattern, page, flags=re.DOTALL):
            raise ValueError(f'docs/performance.md must have markers for bench {name}')
        text = text_of(report)
        page = re.sub(pattern, lambda m, t=text: f'{m[1]}{t}\n{m[2]}', page, flags=re.DOTALL)
    return page


def main() -> int:
    """Write or check; return the exit status."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--check', action='store_true', help='write nothing')
    check = arguments.parse_args().check
    old = PAGE.read_text(encoding='utf-8')
    new = with_tables(old)
    if new == old:
        return 0
    sys.stdout.write(f'{"stale" if check else "written"}: {PAGE.relative_to(ROOT)}\n')
    if not check:
        PAGE.write_text(new, encoding='utf-8')
    return 1 if check else 0


if __name__ == '__main__':
    sys.exit(main())

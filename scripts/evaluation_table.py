#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prints the figures of an evaluation as a Markdown table, or puts them into a document.

``--into docs/evaluation.md --block winding`` renews the text there, between
``<!-- evaluation winding -->`` and ``<!-- end -->``; ``--picture`` copies the picture of the
trajectories.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import shutil
import sys
from typing import Any

from marked import renewed

from td3_agent.evaluation.result_tables import figure_markdown

USUAL_CAMERAS = ((160, 120), (None, None))


def caption(summary: dict[str, Any]) -> str:
    """Return what was evaluated, and the command that does it again."""
    plan = summary['plan']
    road = Path(plan['map']).name
    text = (
        f'{plan["episodes"]} episodes, map `{road}`, family {plan["family"]}, seed {plan["seed"]},'
        f' routes of {plan["route_length_m"]:g} m'
    )
    if scenario := summary.get('scenario'):
        text += f', scenario `{scenario}`'
    if busy := summary.get('busy_processes'):
        text += f', {busy} busy processes beside them'
    if (size := (plan.get('camera_width'), plan.get('camera_height'))) not in USUAL_CAMERAS:
        text += f', camera {size[0]}x{size[1]}'
    comparison = summary.get('comparison')
    if comparison:
        frames = sum(row['frames_ros'] for row in comparison)
        equal = sum(row['equal'] for row in comparison)
        text += (
            f'; over ROS and without, {equal} of {len(comparison)} episodes are equal in every'
            f' observation and action hash, {frames} frames'
        )
    return text


def block_text(summary: dict[str, Any], *, with_table: bool = True) -> str:
    """Return caption and table, or the caption alone."""
    if not with_table:
        return f'{caption(summary)}.\n'
    return f'{caption(summary)}; 95 % intervals in brackets.\n\n{figure_markdown(summary)}\n'


def main() -> None:
    """Print or renew."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('evaluation', type=Path, help='folder that evaluate --out named')
    arguments.add_argument('--into', type=Path, help='document to renew instead of printing')
    arguments.add_argument('--block', default='', help='which block of it')
    arguments.add_argument('--caption', action='store_true', help='without the table')
    arguments.add_argument('--picture', type=Path, help='where to copy the trajectories')
    args = arguments.parse_args()
    summary = json.loads((args.evaluation / 'summary.json').read_text(encoding='utf-8'))
    text = block_text(summary, with_table=not args.caption)
    if args.into is None:
        sys.stdout.write(text)
    else:
        document = args.into.read_text(encoding='utf-8')
        args.into.write_text(renewed(document, f'evaluation {args.block}', text), encoding='utf-8')
    if args.picture is not None:
        shutil.copyfile(args.evaluation / 'trajectories.png', args.picture)


if __name__ == '__main__':
    main()

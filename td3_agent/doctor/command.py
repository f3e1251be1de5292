# SPDX-License-Identifier: Apache-2.0
"""Look for what keeps this machine, or with --live the running graph, from driving.

One line per finding with the way to mend it. Nothing is changed. Exit status: 0, or 1 with an
error among the findings (with --strict: or a warning).
"""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import json
import multiprocessing
import os
from pathlib import Path
import sys
import time
from typing import TYPE_CHECKING

from td3_agent.doctor.checks import all_findings
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.gather import gather_machine, message_hashes
from td3_agent.doctor.graph_checks import graph_findings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from td3_agent.doctor.facts import Graph

EXIT_FOUND = 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('--live', action='store_true', help='look at the running graph too')
    add('--seconds', type=float, default=2.0, help='how long to look at the graph [s]')
    add('--role-name', default='ego_vehicle', help='role name of the vehicle')
    add('--camera-id', default='camera', help='id of the camera')
    add('--camera', default='320x240', metavar='WxH', help='size of its images [px]')
    add('--out', type=Path, default=Path(), metavar='DIR', help='where results will go')
    add('--patience', type=float, default=3.5, help='longest time for all imports [s]')
    add('--strict', action='store_true', help='warnings count as errors')
    add('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Examine, print, and return the exit status.

    Raises:
        ValueError: an argument was refused.
    """
    camera_px = camera_size(args.camera)
    for name in ('seconds', 'patience'):
        if not 0.0 < getattr(args, name) <= 600.0:
            raise ValueError(f'{name} must be in (0, 600] [s], got {getattr(args, name)}')
    started_s = time.monotonic()
    # Imports keep processes of their own busy, discovery is all waiting: both at once.
    with ThreadPoolExecutor(1) as pool:
        graph = pool.submit(live_findings, args) if args.live else None
        machine = gather_machine(
            camera_px=camera_px, out_folder=args.out, patience_s=args.patience
        )
        findings = [*all_findings(machine), *(graph.result() if graph else [])]
    report(findings, as_json=args.json, took_s=time.monotonic() - started_s)
    return EXIT_FOUND if is_bad(findings, strict=args.strict) else 0


def live_findings(args: argparse.Namespace) -> list[Finding]:
    """Return the findings of the running graph; one error where it cannot be looked at."""
    try:
        return graph_findings(_graph(args))
    except Exception as error:  # noqa: BLE001  whatever it is, it is a finding
        text = f'the graph cannot be looked at: {type(error).__name__}: {error}'
        return [Finding(Level.ERROR, 'live', text, 'mend what the imports say first')]


def _graph(args: argparse.Namespace) -> Graph:
    """Look at the graph from a process of its own: a broken rclpy may end it."""
    spawn = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=spawn) as pool:
        return pool.submit(_gather_graph, args.seconds, args.role_name, args.camera_id).result()


def _gather_graph(seconds: float, role_name: str, camera_id: str) -> Graph:
    from td3_agent.doctor.gather_graph import gather_graph  # noqa: PLC0415  needs rclpy

    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(':')
    return gather_graph(
        seconds,
        role_name=role_name,
        camera_id=camera_id,
        message_hashes=message_hashes(prefixes),
    )


def camera_size(text: str) -> tuple[int, int]:
    """Return width and height [px] of ``800x600``.

    Raises:
        ValueError: it is not written so.
    """
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ValueError(f'camera must be WIDTHxHEIGHT [px], as 800x600, got {text!r}')
    return int(width), int(height)


def is_bad(findings: Sequence[Finding], *, strict: bool) -> bool:
    """Return whether something must be mended."""
    worst = max((finding.level for finding in findings), default=Level.OK)
    return worst >= (Level.WARNING if strict else Level.ERROR)


def report(findings: Sequence[Finding], *, as_json: bool, took_s: float) -> None:
    """Print the findings, the worst last, where they are seen."""
    counts = {level.name.lower(): sum(f.level is level for f in findings) for level in Level}
    if as_json:
        rows = [
            {'level': f.level.name.lower(), 'check': f.check, 'text': f.text, 'fix': f.fix}
            for f in findings
        ]
        print(json.dumps({'findings': rows, 'counts': counts, 'took_s': round(took_s, 3)}))
        return
    for finding in sorted(findings, key=lambda f: f.level):
        print(finding.line())
    summary = ', '.join(f'{count} {name}' for name, count in counts.items())
    print(f'{summary}; {took_s:.1f} s')
    sys.stdout.flush()

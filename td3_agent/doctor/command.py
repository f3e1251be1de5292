# SPDX-License-Identifier: Apache-2.0
"""Look for what keeps this machine, or with --live the running graph, from driving.

One line per finding with the way to mend it. Nothing is changed. Exit status: 0, or 1 with an
error among the findings (with --strict: or a warning). With --map, the map alone is looked at.
"""

from __future__ import annotations

from contextlib import ExitStack
import json
from pathlib import Path
import sys
import time
from typing import TYPE_CHECKING

from td3_agent.doctor import live
from td3_agent.doctor.checks import all_findings
from td3_agent.doctor.findings import Finding, Level
from td3_agent.doctor.gather import gather_machine
from td3_agent.doctor.map_checks import map_findings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

EXIT_FOUND, EXIT_INTERRUPTED = 1, 130  # 128 + SIGINT, as shells have it


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('--map', type=Path, metavar='FILE', help='look at an OpenDRIVE map (.xodr) instead')
    add('--live', action='store_true', help='look at the running graph too')
    add('--seconds', type=float, default=3.0, help='how long to look at the graph [s]')
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
    try:
        findings = map_findings(args.map) if args.map else examine(args, camera_px)
    except KeyboardInterrupt:
        sys.stderr.write('td3_agent doctor: interrupted\n')
        return EXIT_INTERRUPTED
    report(findings, as_json=args.json, took_s=time.monotonic() - started_s)
    return EXIT_FOUND if is_bad(findings, strict=args.strict) else 0


def examine(args: argparse.Namespace, camera_px: tuple[int, int]) -> list[Finding]:
    """Return all findings: of the machine, and with ``--live`` of the graph.

    Imports keep processes of their own busy, discovery is all waiting: both at once.
    """
    with ExitStack() as stack:
        look = stack.enter_context(live.start(args)) if args.live else None
        machine = gather_machine(
            camera_px=camera_px, out_folder=args.out, patience_s=args.patience
        )
        findings = all_findings(machine)
        if look is not None:
            # The graph that is to be looked at: its processes are meant to be there.
            findings = [f for f in findings if (f.check, f.level) != ('domain', Level.NOTE)]
            findings += live.live_findings(look, machine, findings)
    return findings


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

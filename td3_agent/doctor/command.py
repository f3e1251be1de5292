# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Find what keeps this machine, or with --live the running graph, from driving.

Prints one line per finding, with its fix. Changes nothing. Exit status: 1 with an error among the
findings (with --strict: or a warning), else 0. With --map, only the map is checked.
"""

from __future__ import annotations

from contextlib import ExitStack
import json
from pathlib import Path
import sys
import time
from typing import TYPE_CHECKING

from td3_agent.doctor.facts import (
    ERROR,
    NOT_IN_TIME,
    NOTE,
    OK,
    WARNING,
    Diagnosis,
    Level,
    judged,
)
from td3_agent.doctor.gather import Probe, gather_machine, read_graph
from td3_agent.doctor.machine_checks import MACHINE_CHECKS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from td3_agent.doctor.facts import Machine
    from td3_agent.sim.road import RoadMap

EXIT_FOUND, EXIT_INTERRUPTED = 1, 130  # 128 + SIGINT, as shells have it
# Without these no node starts, and its own messages would mislead.
FIRST = ('rmw', 'domain')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('--map', type=Path, metavar='FILE', help='check an OpenDRIVE map (.xodr) instead')
    add('--live', action='store_true', help='check the running graph too')
    add('--seconds', type=float, default=3.0, help='how long to watch the graph [s]')
    add('--role-name', default='ego_vehicle', help='role name of the vehicle')
    add('--camera-id', default='camera', help='id of the camera')
    add('--camera', default='320x240', metavar='WxH', help='size of its images [px]')
    add('--out', type=Path, default=Path(), metavar='DIR', help='folder for results')
    add('--patience', type=float, default=3.5, help='time limit of all imports [s]')
    add('--strict', action='store_true', help='warnings count as errors')
    add('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Examine, print, and return the exit status.

    Raises:
        ValueError: an argument is invalid.
    """
    camera_px = camera_size(args.camera)
    for name in ('seconds', 'patience'):
        if not 0.0 < getattr(args, name) <= 600.0:
            raise ValueError(f'{name} must be in (0, 600] [s], got {getattr(args, name)}')
    started_s = time.monotonic()
    try:
        findings = [*map_findings(args.map)] if args.map else examine(args, camera_px)
    except KeyboardInterrupt:
        sys.stderr.write('td3_agent doctor: interrupted\n')
        return EXIT_INTERRUPTED
    report(findings, as_json=args.json, took_s=time.monotonic() - started_s)
    return EXIT_FOUND if is_bad(findings, strict=args.strict) else 0


def examine(args: argparse.Namespace, camera_px: tuple[int, int]) -> list[Diagnosis]:
    """Return all findings: of the machine, and with ``--live`` of the graph.

    Both run at once: imports keep other processes busy, discovery waits.
    """
    with ExitStack() as stack:
        look = stack.enter_context(graph_probe(args)) if args.live else None
        machine = gather_machine(
            camera_px=camera_px, out_folder=args.out, patience_s=args.patience
        )
        findings = judged(MACHINE_CHECKS, machine)
        if look is not None:
            # The processes of the graph are no fault.
            findings = [f for f in findings if (f.check, f.level) != ('domain', NOTE)]
            findings += live_findings(look, machine, findings)
    return findings


def graph_probe(args: argparse.Namespace) -> Probe:
    """Start to read the graph."""
    words = (str(args.seconds), args.role_name, args.camera_id)
    return Probe(read_graph, *words, patience_s=args.seconds + args.patience)


def live_findings(look: Probe, machine: Machine, found: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Return the findings of the running graph; one if it cannot be read.

    Args:
        look: what :func:`graph_probe` returned.
        machine: facts of this machine.
        found: the findings of the machine.
    """
    first = [f.check for f in found if f.check in FIRST and f.level is ERROR]
    if first:
        fix = f'mend {" and ".join(first)} first'
        return [Diagnosis(WARNING, 'live', 'the graph was not checked', fix)]
    ended = look.wait()
    answer = next(iter(look.answers()), {})
    if 'findings' in answer:
        return [Diagnosis(**row | {'level': Level(row['level'])}) for row in answer['findings']]
    no_answer = f'no answer in {look.patience_s:g} s'
    why = answer.get('error') or (no_answer if ended == NOT_IN_TIME else f'the probe {ended}')
    rclpy = machine.imports.get('rclpy')
    fix = 'no node starts in this shell: mend this error first'
    if rclpy is None or rclpy.error:
        fix = 'mend the imports first'
    return [Diagnosis(ERROR, 'live', f'the graph cannot be read: {why}', fix)]


def map_findings(path: Path) -> Iterator[Diagnosis]:
    """Yield all faults of a map file, its repairs, and its size as ``carla.Map`` reads it."""
    # No other check needs the simulator, and a rejected map does not need all of it.
    from td3_agent.sim.opendrive import MapError, prepared, read_opendrive  # noqa: PLC0415

    try:
        found = prepared(read_opendrive(path))
        for fault in found.faults:
            yield Diagnosis(ERROR if fault.error else WARNING, 'map', str(fault))
        for cure in found.cures:
            yield Diagnosis(NOTE, 'map', cure)
        if found.errors:
            return
        from td3_agent.sim.lane_runs import breaks_of  # noqa: PLC0415
        from td3_agent.sim.maps import loaded  # noqa: PLC0415

        if found.origin_m != (0.0, 0.0):
            x_m, y_m = found.origin_m
            said = f'moved to a local origin, x {x_m:.0f} m, y {y_m:.0f} m of the file: '
            yield Diagnosis(NOTE, 'map', f'{said}positions are published from there')
        road_map = loaded(path.stem, found)
    except MapError as error:
        yield Diagnosis(ERROR, 'map', str(error))
        return
    for text in breaks_of(road_map):
        yield Diagnosis(WARNING, 'map', text)
    yield Diagnosis(OK, 'map', _size(road_map))


def _size(road_map: RoadMap) -> str:
    lanes = road_map.driving_lanes
    roads = len({lane.span.road_id for lane in lanes})
    x0, y0, x1, y1 = road_map.bounds_m
    return (
        f'{road_map.name}: {roads} roads, {len(lanes)} driving lanes, '
        f'{len(road_map.spawn_points)} spawn points, {x1 - x0:.0f} x {y1 - y0:.0f} m'
    )


def camera_size(text: str) -> tuple[int, int]:
    """Return width and height [px] of ``800x600``; ValueError for any other form."""
    width, _, height = text.partition('x')
    if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
        raise ValueError(f'camera must be WIDTHxHEIGHT [px], such as 800x600, got {text!r}')
    return int(width), int(height)


def is_bad(findings: Sequence[Diagnosis], *, strict: bool) -> bool:
    worst = max((finding.level for finding in findings), default=OK)
    return worst >= (WARNING if strict else ERROR)


def report(findings: Sequence[Diagnosis], *, as_json: bool, took_s: float) -> None:
    """Print the findings, the worst last, next to the prompt."""
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

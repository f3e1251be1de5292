# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Check ledgers: continuity, outcomes, commands, hashes, stages; and whether two are equal."""

from __future__ import annotations

import argparse
from itertools import zip_longest
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from td3_agent.driving.agent import action_sha256
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.files import write_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.driving.ledger_audit import Audit

EXIT_FAILED = 1
FAULTS_SHOWN = 3  # of each check; JSON has them all
# What a drive is made of, as against when it happened: equal in two drives of one episode.
DRIVEN = (
    'frame',
    'stamp_ns',
    'outcome',
    'observation_sha256',
    'action',
    'twist',
    'commands',
    'sent',
    'applied',
    'x_m',
    'y_m',
    'z_m',
    'yaw_rad',
    'speed_mps',
    'yaw_rate_radps',
    'collision',
    'lane_invasion',
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    parser.add_argument('action', type=str.lower, choices=('check',), help='what to do')
    parser.add_argument('files', type=Path, nargs='+', metavar='FILE', help='ledger.jsonl')
    parser.add_argument(
        '--equal', action='store_true', help='the two files must agree, frame by frame'
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument(
        '--out', type=Path, default=argparse.SUPPRESS, help='folder for summary.json'
    )


def run(args: argparse.Namespace) -> int:
    """Check all files, print what was found, and return the exit status.

    0 only if every check of every file holds and, with ``--equal``, nothing differs.

    Raises:
        ValueError: a file is no ledger, or ``--equal`` did not get two.
        OSError: a file cannot be read.
    """
    if args.equal and len(args.files) != 2:
        raise ValueError(f'--equal compares two files, got {len(args.files)}')
    audits = [audit_ledger(path) for path in args.files]
    summary: dict[str, Any] = {
        'files': [file_summary(path, a) for path, a in zip(args.files, audits, strict=True)]
    }
    if args.equal:
        summary['comparison'] = compare(*audits)
    summary['holds'] = holds(summary)
    if 'out' in args:
        args.out.mkdir(parents=True, exist_ok=True)
        write_json(args.out / 'summary.json', summary)
    sys.stdout.write(json.dumps(summary, indent=2) + '\n' if args.json else table(summary))
    return 0 if summary['holds'] else EXIT_FAILED


def file_summary(path: Path, audit: Audit) -> dict[str, Any]:
    """Return what was found in one file."""
    counts = audit.counts
    return {
        'path': str(path),
        'holds': audit.holds,
        'ended': audit.ended,
        'torn_bytes': audit.torn_bytes,
        'frames': counts.frames,
        'outcomes': counts.outcomes,
        'violations': counts.violations,
        'checks': {
            name: {'holds': found.holds, 'note': found.note, 'faults': found.faults}
            for name, found in audit.checks.items()
        },
    }


def compare(one: Audit, other: Audit) -> dict[str, Any]:
    """Return how two ledgers agree, and where they first do not."""
    hashes = agreement(one.records, other.records)
    difference = first_difference(one.records, other.records)
    return {
        'frames': [hashes['frames_direct'], hashes['frames_ros']],
        'observation_hashes_different': hashes['observation_hashes_different'],
        'action_hashes_different': hashes['action_hashes_different'],
        'first_difference': difference,
        'equal': hashes['equal'] and difference is None,
    }


def holds(summary: dict[str, Any]) -> bool:
    """Whether there is nothing to complain of."""
    equal = summary.get('comparison', {}).get('equal', True)
    return equal and all(file['holds'] for file in summary['files'])


def table(summary: dict[str, Any]) -> str:
    """Return what was found as lines for a terminal."""
    lines = [line for file in summary['files'] for line in file_lines(file)]
    if 'comparison' in summary:
        lines += comparison_lines(summary['comparison'])
    return '\n'.join(lines) + '\n'


def file_lines(file: dict[str, Any]) -> list[str]:
    """Return one line per check of a file, and below it the first faults."""
    lines = [file['path']]
    for name, check in file['checks'].items():
        faults = check['faults']
        found = ('FAULT', f'{len(faults)} found') if faults else ('ok', check['note'])
        lines.append('  {:<10}{:<7}{}'.format(name, *found))
        lines += [f'      {fault}' for fault in shown(faults)]
    return lines


def shown(faults: Sequence[str]) -> list[str]:
    """Return the first faults, and how many more there are."""
    more = len(faults) - FAULTS_SHOWN
    return [*faults[:FAULTS_SHOWN], *([f'and {more} more'] if more > 0 else [])]


def comparison_lines(comparison: dict[str, Any]) -> list[str]:
    """Return how two ledgers agree, for a terminal."""
    frames = ' and '.join(map(str, comparison['frames']))
    lines = [
        'equal' if comparison['equal'] else 'NOT EQUAL',
        f'  frames                        {frames}',
        f'  observation hashes different  {comparison["observation_hashes_different"]}',
        f'  action hashes different       {comparison["action_hashes_different"]}',
    ]
    if (first := comparison['first_difference']) is not None:
        lines.append(f'  first at frame {first["frame"]}, {first["field"]}:')
        lines += [f'    {value}' for value in first['values']]
    return lines


def action_hash(record: dict[str, Any]) -> str | None:
    """Return the hash of an action's float32 values, or None if there was no action."""
    return action_sha256(record['action']) if 'action' in record else None


def observation_sha256(record: dict[str, Any]) -> str | None:
    """Return the hash of what the driver saw, or None if it saw nothing."""
    return record.get('observation_sha256')


def agreement(direct: Sequence[dict[str, Any]], ros: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compare two ledgers of one episode, each up to its ending.

    A frame that only one of them has, or in which either has no hash, counts as different.
    """
    observations = actions = 0
    nothing: dict[str, Any] = {}
    for one, other in zip_longest(direct, ros, fillvalue=nothing):
        observations += _differ(observation_sha256(one), observation_sha256(other))
        actions += _differ(action_hash(one), action_hash(other))
    same_ending = bool(direct and ros) and direct[-1]['frame'] == ros[-1]['frame']
    return {
        'frames_direct': len(direct),
        'frames_ros': len(ros),
        'observation_hashes_different': observations,
        'action_hashes_different': actions,
        'same_ending_frame': same_ending,
        'equal': same_ending and observations == actions == 0,
    }


def first_difference(
    one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return frame, field and both values where two ledgers first differ; None if nowhere.

    Instants on the machine's clock are left out: no two drives have them in common.
    """
    for here, there in zip_longest(one, other):
        if here is None or there is None:
            frame = (here or there)['frame']
            return {'frame': frame, 'field': 'frame', 'values': [_frame(here), _frame(there)]}
        for name in DRIVEN:
            if here.get(name) != there.get(name):
                values = [here.get(name), there.get(name)]
                return {'frame': here['frame'], 'field': name, 'values': values}
    return None


def _frame(record: dict[str, Any] | None) -> int | None:
    return None if record is None else record['frame']


def _differ(one: str | None, other: str | None) -> bool:
    return one is None or one != other

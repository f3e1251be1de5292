# SPDX-License-Identifier: Apache-2.0
"""Run loads and faults against the system, each row of the table by its name.

Every row starts its own processes in a domain of its own, does its harm, and looks whether the
car stops, whether somebody says why, and whether things recover. The exit status is 1 when a
check does not hold.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
import json
import os
from pathlib import Path
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from td3_agent.evaluation.processes import interruptions_noted
from td3_agent.faults.report import Run, failures, line, machine_and_versions, report
from td3_agent.faults.row import Outcome
from td3_agent.faults.scene import Scene
from td3_agent.faults.table import chosen, table

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from td3_agent.faults.row import Row

EXIT_BELOW, EXIT_INTERRUPTED = 1, 130
RESULTS = 'faults.json'
STDERR = 'stderr.log'
STDERR_FILENO = 2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('names', nargs='*', metavar='NAME', help='rows, such as F7')
    parser.add_argument('--list', action='store_true', help='print the table, and run nothing')
    parser.add_argument('--all', action='store_true', help='every row')
    parser.add_argument('--quick', action='store_true', help='short versions of quick rows only')
    parser.add_argument('--repeat', type=int, default=1, help='run all of it so often')
    parser.add_argument('--seed', type=int, default=0, help='of all draws; each repeat adds 1')
    parser.add_argument('--count', type=int, help='frames of L1, cases of F22, cycles of others')
    parser.add_argument('--json', action='store_true', help='print JSON')
    parser.add_argument('--out', type=Path, help='folder for logs, ledgers and faults.json')


def run(args: argparse.Namespace) -> int:
    """Run rows, print what comes of them, and return the exit status.

    Raises:
        ValueError: an argument is not known or out of range.
    """
    if args.list:
        for row in table():
            case = f' ({row.case})' if row.case else ''
            print(f'{row.name:<4} {"quick" if row.quick else "":<6} {row.title}{case}')
        return 0
    for name in ('repeat', 'count'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise ValueError(f'{name} must be >= 1, got {value}')
    rows = chosen(args.names, everything=args.all, quick=args.quick)
    with ExitStack() as stack:
        if args.out is None:
            args.out = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        stack.enter_context(interruptions_noted(raising=True))
        try:
            return run_and_print(rows, args)
        except KeyboardInterrupt:
            sys.stderr.write('td3_agent faults: interrupted\n')
            return EXIT_INTERRUPTED


def run_and_print(rows: list[Row], args: argparse.Namespace) -> int:
    """Run rows, say at once what comes of each, keep the results, and return the exit status."""
    runs: list[Run] = []
    machine = machine_and_versions()
    for done in run_rows(rows, args):
        runs.append(done)
        if not args.json:
            print(line(done), flush=True)
    found = report(runs, machine)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / RESULTS).write_text(json.dumps(found, indent=1) + '\n', encoding='utf-8')
    print(json.dumps(found) if args.json else failures(runs))
    return 0 if found['passed'] else EXIT_BELOW


def run_rows(rows: list[Row], args: argparse.Namespace) -> Iterator[Run]:
    """Yield what comes of each row, as often as is asked for."""
    for repeat in range(args.repeat):
        for row in rows:
            folder = args.out / row.name if args.repeat == 1 else args.out / f'{row.name}_{repeat}'
            options = {'seed': args.seed + repeat, 'count': args.count, 'quick': args.quick}
            yield Run(row.name, row.title, repeat, run_row(row, folder, options))


@contextmanager
def stderr_kept_in(path: Path) -> Iterator[None]:
    """Let everything that this process says on stderr go to a file, libraries of C included.

    Nodes of some rows live in this process, and what they log would bury the table.
    """
    sys.stderr.flush()
    with path.open('ab') as file:
        before = os.dup(STDERR_FILENO)
        try:
            os.dup2(file.fileno(), STDERR_FILENO)
            yield
        finally:
            sys.stderr.flush()
            os.dup2(before, STDERR_FILENO)
            os.close(before)


def run_row(row: Row, folder: Path, options: dict[str, Any]) -> Outcome:
    """Run one row in a scene of its own; what it raises is a check that fails.

    Args:
        row: of the table.
        folder: for its logs.
        options: of :class:`td3_agent.faults.scene.Scene`.
    """
    started_s = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with stderr_kept_in(folder / STDERR), Scene(folder, **options) as scene:
            outcome = row.run(scene)
    except (ValueError, OSError) as error:
        outcome = Outcome()
        outcome.check('ran to its end', passed=False, found=error, wanted='no error')
    outcome.duration_s = time.monotonic() - started_s
    return outcome

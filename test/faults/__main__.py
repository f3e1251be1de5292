# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Runs fault cases, all or the named ones, in full length, one after the other.

A case has a name, such as agent_killed, and an id, such as F1. Other options are those of pytest.
"""

import argparse
import json
import os
from pathlib import Path
import signal
import sys
import tempfile

import pytest

LONGEST_S = 1200.0  # of a case without --count
RESULTS = 'faults.json'


def main():
    """Run pytest on the cases; return its exit status."""
    parser = argparse.ArgumentParser(prog='make faults', description=__doc__)
    parser.add_argument('names', nargs='*', help='names or ids of cases; default: all')
    parser.add_argument('-k', metavar='EXPRESSION', help='choose cases as pytest does')
    parser.add_argument('--repeat', type=at_least_1, default=1, help='how often each case runs')
    parser.add_argument('--seed', type=int, default=0, help='of all draws; each repeat adds 1')
    parser.add_argument('--count', type=at_least_1, help='frames of L1, messages of F22, …')
    parser.add_argument('--out', type=Path, help=f'folder for logs, ledgers and {RESULTS}')
    args, others = parser.parse_known_args()
    words = [str(Path(__file__).parent), '-m', '', '-v', '-p', 'no:cacheprovider']
    words += ['--count', str(args.repeat), *(['-k', args.k] if args.k else []), *others]
    return pytest.main(words, plugins=[Campaign(args)])


def at_least_1(text):
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f'must be >= 1, got {number}')
    return number


class Campaign:
    """Chooses cases, and writes what they measured."""

    def __init__(self, args):
        self._args, self._results = args, []
        self._out = args.out and args.out.resolve()

    def pytest_configure(self, config):
        from benchmarks.harness import machine  # found by now: test/conftest.py is loaded

        config.campaign = self
        self._machine = machine() | {
            'rmw': os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'),
            'ros_distro': os.environ.get('ROS_DISTRO', ''),
        }

    def options(self, request):
        """Return the settings of the rig of a case."""
        step = request.getfixturevalue('__pytest_repeat_step_number') or 0
        name = request.node.originalname.removeprefix('test_')
        out = self._out or Path(tempfile.gettempdir(), 'faults')
        folder = out / (f'{name}_{step}' if self._args.repeat > 1 else name)
        return {'folder': folder, 'seed': self._args.seed + step, 'count': self._args.count}

    def pytest_collection_modifyitems(self, config, items):
        names = {item: names_of(item) for item in items if item.get_closest_marker('case')}
        known = {name for found in names.values() for name in found}
        if unknown := [name for name in self._args.names if name.lower() not in known]:
            choices = ', '.join('/'.join(found) for found in dict.fromkeys(names.values()))
            raise pytest.UsageError(f'case must be one of {choices}; got {", ".join(unknown)}')
        wanted = {name.lower() for name in self._args.names} or known
        left_out = [item for item in items if not wanted & set(names.get(item, ()))]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]

    def pytest_runtest_setup(self):
        """Allow more time than test/conftest.py does."""
        signal.setitimer(signal.ITIMER_REAL, 0.0 if self._args.count else LONGEST_S)

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item, call):
        report = (yield).get_result()
        if call.when == 'call' or report.failed:
            number, title = item.get_closest_marker('case').args
            rig = item.funcargs.get('rig')
            self._results.append(
                {
                    'id': number,
                    'name': item.originalname.removeprefix('test_'),
                    'title': title,
                    'passed': report.passed,
                    'duration_s': round(call.duration, 2),
                    'figures': rig.figures if rig else {},
                    'fault': '' if report.passed else str(call.excinfo.value),
                }
            )

    def pytest_terminal_summary(self, terminalreporter):
        for result in self._results:
            figures = ', '.join(f'{k} {number(v)}' for k, v in result['figures'].items())
            verdict = 'PASS' if result['passed'] else 'FAIL'
            line = f'{verdict} {result["id"]:<4}{result["title"]:<58} {figures}'
            terminalreporter.write_line(line.rstrip())

    def pytest_sessionfinish(self):
        if self._out and self._results:
            self._machine['load_after'] = round(os.getloadavg()[0], 2)
            passed = all(result['passed'] for result in self._results)
            # L1, L2, ..., F1, F2, ..., as in docs/reliability.md.
            cases = sorted(self._results, key=lambda it: (it['id'][0] != 'L', int(it['id'][1:])))
            found = {'machine': self._machine, 'passed': passed, 'cases': cases}
            self._out.mkdir(parents=True, exist_ok=True)
            text = json.dumps(found, indent=1) + '\n'
            (self._out / RESULTS).write_text(text, encoding='utf-8')


def names_of(item):
    """Return name and id of a case, in small letters."""
    number = item.get_closest_marker('case').args[0]
    return item.originalname.removeprefix('test_'), number.lower()


def number(value):
    return f'{value:.4g}' if isinstance(value, float) else str(value)


if __name__ == '__main__':
    sys.exit(main())

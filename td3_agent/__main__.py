# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The command line, one subcommand per program."""

import sys

# Before any import that an older Python cannot parse. This file keeps to the syntax of 3.6 and has
# no future import, which would have to precede the check.
if sys.version_info < (3, 10):  # noqa: UP036  an older Python gets a clear message
    sys.exit(
        f'error   python     Python {sys.version_info[0]}.{sys.version_info[1]} '
        f'({sys.executable}) is not supported; '
        'fix: use Python 3.10, 3.11 or 3.12 (make setup PYTHON=/path/to/it)'
    )

from td3_agent import starting

if __name__ == '__main__':
    starting.begin()

import argparse
from importlib import import_module
from pathlib import Path
from typing import Any

from td3_agent import __version__
from td3_agent.driving.parameters import expanded

EXIT_USAGE = 2
# Subcommand: module with add_arguments and run, and what it does. Only the module in use is
# imported: training needs no ROS, and the demo's nodes no gymnasium.
SUBCOMMANDS = {
    'demo': ('td3_agent.evaluation.demo', 'drive a car around a road with four ROS 2 processes'),
    'evaluate': (
        'td3_agent.evaluation.evaluate',
        'measure a driver on many episodes, over ROS 2 or without',
    ),
    'scenarios': ('td3_agent.evaluation.scenarios', 'list what evaluate --scenario drives'),
    'ledger': (
        'td3_agent.evaluation.ledger_command',
        'check what a drive has left: td3_agent ledger check FILE',
    ),
    'record': ('td3_agent.bags.record', 'record the loop to a bag that ros2 bag plays'),
    'replay': ('td3_agent.bags.replay', 'drive a bag again, offline or live, and compare'),
    'report': ('td3_agent.bags.report', 'make one HTML page from the results of a drive'),
    'watch': ('td3_agent.bags.watch', 'watch a drive in the browser while it happens'),
    'doctor': ('td3_agent.doctor.command', 'find what keeps a machine or a graph from driving'),
    'drive': ('td3_agent.evaluation.drive', 'send one command to a vehicle, then stop it'),
    'train': ('td3_agent.training.train', 'train TD3 on a Gymnasium task'),
    'sweep': ('td3_agent.evaluation.sweep', 'train with many settings and seeds, by Ray Tune'),
    'compare': (
        'td3_agent.evaluation.curves',
        'learning curves of several runs, with confidence bands over seeds',
    ),
    'export': ('td3_agent.evaluation.export', 'export a policy to ONNX, checked against PyTorch'),
}


class _Parser(argparse.ArgumentParser):
    """Expands a leading ``~`` in every path, where no shell has done so."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  what argparse takes
        super().__init__(*args, **kwargs)
        self.register('type', Path, _path)


def _path(text: str) -> Path:
    try:
        return Path(expanded(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def parser(subcommand: str) -> argparse.ArgumentParser:
    """Return the parser of all subcommands; only one has its arguments declared."""
    top = _Parser(prog='td3_agent', description=__doc__)
    top.add_argument('--version', action='version', version=f'td3_agent {__version__}')
    parsers = top.add_subparsers(dest='subcommand', required=True, metavar='SUBCOMMAND')
    for name, (module_name, about) in SUBCOMMANDS.items():
        add = parsers.add_parser(
            name, help=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        if name == subcommand:
            module = import_module(module_name)
            add.description = module.__doc__
            module.add_arguments(add)
            add.set_defaults(run=module.run)
    return top


def main(argv: list[str] | None = None) -> None:
    """Run one subcommand and exit with its status; bad input ends with one sentence."""
    argv = sys.argv[1:] if argv is None else argv
    subcommand = next((word for word in argv if word in SUBCOMMANDS), '')
    try:
        args = parser(subcommand).parse_args(argv)
        starting.raise_interrupts()
        status = args.run(args)
    except BaseException as error:  # noqa: BLE001  raised again unless it is for users
        status = _report(error, subcommand)
    sys.exit(status)


def _report(error: BaseException, subcommand: str) -> int:
    """Print a user's error in one sentence and return the exit status; raise all others."""
    # An interrupt in the middle of an import can surface as any other error.
    if starting.was_interrupted() or isinstance(error, KeyboardInterrupt):
        sys.stderr.write(starting.interrupted_line())
        return starting.INTERRUPTED
    if isinstance(error, ModuleNotFoundError) and not (error.name or '').startswith('td3_agent'):
        from td3_agent.doctor.machine_checks import missing_module  # noqa: PLC0415  for errors alone

        sys.stderr.write(f'td3_agent {subcommand}: {missing_module(error)}\n')
        return EXIT_USAGE
    if isinstance(error, (ValueError, OSError)):
        sys.stderr.write(f'td3_agent {subcommand}: {error}\n')
        return EXIT_USAGE
    raise error


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""The command line: one verb per program."""

from __future__ import annotations

import argparse
import sys

from td3_agent import __version__
from td3_agent.evaluation import demo, evaluate

EXIT_USAGE = 2


def parser() -> argparse.ArgumentParser:
    """Return the parser of all verbs."""
    top = argparse.ArgumentParser(prog='td3_agent', description=__doc__)
    top.add_argument('--version', action='version', version=f'td3_agent {__version__}')
    verbs = top.add_subparsers(dest='verb', required=True, metavar='VERB')
    add = verbs.add_parser(
        'demo',
        help='drive a car around a road with four ROS 2 processes',
        description=demo.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    demo.add_arguments(add)
    add.set_defaults(run=demo.run)
    add = verbs.add_parser(
        'evaluate',
        help='measure a driver on many episodes, over ROS 2 or without',
        description=evaluate.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    evaluate.add_arguments(add)
    add.set_defaults(run=evaluate.run)
    return top


def main(argv: list[str] | None = None) -> None:
    """Run one verb and exit with its status; bad input ends with one sentence."""
    args = parser().parse_args(argv)
    try:
        status = args.run(args)
    except (ValueError, OSError) as error:
        sys.stderr.write(f'td3_agent {args.verb}: {error}\n')
        status = EXIT_USAGE
    sys.exit(status)


if __name__ == '__main__':
    main()

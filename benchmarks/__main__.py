# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Measure how fast a part is, beside what people use in its place.

Prints the table of the documents. ``--out FILE`` writes the record that the table is made from:
as ``docs/results/bench/NAME.json`` it renews the documents, by ``scripts/tables.py``.
"""

from __future__ import annotations

import argparse
from importlib import import_module
import json
import os
from pathlib import Path
import sys

from benchmarks.harness import machine
from td3_agent.processes import interruptions_noted

EXIT_BELOW, EXIT_USAGE, EXIT_INTERRUPTED = 1, 2, 130
SCRIPTS = Path(__file__).resolve().parents[1] / 'scripts'
# A module of this name has add_arguments, measure, and limits where there are any. Only the one in
# use is imported: each needs something that the others do not.
BENCHMARKS = {
    'command': 'one command, beside a process for each of them',
    'frame_profile': 'where the processor time of a frame goes, node by node',
    'image_in': 'camera image published to its pixels in hand, by settings of the middleware',
    'inference': 'one action of the policy, PyTorch beside ONNX Runtime',
    'latency': 'image in to Twist out, beside a plain node',
    'learner': "training, beside Stable-Baselines3's TD3",
    'lockstep': 'frames/s over ROS, beside the direct path',
    'rate': 'the 20 Hz of a free-running agent, idle and under load',
    'ray': 'training by 1, 2, 4 workers of Ray, and what it sends',
    'ros_env': 'steps/s of the Gymnasium environment over ROS, beside the direct one',
    'scaling': 'what a vehicle more and a larger image cost',
    'sim_steps': 'steps/s of the embedded simulator, with traffic and without',
    'startup': 'process start to active agent, memory of the nodes',
    'update': "one update of the learner, beside another checkout's",
}


def parser(name: str) -> argparse.ArgumentParser:
    """Return the parser of all benchmarks; the arguments of one alone are filled in."""
    top = argparse.ArgumentParser(prog='benchmarks', description=__doc__.partition('\n')[0])
    subparsers = top.add_subparsers(dest='name', required=True, metavar='NAME')
    for each, about in BENCHMARKS.items():
        add = subparsers.add_parser(
            each, help=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        add.add_argument('--out', type=Path, help='JSON file for the record')
        if each == name:
            module = import_module(f'benchmarks.{name}')
            add.description = module.__doc__
            module.add_arguments(add)
    return top


def main(words: list[str]) -> int:
    """Measure, print, and return the exit status: not 0 where a figure misses its limit."""
    args = parser(next((word for word in words if word in BENCHMARKS), '')).parse_args(words)
    module = import_module(f'benchmarks.{args.name}')
    about = machine()
    try:
        with interruptions_noted(raising=True):
            report = {'machine': about, **module.measure(args)}
    except KeyboardInterrupt:
        sys.stderr.write(f'{args.name}: interrupted, no figures\n')
        return EXIT_INTERRUPTED
    except (ValueError, OSError) as error:
        sys.stderr.write(f'{args.name}: {error}\n')
        return EXIT_USAGE
    about['load_after'] = round(os.getloadavg()[0], 2)
    if args.out is not None:
        args.out.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    sys.path.append(str(SCRIPTS))
    print(import_module('bench_tables').TABLES[args.name](report))
    limits = module.limits(report) if hasattr(module, 'limits') else []
    missed = [text for limit in limits if (text := limit.missed())]
    for text in missed:
        sys.stderr.write(f'{args.name}: {text}\n')
    return EXIT_BELOW if missed else 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))

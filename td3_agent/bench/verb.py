# SPDX-License-Identifier: Apache-2.0
"""Measure how fast a part is, beside what people use in its place."""

from __future__ import annotations

import argparse
from importlib import import_module
import json
import os
from pathlib import Path
import platform
import sys
from typing import Any

EXIT_BELOW, EXIT_INTERRUPTED = 1, 130
# Name: module with add_arguments, measure, table and shortfalls, and what it measures. Only the
# module of the benchmark in use is imported: each needs something that the others do not.
BENCHMARKS = {
    'command': ('td3_agent.bench.command', 'one command, beside a process for each of them'),
    'latency': ('td3_agent.bench.latency', 'image in to Twist out, beside a plain node'),
    'learner': ('td3_agent.bench.learner', "training, beside Stable-Baselines3's TD3"),
    'lockstep': ('td3_agent.bench.lockstep', 'frames/s over ROS, beside the direct path'),
    'rate': ('td3_agent.bench.rate', 'the 20 Hz of a free-running agent, idle and under load'),
    'scaling': ('td3_agent.bench.scaling', 'what a vehicle more and a larger image cost'),
    'ray': ('td3_agent.bench.ray', 'training by 1, 2, 4 workers of Ray, and what it sends'),
    'startup': ('td3_agent.bench.startup', 'process start to active agent, memory of the nodes'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments: which benchmark, and the rest for that one."""
    names = '; '.join(f'{name}: {about}' for name, (_, about) in BENCHMARKS.items())
    parser.add_argument('benchmark', choices=tuple(BENCHMARKS), help=names)
    parser.add_argument(
        'arguments', nargs=argparse.REMAINDER, default=[], help='see BENCHMARK --help'
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print, and return the exit status: not 0 where a figure is below what it must be.

    Raises:
        ValueError: the benchmark cannot run here; the text says what it lacks.
    """
    module = import_module(BENCHMARKS[args.benchmark][0])
    parser = argparse.ArgumentParser(
        prog=f'td3_agent bench {args.benchmark}',
        description=module.__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument('--json', action='store_true', help='print JSON')
    module.add_arguments(parser)
    own = parser.parse_args(args.arguments)
    try:
        report = {'machine': machine(), **module.measure(own)}
    except KeyboardInterrupt:
        sys.stderr.write(f'{parser.prog}: interrupted, no figures\n')
        return EXIT_INTERRUPTED
    report['machine']['load_after'] = round(os.getloadavg()[0], 2)
    shortfalls: list[str] = module.shortfalls(report)
    print(json.dumps(report) if own.json else module.table(report))
    for text in shortfalls:
        sys.stderr.write(f'{parser.prog}: {text}\n')
    return EXIT_BELOW if shortfalls else 0


def machine() -> dict[str, Any]:
    """Return what the figures depend on; a load above 0 means that others were at work."""
    cpuinfo = Path('/proc/cpuinfo')
    lines = cpuinfo.read_text(encoding='utf-8').splitlines() if cpuinfo.exists() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    return {
        'cpu': models[0] if models else platform.machine(),
        'cores': os.cpu_count(),
        'python': platform.python_version(),
        'load_before': round(os.getloadavg()[0], 2),
    }

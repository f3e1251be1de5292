# SPDX-License-Identifier: Apache-2.0
"""One command by a process of its own, beside one command of a process that stays.

The first is what a program does that starts ``ros2 topic pub``, or a script of its own, for each
command: interpreter, rclpy, node, discovery until the receiver is found, one message, end. The
second is what td3_agent_node does: it publishes. Both in turns, to a receiver in a third process;
a ratio is of medians. With --docker-exec CONTAINER, ``ros2 topic pub`` is also run in a container,
which must share network and IPC with this machine.
"""

from __future__ import annotations

from contextlib import suppress
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from td3_agent.bench.command_roles import ONCE
from td3_agent.bench.figures import spread_ms
from td3_agent.bench.programs import Program, ProgramSilentError
from td3_agent.bridge_interface import (
    DEFAULT_SETUP_FILES,
    EXEC_MARGIN_S,
    STATUS_TIMED_OUT,
    exec_command,
)
from td3_agent.evaluation.processes import free_domain_id, ros_environment
from td3_agent.fastdds import DISCOVERY_RANGE, LOCALHOST_ONLY

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

ROLES = 'td3_agent.bench.command_roles'
LEAST_RATIO = 2000.0
MOST_P99_MS = 1.0
WARM_UP = 200
PATIENCE_S = 60.0
LOST_S = 10.0
# What is started anew for each command.
NATIVE_TIMES = {'call_ns': 'whole', 'processor_ns': 'processor', 'received_ns': 'received'}
PYTHON, ROS2, DOCKER = 'python process', 'ros2 topic pub', 'docker exec'
MESSAGE_KIND = 'geometry_msgs/msg/TwistStamped'
# What a process in a container needs to know to find the receiver.
ROS_VARIABLES = ('ROS_DOMAIN_ID', DISCOVERY_RANGE, LOCALHOST_ONLY)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--processes', type=int, default=5, help='processes of each kind')
    parser.add_argument(
        '--commands', type=int, default=5000, help='commands of the one that stays'
    )
    parser.add_argument(
        '--docker-exec', metavar='CONTAINER', help='also by docker exec in this container'
    )
    parser.add_argument('--docker', default='docker', help='the docker executable')
    parser.add_argument(
        '--setup-file',
        action='append',
        metavar='FILE',
        help=f'file in the container to source, repeatable (default: {DEFAULT_SETUP_FILES[0]})',
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is too small, or a process did not answer.
    """
    if args.processes < 1:
        raise ValueError(f'processes must be >= 1, got {args.processes}')
    if args.commands < args.processes:
        raise ValueError(f'commands must be >= processes = {args.processes}, got {args.commands}')
    environment = ros_environment(free_domain_id())
    kinds = commands_of(shutil.which('ros2')) | docker_command(args, environment)
    places = {DOCKER: f'container {args.docker_exec} (does it share network and IPC?)'}
    with (
        Program(ROLES, 'receive', environment=environment) as receiver,
        Program(ROLES, 'publish', environment=environment) as publisher,
    ):
        receiver.hear(PATIENCE_S)
        publisher.ask(str(WARM_UP), PATIENCE_S)
        started: dict[str, list[dict[str, float]]] = {kind: [] for kind in kinds}
        native: dict[str, list[int]] = {name: [] for name in NATIVE_TIMES}
        for _ in tqdm(range(args.processes), unit='turn', disable=None, leave=False):
            for kind, command in kinds.items():
                place = places.get(kind, 'this machine')
                started[kind].append(time_process(command, receiver, environment, place))
            batch = publisher.ask(str(args.commands // args.processes), PATIENCE_S)
            for name, times in native.items():
                times.extend(batch[name])
    absent = [kind for kind in (ROS2, DOCKER) if kind not in kinds]
    docker = args.docker if DOCKER in kinds else None
    return report_of(started, native) | {'absent': absent, 'docker': docker}


def commands_of(ros2: str | None) -> dict[str, list[str]]:
    """Return the command lines that send one command, by kind.

    Args:
        ros2: path of the ``ros2`` executable; None where there is none.
    """
    kinds = {PYTHON: [sys.executable, '-m', ROLES, 'once']}
    if ros2 is not None:
        kinds[ROS2] = [ros2, 'topic', 'pub', '--once', f'/{ONCE}', MESSAGE_KIND, '{}']
    return kinds


def docker_command(
    args: argparse.Namespace, environment: Mapping[str, str]
) -> dict[str, list[str]]:
    """Return the command line that sends one command from a container, if one was named.

    Raises:
        ValueError: the docker executable is not there.
    """
    if args.docker_exec is None:
        return {}
    if shutil.which(args.docker) is None:
        raise ValueError(f'docker must be an executable, got {args.docker!r}')
    command = exec_command(
        args.docker_exec,
        f'/{ONCE}',
        MESSAGE_KIND,
        '{}',
        docker=args.docker,
        setup_files=DEFAULT_SETUP_FILES if args.setup_file is None else args.setup_file,
        environment={name: environment[name] for name in ROS_VARIABLES if name in environment},
        timeout_s=PATIENCE_S,
    )
    return {DOCKER: command}


def time_process(
    command: Sequence[str], receiver: Program, environment: Mapping[str, str], place: str
) -> dict[str, float]:
    """Return the time from a process's start to its end and to its command's arrival [ms].

    A process that ends before its command has left (``ros2 topic pub --once`` waits 0.1 s for it)
    may lose it: then the time to arrival is missing.

    Args:
        command: its command line.
        receiver: who hears the command.
        environment: of the process.
        place: where it runs, as it is to be called where the receiver is not heard of.

    Raises:
        ValueError: the process failed, or waited for the receiver in vain.
    """
    started_ns = time.monotonic_ns()
    done = _run(command, environment)
    ended_ns = time.monotonic_ns()
    if done is None:
        raise ValueError(f'nobody listens to /{ONCE} after {PATIENCE_S:g} s, from {place}')
    if done.returncode:
        words = done.stderr.decode(errors='replace').strip()
        raise ValueError(f'{command[0]} ended with {done.returncode}: {words}')
    times = {'whole_ms': (ended_ns - started_ns) / 1e6}
    with suppress(ProgramSilentError):
        while (received_ns := receiver.hear(LOST_S)['received_ns']) < started_ns:
            pass  # of a process before this one, given up too early
        times['received_ms'] = (received_ns - started_ns) / 1e6
    return times


def _run(
    command: Sequence[str], environment: Mapping[str, str]
) -> subprocess.CompletedProcess[bytes] | None:
    """Run a process to its end; None if it had to be ended while it waited for the receiver."""
    try:
        done = subprocess.run(  # noqa: S603  no shell
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=PATIENCE_S + EXEC_MARGIN_S,  # in a container `timeout` comes first
        )
    except subprocess.TimeoutExpired:
        return None
    return None if done.returncode == STATUS_TIMED_OUT else done


def report_of(
    started: Mapping[str, Sequence[Mapping[str, float]]],
    native_ns: Mapping[str, Sequence[int]],
) -> dict[str, Any]:
    """Return the figures and how they compare.

    Args:
        started: times of each kind of process [ms].
        native_ns: of each call of publish() how long it took (``call_ns``), the processor time
            in it (``processor_ns``), and the time from just before the command was made to its
            arrival, of those that arrived (``received_ns``) [ns].

    Raises:
        ValueError: not one command of a kind of process has arrived.
    """
    native = {name: spread_ms(native_ns[key]) for key, name in NATIVE_TIMES.items()}
    sent = len(native_ns['call_ns'])
    lost = {kind: sum('received_ms' not in row for row in rows) for kind, rows in started.items()}
    for kind, rows in started.items():
        if lost[kind] == len(rows):
            raise ValueError(f'no command of {kind} has arrived, {len(rows)} sent')
    processes = {
        kind: {
            name: {
                'p50_ms': float(np.median(times_ms)),
                'max_ms': max(times_ms),
            }
            for name in ('whole', 'received')
            if (times_ms := [row[f'{name}_ms'] for row in rows if f'{name}_ms' in row])
        }
        for kind, rows in started.items()
    }
    ratios = {
        kind: {name: times[name]['p50_ms'] / native[name]['p50_ms'] for name in times}
        for kind, times in processes.items()
    }
    return {
        'ratio': ratios[PYTHON]['whole'],
        'ratios': ratios,
        'processes': processes,
        'native': native | {'commands': sent, 'lost': sent - len(native_ns['received_ns'])},
        'starts': {kind: len(rows) for kind, rows in started.items()},
        'lost': lost,
    }


def table(report: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    native = report['native']
    names = ''.join(f'{name:>10}' for name in ('p50 [ms]', 'p99 [ms]', 'max [ms]', 'ratio'))
    lines = [f'{"one command by":<28}{names}']
    for name, what in (
        ('whole', 'publish()'),
        ('processor', 'processor'),
        ('received', 'received'),
    ):
        row = native[name]
        times = f'{row["p50_ms"]:>10.3f}{row["p99_ms"]:>10.3f}{row["max_ms"]:>10.3f}'
        ratio = '' if name == 'processor' else 1
        lines.append(f'{"native publish":<18}{what:<10}{times}{ratio:>10}')
    for kind, times in report['processes'].items():
        for name, what in (('whole', 'process'), ('received', 'received')):
            row, ratio = times[name], report['ratios'][kind][name]
            figures = f'{row["p50_ms"]:>10.1f}{"":>10}{row["max_ms"]:>10.1f}{ratio:>10.0f}'
            lines.append(f'{kind:<18}{what:<10}{figures}')
    lines += [f'{kind}: absent, not measured' for kind in report['absent']]
    if report.get('docker'):
        lines.append(f'{DOCKER} is by {report["docker"]}')
    lines.append(f'{native["commands"]} commands published, {native["lost"]} of them lost')
    lines += [
        f'{kind}: {report["starts"][kind]} processes, the commands of {lost} lost'
        for kind, lost in report['lost'].items()
        if lost
    ]
    return '\n'.join(lines)


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that is not what it must be."""
    texts = []
    if not report['ratio'] >= LEAST_RATIO:
        texts.append(
            f'a process takes {report["ratio"]:.0f} times as long, expected >= {LEAST_RATIO:.0f}'
        )
    p99_ms = report['native']['whole']['p99_ms']
    if not p99_ms < MOST_P99_MS:
        texts.append(f'p99 of publish() is {p99_ms:.3f} ms, expected < {MOST_P99_MS:g} ms')
    if report['native']['lost']:
        texts.append(f'{report["native"]["lost"]} commands were lost, expected 0')
    return texts

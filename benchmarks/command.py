# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""One command by a process of its own, beside one command of a process that stays.

The first is what a program does that starts ``ros2 topic pub``, or a script of its own, for each
command: interpreter, rclpy, node, discovery until the receiver is found, one message, end. The
second is what td3_agent_node does: it publishes. Both in turns, to a node of this process; a ratio
is of medians. With --docker-exec CONTAINER, ``ros2 topic pub`` is also run in a container,
which must share network and IPC with this machine.
"""

from __future__ import annotations

from functools import partial
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from geometry_msgs.msg import TwistStamped
import numpy as np
import rclpy
from rclpy.duration import Duration

from benchmarks.harness import Limit, Observer, Program, check_least, in_turns, observed, serve
from td3_agent.bridge_interface import (
    DEFAULT_SETUP_FILES,
    EXEC_MARGIN_S,
    STATUS_TIMED_OUT,
    DockerExecSender,
)
from td3_agent.fastdds import DISCOVERY_RANGE, LOCALHOST_ONLY
from td3_agent.nodes.conversions import stamp_ns, time_from_ns
from td3_agent.nodes.runtime import RELIABLE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping, Sequence

MODULE = 'benchmarks.command'
ONCE, NATIVE = 'bench/once', 'bench/native'
PYTHON, ROS2, DOCKER = 'python process', 'ros2 topic pub', 'docker exec'
MESSAGE_KIND = 'geometry_msgs/msg/TwistStamped'
NATIVE_TIMES = {'whole': 'call_ns', 'processor': 'processor_ns', 'received': 'received_ns'}
# What a process in a container needs to know to find the receiver.
ROS_VARIABLES = ('ROS_DOMAIN_ID', DISCOVERY_RANGE, LOCALHOST_ONLY)
LEAST_RATIO, MOST_P99_MS = 2000.0, 1.0
WARM_UP = 200
PERIOD_S = 0.002  # between two commands of the publisher
PATIENCE_S, LOST_S, LOOK_S = 60.0, 2.0, 0.001


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--processes', type=int, default=5, help='processes of each kind')
    parser.add_argument('--commands', type=int, default=1000, help='of publish(), a turn')
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
    """Return all figures; ValueError if a process fails."""
    check_least(args, processes=1, commands=1)
    with observed() as observer:
        kinds = commands_of(shutil.which('ros2')) | docker_command(args, os.environ)
        receiver = Receiver(observer)
        with Program(MODULE, 'publish', environment=os.environ) as publisher:
            receiver.batch(publisher, WARM_UP)
            batches, *rows = in_turns(
                args.processes,
                partial(receiver.batch, publisher, args.commands),
                *(partial(receiver.time_process, words) for words in kinds.values()),
            )
    native = {key: [ns for batch in batches for ns in batch[key]] for key in batches[0]}
    absent = [kind for kind in (ROS2, DOCKER) if kind not in kinds]
    docker = args.docker if DOCKER in kinds else None
    report = report_of(dict(zip(kinds, rows, strict=True)), native)
    return report | {'absent': absent, 'docker': docker}


def commands_of(ros2: str | None) -> dict[str, list[str]]:
    """Return the command lines that send one command, by kind; ``ros2`` may not be there."""
    kinds = {PYTHON: [sys.executable, '-m', MODULE, 'once']}
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
    sender = DockerExecSender(
        f'/{ONCE}',
        args.docker_exec,
        docker=args.docker,
        setup_files=DEFAULT_SETUP_FILES if args.setup_file is None else args.setup_file,
        environment={name: environment[name] for name in ROS_VARIABLES if name in environment},
        timeout_s=PATIENCE_S,
    )
    return {DOCKER: sender.command('{}', MESSAGE_KIND)}


class Receiver:
    """Notes when commands arrive at the node of an observer."""

    def __init__(self, observer: Observer) -> None:
        """Subscribe to both topics."""
        self._observer = observer
        self._native_ns: list[int] = []  # from before a command is made to its arrival
        self._once_ns: list[int] = []  # arrivals [steady]
        listen = observer.node.create_subscription
        listen(TwistStamped, NATIVE, self._on_native, RELIABLE)
        listen(TwistStamped, ONCE, self._on_once, RELIABLE)

    def _on_native(self, msg: TwistStamped) -> None:
        self._native_ns.append(time.monotonic_ns() - stamp_ns(msg.header.stamp))

    def _on_once(self, _: TwistStamped) -> None:
        self._once_ns.append(time.monotonic_ns())

    def batch(self, publisher: Program, count: int) -> dict[str, list[int]]:
        """Have so many commands published; return their times, lost ones have no arrival [ns]."""
        self._native_ns.clear()
        publisher.say(str(count))
        self._spin(lambda: len(self._native_ns) == count, PATIENCE_S + count * PERIOD_S)
        return {**publisher.hear(PATIENCE_S), 'received_ns': self._native_ns.copy()}

    def time_process(self, command: Sequence[str]) -> dict[str, float]:
        """Return the time from a process's start to its end and to its command's arrival [ms].

        A process that ends before its command has left (``ros2 topic pub --once`` waits 0.1 s for
        it) may lose it: then the time to arrival is missing.

        Raises:
            ValueError: the process failed, or did not find the receiver.
        """
        self._once_ns.clear()
        started_ns = time.monotonic_ns()
        with subprocess.Popen(  # noqa: S603  no shell
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        ) as process:
            self._spin(lambda: process.poll() is not None, PATIENCE_S + EXEC_MARGIN_S)
            times = {'whole_ms': (time.monotonic_ns() - started_ns) / 1e6}
            process.kill()
            words = process.stderr.read().decode(errors='replace').strip()
        if process.returncode in {STATUS_TIMED_OUT, -9}:
            raise ValueError(
                f'{command[0]} found no subscription to /{ONCE} within {PATIENCE_S:g} s; a '
                'container must share network and IPC with this machine'
            )
        if process.returncode:
            raise ValueError(f'{command[0]} ended with {process.returncode}: {words}')
        self._spin(lambda: bool(self._once_ns), LOST_S)
        if self._once_ns:
            times['received_ms'] = (self._once_ns[0] - started_ns) / 1e6
        return times

    def _spin(self, until: Callable[[], bool], patience_s: float) -> None:
        end_s = time.monotonic() + patience_s
        while not until() and time.monotonic() < end_s:
            self._observer.spin_once(LOOK_S)


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
        ValueError: no command of a kind of process has arrived.
    """
    native: dict[str, Any] = {}
    for name, key in NATIVE_TIMES.items():
        p50_ms, p99_ms, max_ms = np.percentile(native_ns[key], (50, 99, 100)) / 1e6
        native[name] = {'p50_ms': p50_ms, 'p99_ms': p99_ms, 'max_ms': max_ms}
    sent = len(native_ns['call_ns'])
    native |= {'commands': sent, 'lost': sent - len(native_ns['received_ns'])}
    lost = {kind: sum('received_ms' not in row for row in rows) for kind, rows in started.items()}
    processes: dict[str, dict[str, dict[str, float]]] = {}
    for kind, rows in started.items():
        if lost[kind] == len(rows):
            raise ValueError(f'no command of {kind} has arrived, {len(rows)} sent')
        processes[kind] = {}
        for name in ('whole', 'received'):
            times_ms = [row[f'{name}_ms'] for row in rows if f'{name}_ms' in row]
            processes[kind][name] = {'p50_ms': float(np.median(times_ms)), 'max_ms': max(times_ms)}
    ratios = {
        kind: {name: row['p50_ms'] / native[name]['p50_ms'] for name, row in times.items()}
        for kind, times in processes.items()
    }
    return {
        'ratio': ratios[PYTHON]['whole'],
        'ratios': ratios,
        'processes': processes,
        'native': native,
        'starts': {kind: len(rows) for kind, rows in started.items()},
        'lost': lost,
    }


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return what the figures must be."""
    native = report['native']
    return [
        Limit('a process for the command: times as long', report['ratio'], least=LEAST_RATIO),
        Limit('p99 of publish()', native['whole']['p99_ms'], 'ms', most=MOST_P99_MS),
        Limit('commands of publish() lost', native['lost'], most=0),
    ]


# ---- what the processes do ---------------------------------------------------------------------


def connected(topic: str) -> tuple[rclpy.node.Node, rclpy.publisher.Publisher]:
    """Return a node and its publisher, once that has a subscription."""
    node = rclpy.create_node('commander')
    publisher = node.create_publisher(TwistStamped, topic, RELIABLE)
    while not publisher.get_subscription_count():
        rclpy.spin_once(node, timeout_sec=LOOK_S)
    return node, publisher


def command(sent_ns: int) -> TwistStamped:
    """Return a command that carries the steady time at which it is sent [ns]."""
    msg = TwistStamped()
    msg.header.stamp, msg.header.frame_id = time_from_ns(sent_ns), 'ego_vehicle'
    msg.twist.linear.x, msg.twist.angular.z = 5.0, 0.1
    return msg


def once() -> None:
    """Send one command, as a script that is started for each of them has to."""
    _, publisher = connected(ONCE)
    publisher.publish(command(time.monotonic_ns()))
    # Else it may end before the command has left.
    publisher.wait_for_all_acked(Duration(seconds=PATIENCE_S))


def publish() -> None:
    """Send as many commands as are asked for; answer how long each call took [ns]."""
    _, publisher = connected(NATIVE)

    def batch(count: int) -> dict[str, list[int]]:
        call_ns, processor_ns = [], []
        for _ in range(count):
            msg = command(time.monotonic_ns())
            worked_ns, before_ns = time.thread_time_ns(), time.monotonic_ns()
            publisher.publish(msg)
            call_ns.append(time.monotonic_ns() - before_ns)
            processor_ns.append(time.thread_time_ns() - worked_ns)
            time.sleep(PERIOD_S)
        return {'call_ns': call_ns, 'processor_ns': processor_ns}

    serve(batch)


if __name__ == '__main__':
    rclpy.init()
    {'once': once, 'publish': publish}[sys.argv[1]]()
    rclpy.try_shutdown()

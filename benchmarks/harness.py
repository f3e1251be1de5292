# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What benchmarks share: programs that answer in JSON, nodes that are observed, turns, figures."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
import json
import os
from pathlib import Path
import platform
import select
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import psutil
from tqdm import tqdm

from td3_agent.processes import (
    ProcessGroup,
    free_domain_id,
    interruptions_noted,
    ros_environment,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rclpy.node import Node
    from typing_extensions import Self

PERIOD_NS = 50_000_000  # of 20 Hz
ROOT = Path(__file__).resolve().parents[1]
ENDING_S = 10.0
SPIN_S = 0.05
T = TypeVar('T')


class BenchError(ValueError):
    """A program or a node ended, or what was waited for did not come."""


class SilentError(BenchError):
    """A program said nothing where an answer was expected, and goes on."""


class Limit(NamedTuple):
    """A figure and what it must be.

    Attributes:
        what: names the figure.
        value: what was measured.
        unit: of the value.
        least, most: what it must not be below, or above.
    """

    what: str
    value: float
    unit: str = ''
    least: float = float('-inf')
    most: float = float('inf')

    def missed(self) -> str:
        """Return a sentence if the value is not within its limits, NaN included; else nothing."""
        if self.least <= self.value <= self.most:
            return ''
        wanted = f'<= {self.most:g}' if np.isfinite(self.most) else f'>= {self.least:g}'
        return f'{self.what}: {self.value:.4g} {self.unit}'.rstrip() + f', expected {wanted}'


def check_least(args: argparse.Namespace, **least: float) -> None:
    """Raise ValueError if an argument is below its least value, or not finite."""
    for name, smallest in least.items():
        if not smallest <= getattr(args, name) < float('inf'):  # written so that NaN fails too
            shown = name.replace('_', '-')
            raise ValueError(f'--{shown} must be >= {smallest:g}, got {getattr(args, name)}')


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


def in_turns(turns: int, *sides: Callable[[], T]) -> list[list[T]]:
    """Return what each side gave, turn by turn, so that a load from elsewhere meets all of them.

    The order is reversed from turn to turn, so that a machine that slows down favours none.
    """
    given: list[list[T]] = [[] for _ in sides]
    for turn in tqdm(range(turns), unit='turn', disable=None, leave=False):
        for number in range(len(sides))[:: 1 if turn % 2 == 0 else -1]:
            given[number].append(sides[number]())
    return given


def p50_p99_ms(times_ms: Sequence[float]) -> dict[str, float]:
    """Return median and 99th percentile of times [ms]; NaN where there are none."""
    p50_ms, p99_ms = np.percentile(times_ms or [float('nan')], (50, 99)).tolist()
    return {'p50_ms': p50_ms, 'p99_ms': p99_ms}


def rate_figures(times_ns: Sequence[int]) -> dict[str, float]:
    """Return how well times [ns], in order, keep to 20 Hz.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(times_ns) < 2:
        raise ValueError(f'two commands make a period, got {len(times_ns)}')
    periods_ms = np.diff(np.asarray(times_ns, np.int64)) / 1e6
    return {
        'commands': len(times_ns),
        'rate_hz': 1e3 / float(periods_ms.mean()),
        'sigma_ms': float(periods_ms.std()),
        'p50_ms': float(np.median(periods_ms)),
        'p99_ms': float(np.percentile(periods_ms, 99)),
        'max_ms': float(periods_ms.max()),
        'missed': missed_ticks(times_ns),
    }


def missed_ticks(times_ns: Sequence[int]) -> int:
    """Return how many ticks of the 20 Hz grid had no command within half a period.

    The grid lies as most of the times do: at their circular mean modulo a period.
    """
    since_ns = np.asarray(times_ns, np.int64) - times_ns[0]
    angle = np.angle(np.exp(2j * np.pi * (since_ns % PERIOD_NS) / PERIOD_NS).mean())
    ticks = np.round(since_ns / PERIOD_NS - angle / (2.0 * np.pi)).astype(np.int64)
    return int(ticks[-1] - ticks[0] + 1 - np.unique(ticks).size)


def processor_s(pid: int) -> float:
    """Return the processor time that a process has used [s]."""
    used = psutil.Process(pid).cpu_times()
    return used.user + used.system


# ---- programs ----------------------------------------------------------------------------------


class Program:
    """``python -m MODULE WORDS``: answers lines by lines of JSON, ends with its input."""

    def __init__(self, module: str, *words: str, environment: Mapping[str, str]) -> None:
        """Start it in an environment; this checkout is on its path."""
        self._name = ' '.join((module, *words))
        self._heard = b''
        path = os.pathsep.join(filter(None, (environment.get('PYTHONPATH'), str(ROOT))))
        self._process = subprocess.Popen(  # noqa: S603  our own program; no shell
            [sys.executable, '-m', module, *words],
            env={**environment, 'PYTHONPATH': path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours alone
        )

    def ask(self, text: str, patience_s: float) -> Any:  # noqa: ANN401  whatever it answers
        """Say one line, and return the answer.

        Raises:
            BenchError: there was none in time [s], or the program has ended.
        """
        self.say(text)
        return self.hear(patience_s)

    def say(self, text: str) -> None:
        """Say one line; BenchError if the program has ended."""
        assert self._process.stdin is not None  # noqa: S101  for the type checker
        try:
            self._process.stdin.write(f'{text}\n'.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise BenchError(f'{self._name} has ended; its output is above') from None

    def hear(self, patience_s: float) -> Any:  # noqa: ANN401  whatever it says
        """Return the next thing that it says; lines that are not JSON are the middleware's.

        Raises:
            SilentError: nothing in time [s].
            BenchError: the program has ended.
        """
        end_s = time.monotonic() + patience_s
        while True:
            line, newline, rest = self._heard.partition(b'\n')
            if not newline:
                self._read(end_s, patience_s)
                continue
            self._heard = rest
            if line.startswith((b'{', b'[')):
                return json.loads(line)
            sys.stderr.write(f'{line.decode(errors="replace")}\n')

    def _read(self, end_s: float, patience_s: float) -> None:
        assert self._process.stdout is not None  # noqa: S101  for the type checker
        left_s = max(end_s - time.monotonic(), 0.0)
        if not select.select([self._process.stdout], [], [], left_s)[0]:
            raise SilentError(f'{self._name} must answer within {patience_s:g} s, and did not')
        part = os.read(self._process.stdout.fileno(), 1 << 16)
        if not part:
            raise BenchError(f'{self._name} has ended; its output is above')
        self._heard += part

    def end(self) -> int:
        """Close its input and return its exit status; one that does not end is killed."""
        try:
            self._process.communicate(timeout=ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode

    def __enter__(self) -> Self:
        """Return the program itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it, in the middle of its work if an exception is in flight."""
        if kind is not None:
            self._process.terminate()
        self.end()


def serve(answer: Callable[[Any], Any]) -> None:
    """Answer every line of the input, until it ends: each a value in JSON."""
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), flush=True)


# ---- nodes -------------------------------------------------------------------------------------


@dataclass
class Observer:
    """A node of this process, spun while it waits, beside a group of node processes."""

    node: Node
    group: ProcessGroup
    spin_once: Callable[[float], None]

    def wait_for(self, condition: Callable[[], bool], what: str, patience_s: float) -> None:
        """Spin until ``condition`` holds.

        Raises:
            BenchError: it did not in time [s], or a process of the group has ended.
        """
        end_s = time.monotonic() + patience_s
        while not condition():
            check_alive(self.group)
            if time.monotonic() > end_s:
                raise BenchError(f'{what}: expected within {patience_s:g} s, and did not come')
            self.spin_once(SPIN_S)


def check_alive(group: ProcessGroup) -> None:
    """Raise BenchError if a process of the group has ended with an error."""
    if dead := group.ended_early():
        raise BenchError(f'{dead.name} ended with {dead.process.returncode}: {dead.last_output()}')


@contextmanager
def node_group(
    environment: Mapping[str, str], kind: type[ProcessGroup] = ProcessGroup
) -> Iterator[ProcessGroup]:
    """Yield a group of processes that end with the block.

    Raises:
        BenchError: one of them did not end cleanly.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        kind(Path(folder), environment) as group,
    ):
        yield group
        statuses = group.end()
        if any(statuses.values()):
            raise BenchError(f'every process must end with status 0, got {statuses}')


@contextmanager
def observed() -> Iterator[Observer]:
    """Yield a node in a free domain, with a group of processes that end with the block."""
    import rclpy  # noqa: PLC0415  not every benchmark needs ROS
    from rclpy.executors import SingleThreadedExecutor  # noqa: PLC0415  as above
    from rclpy.node import Node  # noqa: PLC0415  as above

    from td3_agent.nodes.runtime import own_context  # noqa: PLC0415  as above

    domain_id = free_domain_id()
    environment = ros_environment(domain_id)
    os.environ.update(environment)  # the node in this process goes by it too
    context = own_context(domain_id)
    node = Node('td3_agent_bench', context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    try:
        with interruptions_noted(raising=True) as interruption, node_group(environment) as group:

            def spin_once(longest_s: float) -> None:
                interruption.check()
                executor.spin_once(timeout_sec=longest_s)

            yield Observer(node, group, spin_once)
    finally:
        executor.shutdown(timeout_sec=ENDING_S)
        node.destroy_node()
        rclpy.shutdown(context=context)

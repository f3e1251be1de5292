# SPDX-License-Identifier: Apache-2.0
"""How long a node takes from the start of its process until it is active, and its memory.

Active is what the node's own ``get_state`` service answers, asked again and again from another
process. Side by side, in turns: the agent with its policy, the agent without a network (pure
pursuit), and a lifecycle node that does nothing, which is what Python and rclpy take alone.

The first turn is told apart from the later ones. It is not a start after boot: files that
another process has read lately are in the page cache, which only root can empty. Memory is read
once all four nodes of a lockstep drive have answered some hundred frames.
"""

from __future__ import annotations

import os
from pathlib import Path
import re
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from carla_msgs.msg import CarlaEgoVehicleControl
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from tqdm import tqdm

from td3_agent.bench.observer import BenchError, observed
from td3_agent.evaluation.four_nodes import FourNodes
from td3_agent.evaluation.processes import node_command
from td3_agent.nodes import topics
from td3_agent.nodes.qos import RELIABLE

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from td3_agent.bench.observer import Observer

AGENT, NO_NETWORK, BARE = CASES = ('agent', 'agent without network', 'bare lifecycle node')
AGENT_NODE = 'td3_agent_node'
ROLE = 'ego_vehicle'
POLL_S = 0.01  # between two questions; how finely the time is known
ANSWER_S = 0.2  # a question that came too early for its answer is asked again
PATIENCE_S = 60.0
MOST_ACTIVE_S = 3.0
MOST_RESIDENT_MB = 450.0
KIB_PER_MB = 1e3 / 1.024  # of 10^6 bytes


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=6, help='starts of each; the first is cold')
    parser.add_argument('--policy', default='lane', help='of the agent')
    parser.add_argument('--frames', type=int, default=300, help='driven before memory is read')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is too small, or a node did not start.
    """
    if args.turns < 2:
        raise ValueError(f'turns must be >= 2, a first one and another, got {args.turns}')
    if args.frames < 1:
        raise ValueError(f'frames must be >= 1, got {args.frames}')
    starts: dict[str, list[Start]] = {case: [] for case in CASES}
    for _ in tqdm(range(args.turns), unit='turn', disable=None, leave=False):
        for case, command in commands_of(args.policy).items():
            starts[case].append(time_start(case, command))
    return report_of(starts) | {'memory': memory(args.policy, args.frames)}


def commands_of(policy: str) -> dict[str, list[str]]:
    """Return the command lines to be timed, by case."""
    return {
        AGENT: node_command(AGENT_NODE, {'policy': policy}),
        NO_NETWORK: node_command(AGENT_NODE, {'driver': 'pure_pursuit'}),
        BARE: [sys.executable, '-m', 'td3_agent.bench.bare_node'],
    }


class Start(NamedTuple):
    """One start of a node.

    Attributes:
        active_s: from the start of its process until it is active [s].
        processor_s: processor time it has taken by then [s]; does not depend on others' work.
    """

    active_s: float
    processor_s: float


def time_start(case: str, command: Sequence[str]) -> Start:
    """Time the start of a process until its node is active.

    Raises:
        ValueError: it was not in time, or has ended.
    """
    with observed() as observer:
        asked = StateQuestions(observer)
        started_s = time.monotonic()
        node = observer.group.run('node', command)
        observer.wait_for(asked.is_active, f'{case} active', PATIENCE_S)
        return Start(asked.active_s - started_s, processor_s(node.process.pid))


class StateQuestions:
    """Asks a lifecycle node for its state until it is active.

    Attributes:
        active_s: when the answer came [s, steady].
    """

    def __init__(self, observer: Observer) -> None:
        """Ask from the node of ``observer``."""
        self.active_s = float('inf')
        self._observer = observer
        self._client = observer.node.create_client(GetState, '/td3_agent/get_state')
        self._asked_s = -ANSWER_S
        self._active = False

    def is_active(self) -> bool:
        """Ask if it is time to, and say whether an answer has said so."""
        now_s = time.monotonic()
        if now_s - self._asked_s > ANSWER_S and self._client.service_is_ready():
            self._asked_s = now_s
            self._client.call_async(GetState.Request()).add_done_callback(self._on_answer)
        if not self._active:
            self._observer.spin_once(POLL_S)
        return self._active

    def _on_answer(self, future: Any) -> None:  # noqa: ANN401  a Future is generic in rclpy alone
        if future.result().current_state.id == State.PRIMARY_STATE_ACTIVE:
            self.active_s = min(self.active_s, time.monotonic())
            self._active = True
        else:
            self._asked_s = -ANSWER_S  # at once


def memory(policy: str, frames: int) -> dict[str, dict[str, float]]:
    """Return the memory of the four nodes after so many frames [MB of 10^6 bytes].

    Raises:
        ValueError: they did not drive so far.
    """
    nodes = FourNodes(
        role_names=(ROLE,), agent={'policy': policy}, synchronizer={'real_time_factor': 0.0}
    )
    seen = [0]

    def count(_: CarlaEgoVehicleControl) -> None:
        seen[0] += 1

    with observed() as observer:
        control = topics.control(ROLE)
        observer.node.create_subscription(CarlaEgoVehicleControl, control, count, RELIABLE)
        nodes.start(observer.group)
        observer.wait_for(lambda: seen[0] >= frames, f'{frames} frames', PATIENCE_S + frames)
        return {node.name: memory_of(node.process.pid) for node in observer.group.nodes}


def memory_of(pid: int) -> dict[str, float]:
    """Return resident and proportional memory of a process [MB of 10^6 bytes].

    Raises:
        BenchError: the system does not tell.
    """
    folder = Path('/proc') / str(pid)
    try:
        resident = kib_of((folder / 'status').read_text('utf-8'), 'VmRSS')
        peak = kib_of((folder / 'status').read_text('utf-8'), 'VmHWM')
    except OSError as error:
        raise BenchError(f'memory is read from /proc, which is not there: {error}') from None
    figures = {'resident_mb': resident / KIB_PER_MB, 'peak_mb': peak / KIB_PER_MB}
    rollup = folder / 'smaps_rollup'
    if rollup.exists():
        figures['proportional_mb'] = kib_of(rollup.read_text('utf-8'), 'Pss') / KIB_PER_MB
    return figures


def kib_of(text: str, name: str) -> int:
    """Return the number [KiB] that a file of /proc gives for ``name``.

    Raises:
        BenchError: there is none.
    """
    found = re.search(rf'^{name}:\s*(\d+) kB$', text, flags=re.MULTILINE)
    if found is None:
        raise BenchError(f'/proc must tell {name} in kB, and does not')
    return int(found[1])


def processor_s(pid: int) -> float:
    """Return the processor time that a process has taken [s].

    Raises:
        BenchError: the system does not tell.
    """
    try:
        text = (Path('/proc') / str(pid) / 'stat').read_text('utf-8')
    except OSError as error:
        raise BenchError(f'processor time is read from /proc, not there: {error}') from None
    # proc(5): fields 14 and 15; the second one, a name in brackets, may contain blanks.
    user, system = text.rpartition(')')[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf('SC_CLK_TCK')


def report_of(starts: Mapping[str, Sequence[Start]]) -> dict[str, Any]:
    """Return the figures and how they compare; each case's starts are in order."""
    figures = {
        case: {
            'first_s': first.active_s,
            'again_s': statistics.median(start.active_s for start in later),
            'slowest_again_s': max(start.active_s for start in later),
            'again_processor_s': statistics.median(start.processor_s for start in later),
        }
        for case, (first, *later) in starts.items()
    }
    again_s = {case: row['again_s'] for case, row in figures.items()}
    return {
        'ratio': again_s[AGENT] / again_s[BARE],
        'ratio_no_network': again_s[NO_NETWORK] / again_s[BARE],
        'ratio_first': figures[AGENT]['first_s'] / again_s[AGENT],
        'starts': figures,
        'turns': len(starts[AGENT]),
    }


def table(report: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    names = ('first [s]', 'again [s]', 'slowest [s]', 'processor [s]')
    lines = [f'{"process start to active":<25}' + ''.join(f'{name:>14}' for name in names)]
    for case, row in report['starts'].items():
        lines.append(f'{case:<25}' + ''.join(f'{seconds:>14.2f}' for seconds in row.values()))
    lines.append(
        f'ratios: agent to bare node {report["ratio"]:.2f}, without network '
        f'{report["ratio_no_network"]:.2f}, first to again {report["ratio_first"]:.2f}'
    )
    lines.append(f'{"memory while driving":<25}{"resident [MB]":>14}{"proportional":>14}')
    for name, row in report['memory'].items():
        shared = f'{row["proportional_mb"]:.0f}' if 'proportional_mb' in row else 'not told'
        lines.append(f'{name:<25}{row["resident_mb"]:>14.0f}{shared:>14}')
    return '\n'.join(lines)


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that is not what it must be."""
    texts = [
        f'the agent is active after {report["starts"][AGENT][name]:.2f} s ({words}), '
        f'expected <= {MOST_ACTIVE_S:g} s'
        for name, words in (('first_s', 'first start'), ('again_s', 'started again'))
        if not report['starts'][AGENT][name] <= MOST_ACTIVE_S
    ]
    resident_mb = report['memory'][AGENT_NODE]['resident_mb']
    if not resident_mb <= MOST_RESIDENT_MB:
        texts.append(
            f'the agent holds {resident_mb:.0f} MB, expected <= {MOST_RESIDENT_MB:.0f} MB resident'
        )
    return texts

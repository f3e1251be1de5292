# Copyright 2026 td3_agent authors
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

from functools import partial
from pathlib import Path
import re
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from carla_msgs.msg import CarlaEgoVehicleControl
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState

from benchmarks.harness import Limit, check_least, in_turns, observed, processor_s
from td3_agent.evaluation.ros_episodes import FourNodes
from td3_agent.nodes import topics
from td3_agent.nodes.runtime import RELIABLE
from td3_agent.processes import node_command

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

AGENT, NO_NETWORK, BARE = 'agent', 'agent without network', 'bare lifecycle node'
AGENT_NODE = 'td3_agent_node'
BARE_NODE = """
import rclpy
from rclpy.lifecycle import LifecycleNode

rclpy.init()
node = LifecycleNode('td3_agent')
node.trigger_configure()
node.trigger_activate()
try:
    rclpy.spin(node)
except (KeyboardInterrupt, rclpy.executors.ExternalShutdownException):
    pass
rclpy.try_shutdown()
"""
ROLE = 'ego_vehicle'
POLL_S = 0.01  # how finely the time is known
ASK_S = 0.2  # a request that came too early for its answer is sent again
PATIENCE_S = 60.0
MOST_ACTIVE_S = 1.5
MOST_RESIDENT_MB = {AGENT_NODE: 300.0, 'gate_node': 90.0, 'synchronizer_node': 90.0}
MB_PER_KIB = 1.024e-3
# Figure: file of /proc/PID and the name in it.
MEMORY = {
    'resident_mb': ('status', 'VmRSS'),
    'peak_mb': ('status', 'VmHWM'),
    'proportional_mb': ('smaps_rollup', 'Pss'),
}


class Start(NamedTuple):
    """One start of a node.

    Attributes:
        active_s: from the start of its process until it is active [s].
        processor_s: processor time it has taken by then [s]; does not depend on others' work.
    """

    active_s: float
    processor_s: float


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=6, help='starts of each; the first is cold')
    parser.add_argument('--frames', type=int, default=300, help='driven before memory is read')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; ValueError if a node does not start."""
    check_least(args, turns=2, frames=1)
    commands = {
        AGENT: node_command(AGENT_NODE, {}),
        NO_NETWORK: node_command(AGENT_NODE, {'driver': 'pure_pursuit'}),
        BARE: [sys.executable, '-c', BARE_NODE],
    }
    starts = in_turns(args.turns, *(partial(time_start, *item) for item in commands.items()))
    report = report_of(dict(zip(commands, starts, strict=True)))
    return report | {'memory': memory(args.frames)}


def time_start(case: str, command: Sequence[str]) -> Start:
    """Time the start of a process until its node is active.

    Raises:
        ValueError: it was not in time, or has ended.
    """
    with observed() as observer:
        client = observer.node.create_client(GetState, '/td3_agent/get_state')
        started_s = asked_s = time.monotonic()
        active: list[float] = []  # when an answer said so

        def on_answer(future: Any) -> None:  # noqa: ANN401  a Future is generic in rclpy alone
            nonlocal asked_s
            if future.result().current_state.id == State.PRIMARY_STATE_ACTIVE:
                active.append(time.monotonic())
            asked_s = 0.0  # ask again at once

        def is_active() -> bool:
            nonlocal asked_s
            if time.monotonic() - asked_s > ASK_S and client.service_is_ready():
                asked_s = time.monotonic()
                client.call_async(GetState.Request()).add_done_callback(on_answer)
            observer.spin_once(POLL_S)
            return bool(active)

        node = observer.group.run('node', command)
        observer.wait_for(is_active, f'{case} active', PATIENCE_S)
        return Start(active[0] - started_s, processor_s(node.process.pid))


def memory(frames: int) -> dict[str, dict[str, float]]:
    """Return the memory of the four nodes after so many frames [MB of 10^6 bytes].

    Raises:
        ValueError: they did not drive so far.
    """
    nodes = FourNodes(role_names=(ROLE,), synchronizer={'real_time_factor': 0.0})
    seen: list[CarlaEgoVehicleControl] = []
    with observed() as observer:
        control = topics.control(ROLE)
        observer.node.create_subscription(CarlaEgoVehicleControl, control, seen.append, RELIABLE)
        nodes.start(observer.group)
        observer.wait_for(lambda: len(seen) >= frames, f'{frames} frames', PATIENCE_S + frames)
        return {node.name: memory_of(node.process.pid) for node in observer.group.nodes}


def memory_of(pid: int) -> dict[str, float]:
    """Return the memory of a process [MB of 10^6 bytes], as far as the system tells."""
    figures = {}
    for figure, (name, key) in MEMORY.items():
        path = Path(f'/proc/{pid}') / name
        text = path.read_text('utf-8') if path.exists() else ''
        if found := re.search(rf'^{key}:\s*(\d+) kB$', text, flags=re.MULTILINE):
            figures[figure] = int(found[1]) * MB_PER_KIB
    return figures


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


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return what the figures must be."""
    agent, memory = report['starts'][AGENT], report['memory']
    return [
        Limit('agent active, first start', agent['first_s'], 's', most=MOST_ACTIVE_S),
        Limit('agent active, started again', agent['again_s'], 's', most=MOST_ACTIVE_S),
        *(
            Limit(f'resident memory of {node}', memory[node]['resident_mb'], 'MB', most=most_mb)
            for node, most_mb in MOST_RESIDENT_MB.items()
        ),
    ]

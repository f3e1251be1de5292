# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a free-running agent commands at 20 Hz: idle, then with every core kept busy.

Bridge (playing in real time), gate and agent, each a process of its own; none waits for another.
``sent`` is when the agent's middleware took a command, ``received`` when it came here, ``control``
when the gate's vehicle command did. A tick of the 20 Hz grid without a command is missed. A
command for a frame that was commanded for already is repeated: the bridge's own frames come a
little slower than 20 Hz. Beside them a process that only wakes 20 times a second: what the
machine allows.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleControl
from geometry_msgs.msg import TwistStamped

from benchmarks.harness import (
    PERIOD_NS,
    Limit,
    Program,
    check_least,
    observed,
    rate_figures,
    serve,
)
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.runtime import REPORTS
from td3_agent.processes import busy_processes

if TYPE_CHECKING:
    import argparse

    from benchmarks.harness import Observer

RATE_HZ = 20.0
IDLE, LOADED = 'idle', 'loaded'
SENT, RECEIVED, CONTROL, BARE = 'sent', 'received', 'control', 'bare timer'
ROLE = 'ego_vehicle'
FREE = {'role_name': ROLE, 'mode': 'free_running'}
NODES: dict[str, dict[str, Any]] = {
    'sim_bridge_node': {
        'role_names': [ROLE],
        'map': 'oval',  # a lap: the road has no end, however long this takes
        'synchronous_mode_wait_for_vehicle_control_command': False,
    },
    'gate_node': FREE,
    'td3_agent_node': FREE,
}
WARM_UP_COMMANDS = 60
PATIENCE_S = 60.0
MOST_IDLE_ERROR_HZ, MOST_LOADED_ERROR_HZ = 0.02, 0.2
MOST_ABOVE_BARE_MS = 0.2  # sigma, above that of the bare timer beside it
NANOSECONDS_PER_SECOND = 1_000_000_000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--duration', type=float, default=300.0, help='of each, idle and loaded [s]'
    )
    parser.add_argument('--load', type=int, default=os.cpu_count(), help='busy processes')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; ValueError if a node ended or sent nothing."""
    check_least(args, duration=1, load=1)
    with observed() as observer, Program('benchmarks.rate', environment=os.environ) as timer:
        watch = Watch(observer, timer)
        for name, parameters in NODES.items():
            observer.group.start(name, parameters)
        idle = watch.figures(args.duration)
        with busy_processes(args.load):
            loaded = watch.figures(args.duration)
    runs = {IDLE: idle, LOADED: loaded}
    return {
        'ratio': loaded[SENT]['rate_hz'] / idle[SENT]['rate_hz'],
        'ratio_sigma': {
            run: found[SENT]['sigma_ms'] / found[BARE]['sigma_ms'] for run, found in runs.items()
        },
        'duration_s': args.duration,
        'busy_processes': args.load,
        'runs': runs,
    }


class Watch:
    """Notes when commands are sent and received."""

    def __init__(self, observer: Observer, timer: Program) -> None:
        """Listen to agent and gate with the node of ``observer``, and to a bare timer."""
        self._observer = observer
        self._timer = timer
        self._times_ns: dict[str, list[int]] = {SENT: [], RECEIVED: [], CONTROL: []}
        self._stamps_ns: list[int] = []
        listen = observer.node.create_subscription
        listen(TwistStamped, topics.twist_stamped(ROLE), self._on_twist, REPORTS)
        listen(CarlaEgoVehicleControl, topics.control(ROLE), self._on_control, REPORTS)

    def figures(self, duration_s: float) -> dict[str, Any]:
        """Return the figures of the next ``duration_s`` [s], after some commands to warm up.

        Raises:
            ValueError: a node has ended, or there are no commands.
        """
        self._forget()
        received = self._times_ns[RECEIVED]
        self._observer.wait_for(
            lambda: len(received) >= WARM_UP_COMMANDS, 'the first commands', PATIENCE_S
        )
        self._forget()
        self._timer.say(str(duration_s))
        end_s = time.monotonic() + duration_s
        while (left_s := end_s - time.monotonic()) > 0.0:
            self._observer.spin_once(left_s)
        times_ns = self._times_ns | {BARE: self._timer.hear(PATIENCE_S)}
        found: dict[str, Any] = {key: rate_figures(times) for key, times in times_ns.items()}
        return found | {'repeated': len(self._stamps_ns) - len(set(self._stamps_ns))}

    def _forget(self) -> None:
        for noted in (*self._times_ns.values(), self._stamps_ns):
            noted.clear()

    def _on_twist(self, msg: TwistStamped, info: dict[str, int]) -> None:
        self._times_ns[RECEIVED].append(time.monotonic_ns())
        self._times_ns[SENT].append(info['source_timestamp'])
        self._stamps_ns.append(stamp_ns(msg.header.stamp))

    def _on_control(self, _: CarlaEgoVehicleControl) -> None:
        self._times_ns[CONTROL].append(time.monotonic_ns())


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return what the figures must be."""
    idle, loaded = report['runs'][IDLE][SENT], report['runs'][LOADED][SENT]
    idle_error_hz, loaded_error_hz = (abs(row['rate_hz'] - RATE_HZ) for row in (idle, loaded))
    return [
        Limit('idle rate: away from 20 Hz', idle_error_hz, 'Hz', most=MOST_IDLE_ERROR_HZ),
        Limit('loaded rate: away from 20 Hz', loaded_error_hz, 'Hz', most=MOST_LOADED_ERROR_HZ),
        *(
            Limit(
                f'sigma of the {run} period, above the bare timer',
                found[SENT]['sigma_ms'] - found[BARE]['sigma_ms'],
                'ms',
                most=MOST_ABOVE_BARE_MS,
            )
            for run, found in report['runs'].items()
        ),
    ]


def wake(duration_s: float) -> list[int]:
    """Wake 20 times a second at absolute deadlines; return when [ns, steady]."""
    start_ns = time.monotonic_ns()
    end_ns = start_ns + round(duration_s * NANOSECONDS_PER_SECOND)
    woken_ns = []
    for due_ns in range(start_ns + PERIOD_NS, end_ns, PERIOD_NS):
        time.sleep(max(due_ns - time.monotonic_ns(), 0) / NANOSECONDS_PER_SECOND)
        woken_ns.append(time.monotonic_ns())
    return woken_ns


if __name__ == '__main__':
    serve(wake)

# SPDX-License-Identifier: Apache-2.0
"""Whether a free-running agent commands at 20 Hz: idle, then with every core kept busy.

Bridge (playing in real time), gate and agent, each a process of its own; nobody waits for
anybody. ``sent`` is when the agent's middleware took a command, ``received`` when it came here,
``control`` when the gate's vehicle command did. A tick of the 20 Hz grid without a command is
missed. A command for a frame that was commanded for already is repeated: the bridge's own frames
come a little slower than 20 Hz. Beside them a process that only wakes 20 times a second: what the
machine allows.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleControl
from geometry_msgs.msg import TwistStamped
from tqdm import tqdm

from td3_agent.bench.figures import rate_figures
from td3_agent.bench.observer import observed
from td3_agent.bench.programs import Program
from td3_agent.evaluation.processes import busy_processes
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.qos import REPORTS

if TYPE_CHECKING:
    import argparse

    from td3_agent.bench.observer import Observer

RATE_HZ = 20.0
IDLE, LOADED = 'idle', 'loaded'
SENT, RECEIVED, CONTROL, BARE = ROWS = 'sent', 'received', 'control', 'bare timer'
ROLE = 'ego_vehicle'
BARE_TIMER = 'td3_agent.bench.bare_timer'
WARM_UP_COMMANDS = 60
PATIENCE_S = 60.0
MOST_IDLE_ERROR_HZ = 0.02
MOST_IDLE_SIGMA_MS = 1.0
MOST_LOADED_ERROR = 0.01


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--duration', type=float, default=300.0, help='of each, idle and loaded [s]'
    )
    parser.add_argument('--load', type=int, default=os.cpu_count(), help='busy processes')
    parser.add_argument('--policy', default='lane', help='of the agent')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is out of range, or a node ended or said nothing.
    """
    if not 1.0 <= args.duration < float('inf'):  # written so that NaN fails too
        raise ValueError(f'duration must be >= 1 [s], got {args.duration}')
    if args.load < 1:
        raise ValueError(f'load must be >= 1 [processes], got {args.load}')
    with observed() as observer, Program(BARE_TIMER, environment=os.environ) as timer:
        watch = Watch(observer, timer)
        for name, parameters in nodes(args.policy).items():
            observer.group.start(name, parameters)
        idle = watch.figures(args.duration, IDLE)
        with busy_processes(args.load):
            loaded = watch.figures(args.duration, LOADED)
    return {
        'ratio': loaded[SENT]['rate_hz'] / idle[SENT]['rate_hz'],
        'ratio_sigma': {
            run: found[SENT]['sigma_ms'] / found[BARE]['sigma_ms']
            for run, found in ((IDLE, idle), (LOADED, loaded))
        },
        'duration_s': args.duration,
        'busy_processes': args.load,
        'runs': {IDLE: idle, LOADED: loaded},
    }


def nodes(policy: str) -> dict[str, dict[str, Any]]:
    """Return the parameters of the three nodes, by program."""
    role = {'role_name': ROLE}
    # A lap: the road has no end, however long this takes.
    world = {'map': 'oval', 'synchronous_mode_wait_for_vehicle_control_command': False}
    return {
        'sim_bridge_node': {'role_names': [ROLE], **world},
        'twist_to_control_node': {**role, 'mode': 'free_running'},
        'td3_agent_node': {**role, 'mode': 'free_running', 'policy': policy},
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

    def figures(self, duration_s: float, name: str) -> dict[str, Any]:
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
        self._follow(duration_s, name)
        times_ns = self._times_ns | {BARE: self._timer.hear(PATIENCE_S)}
        found: dict[str, Any] = {key: rate_figures(times) for key, times in times_ns.items()}
        return found | {'repeated': len(self._stamps_ns) - len(set(self._stamps_ns))}

    def _follow(self, duration_s: float, name: str) -> None:
        started_s = time.monotonic()
        with tqdm(total=round(duration_s), unit='s', desc=name, disable=None, leave=False) as bar:
            while (passed_s := time.monotonic() - started_s) < duration_s:
                self._observer.spin_once(duration_s - passed_s)
                bar.update(int(passed_s) - bar.n)

    def _forget(self) -> None:
        for noted in (*self._times_ns.values(), self._stamps_ns):
            noted.clear()

    def _on_twist(self, msg: TwistStamped, info: dict[str, int]) -> None:
        self._times_ns[RECEIVED].append(time.monotonic_ns())
        self._times_ns[SENT].append(info['source_timestamp'])
        self._stamps_ns.append(stamp_ns(msg.header.stamp))

    def _on_control(self, _: CarlaEgoVehicleControl) -> None:
        self._times_ns[CONTROL].append(time.monotonic_ns())


def table(report: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    names = ('rate [Hz]', 'sigma [ms]', 'p99 [ms]', 'max [ms]', 'missed', 'commands')
    lines = [f'{"":<19}' + ''.join(f'{name:>12}' for name in names)]
    for run, found in report['runs'].items():
        for what in ROWS:
            row = found[what]
            times = f'{row["sigma_ms"]:>12.3f}{row["p99_ms"]:>12.2f}{row["max_ms"]:>12.2f}'
            counts = f'{row["missed"]:>12}{row["commands"]:>12}'
            lines.append(f'{run:<8}{what:<11}{row["rate_hz"]:>12.4f}{times}{counts}')
    repeated = ', '.join(f'{found["repeated"]} {run}' for run, found in report['runs'].items())
    lines.append(f'commands for a frame that had one: {repeated}')
    sigmas = ', '.join(f'{ratio:.2f} {run}' for run, ratio in report['ratio_sigma'].items())
    lines.append(f'ratio of sigmas, sent to bare timer: {sigmas}')
    lines.append(
        f'ratio of rates, loaded to idle: {report["ratio"]:.4f}; {report["duration_s"]:g} s each, '
        f'{report["busy_processes"]} busy processes'
    )
    return '\n'.join(lines)


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that is not what it must be."""
    idle, loaded = report['runs'][IDLE][SENT], report['runs'][LOADED][SENT]
    texts = []
    if not abs(idle['rate_hz'] - RATE_HZ) <= MOST_IDLE_ERROR_HZ:
        texts.append(
            f'idle rate is {idle["rate_hz"]:.4f} Hz, '
            f'expected {RATE_HZ:.2f} +- {MOST_IDLE_ERROR_HZ:g} Hz'
        )
    if not idle['sigma_ms'] <= MOST_IDLE_SIGMA_MS:
        texts.append(
            f'sigma of the idle period is {idle["sigma_ms"]:.3f} ms, '
            f'expected <= {MOST_IDLE_SIGMA_MS:g} ms'
        )
    if not abs(loaded['rate_hz'] / RATE_HZ - 1.0) <= MOST_LOADED_ERROR:
        texts.append(
            f'loaded rate is {loaded["rate_hz"]:.4f} Hz, '
            f'expected {RATE_HZ:.2f} Hz within {MOST_LOADED_ERROR:.0%}'
        )
    return texts

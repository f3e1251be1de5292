# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Send one command to a vehicle, hold it for a while, then stop the vehicle.

By rclpy, or with --docker-exec by a process in the bridge's container for every command, for
comparison. The report says which transport was used; there is no fallback.
"""

from __future__ import annotations

import json
import math
import sys
import threading
import time
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.bridge_interface import (
    DEFAULT_SETUP_FILES,
    DEFAULT_WHEEL_ANGLE_RAD,
    BridgeError,
    ROSBridgeInterface,
)
from td3_agent.processes import interruptions_noted

if TYPE_CHECKING:
    import argparse

    from td3_agent.processes import Interruption

EXIT_NOT_STOPPED = 1
EXIT_INTERRUPTED = 130
PERCENTILES = {'p50_ms': 50.0, 'p99_ms': 99.0, 'max_ms': 100.0}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    add = parser.add_argument
    add('--throttle', type=float, default=0.0, help='in [0, 1]')
    add('--steer', type=float, default=0.0, help='in [-1, 1], right positive')
    add('--brake', type=float, default=0.0, help='in [0, 1]')
    add('--reverse', action='store_true', help='reverse gear')
    add('--duration', type=float, default=0.0, help='repeat it for so long [s]; 0 sends it once')
    add('--rate', type=float, default=20.0, help='repetitions per second, at most [Hz]')
    add('--role-name', default='ego_vehicle', help='role name of the vehicle')
    add('--twist-convention', default='velocity', help='velocity or carla_twist_to_control')
    add(
        '--max-steer-angle',
        type=float,
        default=DEFAULT_WHEEL_ANGLE_RAD,
        help='wheel angle at full steer [rad], for carla_twist_to_control',
    )
    add('--wait', type=float, default=10.0, help='longest wait for a listener [s]; 0: none')
    add('--docker-exec', metavar='CONTAINER', help='a process in this container per command')
    add('--docker', default='docker', help='the docker executable')
    add(
        '--setup-file',
        action='append',
        metavar='FILE',
        help=f'file in the container to source, repeatable (default: {DEFAULT_SETUP_FILES[0]})',
    )
    add('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Drive, print what was done, and return the exit status: 0 only if the stop has arrived.

    Raises:
        ValueError: an argument was refused, or the command could not be sent.
    """
    _check_times(args)
    with interruptions_noted() as interruption, _interface(args) as interface:
        sent_ns = _repeat(args, interface, interruption)
        trouble = _stop(interface)
    report = interface.record() | {'stopped': not trouble, 'call_ms': _spread_ms(sent_ns)}
    if args.json:
        print(json.dumps(report))
    else:
        print('\n'.join(f'  {name:<18}{_text(value)}' for name, value in report.items()))
    if trouble:
        sys.stderr.write(f'td3_agent drive: {trouble}\n')
        return EXIT_NOT_STOPPED
    return EXIT_INTERRUPTED if interruption.happened else 0


def _spread_ms(times_ns: list[int]) -> dict[str, float]:
    """Return median, 99th percentile and maximum [ms] of times [ns]."""
    return {name: float(np.percentile(times_ns, q)) / 1e6 for name, q in PERCENTILES.items()}


def _check_times(args: argparse.Namespace) -> None:
    for name, value_s in (('duration', args.duration), ('wait', args.wait)):
        if not 0.0 <= value_s < math.inf:
            raise ValueError(f'{name} must be >= 0 [s], got {value_s}')
    if not 0.0 < args.rate <= 1000.0:
        raise ValueError(f'rate must be in (0, 1000] [Hz], got {args.rate}')


def _interface(args: argparse.Namespace) -> ROSBridgeInterface:
    return ROSBridgeInterface(
        use_docker_exec=args.docker_exec is not None,
        role_name=args.role_name,
        twist_convention=args.twist_convention,
        max_steer_angle_rad=args.max_steer_angle,
        match_timeout_s=args.wait,
        container=args.docker_exec or '',
        docker=args.docker,
        setup_files=DEFAULT_SETUP_FILES if args.setup_file is None else args.setup_file,
    )


def _repeat(
    args: argparse.Namespace, interface: ROSBridgeInterface, interruption: Interruption
) -> list[int]:
    """Send the command at the rate until the duration is over; return each call's time [ns]."""
    started_s, sent_ns, pause = time.monotonic(), [], threading.Event()
    while True:
        before_ns = time.monotonic_ns()
        interface.publish_control(args.throttle, args.steer, args.brake, args.reverse)
        sent_ns.append(time.monotonic_ns() - before_ns)
        passed_s = time.monotonic() - started_s
        # The next tick of a fixed grid: a slow command does not shift those that follow.
        next_s = (math.floor(passed_s * args.rate) + 1) / args.rate
        pause.wait(max(min(next_s, args.duration) - passed_s, 0.0))
        if next_s >= args.duration or interruption.happened:
            return sent_ns


def _stop(interface: ROSBridgeInterface) -> str:
    """Stop the vehicle; return why it may not have stopped, empty where it has the stop."""
    try:
        interface.close()
    except BridgeError as error:
        return str(error)
    return ''


def _text(value: object) -> str:
    if isinstance(value, dict):
        return '  '.join(f'{name} {figure:.3f}' for name, figure in value.items())
    return str(value)

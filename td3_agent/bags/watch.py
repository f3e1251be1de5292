# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Watch a drive in the browser while it happens: camera, network's input, map, plots, diagnostics.

The viewer is Rerun's, served from this machine; it works without a network.
"""

from __future__ import annotations

import ctypes
from functools import partial
from importlib.util import find_spec
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from td3_agent.policy.policy_file import SHIPPED_NAMES

if TYPE_CHECKING:
    import argparse

    from rclpy.node import Node

NICENESS = 5
LOOPBACK = '127.0.0.1'
PATIENCE_S = 20.0
PR_SET_PDEATHSIG = 1  # linux/prctl.h
POLL_S = 0.05
HIGHEST_PORT = 65535


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--role-name', default='ego_vehicle', help='role name of the vehicle')
    parser.add_argument('--camera-id', default='camera', help='id of its camera')
    parser.add_argument('--image-topic', default='', help='empty: topic of that camera')
    parser.add_argument('--odometry-topic', default='', help='empty: /carla/<role_name>/odometry')
    parser.add_argument(
        '--policy', default='lane', help=f'policy whose input to show: {SHIPPED_NAMES}, or a file'
    )
    parser.add_argument('--port', type=int, default=9090, help='port of the page')
    parser.add_argument('--data-port', type=int, default=9876, help='port of the data')
    parser.add_argument(
        '--memory', type=int, default=500, help='drop the oldest data above this [MB]'
    )


def run(args: argparse.Namespace) -> int:
    """Show until asked to end.

    Raises:
        ValueError: an argument or the policy is invalid, or Rerun is not installed.
    """
    require_rerun()
    for name in ('port', 'data_port'):
        if not 0 < getattr(args, name) <= HIGHEST_PORT:
            raise ValueError(f'--{name.replace("_", "-")} must be in [1, {HIGHEST_PORT}]')
    if args.memory < 1:
        raise ValueError(f'--memory must be >= 1 [MB], got {args.memory}')
    os.nice(NICENESS)  # the loop goes first
    from td3_agent.nodes.runtime import run_program  # noqa: PLC0415  --help needs no ROS

    run_program(lambda: _watcher(args), args=[])
    return 0


def require_rerun() -> None:
    """Raise ValueError if Rerun is not installed."""
    if find_spec('rerun') is None:
        raise ValueError("Rerun is not installed: pip install 'td3_agent[watch]'")


def _watcher(args: argparse.Namespace) -> Node:
    import rerun as rr  # noqa: PLC0415

    from td3_agent.bags.watch_node import WatchNode, WatchTopics  # noqa: PLC0415
    from td3_agent.nodes import topics  # noqa: PLC0415
    from td3_agent.nodes.drivers import DriverParams, make_driver  # noqa: PLC0415

    watched = WatchTopics(
        role_name=args.role_name,
        image=args.image_topic or topics.image(args.role_name, args.camera_id),
        odometry=args.odometry_topic or topics.odometry(args.role_name),
    )
    spec = make_driver(DriverParams(policy=args.policy)).spec
    server = start_server(args.port, args.data_port, args.memory)
    uri = f'rerun+http://{LOOPBACK}:{args.data_port}/proxy'
    recording = rr.RecordingStream('td3_agent')
    recording.connect_grpc(uri, default_blueprint=blueprint())
    sys.stdout.write(f'watch at http://{LOOPBACK}:{args.port}/?url={quote(uri, safe="")}\n')
    sys.stdout.flush()
    return WatchNode(recording, watched, spec, on_close=partial(_close, recording, server))


def start_server(port: int, data_port: int, memory_mb: int) -> subprocess.Popen[bytes]:
    """Start Rerun's server, which listens on the loopback interface only.

    Started within this process it would listen on every interface.

    Raises:
        ValueError: a port is taken, or the server does not start.
    """
    import rerun_cli  # noqa: PLC0415  an extra

    prctl = ctypes.CDLL(None).prctl  # looked up before the fork
    for name, number in (('--port', port), ('--data-port', data_port)):
        if _answers(number):
            raise ValueError(f'{name} {number} is in use: name another one')
    # Not python -m rerun: that script starts the server as a child, which would outlive it.
    command = [str(Path(rerun_cli.__file__).with_name('rerun')), '--serve-web']
    command += ['--bind', LOOPBACK]
    command += ['--port', str(data_port), '--web-viewer-port', str(port)]
    command += ['--server-memory-limit', f'{memory_mb}MB']
    server = subprocess.Popen(  # noqa: S603  no shell, our own words
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        # The kernel ends it with this process, however that ends.
        preexec_fn=partial(prctl, PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509  no lock
    )
    deadline_s = time.monotonic() + PATIENCE_S
    while not (_answers(port) and _answers(data_port)):
        if server.poll() is not None or time.monotonic() > deadline_s:
            _end(server)
            raise ValueError(f'Rerun does not serve port {port} and {data_port}')
        time.sleep(POLL_S)
    return server


def _answers(port: int) -> bool:
    """Whether a port of this machine is open."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((LOOPBACK, port)) == 0


def _close(recording: Any, server: subprocess.Popen[bytes]) -> None:  # noqa: ANN401  of Rerun
    recording.disconnect()
    _end(server)


def _end(server: subprocess.Popen[bytes]) -> None:
    server.terminate()
    try:
        server.wait(PATIENCE_S)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def blueprint() -> Any:  # noqa: ANN401  of Rerun, which has no types here
    """Return the layout of the page."""
    import rerun.blueprint as rrb  # noqa: PLC0415

    pictures = rrb.Vertical(
        rrb.Spatial2DView(origin='camera', name='Camera'),
        rrb.Spatial2DView(origin='network', name="The network's input"),
        rrb.TextLogView(origin='diagnostics', name='Diagnostics'),
        row_shares=[3, 3, 2],
    )
    plots = rrb.Vertical(
        rrb.Spatial2DView(origin='map', name='Map'),
        rrb.TimeSeriesView(origin='plots', name='Speed [m/s], lateral error [m]'),
        rrb.TimeSeriesView(origin='control', name='Steer, throttle, brake'),
        rrb.TimeSeriesView(origin='latency', name='Image to Twist [ms]'),
        row_shares=[4, 2, 2, 2],
    )
    return rrb.Blueprint(
        rrb.Horizontal(pictures, plots, column_shares=[2, 3]), collapse_panels=True
    )

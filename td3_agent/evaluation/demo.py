# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The demo: four processes, one drive; ends with a summary, a ledger and two pictures."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
import os
from pathlib import Path
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from sensor_msgs.msg import Image
from tqdm import tqdm

from td3_agent.driving.ledger import read_findings, read_ledger
from td3_agent.evaluation.episode_result import EpisodeView, events, lane_outlines
from td3_agent.evaluation.pictures import camera_strip, plot_trajectory
from td3_agent.evaluation.ros_episodes import (
    POLL_S,
    START_PATIENCE_S,
    FourNodes,
    LedgerTail,
    follow,
)
from td3_agent.evaluation.summary import (
    finding_lines,
    findings_of,
    summarize,
    table,
    who_drives,
)
from td3_agent.files import write_json
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import image_view, stamp_ns
from td3_agent.nodes.runtime import own_context
from td3_agent.policy.policy_file import SHIPPED_NAMES
from td3_agent.processes import (
    ProcessGroup,
    free_domain_id,
    interruptions_noted,
    ros_environment,
)
from td3_agent.sim.simulator import Simulator, SimulatorConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from typing_extensions import Self

    from td3_agent.driving.endpoints import Finding
    from td3_agent.processes import Interruption, NodeProcess

STEP_S = 0.05
STRIP_FRAMES = 12
# A spectator must not hold up the bridge: best effort, newest only.
SPECTATOR = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
SPECTATOR_END_S = 5.0
# A frame whose answer is a timeout takes this long; a drive of nothing else is not waited for.
SLOW_FRAME_S = 0.25
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Drive:
    """What a finished drive left behind.

    Attributes:
        records: its ledger.
        frames: camera frames by simulated time [ns].
        exit_statuses: of every process, by name.
        trouble: why it ended early; empty if it did not.
        findings: what was wrong with it, as its ledger says.
    """

    records: list[dict[str, Any]]
    frames: list[tuple[int, Any]]
    exit_statuses: dict[str, int]
    trouble: str
    findings: list[Finding]

    @property
    def ended_cleanly(self) -> bool:
        """Whether nothing went wrong with the processes."""
        return not self.trouble and not any(self.exit_statuses.values())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the demo's arguments."""
    parser.add_argument(
        '--driver', choices=('td3', 'pure_pursuit'), default='td3', help='who drives'
    )
    parser.add_argument(
        '--policy', default='lane', help=f'{SHIPPED_NAMES}, untrained, or a .safetensors file'
    )
    parser.add_argument(
        '--map',
        default='winding',
        help='oval, winding, country, town, highway, arterial, or an OpenDRIVE file',
    )
    parser.add_argument('--map-seed', type=int, default=0, help='seed of a built-in map')
    parser.add_argument('--seed', type=int, default=0, help='seed of parked cars and light')
    parser.add_argument(
        '--spawn-index', type=int, default=0, help='spawn point on the map; -1 draws one'
    )
    parser.add_argument(
        '--duration', type=positive, default=60.0, help='simulated time to drive [s]'
    )
    parser.add_argument(
        '--real-time-factor',
        type=not_negative,
        default=1.0,
        help='simulated time per wall time; 0 is as fast as possible',
    )
    parser.add_argument('--camera-width', type=int, default=160, help='image columns [px]')
    parser.add_argument('--camera-height', type=int, default=120, help='image rows [px]')
    parser.add_argument('--role-name', default='ego_vehicle', help='role name of the vehicle')
    parser.add_argument('--record', action='store_true', help='record a bag to OUT/bag')
    parser.add_argument(
        '--record-storage', choices=('mcap', 'sqlite3'), default='mcap', help='format of that bag'
    )
    parser.add_argument(
        '--record-compression', choices=('none', 'zstd'), default='none', help='of that bag'
    )
    parser.add_argument('--out', type=Path, default=Path('demo'), help='folder for the results')


def positive(text: str) -> float:
    """Return a number > 0."""
    value = float(text)
    if not 0.0 < value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be > 0, got {text}')
    return value


def not_negative(text: str) -> float:
    """Return a number >= 0."""
    value = float(text)
    if not 0.0 <= value < float('inf'):
        raise argparse.ArgumentTypeError(f'must be >= 0, got {text}')
    return value


def run(args: argparse.Namespace) -> int:
    """Drive, write the results, and return the exit status.

    0 only if the ledger shows no violation, nearly every frame got the driver's command, nothing
    disturbed the drive, and every process ended cleanly.

    Raises:
        ValueError: arguments that do not fit together, or a bad map.
    """
    if args.record_compression != 'none' and args.record_storage != 'mcap':
        raise ValueError(
            f'--record-compression {args.record_compression} needs --record-storage mcap, '
            f'got {args.record_storage}'
        )
    args.out.mkdir(parents=True, exist_ok=True)
    simulator = Simulator(
        simulator_config(args)
    )  # also refuses a bad map before anything is started
    try:
        drive = _drive(args)
    except KeyboardInterrupt:
        sys.stderr.write('interrupted: all processes ended, no results written\n')
        return EXIT_INTERRUPTED
    if not drive.records:
        sys.stderr.write(f'{drive.trouble or "nothing was driven"}\n')
        return EXIT_FAILED
    findings = findings_of(drive.records, drive.findings)
    summary = {
        'driver': args.driver,
        'policy': args.policy if args.driver == 'td3' else None,
        'map': args.map,
        'map_seed': args.map_seed,
        'seed': args.seed,
        'spawn_index': args.spawn_index,
        'real_time_factor': args.real_time_factor,
        **summarize(drive.records, simulator.ego.route),
        'exit_statuses': drive.exit_statuses,
        'findings': [asdict(finding) for finding in findings],
    }
    if drive.trouble:
        summary['trouble'] = drive.trouble
    write_results(args.out, summary, drive, simulator)
    sys.stdout.write(f'{table(summary)}\n{finding_lines(findings)}\nresults in {args.out}\n')
    wanted = round(args.duration / STEP_S)
    complete = summary['violations'] == 0 and summary['frames'] == wanted
    sound = complete and not any(finding.is_error for finding in findings)
    return 0 if sound and drive.ended_cleanly else EXIT_FAILED


def simulator_config(args: argparse.Namespace) -> SimulatorConfig:
    """Return the world that the bridge process builds from the same arguments."""
    return SimulatorConfig(
        map=args.map, map_seed=args.map_seed, seed=args.seed, spawn_index=args.spawn_index
    )


def _drive(args: argparse.Namespace) -> Drive:
    """Bring up the four processes, follow the drive, and end them.

    Raises:
        KeyboardInterrupt: asked to end, by whatever signal; no process is left.
    """
    domain_id = free_domain_id()
    environment = ros_environment(domain_id)
    sys.stderr.write(
        f'driving in ROS domain {domain_id}; to look on: ROS_DOMAIN_ID={domain_id} '
        f'td3_agent watch (or td3_agent doctor --live)\n'
    )
    os.environ.update(environment)  # the spectator in this process goes by it too
    total = round(args.duration / STEP_S)
    ledger_path = args.out / 'ledger.jsonl'
    ledger_path.unlink(missing_ok=True)
    image_topic = topics.image(args.role_name, 'camera')
    every = max(total // STRIP_FRAMES, 1)
    with interruptions_noted() as interruption, ProcessGroup(args.out, environment) as group:
        if args.record:
            start_recorder(group, args, interruption)
        synchronizer = four_nodes(args, ledger_path, total).start(group)
        with FrameSampler(image_topic, domain_id, every) as sampler:
            trouble = _follow(group, synchronizer, ledger_path, args, interruption)
        exit_statuses = group.end()
    there = ledger_path.exists()
    records = list(read_ledger(ledger_path)) if there else []
    findings = read_findings(ledger_path) if there else []
    return Drive(records, sampler.frames, exit_statuses, trouble, findings)


def start_recorder(
    group: ProcessGroup, args: argparse.Namespace, interruption: Interruption
) -> None:
    """Record, in place of an older bag; the drive goes on if the recorder cannot.

    Raises:
        KeyboardInterrupt: asked to end.
    """
    bag = args.out / 'bag'
    for path in bag.glob('*'):
        if path.name == 'metadata.yaml' or path.suffix in {'.mcap', '.db3'}:
            path.unlink()
    if bag.is_dir():
        bag.rmdir()
    command = [sys.executable, '-m', 'td3_agent', 'record', '--out', str(bag)]
    command += ['--storage', args.record_storage, '--compression', args.record_compression]
    recorder = group.run('recorder', command, optional=True)
    deadline_s = time.monotonic() + START_PATIENCE_S
    while recorder.process.poll() is None and time.monotonic() < deadline_s and not bag.is_dir():
        interruption.check()
        time.sleep(POLL_S)


def four_nodes(args: argparse.Namespace, ledger_path: Path, total: int) -> FourNodes:
    """Return the parameters of bridge, gate, agent and synchronizer."""
    return FourNodes(
        role_names=(args.role_name,),
        bridge={
            'map': args.map,
            'map_seed': args.map_seed,
            'seed': args.seed,
            'spawn_index': args.spawn_index,
            'camera_width': args.camera_width,
            'camera_height': args.camera_height,
        },
        agent={'driver': args.driver, 'policy': args.policy},
        synchronizer={
            'real_time_factor': float(args.real_time_factor),
            'max_frames': total,
            'ledger_path': str(ledger_path),
        },
    )


def _follow(
    group: ProcessGroup,
    synchronizer: NodeProcess,
    ledger_path: Path,
    args: argparse.Namespace,
    interruption: Interruption,
) -> str:
    """Show the progress until the synchronizer has ended; return what went wrong, if anything.

    Raises:
        KeyboardInterrupt: asked to end.
    """
    total = round(args.duration / STEP_S)
    pace_s = max(STEP_S / args.real_time_factor if args.real_time_factor else 0.0, SLOW_FRAME_S)
    with tqdm(total=total, unit='frame', desc='driving', disable=None) as progress:

        def is_enough(new: list[dict[str, Any]]) -> bool:
            interruption.check()
            progress.update(len(new))
            return False

        return follow(group, synchronizer, LedgerTail(ledger_path), total * pace_s, is_enough)


class FrameSampler:
    """Receives an image topic in a thread of its own and keeps every ``every``-th message."""

    def __init__(self, topic: str, domain_id: int, every: int) -> None:
        """Subscribe to ``topic``; messages between the kept ones are never unpacked."""
        self.frames: list[tuple[int, NDArray[np.uint8]]] = []
        self._every = every
        self._seen = 0
        self._context = own_context(domain_id)
        self._node = Node('td3_agent_spectator', context=self._context)
        self._node.create_subscription(Image, topic, self._on_image, SPECTATOR, raw=True)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(timeout_sec=SPECTATOR_END_S)
        self._thread.join(timeout=SPECTATOR_END_S)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _on_image(self, raw: bytes) -> None:
        """Keep the frame (simulated time [ns], pixels) if it is its turn."""
        if self._seen % self._every == 0:
            msg = deserialize_message(raw, Image)
            self.frames.append((stamp_ns(msg.header.stamp), image_view(msg).pixels()))
        self._seen += 1


def write_results(out: Path, summary: dict[str, Any], drive: Drive, simulator: Simulator) -> None:
    """Write ``summary.json``, ``trajectory.png`` and ``camera.png``; the ledger lies there."""
    write_json(out / 'summary.json', summary)
    title = f'{who_drives(summary)} on {summary["map"]}: {summary["distance_m"] or 0.0:.0f} m'
    driven = [record for record in drive.records if 'x_m' in record]
    view = EpisodeView(
        driven=np.array([(r['x_m'], r['y_m']) for r in driven]).reshape(-1, 2),
        speed_mps=np.array([r['speed_mps'] for r in driven]),
        route=simulator.ego.route.points_xy,
        road=lane_outlines(simulator),
        events=events(driven),
    )
    markings = [marking.points for marking in simulator.map.markings]
    plot_trajectory(out / 'trajectory.png', view, markings=markings, title=title)
    if drive.frames:
        start_ns = drive.records[0]['stamp_ns']
        camera_strip(
            out / 'camera.png',
            [pixels for _, pixels in drive.frames],
            [f't = {(stamp - start_ns) / 1e9:.1f} s' for stamp, _ in drive.frames],
            order='bgr',
            title=title,
        )

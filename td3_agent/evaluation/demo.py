# SPDX-License-Identifier: Apache-2.0
"""The demo: four processes, one drive; ends with a summary, a ledger and two pictures."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
import json
import os
from pathlib import Path
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from td3_agent.driving.ledger import read_findings, read_ledger
from td3_agent.evaluation.episode_result import events
from td3_agent.evaluation.four_nodes import FourNodes
from td3_agent.evaluation.frame_sampler import FrameSampler
from td3_agent.evaluation.pictures import camera_strip, plot_trajectory
from td3_agent.evaluation.summary import finding_lines, judged, summarize, table
from td3_agent.nodes import topics
from td3_agent.policy.policy_file import SHIPPED_NAMES
from td3_agent.processes import (
    ProcessGroup,
    free_domain_id,
    interruptions_noted,
    ros_environment,
)
from td3_agent.sim.world import World, WorldConfig

if TYPE_CHECKING:
    import subprocess

    from numpy.typing import NDArray

    from td3_agent.driving.endpoints import Finding
    from td3_agent.processes import Interruption

STEP_S = 0.05
STRIP_FRAMES = 12
POLL_S = 0.1
HEADER_LINES = 1
START_PATIENCE_S = 60.0
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
        help='oval, winding, town, highway, arterial, or an OpenDRIVE file',
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
    world = World(world_config(args))  # also refuses a bad map before anything is started
    try:
        drive = _drive(args)
    except KeyboardInterrupt:
        sys.stderr.write('interrupted: all processes ended, no results written\n')
        return EXIT_INTERRUPTED
    if not drive.records:
        sys.stderr.write(f'{drive.trouble or "nothing was driven"}\n')
        return EXIT_FAILED
    findings = judged(drive.records, drive.findings)
    summary = {
        'driver': args.driver,
        'policy': args.policy if args.driver == 'td3' else None,
        'map': args.map,
        'map_seed': args.map_seed,
        'seed': args.seed,
        'spawn_index': args.spawn_index,
        'real_time_factor': args.real_time_factor,
        **summarize(drive.records, world.ego.route),
        'exit_statuses': drive.exit_statuses,
        'findings': [asdict(finding) for finding in findings],
    }
    if drive.trouble:
        summary['trouble'] = drive.trouble
    write_results(args.out, summary, drive, world)
    sys.stdout.write(f'{table(summary)}\n{finding_lines(findings)}\nresults in {args.out}\n')
    wanted = round(args.duration / STEP_S)
    complete = summary['violations'] == 0 and summary['frames'] == wanted
    sound = complete and not any(finding.is_error for finding in findings)
    return 0 if sound and drive.ended_cleanly else EXIT_FAILED


def world_config(args: argparse.Namespace) -> WorldConfig:
    """Return the world that the bridge process builds from the same arguments."""
    return WorldConfig(
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
        f'td3_agent watch (or doctor --live)\n'
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
            trouble = _follow(group, synchronizer.process, ledger_path, args, interruption)
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
    recorder = group.run('recorder', command, aside=True)
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
    synchronizer: subprocess.Popen[bytes],
    ledger_path: Path,
    args: argparse.Namespace,
    interruption: Interruption,
) -> str:
    """Show the progress until the synchronizer has ended; return what went wrong, if anything.

    Raises:
        KeyboardInterrupt: asked to end.
    """
    total = round(args.duration / STEP_S)
    ledger = LineCounter(ledger_path)
    pace_s = max(STEP_S / args.real_time_factor if args.real_time_factor else 0.0, SLOW_FRAME_S)
    deadline_s = time.monotonic() + START_PATIENCE_S + total * pace_s
    with tqdm(total=total, unit='frame', desc='driving', disable=None) as progress:
        while synchronizer.poll() is None:
            interruption.check()
            if (dead := group.ended_early()) and dead.process is not synchronizer:
                return f'{dead.name} ended with {dead.process.returncode}: {dead.last_words()}'
            if time.monotonic() > deadline_s:
                return f'not finished in time: {progress.n} of {total} frames'
            time.sleep(POLL_S)
            progress.update(frames_in(ledger, total) - progress.n)
        progress.update(frames_in(ledger, total) - progress.n)
    return ''


def frames_in(ledger: LineCounter, total: int) -> int:
    """Return how many frames a ledger holds by now; its header and its end are none."""
    return min(max(ledger.update() - HEADER_LINES, 0), total)


class LineCounter:
    """Counts the lines of a file that is being written."""

    def __init__(self, path: Path) -> None:
        """Watch ``path``, which need not exist yet."""
        self._path = path
        self._offset = 0
        self.lines = 0

    def update(self) -> int:
        """Return how many lines there are by now."""
        if self._path.exists():
            with self._path.open('rb') as file:
                file.seek(self._offset)
                new = file.read()
            self._offset += len(new)
            self.lines += new.count(b'\n')
        return self.lines


def who_drives(summary: dict[str, Any]) -> str:
    """Return the driver as people call it."""
    if summary['driver'] == 'td3':
        return f'TD3 policy {Path(summary["policy"]).name}'
    return str(summary['driver']).replace('_', ' ')


def write_results(out: Path, summary: dict[str, Any], drive: Drive, world: World) -> None:
    """Write ``summary.json``, ``trajectory.png`` and ``camera.png``; the ledger lies there."""
    text = json.dumps(summary, indent=2) + '\n'
    (out / 'summary.json').write_text(text, encoding='utf-8')
    title = f'{who_drives(summary)} on {summary["map"]}: {summary["distance_m"] or 0.0:.0f} m'
    driven = [record for record in drive.records if 'x_m' in record]
    plot_trajectory(
        out / 'trajectory.png',
        driven=[(record['x_m'], record['y_m']) for record in driven],
        speed_mps=[record['speed_mps'] for record in driven],
        road=road_polygons(world),
        markings=[marking.points for marking in world.map.markings],
        route=world.ego.route.points_xy,
        events=events(driven),
        title=title,
    )
    if drive.frames:
        start_ns = drive.records[0]['stamp_ns']
        camera_strip(
            out / 'camera.png',
            [pixels for _, pixels in drive.frames],
            [f't = {(stamp - start_ns) / 1e9:.1f} s' for stamp, _ in drive.frames],
            order='bgr',
            title=title,
        )


def road_polygons(world: World) -> list[NDArray[np.float64]]:
    """Return the outlines of all lanes, (K, 2) [m] each."""
    return [np.vstack((lane.left, lane.right[::-1])) for lane in world.map.lanes]

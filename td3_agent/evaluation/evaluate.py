# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Evaluation: many episodes on unseen roads; ends with figures, intervals, ledgers, a picture."""

from __future__ import annotations

import argparse
from contextlib import closing
from dataclasses import asdict, dataclass, fields
from itertools import chain
import os
from pathlib import Path
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from td3_agent.driving.ledger import LedgerWriter, read_ledger
from td3_agent.evaluation.direct_episodes import (
    DIRECT,
    DIRECT_DRIVERS,
    FOLLOWING,
    DirectDriverParams,
    DirectJob,
    drive_jobs,
    load_direct_driver,
)
from td3_agent.evaluation.episodes import EpisodePlan, EvaluationError
from td3_agent.evaluation.intervals import totals
from td3_agent.evaluation.ledger_command import agreement
from td3_agent.evaluation.pictures import plot_gallery
from td3_agent.evaluation.result_tables import episode_csv, report
from td3_agent.evaluation.scenarios import (
    DECIDED,
    SCENARIOS,
    check_traffic,
    check_undecided,
)
from td3_agent.files import write_json
from td3_agent.nodes.drivers import DriverParams
from td3_agent.policy.policy_file import SHIPPED_NAMES
from td3_agent.processes import busy_processes, interruptions_noted
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.randomisation import FAMILIES
from td3_agent.training.params import add_ray_argument

if TYPE_CHECKING:
    from td3_agent.driving.endpoints import Finding
    from td3_agent.evaluation.episode_result import EpisodeResult
    from td3_agent.evaluation.episodes import Episode
    from td3_agent.processes import Interruption

ROS = 'ros'
DRIVER = 'driver'  # row of the driver that is evaluated
REFERENCES = {
    'untrained': DirectDriverParams(driver='td3', policy='untrained'),
    'pure_pursuit': DirectDriverParams(driver='pure_pursuit'),
}
SCENARIO_REFERENCES = {
    FOLLOWING: DirectDriverParams(driver=FOLLOWING),
    'pure_pursuit': DirectDriverParams(driver='pure_pursuit'),
}
TITLES = {'pure_pursuit': 'pure pursuit', FOLLOWING: 'pure pursuit idm'}
EXIT_FAILED = 1
EXIT_INTERRUPTED = 130

Rows = dict[str, list['EpisodeResult']]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What is evaluated, and how.

    Attributes:
        plan: the episodes.
        driver: who drives.
        transport: of the episodes whose figures count, direct or ros.
        compare: whether the other transport drives them too.
        references: reference drivers that drive them too, by the name of their row.
        scenario: name of the scenario; empty: the arguments decide on the road.
        processes: for in-process episodes.
        ray: address of the Ray that drives these episodes; None for processes of our own.
        busy: processes that keep the processor busy all the while.
        out: folder of the results.
    """

    plan: EpisodePlan
    driver: DirectDriverParams
    transport: str
    compare: bool
    references: dict[str, DirectDriverParams]
    scenario: str
    processes: int
    ray: str | None
    busy: int
    out: Path

    @property
    def episodes(self) -> list[Episode]:
        """All episodes of the plan."""
        return [self.plan.episode(number) for number in range(self.plan.episodes)]

    @property
    def transports(self) -> tuple[str, ...]:
        """Transports that the driver drives over, the one that counts first."""
        other = DIRECT if self.transport == ROS else ROS
        return (self.transport, other) if self.compare else (self.transport,)

    @property
    def title(self) -> str:
        """Who drives, for headings."""
        if self.driver.driver in TITLES:
            return TITLES[self.driver.driver]
        return f'TD3 {Path(self.driver.policy).name}'

    def ledger_path(self, episode: Episode, transport: str) -> Path:
        """Return the ledger file of one episode."""
        name = 'ledger' if transport == self.transport else f'ledger_{transport}'
        return self.out / f'episode_{episode.number:03d}' / f'{name}.jsonl'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the subcommand."""
    plan = EpisodePlan()
    parser.add_argument('--driver', choices=DIRECT_DRIVERS, default='td3', help='who')
    parser.add_argument(
        '--policy',
        default='',
        help=f'{SHIPPED_NAMES} (default: lane), untrained, or a .safetensors file',
    )
    parser.add_argument(
        '--transport',
        choices=(DIRECT, ROS),
        default=DIRECT,
        help='one process, or the four ROS 2 processes in lockstep',
    )
    parser.add_argument('--episodes', type=int, default=plan.episodes, help='how many')
    parser.add_argument(
        '--seed', type=int, default=plan.seed, help='chooses roads, starts, parked cars, light'
    )
    parser.add_argument(
        '--scenario', choices=tuple(SCENARIOS), default='', help='see td3_agent scenarios'
    )
    parser.add_argument(
        '--pictures',
        type=Path,
        metavar='DIR',
        help='instead of driving: steer on the frames that DIR/frames.csv names',
    )
    parser.add_argument(
        '--map',
        default=argparse.SUPPRESS,
        help=f'a built-in map or an .xodr file, with --scenario too (default: {plan.map})',
    )
    parser.add_argument(
        '--family', choices=tuple(FAMILIES), default=plan.family, help='of unseen or seen roads'
    )
    parser.add_argument(
        '--route-length',
        type=float,
        dest='route_length_m',
        default=plan.route_length_m,
        help='longest route [m]',
    )
    parser.add_argument(
        '--least-mean-speed',
        type=float,
        dest='least_mean_speed_mps',
        default=argparse.SUPPRESS,
        help=f'the time limit is the route at this speed [m/s] + {plan.time_allowance_s:g} s '
        f'(default: {plan.least_mean_speed_mps})',
    )
    parser.add_argument(
        '--parked-vehicles', type=int, default=plan.parked_vehicles, help='beside each road'
    )
    parser.add_argument('--camera-width', type=int, default=plan.camera_width, help='[px]')
    parser.add_argument('--camera-height', type=int, default=plan.camera_height, help='[px]')
    parser.add_argument(
        '--compare', action='store_true', help='drive over both transports; hashes must agree'
    )
    parser.add_argument(
        '--no-references', action='store_true', help='without the rows of reference drivers'
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument(
        '--jobs', type=int, default=cores, help='processes for in-process episodes'
    )
    add_ray_argument(parser, 'drive in-process episodes by workers of Ray')
    parser.add_argument(
        '--load', type=int, default=0, help='busy processes that take the processor away'
    )
    parser.add_argument('--out', type=Path, default=Path('evaluation'), help='for the results')


def run(args: argparse.Namespace) -> int:
    """Drive all episodes, write the results, and return the exit status.

    0 only if every frame has a command, the ledgers show no violation, and, with
    ``--compare``, both transports agree.

    Raises:
        ValueError: an argument, the map or the checkpoint is invalid.
    """
    if args.pictures is not None:
        return look_at_pictures(args)
    evaluation = evaluation_of(args)
    check_drivable(evaluation)  # before anything moves
    prepare(evaluation)
    try:
        with (
            interruptions_noted(raising=True) as interruption,
            busy_processes(evaluation.busy),
        ):
            rows = drive_all(evaluation, interruption)
    except KeyboardInterrupt:
        sys.stderr.write('interrupted: all processes ended, no summary written\n')
        return EXIT_INTERRUPTED
    except EvaluationError as error:
        sys.stderr.write(f'td3_agent evaluate: {error}\n')
        return EXIT_FAILED
    summary = summarize(evaluation, rows)
    write_results(evaluation, summary, rows)
    sys.stdout.write(report(summary, evaluation.out))
    return 0 if holds(summary) else EXIT_FAILED


def look_at_pictures(args: argparse.Namespace) -> int:
    """Steer on recorded frames and return the exit status; raise ValueError on invalid input."""
    from td3_agent.evaluation.picture_benchmark import run_pictures  # noqa: PLC0415
    from td3_agent.sim.camera import CameraConfig  # noqa: PLC0415

    if args.scenario or args.compare or args.transport == ROS or hasattr(args, 'map'):
        raise ValueError('--pictures drives nowhere: leave out --map, --scenario and --transport')
    if args.driver == FOLLOWING:
        raise ValueError(f'--driver {FOLLOWING} needs a world, --pictures has none')
    check_policy_is_for_td3(args)
    params = DriverParams(driver=args.driver, policy=args.policy or 'lane')
    camera = CameraConfig(width=args.camera_width, height=args.camera_height)
    sys.stdout.write(run_pictures(args.pictures, params, camera, args.out))
    return 0


def check_policy_is_for_td3(args: argparse.Namespace) -> None:
    """Raise ValueError if a policy is given for another driver than TD3."""
    if args.driver != 'td3' and args.policy:
        raise ValueError(f'--policy is for --driver td3, got {args.policy!r} for {args.driver}')


def evaluation_of(args: argparse.Namespace) -> Evaluation:
    """Check the arguments.

    Raises:
        ValueError: a value is invalid.
    """
    if args.jobs < 1:
        raise ValueError(f'--jobs must be >= 1, got {args.jobs}')
    if args.load < 0:
        raise ValueError(f'--load must be >= 0, got {args.load}')
    check_policy_is_for_td3(args)
    if args.driver == FOLLOWING and (args.transport == ROS or args.compare):
        raise ValueError(f'--driver {FOLLOWING} needs --transport direct: it reads the simulator')
    if args.scenario:
        check_undecided({name: getattr(args, name) for name in DECIDED if hasattr(args, name)})
    names = [spec.name for spec in fields(EpisodePlan) if hasattr(args, spec.name)]
    plan = EpisodePlan(**{name: getattr(args, name) for name in names})
    references = SCENARIO_REFERENCES if args.scenario else REFERENCES
    return Evaluation(
        plan=SCENARIOS[args.scenario].plan(plan) if args.scenario else plan,
        scenario=args.scenario,
        driver=DirectDriverParams(driver=args.driver, policy=args.policy or 'lane'),
        transport=args.transport,
        compare=args.compare,
        references={} if args.no_references else references,
        processes=args.jobs,
        ray=args.ray,
        busy=args.load,
        out=args.out,
    )


def check_drivable(evaluation: Evaluation) -> None:
    """Raise ValueError if the driver, the map or the scenario cannot be driven."""
    load_direct_driver(evaluation.driver, evaluation.plan.episode(0).simulator())
    if evaluation.scenario and evaluation.plan.map not in BUILT_IN:
        for episode in evaluation.episodes:
            check_traffic(evaluation.scenario, episode.number, episode.simulator())


def prepare(evaluation: Evaluation) -> None:
    """Make the folder and remove the results of an earlier evaluation."""
    evaluation.out.mkdir(parents=True, exist_ok=True)
    for name in ('summary.json', 'ledger.jsonl', 'episodes.csv', 'trajectories.png'):
        (evaluation.out / name).unlink(missing_ok=True)
    for path in evaluation.out.glob('episode_[0-9][0-9][0-9]*/*'):
        if path.suffix in {'.jsonl', '.log'}:
            path.unlink()


def drive_all(evaluation: Evaluation, interruption: Interruption) -> Rows:
    """Drive every episode with every driver; return the results by row, episodes in order.

    Raises:
        KeyboardInterrupt: asked to end.
        EvaluationError: an episode could not be driven to its end.
    """
    rows: Rows = {}
    jobs = in_process_jobs(evaluation)
    ros_episodes = evaluation.episodes if ROS in evaluation.transports else []
    over_ros = ({row_name(ROS): drive_over_ros(evaluation, one)} for one in ros_episodes)
    count = len(jobs) + len(ros_episodes)
    start_s = time.monotonic()
    with (
        tqdm(total=count, unit='episode', desc='evaluating', disable=None) as progress,
        closing(drive_jobs(jobs, evaluation.processes, evaluation.ray)) as in_process,
    ):
        for done, results in enumerate(chain(in_process, over_ros), start=1):
            for row, one in results.items():
                rows.setdefault(row, []).append(one)
            progress.update()
            if progress.disable:  # no terminal
                sys.stderr.write(progress_line(done, count, time.monotonic() - start_s))
            interruption.check()
    return rows


def progress_line(done: int, count: int, elapsed_s: float) -> str:
    """Return a line of progress at each tenth of the episodes, else nothing."""
    if 10 * done // count == 10 * (done - 1) // count:
        return ''
    left_s = elapsed_s / done * (count - done)
    return f'evaluating: {done} of {count} episodes, {elapsed_s:.0f} s, {left_s:.0f} s left\n'


def drive_over_ros(evaluation: Evaluation, episode: Episode) -> EpisodeResult:
    """Drive one episode over ROS; nothing else here needs it."""
    from td3_agent.evaluation import ros_episodes  # noqa: PLC0415

    path = evaluation.ledger_path(episode, ROS)
    return ros_episodes.drive_over_ros(evaluation.plan, episode, evaluation.driver, path)


def in_process_jobs(evaluation: Evaluation) -> list[DirectJob]:
    """Return the in-process episodes; each driver drives each of them once."""
    drivers = dict(evaluation.references)
    direct = DIRECT in evaluation.transports
    if direct:
        drivers = {name: who for name, who in drivers.items() if who != evaluation.driver}
        drivers = {row_name(DIRECT): evaluation.driver} | drivers
    if not drivers:
        return []
    return [
        DirectJob(
            plan=evaluation.plan,
            episode=episode,
            drivers=drivers,
            ledgers={row_name(DIRECT): evaluation.ledger_path(episode, DIRECT)},
        )
        for episode in evaluation.episodes
    ]


def row_name(transport: str) -> str:
    """Return the row of the evaluated driver."""
    return f'{DRIVER} {transport}'


def summarize(evaluation: Evaluation, rows: Rows) -> dict[str, Any]:
    """Return everything that goes into ``summary.json``."""
    episodes = [one.figures for one in rows[row_name(evaluation.transport)]]
    summary: dict[str, Any] = {
        'title': evaluation.title,
        'driver': evaluation.driver.driver,
        'policy': evaluation.driver.policy,
        'transport': evaluation.transport,
        'scenario': evaluation.scenario,
        'plan': asdict(evaluation.plan),
        'busy_processes': evaluation.busy,
        **totals(episodes),
        'findings': found_by(rows[row_name(evaluation.transport)]),
    }
    if evaluation.references:
        summary['references'] = {
            name: reference_row(evaluation, rows, name, who)
            for name, who in evaluation.references.items()
        }
    if evaluation.compare:
        summary['comparison'] = [compare(evaluation, e) for e in evaluation.episodes]
    summary['episodes'] = episodes
    return summary


def found_by(results: list[EpisodeResult]) -> list[dict[str, Any]]:
    """Return every finding with the numbers of its episodes."""
    found: dict[Finding, list[int]] = {}
    for one in results:
        for finding in one.findings:
            found.setdefault(finding, []).append(one.figures['episode'])
    return [{**asdict(finding), 'episodes': numbers} for finding, numbers in found.items()]


def reference_row(
    evaluation: Evaluation, rows: Rows, name: str, who: DirectDriverParams
) -> dict[str, Any]:
    """Return the figures of a reference driver, which may be the evaluated driver itself."""
    itself = who == evaluation.driver and DIRECT in evaluation.transports
    figures = totals([one.figures for one in rows[row_name(DIRECT) if itself else name]])
    same = itself and evaluation.transport == DIRECT
    return {'transport': DIRECT, 'is_the_driver': same, **figures}


def compare(evaluation: Evaluation, episode: Episode) -> dict[str, Any]:
    """Return how the two transports agree on an episode."""
    direct, ros = (
        list(read_ledger(evaluation.ledger_path(episode, transport)))
        for transport in (DIRECT, ROS)
    )
    return {'episode': episode.number, **agreement(direct, ros)}


def holds(summary: dict[str, Any]) -> bool:
    """Whether every frame has a command, and both transports agree where they are compared."""
    sound = summary['violations'] == 0 and summary['frames_not_ok'] == 0
    sound = sound and not any(finding['is_error'] for finding in summary['findings'])
    return sound and all(row['equal'] for row in summary.get('comparison', ()))


def write_results(evaluation: Evaluation, summary: dict[str, Any], rows: Rows) -> None:
    """Write picture, table, ledger; then the summary, atomically."""
    out = evaluation.out
    results = rows[row_name(evaluation.transport)]
    map_name = Path(evaluation.plan.map).stem
    if evaluation.scenario:
        map_name = f'{evaluation.scenario}, {map_name}'
    title = f'{evaluation.title} on {len(results)} roads: {map_name} ({evaluation.transport})'
    plot_gallery(out / 'trajectories.png', results, title)
    (out / 'episodes.csv').write_text(episode_csv(summary['episodes']), encoding='utf-8')
    join_ledgers(evaluation)
    write_json(out / 'summary.json', summary)


def join_ledgers(evaluation: Evaluation) -> None:
    """Write one ledger of all episodes; each record says which ``episode`` it belongs to."""
    kind = 'td3_agent evaluation ledger'
    with LedgerWriter(evaluation.out / 'ledger.jsonl', kind=kind) as joined:
        for episode in evaluation.episodes:
            for record in read_ledger(evaluation.ledger_path(episode, evaluation.transport)):
                joined.write({'episode': episode.number, **record})

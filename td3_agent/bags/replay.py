# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Replay a bag: offline, through the agent's code alone, or live, to a running agent.

Offline needs no ROS 2. The driver acts on every frame of the bag; summary.json and
ledger.jsonl have the recorded and the new action of each.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
from itertools import zip_longest
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.bags.bag import Bag
from td3_agent.bags.inputs import begin_ns, find_inputs
from td3_agent.bags.offline import replay_offline
from td3_agent.bags.storage import BagError
from td3_agent.driving.agent import action_sha256
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.ledger import LedgerWriter, read_ledger
from td3_agent.evaluation.result_tables import aligned
from td3_agent.evaluation.summary import table
from td3_agent.files import write_json
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.policy.policy_file import SHIPPED_NAMES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from td3_agent.bags.bag import Contents
    from td3_agent.bags.inputs import Inputs
    from td3_agent.bags.offline import Replay

EXIT_FAILED = 1
KIND = 'td3_agent replay ledger'
PURE_PURSUIT = 'pure_pursuit'
Record = dict[str, Any]
COMPARED = ('observation_sha256', 'action_sha256', 'twist')
NANOSECONDS = 1e9


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('bag', type=Path, help='a bag: its folder, or an .mcap or .db3 file')
    parser.add_argument(
        '--policy',
        action='append',
        default=None,
        help=f'{SHIPPED_NAMES}, untrained, a .safetensors file, or pure_pursuit; '
        'given twice: compare; none: lane',
    )
    parser.add_argument(
        '--expect',
        type=Path,
        default=None,
        metavar='LEDGER',
        help='exit status 1 if the result differs from this ledger',
    )
    parser.add_argument('--role-name', default='', help='of the vehicle; empty: the only one')
    parser.add_argument('--image-topic', default='', help="empty: the vehicle's only camera")
    parser.add_argument('--odometry-topic', default='', help='empty: /carla/<role_name>/odometry')
    parser.add_argument(
        '--twist-convention',
        choices=tuple(convention.value for convention in TwistConvention),
        default=TwistConvention.VELOCITY.value,
        help='what the numbers of a Twist mean',
    )
    parser.add_argument(
        '--start-offset', type=float, default=0.0, help='leave out this much of the start [s]'
    )
    live = parser.add_argument_group('live', 'publish the bag, with /clock, to a running agent')
    live.add_argument('--live', action='store_true', help='play to an agent over ROS 2')
    live.add_argument(
        '--start-agent', action='store_true', help='start the agent too, driving by --policy'
    )
    live.add_argument('--rate', type=float, default=1.0, help='recorded time per wall time')
    live.add_argument(
        '--loop',
        action=argparse.BooleanOptionalAction,
        default=False,
        help='repeat until Ctrl-C',
    )
    parser.add_argument('--out', type=Path, default=Path('replay'), help='folder for the results')


def run(args: argparse.Namespace) -> int:
    """Replay, write the results, and return the exit status.

    0 only if at least half of the images led to an action, each file was read to its end and, with
    ``--expect``, nothing differs. Other faults of the bag for this driver are warnings.

    Raises:
        ValueError: the bag, the policy or the ledger is invalid.
        OSError: a file cannot be read or written.
    """
    if not args.live and (args.rate != 1.0 or args.loop or args.start_agent):
        raise BagError('--rate, --loop and --start-agent need --live')
    bag = Bag(args.bag)
    contents = bag.contents()
    inputs = find_inputs(contents, args.role_name, args.image_topic, args.odometry_topic)
    begin_ns(contents, args.start_offset)  # raises before anything is written
    expected = list(read_ledger(args.expect)) if args.expect else None
    args.out.mkdir(parents=True, exist_ok=True)
    replays = replays_of(args, bag, contents, inputs)
    summaries = {name: summarize(replay) for name, replay in replays.items()}
    summary: dict[str, Any] = {'bag': str(args.bag.resolve()), 'image_topic': inputs.image}
    if len(replays) == 1:
        (only,) = summaries.values()
        summary |= only
    else:
        summary['policies'] = summaries
    first = next(iter(replays.values()))
    if expected is not None:
        summary['expected'] = str(args.expect)
        summary['first_difference'] = first_difference(expected, first.records)
    write_results(args.out, summary, replays)
    several = len(replays) > 1
    sys.stdout.write((aligned(comparison_rows(replays)) if several else table(summary)) + '\n')
    errors, warnings = findings_of(replays)
    errors = [*first.torn, *(nothing_done(first, inputs, args) or errors)]
    if summary.get('first_difference'):
        errors.append(f'differs from {args.expect}: {summary["first_difference"]}')
    rejected = [f'{topic}: {n} rejected: {why}' for topic, (n, why) in first.rejected.items()]
    for line in (*rejected, *warnings, *errors):
        sys.stderr.write(f'{line}\n')
    return EXIT_FAILED if errors else 0


def findings_of(replays: dict[str, Replay]) -> tuple[list[str], list[str]]:
    """Return the errors of the replays, and their warnings, marked as such."""
    lines: dict[str, bool] = {}
    for name, replay in replays.items():
        of = f'{name}: ' if len(replays) > 1 else ''
        lines |= {of + finding.text: finding.is_error for finding in replay.findings}
    errors = [text for text, is_error in lines.items() if is_error]
    return errors, [f'warning: {text}' for text, is_error in lines.items() if not is_error]


def nothing_done(replay: Replay, inputs: Inputs, args: argparse.Namespace) -> list[str]:
    """Return why no frame led to an action; empty if one did."""
    if any('action' in record for record in replay.records):
        return []
    rejected = [name for name in (inputs.image, inputs.odometry) if name in replay.rejected]
    if rejected:
        return [f'{args.bag}: no frame led to an action: {rejected[0]} was rejected']
    after = f' after the start offset of {args.start_offset:g} s' if args.start_offset else ''
    return [f'{args.bag}: no image has an odometry of the same stamp{after}']


def replays_of(
    args: argparse.Namespace, bag: Bag, contents: Contents, inputs: Inputs
) -> dict[str, Replay]:
    """Replay with every policy, or with a running agent; return the replays by name.

    Raises:
        BagError: no agent is ready, or the bag is damaged.
    """
    policies = args.policy or ['lane']
    if args.live:
        from td3_agent.bags.live import run_live  # noqa: PLC0415  offline needs no ROS

        if len(policies) > 1:
            raise BagError(f'--live has one agent, got {len(policies)} policies')
        return {'live': run_live(args, bag, contents, inputs)}
    replays: dict[str, Replay] = {}
    for policy in policies:
        chosen = 'driver' if policy == PURE_PURSUIT else 'policy'
        loaded = make_driver(DriverParams(**{chosen: policy}))
        name = Path(policy).name
        if name in replays:
            name = f'{name} {len(replays) + 1}'
        replays[name] = replay_offline(
            bag, contents, inputs, loaded, args.twist_convention, args.start_offset
        )
    return replays


def write_results(out: Path, summary: dict[str, Any], replays: dict[str, Replay]) -> None:
    """Write ledgers, the picture of several policies, and last the summary."""
    several = len(replays) > 1
    for name, replay in replays.items():
        folder = out / name if several else out
        with LedgerWriter(folder / 'ledger.jsonl', kind=KIND) as ledger:
            for record in replay.records:
                ledger.write(record)
    if several:
        title = f'{" and ".join(replays)} on {Path(summary["bag"]).name}'
        plot_actions(out / 'comparison.png', replays, title)
    write_json(out / 'summary.json', summary)


def simulated_s(records: Sequence[Record]) -> float:
    """Return how much simulated time the frames span [s]; jumps back count as nothing."""
    stamps = np.array([record['stamp_ns'] for record in records], dtype=np.int64)
    steps = np.diff(stamps)
    usual = float(np.median(steps)) if len(steps) else 0.0
    forward = steps[(steps > 0) & (steps < NANOSECONDS)]
    return (float(forward.sum()) + usual) / NANOSECONDS


def summarize(replay: Replay) -> dict[str, Any]:
    records = replay.records
    compared = [r for r in records if 'action' in r and 'action' in r['recorded']]
    differences = np.array([np.subtract(r['action'], r['recorded']['action']) for r in compared])
    span_s = simulated_s(records)
    return {
        'driver': replay.title,
        'frames': len(records),
        'simulated_s': span_s,
        'wall_s': replay.wall_s,
        'times_real_time': span_s / replay.wall_s if replay.wall_s else None,
        'frames_compared': len(compared),
        'observations_equal': _equal(records, 'observation_sha256'),
        'actions_equal': _equal(records, 'action_sha256'),
        'twists_equal': sum(r['published_twist'] == r['recorded'].get('twist') for r in records),
        'speed_action_difference': _size(differences, 0),
        'yaw_action_difference': _size(differences, 1),
        'pairing': replay.pairing,
        'rejected': {
            topic: {'messages': n, 'first': why} for topic, (n, why) in replay.rejected.items()
        },
        'torn': replay.torn,
        'findings': [asdict(finding) for finding in replay.findings],
    }


def _equal(records: Iterable[Record], name: str) -> int:
    return sum(name in r and r[name] == r['recorded'].get(name) for r in records)


def _size(differences: NDArray[np.float64], column: int) -> dict[str, float] | None:
    """Return mean and maximum of one action's differences [1, full scale is 1]."""
    if not len(differences):
        return None
    sizes = np.abs(differences[:, column])
    return {'mean': float(sizes.mean()), 'max': float(sizes.max())}


def first_difference(expected: Iterable[Record], records: Iterable[Record]) -> str:
    """Return the first difference between a replay and a ledger; empty if there is none.

    Skips frames of the ledger without an action, and frames of the replay between two frames of
    the ledger: idle ticks, in which the agent infers but the car must not drive.
    """
    expected = list(expected)
    wanted = [record for record in expected if 'action' in record]
    if not wanted:
        return 'the expected ledger has no frame with an action'
    idle = list(_gaps(expected))
    answered = (
        record
        for record in records
        if 'action' in record and not any(a < record['stamp_ns'] < b for a, b in idle)
    )
    for number, (there, here) in enumerate(zip_longest(wanted, answered)):
        if there is None:
            return f'frame {number} (stamp {here["stamp_ns"]} ns) is not in the expected ledger'
        if difference := _difference(there, here):
            stamp_ns, frame = there['stamp_ns'], there['frame']
            where = f'frame {number} of the bag (stamp {stamp_ns} ns, frame {frame} in the ledger)'
            return f'{where}: {difference}'
    return ''


def _gaps(expected: Iterable[Record]) -> Iterator[tuple[int, int]]:
    """Yield the stamps between which frame numbers of a ledger are missing [ns]."""
    frame, stamp = -1, -1
    for record in expected:
        if record['frame'] > frame + 1 and 'stamp_ns' in record:
            yield stamp, record['stamp_ns']
        frame, stamp = record['frame'], record.get('stamp_ns', stamp)


def _difference(there: Record, here: Record | None) -> str:
    """Return the difference of a frame from the ledger's; empty if they are equal."""
    if here is None:
        return 'missing in the replay'
    if here['stamp_ns'] != there['stamp_ns']:
        return f'the replay has stamp {here["stamp_ns"]} ns'
    for name in COMPARED:
        if name in there or name == 'action_sha256':
            want, have = _value(there, name), _value(here, name)
            if want != have:
                return f'{name} must be {want}, got {have}'
    return ''


def _value(record: Record, name: str) -> Any:  # noqa: ANN401  a value of JSON
    """Return a field; the hash of an action is computed from it."""
    return action_sha256(record['action']) if name == 'action_sha256' else record.get(name)


def _actions(replays: dict[str, Replay]) -> dict[str, list[list[float] | None]]:
    """Return the actions of every driver and of the recording, one per frame if there is one."""
    base = next(iter(replays.values())).records
    columns = {name: [r.get('action') for r in replay.records] for name, replay in replays.items()}
    return {'recorded': [r['recorded'].get('action') for r in base]} | columns


def comparison_rows(replays: dict[str, Replay]) -> list[list[str]]:
    """Return a table that compares each driver, and the recording, with the first driver."""
    columns, first = _actions(replays), next(iter(replays))
    mine = columns.pop(first)
    rows = [
        ['against ' + first, 'frames', 'equal', 'speed mean', 'speed max', 'yaw mean', 'yaw max']
    ]
    for name, actions in columns.items():
        pairs = [(a, b) for a, b in zip(mine, actions, strict=False) if a and b]
        figures = ['-'] * 5
        if pairs:
            sizes = np.abs(np.array([np.subtract(a, b) for a, b in pairs]))
            found = [size(sizes[:, column]) for column in (0, 1) for size in (np.mean, np.max)]
            figures = [str(sum(a == b for a, b in pairs)), *(f'{x:.4f}' for x in found)]
        rows.append([name, str(len(pairs)), *figures])
    return rows


def plot_actions(path: Path, replays: dict[str, Replay], title: str) -> None:
    """Draw both actions of every driver, and the recorded ones, over simulated time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11.0, 6.0), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True)
    stamps = np.array([r['stamp_ns'] for r in next(iter(replays.values())).records])
    times_s = (stamps - stamps[:1]) / NANOSECONDS
    for column, label in enumerate(('speed action [1]', 'yaw action [1], left positive')):
        axis = axes[column]
        for name, actions in _actions(replays).items():
            known = [(t, a[column]) for t, a in zip(times_s, actions, strict=False) if a]
            recorded = name == 'recorded'
            style = {'color': '#9aa0a6', 'linewidth': 4.0} if recorded else {'linewidth': 1.3}
            axis.plot(*np.array(known).reshape(-1, 2).T, label=name, **style)
        axis.set_ylabel(label)
        axis.set_ylim(-1.08, 1.08)
        axis.grid(color='#e3e6e8')
        axis.spines[['top', 'right']].set_visible(False)
    axes[-1].set_xlabel('simulated time [s]')
    axes[0].legend(frameon=False, ncols=4, loc='lower right', bbox_to_anchor=(1.0, 1.0))
    axes[0].set_title(title, loc='left')
    figure.savefig(path, dpi=130)

# SPDX-License-Identifier: Apache-2.0
"""Replay a bag: offline, through the agent's code alone, or live, to a running agent.

Offline needs no ROS 2. Every frame of the bag is answered; summary.json and ledger.jsonl have
the recorded and the new action of each.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from td3_agent.bags.bag import Bag
from td3_agent.bags.comparing import comparison_rows, first_difference, plot_actions, summarize
from td3_agent.bags.errors import BagError
from td3_agent.bags.inputs import begin_ns, find_inputs
from td3_agent.bags.offline import replay_offline
from td3_agent.driving.command import TwistConvention
from td3_agent.driving.ledger import LedgerWriter, read_ledger
from td3_agent.evaluation.result_tables import aligned
from td3_agent.evaluation.summary import table
from td3_agent.nodes.drivers import SHIPPED_NAMES, DriverParams, make_driver

if TYPE_CHECKING:
    from td3_agent.bags.bag import Contents
    from td3_agent.bags.inputs import Inputs
    from td3_agent.bags.offline import Replay

EXIT_FAILED = 1
KIND = 'td3_agent replay ledger'
PURE_PURSUIT = 'pure_pursuit'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument('bag', type=Path, help='a bag: its folder, or an .mcap or .db3 file')
    parser.add_argument(
        '--policy',
        action='append',
        default=None,
        help=f'{SHIPPED_NAMES}, untrained, a checkpoint folder, or pure_pursuit; '
        'given twice: compare; none: lane',
    )
    parser.add_argument(
        '--expect', type=Path, default=None, metavar='LEDGER', help='must be equal to this ledger'
    )
    parser.add_argument('--role-name', default='', help='of the vehicle; empty: the only one')
    parser.add_argument('--image-topic', default='', help="empty: the vehicle's only camera")
    parser.add_argument('--odometry-topic', default='', help='empty: /carla/<role_name>/odometry')
    parser.add_argument(
        '--twist-convention',
        choices=tuple(convention.value for convention in TwistConvention),
        default=TwistConvention.VELOCITY.value,
        help='how Twist is meant',
    )
    parser.add_argument(
        '--start-offset', type=float, default=0.0, help='begin this long after the start [s]'
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
        help='begin anew at the end, until Ctrl-C',
    )
    parser.add_argument('--out', type=Path, default=Path('replay'), help='for the results')


def run(args: argparse.Namespace) -> int:
    """Replay, write the results, and return the exit status.

    0 only if at least half of the images were answered, every file was read to its end and, with
    ``--expect``, nothing differs. What else is wrong with the bag for this driver is a warning.

    Raises:
        ValueError: the bag, the policy or the ledger was refused; the text says why.
        OSError: a file cannot be read or written.
    """
    if not args.live and (args.rate != 1.0 or args.loop or args.start_agent):
        raise BagError('--rate, --loop and --start-agent need --live')
    bag = Bag(args.bag)
    contents = bag.contents()
    inputs = find_inputs(contents, args.role_name, args.image_topic, args.odometry_topic)
    begin_ns(contents, args.start_offset)  # refused before anything is begun
    expected = list(read_ledger(args.expect)) if args.expect else None
    args.out.mkdir(parents=True, exist_ok=True)
    drive = play_live if args.live else drive_all
    replays = drive(args, bag, contents, inputs)
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
    sys.stdout.write(report(summary, replays))
    errors, warnings = told(replays)
    trouble = [*first.torn, *(nothing_done(first, inputs, args) or errors)]
    if summary.get('first_difference'):
        trouble.append(f'differs from {args.expect}: {summary["first_difference"]}')
    for line in (*refusals(first), *warnings, *trouble):
        sys.stderr.write(f'{line}\n')
    return EXIT_FAILED if trouble else 0


def refusals(replay: Replay) -> list[str]:
    """Return which messages were refused, topic by topic."""
    return [f'{topic}: {n} refused: {why}' for topic, (n, why) in replay.refused.items()]


def told(replays: dict[str, Replay]) -> tuple[list[str], list[str]]:
    """Return what is wrong with the replays: errors, and warnings marked as such."""
    lines: dict[str, bool] = {}
    for name, replay in replays.items():
        of = f'{name}: ' if len(replays) > 1 else ''
        lines |= {of + finding.text: finding.is_error for finding in replay.findings}
    errors = [text for text, is_error in lines.items() if is_error]
    return errors, [f'warning: {text}' for text, is_error in lines.items() if not is_error]


def nothing_done(replay: Replay, inputs: Inputs, args: argparse.Namespace) -> list[str]:
    """Return why no frame was answered; nothing if one was."""
    if any('action' in record for record in replay.records):
        return []
    refused = [name for name in (inputs.image, inputs.odometry) if name in replay.refused]
    if refused:
        return [f'{args.bag}: no frame is answered, because {refused[0]} is refused']
    after = f' after the start offset of {args.start_offset:g} s' if args.start_offset else ''
    return [f'{args.bag}: no image has an odometry of the same stamp{after}']


def drive_all(
    args: argparse.Namespace, bag: Bag, contents: Contents, inputs: Inputs
) -> dict[str, Replay]:
    """Return what every policy makes of the bag, by name."""
    replays: dict[str, Replay] = {}
    for policy in args.policy or ['lane']:
        equipment = make_driver(driver_params(policy))
        name = Path(policy).name
        if name in replays:
            name = f'{name} {len(replays) + 1}'
        replays[name] = replay_offline(
            bag, contents, inputs, equipment, args.twist_convention, args.start_offset
        )
    return replays


def play_live(
    args: argparse.Namespace, bag: Bag, contents: Contents, inputs: Inputs
) -> dict[str, Replay]:
    """Return what a running agent makes of the bag.

    Raises:
        BagError: no agent is there, or the bag is damaged.
    """
    from td3_agent.bags.live_run import run_live  # noqa: PLC0415  offline needs no ROS

    if args.policy and len(args.policy) > 1:
        raise BagError(f'--live has one agent, got {len(args.policy)} policies')
    return {'live': run_live(args, bag, contents, inputs)}


def driver_params(policy: str) -> DriverParams:
    """Return the parameters of the driver that ``--policy`` names."""
    if policy == PURE_PURSUIT:
        return DriverParams(driver=PURE_PURSUIT)
    return DriverParams(policy=policy)


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
    text = json.dumps(summary, indent=2) + '\n'
    (out / 'summary.json').write_text(text, encoding='utf-8')


def report(summary: dict[str, Any], replays: dict[str, Replay]) -> str:
    """Return what is printed at the end."""
    if len(replays) == 1:
        return table(summary) + '\n'
    return aligned(comparison_rows(replays)) + '\n'

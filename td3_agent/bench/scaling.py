# SPDX-License-Identifier: Apache-2.0
"""What a vehicle more and a larger image cost: lockstep with one synchronizer, in ms per frame.

Each case drives the shipped policy over ROS and on the direct path in one process. All cases
take turns, so that whatever else the machine does meets all of them; figures are medians over
the turns. Lines through them by least squares give the cost per vehicle and per megapixel.
"""

from __future__ import annotations

from dataclasses import dataclass
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from td3_agent.bench import lockstep
from td3_agent.bench.lockstep import Lap, check_counts, drive_directly, drive_over_ros
from td3_agent.driving.stages import END_TO_END
from td3_agent.nodes.runtime import executors

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

ROS, DIRECT = 'ros', 'direct'
PIXELS_PER_MEGAPIXEL = 1e6
MS_PER_S = 1e3


@dataclass(frozen=True)
class Case:
    """One drive: how many vehicles, and what each of them sees."""

    vehicles: int
    width: int
    height: int

    @property
    def name(self) -> str:
        """What it is called in the report."""
        return f'{self.vehicles} x {self.width}x{self.height}'

    @property
    def megapixels(self) -> float:
        """Size of one image."""
        return self.width * self.height / PIXELS_PER_MEGAPIXEL


ONE = Case(1, 160, 120)
MORE_VEHICLES = (ONE, Case(2, 160, 120), Case(4, 160, 120))
IMAGE_SIZES = (Case(1, 84, 84), ONE, Case(1, 800, 600), Case(1, 1920, 1080))
CASES = tuple(dict.fromkeys((*MORE_VEHICLES, *IMAGE_SIZES)))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=3, help='drives of each kind and case')
    parser.add_argument('--frames', type=int, default=300, help='frames of a drive')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is not positive, or a drive failed.
    """
    check_counts(args)
    executor = next(iter(executors()))  # what the nodes take
    laps: dict[Case, list[Lap]] = {case: [] for case in CASES}
    direct: dict[Case, list[float]] = {case: [] for case in CASES}
    turns = [case for _ in range(args.turns) for case in CASES]
    for case in tqdm(turns, unit='drive', disable=None, leave=False):
        size = (case.width, case.height, case.vehicles)
        direct[case].append(drive_directly(args.frames, *size))
        laps[case].append(drive_over_ros(executor, args.frames, *size))
    report = report_of({case: figures(case, laps[case], direct[case]) for case in CASES})
    return {'frames': args.frames, 'turns': args.turns, 'executor': executor} | report


def figures(case: Case, laps: Sequence[Lap], direct: Sequence[float]) -> dict[str, Any]:
    """Return the figures of one case.

    Args:
        case: what was driven.
        laps: over ROS, one for each turn.
        direct: frames/s on the direct path beside them.
    """
    found = lockstep.case(laps, direct)
    both = [lap.stages_ms.get(END_TO_END, {}) for lap in laps]
    direct_per_s = statistics.median(direct)
    return {
        'vehicles': case.vehicles,
        'width': case.width,
        'height': case.height,
        **found,
        'ms_per_frame': {
            ROS: MS_PER_S / found['frames_per_s'],
            DIRECT: MS_PER_S / direct_per_s,
        },
        'direct_frames_per_s': direct_per_s,
        'end_to_end_ms': {
            name: statistics.median(row[name] for row in both if name in row)
            for name in ('p50', 'p99')
            if any(name in row for row in both)
        },
    }


def report_of(found: Mapping[Case, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the report: every case, and what the lines through them say."""
    return {
        'cases': {case.name: dict(row) for case, row in found.items()},
        'ms_per_vehicle': {
            path: fit([(c.vehicles, found[c]['ms_per_frame'][path]) for c in MORE_VEHICLES])
            for path in (ROS, DIRECT)
        },
        'ms_per_megapixel': {
            path: fit([(c.megapixels, found[c]['ms_per_frame'][path]) for c in IMAGE_SIZES])
            for path in (ROS, DIRECT)
        },
    }


def fit(points: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Return the line through points (x, ms per frame) by least squares.

    Returns:
        ``each``, ms per frame and unit of x, and ``base``, ms per frame where x is 0.
    """
    x, ms = np.array(points, dtype=np.float64).T
    each, base = np.polyfit(x, ms, 1)
    return {'each': float(each), 'base': float(base)}


def table(report: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    columns = ('frames/s', 'direct', 'ratio', 'p50 [ms]', 'p99 [ms]')
    lines = [f'{"vehicles x image":<18}' + ''.join(f'{column:>10}' for column in columns)]
    for name, row in report['cases'].items():
        rates = f'{row["frames_per_s"]:>10.1f}{row["direct_frames_per_s"]:>10.1f}'
        whole = row['end_to_end_ms']
        times = ''.join(f'{whole.get(key, float("nan")):>10.2f}' for key in ('p50', 'p99'))
        lines.append(f'{name:<18}{rates}{row["ratio"]:>10.2f}{times}')
    for unit in ('vehicle', 'megapixel'):
        costs = ', '.join(f'{p} {line["each"]:.2f}' for p, line in cost(report, unit).items())
        lines.append(f'cost per {unit} [ms per frame]: {costs}')
    lines += ['', 'processor time per frame [ms]']
    for name, row in report['cases'].items():
        used = ', '.join(f'{program} {ms:.2f}' for program, ms in row['cpu_ms'].items())
        lines.append(f'  {name}: {used}')
    return '\n'.join(lines)


def cost(report: Mapping[str, Any], unit: str) -> dict[str, dict[str, float]]:
    """Return the lines of a report for a unit, ``vehicle`` or ``megapixel``, by path."""
    return dict(report[f'ms_per_{unit}'])


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return a sentence if the lockstep was broken; how fast it must be, nothing says."""
    violations = sum(row['violations'] for row in report['cases'].values())
    return [f'{violations} violations of the lockstep, expected 0'] if violations else []

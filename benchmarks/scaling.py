# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a vehicle more and a larger image cost: lockstep with one synchronizer, in ms per frame.

Each case drives the shipped policy over ROS and on the direct path in one process. All cases
take turns, so that whatever else the machine does meets all of them; figures are medians over
the turns. Lines through them by least squares give the cost per vehicle and per megapixel.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import statistics
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks import lockstep
from benchmarks.harness import Limit, check_least, in_turns
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
    """Return all figures; ValueError if a drive failed."""
    check_least(args, turns=1, frames=2)
    executor = next(iter(executors()))  # what the nodes take
    drives: list[Any] = []
    for case in CASES:
        drive = (args.frames, case.width, case.height, case.vehicles)
        drives.append(partial(lockstep.drive_directly, *drive))
        drives.append(partial(lockstep.drive_over_ros, executor, *drive))
    driven = in_turns(args.turns, *drives)
    rows = zip(CASES, driven[1::2], driven[::2], strict=True)
    report = report_of({case: figures(case, laps, direct) for case, laps, direct in rows})
    return {'frames': args.frames, 'turns': args.turns, 'executor': executor} | report


def figures(case: Case, laps: Sequence[lockstep.Lap], direct: Sequence[float]) -> dict[str, Any]:
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


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return that the lockstep must hold; there is no limit to how long a frame takes."""
    violations = sum(row['violations'] for row in report['cases'].values())
    return [Limit('violations of the lockstep', violations, most=0)]

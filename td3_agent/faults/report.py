# SPDX-License-Identifier: Apache-2.0
"""What is said of rows that were run: lines for people, JSON for programs."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
import os
import platform
from typing import TYPE_CHECKING, Any

from benchmarks.harness import machine
from td3_agent import __version__

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.faults.row import Outcome

FIGURES_SHOWN = 5
PACKAGES = ('rclpy', 'ros-rclpy', 'numpy', 'torch', 'onnxruntime')


@dataclass(frozen=True)
class Run:
    """One run of one row.

    Attributes:
        name: of the row.
        title: of the row.
        repeat: which repetition, from 0.
        outcome: what came of it.
    """

    name: str
    title: str
    repeat: int
    outcome: Outcome


def line(run: Run) -> str:
    """Return name, title, verdict, seconds and the first figures; a line per failed check."""
    verdict = 'PASS' if run.outcome.passed else 'FAIL'
    figures = list(run.outcome.figures.items())[:FIGURES_SHOWN]
    told = ', '.join(f'{name} {number(value)}' for name, value in figures)
    first = f'{run.name:<4}{run.title:<46} {verdict} {run.outcome.duration_s:7.1f} s  {told}'
    return '\n  '.join([first, *failed_checks(run)])


def number(value: float | str) -> str:
    """Return a figure, short."""
    return f'{value:.4g}' if isinstance(value, float) else str(value)


def failures(runs: Sequence[Run]) -> str:
    """Return the checks that do not hold, and how many rows passed."""
    lines = [text for run in runs for text in failed_checks(run)]
    passed = sum(run.outcome.passed for run in runs)
    return '\n'.join([*lines, f'{passed} of {len(runs)} passed'])


def failed_checks(run: Run) -> list[str]:
    """Return the checks of one run that do not hold."""
    if not run.outcome.checks:
        return [f'{run.name}: nothing was checked']
    name = f'{run.name} (repeat {run.repeat})' if run.repeat else run.name
    return [
        f'{name}: {check.name}: found {check.found}, wanted {check.wanted}'
        for check in run.outcome.failed
    ]


def machine_and_versions() -> dict[str, Any]:
    """Return what results depend on."""
    found: dict[str, Any] = machine()
    found['system'] = f'{platform.system()} {platform.release()}'
    found['rmw'] = os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp')
    found['ros_distro'] = os.environ.get('ROS_DISTRO', '')
    found['versions'] = {'td3_agent': __version__}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found['versions'][name] = version(name)
    return found


def report(runs: Sequence[Run], about: dict[str, Any]) -> dict[str, Any]:
    """Return all results as JSON; of repeated rows every run."""
    about = {**about, 'load_after': round(os.getloadavg()[0], 2)}
    return {
        'machine': about,
        'passed': all(run.outcome.passed for run in runs),
        'rows': [
            {
                'name': run.name,
                'title': run.title,
                'repeat': run.repeat,
                'passed': run.outcome.passed,
                'duration_s': round(run.outcome.duration_s, 2),
                'figures': run.outcome.figures,
                'checks': [asdict(check) for check in run.outcome.checks],
            }
            for run in runs
        ],
    }

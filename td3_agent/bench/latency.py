# SPDX-License-Identifier: Apache-2.0
"""Image published -> Twist received, over DDS between processes, policy included.

td3_agent_node in lockstep, with the Fast DDS profile that ships, beside a plain node
(td3_agent/bench/plain_node.py: typed subscription, OpenCV, PyTorch's own threads, rclpy.spin)
with the middleware as it comes. Both drive by the same policy. Each has a sender of its own,
which publishes image and odometry of equal stamps as the bridge does and has one frame under way
at a time; blocks of frames go to one and the other in turns, so that a load from elsewhere meets
both. A ratio is the median over the blocks of how many times as long the plain node's median is.
Needs OpenCV, which the agent itself does not.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import chain
import multiprocessing
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS, CONTROL_MAX_YAW_RATE_RADPS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from td3_agent.bench.frame_sender import Answer
    from td3_agent.evaluation.processes import NodeProcess, ProcessGroup

OURS, PLAIN = SIDES = ('ours', 'plain')
POLICY = 'lane'
PLAIN_NODE = 'td3_agent.bench.plain_node'
START_PATIENCE_S = 60.0
POLL_S = 0.2
ENDING_S = 10.0
EXIT_INTERRUPTED = 130
LOST_S = 1.0  # how long an answer is waited for: as long as the bridge waits
PROBE_S = 0.5  # the same, as long as it is not known whether the node is there
NEEDED = {
    'rclpy': 'ROS 2 is what this measures, and it is not there: source env.sh first',
    'cv2': (
        'OpenCV is what the plain node resizes images with, and it is not installed: '
        'pip install opencv-python-headless'
    ),
}
# Of a command's range; beyond, the two do not do the same work. OpenCV interpolates where
# pixels are enlarged, as the 78 rows of 160x120 that are not sky are.
MAX_DIFFERENCE = 0.1


@dataclass(frozen=True, kw_only=True)
class Case:
    """One size of the camera's images.

    Attributes:
        width: columns [px].
        height: rows [px].
        most_p50_ms: what the median of ours must not exceed [ms], infinite where there is none.
        least: ratio that must be reached, 0 where there is none.
    """

    width: int
    height: int
    most_p50_ms: float = float('inf')
    least: float = 0.0


CASES = {
    '84x84': Case(width=84, height=84),
    '160x120': Case(width=160, height=120, most_p50_ms=3.0),
    '800x600': Case(width=800, height=600, least=2.5),
    '1920x1080': Case(width=1920, height=1080),
}


class SenderProcess:
    """A process that publishes frames to one node, in the node's domain."""

    def __init__(self, environment: Mapping[str, str], node: NodeProcess) -> None:
        """Start it in ``environment``; it talks to ``node``."""
        from td3_agent.bench.frame_sender import serve  # noqa: PLC0415  needs ROS

        context = multiprocessing.get_context('spawn')
        self._node = node
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=serve, args=(environment, pipe), daemon=True)
        self._process.start()
        pipe.close()

    def wait_for_node(self, case: Case) -> None:
        """Return once the node answers frames.

        Raises:
            TimeoutError: it does not within a minute.
            ChildProcessError: it has ended.
        """
        end_s = time.monotonic() + START_PATIENCE_S
        while self.send(case, 1, PROBE_S) == [None]:
            if time.monotonic() > end_s:
                late = f'answered no frame within {START_PATIENCE_S:g} s'
                raise TimeoutError(f'{self._node.name} {late}: {self._node.last_words()}')
            self._check()

    def send(self, case: Case, frames: int, patience_s: float = LOST_S) -> list[Answer | None]:
        """Have so many frames sent; return what came of each, None where it was lost.

        Raises:
            ChildProcessError: node or sender has ended.
        """
        try:
            self._pipe.send(((case.width, case.height), frames, patience_s))
            while not self._pipe.poll(POLL_S):
                self._check()
            answers: list[Answer | None] = self._pipe.recv()
        except (EOFError, BrokenPipeError) as error:
            raise ChildProcessError('a sender ended early; what it said is above') from error
        return answers

    def _check(self) -> None:
        """Raise ChildProcessError if there is no answer to be waited for any more."""
        if self._node.process.poll() is not None:
            raise ChildProcessError(f'{self._node.name} ended early: {self._node.last_words()}')

    def close(self) -> int:
        """End the process; return its exit status."""
        self._pipe.close()
        self._process.join(ENDING_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()
        return int(self._process.exitcode or 0)


@contextmanager
def running(name: str, folder: Path, statuses: dict[str, int]) -> Iterator[SenderProcess]:
    """Run a side, node and sender in a ROS domain of their own; yields the sender.

    Args:
        name: of the side.
        folder: where the node's output goes.
        statuses: exit statuses by process, filled in when both have ended.
    """
    from td3_agent.evaluation.processes import ProcessGroup  # noqa: PLC0415  needs ROS

    environment = environment_of(name)
    with ProcessGroup(folder, environment) as group:
        sender = SenderProcess(environment, start_node(name, group))
        try:
            yield sender
        finally:
            statuses.update(group.end())
            statuses[f'sender of {name}'] = sender.close()


def environment_of(name: str) -> dict[str, str]:
    """Return the environment of a side: a free domain, and the profile that ships or none."""
    from td3_agent.evaluation.processes import (  # noqa: PLC0415  needs ROS
        free_domain_id,
        ros_environment,
    )
    from td3_agent.fastdds import PROFILE_VARIABLES  # noqa: PLC0415  as above

    environment = ros_environment(free_domain_id())
    if name == PLAIN:
        for variable in PROFILE_VARIABLES:
            environment.pop(variable, None)
    return environment


def start_node(name: str, group: ProcessGroup) -> NodeProcess:
    """Start the node of a side."""
    if name == OURS:
        return group.start('td3_agent_node', {'policy': POLICY})
    parameters = ['--ros-args', '-p', f'policy:={POLICY}']
    return group.run('plain_node', [sys.executable, '-m', PLAIN_NODE, *parameters])


def compare(
    senders: Mapping[str, SenderProcess], case: Case, frames: int, blocks: int
) -> dict[str, list[list[Answer | None]]]:
    """Return the answers of both sides, block by block, after a block of each to warm up.

    Who begins changes from block to block, so that a machine that slows down favours neither.
    """
    heard: dict[str, list[list[Answer | None]]] = {name: [] for name in SIDES}
    for block in tqdm(range(-1, blocks), unit='block', disable=None, leave=False):
        for name in SIDES if block % 2 == 0 else SIDES[::-1]:
            answers = senders[name].send(case, frames)
            if block >= 0:
                heard[name].append(answers)
    return heard


def figures_of(heard: Mapping[str, Sequence[Sequence[Answer | None]]]) -> dict[str, float]:
    """Return the figures of one size from the answers of both sides, block by block."""
    blocks = {name: [latencies_ms(block) for block in heard[name]] for name in SIDES}
    pairs = zip(blocks[OURS], blocks[PLAIN], strict=True)
    ratios = [statistics.median(plain) / statistics.median(ours) for ours, plain in pairs]
    return {
        **spread('', heard[OURS]),
        **spread('plain_', heard[PLAIN]),
        'ratio': statistics.median(ratios),
        'difference': difference(heard[OURS], heard[PLAIN]),
    }


def latencies_ms(block: Sequence[Answer | None]) -> list[float]:
    """Return the latency of each frame [ms]; of a lost one, the time that it was waited for."""
    return [LOST_S * 1e3 if answer is None else answer.latency_ms for answer in block]


def spread(prefix: str, blocks: Sequence[Sequence[Answer | None]]) -> dict[str, float]:
    """Return median, 99th percentile [ms] and number of lost frames, under prefixed names."""
    answers = [answer for block in blocks for answer in block]
    p50_ms, p99_ms = np.percentile(latencies_ms(answers), (50.0, 99.0)).tolist()
    return {
        f'{prefix}p50_ms': p50_ms,
        f'{prefix}p99_ms': p99_ms,
        f'{prefix}lost': answers.count(None),
    }


def difference(
    ours: Sequence[Sequence[Answer | None]], plain: Sequence[Sequence[Answer | None]]
) -> float:
    """Return how far two commands for one frame are apart, as a share of their range.

    The median: after a lost frame, the frames that a node remembers are others for a while.
    """
    pairs = zip(chain.from_iterable(ours), chain.from_iterable(plain), strict=True)
    shares = [
        max(
            abs(a.linear_x - b.linear_x) / CONTROL_MAX_SPEED_MPS,
            abs(a.angular_z - b.angular_z) / (2.0 * CONTROL_MAX_YAW_RATE_RADPS),
        )
        for a, b in pairs
        if a is not None and b is not None
    ]
    return statistics.median(shares) if shares else 0.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--blocks', type=int, default=20, help='blocks of frames to each node')
    parser.add_argument('--frames', type=int, default=30, help='frames of a block')
    parser.add_argument(
        '--case', action='append', choices=tuple(CASES), help='only this size, or these'
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is not positive, or ROS 2 or OpenCV is missing.
        OSError: a process has ended early, or does not answer.
    """
    for name in ('blocks', 'frames'):
        if getattr(args, name) < 1:
            raise ValueError(f'{name} must be >= 1, got {getattr(args, name)}')
    for module, text in NEEDED.items():
        if find_spec(module) is None:
            raise ValueError(text)
    try:
        cases, statuses = _measured(args.case or tuple(CASES), args.frames, args.blocks)
    except KeyboardInterrupt:
        sys.stderr.write('interrupted: all processes ended\n')
        raise SystemExit(EXIT_INTERRUPTED) from None
    return {
        'versions': versions(),
        'frames': args.blocks * args.frames,
        'cases': cases,
        'exit_statuses': statuses,
    }


def _measured(
    names: Sequence[str], frames: int, blocks: int
) -> tuple[dict[str, dict[str, float]], dict[str, int]]:
    """Return the figures of each case, and the exit statuses of all processes."""
    from td3_agent.evaluation.processes import interruptions_noted  # noqa: PLC0415  needs ROS

    statuses: dict[str, int] = {}
    with (
        interruptions_noted(raising=True),
        tempfile.TemporaryDirectory() as folder,
        ExitStack() as stack,
    ):
        senders = {
            name: stack.enter_context(running(name, Path(folder), statuses)) for name in SIDES
        }
        for sender in senders.values():
            sender.wait_for_node(CASES[names[0]])
        cases = {name: figures_of(compare(senders, CASES[name], frames, blocks)) for name in names}
    return cases, statuses


def versions() -> dict[str, str]:
    """Return the versions of what the figures depend on."""
    import cv2  # noqa: PLC0415  not everywhere there
    import torch  # noqa: PLC0415  slow to import

    return {
        'torch': torch.__version__,
        'opencv': cv2.__version__,
        'ros': os.environ.get('ROS_DISTRO', ''),
        'rmw': os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'),
    }


def table(report: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    columns = f'{"p50 [ms]":>14}{"p99 [ms]":>9}{"lost":>6}'
    lines = [f'{"":<12}{"agent":>14}{"":>15}{"plain node":>14}']
    lines.append(f'{"image":<12}{columns}{columns}{"ratio":>8}')
    for name, row in report['cases'].items():
        both = ''.join(
            f'{row[f"{side}p50_ms"]:>14.2f}{row[f"{side}p99_ms"]:>9.2f}{row[f"{side}lost"]:>6}'
            for side in ('', 'plain_')
        )
        lines.append(f'{name:<12}{both}{row["ratio"]:>8.2f}')
    return '\n'.join(line.rstrip() for line in lines)


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each figure that is not what it must be."""
    texts = []
    for name, row in report['cases'].items():
        case = CASES[name]
        if row['p50_ms'] > case.most_p50_ms:
            texts.append(
                f'{name} takes {row["p50_ms"]:.2f} ms (p50), expected <= {case.most_p50_ms:g}'
            )
        if row['ratio'] < case.least:
            texts.append(f'{name} is {row["ratio"]:.2f} times as fast, expected >= {case.least}')
        if row['difference'] > MAX_DIFFERENCE:
            texts.append(
                f'{name}: commands differ by {row["difference"]:.3f} of their range, '
                f'expected <= {MAX_DIFFERENCE}'
            )
    texts += [
        f'{name} ended with status {status}, expected 0'
        for name, status in report['exit_statuses'].items()
        if status
    ]
    return texts

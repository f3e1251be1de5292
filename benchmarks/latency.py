# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Image published -> Twist received, over DDS between processes, policy included.

td3_agent_node in lockstep, with the Fast DDS profile that ships, beside a plain node
(benchmarks/plain_node.py: typed subscription, OpenCV, PyTorch's own threads, rclpy.spin)
with the middleware as it comes. Both drive by the same policy. Each has a sender of its own,
which publishes image and odometry of equal stamps as the bridge does and has one frame under way
at a time; blocks of frames go to one and the other in turns, so that a load from elsewhere meets
both. A ratio is the median over the blocks of how many times as long the plain node's median is.
Needs OpenCV, which the agent itself does not.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from importlib.metadata import version
import json
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

from benchmarks.frame_sender import Answer
from benchmarks.harness import (
    BenchError,
    Limit,
    Program,
    check_alive,
    check_least,
    in_turns,
    node_group,
    p50_p99_ms,
)
from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS, CONTROL_MAX_YAW_RATE_RADPS
from td3_agent.fastdds import PROFILE_VARIABLES
from td3_agent.processes import free_domain_id, ros_environment

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from td3_agent.processes import ProcessGroup

OURS, PLAIN = SIDES = ('ours', 'plain')
POLICY = 'lane'
START_PATIENCE_S = 60.0
LOST_S = 1.0  # how long an answer is waited for: as long as the bridge waits
PROBE_S = 0.5  # the same, until the node is there
MARGIN_S = 10.0
# Of a command's range; beyond, the two do not do the same work. OpenCV interpolates where
# pixels are enlarged, as the 78 rows of 160x120 that are not sky are.
MAX_DIFFERENCE = 0.1
SIZES = {
    '84x84': [84, 84],
    '160x120': [160, 120],
    '800x600': [800, 600],
    '1920x1080': [1920, 1080],
}
MOST_P50_MS = {'160x120': 2.0}
LEAST_RATIO = {'800x600': 4.0}

Block = list[Answer | None]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--blocks', type=int, default=20, help='blocks of frames to each node')
    parser.add_argument('--frames', type=int, default=30, help='frames of a block')
    parser.add_argument(
        '--case', action='append', choices=tuple(SIZES), help='only this size, or these'
    )


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; ValueError if a process has ended early, or does not answer."""
    check_least(args, blocks=1, frames=1)
    cases = {}
    with ExitStack() as stack:
        senders = {side: stack.enter_context(running(side)) for side in SIDES}
        for name in args.case or SIZES:
            ask = [partial(send, *senders[side], SIZES[name], args.frames) for side in SIDES]
            for side in ask:  # to warm up
                side()
            cases[name] = figures_of(*in_turns(args.blocks, *ask))
    return {
        'versions': {
            'torch': version('torch'),
            'opencv': version('opencv-python-headless'),
            'ros': os.environ.get('ROS_DISTRO', ''),
            'rmw': os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp'),
        },
        'frames': args.blocks * args.frames,
        'cases': cases,
    }


@contextmanager
def running(side: str) -> Iterator[tuple[Program, ProcessGroup]]:
    """Run node and sender of a side in a ROS domain of their own, until the node answers.

    Raises:
        BenchError: it does not within a minute, or has ended.
    """
    environment = environment_of(profile=side == OURS)
    with node_group(environment) as group:
        start_node(side, group)
        with Program('benchmarks.frame_sender', environment=environment) as sender:
            end_s = time.monotonic() + START_PATIENCE_S
            while send(sender, group, SIZES['160x120'], 1, PROBE_S) == [None]:
                if time.monotonic() > end_s:
                    words = group.nodes[0].last_output()
                    raise BenchError(f'{side}: no answer within {START_PATIENCE_S:g} s: {words}')
            yield sender, group


def environment_of(*, profile: bool) -> dict[str, str]:
    """Return an environment with a free domain, and with the profile that ships or none."""
    environment = ros_environment(free_domain_id())
    for variable in () if profile else PROFILE_VARIABLES:
        environment.pop(variable, None)
    return environment


def start_node(side: str, group: ProcessGroup) -> None:
    """Start the node of a side."""
    if side == OURS:
        group.start('td3_agent_node', {'policy': POLICY})
    else:
        words = ['-m', 'benchmarks.plain_node', '--ros-args', '-p', f'policy:={POLICY}']
        group.run('plain_node', [sys.executable, *words])


def send(
    sender: Program, group: ProcessGroup, size: list[int], frames: int, patience_s: float = LOST_S
) -> Block:
    """Have so many frames sent; return the answer to each, None where it was lost.

    Raises:
        BenchError: node or sender has ended.
    """
    said = sender.ask(json.dumps([size, frames, patience_s]), frames * patience_s + MARGIN_S)
    check_alive(group)
    return [None if answer is None else Answer(*answer) for answer in said]


def figures_of(ours: Sequence[Block], plain: Sequence[Block]) -> dict[str, float]:
    """Return the figures of one size from the answers of both sides, block by block."""
    blocks = zip(map(latencies_ms, ours), map(latencies_ms, plain), strict=True)
    ratios = [statistics.median(theirs) / statistics.median(mine) for mine, theirs in blocks]
    figures: dict[str, float] = {}
    for prefix, side in (('', ours), ('plain_', plain)):
        answers = [answer for block in side for answer in block]
        found = p50_p99_ms(latencies_ms(answers)) | {'lost': answers.count(None)}
        figures |= {f'{prefix}{name}': value for name, value in found.items()}
    return figures | {'ratio': statistics.median(ratios), 'difference': difference(ours, plain)}


def latencies_ms(block: Block) -> list[float]:
    """Return the latency of each frame [ms]; of a lost one, the time that it was waited for."""
    return [LOST_S * 1e3 if answer is None else answer.latency_ms for answer in block]


def difference(ours: Sequence[Block], plain: Sequence[Block]) -> float:
    """Return how far two commands for one frame are apart, as a share of their range.

    The median: after a lost frame, the frames that a node remembers are others for a while.
    """
    shares = [
        max(
            abs(a.linear_x - b.linear_x) / CONTROL_MAX_SPEED_MPS,
            abs(a.angular_z - b.angular_z) / (2.0 * CONTROL_MAX_YAW_RATE_RADPS),
        )
        for mine, theirs in zip(ours, plain, strict=True)
        for a, b in zip(mine, theirs, strict=True)
        if a is not None and b is not None
    ]
    return statistics.median(shares) if shares else 0.0


def limits(report: Mapping[str, Any]) -> list[Limit]:
    """Return what the figures must be."""
    found = []
    for name, row in report['cases'].items():
        most_ms, least = MOST_P50_MS.get(name, float('inf')), LEAST_RATIO.get(name, 1.0)
        found += [
            Limit(f'{name}: p50', row['p50_ms'], 'ms', most=most_ms),
            Limit(f'{name}: times as fast', row['ratio'], least=least),
            Limit(f'{name}: difference of commands', row['difference'], most=MAX_DIFFERENCE),
        ]
    return found

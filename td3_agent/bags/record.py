# SPDX-License-Identifier: Apache-2.0
"""Record the loop to a bag that ros2 bag plays: every topic, latched ones too, until Ctrl-C.

It is a process of its own, at low priority, and never asked for anything by the loop.
"""

from __future__ import annotations

from datetime import datetime
import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from td3_agent.bags.writing import STORAGES, BagWriter, WriterParams

if TYPE_CHECKING:
    import argparse

    from rclpy.node import Node

NICENESS = 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument(
        '--out', type=Path, default=None, help='folder of the bag; none: bag_ and the time'
    )
    parser.add_argument('--storage', choices=STORAGES, default='mcap', help='file format')
    parser.add_argument(
        '--compression', choices=('none', 'zstd'), default='none', help='within MCAP'
    )
    parser.add_argument(
        '--topics',
        nargs='+',
        default=None,
        metavar='PATTERN',
        help="shell patterns of topic names, such as '/carla/*'; none: all of the loop",
    )
    parser.add_argument(
        '--role-name', default='', help='leave out the topics of other vehicles; empty: of none'
    )
    parser.add_argument(
        '--max-size', type=float, default=0.0, help='end at this size [MB]; 0: no limit'
    )
    parser.add_argument(
        '--min-free-space', type=float, default=256.0, help='end when less is free [MB]'
    )


def run(args: argparse.Namespace) -> int:
    """Record until asked to end; return the exit status.

    1 if recording had to stop: the disk was full, or nearly.

    Raises:
        BagError: an argument was refused, or the folder exists already.
    """
    params = WriterParams(
        storage=args.storage,
        compressed=args.compression == 'zstd',
        max_size_mb=args.max_size,
        min_free_mb=args.min_free_space,
    )
    out = args.out or Path(f'bag_{datetime.now().astimezone():%Y%m%d_%H%M%S}')
    os.nice(NICENESS)  # the loop goes first
    from td3_agent.nodes.runtime import run_program  # noqa: PLC0415  --help needs no ROS

    run_program(lambda: _recorder(args, out, params), [])
    return 0


def _recorder(args: argparse.Namespace, out: Path, params: WriterParams) -> Node:
    """Return the node, recording."""
    from td3_agent.bags.recorder_node import LOOP_TOPICS, RecorderNode  # noqa: PLC0415

    node = RecorderNode(args.topics or LOOP_TOPICS, args.role_name)
    node.record_to(BagWriter(out, params, node.ended_by_itself))
    sys.stdout.write(f'recording to {out}; Ctrl-C ends it\n')
    sys.stdout.flush()
    return node

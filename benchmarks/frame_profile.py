# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the processor time of a frame goes: a lockstep drive with every node under cProfile.

Each node measures the thread that handles its frames, in processor time, so that others' work does
not count. A function written in C counts for the part that called it. The profiler makes calls
dearer, small ones most of all: the shares say what is worth looking at, not what a frame costs.
"""

from __future__ import annotations

import cProfile
from importlib import import_module
import os
from pathlib import Path
import pstats
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import check_least, node_group
from benchmarks.lockstep import CAMERA_PX, WARM_UP_FRAMES, wait_for
from td3_agent.evaluation.ros_episodes import FourNodes, LedgerTail
from td3_agent.processes import ProcessGroup, free_domain_id, ros_environment

if TYPE_CHECKING:
    import argparse

FOLDER_VARIABLE = 'TD3_AGENT_PROFILE'
BRIDGE = 'sim_bridge_node'
PROFILED = 'benchmarks.frame_profile'
# Part: what the path of its files, or the name of a function in C, contains; the first that fits.
PARTS = {
    'middleware': ('_rclpy_pybind11', '/rclpy/'),
    'messages': ('/msg/_',),
    'policy': ('onnxruntime', '/policy/', 'torch'),
    'world': ('/td3_agent/sim/', 'vehiclemodels', 'cv2'),
    'driving': ('/td3_agent/driving/',),
    'nodes': ('/td3_agent/nodes/',),
    'the rest': ('',),
}


class ProfiledGroup(ProcessGroup):
    """Node processes that profile themselves."""

    def run(self, name: str, command: Any, **options: Any) -> Any:  # noqa: ANN401  as ProcessGroup
        """Start a node program by way of this module."""
        return super().run(name, [*command[:2], PROFILED, *command[2:]], **options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--frames', type=int, default=1000, help='frames of the drive')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return microseconds per frame by node and part."""
    check_least(args, frames=2)
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent)
        environment = ros_environment(free_domain_id()) | {FOLDER_VARIABLE: parent}
        path = folder / 'ledger.jsonl'
        frames = args.frames + WARM_UP_FRAMES
        width, height = CAMERA_PX
        nodes = FourNodes(
            bridge={'map': 'winding', 'camera_width': width, 'camera_height': height},
            synchronizer={'real_time_factor': 0.0, 'ledger_path': str(path)},
        )
        with node_group(environment, ProfiledGroup) as group:
            nodes.start(group)
            wait_for(LedgerTail(path), frames, group)
        found = {
            file.stem: parts_us(pstats.Stats(str(file)), frames)
            for file in sorted(folder.glob('*.stats'))
        }
    return {'frames': args.frames, 'camera': CAMERA_PX, 'nodes': found}


def parts_us(stats: pstats.Stats, frames: int) -> dict[str, float]:
    """Return the time of each part [us per frame]."""
    total_s = dict.fromkeys(PARTS, 0.0)
    entries: dict[Any, Any] = vars(stats)['stats']
    for (path, _, name), (_, _, own_s, _, callers) in entries.items():
        if path != '~' or part_of(name) != 'the rest' or not callers:
            total_s[part_of(name if path == '~' else path)] += own_s
            continue
        for (caller, _, outer), (_, _, called_s, _) in callers.items():
            total_s[part_of(outer if caller == '~' else caller)] += called_s
    return {part: 1e6 * took_s / frames for part, took_s in total_s.items()}


def part_of(where: str) -> str:
    """Return the part that a file, or a function in C, belongs to."""
    return next(part for part, words in PARTS.items() if any(word in where for word in words))


# ---- In a node's process ------------------------------------------------------------------------


def profile_node(module: str) -> None:
    """Run a node program, and leave its profile in the folder that the environment names."""
    node, profile = import_module(module), cProfile.Profile(time.thread_time)
    name = module.rpartition('.')[2]
    file = Path(os.environ[FOLDER_VARIABLE]) / f'{name}.stats'
    # The bridge handles its frames in a thread of its own, all others in that of the executor.
    owner, attribute = (
        (node.SimBridgeNode, '_run_loop')
        if name == BRIDGE
        else (import_module('td3_agent.nodes.runtime'), '_spin')
    )
    original = getattr(owner, attribute)

    def profiled(*args: Any) -> Any:  # noqa: ANN401  as the original
        try:
            return profile.runcall(original, *args)
        finally:
            profile.dump_stats(file)

    setattr(owner, attribute, profiled)
    node.main()


if __name__ == '__main__':
    profile_node(sys.argv.pop(1))

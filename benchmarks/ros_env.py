# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps per second of ``td3_agent/RosDriving-v0`` beside those of ``td3_agent/Driving-v0``.

The same map, camera and actions, in turns, resets counted; figures are medians, the ratio is of
theirs.
"""

from __future__ import annotations

from functools import partial
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import check_least, in_turns
from td3_agent.evaluation.ros_env import ros_env
from td3_agent.sim.env import embedded_env

if TYPE_CHECKING:
    import argparse

    import gymnasium

ACTION = np.array([-0.4, 0.0], np.float32)  # slow, straight on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=5, help='of each environment')
    parser.add_argument('--steps', type=int, default=200, help='of a turn')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures."""
    check_least(args, turns=1, steps=1)
    envs = {'direct': embedded_env(), 'ros': ros_env()}
    turns = [partial(turn_of, env, args.steps) for env in envs.values()]
    try:
        for turn in turns:  # the first warms up, and starts a bridge
            turn()
        taken = in_turns(args.turns, *turns)
    finally:
        for env in envs.values():
            env.close()
    found = {name: figures(rows, args.steps) for name, rows in zip(envs, taken, strict=True)}
    ratio = found['direct']['with_resets_per_s'] / found['ros']['with_resets_per_s']
    return {'turns': args.turns, 'steps': args.steps, 'environments': found, 'ratio': ratio}


def turn_of(env: gymnasium.Env[Any, Any], steps: int) -> tuple[int, float, float]:
    """Take so many steps; return the number of resets, and the time of resets and steps [s]."""
    resets, reset_s, drive_s, over = 0, 0.0, 0.0, True
    for _ in range(steps):
        begun_s = time.monotonic()
        if over:
            env.reset(seed=resets)
            resets += 1
        started_s = time.monotonic()
        _, _, terminated, truncated, _ = env.step(ACTION)
        over = terminated or truncated
        reset_s += started_s - begun_s
        drive_s += time.monotonic() - started_s
    return resets, reset_s, drive_s


def figures(turns: list[tuple[int, float, float]], steps: int) -> dict[str, float]:
    """Return steps per second, without and with the resets, and milliseconds of a reset."""
    resets, resets_s, drives_s = np.array(turns).T
    return {
        'steps_per_s': float(np.median(steps / drives_s)),
        'with_resets_per_s': float(np.median(steps / (resets_s + drives_s))),
        'reset_ms': float(np.median(resets_s / resets)) * 1e3,
        'resets': int(resets.sum()),
    }

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Steps per second of ``td3_agent/RosDriving-v0`` beside those of ``td3_agent/Driving-v0``.

The same map, camera and actions, in turns, resets counted; figures are medians, the ratio is of
theirs. ``--json`` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from td3_agent.bench.verb import machine
from td3_agent.evaluation.ros_env import RosDrivingEnv
from td3_agent.sim.env import DrivingEnv, default_world

ACTION = np.array([-0.4, 0.0], np.float32)  # slow, straight on


def turn_of(env: DrivingEnv | RosDrivingEnv, steps: int, seed: int) -> tuple[int, float, float]:
    """Take so many steps, in episodes as they come.

    Returns:
        How many resets there were, and the time of all resets and of all steps [s].
    """
    resets, reset_s, drive_s, over = 0, 0.0, 0.0, True
    for _ in range(steps):
        begun_s = time.monotonic()
        if over:
            env.reset(seed=seed + resets)
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


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--steps', type=int, default=200, help='of a turn')
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    world = default_world()
    envs = {'direct': DrivingEnv(world), 'ros': RosDrivingEnv()}
    turns: dict[str, list[tuple[int, float, float]]] = {name: [] for name in envs}
    report = {'machine': machine(), 'turns': args.turns, 'steps': args.steps}
    for turn in range(args.turns + 1):
        for name, env in envs.items():
            taken = turn_of(env, args.steps, turn * args.steps)
            turns[name] += [taken] if turn else []  # the first warms up, and starts a bridge
    for env in envs.values():
        env.close()
    found = {name: figures(taken, args.steps) for name, taken in turns.items()}
    ratio = found['direct']['with_resets_per_s'] / found['ros']['with_resets_per_s']
    report |= {'environments': found, 'ratio': ratio}
    if args.json:
        print(json.dumps(report))
    else:
        rows = ', '.join(
            f'{name} {row["with_resets_per_s"]:.0f} steps/s (reset {row["reset_ms"]:.0f} ms)'
            for name, row in found.items()
        )
        print(f'{rows}; the direct one is {ratio:.1f} times as fast')


if __name__ == '__main__':
    main()

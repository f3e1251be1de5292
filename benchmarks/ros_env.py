#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Steps per second of ``td3_agent/RosDriving-v0`` beside those of ``td3_agent/Driving-v0``.

The same map, camera and actions, in turns; a ratio is of medians. ``--json`` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import time

import numpy as np

from td3_agent.bench.verb import machine
from td3_agent.evaluation.ros_env import RosDrivingEnv
from td3_agent.sim.env import DrivingEnv, default_world

ACTION = np.array([-0.4, 0.0], np.float32)  # slow: no episode ends in between


def steps_per_s(env: DrivingEnv | RosDrivingEnv, steps: int, seed: int) -> float:
    """Return how many steps per second an environment makes, resets not counted."""
    env.reset(seed=seed)
    started_s = time.monotonic()
    for number in range(steps):
        _, _, terminated, truncated, _ = env.step(ACTION)
        if terminated or truncated:
            return (number + 1) / (time.monotonic() - started_s)
    return steps / (time.monotonic() - started_s)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--turns', type=int, default=5)
    parser.add_argument('--steps', type=int, default=200, help='of a turn')
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    world = default_world()
    envs = {'direct': DrivingEnv(world), 'ros': RosDrivingEnv()}
    rates: dict[str, list[float]] = {name: [] for name in envs}
    report = {'machine': machine()}
    for turn in range(args.turns + 1):
        for name, env in envs.items():
            rate = steps_per_s(env, args.steps, turn)
            rates[name] += [rate] if turn else []  # the first warms up
    for env in envs.values():
        env.close()
    medians = {name: float(np.median(found)) for name, found in rates.items()}
    report |= {'steps_per_s': medians, 'ratio': medians['direct'] / medians['ros']}
    if args.json:
        print(json.dumps(report))
    else:
        rows = ', '.join(f'{name} {rate:.0f} steps/s' for name, rate in medians.items())
        print(f'{rows}; the direct one is {report["ratio"]:.1f} times as fast')


if __name__ == '__main__':
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of the embedded simulator on one core: environment steps/s, and one camera image.

Prints a table; with ``--json`` the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time

import numpy as np

from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.env import DrivingEnv
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.world import World, WorldConfig

IMAGE_SIZES = ((84, 84), (160, 120), (800, 600))
RENDERS = 200
ROUNDS = 5


def steps_per_second(map_name: str, steps: int) -> float:
    """Return the median rate of ``ROUNDS`` runs with seeded random actions, resets included."""
    camera = CameraConfig(width=84, height=84)
    env = DrivingEnv(WorldConfig(map=map_name, camera=camera))
    env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)
    rates = []
    for _ in range(ROUNDS):
        start_s = time.perf_counter()
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        rates.append(steps / (time.perf_counter() - start_s))
    return statistics.median(rates)


def render_ms(map_name: str, width: int, height: int) -> float:
    """Return the median time of one image from the route's start [ms]."""
    world = World(WorldConfig(map=map_name, camera=CameraConfig(width=width, height=height)))
    camera: Camera = world.camera
    x_m, y_m, yaw_rad = world.ego.route.sample(0.0)
    spans_ms = []
    for _ in range(RENDERS):
        start_s = time.perf_counter()
        camera.render(x_m, y_m, yaw_rad, boxes=world.parked)
        spans_ms.append((time.perf_counter() - start_s) * 1e3)
    return statistics.median(spans_ms)


def measure(steps: int) -> dict[str, dict[str, float]]:
    """Return all figures, by map."""
    return {
        name: {'steps_per_s': steps_per_second(name, steps)}
        | {f'render_{w}x{h}_ms': render_ms(name, w, h) for w, h in IMAGE_SIZES}
        for name in BUILT_IN
    }


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--steps', type=int, default=2000, help='steps per run')
    arguments.add_argument('--json', action='store_true', help='print JSON')
    args = arguments.parse_args()
    figures = measure(args.steps)
    if args.json:
        print(json.dumps({'machine': platform.processor(), 'maps': figures}))
        return
    columns = list(next(iter(figures.values())))
    print(f'{"map":<8}' + ''.join(f'{column:>20}' for column in columns))
    for name, row in figures.items():
        print(f'{name:<8}' + ''.join(f'{row[column]:>20.2f}' for column in columns))


if __name__ == '__main__':
    main()

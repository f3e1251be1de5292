#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Speed of the embedded simulator on one core: environment steps/s, and one camera image.

With traffic too: 0, 20, 50 and 100 vehicles in a town, in turns, so that what else the machine
does meanwhile meets all of them alike. Prints a table; with ``--json`` the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from typing import Any

import numpy as np

from td3_agent.bench.verb import machine
from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.env import DrivingEnv
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.traffic import TrafficConfig
from td3_agent.sim.world import World, WorldConfig

IMAGE_SIZES = ((84, 84), (160, 120), (800, 600))
RENDERS = 200
ROUNDS = 5
TRAFFIC = (0, 20, 50, 100)
TRAFFIC_MAP = 'town'


def environment(map_name: str, vehicles: int = 0) -> DrivingEnv:
    """Return an environment at its first frame, seen at the network's own size."""
    camera = CameraConfig(width=84, height=84)
    traffic = TrafficConfig(vehicles=vehicles)
    env = DrivingEnv(WorldConfig(map=map_name, camera=camera, traffic=traffic))
    env.reset(seed=0)
    return env


def seconds_of(env: DrivingEnv, steps: int) -> tuple[float, float]:
    """Return wall and processor time of seeded random actions, resets included [s]."""
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)
    start_s, processor_s = time.perf_counter(), time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return time.perf_counter() - start_s, time.process_time() - processor_s


def steps_per_second(map_name: str, steps: int) -> float:
    """Return the median rate of ``ROUNDS`` runs."""
    env = environment(map_name)
    return statistics.median(steps / seconds_of(env, steps)[0] for _ in range(ROUNDS))


def with_traffic(steps: int) -> dict[str, dict[str, float]]:
    """Return rates by number of vehicles: of wall time, and of processor time, the medians."""
    envs = {vehicles: environment(TRAFFIC_MAP, vehicles) for vehicles in TRAFFIC}
    spans: dict[int, list[tuple[float, float]]] = {vehicles: [] for vehicles in TRAFFIC}
    for _ in range(ROUNDS):
        for vehicles, env in envs.items():
            spans[vehicles].append(seconds_of(env, steps))
    return {
        str(vehicles): {
            'steps_per_s': steps / statistics.median(wall for wall, _ in found),
            'steps_per_processor_s': steps / statistics.median(cpu for _, cpu in found),
        }
        for vehicles, found in spans.items()
    }


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


def measure(steps: int) -> dict[str, Any]:
    """Return all figures, by map and by number of vehicles."""
    facts = machine()
    maps = {
        name: {'steps_per_s': steps_per_second(name, steps)}
        | {f'render_{w}x{h}_ms': render_ms(name, w, h) for w, h in IMAGE_SIZES}
        for name in BUILT_IN
    }
    return {'steps': steps, 'maps': maps, 'traffic': with_traffic(steps), 'machine': facts}


def table(rows: dict[str, dict[str, float]], heading: str) -> str:
    """Return rows of figures as aligned text."""
    columns = list(next(iter(rows.values())))
    lines = [f'{heading:<8}' + ''.join(f'{column:>24}' for column in columns)]
    lines += [
        f'{name:<8}' + ''.join(f'{row[column]:>24.2f}' for column in columns)
        for name, row in rows.items()
    ]
    return '\n'.join(lines)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--steps', type=int, default=2000, help='steps per run')
    arguments.add_argument('--json', action='store_true', help='print JSON')
    args = arguments.parse_args()
    report = measure(args.steps)
    if args.json:
        print(json.dumps(report, indent=2))
        return
    print(table(report['maps'], 'map'))
    print(table(report['traffic'], 'traffic'))


if __name__ == '__main__':
    main()

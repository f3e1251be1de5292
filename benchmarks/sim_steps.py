# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps per second of the embedded simulator on one core, with 0, 20, 50 and 100 vehicles.

Seeded random actions in a town, resets included, seen at the network's own size, all numbers of
vehicles in turns; figures are medians.
"""

from __future__ import annotations

from functools import partial
import statistics
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.harness import check_least, in_turns
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.env import DrivingEnv, embedded_env
from td3_agent.sim.simulator import SimulatorConfig
from td3_agent.sim.traffic import TrafficConfig

if TYPE_CHECKING:
    import argparse

VEHICLES = (0, 20, 50, 100)
MAP = 'town'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=5, help='with each number of vehicles')
    parser.add_argument('--steps', type=int, default=2000, help='of a turn')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return rates by number of vehicles: of wall time, and of processor time."""
    check_least(args, turns=1, steps=1)
    envs = [environment(vehicles) for vehicles in VEHICLES]
    turns = in_turns(args.turns, *(partial(seconds_of, env, args.steps) for env in envs))
    rows = {}
    for vehicles, spans in zip(VEHICLES, turns, strict=True):
        wall_s, processor_s = (statistics.median(column) for column in zip(*spans, strict=True))
        rows[str(vehicles)] = {
            'steps_per_s': args.steps / wall_s,
            'steps_per_processor_s': args.steps / processor_s,
        }
    return {'steps': args.steps, 'map': MAP, 'traffic': rows}


def environment(vehicles: int) -> DrivingEnv:
    """Return an environment at its first frame."""
    camera, traffic = CameraConfig(width=84, height=84), TrafficConfig(vehicles=vehicles)
    env = embedded_env(SimulatorConfig(map=MAP, camera=camera, traffic=traffic))
    env.reset(seed=0)
    return env


def seconds_of(env: DrivingEnv, steps: int) -> tuple[float, float]:
    """Return wall and processor time of so many steps [s]."""
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (steps, 2)).astype(np.float32)
    start_s, processor_s = time.perf_counter(), time.process_time()
    for action in actions:
        _, _, terminated, truncated, _ = env.step(action)
        if terminated or truncated:
            env.reset()
    return time.perf_counter() - start_s, time.process_time() - processor_s

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws ``docs/images/randomisation.jpg`` and ``maps.jpg``, and the table of what is drawn.

The first shows 24 starts of training episodes as their policy's camera sees them, the second
the built-in maps as they are by default.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
from marked import renewed
import numpy as np
from numpy.typing import NDArray

from td3_agent.driving.parameters import describe
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.random_env import RandomDrivingEnv
from td3_agent.sim.randomisation import Randomisation
from td3_agent.sim.traffic import TrafficConfig
from td3_agent.sim.traffic_env import TrafficDrivingEnv
from td3_agent.sim.world import World, WorldConfig

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / 'docs' / 'images'
DOCUMENT = ROOT / 'docs' / 'driving.md'
DRAWS, COLUMNS = 24, 6
FIRST_SEED = 100
GAP_PX = 4
STEPS = 10  # so that starts beside the road are on their way
MAP_SIZE_PX = (400, 300)
MAP_VEHICLES = 30
AHEAD_M = 60.0

Image = NDArray[np.uint8]


def draws() -> list[Image]:
    """Return what the camera sees in episodes on open roads and in towns, in turns."""
    common = {'roads': 4, 'random': Randomisation(road_end_share=0.0)}
    envs = [
        RandomDrivingEnv(maps=('winding',), **common),
        TrafficDrivingEnv(maps=('town',), path=True, **common),
        RandomDrivingEnv(maps=('highway', 'country'), **common),
        TrafficDrivingEnv(maps=('arterial',), path=True, **common),
    ]
    seen = []
    for number in range(DRAWS):
        env = envs[number % len(envs)]
        env.render_mode = 'rgb_array'
        env.reset(seed=FIRST_SEED + number)
        for _ in range(STEPS):
            env.step(np.array([0.0, 0.0], dtype=np.float32))
        seen.append(np.asarray(env.render(), dtype=np.uint8))
    return seen


def views() -> list[Image]:
    """Return every built-in map in its default look, some metres along a route."""
    width, height = MAP_SIZE_PX
    seen = []
    for name in BUILT_IN:
        config = WorldConfig(
            map=name,
            seed=2,
            camera=CameraConfig(width=width, height=height),
            traffic=TrafficConfig(vehicles=MAP_VEHICLES),
        )
        world = World(config)
        world.ego.set_pose(*world.ego.route.sample(AHEAD_M))
        image = cv2.cvtColor(world.render(), cv2.COLOR_BGRA2RGB)
        cv2.putText(image, name, (10, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
        seen.append(np.asarray(image, dtype=np.uint8))
    return seen


def grid(images: list[Image], columns: int) -> Image:
    """Return images of one size side by side, row by row, on white."""
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    shape = (rows * (height + GAP_PX) - GAP_PX, columns * (width + GAP_PX) - GAP_PX, 3)
    sheet = np.full(shape, 255, dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = (height + GAP_PX) * (number // columns), (width + GAP_PX) * (number % columns)
        sheet[top : top + height, left : left + width] = image
    return sheet


def table() -> str:
    """Return what is drawn, with its default limit and unit."""
    rows = ['| drawn | default | unit | meaning |', '|---|---:|---|---|']
    rows += [
        f'| `{name}` | {default} | {unit} | {text} |'
        for name, default, unit, _, text in describe(Randomisation)
    ]
    return '\n'.join(rows)


def main() -> None:
    """Draw and write everything."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    for name, sheet in (('randomisation', grid(draws(), COLUMNS)), ('maps', grid(views(), 3))):
        # Noise does not compress without loss.
        image = cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(IMAGES / f'{name}.jpg'), image, [cv2.IMWRITE_JPEG_QUALITY, 88])
    text = renewed(DOCUMENT.read_text(encoding='utf-8'), 'randomisation', table())
    DOCUMENT.write_text(text, encoding='utf-8')


if __name__ == '__main__':
    main()

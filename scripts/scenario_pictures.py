#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws every scenario into ``docs/images/scenarios.png``: what the camera sees, and from above.

Each is driven by pure pursuit with IDM following up to the instant at which the most vehicles
are in view.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
import numpy as np

from td3_agent.driving.command import TwistConvention
from td3_agent.driving.gate import TwistConverter
from td3_agent.evaluation.direct import DirectDrive, Pilot
from td3_agent.evaluation.direct_drivers import FOLLOWING, DirectDriverParams, equip
from td3_agent.evaluation.direct_episodes import equipped_agent
from td3_agent.evaluation.episodes import EpisodePlan
from td3_agent.evaluation.pictures import DPI, EDGE, INK, ROAD, VERGE, save
from td3_agent.evaluation.scenarios import SCENARIOS
from td3_agent.sim.camera import CameraConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from td3_agent.sim.boxes import Box
    from td3_agent.sim.world import World

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / 'docs/images/scenarios.png'
COLUMNS = 4
FRAMES, LOOKED_AT = 700, 20
AROUND_M = 45.0
DRIVEN, TRAFFIC, PARKED = '#c8102e', '#1d5fbf', '#646a73'
BEFORE_M = 30.0
SEEN_M, NEAREST_M, SIDE = 60.0, 9.0, 0.7  # what counts as seen: ahead, and this far to the side
SEED = 3


def driven_world(name: str) -> World:
    """Return the world of a scenario at the instant at which it shows itself best."""
    plan = SCENARIOS[name].plan(EpisodePlan(seed=SEED, camera_width=84, camera_height=84))
    best, when = -1.0, LOOKED_AT
    for frame, world in driven(plan):
        if frame % LOOKED_AT == 0 and (score := worth(world)) > best:
            best, when = score, frame
    return next(world for frame, world in driven(plan) if frame == when)


def driven(plan: EpisodePlan):  # noqa: ANN201  frames and the world, driven on between them
    """Yield frame numbers and the world of the first episode, driven on between them."""
    world = plan.episode(0).world()
    equipment = equip(DirectDriverParams(driver=FOLLOWING), world)
    agent = equipped_agent(equipment, world)
    drive = DirectDrive(world, Pilot(agent, TwistConverter(TwistConvention.VELOCITY)))
    for frame, _ in enumerate(drive.drive(FRAMES), start=1):
        yield frame, world


def worth(world: World) -> float:
    """Return how much is to be seen: vehicles before the car, those that are near the more."""
    motion = world.ego.motion
    cos, sin = np.cos(motion.yaw_rad), np.sin(motion.yaw_rad)
    boxes = () if world.traffic is None else world.traffic.outlines(*motion[:2], SEEN_M)
    total = 0.0
    for box in boxes:
        dx, dy = box.x_m - motion.x_m, box.y_m - motion.y_m
        forward_m, left_m = cos * dx + sin * dy, cos * dy - sin * dx
        if forward_m > NEAREST_M and abs(left_m) < SIDE * forward_m:
            total += 1.0 / forward_m
    return total


def draw_view(axes: Axes, world: World, name: str) -> None:
    """Draw what a camera of 16 : 9 sees."""
    world.mount_camera(CameraConfig(width=480, height=270))
    axes.imshow(world.render()[..., 2::-1])
    axes.set_axis_off()
    axes.set_title(name, loc='left', fontsize=11, fontweight='bold', color=INK)


def draw_map(axes: Axes, world: World) -> None:
    """Draw the surroundings of the car from above, its route and all vehicles."""
    motion = world.ego.motion
    axes.set_facecolor(VERGE)
    lanes = [np.vstack((lane.left, lane.right[::-1])) for lane in world.map.lanes]
    axes.add_collection(PolyCollection(lanes, facecolors=ROAD, edgecolors=EDGE, linewidths=0.4))
    axes.plot(*world.ego.route.points_xy.T, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
    traffic = () if world.traffic is None else world.traffic.outlines(*motion[:2], 200.0)
    for boxes, colour in (
        (world.parked, PARKED),
        (traffic, TRAFFIC),
        ((world.ego.outline,), DRIVEN),
    ):
        axes.add_collection(PolyCollection(outlines(boxes), facecolors=colour, zorder=3))
    x_m = motion.x_m + BEFORE_M * np.cos(motion.yaw_rad)
    y_m = motion.y_m + BEFORE_M * np.sin(motion.yaw_rad)
    axes.set_xlim(x_m - 1.6 * AROUND_M, x_m + 1.6 * AROUND_M)
    axes.set_ylim(y_m - AROUND_M, y_m + AROUND_M)
    axes.set_aspect('equal')
    axes.set_xticks([])
    axes.set_yticks([])


def outlines(boxes: tuple[Box, ...]) -> list[np.ndarray]:
    """Return the footprints of boxes, (4, 2) [m] each."""
    return [np.array(box.corners()) for box in boxes]


def main() -> None:
    """Drive and draw."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--out', type=Path, default=PICTURE, help='the PNG file')
    args = arguments.parse_args()
    rows = -(-len(SCENARIOS) // COLUMNS)
    figure = Figure(figsize=(11.0, 3.65 * rows), dpi=DPI, facecolor='white', layout='constrained')
    axes = figure.subplots(2 * rows, COLUMNS, gridspec_kw={'height_ratios': [9.0, 10.0] * rows})
    for number, name in enumerate(SCENARIOS):
        row, column = divmod(number, COLUMNS)
        world = driven_world(name)
        draw_view(axes[2 * row][column], world, name)
        draw_map(axes[2 * row + 1][column], world)
    save(figure, args.out)


if __name__ == '__main__':
    main()

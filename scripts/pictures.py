#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of the documents: from docs/results, and from drives in the simulator.

Without names those that docs/results hold; ``scenarios``, ``maps`` and ``randomisation`` drive.
"""

from __future__ import annotations

import argparse
from itertools import islice
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench_tables import PROJECTED, asked_per_s, limits_per_s
import cv2
from house import House, line_count, room
import matplotlib as mpl
from matplotlib.collections import PolyCollection
from matplotlib.figure import Figure
import numpy as np
from tables import RESULTS, TASKS, csv_rows, runs_of

from td3_agent.evaluation.direct_episodes import (
    FOLLOWING,
    DirectDriverParams,
    direct_drive,
    load_direct_driver,
)
from td3_agent.evaluation.episodes import EpisodePlan
from td3_agent.evaluation.pictures import DPI, EDGE, INK, QUIET, ROAD, VERGE, save
from td3_agent.evaluation.scenarios import SCENARIOS
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.random_env import DrawnTraffic, random_env
from td3_agent.sim.randomisation import Randomisation
from td3_agent.sim.simulator import Simulator, SimulatorConfig
from td3_agent.sim.traffic import TrafficConfig

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / 'docs' / 'images'
OURS, OTHER, DIRECT, BLUE, GRID = '#12586e', '#d1432b', '#c9620a', '#1d5fbf', '#e3e6ea'
MEGABYTE = PIXELS_PER_MEGAPIXEL = 1e6
END_TO_END = 'end_to_end'

Report = dict[str, Any]


def record(name: str) -> Report:
    return dict(json.loads((RESULTS / f'{name}.json').read_text(encoding='utf-8')))


def figure_of(width_in: float, height_in: float) -> Figure:
    mpl.rcParams['font.size'] = 9
    return Figure(figsize=(width_in, height_in), dpi=DPI, facecolor='white', layout='constrained')


# ---- benchmarks --------------------------------------------------------------------------------


def ratio_rows() -> list[tuple[str, float]]:
    """Return what is compared with what, and how many times as fast, largest first."""
    executors = record('bench/lockstep')['cases']
    rows = [
        ('one command: publish() / process per command', record('bench/command')['ratio']),
        ('answer of the policy: ONNX Runtime / PyTorch', record('bench/inference')['ratio']),
        *(
            (f'image to Twist, {size}: agent / plain node', row['ratio'])
            for size, row in record('bench/latency')['cases'].items()
        ),
        *(
            (f'image in, {size}: profile and memory / plain', row['ratio'])
            for size, row in record('bench/image_in')['sizes'].items()
        ),
    ]
    if 'events' in executors:
        gain = executors['events']['frames_per_s'] / executors['single_threaded']['frames_per_s']
        rows.append(('lockstep: events / single-threaded executor', gain))
    return sorted(rows, key=lambda row: -row[1])


def performance_ratios() -> Figure:
    """Draw every ratio as a bar on a logarithmic scale."""
    rows = ratio_rows()
    figure = figure_of(8.6, 0.32 * len(rows) + 0.9)
    axes = figure.subplots()
    names, ratios = zip(*rows, strict=True)
    colours = [OURS if ratio >= 1.0 else OTHER for ratio in ratios]
    axes.barh(names, [ratio - 1.0 for ratio in ratios], left=1.0, color=colours, height=0.62)
    for number, ratio in enumerate(ratios):
        text = f'{ratio:.0f}' if ratio >= 100.0 else f'{ratio:.2f}'
        place = {'textcoords': 'offset points', 'xytext': (4, 0), 'va': 'center'}
        axes.annotate(text, (max(ratio, 1.0), number), **place)
    axes.axvline(1.0, color=QUIET, lw=0.8)
    axes.set(xscale='log', xlabel='times as fast as what stands behind the stroke')
    axes.set_xlim(min(0.5, 0.9 * min(ratios)), 4.0 * max(ratios))
    axes.invert_yaxis()
    return figure


def performance_frame() -> Figure:
    """Draw where a frame's time goes, and the way from image to Twist by size of the image."""
    figure = figure_of(10.4, 3.6)
    stages, latency = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    _draw_stages(stages, record('bench/lockstep'))
    rows = record('bench/latency')['cases']
    sides = (('', OURS, 'td3_agent_node', -0.1), ('plain_', OTHER, 'plain node', 0.1))
    for side, colour, name, shift in sides:
        places = [number + shift for number in range(len(rows))]
        p50, p99 = ([row[f'{side}{p}_ms'] for row in rows.values()] for p in ('p50', 'p99'))
        latency.vlines(places, p50, p99, color=colour, lw=1.2)
        latency.plot(places, p50, 'o', color=colour, label=f'{name}: p50, line to p99')
    latency.set(yscale='log', ylabel='[ms]', title='Image published to Twist received')
    latency.set_xticks(range(len(rows)), list(rows))
    latency.grid(axis='y', alpha=0.3)
    latency.legend(loc='upper left', fontsize=8)
    return figure


def _draw_stages(axes: Axes, report: Report) -> None:
    """Lay the medians of the stages end to end, one bar per executor."""
    for executor, found in report['cases'].items():
        stages = {n: row['p50'] for n, row in found['stages_ms'].items() if n != END_TO_END}
        start_ms = 0.0
        for number, (name, span_ms) in enumerate(stages.items()):
            colour = mpl.colormaps['viridis'](number / (len(stages) - 1))
            axes.barh(executor, span_ms, left=start_ms, color=colour, edgecolor='white')
            place = {'ha': 'center', 'va': 'center', 'rotation': 90, 'fontsize': 7}
            ink = 'black' if sum(colour[:3]) > 1.6 else 'white'
            axes.annotate(name, (start_ms + span_ms / 2.0, executor), color=ink, **place)
            start_ms += span_ms
        rate = f' {found["frames_per_s"]:.0f} frames/s'
        axes.annotate(rate, (start_ms, executor), va='center', fontsize=8)
    axes.margins(x=0.22)
    width, height = report['camera']
    axes.set(xlabel='sum of the medians [ms]', title=f'A frame in lockstep, {width}x{height}')
    axes.invert_yaxis()


def scaling() -> Figure:
    """Draw what a vehicle more and a larger image cost, and the lines through the cases."""
    report = record('bench/scaling')
    cases = list(report['cases'].values())
    figure = figure_of(9.6, 3.9)
    panels = (
        ('vehicle', [(c['vehicles'], c) for c in cases if c['width'] == 160]),
        (
            'megapixel',
            [
                (c['width'] * c['height'] / PIXELS_PER_MEGAPIXEL, c)
                for c in cases
                if c['vehicles'] == 1
            ],
        ),
    )
    for axes, (unit, points) in zip(figure.subplots(1, 2), panels, strict=True):
        ends = (0.0, 1.04 * max(x for x, _ in points))
        styles = (('ros', 'over ROS', BLUE, 'o'), ('direct', 'direct path', DIRECT, 's'))
        for path, name, colour, marker in styles:
            line = report[f'ms_per_{unit}'][path]
            fitted = [line['base'] + line['each'] * end for end in ends]
            axes.plot(ends, fitted, '--', color=colour, lw=1.2)
            ms = [case['ms_per_frame'][path] for _, case in points]
            label = f'{name}: {line["each"]:.2f} ms per {unit}'
            axes.plot([x for x, _ in points], ms, marker, color=colour, label=label)
        axes.set(title=f'Cost per {unit}', ylabel='time per frame [ms]', xlim=ends)
        axes.set_ylim(bottom=0.0)
        axes.legend(loc='upper left', frameon=False)
        axes.grid(color=GRID)
    figure.axes[0].set(xlabel='vehicles, each with a camera of 160x120', xticks=(1, 2, 4))
    figure.axes[1].set_xlabel('size of the image [megapixels], one vehicle')
    return figure


def scale() -> Figure:
    """Draw the rates of Ray's workers as measured, and what is projected from the parts."""
    report = record('bench/ray')
    figure = figure_of(10.6, 4.1)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.3))
    workers = [int(name) for name in report['runs']]
    for kind, label, colour, marker in (
        ('store', 'steps only stored', BLUE, 'o'),
        ('train', 'training', DIRECT, 's'),
    ):
        rates = [runs[kind]['steps_per_s'] for runs in report['runs'].values()]
        left.plot(workers, rates, color=colour, marker=marker, label=label)
    each = report['runs'][str(workers[0])]['store']['steps_per_s'] / workers[0]
    ends = np.array([workers[0], workers[-1]])
    left.plot(ends, each * ends, '--', color='#9aa0a8', label='one worker, as many times')
    left.set_ylim(bottom=0.0)
    left.set(xlabel=f'workers, on {report["machine"]["cores"]} cores', xticks=workers)
    left.legend(frameon=False)
    _draw_projection(right, report)
    for axes, title in ((left, 'Measured'), (right, 'Projected')):
        axes.set(ylabel='steps/s')
        axes.set_title(title, loc='left', fontweight='bold')
        axes.grid(color=GRID)
    return figure


def _draw_projection(axes: Axes, report: Report) -> None:
    counts = list(range(1, PROJECTED[-1] + 1))
    asked = [asked_per_s(report, count) for count in counts]
    axes.plot(counts, asked, color=BLUE)
    axes.text(40.0, asked[39] / 1.7, 'what workers could take', color=BLUE)
    limits = [limits_per_s(report, count) for count in counts]
    styles = ('-', '--', ':', '--', ':')
    colours = (DIRECT, '#7a0c2e', '#7a0c2e', '#1e7d70', '#1e7d70')
    for name, style, colour in zip(limits[0], styles, colours, strict=True):
        axes.plot(counts, [limit[name] for limit in limits], color=colour, linestyle=style)
        above = name.startswith(('learner', 'steps'))  # steps and policies lie close together
        place = {'textcoords': 'offset points', 'xytext': (6.0, 4.0 if above else -4.0)}
        place |= {'va': 'center', 'fontsize': 8, 'annotation_clip': False}
        axes.annotate(name, (counts[-1], limits[-1][name]), color=colour, **place)
    axes.set(xscale='log', yscale='log', xlabel='workers, a core for each')
    axes.set_xlim(counts[0], counts[-1])


def soak() -> Figure:
    """Draw memory, open files and threads of every process over the soak."""
    report = record('soak')
    figure = figure_of(9.0, 5.0)
    memory, handles = figure.subplots(2, 1, sharex=True)
    for name, found in report['processes'].items():
        count = len(found['rss_bytes']) - 1  # at the last sample the first one is ending
        minutes = [report['soak_s'] / 60.0 * k / count for k in range(count)]
        (line,) = memory.plot(
            minutes, [v / MEGABYTE for v in found['rss_bytes'][:count]], label=name
        )
        handles.plot(minutes, found['fds'][:count], color=line.get_color())
        handles.plot(minutes, found['threads'][:count], '--', color=line.get_color())
    memory.set(ylabel='resident memory [MB]')
    memory.legend(loc=(0.35, 0.5), fontsize='small', ncols=2)
    xlabel = f'time [min], {report["frames"]} frames of 800x600'
    handles.set(ylabel='open files; threads (dashed)', xlabel=xlabel)
    for axes in (memory, handles):
        axes.set_ylim(bottom=0.0)
    return figure


def standard_tasks() -> Figure:
    """Draw the learning curves of every seed, HalfCheetah's beside the paper's."""
    figure = figure_of(9.6, 3.0)
    for axes, task in zip(figure.subplots(1, len(TASKS)), TASKS, strict=True):
        last = 0.0
        for seed, rows in runs_of(task):
            steps = [row['step'] for row in rows]
            last = max(last, steps[-1])
            axes.plot(steps, [row['return_mean'] for row in rows], lw=1.2, label=f'seed {seed}')
        if (paper := RESULTS / task / 'paper.csv').exists():
            rows = [row for row in csv_rows(paper) if row['step'] <= last]
            step, mean, std = (
                np.array([row[name] for row in rows])
                for name in ('step', 'return_mean', 'return_std')
            )
            axes.fill_between(step, mean - std, mean + std, color='grey', alpha=0.25, lw=0)
            axes.plot(step, mean, color='grey', label='paper, v1')
        axes.set(xlabel='environment steps', title=task)
        axes.legend(loc='lower right', fontsize=7)
        axes.grid(alpha=0.3)
        axes.spines[['top', 'right']].set_visible(False)
    figure.axes[0].set_ylabel('mean return of the evaluation')
    return figure


# ---- the package ------------------------------------------------------------------------------


def rooms() -> Figure:
    """Draw the sub-packages, each above those that it imports, with their modules and lines."""
    tree = House(ROOT)
    sizes: dict[str, list[int]] = {}
    for name, path in tree.modules.items():
        sizes.setdefault(room(name), []).append(line_count(path))
    uses = {name: set() for name in sizes if name}
    for name, others in tree.imports.items():
        if room(name):
            uses[room(name)] |= {room(other) for other in others} - {'', room(name)}

    def level(name: str) -> int:
        return max((level(other) + 1 for other in uses[name]), default=0)

    floors: dict[int, list[str]] = {}
    for name in sorted(uses):
        floors.setdefault(level(name), []).append(name)
    places = {
        name: ((column + 0.5) / len(names), floor)
        for floor, names in floors.items()
        for column, name in enumerate(names)
    }
    figure = figure_of(7.5, 0.9 * len(floors) + 0.3)
    axes = figure.subplots()
    for name, (x, y) in places.items():
        text = f'{name}\n{len(sizes[name])} modules, {sum(sizes[name])} lines'
        box = {'boxstyle': 'round,pad=0.5', 'facecolor': '#eef4f7', 'edgecolor': OURS}
        axes.text(x, y, text, ha='center', va='center', bbox=box, zorder=2, color=INK)
        through = set().union(*(uses[other] for other in uses[name]))
        for other in uses[name] - through:  # what one of these uses is used through it
            below_x, below_y = places[other]
            ends = {'xy': (below_x, below_y + 0.23), 'xytext': (x, y - 0.23)}
            axes.annotate('', **ends, arrowprops={'arrowstyle': '->', 'color': OURS})
    axes.set(xlim=(0.0, 1.0), ylim=(-0.5, len(floors) - 0.5))
    axes.set_axis_off()
    return figure


# ---- the embedded simulator --------------------------------------------------------------------

COLUMNS = 4
FRAMES, LOOKED_AT = 700, 20
AROUND_M, BEFORE_M = 45.0, 30.0
SEEN_M, NEAREST_M, SIDE = 60.0, 9.0, 0.7  # what counts as seen: ahead, and this far to the side
DRIVEN, TRAFFIC, PARKED = '#c8102e', BLUE, '#646a73'


def scenarios() -> Figure:
    """Draw every scenario: what the camera sees, and from above."""
    rows = -(-len(SCENARIOS) // COLUMNS)
    figure = figure_of(11.0, 3.65 * rows)
    axes = figure.subplots(2 * rows, COLUMNS, gridspec_kw={'height_ratios': [9.0, 10.0] * rows})
    for number, name in enumerate(SCENARIOS):
        row, column = divmod(number, COLUMNS)
        simulator = driven_simulator(name)
        simulator.mount_camera(CameraConfig(width=480, height=270))
        view = axes[2 * row][column]
        view.imshow(simulator.render()[..., 2::-1])
        view.set_axis_off()
        view.set_title(name, loc='left', fontsize=11, fontweight='bold', color=INK)
        _draw_map(axes[2 * row + 1][column], simulator)
    return figure


def driven_simulator(name: str) -> Simulator:
    """Return the simulator of a scenario at the instant at which the most vehicles are in view."""
    plan = SCENARIOS[name].plan(EpisodePlan(seed=3, camera_width=84, camera_height=84))
    shown = {n: in_view(simulator) for n, simulator in driven(plan) if n % LOOKED_AT == 0}
    best = max(shown, key=shown.__getitem__)
    return next(simulator for n, simulator in driven(plan) if n == best)


def driven(plan: EpisodePlan) -> Iterator[tuple[int, Simulator]]:
    """Yield frame numbers and the simulator of the first episode, driven by IDM between them."""
    simulator = plan.episode(0).simulator()
    driver = load_direct_driver(DirectDriverParams(driver=FOLLOWING), simulator)
    for frame, _ in enumerate(islice(direct_drive(simulator, driver), FRAMES), start=1):
        yield frame, simulator


def in_view(simulator: Simulator) -> float:
    """Return how much is to be seen: vehicles before the car, those that are near the more."""
    motion = simulator.ego.motion
    cos, sin = np.cos(motion.yaw_rad), np.sin(motion.yaw_rad)
    boxes = () if simulator.traffic is None else simulator.traffic.outlines(*motion[:2], SEEN_M)
    total = 0.0
    for box in boxes:
        dx, dy = box.x_m - motion.x_m, box.y_m - motion.y_m
        forward_m, left_m = cos * dx + sin * dy, cos * dy - sin * dx
        if forward_m > NEAREST_M and abs(left_m) < SIDE * forward_m:
            total += 1.0 / forward_m
    return total


def _draw_map(axes: Axes, simulator: Simulator) -> None:
    """Draw the surroundings of the car from above, its route and all vehicles."""
    motion = simulator.ego.motion
    axes.set_facecolor(VERGE)
    lanes = [np.vstack((lane.left, lane.right[::-1])) for lane in simulator.map.lanes]
    axes.add_collection(PolyCollection(lanes, facecolors=ROAD, edgecolors=EDGE, linewidths=0.4))
    axes.plot(*simulator.ego.route.points_xy.T, color=INK, linewidth=0.8, linestyle=(0, (3, 3)))
    traffic = () if simulator.traffic is None else simulator.traffic.outlines(*motion[:2], 200.0)
    parties = ((simulator.parked, PARKED), (traffic, TRAFFIC), ((simulator.ego.outline,), DRIVEN))
    for boxes, colour in parties:
        outlines = [np.array(box.corners()) for box in boxes]
        axes.add_collection(PolyCollection(outlines, facecolors=colour, zorder=3))
    x_m = motion.x_m + BEFORE_M * np.cos(motion.yaw_rad)
    y_m = motion.y_m + BEFORE_M * np.sin(motion.yaw_rad)
    axes.set_xlim(x_m - 1.6 * AROUND_M, x_m + 1.6 * AROUND_M)
    axes.set_ylim(y_m - AROUND_M, y_m + AROUND_M)
    axes.set(aspect='equal', xticks=[], yticks=[])


def randomisation() -> NDArray[np.uint8]:
    """Return what the camera sees at 24 starts of training episodes, rgb."""
    common = {'roads': 4, 'random': Randomisation(road_end_probability=0.0)}
    envs = [
        random_env(('winding',), **common),
        random_env(('town',), traffic=DrawnTraffic(), **common),
        random_env(('highway',), **common),
        random_env(('arterial',), traffic=DrawnTraffic(), **common),
    ]
    seen = []
    for number in range(24):
        env = envs[number % len(envs)]
        env.render_mode = 'rgb_array'
        env.reset(seed=100 + number)
        for _ in range(10):  # so that starts beside the road are on their way
            env.step(np.array([0.0, 0.0], dtype=np.float32))
        seen.append(np.asarray(env.render(), dtype=np.uint8))
    return sheet_of(seen, columns=6)


def maps() -> NDArray[np.uint8]:
    """Return every built-in map in its default look, some metres along a route, rgb."""
    seen = []
    for name in BUILT_IN:
        camera, traffic = CameraConfig(width=400, height=300), TrafficConfig(vehicles=30)
        simulator = Simulator(SimulatorConfig(map=name, seed=2, camera=camera, traffic=traffic))
        simulator.ego.set_pose(*simulator.ego.route.sample(60.0))
        image = cv2.cvtColor(simulator.render(), cv2.COLOR_BGRA2RGB)
        cv2.putText(image, name, (10, 26), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2)
        seen.append(np.asarray(image, dtype=np.uint8))
    return sheet_of(seen, columns=3)


def sheet_of(images: list[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Return images of one size side by side, row by row, with white around them."""
    framed = [np.pad(image, ((2, 2), (2, 2), (0, 0)), constant_values=255) for image in images]
    framed += [np.full_like(framed[0], 255)] * (-len(images) % columns)
    rows = [np.hstack(framed[at : at + columns]) for at in range(0, len(framed), columns)]
    return np.vstack(rows)


FROM_RECORDS = (performance_ratios, performance_frame, scaling, scale, soak, standard_tasks, rooms)
PICTURES = {draw.__name__: draw for draw in (*FROM_RECORDS, scenarios, maps, randomisation)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('names', nargs='*', metavar='NAME', help=', '.join(PICTURES))
    parser.add_argument('--out', type=Path, default=IMAGES, help='folder')
    args = parser.parse_args()
    for name in args.names or [draw.__name__ for draw in FROM_RECORDS]:
        picture = PICTURES[name]()
        if isinstance(picture, Figure):
            save(picture, args.out / f'{name}.png')
        else:  # noise does not compress without loss
            quality = [cv2.IMWRITE_JPEG_QUALITY, 88]
            cv2.imwrite(str(args.out / f'{name}.jpg'), picture[..., ::-1], quality)


if __name__ == '__main__':
    main()

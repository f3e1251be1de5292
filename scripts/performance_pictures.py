# SPDX-License-Identifier: Apache-2.0
"""Pictures of docs/performance.md, drawn by scripts/performance_tables.py from its reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

from td3_agent.evaluation.pictures import DPI, QUIET, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

OURS, OTHER = '#12586e', '#d1432b'
SIDES = (('', OURS, 'td3_agent_node'), ('plain_', OTHER, 'plain node'))
END_TO_END = 'end_to_end'

Reports = dict[str, dict[str, Any]]


def ratio_rows(reports: Reports) -> list[tuple[str, float]]:
    """Return what is compared with what, and how many times as fast, largest first."""
    executors = reports['lockstep']['cases']
    rows = [
        ('one command: publish() / process per command', reports['command']['ratio']),
        ('answer of the policy: ONNX Runtime / PyTorch', reports['inference']['ratio']),
        *(
            (f'image to Twist, {size}: agent / plain node', row['ratio'])
            for size, row in reports['latency']['cases'].items()
        ),
        *(
            (f'image in, {size}: profile and memory / plain', row['ratio'])
            for size, row in reports['image_in']['sizes'].items()
        ),
    ]
    if 'events' in executors:
        gain = executors['events']['frames_per_s'] / executors['single_threaded']['frames_per_s']
        rows.append(('lockstep: events / single-threaded executor', gain))
    return sorted(rows, key=lambda row: -row[1])


def draw_ratios(path: Path, reports: Reports) -> None:
    """Draw every ratio as a bar on a logarithmic scale."""
    rows = ratio_rows(reports)
    figure = _figure(8.6, 0.32 * len(rows) + 0.9)
    axes = figure.subplots()
    names, ratios = zip(*rows, strict=True)
    colours = [OURS if ratio >= 1.0 else OTHER for ratio in ratios]
    axes.barh(names, [ratio - 1.0 for ratio in ratios], left=1.0, color=colours, height=0.62)
    for number, ratio in enumerate(ratios):
        text = f'{ratio:.0f}' if ratio >= 100.0 else f'{ratio:.2f}'
        axes.annotate(
            text,
            (max(ratio, 1.0), number),
            textcoords='offset points',
            xytext=(4, 0),
            va='center',
        )
    axes.axvline(1.0, color=QUIET, lw=0.8)
    axes.set(xscale='log', xlabel='times as fast as what stands behind the stroke')
    axes.set_xlim(min(0.5, 0.9 * min(ratios)), 4.0 * max(ratios))
    axes.invert_yaxis()
    save(figure, path)


def draw_frame(path: Path, reports: Reports) -> None:
    """Draw where a frame's time goes, and the way from image to Twist by size of the image."""
    figure = _figure(10.4, 3.6)
    stages, latency = figure.subplots(1, 2, width_ratios=(1.25, 1.0))
    _draw_stages(stages, reports['lockstep'])
    _draw_latency(latency, reports['latency'])
    save(figure, path)


def _draw_stages(axes: Axes, report: dict[str, Any]) -> None:
    """Lay the medians of the stages end to end, one bar per executor."""
    colours = mpl.colormaps['viridis']
    for executor, found in report['cases'].items():
        spans = {name: row['p50'] for name, row in found['stages_ms'].items()}
        spans.pop(END_TO_END)
        start_ms = 0.0
        for number, (name, span_ms) in enumerate(spans.items()):
            colour = colours(number / (len(spans) - 1))
            bright = sum(colour[:3]) > 1.6
            axes.barh(executor, span_ms, left=start_ms, color=colour, edgecolor='white')
            axes.annotate(
                name,
                (start_ms + span_ms / 2.0, executor),
                ha='center',
                va='center',
                rotation=90,
                fontsize=7,
                color='black' if bright else 'white',
            )
            start_ms += span_ms
        axes.annotate(
            f' {found["frames_per_s"]:.0f} frames/s', (start_ms, executor), va='center', fontsize=8
        )
    axes.margins(x=0.22)
    width, height = report['camera']
    axes.set(xlabel='sum of the medians [ms]', title=f'A frame in lockstep, {width}x{height}')
    axes.invert_yaxis()


def _draw_latency(axes: Axes, report: dict[str, Any]) -> None:
    """Draw medians as points, and a line from each to its 99th percentile."""
    sizes = list(report['cases'])
    for shift, (side, colour, name) in zip((-0.1, 0.1), SIDES, strict=True):
        places = [number + shift for number in range(len(sizes))]
        rows = list(report['cases'].values())
        p50, p99 = ([row[f'{side}{p}_ms'] for row in rows] for p in ('p50', 'p99'))
        axes.vlines(places, p50, p99, color=colour, lw=1.2)
        axes.plot(places, p50, 'o', color=colour, label=f'{name}: p50, line to p99')
    axes.set(yscale='log', ylabel='[ms]', title='Image published to Twist received')
    axes.set_xticks(range(len(sizes)), sizes)
    axes.grid(axis='y', alpha=0.3)
    axes.legend(loc='upper left', fontsize=8)


def _figure(width_in: float, height_in: float) -> Figure:
    mpl.rcParams['font.size'] = 9
    return Figure(figsize=(width_in, height_in), dpi=DPI, layout='constrained')

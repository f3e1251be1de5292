# SPDX-License-Identifier: Apache-2.0
"""Draws what a vehicle more and a larger image cost: one panel each, the lines through them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from td3_agent.bench.scaling import DIRECT, IMAGE_SIZES, MORE_VEHICLES, ROS, Case, cost
from td3_agent.evaluation.pictures import DPI, INK, QUIET, save

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    import os

    from matplotlib.axes import Axes

# Path: name, colour, marker.
STYLES = {
    ROS: ('over ROS', '#1d5fbf', 'o'),
    DIRECT: ('direct path, one process', '#c9620a', 's'),
}
GRID, FRAME = '#e3e6ea', '#c3c8c0'
SIZE_IN = (9.6, 3.9)
MARGIN, HEADROOM = 1.04, 1.12  # so that no marker touches the frame


def draw_scaling(path: str | os.PathLike[str], reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Draw the report of ``td3_agent bench scaling`` as a PNG.

    Args:
        path: the PNG file.
        reports: what benchmarks print as JSON, by name.
    """
    report = reports['scaling']
    figure = Figure(figsize=SIZE_IN, dpi=DPI, facecolor='white', layout='constrained')
    left, right = figure.subplots(1, 2)
    _panel(left, report, MORE_VEHICLES, 'vehicle', lambda case: case.vehicles)
    left.set_xlabel('vehicles, each with a camera of 160x120', color=INK)
    left.set_xticks([case.vehicles for case in MORE_VEHICLES])
    _panel(right, report, IMAGE_SIZES, 'megapixel', lambda case: case.megapixels)
    right.set_xlabel('size of the image [megapixels], one vehicle', color=INK)
    left.set_ylabel('time per frame [ms]', color=INK)
    save(figure, path)


def _panel(
    axes: Axes,
    report: Mapping[str, Any],
    cases: Sequence[Case],
    unit: str,
    x_of: Callable[[Case], float],
) -> None:
    """Draw points and fitted line of both paths against one quantity."""
    lines = cost(report, unit)
    x = [x_of(case) for case in cases]
    ends = [0.0, MARGIN * max(x)]
    tallest = 0.0
    for path, (name, colour, marker) in STYLES.items():
        ms = [report['cases'][case.name]['ms_per_frame'][path] for case in cases]
        tallest = max(tallest, *ms)
        line = lines[path]
        axes.plot(
            ends,
            [line['base'] + line['each'] * end for end in ends],
            color=colour,
            linewidth=1.2,
            linestyle=(0, (4, 3)),
            alpha=0.8,
        )
        label = f'{name}: {line["each"]:.2f} ms per {unit}'
        axes.plot(
            x,
            ms,
            linestyle='none',
            marker=marker,
            markersize=7.5,
            markerfacecolor=colour,
            markeredgecolor='white',
            label=label,
        )
    axes.set_xlim((1.0 - MARGIN) * max(x), ends[1])
    axes.set_ylim(0.0, HEADROOM * tallest)
    axes.set_title(
        f'Cost per {unit}', color=INK, fontsize=12, fontweight='bold', loc='left', pad=8
    )
    axes.legend(loc='upper left', frameon=False, fontsize=9, labelcolor=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=QUIET, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color(FRAME)

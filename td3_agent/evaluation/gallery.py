# SPDX-License-Identifier: Apache-2.0
"""One picture of all episodes: a small map each, with the driven line coloured by speed."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from td3_agent.evaluation.episode_result import EVENTS
from td3_agent.evaluation.pictures import (
    DPI,
    EDGE,
    EVENT_STYLES,
    FULL_SCALE_MPS,
    INK,
    JUMP_M,
    QUIET,
    ROAD,
    SPEED_COLOURS,
    VERGE,
    save,
)
from td3_agent.evaluation.result_tables import ending_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from td3_agent.evaluation.episode_result import EpisodeResult, EpisodeView

MOST_COLUMNS = 8
CELL_IN = 1.9
MARGIN_M = 15.0
FLATTEST = 0.35
GOOD, BAD = '#1f7a3d', '#b3202a'
FAST = Normalize(0.0, FULL_SCALE_MPS)
EVENT_LABELS = {
    name.replace('_', ' '): style for name, style in zip(EVENTS, EVENT_STYLES, strict=False)
}


def plot_gallery(path: Path, judged: Sequence[EpisodeResult], title: str) -> None:
    """Draw every episode as a PNG, in rows; captions of failed ones are red.

    Args:
        path: the PNG file.
        judged: the episodes, at least one.
        title: heading of the picture.
    """
    aspect = cell_aspect([one.view for one in judged])
    columns = min(
        len(judged), MOST_COLUMNS, max(4, math.ceil(math.sqrt(1.6 * aspect * len(judged))))
    )
    rows = math.ceil(len(judged) / columns)
    size = (max(columns, 4) * CELL_IN + 1.0, rows * (aspect * CELL_IN + 0.35) + 1.2)
    figure = Figure(figsize=size, dpi=DPI, facecolor='white', layout='constrained')
    figure.suptitle(title, color=INK, fontsize=13, fontweight='bold', x=0.01, ha='left')
    cells = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes, one in zip(cells, judged, strict=False):
        _draw_episode(axes, one, aspect)
    for axes in cells[len(judged) :]:
        axes.set_axis_off()
    bar = figure.colorbar(
        ScalarMappable(FAST, SPEED_COLOURS),
        ax=cells,
        fraction=0.03,
        pad=0.01,
        aspect=30,
        shrink=min(1.0, 4.0 / rows),
    )
    bar.set_label('speed [m/s]', color=INK)
    bar.ax.tick_params(colors=QUIET, labelsize=9)
    bar.outline.set_visible(False)
    figure.legend(
        handles=_legend(judged),
        loc='outside lower center',
        ncols=5,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
    )
    save(figure, path)


def _draw_episode(axes: Axes, one: EpisodeResult, aspect: float) -> None:
    """Draw one episode: road, route, driven line, goal and events."""
    view, figures = one.view, one.figures
    axes.set_facecolor(VERGE)
    axes.set_aspect('equal')
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color('#c3c8c0')
    _set_view(axes, view, aspect)
    axes.add_collection(PolyCollection(view.road, facecolors=EDGE, edgecolors=EDGE, linewidths=1))
    axes.add_collection(PolyCollection(view.road, facecolors=ROAD, edgecolors=ROAD, linewidths=0))
    axes.plot(*view.route.T, color=INK, linewidth=0.7, linestyle=(0, (3, 3)), zorder=3)
    _draw_driven(axes, view)
    axes.plot(*view.route[-1], marker='*', ms=9.0, mfc=INK, mec='w', mew=0.8, zorder=6)
    for x_m, y_m, label in view.events:
        marker, colour = EVENT_LABELS[label]
        axes.plot(x_m, y_m, marker=marker, ms=7.0, mfc=colour, mec='w', mew=0.8, zorder=8)
    how = ending_text(figures)
    speed = figures['mean_speed_mps'] or 0.0
    axes.set_title(
        f'{figures["episode"]}: {how}\n{100.0 * figures["route_completion"]:.0f} %,'
        f' {speed:.1f} m/s',
        fontsize=7.5,
        color=GOOD if figures['success'] else BAD,
        loc='left',
        pad=3,
    )


def _bounds(view: EpisodeView) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return middle and half extent of what is to be seen, (2,) [m] each."""
    points = np.vstack((view.route, view.driven))
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2.0, (high - low) / 2.0 + MARGIN_M


def cell_aspect(views: Sequence[EpisodeView]) -> float:
    """Return height per width of a cell that suits all episodes: long roads get flat ones."""
    tallest = max(float(half[1] / half[0]) for _, half in map(_bounds, views))
    return min(max(tallest, FLATTEST), 1.0)


def _set_view(axes: Axes, view: EpisodeView, aspect: float) -> None:
    """Show route and drive, ``aspect`` times as high as wide."""
    middle, half = _bounds(view)
    wide = max(half[0], half[1] / aspect)
    axes.set_xlim(middle[0] - wide, middle[0] + wide)
    axes.set_ylim(middle[1] - wide * aspect, middle[1] + wide * aspect)


def _draw_driven(axes: Axes, view: EpisodeView) -> None:
    """Draw the driven line, its colour the speed."""
    if len(view.driven) < 2:
        return
    steps = np.stack((view.driven[:-1], view.driven[1:]), axis=1)
    near = np.hypot(*np.moveaxis(steps[:, 1] - steps[:, 0], -1, 0)) < JUMP_M
    speed = 0.5 * (view.speed_mps[:-1] + view.speed_mps[1:])
    lines = LineCollection(
        list(steps[near]), cmap=SPEED_COLOURS, norm=FAST, linewidths=2.2, zorder=5
    )
    lines.set_array(speed[near])
    axes.add_collection(lines)
    axes.plot(*view.driven[0], marker='o', ms=4.5, mfc=GOOD, mec='w', mew=0.8, zorder=6)
    axes.plot(*view.driven[-1], marker='o', ms=8.0, mfc='none', mec=INK, mew=1.0, zorder=7)


def _legend(judged: Sequence[EpisodeResult]) -> list[Line2D]:
    """Return a legend entry for everything that occurs."""
    seen = {label for one in judged for _, _, label in one.view.events}
    entries = [
        Line2D([], [], color=INK, linewidth=0.7, linestyle=(0, (3, 3)), label='route'),
        _mark('o', GOOD, 'start', 'w'),
        _mark('*', INK, 'goal', 'w'),
        _mark('o', 'none', 'last position', INK),
    ]
    return entries + [
        _mark(marker, colour, label, 'w')
        for label, (marker, colour) in EVENT_LABELS.items()
        if label in seen
    ]


def _mark(marker: str, face: str, label: str, edge: str) -> Line2D:
    return Line2D([], [], linestyle='none', marker=marker, ms=8, mfc=face, mec=edge, label=label)

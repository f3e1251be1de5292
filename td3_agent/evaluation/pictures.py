# SPDX-License-Identifier: Apache-2.0
"""Pictures of a drive: its trajectory on the road, and what the camera saw.

Drawn on figures of their own with the Agg canvas: no display, no pyplot, no global state, so
that a node or a worker process can draw at any time.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence
    import os

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import ArrayLike, NDArray

DPI = 130
VERGE, ROAD, EDGE, MARKING = '#e9ede4', '#a3a7ad', '#8b9097', '#ffffff'
INK, QUIET = '#22262b', '#646a73'
# Dark red, orange, yellow, teal, deep blue-green: slow is alarming, fast is calm; on grey asphalt
# each end stays readable, also for the colour blind (brightness peaks in the middle).
SPEED_COLOURS = LinearSegmentedColormap.from_list(
    'speed', ['#7a0c2e', '#d1432b', '#f5a11c', '#f4e04d', '#37b6a3', '#12586e']
)
EVENT_STYLES = (  # marker and colour of the first, second, ... label
    ('X', '#d3222a'),
    ('v', '#7b2fa6'),
    ('s', '#c9620a'),
    ('D', '#1d5fbf'),
    ('P', '#a8125e'),
    ('^', '#3d3d3d'),
)
FULL_SCALE_MPS = 8.33
JUMP_M = 5.0  # farther than any tick: the car was moved, not driven
LEAST_SPAN_M = 30.0
MARGIN = 0.06
LONG_SIDE_IN = 11.0
STRIP_COLUMNS = 6
GAP_IN, CAPTION_IN = 0.06, 0.27
POINTS_PER_INCH = 72.0


class _View(NamedTuple):
    """Part of the ground that is shown [m]."""

    x_min: float
    x_max: float
    y_min: float
    y_max: float

    @property
    def inches_per_m(self) -> float:
        """Scale of the map in the picture."""
        width, height = self.x_max - self.x_min, self.y_max - self.y_min
        return min(LONG_SIDE_IN / width, 0.68 * LONG_SIDE_IN / height)

    def line_width(self, wide_m: float, least: float, most: float) -> float:
        """Width [points] of a line that is ``wide_m`` on the ground, within limits."""
        return min(max(wide_m * self.inches_per_m * POINTS_PER_INCH, least), most)


def plot_trajectory(  # noqa: PLR0913  the layers of a map
    path: str | os.PathLike[str],
    *,
    driven: ArrayLike,
    speed_mps: ArrayLike,
    road: Sequence[ArrayLike] = (),
    markings: Sequence[ArrayLike] = (),
    route: ArrayLike | None = None,
    events: Sequence[tuple[float, float, str]] = (),
    title: str = 'Trajectory',
) -> None:
    """Draw a drive as a PNG: road, markings, route, driven line coloured by speed, events.

    Args:
        path: the PNG file.
        driven: (N, 2) positions in the map frame [m]; may be empty.
        speed_mps: (N,) speed at each position [m/s].
        road: polygons of road surface, each (K, 2) [m].
        markings: lane boundaries, each (K, 2) [m].
        route: (M, 2) the line that was to be followed [m].
        events: (x [m], y [m], label); one marker per kind of label.
        title: heading of the picture.

    Raises:
        ValueError: a shape is wrong, or lengths differ.
    """
    line, speed = _points('driven', driven), np.asarray(speed_mps, dtype=np.float64)
    if speed.shape != (len(line),):
        raise ValueError(f'speed_mps must have shape ({len(line)},), got {speed.shape}')
    surfaces = [_points('road', polygon) for polygon in road]
    boundaries = [_points('markings', boundary) for boundary in markings]
    wanted = None if route is None else _points('route', route)
    view = _view_of([line, *([] if wanted is None else [wanted])], surfaces + boundaries)
    figure, axes = _map_axes(view, title)
    _draw_road(axes, view, surfaces, boundaries)
    handles = _draw_route(axes, wanted)
    _draw_driven(figure, axes, view, line, speed)
    handles += _draw_ends(axes, line, wanted) + _draw_events(axes, events)
    if handles:
        figure.legend(
            handles=handles,
            loc='outside lower center',
            ncols=min(len(handles), 6),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
            handletextpad=0.5,
            columnspacing=1.8,
        )
    save(figure, path)


def camera_strip(
    path: str | os.PathLike[str],
    frames: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    *,
    order: Literal['bgr', 'rgb'] = 'rgb',
    title: str = '',
) -> None:
    """Draw camera frames side by side as a PNG, each with a caption below it.

    Args:
        path: the PNG file.
        frames: (H, W, 3) or (H, W, 4) uint8 each; a fourth channel (alpha) is left out.
        captions: one text per frame, such as its simulated time.
        order: order of the colour channels.
        title: heading of the picture.

    Raises:
        ValueError: no frames, a wrong shape or type, or not one caption per frame.
    """
    if not frames or len(captions) != len(frames):
        raise ValueError(f'need one caption per frame, got {len(frames)} and {len(captions)}')
    images = [_rgb(frame, order) for frame in frames]
    columns = min(len(images), STRIP_COLUMNS)
    rows = math.ceil(len(images) / columns)
    width_in = LONG_SIDE_IN / max(columns, 4)
    height_in = width_in * images[0].shape[0] / images[0].shape[1]
    top_in = 0.42 if title else GAP_IN
    total_in = (columns * (width_in + GAP_IN) + GAP_IN, top_in + rows * (height_in + CAPTION_IN))
    figure = Figure(figsize=total_in, dpi=DPI, facecolor='white')
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        left_in = GAP_IN + (i % columns) * (width_in + GAP_IN)
        base_in = total_in[1] - top_in - (i // columns) * (height_in + CAPTION_IN) - height_in
        axes = figure.add_axes(
            (
                left_in / total_in[0],
                base_in / total_in[1],
                width_in / total_in[0],
                height_in / total_in[1],
            )
        )
        axes.set_axis_off()
        axes.imshow(image, interpolation='bilinear', aspect='auto')
        figure.text(
            (left_in + width_in / 2.0) / total_in[0],
            (base_in - 0.05) / total_in[1],
            caption,
            ha='center',
            va='top',
            fontsize=9,
            color=INK,
        )
    if title:
        figure.text(
            GAP_IN / total_in[0],
            1.0 - 0.21 / total_in[1],
            title,
            ha='left',
            va='center',
            fontsize=12,
            color=INK,
            fontweight='bold',
        )
    save(figure, path)


def _points(name: str, values: ArrayLike) -> NDArray[np.float64]:
    points = np.asarray(values, dtype=np.float64)
    if points.size == 0:
        return np.empty((0, 2))
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f'{name} must have shape (N, 2), got {points.shape}')
    return points


def _view_of(first: list[NDArray[np.float64]], otherwise: list[NDArray[np.float64]]) -> _View:
    """Return the part to show: all of the drive, or all of the road when there is no drive."""
    everything = np.vstack([*first, np.empty((0, 2))])
    if len(everything) == 0:
        everything = np.vstack([*otherwise, np.zeros((1, 2))])
    everything = everything[np.isfinite(everything).all(axis=1)]
    if len(everything) == 0:
        everything = np.zeros((1, 2))
    low, high = everything.min(axis=0), everything.max(axis=0)
    margin = np.maximum(MARGIN * (high - low).max(), 12.0)
    half = np.maximum((high - low) / 2.0 + margin, LEAST_SPAN_M / 2.0)
    # No thinner than 1 : 6, where labels would no longer fit beside the map.
    half = np.maximum(half, half.max() / 6.0)
    middle = (low + high) / 2.0
    return _View(
        middle[0] - half[0], middle[0] + half[0], middle[1] - half[1], middle[1] + half[1]
    )


def _map_axes(view: _View, title: str) -> tuple[Figure, Axes]:
    """Return a figure shaped like the view, with metres on both axes."""
    scale = view.inches_per_m
    width_in, height_in = (view.x_max - view.x_min) * scale, (view.y_max - view.y_min) * scale
    size = (max(width_in, 4.0) + 1.6, height_in + 1.35)
    figure = Figure(figsize=size, dpi=DPI, facecolor='white', layout='constrained')
    axes = figure.add_subplot()
    axes.set_facecolor(VERGE)
    axes.set_aspect('equal')
    axes.set_xlim(view.x_min, view.x_max)
    axes.set_ylim(view.y_min, view.y_max)
    axes.set_xlabel('x [m]', color=INK)
    axes.set_ylabel('y [m]', color=INK)
    axes.set_title(title, color=INK, fontsize=13, fontweight='bold', loc='left', pad=9)
    axes.tick_params(colors=QUIET, labelsize=9)
    for spine in axes.spines.values():
        spine.set_color('#c3c8c0')
    return figure, axes


def _draw_road(
    axes: Axes,
    view: _View,
    road: list[NDArray[np.float64]],
    markings: list[NDArray[np.float64]],
) -> None:
    surfaces = [polygon for polygon in road if len(polygon) > 2]
    # The outline in a layer of its own: polygons that touch show no seam.
    axes.add_collection(PolyCollection(surfaces, facecolors=EDGE, edgecolors=EDGE, linewidths=1.6))
    axes.add_collection(PolyCollection(surfaces, facecolors=ROAD, edgecolors=ROAD, linewidths=0.4))
    lines = [line for line in markings if len(line) > 1]
    width = view.line_width(0.15, 0.45, 1.2)
    axes.add_collection(LineCollection(lines, colors=MARKING, linewidths=width, alpha=0.9))


def _draw_route(axes: Axes, route: NDArray[np.float64] | None) -> list[Line2D]:
    if route is None or len(route) == 0:
        return []
    return axes.plot(
        route[:, 0],
        route[:, 1],
        color=INK,
        linewidth=0.9,
        linestyle=(0, (4, 4)),
        alpha=0.85,
        label='route',
        zorder=3,  # below the driven line: shows where the two part
    )


def _draw_driven(
    figure: Figure,
    axes: Axes,
    view: _View,
    line: NDArray[np.float64],
    speed: NDArray[np.float64],
) -> None:
    """Draw the driven line, its colour the speed, and the colour bar beside the map."""
    steps = np.stack((line[:-1], line[1:]), axis=1)
    driven = np.hypot(*np.moveaxis(steps[:, 1] - steps[:, 0], -1, 0)) < JUMP_M  # NaN: not driven
    segments, width = list(steps[driven]), view.line_width(1.3, 2.4, 4.0)
    axes.add_collection(
        LineCollection(
            segments, colors='white', linewidths=width + 1.2, alpha=0.6, zorder=4, capstyle='round'
        )
    )
    colours = LineCollection(
        segments, cmap=SPEED_COLOURS, linewidths=width, zorder=5, capstyle='round'
    )
    colours.set_array(0.5 * (speed[:-1] + speed[1:])[driven])
    colours.set_clim(0.0, max(FULL_SCALE_MPS, float(np.nanmax(speed, initial=0.0))))
    axes.add_collection(colours)
    wide = 1.0 / ((view.x_max - view.x_min) * view.inches_per_m)  # one inch, of the map's width
    bar = figure.colorbar(colours, cax=axes.inset_axes((1.0 + 0.12 * wide, 0.0, 0.16 * wide, 1.0)))
    bar.set_label('speed [m/s]', color=INK)
    bar.ax.tick_params(colors=QUIET, labelsize=9)
    bar.outline.set_visible(False)


def _draw_ends(
    axes: Axes, line: NDArray[np.float64], route: NDArray[np.float64] | None
) -> list[Line2D]:
    ends: list[tuple[NDArray[np.float64], str, dict[str, Any]]] = []
    if len(line):
        ends.append((line[0], 'start', {'marker': 'o', 'ms': 9.0, 'mfc': '#1f9d47', 'mec': 'w'}))
    if route is not None and len(route):
        ends.append((route[-1], 'goal', {'marker': '*', 'ms': 15.0, 'mfc': INK, 'mec': 'w'}))
    if len(line):  # a ring, so that the goal or an event shows inside it
        ring = {'marker': 'o', 'ms': 15.0, 'mfc': 'none', 'mec': INK}
        ends.append((line[-1], 'last position', ring))
    return [
        axes.plot(*point, linestyle='none', markeredgewidth=1.3, label=label, zorder=7, **style)[0]
        for point, label, style in ends
    ]


def _draw_events(axes: Axes, events: Sequence[tuple[float, float, str]]) -> list[Line2D]:
    handles = []
    for i, label in enumerate(dict.fromkeys(label for _, _, label in events)):
        marker, colour = EVENT_STYLES[i % len(EVENT_STYLES)]
        places = np.array([(x, y) for x, y, other in events if other == label])
        count = f' ({len(places)})' if len(places) > 1 else ''
        handles += axes.plot(
            places[:, 0],
            places[:, 1],
            linestyle='none',
            marker=marker,
            markersize=10.0,
            markerfacecolor=colour,
            markeredgecolor='white',
            markeredgewidth=1.2,
            label=label + count,
            zorder=8,
        )
    return handles


def _rgb(frame: NDArray[np.uint8], order: str) -> NDArray[np.uint8]:
    if frame.ndim != 3 or frame.shape[2] not in {3, 4} or frame.dtype != np.uint8:
        raise ValueError(
            f'frame must be (H, W, 3) or (H, W, 4) uint8, got {frame.shape} {frame.dtype}'
        )
    colours = frame[:, :, :3]
    return colours[:, :, ::-1] if order == 'bgr' else colours


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure as a PNG; equal figures give equal bytes."""
    # Without the library's version in the file, equal pictures are equal bytes.
    FigureCanvasAgg(figure)
    figure.savefig(path, format='png', metadata={'Software': None})

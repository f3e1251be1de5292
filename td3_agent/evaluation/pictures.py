# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of drives: one on its road, many as small maps, and what the camera saw.

Drawn on figures of their own with the Agg canvas: no display, no pyplot, no global state, so
that a node or a worker process can draw at any time.
"""

from __future__ import annotations

from itertools import cycle
import math
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
import numpy as np

from td3_agent.evaluation.episode_result import EVENTS
from td3_agent.evaluation.result_tables import ending_text

if TYPE_CHECKING:
    from collections.abc import Sequence
    import os

    from matplotlib.axes import Axes
    from matplotlib.lines import Line2D
    from numpy.typing import NDArray

    from td3_agent.evaluation.episode_result import EpisodeResult, EpisodeView

DPI = 130
VERGE, ROAD, EDGE, MARKING = '#e9ede4', '#a3a7ad', '#8b9097', '#ffffff'
INK, QUIET, SPINE = '#22262b', '#646a73', '#c3c8c0'
GOOD, BAD = '#1f7a3d', '#b3202a'
# Dark red, orange, yellow, teal, deep blue-green: slow is alarming, fast is calm; on grey asphalt
# each end stays readable, also for the colour blind (brightness peaks in the middle).
SPEED_COLOURS = LinearSegmentedColormap.from_list(
    'speed', ['#7a0c2e', '#d1432b', '#f5a11c', '#f4e04d', '#37b6a3', '#12586e']
)
EVENT_STYLES = (  # marker and colour; the first belong to EVENTS, the same in every picture
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
TITLE_IN, CAPTION_IN = 0.42, 0.27
POINTS_PER_INCH = 72.0
# Of the picture of many episodes.
MOST_COLUMNS = 8
CELL_IN = 1.9
CELL_MARGIN_M = 15.0
FLATTEST = 0.35
CELL_SCALE = 0.5  # of its markers, beside those of a picture of one drive
CELL_LINE_PT = 2.2


class _MapArea(NamedTuple):
    """Part of the ground that is shown: its middle and half of its extent, (2,) [m] each."""

    middle: NDArray[np.float64]
    half: NDArray[np.float64]

    @property
    def inches_per_m(self) -> float:
        """Scale of the map in a picture of one drive."""
        width, height = 2.0 * self.half
        return float(min(LONG_SIDE_IN / width, 0.68 * LONG_SIDE_IN / height))

    def points(self, wide_m: float, least: float, most: float) -> float:
        """Width [points] of a line that is ``wide_m`` on the ground, within limits."""
        return min(max(wide_m * self.inches_per_m * POINTS_PER_INCH, least), most)

    def show(self, axes: Axes) -> None:
        """Show this part, as high as wide by its metres."""
        axes.set_facecolor(VERGE)
        axes.set_aspect('equal')
        low, high = self.middle - self.half, self.middle + self.half
        axes.set_xlim(low[0], high[0])
        axes.set_ylim(low[1], high[1])
        for spine in axes.spines.values():
            spine.set_color(SPINE)


def plot_trajectory(
    path: str | os.PathLike[str],
    drive: EpisodeView,
    *,
    markings: Sequence[NDArray[np.float64]] = (),
    title: str = 'Trajectory',
) -> None:
    """Draw a drive as a PNG: road, markings, route, driven line coloured by speed, events.

    Args:
        path: the PNG file.
        drive: what is drawn; driven line and route may be empty.
        markings: lane boundaries, each (K, 2) [m].
        title: heading of the picture.
    """
    ground = _ground_of([drive.driven, drive.route], [*drive.road, *markings])
    width_in, height_in = 2.0 * ground.half * ground.inches_per_m
    size = (max(width_in, 4.0) + 1.6, height_in + 1.35)
    figure = Figure(figsize=size, dpi=DPI, facecolor='white', layout='constrained')
    axes = figure.add_subplot()
    ground.show(axes)
    axes.set_xlabel('x [m]', color=INK)
    axes.set_ylabel('y [m]', color=INK)
    axes.set_title(title, color=INK, fontsize=13, fontweight='bold', loc='left', pad=9)
    axes.tick_params(colors=QUIET, labelsize=9)
    lines = [line for line in markings if len(line) > 1]
    width = ground.points(0.15, 0.45, 1.2)
    axes.add_collection(
        LineCollection(lines, colors=MARKING, linewidths=width, alpha=0.9, zorder=1.5)
    )
    fastest_mps = max(FULL_SCALE_MPS, float(np.nanmax(drive.speed_mps, initial=0.0)))
    colours = ScalarMappable(Normalize(0.0, fastest_mps), SPEED_COLOURS)
    handles = _draw_drive(axes, drive, colours, ground.points(1.3, 2.4, 4.0), scale=1.0)
    inch = 1.0 / width_in  # of the map's width
    place = axes.inset_axes((1.0 + 0.12 * inch, 0.0, 0.16 * inch, 1.0))
    _add_speed_bar(figure, colours, cax=place)
    if handles:
        _add_legend(figure, handles, min(len(handles), 7))
    save(figure, path)


def plot_gallery(
    path: str | os.PathLike[str], results: Sequence[EpisodeResult], title: str
) -> None:
    """Draw every episode as a PNG, in rows; captions of failed ones are red.

    Args:
        path: the PNG file.
        results: the episodes, at least one.
        title: heading of the picture.
    """
    aspect = cell_aspect([one.view for one in results])
    columns = min(
        len(results), MOST_COLUMNS, max(4, math.ceil(math.sqrt(1.6 * aspect * len(results))))
    )
    rows = math.ceil(len(results) / columns)
    size = (max(columns, 4) * CELL_IN + 1.0, rows * (aspect * CELL_IN + 0.35) + 1.2)
    figure = Figure(figsize=size, dpi=DPI, facecolor='white', layout='constrained')
    figure.suptitle(title, color=INK, fontsize=13, fontweight='bold', x=0.01, ha='left')
    cells = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    colours = ScalarMappable(Normalize(0.0, FULL_SCALE_MPS), SPEED_COLOURS)
    handles: dict[object, Line2D] = {}
    for axes, one in zip(cells, results, strict=False):
        handles |= {line.get_label(): line for line in _draw_cell(axes, one, aspect, colours)}
    for axes in cells[len(results) :]:
        axes.set_axis_off()
    shrink = min(1.0, 4.0 / rows)
    _add_speed_bar(figure, colours, ax=cells, fraction=0.03, pad=0.01, aspect=30, shrink=shrink)
    _add_legend(figure, list(handles.values()), 6, markerscale=1.0 / CELL_SCALE)
    save(figure, path)


def _draw_cell(
    axes: Axes, one: EpisodeResult, aspect: float, colours: ScalarMappable
) -> list[Line2D]:
    """Draw one episode of many, ``aspect`` times as high as wide; return what is in its legend."""
    axes.set_xticks([])
    axes.set_yticks([])
    middle, half = _bounds(one.view)
    wide = max(half[0], half[1] / aspect)
    _MapArea(middle, np.array([wide, wide * aspect])).show(axes)
    speed, covered = one.figures['mean_speed_mps'] or 0.0, one.figures['route_completion']
    axes.set_title(
        f'{one.figures["episode"]}: {ending_text(one.figures)}\n{covered:.0%}, {speed:.1f} m/s',
        fontsize=7.5,
        color=GOOD if one.figures['success'] else BAD,
        loc='left',
        pad=3,
    )
    return _draw_drive(axes, one.view, colours, CELL_LINE_PT, scale=CELL_SCALE)


def cell_aspect(views: Sequence[EpisodeView]) -> float:
    """Return height per width of a cell that suits all episodes: long roads get flat ones."""
    tallest = max(float(half[1] / half[0]) for _, half in map(_bounds, views))
    return min(max(tallest, FLATTEST), 1.0)


def _bounds(view: EpisodeView) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return middle and half extent of what is to be seen, (2,) [m] each."""
    points = np.vstack((view.route, view.driven))
    low, high = points.min(axis=0), points.max(axis=0)
    return (low + high) / 2.0, (high - low) / 2.0 + CELL_MARGIN_M


def _ground_of(first: list[NDArray[np.float64]], otherwise: list[NDArray[np.float64]]) -> _MapArea:
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
    return _MapArea((low + high) / 2.0, np.maximum(half, half.max() / 6.0))


def _draw_drive(
    axes: Axes, drive: EpisodeView, colours: ScalarMappable, width_pt: float, *, scale: float
) -> list[Line2D]:
    """Draw road, route, driven line, its ends and events; return what belongs into a legend."""
    surfaces = [polygon for polygon in drive.road if len(polygon) > 2]
    # The outline in a layer of its own: polygons that touch show no seam.
    for colour, seam_pt in ((EDGE, 1.0 + 0.6 * scale), (ROAD, 0.4)):
        axes.add_collection(
            PolyCollection(surfaces, facecolors=colour, edgecolors=colour, linewidths=seam_pt)
        )
    handles: list[Line2D] = []
    if len(drive.route):
        dashes = {'linewidth': 0.8, 'linestyle': (0, (4, 4)), 'alpha': 0.85}
        # Below the driven line: shows where the two part.
        handles += axes.plot(*drive.route.T, color=INK, label='route', zorder=3, **dashes)
    _draw_driven(axes, drive, colours, width_pt)
    return handles + _draw_ends(axes, drive, scale) + _draw_events(axes, drive.events, scale)


def _draw_driven(axes: Axes, drive: EpisodeView, colours: ScalarMappable, width_pt: float) -> None:
    """Draw the driven line with a light edge, its colour the speed."""
    steps = np.stack((drive.driven[:-1], drive.driven[1:]), axis=1)
    near = np.hypot(*np.moveaxis(steps[:, 1] - steps[:, 0], -1, 0)) < JUMP_M  # NaN: not driven
    speeds = 0.5 * (drive.speed_mps[:-1] + drive.speed_mps[1:])
    for width, colour, alpha, zorder in (
        (width_pt + 1.2, 'white', 0.6, 4),
        (width_pt, colours.to_rgba(speeds[near]), 1.0, 5),
    ):
        axes.add_collection(
            LineCollection(
                list(steps[near]),
                colors=colour,
                linewidths=width,
                alpha=alpha,
                zorder=zorder,
                capstyle='round',
            )
        )


def _draw_ends(axes: Axes, drive: EpisodeView, scale: float) -> list[Line2D]:
    """Mark start, goal, and the last position by a ring, so that others show inside it."""
    ends: list[tuple[NDArray[np.float64], str, dict[str, Any]]] = []
    if len(drive.driven):
        ends.append((drive.driven[0], 'start', {'marker': 'o', 'ms': 9.0, 'mfc': '#1f9d47'}))
    if len(drive.route):
        ends.append((drive.route[-1], 'goal', {'marker': '*', 'ms': 15.0, 'mfc': INK}))
    if len(drive.driven):
        ring = {'marker': 'o', 'ms': 15.0, 'mfc': 'none', 'mec': INK}
        ends.append((drive.driven[-1], 'last position', ring))
    return [
        _mark(axes, point, label, {**style, 'ms': scale * style['ms']})
        for point, label, style in ends
    ]


def _draw_events(
    axes: Axes, events: Sequence[tuple[float, float, str]], scale: float
) -> list[Line2D]:
    """Mark events, those of one kind alike."""
    known = [name.replace('_', ' ') for name in EVENTS]
    labels = dict.fromkeys([*known, *(label for _, _, label in events)])
    handles = []
    for label, (marker, colour) in zip(labels, cycle(EVENT_STYLES)):
        places = np.array([(x_m, y_m) for x_m, y_m, other in events if other == label])
        if len(places):
            style = {'marker': marker, 'ms': 4.0 + 6.0 * scale, 'mfc': colour, 'zorder': 8}
            handles.append(_mark(axes, places.T, label, style))
    return handles


def _mark(axes: Axes, place: NDArray[np.float64], label: str, style: dict[str, Any]) -> Line2D:
    usual = {'linestyle': 'none', 'mec': 'w', 'mew': 1.0, 'zorder': 7}
    (line,) = axes.plot(*place, label=label, **(usual | style))
    return line


def _add_speed_bar(figure: Figure, colours: ScalarMappable, **place: Any) -> None:  # noqa: ANN401
    bar = figure.colorbar(colours, **place)
    bar.set_label('speed [m/s]', color=INK)
    bar.ax.tick_params(colors=QUIET, labelsize=9)
    bar.outline.set_visible(False)  # type: ignore[operator]


def _add_legend(
    figure: Figure, handles: Sequence[Line2D], columns: int, *, markerscale: float = 1.0
) -> None:
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=columns,
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        markerscale=markerscale,
        handletextpad=0.5,
        columnspacing=1.8,
    )


def camera_strip(
    path: str | os.PathLike[str],
    frames: Sequence[NDArray[np.uint8]],
    captions: Sequence[str],
    *,
    order: Literal['bgr', 'rgb'] = 'rgb',
    title: str = '',
) -> None:
    """Draw camera frames side by side as a PNG, each with a caption above it.

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
    size = (columns * width_in, TITLE_IN * bool(title) + rows * (height_in + CAPTION_IN))
    figure = Figure(figsize=size, dpi=DPI, facecolor='white', layout='constrained')
    cells = figure.subplots(rows, columns, squeeze=False).ravel().tolist()
    for axes in cells:
        axes.set_axis_off()
    for axes, image, caption in zip(cells, images, captions, strict=False):
        axes.imshow(image, interpolation='bilinear', aspect='auto')
        axes.set_title(caption, fontsize=9, color=INK, pad=3)
    if title:
        figure.suptitle(title, x=0.01, ha='left', fontsize=12, color=INK, fontweight='bold')
    save(figure, path)


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

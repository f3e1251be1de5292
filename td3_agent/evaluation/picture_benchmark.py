# SPDX-License-Identifier: Apache-2.0
"""How a policy steers on recorded frames: a look at the gap before driving there.

Each frame becomes nine views, from places beside the middle of its lane and turned from it. What
the driver commands for a view is compared with what pure pursuit commands for its place.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
import json
import math
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from tqdm import tqdm

from td3_agent.driving.agent import Agent
from td3_agent.driving.observation import ImageView
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.driving.route import Route
from td3_agent.driving.vehicle import VehicleState
from td3_agent.evaluation.frame_views import FrameView
from td3_agent.evaluation.result_tables import aligned
from td3_agent.nodes.drivers import make_driver
from td3_agent.sim.camera import CameraConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from td3_agent.nodes.drivers import DriverParams, Equipment

LIST = 'frames.csv'
# Column of the list: field of the camera. The camera's place is that of a car at the middle of
# the lane, heading along it.
COLUMNS = {
    'w': 'width',
    'h': 'height',
    'fov': 'fov_deg',
    'x': 'x',
    'left': 'y',
    'z': 'z',
    'roll': 'roll',
    'pitch': 'pitch',
    'yaw': 'yaw',
}
WHOLE = ('w', 'h')
# Left of the middle [m] and turned left [deg]: the first is where the frame was taken.
VIEWS = ((0.0, 0.0), (-1.0, 0.0), (-0.5, 0.0), (0.5, 0.0), (1.0, 0.0),
         (0.0, -10.0), (0.0, -5.0), (0.0, 5.0), (0.0, 10.0))  # fmt: skip
SPEED_MPS = 8.0
LANE = Route([(-50.0, 0.0), (200.0, 0.0)])
GREY = 100  # about that of a road
CLEAR_RADPS = 0.05  # labels nearer to zero have no sign
FIGURES = (
    ('frames', 'frames', 1.0, 0),
    ('sign', 'sign right [%]', 100.0, 1),
    ('r', 'r', 1.0, 3),
    ('rmse_radps', 'RMSE [rad/s]', 1.0, 3),
    ('constant_rmse_radps', 'of a constant 0', 1.0, 3),
    ('grey_rmse_radps', 'of a grey picture', 1.0, 3),
    ('sign_of_change', 'sign of change [%]', 100.0, 1),
    ('r_of_change', 'r of change', 1.0, 3),
    ('bias_radps', 'bias [rad/s]', 1.0, 3),
    ('mean_speed_mps', 'speed [m/s]', 1.0, 2),
)
ALL = 'all'


@dataclass(frozen=True)
class RecordedFrame:
    """One recorded frame.

    Attributes:
        path: of the picture.
        group: which frames it is counted with.
        camera: that took it.
    """

    path: Path
    group: str
    camera: CameraConfig


def read_frames(folder: Path) -> list[RecordedFrame]:
    """Return the frames that the list in a folder names.

    Raises:
        ValueError: there is no list, or a line that cannot be used; names line, column and value.
    """
    path = folder / LIST
    try:
        with path.open(encoding='utf-8', newline='') as file:
            reader = csv.DictReader(file)
            columns = reader.fieldnames or []
            missing = [name for name in ('file', 'group', *COLUMNS) if name not in columns]
            if missing:
                raise ValueError(f'{path}: no column {", ".join(missing)}')
            frames = [_frame(folder, row, f'{path}, line {reader.line_num}') for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    if not frames:
        raise ValueError(f'{path} names no frame')
    return frames


def _frame(folder: Path, row: dict[str, str], where: str) -> RecordedFrame:
    """Return the frame of one line.

    Raises:
        ValueError: naming line, column and value.
    """
    values: dict[str, Any] = {}
    for column, field in COLUMNS.items():
        kind = int if column in WHOLE else float
        try:
            values[field] = kind(row[column])
        except (TypeError, ValueError):
            text = 'whole number [px]' if column in WHOLE else 'number'
            raise ValueError(f'{where}: {column} must be a {text}, got {row[column]!r}') from None
    path = folder / (row['file'] or '')
    if not path.is_file():
        raise ValueError(f'{where}: file {path} does not exist')
    try:
        return RecordedFrame(path, row['group'] or '', CameraConfig(**values))
    except ValueError as error:
        raise ValueError(f'{where}: {error}') from error


def read_picture(frame: RecordedFrame) -> NDArray[np.uint8]:
    """Return the pixels of a frame, (h, w, 3) uint8 BGR.

    Raises:
        ValueError: it is no picture, or of another size than its line says.
    """
    pixels = cv2.imread(str(frame.path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f'{frame.path} is no picture that OpenCV reads')
    height, width = pixels.shape[:2]
    if (width, height) != (frame.camera.width, frame.camera.height):
        raise ValueError(
            f'{frame.path} has {width} x {height} px, its line in {LIST} says '
            f'{frame.camera.width} x {frame.camera.height}'
        )
    return np.asarray(pixels, dtype=np.uint8)


def states() -> list[VehicleState]:
    """Return the motion of the car at each view: on a straight lane along x, at 8 m/s."""
    return [
        VehicleState(
            stamp_ns=0,
            x_m=0.0,
            y_m=left_m,
            z_m=0.0,
            yaw_rad=math.radians(yaw_deg),
            speed_mps=SPEED_MPS,
            yaw_rate_radps=0.0,
        )
        for left_m, yaw_deg in VIEWS
    ]


def labels_radps() -> NDArray[np.float64]:
    """Return the yaw rate that pure pursuit commands at each view [rad/s]."""
    pursuit = PurePursuitDriver(route=LANE)
    rates = []
    for state in states():
        pursuit.reset()
        rates.append(pursuit.twist(state).angular_z)
    return np.array(rates)


class Views:
    """Makes the views of frames; frames of one camera share their geometry."""

    def __init__(self, policy: CameraConfig) -> None:
        """Make views of the camera ``policy``."""
        self._policy = policy
        self._made: dict[CameraConfig, list[FrameView]] = {}

    def of(self, frame: RecordedFrame, picture: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
        """Return the views of a frame, in the order of :data:`VIEWS`.

        Raises:
            ValueError: the frame's camera does not see the ground ahead.
        """
        if frame.camera not in self._made:
            try:
                self._made[frame.camera] = [
                    FrameView(frame.camera, self._policy, left_m, math.radians(yaw_deg))
                    for left_m, yaw_deg in VIEWS
                ]
            except ValueError as error:
                raise ValueError(f'{frame.path}: {error}') from error
        return [view.of(picture) for view in self._made[frame.camera]]


class Examined:
    """A driver that is asked for single pictures."""

    def __init__(self, equipment: Equipment) -> None:
        """Ask the driver of ``equipment``."""
        self._agent = Agent(equipment.driver, equipment.spec)
        self._agent.set_route(LANE)
        self._states = states()

    def commands(self, views: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """Return target speed [m/s] and yaw rate [rad/s] at each view, (9, 2)."""
        commands = []
        for pixels, state in zip(views, self._states, strict=True):
            height, width, channels = pixels.shape
            image = ImageView(
                data=np.ascontiguousarray(pixels).data,
                height=height,
                width=width,
                encoding='bgr8',
                step=width * channels,
            )
            self._agent.reset()
            twist = self._agent.decide(self._agent.see(image), state).twist
            commands.append((twist.linear_x, twist.angular_z))
        return np.array(commands)


def figures(commands: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
    """Return the figures of frames.

    Args:
        commands: (F, 9, 2) target speed [m/s] and yaw rate [rad/s].
        labels: (9,) yaw rates that they should be [rad/s].
    """
    rates = commands[..., 1]
    wanted = np.broadcast_to(labels, rates.shape)
    clear = np.abs(wanted) > CLEAR_RADPS
    change, wanted_change = rates[:, 1:] - rates[:, :1], wanted[:, 1:] - wanted[:, :1]
    return {
        'frames': len(commands),
        'sign': float(np.mean(np.sign(rates[clear]) == np.sign(wanted[clear]))),
        'r': _correlation(rates, wanted),
        'rmse_radps': _rms(rates - wanted),
        'constant_rmse_radps': _rms(wanted),
        'sign_of_change': float(np.mean(np.sign(change) == np.sign(wanted_change))),
        'r_of_change': _correlation(change, wanted_change),
        'bias_radps': float(rates[:, 0].mean()),
        'mean_speed_mps': float(commands[..., 0].mean()),
    }


def _rms(values: NDArray[np.float64]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Return Pearson's r; 0 where a side does not vary."""
    if min(np.ptp(one), np.ptp(other)) == 0.0:
        return 0.0
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def examine(
    folder: Path, params: DriverParams, policy_camera: CameraConfig
) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    """Return the summary of a folder's frames, and a row of views of the first of each group.

    Raises:
        ValueError: a frame, its line or the driver was refused.
    """
    frames = read_frames(folder)
    equipment = make_driver(params)
    examined, views = Examined(equipment), Views(policy_camera)
    labels = labels_radps()
    found: dict[str, list[NDArray[np.float64]]] = {}
    rows: dict[str, NDArray[np.uint8]] = {}
    for frame in tqdm(frames, unit='frame', desc='looking', disable=None):
        seen = views.of(frame, read_picture(frame))
        found.setdefault(frame.group, []).append(examined.commands(seen))
        rows.setdefault(frame.group, np.hstack(seen))
    commands = {group: np.array(found[group]) for group in sorted(found)}
    if len(commands) > 1:
        commands[ALL] = np.concatenate(list(commands.values()))
    groups = {group: figures(of_group, labels) for group, of_group in commands.items()}
    if equipment.needs_route:
        grey = np.full((policy_camera.height, policy_camera.width, 3), GREY, dtype=np.uint8)
        blind = figures(examined.commands([grey] * len(VIEWS))[np.newaxis], labels)
        for of_group in groups.values():
            of_group['grey_rmse_radps'] = blind['rmse_radps']
    summary = {
        'title': equipment.title,
        'driver': params.driver,
        'policy': params.policy,
        'views': [{'left_m': left_m, 'yaw_deg': yaw_deg} for left_m, yaw_deg in VIEWS],
        'labels_radps': labels.tolist(),
        'groups': groups,
    }
    return summary, [rows[group] for group in sorted(rows)]


def table(summary: dict[str, Any]) -> str:
    """Return one column per group of frames."""
    groups = summary['groups']
    lines = [[summary['title'], *groups]]
    for name, heading, scale, digits in FIGURES:
        if any(name in figures for figures in groups.values()):
            values = [f'{scale * figures[name]:.{digits}f}' for figures in groups.values()]
            lines.append([heading, *values])
    return aligned(lines)


def run_pictures(
    folder: Path, params: DriverParams, policy_camera: CameraConfig, out: Path
) -> str:
    """Examine a driver on a folder of frames, write the results, and return what is printed.

    Raises:
        ValueError: a frame, its line or the driver was refused; nothing has been written.
    """
    summary, rows = examine(folder, params, policy_camera)
    out.mkdir(parents=True, exist_ok=True)
    (out / 'summary.json').write_text(json.dumps(summary, indent=2) + '\n', encoding='utf-8')
    picture = out / 'views.png'
    if not cv2.imwrite(str(picture), np.vstack(rows)):
        raise ValueError(f'{picture} cannot be written')
    return f'{table(summary)}\n\nresults in {out}; look at {picture.name} first\n'

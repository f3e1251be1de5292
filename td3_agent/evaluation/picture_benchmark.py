# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a policy steers on recorded frames: a look at the gap before driving there.

Each frame becomes nine views, from places beside the middle of its lane and turned from it. What
the driver commands for a view is compared with what pure pursuit commands for its place.

A frame shows a straight lane from a camera whose pose in the lane is known. Below the horizon the
world is taken for a plane, so each pixel of the policy's camera has its place on the ground, and
that has its pixel in the frame; above it only the direction counts. Ground that the frame does
not show is taken from farther ahead, at the same distance from the lane.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass, replace
from functools import lru_cache
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
from td3_agent.evaluation.result_tables import aligned, number
from td3_agent.files import write_json
from td3_agent.nodes.drivers import make_driver
from td3_agent.sim.camera import CameraConfig, pixel_from_vehicle, pixel_rays

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from td3_agent.nodes.drivers import DriverParams, LoadedDriver

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
    ('sign', 'correct sign [%]', 100.0, 1),
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
OVERSAMPLING = 2  # pixels of the view are means of so many, either way
HORIZON_M = 400.0  # ground farther ahead is horizon
BOTTOM_PX, SIDE_PX = 2.0, 1.5  # of the frame that are not used
WIDEST_RAD = 1.4  # between straight ahead and the edge of the frame
OUTSIDE_PX = -1e4


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


class FrameView:
    """Turns frames of one camera into views of another.

    Args:
        recorded: the camera of the frames: its place and turn in axes along the lane, whose
            origin is where the car's would be in the middle of the lane.
        policy: the camera of the views, mounted on the car.
        left_m: where the car is to stand, left of the middle of the lane [m].
        yaw_rad: its heading, left of the lane's [rad].

    Raises:
        ValueError: the recorded camera does not see the ground ahead.
    """

    def __init__(
        self, recorded: CameraConfig, policy: CameraConfig, left_m: float, yaw_rad: float
    ) -> None:
        fine = replace(
            policy, width=OVERSAMPLING * policy.width, height=OVERSAMPLING * policy.height
        )
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        lane_from_car = np.array([[cos, -sin, 0.0], [sin, cos, 0.0], [0.0, 0.0, 1.0]])
        rays = pixel_rays(fine) @ lane_from_car.T
        camera = lane_from_car @ (policy.x, policy.y, policy.z) + (0.0, left_m, 0.0)
        places = _seen_places(camera, rays, recorded)
        seen = places @ pixel_from_vehicle(recorded).T
        depth = np.maximum(seen[..., 2], 1e-6)
        u, v = seen[..., 0] / depth - 0.5, seen[..., 1] / depth - 0.5
        u[seen[..., 2] <= 1e-6] = OUTSIDE_PX
        self._table = u.astype(np.float32), v.astype(np.float32)
        self._size = (policy.width, policy.height)

    def of(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return the view of a frame, (height, width, 3) uint8 BGR."""
        fine = cv2.remap(frame, *self._table, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        return cv2.resize(fine, self._size, interpolation=cv2.INTER_AREA)


def _seen_places(
    camera: NDArray[np.float64], rays: NDArray[np.float64], recorded: CameraConfig
) -> NDArray[np.float64]:
    """Return (H, W, 4) homogeneous places that rays meet and the frame shows: ground or sky."""
    is_ground = -rays[..., 2] * HORIZON_M > camera[2]
    share = np.where(is_ground, camera[2] / np.where(is_ground, -rays[..., 2], 1.0), 0.0)
    ground = camera + share[..., np.newaxis] * rays
    ahead_m, beside_m = ground[..., 0] - recorded.x, ground[..., 1] - recorded.y
    ahead_m = np.maximum(ahead_m, _nearest_ground_m(recorded))
    ground[..., 0] = recorded.x + np.maximum(ahead_m, beside_m / _edge_slopes(recorded, beside_m))
    ground[..., 2] = 0.0
    places = np.concatenate((rays, np.zeros_like(rays[..., :1])), axis=-1)
    places[is_ground] = np.column_stack((ground[is_ground], np.ones(int(is_ground.sum()))))
    return places


def _nearest_ground_m(recorded: CameraConfig) -> float:
    """Return how far ahead of its camera a frame begins to show the ground [m].

    Raises:
        ValueError: it does not.
    """
    below_rad = math.atan2(0.5 * recorded.height - BOTTOM_PX, recorded.focal_px)
    below_rad += math.radians(recorded.pitch)
    if not 0.0 < below_rad < 0.5 * math.pi:
        raise ValueError(
            f'the camera must see the ground ahead: the lowest ray points '
            f'{math.degrees(below_rad):.0f} deg down with pitch {recorded.pitch:g} [deg], nose '
            f'down positive, and fov {recorded.fov_deg:g} [deg]'
        )
    return recorded.z / math.tan(below_rad)


def _edge_slopes(recorded: CameraConfig, beside_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return left by ahead of the edge of the frame on the side of each place, signed.

    Raises:
        ValueError: the camera looks so far aside that the way ahead is out of sight.
    """
    half_rad = math.atan((0.5 * recorded.width - SIDE_PX) / recorded.focal_px)
    turned_rad = math.radians(recorded.yaw)
    if abs(turned_rad) >= half_rad:
        raise ValueError(
            f'the camera must see the way ahead: yaw is {recorded.yaw:g} [deg] and half the '
            f'field of view {math.degrees(half_rad):.0f} [deg]'
        )
    left, right = (min(half_rad + side * turned_rad, WIDEST_RAD) for side in (1.0, -1.0))
    return np.where(beside_m > 0.0, math.tan(left), -math.tan(right))


@lru_cache(maxsize=8)  # frames of one camera share their geometry
def frame_views(recorded: CameraConfig, policy: CameraConfig) -> list[FrameView]:
    """Return what makes the views of a camera's frames, in the order of :data:`VIEWS`.

    Raises:
        ValueError: the camera does not see the ground ahead.
    """
    return [FrameView(recorded, policy, left_m, math.radians(deg)) for left_m, deg in VIEWS]


class Examined:
    """A driver that is asked for single pictures."""

    def __init__(self, loaded: LoadedDriver) -> None:
        self._agent = Agent(loaded.driver, loaded.spec)
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
            twist = self._agent.respond(self._agent.preprocess(image), state).twist
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
    loaded = make_driver(params)
    examined = Examined(loaded)
    labels = labels_radps()
    found: dict[str, list[NDArray[np.float64]]] = {}
    rows: dict[str, NDArray[np.uint8]] = {}
    for frame in tqdm(frames, unit='frame', desc='looking', disable=None):
        picture = read_picture(frame)
        try:
            seen = [view.of(picture) for view in frame_views(frame.camera, policy_camera)]
        except ValueError as error:
            raise ValueError(f'{frame.path}: {error}') from error
        found.setdefault(frame.group, []).append(examined.commands(seen))
        rows.setdefault(frame.group, np.hstack(seen))
    commands = {group: np.array(found[group]) for group in sorted(found)}
    if len(commands) > 1:
        commands[ALL] = np.concatenate(list(commands.values()))
    groups = {group: figures(of_group, labels) for group, of_group in commands.items()}
    if loaded.needs_route:
        grey = np.full((policy_camera.height, policy_camera.width, 3), GREY, dtype=np.uint8)
        blind = figures(examined.commands([grey] * len(VIEWS))[np.newaxis], labels)
        for of_group in groups.values():
            of_group['grey_rmse_radps'] = blind['rmse_radps']
    summary = {
        'title': loaded.title,
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
            values = [number(figures[name], scale, digits) for figures in groups.values()]
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
    write_json(out / 'summary.json', summary)
    picture = out / 'views.png'
    if not cv2.imwrite(str(picture), np.vstack(rows)):
        raise ValueError(f'{picture} cannot be written')
    return f'{table(summary)}\n\nresults in {out}; look at {picture.name} first\n'

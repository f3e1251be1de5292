# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A pinhole camera over painted ground: perspective in a few ``warpPerspective`` per level.

The ground is flat and the camera is fixed to the vehicle, so the map from pixel to ground in
the *vehicle's* frame never changes; a frame only adds the vehicle's pose. Rows further away
read coarser levels of the texture, which keeps distant markings from flickering.

Intrinsics are CARLA's: ``fx = fy = width / (2 tan(fov / 2))``, ``cx = width / 2``,
``cy = height / 2``, with pixel (0, 0) covering [0, 1) x [0, 1).
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from td3_agent.driving.loop_check import CameraView
from td3_agent.driving.parameters import Params, param
from td3_agent.sim.box_painter import SUN_RAD, BoxPainter
from td3_agent.sim.ground import EVEN, shading_of
from td3_agent.sim.look import Look
from td3_agent.sim.paint import FULL, LEVELS, LIT, PLAIN_PAINT, PLAIN_SURFACE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.sim.boxes import Box
    from td3_agent.sim.ground import Ground, TiledGround
    from td3_agent.sim.scenery import Scenery

FAR_M = 250.0  # ground beyond this depth melts into the haze
SKY_FADE_RAD = 0.6  # height over the horizon at which the sky has its upper colour
LEVEL_BIAS = -0.4  # sharper than exact minification; grain is fine enough to bear it


@dataclass(frozen=True, kw_only=True)
class CameraConfig(Params):
    """Image size, field of view and mounting; axes of the vehicle, ROS convention, degrees.

    Defaults are CARLA's stock ``rgb_front`` mounting, tipped down a little: more road, less sky.
    """

    width: int = param(160, 'image columns', unit='px', low=8, high=4096)
    height: int = param(120, 'image rows', unit='px', low=8, high=4096)
    fov_deg: float = param(90.0, 'horizontal field of view', unit='deg', low=10.0, high=150.0)
    x: float = param(2.0, 'mounting, forward', unit='m', low=-10.0, high=10.0)
    y: float = param(0.0, 'mounting, left', unit='m', low=-10.0, high=10.0)
    z: float = param(2.0, 'mounting, above the ground', unit='m', low=0.1, high=50.0)
    roll: float = param(0.0, 'mounting, right side down', unit='deg', low=-180.0, high=180.0)
    pitch: float = param(8.0, 'mounting, nose down', unit='deg', low=-90.0, high=90.0)
    yaw: float = param(0.0, 'mounting, turned left', unit='deg', low=-180.0, high=180.0)

    @property
    def focal_px(self) -> float:
        """Focal length, equal for rows and columns [px]."""
        return self.width / (2.0 * math.tan(math.radians(self.fov_deg) / 2.0))

    @property
    def view(self) -> CameraView:
        """What a policy has to know of it."""
        return CameraView(width_px=self.width, height_px=self.height, fov_deg=self.fov_deg)


@dataclass(frozen=True)
class _Band:
    """Rows [top, bottom) that read one level; ``vehicle_from_pixel`` knows about ``top``.

    ``bounds_m`` are those of the ground that the rows see: least x and y, largest x and y in the
    vehicle's frame.
    """

    top: int
    bottom: int
    level: int
    vehicle_from_pixel: NDArray[np.float64]
    bounds_m: tuple[float, float, float, float]


class Camera:
    """Renders what a camera on the vehicle sees.

    Args:
        config: image size and mounting.
        ground: painted map.
        look: colours, textures, shadows; by default a summer day.
        scenery: what stands beside the roads.
        sun_rad: direction that light comes from, in the map frame [rad].
    """

    def __init__(
        self,
        config: CameraConfig,
        ground: Ground | TiledGround,
        look: Look | None = None,
        scenery: Scenery | None = None,
        sun_rad: float = SUN_RAD,
    ) -> None:
        # One core, always: the agent shares the machine, and results do not depend on it.
        cv2.setNumThreads(1)
        self.config = config
        look = look or Look()
        self._ground, self._shading = ground, shading_of(look, ground.cell_m)
        self._pixel_from_vehicle = pixel_from_vehicle(config)
        rays = pixel_rays(config)
        self._background = _sky(config, rays, look)
        seen = _sees_ground(config, rays)
        ground_rows = np.flatnonzero(seen.any(axis=1))
        self._first_row = int(ground_rows[0]) if len(ground_rows) else config.height
        self._bands = self._make_bands(seen)
        self._vehicle_from_pixel = np.array([band.vehicle_from_pixel for band in self._bands])
        # Only a rolled camera has rows that are part sky, part ground.
        mixed = not seen[self._first_row :].all()
        self._no_ground = ~seen[self._first_row :] if mixed else None
        eye = (config.x, config.y, config.z)
        self._boxes = BoxPainter(self._pixel_from_vehicle, eye, look, scenery, sun_rad)
        rows = config.height - self._first_row
        self._read = [np.empty((rows, config.width, 4), dtype=np.uint8) for _ in range(3)]

    def render(
        self,
        x_m: float,
        y_m: float,
        yaw_rad: float,
        *,
        boxes: Sequence[Box] = (),
        gain: float = 1.0,
    ) -> NDArray[np.uint8]:
        """Return a new image for the vehicle's pose on the ground.

        Args:
            x_m: position in the map frame [m].
            y_m: position in the map frame [m].
            yaw_rad: heading [rad], left positive.
            boxes: vehicles that stand on the ground.
            gain: brightness, >= 1.0.

        Returns:
            (height, width, 4) uint8, BGRA, alpha 255.
        """
        config = self.config
        image = np.empty((config.height, config.width, 4), dtype=np.uint8)
        image[: self._first_row] = self._background[: self._first_row]
        things = self._boxes.project(boxes, (x_m, y_m, yaw_rad), image.shape)
        if self._bands:
            self._read_ground(x_m, y_m, yaw_rad)
            surface, paint, grain = self._read
            lit = np.asarray(cv2.extractChannel(surface, LIT), dtype=np.uint8)
            if things is not None:
                self._boxes.draw_shadows(lit, things, self._first_row)
            self._shading.applied(surface, paint, grain, lit, image[self._first_row :])
        if self._no_ground is not None:
            part = image[self._first_row :]
            part[self._no_ground] = self._background[self._first_row :][self._no_ground]
        if things is not None:
            self._boxes.draw(image, things)
        if gain > 1.0:
            cv2.convertScaleAbs(image, dst=image, alpha=gain)  # alpha 255 stays: it saturates
        return image

    def _read_ground(self, x_m: float, y_m: float, yaw_rad: float) -> None:
        """Read what covers the pixels, and the textures there, from the level of each band."""
        cos, sin = math.cos(yaw_rad), math.sin(yaw_rad)
        map_from_vehicle = np.array([[cos, -sin, x_m], [sin, cos, y_m], [0.0, 0.0, 1.0]])
        ground, shading = self._ground, self._shading
        pose = x_m, y_m, cos, sin
        views = [ground.view(band.level, pose, band.bounds_m) for band in self._bands]
        textures = [shading.texture_from_map(band.level, x_m, y_m) for band in self._bands]
        map_from_pixel = map_from_vehicle @ self._vehicle_from_pixel
        of_grounds = np.array([matrix for _, matrix in views]) @ map_from_pixel
        of_textures = np.array(textures) @ map_from_pixel
        for number, (band, (covered, _)) in enumerate(zip(self._bands, views, strict=True)):
            of_ground, of_texture = of_grounds[number], of_textures[number]
            for source, matrix, beyond, into in (
                (covered.surface, of_ground, PLAIN_SURFACE, self._read[0]),
                (covered.paint, of_ground, PLAIN_PAINT, self._read[1]),
                (shading.levels[band.level], of_texture, EVEN, self._read[2]),
            ):
                cv2.warpPerspective(
                    source,
                    matrix,
                    (self.config.width, band.bottom - band.top),
                    dst=into[band.top - self._first_row : band.bottom - self._first_row],
                    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                    borderMode=cv2.BORDER_CONSTANT,
                    borderValue=beyond,
                )

    def _make_bands(self, seen: NDArray[np.bool_]) -> list[_Band]:
        """Group rows by the texture level that fits the size of their pixels on the ground."""
        config = self.config
        ground_from_pixel = np.asarray(
            np.linalg.inv(self._pixel_from_vehicle[:, [0, 1, 3]]), dtype=np.float64
        )
        levels = [
            self._level_of_row(row, ground_from_pixel)
            for row in range(self._first_row, config.height)
        ]
        bands = []
        top = self._first_row
        for row in range(self._first_row + 1, config.height + 1):
            at_end = row == config.height
            if at_end or levels[row - self._first_row] != levels[top - self._first_row]:
                # cv2 addresses pixel centres by whole numbers: ours lie at + 0.5.
                centre = np.array([[1.0, 0.0, 0.5], [0.0, 1.0, top + 0.5], [0.0, 0.0, 1.0]])
                level = levels[top - self._first_row]
                bounds_m = _bounds_m(ground_from_pixel, seen[top:row], top)
                bands.append(_Band(top, row, level, ground_from_pixel @ centre, bounds_m))
                top = row
        return bands

    def _level_of_row(self, row: int, ground_from_pixel: NDArray[np.float64]) -> int:
        """Return the level whose cells are about as large as a pixel of this row."""
        u, v = 0.5 * self.config.width, row + 0.5
        here, beside, below = (
            _dehomogenised(ground_from_pixel @ np.array([u + du, v + dv, 1.0]))
            for du, dv in ((0.0, 0.0), (1.0, 0.0), (0.0, 0.5))
        )
        across = math.dist(here, beside)
        along = 2.0 * math.dist(here, below)
        cells = math.sqrt(across * along) / self._ground.cell_m
        level = math.floor(math.log2(max(cells, 1e-6)) + 0.5 + LEVEL_BIAS)
        return min(max(level, 0), LEVELS - 1)


def _bounds_m(
    ground_from_pixel: NDArray[np.float64], seen: NDArray[np.bool_], top: int
) -> tuple[float, float, float, float]:
    """Return least x and y, largest x and y of the ground that the pixels of some rows see."""
    rows, columns = np.nonzero(seen)
    pixels = np.stack((columns + 0.5, rows + top + 0.5, np.ones(len(rows))))
    x, y, w = ground_from_pixel @ pixels
    return (
        float((x / w).min()),
        float((y / w).min()),
        float((x / w).max()),
        float((y / w).max()),
    )


def _dehomogenised(point: NDArray[np.float64]) -> tuple[float, float]:
    return float(point[0] / point[2]), float(point[1] / point[2])


def _mounting(config: CameraConfig) -> NDArray[np.float64]:
    """Return the (3, 3) rotation from camera body axes (x forward, y left) to vehicle axes."""
    roll, pitch, yaw = (math.radians(a) for a in (config.roll, config.pitch, config.yaw))
    cr, sr, cp, sp = math.cos(roll), math.sin(roll), math.cos(pitch), math.sin(pitch)
    cy, sy = math.cos(yaw), math.sin(yaw)
    about_x = np.array([[1.0, 0.0, 0.0], [0.0, cr, -sr], [0.0, sr, cr]])
    about_y = np.array([[cp, 0.0, sp], [0.0, 1.0, 0.0], [-sp, 0.0, cp]])
    about_z = np.array([[cy, -sy, 0.0], [sy, cy, 0.0], [0.0, 0.0, 1.0]])
    return np.asarray(about_z @ about_y @ about_x)


# Optical axes (x right, y down, z forward) from body axes (x forward, y left, z up).
OPTICAL_FROM_BODY = np.array([[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]])


def _intrinsics(config: CameraConfig) -> NDArray[np.float64]:
    focal = config.focal_px
    return np.array(
        [[focal, 0.0, 0.5 * config.width], [0.0, focal, 0.5 * config.height], [0.0, 0.0, 1.0]]
    )


def pixel_from_vehicle(config: CameraConfig) -> NDArray[np.float64]:
    """Return the (3, 4) projection of vehicle points (x, y, z, 1) [m] to (u w, v w, w)."""
    turn = OPTICAL_FROM_BODY @ _mounting(config).T
    place = np.array([[config.x], [config.y], [config.z]])
    return np.asarray(_intrinsics(config) @ np.hstack((turn, -turn @ place)))


def pixel_rays(config: CameraConfig) -> NDArray[np.float64]:
    """Return (H, W, 3) directions of all pixel centres in vehicle axes, 1 m deep."""
    u, v = np.meshgrid(np.arange(config.width) + 0.5, np.arange(config.height) + 0.5)
    pixels = np.stack((u, v, np.ones_like(u)), axis=-1)
    vehicle_from_optical = _mounting(config) @ OPTICAL_FROM_BODY.T
    return np.asarray(pixels @ np.linalg.inv(_intrinsics(config)).T @ vehicle_from_optical.T)


def _sees_ground(config: CameraConfig, rays: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (H, W): which pixels meet the ground nearer than ``FAR_M`` of depth."""
    return np.asarray(-rays[..., 2] * FAR_M > config.z)


def _sky(config: CameraConfig, rays: NDArray[np.float64], look: Look) -> NDArray[np.uint8]:
    """Return (H, W, 4): sky by height over the horizon, distant ground in haze below it."""
    height = np.arctan2(rays[..., 2], np.hypot(rays[..., 0], rays[..., 1]))
    fraction = np.clip(height / SKY_FADE_RAD, 0.0, 1.0)[..., np.newaxis]
    colour = (1.0 - fraction) * np.array(look.sky_low) + fraction * np.array(look.sky_top)
    haze = 0.5 * (np.array(look.verge) + np.array(look.sky_low))
    colour = np.where(height[..., np.newaxis] < 0.0, haze, colour)
    image = np.full((config.height, config.width, 4), FULL, dtype=np.uint8)
    image[..., :3] = np.rint(colour)
    return image

# SPDX-License-Identifier: Apache-2.0
"""Views of a recorded frame: what a policy's camera would have seen from places beside it.

A frame shows a straight lane from a camera whose pose in the lane is known. Below the horizon the
world is taken for a plane, so each pixel of the policy's camera has its place on the ground, and
that has its pixel in the frame; above it only the direction counts. Ground that the frame does
not show is taken from farther ahead, at the same distance from the lane.
"""

from __future__ import annotations

from dataclasses import replace
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from td3_agent.sim.camera import _pixel_from_vehicle as pixel_from_vehicle
from td3_agent.sim.camera import _rays as pixel_rays

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.camera import CameraConfig

OVERSAMPLING = 2  # pixels of the view are means of so many, either way
HORIZON_M = 400.0  # ground farther ahead is horizon
BOTTOM_PX, SIDE_PX = 2.0, 1.5  # of the frame that are not used
WIDEST_RAD = 1.4  # between straight ahead and the edge of the frame
OUTSIDE_PX = -1e4


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
        """Work out where each pixel of the view is in the frames."""
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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Image views and vehicle states."""

import numpy as np

from td3_agent.driving.observation import (
    ImageView,
    ObservationSpec,
)
from td3_agent.driving.vehicle import VehicleState

ORDER = {'bgra8': 'bgra', 'rgba8': 'rgba', 'bgr8': 'bgr', 'rgb8': 'rgb'}
SMALL = ObservationSpec(image_height_px=8, image_width_px=8, frame_stack=3)
STOPPED = np.array([-1.0, 0.0], dtype=np.float32)


def pixels_of(height, width, channels, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def view(pixels, encoding, padding=0):
    """Return pixels as a view; padding bytes are 255, so that a wrong step would show."""
    height, width, channels = pixels.shape
    rows = np.full((height, width * channels + padding), 255, dtype=np.uint8)
    rows[:, : width * channels] = pixels.reshape(height, -1)
    step = width * channels + padding
    return ImageView(data=rows.tobytes(), height=height, width=width, encoding=encoding, step=step)


def grey_view(level, height=8, width=8):
    return view(np.full((height, width, 1), level, dtype=np.uint8), 'mono8')


def moving(speed_mps=0.0, yaw_rate_radps=0.0, stamp_ns=0):
    return VehicleState(
        stamp_ns=stamp_ns,
        x_m=1.0,
        y_m=2.0,
        z_m=0.0,
        yaw_rad=0.5,
        speed_mps=speed_mps,
        yaw_rate_radps=yaw_rate_radps,
    )

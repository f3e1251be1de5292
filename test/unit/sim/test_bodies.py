# SPDX-License-Identifier: Apache-2.0
"""Vehicles of the right kinds and sizes, drawn as they hide each other."""

from collections import Counter

import numpy as np
import pytest

from td3_agent.sim.boxes import BODIES, LONGEST_M, WIDEST_M, Box, drawn_vehicle
from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.car import CONTACT_REACH_M
from td3_agent.sim.ground import Ground
from td3_agent.sim.lane_network import CLEARANCE_M
from td3_agent.sim.look import Look
from td3_agent.sim.paint import PLAIN_SURFACE, Covered

BARE = np.full((4, 4, 4), PLAIN_SURFACE, dtype=np.uint8)
GROUND = Ground((Covered(BARE, BARE * 0),) * 5, 0.05, 0.0, 0.0)


def camera_over_grass():
    config = CameraConfig(width=320, height=240)
    return Camera(config, GROUND, Look(verge=(40.0, 40.0, 40.0), strengths=(0.0,) * 3))


def test_shares_are_those_of_a_street():
    for share in ('share', 'parked_share'):
        assert sum(getattr(body, share) for body in BODIES.values()) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    drawn = Counter(drawn_vehicle(rng).kind for _ in range(2000))
    for kind, body in BODIES.items():
        assert drawn[kind] / 2000 == pytest.approx(body.share, abs=0.03)


def test_sizes_are_within_those_of_their_kind():
    rng = np.random.default_rng(1)
    for _ in range(200):
        looks = drawn_vehicle(rng)
        body = BODIES[looks.kind]
        assert body.lengths_m[0] <= looks.length_m <= body.lengths_m[1]
        assert body.widths_m[0] <= looks.width_m <= body.widths_m[1]


def test_contacts_and_junctions_know_the_largest_vehicle():
    reach = 0.5 * np.hypot(LONGEST_M, WIDEST_M)
    assert reach + 2.6 <= CONTACT_REACH_M
    assert WIDEST_M < CLEARANCE_M


@pytest.mark.parametrize('kind', BODIES)
@pytest.mark.parametrize('yaw', [0.0, np.pi / 2.0, np.pi])
def test_every_kind_fills_its_outline(kind, yaw):
    body = BODIES[kind]
    box = Box(
        x_m=16.0, y_m=0.0, yaw_rad=float(yaw), length_m=body.lengths_m[1],
        width_m=body.widths_m[1], height_m=body.heights_m[1], bgr=(30, 30, 220), kind=kind,
    )  # fmt: skip
    camera = camera_over_grass()
    with_it = camera.render(0.0, 0.0, 0.0, boxes=[box])
    changed = (with_it != camera.render(0.0, 0.0, 0.0)).any(axis=2)
    across = body.widths_m[1] if yaw != np.pi / 2.0 else body.lengths_m[1]
    depth = 16.0 - 2.0 - 0.5 * (body.lengths_m[1] if yaw != np.pi / 2.0 else body.widths_m[1])
    width = np.ptp(np.flatnonzero(changed.any(axis=0))) + 1
    assert width == pytest.approx(
        across * camera.config.focal_px / depth, abs=8.0
    )  # a shadow 0.1 m wide


def test_a_truck_from_behind_hides_its_cab():
    """Cab and load stand side by side: which is drawn last depends on where one looks from."""
    camera = camera_over_grass()

    def red_seen(yaw):
        box = Box(x_m=16.0, y_m=0.0, yaw_rad=yaw, length_m=8.0, width_m=2.4, height_m=3.3,
                  bgr=(0, 0, 220), kind='truck')  # fmt: skip
        image = camera.render(0.0, 0.0, 0.0, boxes=[box]).astype(int)
        return int(((image[..., 2] > 100) & (image[..., 0] < 60)).sum())

    assert red_seen(0.0) == 0
    assert red_seen(float(np.pi)) > 200

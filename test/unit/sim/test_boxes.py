# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Footprints and how they overlap; kinds and sizes, drawn as they hide each other."""

from collections import Counter
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.sim.boxes import (
    BODIES,
    DRIVEN_UP_TO,
    EVEN_UP_TO,
    LONGEST_M,
    PARKED_UP_TO,
    WIDEST_M,
    Box,
    drawn_vehicle,
    overlap,
)
from td3_agent.sim.camera import Camera, CameraConfig
from td3_agent.sim.car import CONTACT_REACH_M
from td3_agent.sim.ground import Ground
from td3_agent.sim.lane_network import CLEARANCE_M
from td3_agent.sim.look import Look
from td3_agent.sim.maps import load_map
from td3_agent.sim.paint import PLAIN_SURFACE, Covered
from td3_agent.sim.placement import park

BARE = np.full((4, 4, 4), PLAIN_SURFACE, dtype=np.uint8)
GROUND = Ground((Covered(BARE, BARE * 0),) * 5, 0.05, 0.0, 0.0)


def box(x=0.0, y=0.0, yaw=0.0, length=4.0, width=2.0, **more):
    return Box(x_m=x, y_m=y, yaw_rad=yaw, length_m=length, width_m=width, **more)


def test_boxes_in_a_row_overlap_until_their_ends_part():
    assert overlap(box(), box(x=3.99)) == pytest.approx((0.01, -1.0, 0.0), abs=1e-9)
    assert overlap(box(), box(x=4.01)) is None
    assert overlap(box(x=4.01), box()) is None


def test_boxes_side_by_side_part_sideways():
    contact = overlap(box(y=1.9), box())
    assert contact == pytest.approx((0.1, 0.0, 1.0), abs=1e-9)


def test_diagonal_box_fits_past_a_corner():
    """Circles around them meet, shadows on x and y meet: only the slanted axis parts them."""
    turned = box(x=3.0, y=2.4, yaw=-math.pi / 4.0)
    assert overlap(box(), turned) is None


@given(
    x=st.floats(-5.0, 5.0),
    y=st.floats(-4.0, 4.0),
    yaw=st.floats(-4.0, 4.0),
    own_yaw=st.floats(-4.0, 4.0),
)
def test_moving_out_along_the_normal_ends_the_overlap(x, y, yaw, own_yaw):
    first, second = box(yaw=own_yaw), box(x, y, yaw)
    contact = overlap(first, second)
    if contact is not None:
        away = contact.depth_m + 1e-6
        moved = box(contact.normal_x * away, contact.normal_y * away, own_yaw)
        assert overlap(moved, second) is None
        assert overlap(second, first) is not None


@pytest.mark.parametrize('name', ['oval', 'winding', 'town'])
def test_parked_cars_leave_lanes_ego_and_each_other_free(name):
    road = load_map(name)
    cars = park(road, 20, (10.0, 0.0), 200, np.random.default_rng(1))
    assert len(cars) >= 10
    assert [car.actor_id for car in cars] == list(range(200, 200 + len(cars)))
    for number, car in enumerate(cars):
        assert not any(road.locate(*corner).on_road for corner in car.corners())
        assert all(overlap(car, other) is None for other in cars[:number])
        assert math.hypot(car.x_m - 10.0, car.y_m) > 14.0


def camera_over_grass():
    config = CameraConfig(width=320, height=240)
    return Camera(config, GROUND, Look(verge=(40.0, 40.0, 40.0), strengths=(0.0,) * 3))


@pytest.mark.parametrize(
    ('up_to', 'fraction_of'),
    [
        (DRIVEN_UP_TO, lambda body: body.fraction),
        (PARKED_UP_TO, lambda body: body.parked_fraction),
        (EVEN_UP_TO, lambda _: 1.0 / len(BODIES)),
    ],
)
def test_kinds_are_drawn_as_often_as_asked(up_to, fraction_of):
    assert sum(map(fraction_of, BODIES.values())) == pytest.approx(1.0)
    rng = np.random.default_rng(0)
    drawn = Counter(drawn_vehicle(rng, up_to).kind for _ in range(2000))
    for kind, body in BODIES.items():
        assert drawn[kind] / 2000 == pytest.approx(fraction_of(body), abs=0.03)


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

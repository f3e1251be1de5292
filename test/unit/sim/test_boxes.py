# SPDX-License-Identifier: Apache-2.0
"""Overlap of footprints."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.sim.boxes import Box, overlap
from td3_agent.sim.maps import load_map
from td3_agent.sim.placement import park


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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Observations: exact pixels, rejected messages, and a stack that never lies about the past."""

from dataclasses import replace
import math

from harness.images import SMALL, STOPPED, grey_view, moving, pixels_of, view
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.observation import (
    ENCODINGS,
    LOST_DISTANCE_M,
    PATH_POINTS,
    PATH_SCALE_M,
    PATH_SPACING_M,
    ImageView,
    ObservationBuilder,
    ObservationSpec,
    resize_area,
)
from td3_agent.driving.route import Route


def test_change_of_resolution_does_not_disturb_the_stack():
    builder = ObservationBuilder(SMALL)
    builder.build(grey_view(10), moving(), STOPPED)
    observation = builder.build(grey_view(20, 480, 640), moving(), STOPPED)
    assert observation.image[:, 0, 0].tolist() == [10, 10, 20]


def levels(builder, level):
    image = builder.build(grey_view(level), moving(), STOPPED).image
    assert (image == image[:, :1, :1]).all()
    return image[:, 0, 0].tolist()


def test_stack_is_oldest_first_and_starts_full_of_the_first_frame():
    builder = ObservationBuilder(SMALL)
    assert levels(builder, 10) == [10, 10, 10]
    assert levels(builder, 20) == [10, 10, 20]
    assert levels(builder, 30) == [10, 20, 30]
    assert levels(builder, 40) == [20, 30, 40]


def test_reset_fills_the_stack_with_the_next_frame_and_never_with_zeros():
    builder = ObservationBuilder(SMALL)
    levels(builder, 10)
    levels(builder, 20)
    builder.reset()
    assert levels(builder, 30) == [30, 30, 30]


def test_stack_of_one_is_the_frame_alone():
    builder = ObservationBuilder(
        ObservationSpec(image_height_px=8, image_width_px=8, frame_stack=1)
    )
    assert [levels(builder, level) for level in (10, 20)] == [[10], [20]]


def test_default_is_four_frames_of_84():
    observation = ObservationBuilder().build(
        view(pixels_of(120, 160, 4), 'bgra8'), moving(), STOPPED
    )
    assert observation.image.shape == (4, 84, 84)
    assert observation.image.dtype == np.uint8


@pytest.mark.parametrize('encoding', ['mono8', 'bgra8'])
def test_earlier_observations_do_not_change_and_share_nothing_with_the_message(encoding):
    builder, kept = ObservationBuilder(SMALL), []
    raw = bytearray(8 * 8 * ENCODINGS[encoding][0])
    for level in (10, 20, 30, 40, 50):
        raw[:] = bytes([level]) * len(raw)  # the middleware reuses its buffer
        step = len(raw) // 8
        image = ImageView(data=raw, height=8, width=8, encoding=encoding, step=step)
        observation = builder.build(image, moving(), STOPPED)
        kept.append((observation, observation.image.copy(), observation.sha256()))
    for observation, image, sha256 in kept:
        np.testing.assert_array_equal(observation.image, image)
        assert observation.sha256() == sha256


@pytest.mark.parametrize(
    ('speed', 'yaw_rate', 'action', 'vector'),
    [
        (0.0, 0.0, (0.0, 0.0), (0.0, 0.0, 0.0, 0.0)),
        (8.33, 0.0, (0.0, 0.0), (1.0, 0.0, 0.0, 0.0)),
        (-4.165, 0.0, (0.0, 0.0), (-0.5, 0.0, 0.0, 0.0)),
        (0.0, 0.7, (0.0, 0.0), (0.0, 0.7, 0.0, 0.0)),
        (0.0, 0.0, (0.25, -0.75), (0.0, 0.0, 0.25, -0.75)),
    ],
)
def test_state_vector(speed, yaw_rate, action, vector):
    state = moving(speed, yaw_rate)
    previous = np.array(action, dtype=np.float32)
    observation = ObservationBuilder(SMALL).build(grey_view(0), state, previous)
    assert observation.state.dtype == np.float32
    np.testing.assert_allclose(observation.state, vector, rtol=1e-6)
    assert observation.vehicle is state


class TestPath:
    SPEC = replace(SMALL, path=True)
    AHEAD_M = PATH_SPACING_M * np.arange(1, PATH_POINTS + 1)

    def seen(self, route, state):
        """Points of the route in an observation, (PATH_POINTS, 2) [m]."""
        builder = ObservationBuilder(self.SPEC)
        builder.set_route(route)
        vector = builder.build(grey_view(0), state, STOPPED).state
        assert vector.shape == (self.SPEC.state_size,)
        return vector[4:].reshape(PATH_POINTS, 2) * PATH_SCALE_M

    @pytest.mark.parametrize('left_m', [-1.5, 0.0, 2.0])
    def test_straight_road_east(self, left_m):
        """Beside the road the points are beside the vehicle, on the other side."""
        state = replace(moving(), x_m=10.0, y_m=left_m, yaw_rad=0.0)
        points = self.seen(Route([(0.0, 0.0), (100.0, 0.0)]), state)
        np.testing.assert_allclose(points[:, 0], self.AHEAD_M, atol=1e-5)
        np.testing.assert_allclose(points[:, 1], -left_m, atol=1e-5)

    @given(yaw=st.floats(-3.0, 3.0), x=st.floats(-50.0, 50.0), y=st.floats(-50.0, 50.0))
    def test_only_the_pose_relative_to_the_road_matters(self, yaw, x, y):
        cos, sin = math.cos(yaw), math.sin(yaw)
        road = [(s, 0.02 * s * s) for s in np.linspace(0.0, 60.0, 61)]
        moved = [(x + cos * a - sin * b, y + sin * a + cos * b) for a, b in road]
        here = self.seen(Route(road), replace(moving(), x_m=0.0, y_m=0.0, yaw_rad=0.0))
        there = self.seen(Route(moved), replace(moving(), x_m=x, y_m=y, yaw_rad=yaw))
        np.testing.assert_allclose(there, here, atol=1e-4)

    def test_left_bend_is_on_the_left(self):
        bend = [(0.0, 0.0), (5.0, 0.0), (10.0, 2.0), (15.0, 6.0), (20.0, 12.0), (22.0, 40.0)]
        lefts = self.seen(Route(bend), replace(moving(), x_m=0.0, y_m=0.0, yaw_rad=0.0))[:, 1]
        assert (np.diff(lefts) >= 0.0).all()
        assert lefts[-1] > 5.0

    def test_route_far_away_is_not_seen(self):
        state = replace(moving(), x_m=0.0, y_m=LOST_DISTANCE_M + 1.0, yaw_rad=0.0)
        assert not self.seen(Route([(0.0, 0.0), (100.0, 0.0)]), state).any()

    def test_points_move_on_with_the_vehicle(self):
        """Pitfall: waypoints that are zero, or behind, some hundred metres on."""
        route = Route([(0.0, 0.0), (400.0, 0.0)])
        builder = ObservationBuilder(self.SPEC)
        builder.set_route(route)
        for x_m in np.arange(0.0, 300.0, 5.0):
            state = replace(moving(), x_m=x_m, y_m=0.0, yaw_rad=0.0)
            points = builder.build(grey_view(0), state, STOPPED).state[4::2] * PATH_SCALE_M
            np.testing.assert_allclose(points, self.AHEAD_M, atol=1e-3)

    def test_no_route_is_rejected(self):
        with pytest.raises(ValueError, match='but there is no route'):
            ObservationBuilder(self.SPEC).build(grey_view(0), moving(), STOPPED)

    def test_without_path_the_route_changes_nothing(self):
        plain, routed = ObservationBuilder(SMALL), ObservationBuilder(SMALL)
        routed.set_route(Route([(0.0, 0.0), (100.0, 0.0)]))
        one, other = (b.build(grey_view(9), moving(), STOPPED) for b in (plain, routed))
        assert one.sha256() == other.sha256()


def test_hash_changes_with_every_component_and_with_nothing_else():
    def sha256(state=(1.0, 0.1), action=(0.2, 0.3), level=10, brighter=None):
        pixels = np.full((8, 8, 1), level, dtype=np.uint8)
        if brighter is not None:
            pixels[brighter] += 1
        builder = ObservationBuilder(SMALL)
        builder.build(grey_view(5), moving(), STOPPED)
        previous = np.array(action, dtype=np.float32)
        return builder.build(view(pixels, 'mono8'), moving(*state), previous).sha256()

    hashes = [
        sha256(),
        sha256(level=11),
        sha256(brighter=(0, 0)),
        sha256(brighter=(7, 7)),
        sha256(state=(1.001, 0.1)),
        sha256(state=(1.0, 0.101)),
        sha256(action=(0.201, 0.3)),
        sha256(action=(0.2, 0.301)),
    ]
    assert len(set(hashes)) == len(hashes)
    assert sha256(state=(1.0, 0.1, 5)) == hashes[0]  # a policy does not read the time
    assert len(hashes[0]) == 64


def test_hash_depends_on_the_order_of_frames():
    def sha256(*order):
        builder = ObservationBuilder(SMALL)
        return [builder.build(grey_view(level), moving(), STOPPED) for level in order][-1].sha256()

    assert sha256(10, 20, 30) == sha256(10, 20, 30) != sha256(20, 10, 30)


@pytest.mark.parametrize(('crop_top', 'cut_rows'), [(0.0, 0), (0.25, 5), (0.5, 10), (0.9, 18)])
def test_crop_cuts_off_rows_above(crop_top, cut_rows):
    spec = ObservationSpec(image_height_px=8, image_width_px=8, crop_top=crop_top)
    pixels = pixels_of(20, 20, 1)
    image = ObservationBuilder(spec).build(view(pixels, 'mono8'), moving(), STOPPED).image
    np.testing.assert_array_equal(image[-1], resize_area(pixels[cut_rows:, :, 0], 8, 8))


def test_crop_leaves_something_of_the_smallest_image():
    spec = ObservationSpec(image_height_px=8, image_width_px=8, crop_top=0.9)
    image = ObservationBuilder(spec).build(grey_view(77, 1, 1), moving(), STOPPED).image
    assert (image == 77).all()

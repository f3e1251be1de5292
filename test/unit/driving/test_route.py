# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Closed forms and properties of the route."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.route import SEARCH_WINDOW_M, Route, RouteTracker

RADIUS_M = 20.0


def straight(length_m=300.0, spacing_m=1.0):
    x = np.arange(0.0, length_m + 0.5 * spacing_m, spacing_m)
    return Route(np.column_stack((x, np.zeros_like(x))))


def circle(count=400, *, clockwise=False):
    angle = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False) * (-1.0 if clockwise else 1.0)
    points = RADIUS_M * np.column_stack((np.cos(angle), np.sin(angle)))
    return Route(points, closed=True)


def figure_eight(count=800):
    t = np.linspace(0.0, 2.0 * np.pi, count, endpoint=False)
    return Route(np.column_stack((60.0 * np.sin(t), 60.0 * np.sin(t) * np.cos(t))), closed=True)


@st.composite
def winding_routes(draw):
    """Polylines with gentle turns, of uneven spacing, open or closed by a long way back."""
    steps = draw(st.lists(st.floats(0.2, 30.0), min_size=2, max_size=30))
    turns = draw(st.lists(st.floats(-0.4, 0.4), min_size=len(steps), max_size=len(steps)))
    heading = draw(st.floats(-4.0, 4.0)) + np.cumsum(turns)
    delta = np.array(steps)[:, None] * np.column_stack((np.cos(heading), np.sin(heading)))
    start = draw(st.tuples(st.floats(-1e4, 1e4), st.floats(-1e4, 1e4)))
    return Route(np.vstack((np.zeros((1, 2)), np.cumsum(delta, axis=0))) + start)


@pytest.mark.parametrize(
    ('points', 'closed', 'message'),
    [
        ([1.0, 2.0], False, r'shape \(N, 2\), got \(2,\)'),
        ([[1.0, 2.0, 3.0]], False, r'shape \(N, 2\), got \(1, 3\)'),
        (np.zeros((0, 2)), False, 'at least 2 distinct points, got 0'),
        ([[1.0, 2.0], [1.0, 2.0]], False, 'at least 2 distinct points, got 1'),
        ([[0.0, 0.0], [1.0, 0.0], [0.0, 0.0]], True, 'at least 3 distinct points, got 2'),
        ([[0.0, 0.0], [np.nan, 0.0]], False, r'finite \[m\], point 1 is \[nan, 0.0\]'),
        ([[0.0, 0.0], [np.inf, 0.0]], False, 'finite'),
    ],
)
def test_bad_points_are_rejected(points, closed, message):
    with pytest.raises(ValueError, match=message):
        Route(points, closed=closed)


def test_repeated_points_count_once():
    route = Route([[0.0, 0.0], [0.0, 0.0], [3.0, 0.0], [3.0, 1e-5], [3.0, 4.0]])
    assert len(route.points_xy) == 3
    assert route.length_m == pytest.approx(7.0)


def test_closed_route_may_repeat_its_first_point():
    square = [[0, 0], [10, 0], [10, 10], [0, 10], [0, 0]]
    assert Route(square, closed=True).length_m == pytest.approx(40.0)
    assert Route(square[:-1], closed=True).length_m == pytest.approx(40.0)


def test_points_cannot_be_changed_from_outside():
    points = np.array([[0.0, 0.0], [1.0, 0.0]])
    route = Route(points)
    points[1] = 99.0
    assert route.length_m == pytest.approx(1.0)
    with pytest.raises(ValueError, match='read-only'):
        route.points_xy[0] = 5.0


@pytest.mark.parametrize('driven_m', [1.0, 100.0, 260.0])
def test_points_ahead_are_ahead_wherever_the_car_is(driven_m):
    """Arc length and index are never confused, even where points lie 0.25 m apart."""
    route = straight(spacing_m=0.25)
    s_m = route.project(driven_m, 0.3).s_m
    ahead = route.sample_array(s_m + 2.0 * np.arange(1, 11))
    np.testing.assert_allclose(ahead[:, 0] - driven_m, 2.0 * np.arange(1, 11))


def test_lateral_offset_is_signed_and_left_positive():
    route = straight()
    assert route.project(50.25, 1.5) == pytest.approx((50.25, 1.5, 0.0, 1.5))
    assert route.project(50.25, -1.5) == pytest.approx((50.25, -1.5, 0.0, 1.5))


def test_beyond_an_open_end_only_the_sideways_part_counts():
    assert straight().project(303.0, 4.0) == pytest.approx((300.0, 4.0, 0.0, 5.0))
    assert straight().project(-3.0, -4.0) == pytest.approx((0.0, -4.0, 0.0, 5.0))


@pytest.mark.parametrize('corner_rad', [0.5, 1.6, 2.9])
@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_side_is_right_outside_a_sharp_corner(corner_rad, sign):
    end = 50.0 * np.array([math.cos(corner_rad), sign * math.sin(corner_rad)])
    route = Route([[-50.0, 0.0], [0.0, 0.0], end])
    outside = -sign * math.pi / 2 + sign * corner_rad / 2  # away from the inside of the bend
    seen = route.project(2.0 * math.cos(outside), 2.0 * math.sin(outside))
    assert seen.s_m == pytest.approx(50.0)
    assert seen.lateral_m == pytest.approx(-sign * 2.0)


@pytest.mark.parametrize('apart_m', [-1.5, -1e-9, 0.0, 1e-9, 1.5])
def test_drive_begins_at_the_start_where_the_route_comes_by_again(apart_m):
    """Round a block, then once more along the street of the start, nearer to the car."""
    block = [(0.0, 0.0), (60.0, 0.0), (60.0, 40.0), (0.0, 40.0)]
    route = Route([*block, (0.0, apart_m), (50.0, apart_m)])
    assert route.project(0.5, apart_m).s_m == pytest.approx(0.5)
    again = route.project(0.5, apart_m, route.length_m - 50.0)
    assert again.s_m == pytest.approx(route.length_m - 49.5)
    tracker = RouteTracker(route, 10.0)
    assert tracker.locate(0.5, apart_m) == pytest.approx(0.5)


@pytest.mark.parametrize('route', [straight(), circle()])
def test_drive_may_begin_anywhere(route):
    for s_m in np.arange(0.0, 40.0, 0.25).tolist():
        seen = route.project(*route.sample(s_m)[:2])
        assert route.advance(s_m, seen.s_m) == pytest.approx(0.0, abs=1e-6)
        assert seen.distance_m == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize('clockwise', [False, True])
def test_circle_closed_form(clockwise):
    route = circle(clockwise=clockwise)
    sign = -1.0 if clockwise else 1.0
    assert route.length_m == pytest.approx(2.0 * np.pi * RADIUS_M, rel=1e-4)
    for angle in np.linspace(0.0, 6.2, 50):
        x, y = 18.0 * math.cos(sign * angle), 18.0 * math.sin(sign * angle)
        seen = route.project(x, y)
        assert route.advance(RADIUS_M * angle, seen.s_m) == pytest.approx(0.0, abs=0.02)
        assert seen.lateral_m == pytest.approx(sign * 2.0, abs=0.005)  # inside of a left bend
        turned = math.remainder(seen.heading_rad - sign * (angle + np.pi / 2.0), 2.0 * np.pi)
        assert turned == pytest.approx(0.0, abs=1e-3)
    curvature = route.curvature_array(np.linspace(0.0, route.length_m, 97))
    np.testing.assert_allclose(curvature, sign / RADIUS_M, rtol=1e-3)


def test_curvature_of_a_straight_is_zero_also_at_its_ends():
    np.testing.assert_allclose(straight().curvature_array([0.0, 0.1, 150.0, 300.0]), 0.0)


def test_points_close_together_do_not_look_like_a_hairpin():
    """Two pieces of road that meet with 2 mm of offset: a true joint, not a bend."""
    route = Route([[0.0, 0.0], [20.0, 0.0], [20.002, 0.002], [40.0, 0.002]])
    assert np.abs(route.curvature_array(np.linspace(0.0, 40.0, 401))).max() < 0.4


@pytest.mark.parametrize('route', [straight(), circle()])
@pytest.mark.parametrize('base_m', [0.0, -1.0, math.nan, math.inf])
def test_bad_base_is_rejected(route, base_m):
    with pytest.raises(ValueError, match='base_m must be > 0'):
        route.curvature(1.0, base_m)


def test_open_route_clamps_and_closed_route_wraps():
    assert straight().sample(-5.0) == pytest.approx((0.0, 0.0, 0.0))
    assert straight().sample(1e6) == pytest.approx((300.0, 0.0, 0.0))
    lap = circle()
    for laps in (-2, -1, 1, 3):
        assert lap.sample(7.0 + laps * lap.length_m) == pytest.approx(lap.sample(7.0))
    assert lap.normalise(-1e-20) == 0.0
    assert lap.normalise(lap.length_m) == 0.0


def test_not_finite_positions_are_rejected():
    for x, y, near in ((math.nan, 0.0, None), (0.0, math.inf, None), (0.0, 0.0, math.nan)):
        with pytest.raises(ValueError, match='finite'):
            straight().project(x, y, near)
    for method in (straight().sample, straight().normalise, lambda s: straight().curvature(s)):
        with pytest.raises(ValueError, match='finite'):
            method(math.nan)


def test_projection_does_not_jump_where_the_route_crosses_itself():
    route = figure_eight()
    s_m, last_m = 0.0, 0.0
    for wanted_m in np.arange(0.0, 2.0 * route.length_m, 0.4):
        x, y, heading = route.sample(wanted_m)
        left = 0.5 * np.array([-math.sin(heading), math.cos(heading)])
        seen = route.project(x + left[0], y + left[1], s_m)
        s_m = seen.s_m
        assert seen.lateral_m == pytest.approx(0.5, abs=0.01)
        assert route.advance(last_m, s_m) == pytest.approx(0.4, abs=0.1) or wanted_m == 0.0
        last_m = s_m


def test_a_lap_drawn_open_starts_at_its_start_and_ends_at_its_end():
    angle = np.linspace(0.0, 2.0 * np.pi, 401)
    route = Route(RADIUS_M * np.column_stack((np.cos(angle), np.sin(angle))))
    assert route.project(RADIUS_M, 0.0, 0.0).s_m == pytest.approx(0.0, abs=1e-6)
    assert route.project(RADIUS_M, 0.0, 124.0).s_m == pytest.approx(route.length_m, abs=1e-6)


def test_window_over_the_seam_of_a_closed_route():
    lap = circle()
    for near_m in (0.0, 1.0, lap.length_m - 1.0):
        assert lap.advance(0.0, lap.project(20.0, -3.0, near_m).s_m) == pytest.approx(-3, abs=0.03)
        assert lap.advance(0.0, lap.project(20.0, 3.0, near_m).s_m) == pytest.approx(3, abs=0.03)


def test_window_over_the_seam_that_begins_and_ends_in_one_segment():
    route = Route([[0.0, 0.0], [100.0, 0.0], [50.0, 1.0]], closed=True)
    for s_m in np.linspace(0.0, route.length_m, 83, endpoint=False):
        x, y, _ = route.sample(s_m)
        assert route.project(x, y, s_m).distance_m == pytest.approx(0.0, abs=1e-9)


def test_advance_takes_the_short_way_round():
    lap = circle()
    assert lap.advance(1.0, lap.length_m - 1.0) == pytest.approx(-2.0)
    assert lap.advance(lap.length_m - 1.0, 1.0) == pytest.approx(2.0)
    assert straight().advance(1.0, 299.0) == pytest.approx(298.0)


def test_heading_turns_evenly_through_a_corner():
    route = Route([[0.0, 0.0], [50.0, 0.0], [50.0, 50.0]])
    heading = route.sample_array([0.0, 47.9, 49.0, 50.0, 51.0, 52.1, 100.0])[:, 2]
    np.testing.assert_allclose(heading, np.pi / 2 * np.array([0, 0, 0.25, 0.5, 0.75, 1, 1]))


@given(route=winding_routes(), fraction=st.floats(0.0, 1.0))
def test_projection_of_a_sample_is_its_arc_length(route, fraction):
    s_m = fraction * route.length_m
    x, y, heading = route.sample(s_m)
    seen = route.project(x, y, s_m)
    assert seen.distance_m == pytest.approx(0.0, abs=1e-6)
    assert seen.lateral_m == pytest.approx(0.0, abs=1e-6)
    assert abs(math.remainder(seen.heading_rad - heading, 2.0 * math.pi)) < 1e-3
    # Where the line comes back to itself within the window another place may be as close.
    px, py, _ = route.sample(seen.s_m)
    assert math.hypot(px - x, py - y) < 1e-6
    if route.length_m < SEARCH_WINDOW_M:
        assert seen.s_m == pytest.approx(s_m, abs=1e-5)


@given(
    route=winding_routes(), x=st.floats(-2e4, 2e4), y=st.floats(-2e4, 2e4), s=st.floats(-1e5, 1e5)
)
def test_projection_is_the_nearest_point_and_stays_on_the_route(route, x, y, s):
    seen = route.project(x, y)
    assert 0.0 <= seen.s_m <= route.length_m
    assert abs(seen.lateral_m) <= seen.distance_m + 1e-6
    px, py, _ = route.sample(s)
    assert seen.distance_m <= math.hypot(x - px, y - py) + 1e-6


@given(route=winding_routes(), fractions=st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=9))
def test_sample_array_agrees_with_sample(route, fractions):
    s = np.array(fractions) * route.length_m
    expected = np.array([route.sample(float(value)) for value in s])
    np.testing.assert_allclose(route.sample_array(s)[:, :2], expected[:, :2], atol=1e-7)
    turned = np.angle(np.exp(1j * (route.sample_array(s)[:, 2] - expected[:, 2])))
    np.testing.assert_allclose(turned, 0.0, atol=1e-6)

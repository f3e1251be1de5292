# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Route: a line on the ground, addressed by arc length alone.

The coordinate along a route is ``s_m`` [m] from its first point; indices of points never leave
this module. All positions are in the ROS map frame (x east, y north, right-handed), so lateral
offsets and headings are left positive.
"""

from __future__ import annotations

from bisect import bisect_right
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from td3_agent.driving.geometry import wrap_angle

FloatArray = NDArray[np.float64]

MIN_SPACING_M = 1e-3  # closer neighbours are one point: their direction is rounding
HEADING_BLEND_M = 2.0  # at a corner the heading turns over at most this length on either side
SEARCH_WINDOW_M = 10.0  # far more than a car moves in one tick, far less than a loop of road
CURVATURE_BASE_M = 2.0
START_TOLERANCE_M = 2.0
LAP_GAP_M = 0.1  # a path whose ends are this close is closed
LAP_POINTS = 3


class Projection(NamedTuple):
    """A position seen from a route.

    Attributes:
        s_m: arc length of the closest point [m].
        lateral_m: signed distance, positive when the position lies left of the route [m]. Before
            the start and beyond the end of an open route only the sideways part counts.
        heading_rad: direction of the route at ``s_m``, in [-pi, pi).
        distance_m: distance to the closest point, never negative [m].
    """

    s_m: float
    lateral_m: float
    heading_rad: float
    distance_m: float


def route_from_points(points_xy: ArrayLike) -> Route:
    """Return the route of a path; a path that ends at its start is a lap.

    Args:
        points_xy: (N, 2) positions in the map frame [m].

    Raises:
        ValueError: too few points, or a value that is not finite.
    """
    points = np.asarray(points_xy, dtype=np.float64).reshape(-1, 2)
    closed = len(points) > LAP_POINTS and bool(np.hypot(*(points[0] - points[-1])) < LAP_GAP_M)
    return Route(points, closed=closed)


class Route:
    """Polyline with projection, sampling, heading and curvature by arc length."""

    def __init__(self, points_xy: ArrayLike, *, closed: bool = False) -> None:
        """Check the points and precompute what a tick needs.

        Args:
            points_xy: (N, 2) positions in the map frame [m].
            closed: the last point is joined to the first; repeating the first is allowed.

        Raises:
            ValueError: wrong shape, a value that is not finite, too few distinct points.
        """
        self._closed = bool(closed)
        self._points = _checked_points(points_xy, closed=self._closed)
        self._build_segments()
        self._build_heading()

    @property
    def closed(self) -> bool:
        """Whether the end is joined to the start."""
        return self._closed

    @property
    def length_m(self) -> float:
        """Arc length of the whole route, one lap of a closed one [m]."""
        return self._length_m

    @property
    def points_xy(self) -> FloatArray:
        """(N, 2) distinct points [m], read-only."""
        return self._points

    def project(self, x_m: float, y_m: float, near_s_m: float | None = None) -> Projection:
        """Find the point of the route that is closest to a position.

        Args:
            x_m: position in the map frame [m].
            y_m: position in the map frame [m].
            near_s_m: search only the segments within ``SEARCH_WINDOW_M`` of this arc length, so
                that the result does not jump where a route comes by twice. None begins a drive:
                at the start of the route, where that is near, else anywhere.

        Raises:
            ValueError: the position or ``near_s_m`` is not finite.
        """
        if not (math.isfinite(x_m) and math.isfinite(y_m)):
            raise ValueError(f'position must be finite [m], got ({x_m}, {y_m})')
        if near_s_m is None:
            found = self.project(x_m, y_m, 0.0)
            inside = abs(self.advance(0.0, found.s_m)) < 0.5 * SEARCH_WINDOW_M  # not cut off there
            if inside and found.distance_m <= START_TOLERANCE_M:
                return found
        first, last = self._search_range(near_s_m)
        # Complex numbers: one product turns the offset into each segment's own axes, along + left.
        offset = complex(x_m, y_m) * self._turn[first:last] - self._origin[first:last]
        along = offset.real
        residual = offset - np.minimum(np.maximum(along, 0.0), self._segment_m[first:last])
        best = int(np.abs(residual).argmin())
        return self._projection(
            (first + best) % self._count, along.item(best), residual.item(best)
        )

    def sample(self, s_m: float) -> tuple[float, float, float]:
        """Position and heading at an arc length.

        Args:
            s_m: arc length [m]; clamped to an open route, wrapped on a closed one.

        Returns:
            x [m], y [m], heading [rad] in [-pi, pi).
        """
        s_m = self.normalise(s_m)
        i = self._segment_at(s_m)
        t = s_m - self._starts[i]
        x = self._x_list[i] + t * self._ux_list[i]
        y = self._y_list[i] + t * self._uy_list[i]
        return x, y, wrap_angle(self._heading_at(s_m))

    def sample_array(self, s_m: ArrayLike) -> FloatArray:
        """Vectorised :meth:`sample`.

        Args:
            s_m: (K,) arc lengths [m]; clamped or wrapped.

        Returns:
            (K, 3) columns x [m], y [m], heading [rad] in [-pi, pi).
        """
        s = self._normalise_array(s_m)
        i = np.clip(np.searchsorted(self._starts_array, s, side='right') - 1, 0, self._count - 1)
        t = s - self._starts_array[i]
        heading = np.interp(s, self._knot_s_array, self._knot_heading_array)
        return np.column_stack(
            (
                self._points[i, 0] + t * self._ux[i],
                self._points[i, 1] + t * self._uy[i],
                (heading + np.pi) % (2.0 * np.pi) - np.pi,
            )
        )

    def curvature(self, s_m: float, base_m: float = CURVATURE_BASE_M) -> float:
        """Mean curvature over ``base_m`` around an arc length, left positive [1/m]."""
        return float(self.curvature_array([s_m], base_m)[0])

    def curvature_array(self, s_m: ArrayLike, base_m: float = CURVATURE_BASE_M) -> FloatArray:
        """Mean curvature around each arc length: turn of the heading over ``base_m``.

        A mean, because the second derivative of a polyline is zero or infinite, and two points
        that happen to lie close together must not look like a hairpin.

        Args:
            s_m: (K,) arc lengths [m].
            base_m: length over which the turn is measured [m], > 0; cut off at open ends.

        Returns:
            (K,) curvature [1/m], left positive.

        Raises:
            ValueError: ``base_m`` is not positive.
        """
        if not 0.0 < base_m < math.inf:
            raise ValueError(f'base_m must be > 0 and finite [m], got {base_m}')
        s = self._normalise_array(s_m)
        low, high = s - 0.5 * base_m, s + 0.5 * base_m
        if not self._closed:
            low, high = np.maximum(low, 0.0), np.minimum(high, self._length_m)
        return (self._unwrapped(high) - self._unwrapped(low)) / (high - low)

    def normalise(self, s_m: float) -> float:
        """Bring an arc length onto the route: [0, length] open, [0, length) closed.

        Raises:
            ValueError: ``s_m`` is not finite.
        """
        if not math.isfinite(s_m):
            raise ValueError(f's_m must be finite [m], got {s_m}')
        if not self._closed:
            return min(max(s_m, 0.0), self._length_m)
        wrapped = s_m % self._length_m
        return wrapped if wrapped < self._length_m else 0.0  # -1e-20 % length is length

    def advance(self, from_s_m: float, to_s_m: float) -> float:
        """Return the signed distance along the route [m], the shorter one on a closed route."""
        distance_m = to_s_m - from_s_m
        if not self._closed:
            return distance_m
        half = 0.5 * self._length_m
        return (distance_m + half) % self._length_m - half

    def _build_segments(self) -> None:
        """Precompute, per segment, all that a projection and a sample need."""
        ends = np.roll(self._points, -1, axis=0) if self._closed else self._points[1:]
        starts = self._points if self._closed else self._points[:-1]
        delta = ends - starts
        length = np.hypot(delta[:, 0], delta[:, 1])
        ux, uy = delta[:, 0] / length, delta[:, 1] / length
        cumulative = np.concatenate(([0.0], np.cumsum(length)))
        self._count = len(length)
        self._length_m = float(cumulative[-1])
        self._starts_array = cumulative[:-1]
        # A closed route is stored twice over, so that a window across the seam is one slice.
        laps = 2 if self._closed else 1
        turn = ux - 1j * uy
        self._turn = np.tile(turn, laps)
        self._origin = np.tile((starts[:, 0] + 1j * starts[:, 1]) * turn, laps)
        self._segment_m = np.tile(length, laps)
        self._ux, self._uy = ux, uy
        # Plain floats: reading one element of an array costs more than the sum it goes into.
        self._starts: list[float] = self._starts_array.tolist()
        self._x_list: list[float] = starts[:, 0].tolist()
        self._y_list: list[float] = starts[:, 1].tolist()
        self._ux_list: list[float] = ux.tolist()
        self._uy_list: list[float] = uy.tolist()

    def _build_heading(self) -> None:
        """Knots of the heading, linear in arc length between them.

        Each segment keeps its own direction; around a vertex it turns evenly into the next one.
        With evenly spaced points this is exact on straight and circle.
        """
        length = self._segment_m[: self._count]
        heading = np.unwrap(np.arctan2(self._uy, self._ux))
        if self._closed:
            heading = np.append(heading, heading[-1] + wrap_angle(float(heading[0] - heading[-1])))
            length = np.append(length, length[0])
        self._lap_turn_rad = float(heading[-1] - heading[0]) if self._closed else 0.0
        vertex_s = np.cumsum(length)[:-1]
        blend = np.minimum(0.5 * np.minimum(length[:-1], length[1:]), HEADING_BLEND_M)
        knot_s = np.column_stack((vertex_s - blend, vertex_s + blend)).ravel()
        knot_heading = np.column_stack((heading[:-1], heading[1:])).ravel()
        if self._closed:
            # The blend of the last vertex ends in the next lap: bring that part to the front.
            knot_s = np.concatenate((knot_s[-2:] - self._length_m, knot_s))
            front = knot_heading[-2:] - self._lap_turn_rad
            knot_heading = np.concatenate((front, knot_heading))
        else:
            knot_s = np.concatenate(([0.0], knot_s, [self._length_m]))
            knot_heading = np.concatenate((heading[:1], knot_heading, heading[-1:]))
        self._knot_s_array, self._knot_heading_array = knot_s, knot_heading
        self._knot_s: list[float] = knot_s.tolist()
        self._knot_heading: list[float] = knot_heading.tolist()

    def _search_range(self, near_s_m: float | None) -> tuple[int, int]:
        """Half-open range of segments to search; may run past the count on a closed route."""
        if near_s_m is None or self._length_m <= 2.0 * SEARCH_WINDOW_M:
            return 0, self._count
        near = self.normalise(near_s_m)
        low = self.normalise(near - SEARCH_WINDOW_M)
        high = self.normalise(near + SEARCH_WINDOW_M)
        first, last = self._segment_at(low), self._segment_at(high)
        over_the_seam = high < low and last <= first
        return first, last + 1 + (self._count if over_the_seam else 0)

    def _projection(self, i: int, along_m: float, residual: complex) -> Projection:
        """Finish a projection from the nearest segment and the offset left over there."""
        beyond_m, lateral_m = residual.real, residual.imag
        s_m = self._starts[i] + along_m - beyond_m
        if s_m >= self._length_m:
            s_m = 0.0 if self._closed else self._length_m
        heading = self._heading_at(s_m)
        at_open_end = not self._closed and (s_m <= 0.0 or s_m >= self._length_m)
        if beyond_m != 0.0 and not at_open_end:
            # Closest to a vertex: the side is taken from the mean direction there, because the
            # segments on either side of a sharp corner can disagree about it.
            turned = residual * complex(self._ux_list[i], self._uy_list[i])
            side = math.cos(heading) * turned.imag - math.sin(heading) * turned.real
            lateral_m = math.copysign(abs(residual), side)
        return Projection(s_m, lateral_m, wrap_angle(heading), abs(residual))

    def _segment_at(self, s_m: float) -> int:
        return min(max(bisect_right(self._starts, s_m) - 1, 0), self._count - 1)

    def _heading_at(self, s_m: float) -> float:
        """Heading at a normalised arc length, not wrapped [rad]."""
        knots = self._knot_s
        i = min(max(bisect_right(knots, s_m), 1), len(knots) - 1)
        before, after = knots[i - 1], knots[i]
        h0, h1 = self._knot_heading[i - 1], self._knot_heading[i]
        if after <= before:
            return h1
        return h0 + (h1 - h0) * (s_m - before) / (after - before)

    def _unwrapped(self, s: FloatArray) -> FloatArray:
        """Heading without wrapping, over all laps of a closed route."""
        laps = np.floor(s / self._length_m) if self._closed else np.zeros_like(s)
        in_lap = s - laps * self._length_m
        heading = np.interp(in_lap, self._knot_s_array, self._knot_heading_array)
        return np.asarray(heading + laps * self._lap_turn_rad, dtype=np.float64)

    def _normalise_array(self, s_m: ArrayLike) -> FloatArray:
        s = np.asarray(s_m, dtype=np.float64)
        if s.ndim != 1 or not np.isfinite(s).all():
            raise ValueError(f's_m must be a finite (K,) array [m], got shape {s.shape}')
        return s % self._length_m if self._closed else np.clip(s, 0.0, self._length_m)


class RouteTracker:
    """Tracks a position along a route from frame to frame."""

    def __init__(self, route: Route, lost_distance_m: float) -> None:
        self.route = route
        self._lost_distance_m = lost_distance_m
        self._near_s_m: float | None = None

    def reset(self) -> None:
        self._near_s_m = None

    def locate(self, x_m: float, y_m: float) -> float | None:
        """Return the arc length of a position [m], or None far from the route.

        The search begins at the last place. If that fails, it covers the whole route.
        """
        found = self.route.project(x_m, y_m, self._near_s_m)
        if self._near_s_m is not None and found.distance_m > self._lost_distance_m:
            found = self.route.project(x_m, y_m)
        lost = found.distance_m > self._lost_distance_m
        self._near_s_m = None if lost else found.s_m
        return self._near_s_m


def _checked_points(points_xy: ArrayLike, *, closed: bool) -> FloatArray:
    points = np.array(points_xy, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f'route points must have shape (N, 2), got {points.shape}')
    if not np.isfinite(points).all():
        row = int(np.flatnonzero(~np.isfinite(points).all(axis=1))[0])
        raise ValueError(f'route points must be finite [m], point {row} is {points[row].tolist()}')
    points = _without_repeats(points)
    if closed and len(points) > 1 and math.dist(points[0], points[-1]) < MIN_SPACING_M:
        points = points[:-1]
    needed = 3 if closed else 2
    if len(points) < needed:
        kind = 'closed' if closed else 'open'
        raise ValueError(
            f'{kind} route needs at least {needed} distinct points, got {len(points)}'
            f' (points closer than {MIN_SPACING_M} m count once)'
        )
    points.flags.writeable = False
    return points


def _without_repeats(points: FloatArray) -> FloatArray:
    """Drop each point that lies within ``MIN_SPACING_M`` of the last one kept."""
    steps = np.hypot(*np.diff(points, axis=0).T)
    if (steps >= MIN_SPACING_M).all():
        return points
    kept = [0]
    for i in range(1, len(points)):
        if math.dist(points[i], points[kept[-1]]) >= MIN_SPACING_M:
            kept.append(i)
    return points[kept]

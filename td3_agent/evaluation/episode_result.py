# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""From the ledger of an episode to its figures and to what is drawn of it; simulated time only.

Driving score as on the CARLA Leaderboard 2.0: route completion times the penalties of all
infractions. Of its infractions those can happen here that need neither pedestrians nor lights
and signs: collisions with vehicles, driving or parked, and driving outside the lanes of the
route. Leaving the route, standing and running out of time end an episode; they cost the
rest of the route and have no penalty of their own, as on the leaderboard.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from td3_agent.driving.geometry import wrap_angle
from td3_agent.driving.ledger import LogCounts
from td3_agent.driving.task import Ending
from td3_agent.evaluation.summary import LONGEST_FRAME_M, onsets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.route import Route
    from td3_agent.driving.task import Task
    from td3_agent.evaluation.episodes import Episode
    from td3_agent.sim.road import LaneFix
    from td3_agent.sim.simulator import Simulator

EVENTS = ('collision', 'lane_invasion')
SURROUNDINGS_M = 40.0  # road farther than this from the route is not drawn
VEHICLE_COLLISION_PENALTY = 0.60  # leaderboard.carla.org, evaluation criteria 2.0
METRES_PER_KM = 1000.0
NS_PER_S = 1e9


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """What is drawn of an episode; positions in the map frame [m].

    Attributes:
        driven: (N, 2) positions.
        speed_mps: (N,) speed at each of them.
        route: (M, 2) the line to follow.
        road: outlines of the lanes near the route, (K, 2) each.
        events: x, y, what happened there.
    """

    driven: NDArray[np.float64]
    speed_mps: NDArray[np.float64]
    route: NDArray[np.float64]
    road: list[NDArray[np.float64]]
    events: list[tuple[float, float, str]]


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One episode driven by one driver.

    Attributes:
        figures: its row of the results.
        view: what is drawn of it.
        findings: what was wrong with the drive.
    """

    figures: dict[str, Any]
    view: EpisodeView
    findings: tuple[Finding, ...] = ()


def result_of(
    episode: Episode,
    simulator: Simulator,
    records: Sequence[dict[str, Any]],
    task: Task,
    *,
    transport: str,
) -> EpisodeResult:
    """Return figures and view of an episode from its records up to the ending.

    Args:
        episode: the episode.
        simulator: lends its map and route; where its car is by now does not matter.
        records: ledger records up to the ending.
        task: has taken them all.
        transport: how the frames travelled, ``'direct'`` or ``'ros'``.
    """
    track = track_of(records, simulator.ego.route, simulator.map)
    figures = {
        'episode': episode.number,
        'transport': transport,
        'attempts': 1,
        **episode.settings,
        'route_m': simulator.ego.route.length_m,
        **episode_figures(records, track, task.ending, task.route_completion),
    }
    view = EpisodeView(
        driven=track.places,
        speed_mps=track.speed_mps,
        route=simulator.ego.route.points_xy,
        road=road_around(simulator),
        events=events([record for record in records if 'x_m' in record]),
    )
    return EpisodeResult(figures=figures, view=view)


def road_around(simulator: Simulator) -> list[NDArray[np.float64]]:
    """Return the outlines of the lanes that come near the route, (K, 2) [m] each."""
    points = simulator.ego.route.points_xy
    low, high = points.min(axis=0) - SURROUNDINGS_M, points.max(axis=0) + SURROUNDINGS_M
    return [
        outline
        for outline in lane_outlines(simulator)
        if (outline.max(axis=0) >= low).all() and (outline.min(axis=0) <= high).all()
    ]


def lane_outlines(simulator: Simulator) -> list[NDArray[np.float64]]:
    """Return the outlines of all lanes, (K, 2) [m] each."""
    return [np.vstack((lane.left, lane.right[::-1])) for lane in simulator.map.lanes]


def events(driven: Sequence[dict[str, Any]]) -> list[tuple[float, float, str]]:
    """Return where something happened: x [m], y [m], what."""
    return [
        (record['x_m'], record['y_m'], name.replace('_', ' '))
        for name in EVENTS
        for record, begins in zip(driven, onsets(driven, name), strict=True)
        if begins
    ]


class LaneLookup(Protocol):
    """What a map tells of a place."""

    def locate(self, x_m: float, y_m: float, z_m: float = 0.0) -> LaneFix:
        """Return the lane at a position in the map frame [m]."""


@dataclass(frozen=True, kw_only=True)
class Track:
    """An episode as arrays, one row per frame with odometry.

    Attributes:
        time_s: (N,) simulated time [s].
        places: (N, 2) positions in the map frame [m].
        speed_mps: (N,) forward speed [m/s].
        yaw_rate_radps: (N,) [rad/s], left positive.
        lateral_m: (N,) signed offset from the route [m], left positive.
        heading_error_rad: (N,) yaw against the route's direction [rad], in [-pi, pi).
        on_road: (N,) bool, whether the car's origin lies on a driving lane of the map.
        in_lane: (N,) bool, whether that lane also runs in the direction of the route.
    """

    time_s: NDArray[np.float64]
    places: NDArray[np.float64]
    speed_mps: NDArray[np.float64]
    yaw_rate_radps: NDArray[np.float64]
    lateral_m: NDArray[np.float64]
    heading_error_rad: NDArray[np.float64]
    on_road: NDArray[np.bool_]
    in_lane: NDArray[np.bool_]

    @property
    def steps_m(self) -> NDArray[np.float64]:
        """(N,) distance since the frame before [m]; 0 for the first, and for a teleport."""
        if len(self.places) == 0:
            return np.zeros(0)
        steps = np.hypot(*np.diff(self.places, axis=0, prepend=self.places[:1]).T)
        return np.where(steps < LONGEST_FRAME_M, steps, 0.0)


def track_of(records: Sequence[dict[str, Any]], route: Route, ground: LaneLookup) -> Track:
    """Return the track that the poses of a ledger describe on a route and a map."""
    driven = [record for record in records if 'x_m' in record]
    rows, near_m = [], None
    for record in driven:
        seen = route.project(record['x_m'], record['y_m'], near_m)
        near_m = seen.s_m
        lane = ground.locate(record['x_m'], record['y_m'], record.get('z_m', 0.0))
        rows.append(
            (
                seen.lateral_m,
                wrap_angle(record['yaw_rad'] - seen.heading_rad),
                lane.on_road,
                lane.on_road and _runs_along(lane, seen.heading_rad),
            )
        )
    lateral, heading, on_road, in_lane = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    return Track(
        time_s=_column(driven, 'stamp_ns') / NS_PER_S,
        places=np.column_stack((_column(driven, 'x_m'), _column(driven, 'y_m'))),
        speed_mps=_column(driven, 'speed_mps'),
        yaw_rate_radps=_column(driven, 'yaw_rate_radps'),
        lateral_m=lateral,
        heading_error_rad=heading,
        on_road=on_road.astype(np.bool_),
        in_lane=in_lane.astype(np.bool_),
    )


def _runs_along(lane: LaneFix, heading_rad: float) -> bool:
    """Whether a lane is driven in about this direction; lanes cross within a junction."""
    return lane.in_junction or abs(wrap_angle(lane.heading_rad - heading_rad)) < math.pi / 2.0


def _column(records: Sequence[dict[str, Any]], name: str) -> NDArray[np.float64]:
    return np.array([record[name] for record in records], dtype=np.float64)


def episode_figures(
    records: Sequence[dict[str, Any]], track: Track, ending: Ending, route_completion: float
) -> dict[str, Any]:
    """Return the figures of one episode; units are part of the names, shares are in [0, 1].

    Args:
        records: ledger records up to the ending.
        track: the same as arrays.
        ending: how the episode ended.
        route_completion: fraction of the route covered.
    """
    counts = LogCounts()
    for record in records:
        counts.add(record)
    collisions = sum(onsets(records, 'collision'))
    invasions = sum(onsets(records, 'lane_invasion'))
    distance_m = float(track.steps_m.sum())
    outside = distance_fraction(track.steps_m, ~track.in_lane)
    penalty = infraction_penalty(collisions, outside)
    return {
        'ending': ending.name.lower(),
        'success': is_success(ending, collisions, track.in_lane),
        'route_completion': route_completion,
        'driving_score': route_completion * penalty,
        'infraction_penalty': penalty,
        'frames': len(records),
        'duration_s': duration_s(track.time_s, len(records)),
        'distance_m': distance_m,
        'collisions': collisions,
        'lane_invasions': invasions,
        'collisions_per_km': per_km(collisions, distance_m),
        'lane_invasions_per_km': per_km(invasions, distance_m),
        'off_road_share': distance_fraction(track.steps_m, ~track.on_road),
        'outside_lanes_share': outside,
        **motion_figures(track),
        'frames_not_ok': len(records) - counts.outcomes.get('ok', 0),
        'violations': counts.violations,
    }


def motion_figures(track: Track) -> dict[str, float | None]:
    """Return speed, errors against the route, and comfort."""
    lateral_mps2 = track.speed_mps * track.yaw_rate_radps
    longitudinal = longitudinal_jerk_mps3(track)
    lateral = lateral_jerk_mps3(track)
    total = np.hypot(longitudinal, lateral[: len(longitudinal)])
    return {
        'mean_speed_mps': mean(track.speed_mps),
        'lateral_error_rms_m': rms(track.lateral_m),
        'lateral_error_p95_m': percentile(np.abs(track.lateral_m), 95.0),
        'heading_error_rms_rad': rms(track.heading_error_rad),
        'longitudinal_jerk_rms_mps3': rms(longitudinal),
        'lateral_jerk_rms_mps3': rms(lateral),
        'jerk_rms_mps3': rms(total),
        'lateral_acceleration_rms_mps2': rms(lateral_mps2),
        'lateral_acceleration_max_mps2': percentile(np.abs(lateral_mps2), 100.0),
    }


def longitudinal_jerk_mps3(track: Track) -> NDArray[np.float64]:
    """Second derivative of the speed at the frames between the first and the last, (N - 2,)."""
    step_s = np.diff(track.time_s)
    acceleration = np.diff(track.speed_mps) / step_s
    between_s = 0.5 * (step_s[1:] + step_s[:-1])
    return np.diff(acceleration) / between_s


def lateral_jerk_mps3(track: Track) -> NDArray[np.float64]:
    """Change of speed times yaw rate, at the same frames as the other jerk, (N - 2,)."""
    acceleration = track.speed_mps * track.yaw_rate_radps
    way_s = track.time_s[2:] - track.time_s[:-2]
    return (acceleration[2:] - acceleration[:-2]) / way_s


def infraction_penalty(collisions: int, outside_fraction: float | None) -> float:
    """Return the product of all penalties, in [0, 1]; 1 without any infraction."""
    return VEHICLE_COLLISION_PENALTY**collisions * (1.0 - (outside_fraction or 0.0))


def is_success(ending: Ending, collisions: int, in_lane: NDArray[np.bool_]) -> bool:
    """Whether the goal was reached without infraction; crossing a line is counted apart."""
    return ending is Ending.GOAL and collisions == 0 and bool(in_lane.all())


def distance_fraction(steps_m: NDArray[np.float64], chosen: NDArray[np.bool_]) -> float | None:
    """Return the fraction of the distance that ended in chosen frames; None without distance."""
    whole_m = float(steps_m.sum())
    return float(steps_m[chosen].sum()) / whole_m if whole_m > 0.0 else None


def per_km(count: int, distance_m: float) -> float | None:
    """Return a count per kilometre; None when nothing was driven."""
    return count * METRES_PER_KM / distance_m if distance_m > 0.0 else None


def duration_s(time_s: NDArray[np.float64], frames: int) -> float:
    """Return the time that the frames of an episode took [s]; the first one counts."""
    if len(time_s) < 2:
        return 0.0
    return float(np.median(np.diff(time_s)) * frames)  # not all frames need have odometry


def mean(values: NDArray[np.float64]) -> float | None:
    """Return the mean, or None of nothing."""
    return float(values.mean()) if values.size else None


def rms(values: NDArray[np.float64]) -> float | None:
    """Return the root of the mean square, or None of nothing."""
    return float(np.sqrt(np.mean(values**2))) if values.size else None


def percentile(values: NDArray[np.float64], percent: float) -> float | None:
    """Return a percentile, or None of nothing."""
    return float(np.percentile(values, percent)) if values.size else None

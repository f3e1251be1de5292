# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The figures of an episode, each against an episode whose figures are known."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.route import Route
from td3_agent.driving.task import Ending
from td3_agent.evaluation.episode_result import (
    VEHICLE_COLLISION_PENALTY,
    Track,
    distance_fraction,
    episode_figures,
    infraction_penalty,
    is_success,
    lateral_jerk_mps3,
    longitudinal_jerk_mps3,
    motion_figures,
    per_km,
    track_of,
)
from td3_agent.sim.road import LaneFix

STEP_S = 0.05
LINE = Route(np.column_stack((np.arange(201.0), np.zeros(201))))
SENT = {'steer': 0.0}
LANE_M = 3.5


class TwoWayRoad:
    """Ground with a lane along the x axis and one the other way, left of it."""

    def __init__(self, *, junction=False):
        self._junction = junction
        self.asked = []

    def locate(self, x_m, y_m, z_m=0.0):
        self.asked.append((x_m, y_m, z_m))
        opposite = y_m > LANE_M / 2.0
        lateral = LANE_M - y_m if opposite else y_m
        return LaneFix(
            z_m=z_m,
            heading_rad=-math.pi if opposite else 0.0,
            lateral_m=lateral,
            on_road=abs(lateral) <= LANE_M / 2.0,
            in_junction=self._junction,
        )


def record(i, x_m, y_m=0.0, *, speed=5.0, yaw=0.0, **facts):
    return {
        'frame': i + 2,
        'stamp_ns': 10**10 + i * 50_000_000,
        'outcome': 'ok',
        'commands': 1,
        'sent': SENT,
        'applied': SENT,
        'x_m': float(x_m),
        'y_m': float(y_m),
        'z_m': 0.0,
        'yaw_rad': yaw,
        'speed_mps': float(speed),
        'yaw_rate_radps': 0.0,
        **facts,
    }


def straight(ys, speed=5.0):
    return [record(i, i * speed * STEP_S, y, speed=speed) for i, y in enumerate(ys)]


def track(records, ground=None):
    return track_of(records, LINE, ground or TwoWayRoad())


def figures(records, ending=Ending.GOAL, completion=1.0, ground=None):
    return episode_figures(records, track(records, ground), ending, completion)


def moving(speed, yaw_rate=None):
    """Track of a motion given by its speed and yaw rate over time."""
    count = len(speed)
    return Track(
        time_s=10.0 + STEP_S * np.arange(count),
        places=np.zeros((count, 2)),
        speed_mps=np.asarray(speed, dtype=np.float64),
        yaw_rate_radps=np.zeros(count) if yaw_rate is None else np.asarray(yaw_rate),
        lateral_m=np.zeros(count),
        heading_error_rad=np.zeros(count),
        on_road=np.ones(count, dtype=np.bool_),
        in_lane=np.ones(count, dtype=np.bool_),
    )


def test_clean_drive_to_the_goal_is_a_success_with_a_whole_score():
    got = figures(straight(np.zeros(101)))
    assert (got['success'], got['driving_score'], got['ending']) == (True, 1.0, 'goal')
    assert got['distance_m'] == pytest.approx(25.0)
    assert got['duration_s'] == pytest.approx(101 * STEP_S)
    assert got['mean_speed_mps'] == pytest.approx(5.0)
    assert (got['off_road_share'], got['outside_lanes_share']) == (0.0, 0.0)
    assert (got['frames'], got['frames_not_ok'], got['violations']) == (101, 0, 0)


def test_lateral_error_rms_and_percentile():
    ys = np.linspace(-1.0, 1.0, 201)
    got = figures(straight(ys))
    assert got['lateral_error_rms_m'] == pytest.approx(math.sqrt(np.mean(ys**2)))
    assert got['lateral_error_p95_m'] == pytest.approx(0.95, abs=0.01)
    assert got['lateral_error_rms_m'] == pytest.approx(1.0 / math.sqrt(3.0), rel=0.01)


@pytest.mark.parametrize('turns', [-2.0, 0.0, 1.0])
def test_heading_error_is_wrapped(turns):
    records = [
        record(i, i, yaw=2.0 * math.pi * turns + (0.1 if i % 2 else -0.1)) for i in range(50)
    ]
    assert figures(records)['heading_error_rms_rad'] == pytest.approx(0.1)


def test_off_road_share_is_a_share_of_the_way():
    ys = [0.0] * 51 + [-2.0] * 25 + [0.0] * 25
    got = figures(straight(ys))
    steps = track(straight(ys)).steps_m
    assert got['off_road_share'] == pytest.approx(steps[51:76].sum() / steps.sum())
    assert got['off_road_share'] == pytest.approx(0.25, abs=0.15)  # the swerves count as way
    assert not got['success']
    assert got['driving_score'] == pytest.approx(1.0 - got['off_road_share'])


def test_the_lane_of_oncoming_traffic_is_road_but_outside_the_lanes_of_the_route():
    got = figures(straight([3.0] * 41))
    assert (got['off_road_share'], got['outside_lanes_share']) == (0.0, 1.0)
    assert (got['driving_score'], got['success']) == (0.0, False)


def test_within_a_junction_lanes_may_cross():
    got = figures(straight([3.0] * 41), ground=TwoWayRoad(junction=True))
    assert (got['outside_lanes_share'], got['success']) == (0.0, True)


def test_the_map_is_asked_at_the_height_of_the_car():
    ground = TwoWayRoad()
    track([record(0, 1.0, z_m=7.0)], ground)
    assert ground.asked == [(1.0, 0.0, 7.0)]


def test_each_collision_costs_the_penalty_of_the_leaderboard():
    records = straight(np.zeros(101))
    for i in (20, 21, 22, 60):  # contact that lasts is one collision
        records[i]['collision'] = 200
    got = figures(records, Ending.COLLISION, completion=0.5)
    assert got['collisions'] == 2
    assert got['collisions_per_km'] == pytest.approx(2 / 0.025)
    assert got['driving_score'] == pytest.approx(0.5 * VEHICLE_COLLISION_PENALTY**2)
    assert not got['success']


def test_lane_invasion_is_counted_and_is_no_infraction():
    records = straight(np.zeros(101))
    records[50]['lane_invasion'] = [2]
    got = figures(records)
    assert (got['lane_invasions'], got['success'], got['driving_score']) == (1, True, 1.0)
    assert got['lane_invasions_per_km'] == pytest.approx(1 / 0.025)


@pytest.mark.parametrize('ending', [e for e in Ending if e is not Ending.GOAL])
def test_without_the_goal_there_is_no_success(ending):
    assert not is_success(ending, 0, np.array([True]))
    assert is_success(Ending.GOAL, 0, np.array([True]))


@given(st.integers(0, 20), st.floats(0.0, 1.0))
def test_penalty_falls_with_every_infraction(collisions, share):
    penalty = infraction_penalty(collisions, share)
    assert 0.0 <= infraction_penalty(collisions + 1, share) <= penalty <= 1.0
    assert infraction_penalty(collisions, min(share + 0.1, 1.0)) <= penalty


def test_penalty_without_infraction_or_way():
    assert infraction_penalty(0, 0.0) == infraction_penalty(0, None) == 1.0


def test_constant_acceleration_has_no_jerk():
    got = motion_figures(moving(2.0 * STEP_S * np.arange(60)))
    assert got['longitudinal_jerk_rms_mps3'] == pytest.approx(0.0, abs=1e-9)
    assert got['jerk_rms_mps3'] == pytest.approx(0.0, abs=1e-9)


def test_jerk_of_a_cubic_way():
    time_s = STEP_S * np.arange(60)
    jerk = longitudinal_jerk_mps3(moving(0.5 * 3.0 * time_s**2))  # v = j t^2 / 2
    np.testing.assert_allclose(jerk, 3.0, rtol=1e-6)
    assert len(jerk) == 58


def test_lateral_acceleration_and_jerk_of_a_steady_and_a_tightening_bend():
    steady = motion_figures(moving(np.full(60, 6.0), np.full(60, 0.25)))
    assert steady['lateral_acceleration_rms_mps2'] == pytest.approx(1.5)
    assert steady['lateral_acceleration_max_mps2'] == pytest.approx(1.5)
    assert steady['lateral_jerk_rms_mps3'] == pytest.approx(0.0, abs=1e-9)
    ramp = moving(np.full(60, 6.0), -0.2 * STEP_S * np.arange(60))
    np.testing.assert_allclose(lateral_jerk_mps3(ramp), -1.2, rtol=1e-9)
    assert motion_figures(ramp)['jerk_rms_mps3'] == pytest.approx(1.2)


def test_both_jerks_add_up_as_a_vector():
    time_s = STEP_S * np.arange(60)
    got = motion_figures(moving(0.5 * 3.0 * time_s**2, np.zeros(60)))
    lateral = motion_figures(moving(np.full(60, 4.0), time_s))
    both = math.hypot(got['jerk_rms_mps3'], lateral['jerk_rms_mps3'])
    assert both == pytest.approx(5.0, rel=1e-6)


@pytest.mark.parametrize('count', [0, 1, 2])
def test_few_frames_have_no_derivatives(count):
    got = figures(straight(np.zeros(count)), Ending.STALLED, completion=0.0)
    assert got['jerk_rms_mps3'] is None
    assert got['frames'] == count
    assert not got['success']
    if count < 2:
        assert got['collisions_per_km'] is None
        assert got['off_road_share'] is None


def test_frames_without_odometry_are_frames_but_no_part_of_the_track():
    records = straight(np.zeros(40))
    for name in ('x_m', 'y_m', 'z_m', 'yaw_rad', 'speed_mps', 'yaw_rate_radps'):
        del records[20][name]
    records[20]['outcome'] = 'stopped_no_command'
    got = figures(records)
    assert (got['frames'], got['frames_not_ok']) == (40, 1)
    assert got['duration_s'] == pytest.approx(2.0)
    assert len(track(records).time_s) == 39


def test_standing_has_no_rates():
    assert per_km(3, 0.0) is None
    assert distance_fraction(np.zeros(3), np.ones(3, dtype=np.bool_)) is None

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What episodes add up to: known sums, and intervals with the properties of intervals."""

import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.evaluation.intervals import (
    MEANS,
    RATES,
    WEIGHTED,
    mean_with_t_interval,
    ratio_with_interval,
    totals,
    wilson_interval,
)


def episode(**changes):
    names = (*MEANS, *RATES, *WEIGHTED)
    return {
        **dict.fromkeys(names, 0.5),
        'success': True,
        'collisions': 0,
        'lane_invasions': 0,
        'distance_m': 500.0,
        'duration_s': 100.0,
        'lateral_acceleration_max_mps2': 1.0,
        'frames': 2000,
        'frames_not_ok': 0,
        'violations': 0,
        'attempts': 1,
        **changes,
    }


@pytest.mark.parametrize(
    ('successes', 'trials', 'low', 'high'),
    [
        (0, 10, 0.0, 0.2775),  # Newcombe 1998, Statistics in Medicine 17:857, method 3
        (10, 10, 0.7225, 1.0),
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
    ],
)
def test_wilson_interval_of_published_examples(successes, trials, low, high):
    got = wilson_interval(successes, trials)
    assert got == pytest.approx([low, high], abs=1e-4)


def test_nothing_tried_says_nothing():
    assert wilson_interval(0, 0) is None
    assert ratio_with_interval([], []) == (None, None)
    assert ratio_with_interval([1.0], [0.0]) == (None, None)
    assert ratio_with_interval([3.0], [2.0]) == (1.5, None)


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    values = np.random.default_rng(1).normal(3.0, 2.0, 400)
    value, (low, high) = ratio_with_interval(values, np.ones(400))
    half = 1.96 * values.std() / math.sqrt(400)
    assert value == pytest.approx(values.mean())
    assert low == pytest.approx(value - half, abs=0.1 * half)
    assert high == pytest.approx(value + half, abs=0.1 * half)


def test_bootstrap_is_the_same_every_time():
    assert ratio_with_interval([1, 2, 3], [1, 1, 2]) == ratio_with_interval([1, 2, 3], [1, 1, 2])


@given(st.lists(st.tuples(st.floats(0.0, 5.0), st.floats(0.1, 5.0)), min_size=2, max_size=20))
def test_bootstrap_stays_within_the_episodes(pairs):
    over, under = np.array(pairs).T
    value, (low, high) = ratio_with_interval(over, under, resamples=200)
    ratios = over / under
    assert ratios.min() - 1e-9 <= low <= high <= ratios.max() + 1e-9
    assert ratios.min() - 1e-9 <= value <= ratios.max() + 1e-9


def test_equal_episodes_leave_no_doubt():
    got = totals([episode(route_completion=0.75)] * 8)
    assert got['route_completion'] == 0.75
    assert got['route_completion_ci95'] == [0.75, 0.75]
    assert got['success_rate'] == 1.0
    assert got['success_rate_ci95'][0] == pytest.approx(0.6756, abs=1e-4)


def test_rates_are_events_by_distance_not_means_of_rates():
    got = totals([episode(collisions=1, distance_m=100.0), episode(distance_m=900.0)])
    assert got['collisions_per_km'] == pytest.approx(1.0)
    low, high = got['collisions_per_km_ci95']
    assert low == 0.0
    assert high == pytest.approx(10.0)
    assert got['collisions'] == 1


def test_event_never_seen_is_bounded_by_the_distance_driven():
    got = totals([episode(distance_m=1500.0)] * 2)
    assert got['collisions_per_km'] == 0.0
    assert got['collisions_per_km_ci95'] == [0.0, pytest.approx(3.6889 / 3.0, rel=1e-4)]


def test_speed_is_weighted_by_time_and_road_share_by_way():
    one = episode(mean_speed_mps=2.0, duration_s=30.0, off_road_share=0.5, distance_m=100.0)
    other = episode(mean_speed_mps=6.0, duration_s=10.0, off_road_share=0.0, distance_m=300.0)
    got = totals([one, other])
    assert got['mean_speed_mps'] == pytest.approx(3.0)
    assert got['off_road_share'] == pytest.approx(0.125)


def test_episode_without_a_figure_is_left_out_of_that_figure_only():
    still = episode(off_road_share=None, jerk_rms_mps3=None, lateral_acceleration_max_mps2=None)
    got = totals([still, episode(jerk_rms_mps3=2.0), episode(jerk_rms_mps3=4.0)])
    assert got['jerk_rms_mps3'] == pytest.approx(3.0)
    assert got['route_completion'] == 0.5
    nothing = totals([still])
    assert nothing['jerk_rms_mps3'] is None
    assert nothing['jerk_rms_mps3_ci95'] is None
    assert nothing['lateral_acceleration_max_mps2'] is None


def test_every_figure_has_its_interval_beside_it():
    got = totals([episode(), episode(success=False)])
    names = list(got)
    for name in ('success_rate', *MEANS, *RATES, *WEIGHTED):
        assert names[names.index(name) + 1] == f'{name}_ci95'
        low, high = got[f'{name}_ci95']
        assert low <= got[name] <= high


class TestStudent:
    def test_interval_of_three(self):
        mean, (low, high) = mean_with_t_interval([1.0, 2.0, 3.0])
        assert mean == 2.0
        assert high - mean == mean - low == pytest.approx(4.302653 / math.sqrt(3.0), abs=1e-6)

    def test_one_value_has_no_interval(self):
        assert mean_with_t_interval([5.0]) == (5.0, None)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reward order and episode rules, on situations made by hand."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.task import Ending, Situation, TaskConfig, ending, follow, reward

CONFIG = TaskConfig()
STEP_S = 0.05
FULL_STEP_M = CONFIG.reference_speed_mps * STEP_S


def step(  # noqa: PLR0913
    previous=None,
    *,
    advance_m=0.0,
    lateral_m=0.0,
    steer=0.0,
    acceleration_mps2=(0.0, 0.0),
    collided=False,
    to_goal_m=math.inf,
    config=CONFIG,
):
    """Return (situation, reward, ending) after one step."""
    previous = previous or Situation()
    current = follow(
        previous,
        config,
        step_s=STEP_S,
        advance_m=advance_m,
        s_m=previous.s_m + advance_m,
        lateral_m=lateral_m,
        steer=steer,
        acceleration_mps2=acceleration_mps2,
        collided=collided,
        to_goal_m=to_goal_m,
    )
    return current, reward(previous, current, config), ending(current, config)


def test_order_of_outcomes():
    """Pitfall table: crash < off-road < standing < driving badly < driving well <= goal."""
    outcomes = [
        step(advance_m=FULL_STEP_M, collided=True)[1],
        step(advance_m=FULL_STEP_M, lateral_m=4.0)[1],
        step()[1],
        step(advance_m=FULL_STEP_M, lateral_m=1.5, steer=1.0)[1],
        step(advance_m=FULL_STEP_M)[1],
    ]
    assert outcomes == sorted(set(outcomes))
    assert outcomes[2] == 0.0
    assert outcomes[4] == pytest.approx(1.0)
    assert step(advance_m=0.2, to_goal_m=1.0)[1] > step(advance_m=0.2)[1]


@given(
    advance=st.floats(-5.0, 5.0),
    lateral=st.floats(-10.0, 10.0),
    steer=st.floats(-1.0, 1.0),
    collided=st.booleans(),
    to_goal=st.floats(0.0, 100.0),
)
def test_reward_is_bounded(advance, lateral, steer, collided, to_goal):
    _, earned, _ = step(
        advance_m=advance, lateral_m=lateral, steer=steer, collided=collided, to_goal_m=to_goal
    )
    assert -1.0 <= earned <= 1.0


@given(
    advance=st.floats(1e-3, FULL_STEP_M),
    lateral=st.floats(-3.4, 3.4),
    steer=st.floats(-1.0, 1.0),
)
def test_driving_never_costs_and_standing_never_pays(advance, lateral, steer):
    assert step(advance_m=advance, lateral_m=lateral, steer=steer)[1] > 0.0
    assert step(advance_m=0.0, lateral_m=lateral, steer=steer)[1] == 0.0


def total(advances):
    situation, earned = None, 0.0
    for advance in advances:
        situation, gained, _ = step(situation, advance_m=advance)
        earned += gained
    return earned


def test_creeping_a_metre_earns_what_driving_it_earns():
    assert total([1.0 / 200] * 200) == pytest.approx(total([0.25] * 4))


def test_going_to_and_fro_earns_its_ground_once():
    assert total([0.3, 0.3, -0.3, 0.3, -0.3, 0.3]) == pytest.approx(total([0.3, 0.3]))


def test_going_backwards_earns_nothing():
    assert total([-0.3] * 10) == 0.0


def test_error_to_either_side_counts_alike():
    left = step(advance_m=0.4, lateral_m=1.0)[1]
    right = step(advance_m=0.4, lateral_m=-1.0)[1]
    assert left == right < step(advance_m=0.4)[1]


def test_jerking_the_wheel_costs_a_steady_wheel_does_not():
    turned, jerky, _ = step(advance_m=0.4, steer=1.0)
    assert jerky < step(advance_m=0.4)[1] == step(turned, advance_m=0.4, steer=1.0)[1]


@pytest.mark.parametrize('axis', [0, 1])
def test_jerk_costs_in_proportion_and_steady_acceleration_nothing(axis):
    """Half of jerk_scale_mps3 loses half of the share; so does going back to rest."""
    change = 0.5 * CONFIG.jerk_scale_mps3 * STEP_S
    pushed = (change, 0.0) if axis == 0 else (0.0, change)
    full = step(advance_m=0.4)[1]
    lost = 0.5 * CONFIG.jerk_weight * 0.4 / FULL_STEP_M
    accelerating, earned, _ = step(advance_m=0.4, acceleration_mps2=pushed)
    assert earned == pytest.approx(full - lost)
    assert step(accelerating, advance_m=0.4, acceleration_mps2=pushed)[1] == pytest.approx(full)
    assert step(accelerating, advance_m=0.4)[1] == pytest.approx(full - lost)


@pytest.mark.parametrize(
    ('facts', 'expected'),
    [
        ({}, Ending.NONE),
        ({'collided': True}, Ending.COLLISION),
        ({'collided': True, 'to_goal_m': 0.0, 'lateral_m': 9.0}, Ending.COLLISION),
        ({'lateral_m': 3.6}, Ending.OFF_ROUTE),
        ({'lateral_m': -3.6}, Ending.OFF_ROUTE),
        ({'lateral_m': math.nan}, Ending.OFF_ROUTE),
        ({'lateral_m': -3.4}, Ending.NONE),
        ({'to_goal_m': 2.9}, Ending.GOAL),
    ],
)
def test_endings(facts, expected):
    assert step(**facts)[2] is expected


def test_standing_is_truncated_not_terminated():
    situation, how = None, Ending.NONE
    count = 0
    while how is Ending.NONE:
        situation, earned, how = step(situation)
        assert earned == 0.0
        count += 1
    assert how is Ending.STALLED
    assert count * STEP_S == pytest.approx(CONFIG.stall_time_s)
    assert how.truncated
    assert not how.terminated


def test_driving_on_forgets_earlier_standing():
    situation = None
    for _ in range(100):
        situation, _, _ = step(situation)
    situation, _, _ = step(situation, advance_m=0.3)
    assert situation.standing_s == 0.0


def test_time_limit_truncates():
    situation = Situation(elapsed_s=CONFIG.time_limit_s - STEP_S)
    assert step(situation, advance_m=0.3)[2] is Ending.TIME_LIMIT


def test_terminated_and_truncated_never_meet():
    """On the step where the time is up and the car crashes, the crash is what counts."""
    situation = Situation(elapsed_s=CONFIG.time_limit_s - STEP_S)
    how = step(situation, collided=True)[2]
    assert how is Ending.COLLISION
    for ended in Ending:
        assert not (ended.terminated and ended.truncated)


def test_weights_reach_the_reward():
    heavy = TaskConfig(lateral_weight=0.9, steer_weight=0.1, jerk_weight=0.0)
    light = TaskConfig(lateral_weight=0.1, steer_weight=0.1)
    facts = {'advance_m': 0.4, 'lateral_m': 1.0}
    assert step(**facts, config=heavy)[1] < step(**facts, config=light)[1]
    jolt = {'advance_m': 0.4, 'acceleration_mps2': (0.1, 0.0)}
    stiff, soft = TaskConfig(jerk_scale_mps3=1.0), TaskConfig(jerk_scale_mps3=100.0)
    assert step(**jolt, config=stiff)[1] < step(**jolt, config=soft)[1]


@pytest.mark.parametrize(
    ('values', 'text'),
    [
        ({'collision_penalty': -1.0}, r'collision_penalty must be in \[0, 10\], got -1'),
        ({'lateral_weight': 0.7, 'steer_weight': 0.2, 'jerk_weight': 0.2}, 'must be <= 1'),
        ({'collision_penalty': 0.1}, 'must be >= off_route_penalty'),
        ({'stall_time_s': math.inf}, r'stall_time_s must be in .* \[s\], got inf'),
    ],
)
def test_bad_rules_are_rejected(values, text):
    with pytest.raises(ParameterError, match=text):
        TaskConfig(**values)

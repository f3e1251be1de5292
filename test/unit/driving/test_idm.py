# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The Intelligent Driver Model against its closed forms."""

from dataclasses import replace
import math

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.idm import (
    HARDEST_BRAKING_MPS2,
    IdmParams,
    advanced,
    equilibrium_gap_m,
    idm_acceleration,
)
from td3_agent.driving.parameters import ParameterError

PARAMS = IdmParams()
FREE = math.inf
STEP_S = 0.05


def acceleration(speed_mps, gap_m=FREE, approach_mps=0.0, params=PARAMS):
    values = (np.array([float(v)]) for v in (speed_mps, gap_m, approach_mps))
    return float(idm_acceleration(params, *values)[0])


def test_standing_start_on_a_free_road_is_the_maximum_acceleration():
    assert acceleration(0.0) == PARAMS.maximum_acceleration_mps2


@given(share=st.floats(0.0, 1.0))
def test_free_acceleration_falls_with_the_fourth_power_of_the_speed(share):
    expected = PARAMS.maximum_acceleration_mps2 * (1.0 - share**4)
    assert acceleration(share * PARAMS.desired_speed_mps) == pytest.approx(expected, abs=1e-12)


def test_desired_speed_is_kept():
    assert acceleration(PARAMS.desired_speed_mps) == 0.0
    assert acceleration(1.1 * PARAMS.desired_speed_mps) < 0.0


@given(speed_mps=st.floats(0.0, 6.8))
def test_equilibrium_gap_is_kept_behind_a_leader_of_the_same_speed(speed_mps):
    gap_m = equilibrium_gap_m(PARAMS, speed_mps)
    assert acceleration(speed_mps, gap_m) == pytest.approx(0.0, abs=1e-9)
    assert acceleration(speed_mps, 1.1 * gap_m) > 0.0 > acceleration(speed_mps, 0.9 * gap_m)


def test_queue_stands_at_the_minimum_gap():
    assert equilibrium_gap_m(PARAMS, 0.0) == PARAMS.minimum_gap_m


def test_braking_towards_a_standing_obstacle_tends_to_the_comfortable_deceleration():
    """Treiber et al. 2000, section II: v^2 / (2 s) = b is kept where a is small beside b."""
    params = replace(PARAMS, maximum_acceleration_mps2=0.1, desired_speed_mps=40.0)
    speed_mps = 20.0
    gap_m = speed_mps**2 / (2.0 * params.comfortable_deceleration_mps2)
    slowing = -acceleration(speed_mps, gap_m, speed_mps, params)
    assert slowing == pytest.approx(params.comfortable_deceleration_mps2, rel=0.35)


@given(
    speed_mps=st.floats(0.0, 30.0), gap_m=st.floats(-5.0, 100.0), approach=st.floats(-30.0, 30.0)
)
def test_acceleration_is_bounded_whatever_the_situation(speed_mps, gap_m, approach):
    found = acceleration(speed_mps, gap_m, approach)
    assert -HARDEST_BRAKING_MPS2 <= found <= PARAMS.maximum_acceleration_mps2


@given(speed_mps=st.floats(0.0, 20.0), acceleration_mps2=st.floats(-8.0, 3.0))
def test_step_is_of_constant_acceleration_and_never_goes_back(speed_mps, acceleration_mps2):
    way_m, after_mps = (
        float(value[0])
        for value in advanced(np.array([speed_mps]), np.array([acceleration_mps2]), STEP_S)
    )
    assert after_mps >= 0.0
    assert way_m >= 0.0
    assert after_mps == max(speed_mps + acceleration_mps2 * STEP_S, 0.0)
    if after_mps > 0.0:
        assert way_m == pytest.approx(
            speed_mps * STEP_S + 0.5 * acceleration_mps2 * STEP_S**2, abs=1e-12
        )
    else:  # v^2 / (2 a), where there is a speed to lose
        assert way_m <= 0.5 * speed_mps * STEP_S + 1e-12


@pytest.mark.parametrize('field', ['time_headway_s', 'minimum_gap_m', 'desired_speed_mps'])
def test_bad_settings_name_field_value_and_unit(field):
    with pytest.raises(ParameterError, match=rf'{field} must be in .* \[m?(/?s)?\], got 0'):
        IdmParams(**{field: 0.0})

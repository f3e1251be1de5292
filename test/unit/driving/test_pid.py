# SPDX-License-Identifier: Apache-2.0
"""Closed forms of the PID controller, and the three ways in which many go wrong."""

import math

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.pid import Pid, PidParams

STEP_S = 0.05


def test_proportional():
    assert Pid(PidParams(kp=2.0)).update(3.0, 1.0, STEP_S) == pytest.approx(4.0)


def test_integral_is_the_area_under_the_error():
    pid = Pid(PidParams(kp=0.0, ki=0.5))
    outputs = [pid.update(2.0, 0.0, STEP_S) for _ in range(20)]
    assert outputs[-1] == pytest.approx(0.5 * 2.0 * 20 * STEP_S)


def test_derivative_of_a_ramp_without_filter_is_its_slope():
    pid = Pid(PidParams(kp=0.0, kd=0.5, derivative_filter_s=0.0))
    outputs = [pid.update(0.0, 3.0 * i * STEP_S, STEP_S) for i in range(5)]
    assert outputs[0] == 0.0
    assert outputs[1:] == pytest.approx([-0.5 * 3.0] * 4)


def test_filtered_derivative_settles_at_the_slope():
    pid = Pid(PidParams(kp=0.0, kd=1.0, derivative_filter_s=0.2))
    outputs = [pid.update(0.0, 3.0 * i * STEP_S, STEP_S) for i in range(60)]
    assert abs(outputs[1]) < 1.0  # the filter holds the first step back
    assert outputs[-1] == pytest.approx(-3.0, rel=1e-4)


def test_step_of_the_target_does_not_kick():
    pid = Pid(PidParams(kp=1.0, kd=10.0))
    pid.update(0.0, 0.0, STEP_S)
    assert pid.update(5.0, 0.0, STEP_S) == pytest.approx(5.0)  # the proportional part alone


@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_saturation_does_not_wind_up_on_either_side(sign):
    pid = Pid(PidParams(kp=0.5, ki=1.0, output_min=-1.0, output_max=1.0))
    for _ in range(1000):  # 50 s against a wall
        assert pid.update(sign * 10.0, 0.0, STEP_S) == sign
    assert abs(pid.integral) <= 1.0
    steps = 0
    while pid.update(-sign * 1.0, 0.0, STEP_S) * sign > 0.0:
        steps += 1
    assert steps * STEP_S < 1.0


def test_both_sides_are_mirror_images():
    params = PidParams(kp=0.7, ki=0.4, kd=0.1, output_min=-1.0, output_max=1.0)
    up, down = Pid(params), Pid(params)
    for i in range(200):
        target, measured = 3.0 * math.sin(0.1 * i), 2.0 * math.cos(0.03 * i)
        assert up.update(target, measured, STEP_S) == -down.update(-target, -measured, STEP_S)


def test_integral_removes_a_constant_offset():
    pid = Pid(PidParams(kp=0.5, ki=0.8, output_min=-2.0, output_max=2.0))
    value = 0.0
    for _ in range(600):  # plant: d/dt value = -value + output - 0.5
        value += STEP_S * (-value + pid.update(1.0, value, STEP_S) - 0.5)
    assert value == pytest.approx(1.0, abs=1e-3)


def test_step_of_no_length_changes_nothing():
    pid = Pid(PidParams(kp=1.0, ki=1.0, kd=1.0))
    pid.update(0.0, 0.0, STEP_S)
    assert pid.update(1.0, 0.0, 0.0) == 1.0
    assert pid.integral == 0.0


def test_reset_forgets():
    pid = Pid(PidParams(kp=1.0, ki=1.0, kd=1.0))
    first = [pid.update(1.0, 0.1 * i, STEP_S) for i in range(9)]
    pid.reset()
    assert [pid.update(1.0, 0.1 * i, STEP_S) for i in range(9)] == first


@pytest.mark.parametrize(
    ('values', 'message'),
    [
        ({'kp': -1.0}, 'kp must be >= 0 and finite, got -1.0'),
        ({'kp': math.nan, 'ki': -2.0}, 'kp .* got nan; ki .* got -2.0'),
        ({'kp': 1.0, 'derivative_filter_s': math.inf}, 'derivative_filter_s'),
        ({'kp': 1.0, 'output_min': 1.0, 'output_max': 1.0}, 'output_min must be < output_max'),
        ({'kp': 1.0, 'output_min': math.nan}, 'output_min must be < output_max, got nan'),
    ],
)
def test_bad_settings_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        PidParams(**values)


@pytest.mark.parametrize('call', [(math.nan, 0.0, 0.1), (0.0, math.inf, 0.1), (0.0, 0.0, -0.1)])
def test_bad_input_is_refused_and_changes_nothing(call):
    pid = Pid(PidParams(kp=1.0, ki=1.0))
    with pytest.raises(ValueError, match=r'finite|step_s must be >= 0'):
        pid.update(*call)
    assert pid.integral == 0.0


@given(st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(0.0, 1.0)), max_size=50))
def test_output_and_integral_never_leave_the_limits(calls):
    pid = Pid(PidParams(kp=0.3, ki=2.0, kd=0.2, output_min=-0.5, output_max=2.0))
    for error, step_s in calls:
        assert -0.5 <= pid.update(error, 0.0, step_s) <= 2.0
        assert -0.5 <= pid.integral <= 2.0

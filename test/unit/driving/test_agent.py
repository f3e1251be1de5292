# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent around a driver, and its command said in upstream's convention."""

import json
import math

from harness.images import SMALL, grey_view, moving
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.agent import Agent, TwistEncoder, action_sha256
from td3_agent.driving.command import (
    STOP,
    TwistCommand,
    TwistConvention,
    control_from_upstream_twist,
)
from td3_agent.driving.vehicle import VehicleGeometry
from td3_agent.driving.velocity_control import VelocityController

STEP_NS = 50_000_000
GEOMETRY = VehicleGeometry(wheelbase_m=2.7, max_steer_angle_rad=1.22)


class FakeDriver:
    """Answers from a list and keeps what it was shown."""

    def __init__(self, *actions):
        self.actions = [np.array(action, dtype=np.float32) for action in actions]
        self.seen = []
        self.resets = 0

    def reset(self):
        self.resets += 1

    def act(self, observation):
        self.seen.append(observation)
        return self.actions[(len(self.seen) - 1) % len(self.actions)]


def respond(agent, view, state, timestamps=None):
    return agent.respond(agent.preprocess(view, timestamps), state, timestamps)


def test_response_is_the_drivers_action_as_a_twist():
    response = respond(Agent(FakeDriver((0.0, 0.5)), SMALL), grey_view(1), moving(2.0))
    assert response.twist == TwistCommand(pytest.approx(4.165), 0.5)
    np.testing.assert_array_equal(response.action, np.array([0.0, 0.5], dtype=np.float32))


def test_previous_action_is_fed_back():
    driver = FakeDriver((0.1, 0.2), (0.3, 0.4), (0.5, 0.6))
    agent = Agent(driver, SMALL)
    for frame in range(3):
        respond(agent, grey_view(frame), moving(2.0, stamp_ns=frame * STEP_NS))
    fed_back = [seen.state[2:].tolist() for seen in driver.seen]
    np.testing.assert_allclose(fed_back, [[0.0, 0.0], [0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_driver_sees_stack_and_motion_of_the_same_frame():
    driver = FakeDriver((0.0, 0.0))
    agent = Agent(driver, SMALL)
    for frame, level in enumerate((10, 20)):
        respond(agent, grey_view(level), moving(float(level), stamp_ns=frame * STEP_NS))
    assert driver.seen[-1].image[:, 0, 0].tolist() == [10, 10, 20]
    assert driver.seen[-1].vehicle == moving(20.0, stamp_ns=STEP_NS)


def test_hash_is_that_of_what_the_driver_saw():
    driver = FakeDriver((0.3, 0.0))
    agent = Agent(driver, SMALL)
    responses = [respond(agent, grey_view(level), moving(2.0)) for level in (10, 10, 20)]
    assert [d.observation.sha256() for d in responses] == [seen.sha256() for seen in driver.seen]
    assert len({d.observation.sha256() for d in responses}) == 3


def test_reset_forgets_stack_and_action_and_tells_the_driver():
    driver = FakeDriver((0.5, 0.5))
    agent = Agent(driver, SMALL)
    first = respond(agent, grey_view(10), moving(2.0))
    respond(agent, grey_view(20), moving(2.0))
    agent.reset()
    assert driver.resets == 1
    assert (
        respond(agent, grey_view(10), moving(2.0)).observation.sha256()
        == first.observation.sha256()
    )
    assert driver.seen[-1].image[:, 0, 0].tolist() == [10, 10, 10]
    assert driver.seen[-1].state[2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ('action', 'text'),
    [
        ((math.nan, 0.0), 'action must be finite'),
        ((0.0, math.inf), 'action must be finite'),
        ((0.0, 0.0, 0.0), 'shape'),
    ],
)
def test_bad_action_is_rejected_and_not_fed_back(action, text):
    driver = FakeDriver((0.1, 0.2), action, (0.0, 0.0))
    agent = Agent(driver, SMALL)
    respond(agent, grey_view(1), moving(2.0, stamp_ns=0 * STEP_NS))
    with pytest.raises(ValueError, match=text):
        respond(agent, grey_view(2), moving(2.0, stamp_ns=1 * STEP_NS))
    respond(agent, grey_view(3), moving(2.0, stamp_ns=2 * STEP_NS))
    np.testing.assert_allclose(driver.seen[-1].state[2:], [0.1, 0.2], rtol=1e-6)


def test_facts_of_a_response_survive_json():
    response = respond(Agent(FakeDriver((0.0, 0.25)), SMALL), grey_view(1), moving(2.0))
    fields = json.loads(json.dumps(response.record()))
    assert fields == {
        'observation_sha256': response.observation.sha256(),
        'action': [0.0, 0.25],
        'action_sha256': action_sha256(response.action),
        'twist': [pytest.approx(4.165), 0.25],
    }


def test_responses_are_timed_where_there_is_a_clock():
    ticks = iter((600, 700, 900))
    agent = Agent(FakeDriver((0.0, 0.25)), SMALL, lambda: next(ticks))
    timed = respond(agent, grey_view(1), moving(2.0), {})
    untimed = respond(Agent(FakeDriver((0.0, 0.25)), SMALL), grey_view(1), moving(2.0))
    times = {'image_prepared_ns': 600, 'observed_ns': 700, 'decided_ns': 900}
    assert timed.record() == untimed.record() | times


def test_velocity_convention_says_the_twist_as_it_is():
    encoder = TwistEncoder(TwistConvention.VELOCITY)
    twist = TwistCommand(3.0, -0.4)
    assert not encoder.needs_geometry
    assert encoder.encode(twist, moving(2.0), None) == twist


def test_upstream_convention_needs_the_vehicles_geometry():
    encoder = TwistEncoder(TwistConvention.CARLA_TWIST_TO_CONTROL)
    assert encoder.needs_geometry
    with pytest.raises(ValueError, match='vehicle_info'):
        encoder.encode(TwistCommand(3.0, 0.0), moving(2.0), None)
    assert encoder.encode(TwistCommand(3.0, 0.0), moving(2.0), GEOMETRY).linear_x > 0.0


@given(
    st.lists(
        st.tuples(st.floats(-8.0, 8.0), st.floats(-1.0, 1.0), st.floats(-9.0, 9.0)),
        min_size=1,
        max_size=20,
    )
)
def test_upstream_hears_about_the_control_that_the_speed_loop_wants(drive):
    encoder, controller = (
        TwistEncoder(TwistConvention.CARLA_TWIST_TO_CONTROL),
        VelocityController(),
    )
    for frame, (target, yaw_rate, speed) in enumerate(drive):
        twist, state = TwistCommand(target, yaw_rate), moving(speed, stamp_ns=frame * STEP_NS)
        wanted = controller.control(twist, state, GEOMETRY)
        said = encoder.encode(twist, state, GEOMETRY)
        heard = control_from_upstream_twist(said, GEOMETRY.max_steer_angle_rad)
        if wanted.brake > 0.1:
            assert (said, heard.brake) == (STOP, 1.0)
            continue
        assert heard.throttle == pytest.approx(wanted.throttle, abs=2e-4)
        assert heard.steer == pytest.approx(wanted.steer, abs=1e-9)
        assert heard.reverse == wanted.reverse


def test_encoder_forgets_on_reset():
    used, fresh = (TwistEncoder(TwistConvention.CARLA_TWIST_TO_CONTROL) for _ in range(2))
    twist = TwistCommand(8.0, 0.5)
    for frame in range(10):
        used.encode(twist, moving(2.0, stamp_ns=frame * STEP_NS), GEOMETRY)
    used.reset()
    state = moving(2.0, stamp_ns=10 * STEP_NS)
    assert used.encode(twist, state, GEOMETRY) == fresh.encode(twist, state, GEOMETRY)

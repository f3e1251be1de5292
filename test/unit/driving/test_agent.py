# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The agent around a driver, and its command said in upstream's convention."""

import json
import math

from hypothesis import given, settings
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
from td3_agent.driving.observation import ImageView, ObservationSpec
from td3_agent.driving.vehicle import VehicleGeometry, VehicleState
from td3_agent.driving.velocity_control import VelocityController

unhurried = settings(deadline=None)  # the machine may be busy with something else
STEP_NS = 50_000_000
SPEC = ObservationSpec(image_height_px=8, image_width_px=8, frame_stack=3)
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


def image(level):
    return ImageView(data=bytes([level]) * 64, height=8, width=8, encoding='mono8', step=8)


def moving(frame=0, speed_mps=2.0):
    return VehicleState(
        stamp_ns=frame * STEP_NS,
        x_m=0.0,
        y_m=0.0,
        z_m=0.0,
        yaw_rad=0.0,
        speed_mps=speed_mps,
        yaw_rate_radps=0.0,
    )


def respond(agent, view, state, timestamps=None):
    return agent.respond(agent.preprocess(view, timestamps), state, timestamps)


def test_response_is_the_drivers_action_as_a_twist():
    response = respond(Agent(FakeDriver((0.0, 0.5)), SPEC), image(1), moving())
    assert response.twist == TwistCommand(pytest.approx(4.165), 0.5)
    np.testing.assert_array_equal(response.action, np.array([0.0, 0.5], dtype=np.float32))


def test_previous_action_is_fed_back():
    driver = FakeDriver((0.1, 0.2), (0.3, 0.4), (0.5, 0.6))
    agent = Agent(driver, SPEC)
    for frame in range(3):
        respond(agent, image(frame), moving(frame))
    fed_back = [seen.state[2:].tolist() for seen in driver.seen]
    np.testing.assert_allclose(fed_back, [[0.0, 0.0], [0.1, 0.2], [0.3, 0.4]], rtol=1e-6)


def test_driver_sees_stack_and_motion_of_the_same_frame():
    driver = FakeDriver((0.0, 0.0))
    agent = Agent(driver, SPEC)
    for frame, level in enumerate((10, 20)):
        respond(agent, image(level), moving(frame, speed_mps=float(level)))
    assert driver.seen[-1].image[:, 0, 0].tolist() == [10, 10, 20]
    assert driver.seen[-1].vehicle == moving(1, speed_mps=20.0)


def test_hash_is_that_of_what_the_driver_saw():
    driver = FakeDriver((0.3, 0.0))
    agent = Agent(driver, SPEC)
    responses = [respond(agent, image(level), moving()) for level in (10, 10, 20)]
    assert [d.observation.sha256() for d in responses] == [seen.sha256() for seen in driver.seen]
    assert len({d.observation.sha256() for d in responses}) == 3


def test_reset_forgets_stack_and_action_and_tells_the_driver():
    driver = FakeDriver((0.5, 0.5))
    agent = Agent(driver, SPEC)
    first = respond(agent, image(10), moving())
    respond(agent, image(20), moving())
    agent.reset()
    assert driver.resets == 1
    assert respond(agent, image(10), moving()).observation.sha256() == first.observation.sha256()
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
    agent = Agent(driver, SPEC)
    respond(agent, image(1), moving(0))
    with pytest.raises(ValueError, match=text):
        respond(agent, image(2), moving(1))
    respond(agent, image(3), moving(2))
    np.testing.assert_allclose(driver.seen[-1].state[2:], [0.1, 0.2], rtol=1e-6)


def test_facts_of_a_response_survive_json():
    response = respond(Agent(FakeDriver((0.0, 0.25)), SPEC), image(1), moving())
    fields = json.loads(json.dumps(response.record()))
    assert fields == {
        'observation_sha256': response.observation.sha256(),
        'action': [0.0, 0.25],
        'action_sha256': action_sha256(response.action),
        'twist': [pytest.approx(4.165), 0.25],
    }


def test_responses_are_timed_where_there_is_a_clock():
    ticks = iter((600, 700, 900))
    agent = Agent(FakeDriver((0.0, 0.25)), SPEC, lambda: next(ticks))
    timed = respond(agent, image(1), moving(), {})
    untimed = respond(Agent(FakeDriver((0.0, 0.25)), SPEC), image(1), moving())
    times = {'image_prepared_ns': 600, 'observed_ns': 700, 'decided_ns': 900}
    assert timed.record() == untimed.record() | times


def test_velocity_convention_says_the_twist_as_it_is():
    encoder = TwistEncoder(TwistConvention.VELOCITY)
    twist = TwistCommand(3.0, -0.4)
    assert not encoder.needs_geometry
    assert encoder.encode(twist, moving(), None) == twist


def test_upstream_convention_needs_the_vehicles_geometry():
    encoder = TwistEncoder(TwistConvention.CARLA_TWIST_TO_CONTROL)
    assert encoder.needs_geometry
    with pytest.raises(ValueError, match='vehicle_info'):
        encoder.encode(TwistCommand(3.0, 0.0), moving(), None)
    assert encoder.encode(TwistCommand(3.0, 0.0), moving(), GEOMETRY).linear_x > 0.0


@unhurried
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
        twist, state = TwistCommand(target, yaw_rate), moving(frame, speed)
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
        used.encode(twist, moving(frame), GEOMETRY)
    used.reset()
    assert used.encode(twist, moving(10), GEOMETRY) == fresh.encode(twist, moving(10), GEOMETRY)

# SPDX-License-Identifier: Apache-2.0
"""The policy as a driver: what it answers, and what it refuses."""

import numpy as np
import pytest
import torch

from td3_agent.driving.observation import Observation
from td3_agent.driving.vehicle import VehicleState
from td3_agent.policy.manifest import DRIVING_ACTOR, ActorConfig
from td3_agent.policy.policy import Policy, PolicyError, build_actor, untrained_policy

PENDULUM = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0,), action_high=(2.0,), hidden=(8,)
)
RNG = np.random.default_rng(5)
IMAGE = RNG.integers(0, 256, (4, 84, 84), dtype=np.uint8)
STATE = np.array([0.5, 0.1, -1.0, 0.0], dtype=np.float32)


def observe(image=IMAGE, state=STATE):
    vehicle = VehicleState(
        stamp_ns=0, x_m=0.0, y_m=0.0, z_m=0.0, yaw_rad=0.0, speed_mps=0.0, yaw_rate_radps=0.0
    )
    return Observation(image=image, state=state, vehicle=vehicle)


def actor_of(config=DRIVING_ACTOR):
    return build_actor(config, torch.Generator().manual_seed(0))


def test_action_is_float32_and_within_bounds():
    action = untrained_policy(0).act(observe())
    assert action.dtype == np.float32
    assert action.shape == (2,)
    assert (np.abs(action) <= 1.0).all()


def test_same_seed_same_action_bit_for_bit():
    first, second = untrained_policy(1), untrained_policy(1)
    np.testing.assert_array_equal(first.act(observe()), second.act(observe()))
    second.reset()
    np.testing.assert_array_equal(first.act(observe()), second.act(observe()))
    assert not np.array_equal(untrained_policy(2).act(observe()), first.act(observe()))


def test_every_input_counts():
    policy = untrained_policy(0)
    base = policy.act(observe())
    for i in range(4):
        state = STATE.copy()
        state[i] += 0.5
        assert not np.array_equal(policy.act(observe(state=state)), base)
        image = IMAGE.copy()
        image[i] = 255 - image[i]
        assert not np.array_equal(policy.act(observe(image)), base)


def test_action_does_not_share_memory_with_the_next_one():
    policy = untrained_policy(0)
    first = policy.act(observe())
    kept = first.copy()
    policy.act(observe(255 - IMAGE))
    np.testing.assert_array_equal(first, kept)
    first[0] = 9.0  # the caller may write into it


def test_read_only_images_are_accepted_without_a_warning():
    image = np.frombuffer(IMAGE.tobytes(), dtype=np.uint8).reshape(IMAGE.shape)
    np.testing.assert_array_equal(
        untrained_policy(0).act(observe(image)), untrained_policy(0).act(observe())
    )


def test_saturated_action_stays_within_bounds():
    actor = actor_of(PENDULUM)
    with torch.no_grad():
        actor.head.bias.fill_(1e6)
    policy = Policy(actor, trained=False)
    assert policy.action(np.zeros(3, dtype=np.float32)) == np.float32(2.0)


def test_untrained_says_so():
    assert not untrained_policy(0).trained
    assert Policy(actor_of(PENDULUM), trained=True).trained


@pytest.mark.parametrize(
    ('image', 'state', 'message'),
    [
        (IMAGE[:3], STATE, r'image must be \(4, 84, 84\) uint8, got \(3, 84, 84\) uint8'),
        (IMAGE.astype(np.float32), STATE, 'got .* float32'),
        (None, STATE, 'image must be .* got NoneType'),
        (IMAGE, STATE[:3], r'state must be \(4,\) float32, got \(3,\) float32'),
        (IMAGE, STATE.astype(np.float64), 'state must be .* got .* float64'),
    ],
)
def test_what_does_not_fit_is_refused(image, state, message):
    with pytest.raises(PolicyError, match=message):
        untrained_policy(0).act(observe(image, state))


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_answer_that_is_no_number_is_refused(bad):
    state = STATE.copy()
    state[0] = bad
    with pytest.raises(PolicyError, match='action is not finite'):
        untrained_policy(0).act(observe(state=state))


def test_weights_that_are_no_numbers_are_refused():
    actor = actor_of(PENDULUM)
    with torch.no_grad():
        actor.trunk[0].weight[0, 0] = np.nan
    with pytest.raises(PolicyError, match=r'weight trunk.0.weight is not finite'):
        Policy(actor, trained=True)

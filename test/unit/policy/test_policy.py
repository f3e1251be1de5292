# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The policy: its networks, what it answers as a driver, and what it rejects."""

import dataclasses
import math

from harness.checkpoints import IMAGE, NAME, STATE, save
import numpy as np
import pytest
import torch

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS
from td3_agent.driving.observation import (
    PATH_POINTS,
    PATH_SCALE_M,
    PATH_SPACING_M,
    STATE_SIZE,
    Observation,
)
from td3_agent.driving.pure_pursuit import DECELERATION_MPS2, LATERAL_ACCELERATION_MPS2
from td3_agent.driving.vehicle import VehicleState
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.policy.manifest import (
    DRIVING_ACTOR,
    ActorConfig,
    driving_outputs,
    tensor_shapes,
)
from td3_agent.policy.network_driver import (
    CURVE_REACTION_S,
    FALLING,
    PolicyError,
    SmoothedDriver,
    comfortable,
    curve_speed,
)
from td3_agent.policy.policy import (
    LAST_LAYER_BOUND,
    Actor,
    Encoder,
    build_actor,
    untrained_policy,
)
from td3_agent.policy.policy_file import policy_file, read_policy

VECTOR = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0, 0.0, -0.3), action_high=(2.0, 8.33, 0.7)
)


def actor_of(seed=0, config=DRIVING_ACTOR):
    return build_actor(config, torch.Generator().manual_seed(seed))


def batch(size=8, seed=0):
    rng = np.random.default_rng(seed)
    image = torch.from_numpy(rng.integers(0, 256, (size, 4, 84, 84), dtype=np.uint8))
    return torch.from_numpy(rng.normal(size=(size, 4)).astype(np.float32)), image


def test_actions_reach_their_own_bounds_and_never_leave_them():
    """Per dimension, unequal: not the first bound for all."""
    actor = actor_of(config=VECTOR)
    low, high = torch.tensor(VECTOR.action_low), torch.tensor(VECTOR.action_high)
    with torch.no_grad():
        for sign, limit in ((1.0, high), (-1.0, low)):
            actor.head.weight.zero_()
            actor.head.bias.fill_(sign * 50.0)
            torch.testing.assert_close(actor(torch.zeros(1, 3))[0], limit)
        actor.head.bias.zero_()
        torch.testing.assert_close(actor(torch.zeros(1, 3))[0], (low + high) / 2.0)


def test_fresh_actor_is_far_from_saturation():
    state, image = batch(64)
    with torch.no_grad():
        assert actor_of().pre_tanh(state, image).abs().max() < 0.1


def test_features_are_bounded_whatever_the_image():
    encoder = actor_of().encoder
    extremes = torch.stack([torch.full((4, 84, 84), v, dtype=torch.uint8) for v in (0, 255)])
    with torch.no_grad():
        for image in (batch()[1], extremes):
            assert encoder(image).abs().max() <= 1.0
            assert encoder(image).shape == (len(image), DRIVING_ACTOR.features)


def test_gradient_reaches_every_parameter():
    actor = actor_of()
    actor(*batch()).sum().backward()
    dead = [name for name, p in actor.named_parameters() if not p.grad.abs().max() > 0.0]
    assert dead == []


def test_one_seed_gives_one_network():
    first, again, other = actor_of(3), actor_of(3), actor_of(4)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    assert not torch.equal(first.head.weight, other.head.weight)


def test_initial_weights_are_uniform_by_fan_in_and_small_at_the_end():
    actor = actor_of()
    for layer in (actor.trunk[0], actor.encoder.conv[0], actor.encoder.projection):
        bound = layer.weight[0].numel() ** -0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound
    assert actor.head.weight.abs().max() <= LAST_LAYER_BOUND


def test_shapes_are_known_without_building():
    for config in (DRIVING_ACTOR, VECTOR):
        built = {name: tuple(t.shape) for name, t in actor_of(config=config).state_dict().items()}
        assert tensor_shapes(config) == built


def test_image_only_actor():
    config = dataclasses.replace(DRIVING_ACTOR, state_size=0)
    assert actor_of(config=config)(torch.zeros(2, 0), batch(2)[1]).shape == (2, 2)


def test_missing_or_superfluous_image_is_rejected():
    state, image = batch(1)
    with pytest.raises(ValueError, match='takes an image'):
        actor_of()(state)
    with pytest.raises(ValueError, match='takes no image'):
        Actor(VECTOR)(state[:, :3], image)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'state_size': -1}, 'state_size must be in'),
        ({'image_shape': None, 'state_size': 0}, r'state_size must be in \[1, 4096\], got 0'),
        ({'features': 0, 'hidden': ()}, 'features must be .*; hidden must have 1 to 8 layers'),
        ({'hidden': (256, 0)}, 'hidden must have 1 to 4096 units'),
        ({'hidden': (10**9,)}, 'hidden must have 1 to 4096 units'),
        ({'action_low': (-1.0,)}, 'one length'),
        ({'action_low': (), 'action_high': ()}, 'one length'),
        ({'action_low': (1.0, -1.0)}, r'action_low\[0\] must be < action_high\[0\]'),
        ({'action_high': (1.0, float('nan'))}, r'action_low\[1\] .* nan'),
        ({'image_shape': (0, 84, 84)}, 'image_shape must be within'),
        ({'image_shape': (10**6, 84, 84)}, 'image_shape must be within'),
        ({'image_shape': (4, 16, 16)}, r'conv\[1\] = .* does not fit its input of 3 x 3'),
        ({'conv': ()}, 'conv must have 1 to 8 layers'),
        ({'conv': ((32, 0, 1),)}, r'conv\[0\]'),
        ({'conv': ((32, 3, 0),)}, r'conv\[0\]'),
        ({'conv': ((4096, 1, 1), (4096, 1, 1))}, 'multiplications'),
    ],
)
def test_impossible_architectures_are_rejected(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(DRIVING_ACTOR, **changes)


def test_gradients_of_images_are_those_of_plain_layers():
    """In training, layout and scale of the pixels are our own; the function is the same."""
    torch.manual_seed(0)
    encoder = Encoder((2, 20, 20), ((4, 8, 4), (8, 2, 1)), 6)
    assert encoder.training
    image = torch.randint(0, 256, (3, 2, 20, 20), dtype=torch.uint8)
    mine = torch.autograd.grad(encoder(image).square().sum(), list(encoder.parameters()))
    features = encoder.norm(encoder.projection(encoder.conv(image / 255.0 - 0.5).flatten(1)))
    plain = torch.autograd.grad(features.tanh().square().sum(), list(encoder.parameters()))
    for one, other in zip(mine, plain, strict=True):
        torch.testing.assert_close(one, other)
    deployed = encoder.eval()(image)
    torch.testing.assert_close(encoder.train()(image), deployed)
    torch.testing.assert_close(features.tanh(), deployed)


# ---- As a driver -------------------------------------------------------------------------------


def observe(image=IMAGE, state=STATE):
    vehicle = VehicleState(
        stamp_ns=0, x_m=0.0, y_m=0.0, z_m=0.0, yaw_rad=0.0, speed_mps=0.0, yaw_rate_radps=0.0
    )
    return Observation(image=image, state=state, vehicle=vehicle)


def test_same_seed_same_action_bit_for_bit():
    first, second = untrained_policy(1), untrained_policy(1)
    assert (first.act(observe()).dtype, first.act(observe()).shape) == (np.float32, (2,))
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
def test_what_does_not_fit_is_rejected(image, state, message):
    with pytest.raises(PolicyError, match=message):
        untrained_policy(0).act(observe(image, state))


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_answer_that_is_no_number_is_rejected(bad):
    state = STATE.copy()
    state[0] = bad
    with pytest.raises(PolicyError, match='action is not finite'):
        untrained_policy(0).act(observe(state=state))


def arc(radius_m, start_m=0.0):
    """Return path points that go straight for ``start_m``, then to the left."""
    s_m = PATH_SPACING_M * np.arange(1, PATH_POINTS + 1)
    angle = np.maximum(s_m - start_m, 0.0) / radius_m
    x_m = np.minimum(s_m, start_m) + radius_m * np.sin(angle)
    return np.column_stack((x_m, radius_m * (1.0 - np.cos(angle))))


@pytest.mark.parametrize('radius_m', [6.0, 10.0, 30.0])
def test_speed_in_a_curve_is_by_lateral_acceleration(radius_m):
    """A reaction beyond the path leaves no distance to slow down."""
    expected_mps = math.sqrt(LATERAL_ACCELERATION_MPS2 * radius_m)
    for path_m in (arc(radius_m), arc(radius_m) * [1.0, -1.0]):
        assert curve_speed(path_m, 99.0) == pytest.approx(expected_mps, rel=1e-6)


@pytest.mark.parametrize('reaction_m', [0.0, 4.0])
def test_speed_before_a_curve_allows_even_braking(reaction_m):
    braking_m = 12.0 + PATH_SPACING_M - reaction_m  # to the first three points that lie in it
    squared = LATERAL_ACCELERATION_MPS2 * 8.0 + 2.0 * DECELERATION_MPS2 * braking_m
    assert curve_speed(arc(8.0, 12.0), reaction_m) == pytest.approx(math.sqrt(squared), rel=0.1)


def test_no_curve_no_limit():
    straight = arc(1.0, 99.0)
    ended = np.minimum(straight, 7.0)  # the last point of a route is repeated
    for path_m in (straight, ended, np.zeros_like(straight)):  # zeros: far away from the route
        assert curve_speed(path_m, 5.0) > 1000.0


@pytest.mark.parametrize(('radius_m', 'limited'), [(8.0, True), (1e6, False)])
def test_policy_that_knows_the_route_slows_down_before_a_curve(radius_m, limited):
    _, manifest = read_policy(policy_file('route'), kind='driving')
    state = np.zeros(manifest.actor.state_size, dtype=np.float32)
    state[0] = 6.0 / CONTROL_MAX_SPEED_MPS
    state[STATE_SIZE:] = arc(radius_m).ravel() / PATH_SCALE_M
    driver = comfortable(NetworkStub(np.float32([1.0, 0.3])), manifest)
    speed, yaw_rate = driver.act(Observation(image=IMAGE, state=state, vehicle=None))
    limit_mps = curve_speed(arc(radius_m), CURVE_REACTION_S * 6.0)
    expected = min(2.0 * limit_mps / CONTROL_MAX_SPEED_MPS - 1.0, 1.0)
    assert speed == pytest.approx(expected, abs=1e-5)
    assert (speed < 1.0) == limited
    assert yaw_rate == np.float32(0.3)


def test_policy_without_a_route_has_no_limit_in_curves():
    _, manifest = read_policy(policy_file('lane'), kind='driving')
    driver = comfortable(NetworkStub(np.float32([1.0, 0.3])), manifest)
    assert driver.act(Observation(image=IMAGE, state=STATE, vehicle=None))[0] == 1.0


class NetworkStub:
    """Always acts the same."""

    def __init__(self, action):
        self.action = action

    def act(self, _):
        return self.action


class StepDriver:
    """Asks for a stop, then for full speed, then for a stop again; to the right, left, right."""

    def reset(self):
        self.targets = np.repeat([-1.0, 1.0, -1.0], [1, 120, 60]).tolist()

    def act(self, _):
        return np.full(2, self.targets.pop(0), dtype=np.float32)


def test_smoothed_targets_answer_steps_as_a_low_pass():
    """Two equal poles: ``1 - p^k (1 + k (1 - p))`` after k frames; a falling speed lags less."""
    smoothed = SmoothedDriver(StepDriver(), speed_frames=6.0, yaw_frames=4.0)
    for _ in range(2):
        smoothed.reset()
        actions = np.array([smoothed.act(None) for _ in range(181)])
        for action, up_frames, down_frames in ((0, 6.0, FALLING * 6.0), (1, 4.0, 4.0)):
            up = -1.0 + 2.0 * step_response(np.arange(121), up_frames)
            down = 1.0 - 2.0 * step_response(np.arange(1, 61), down_frames)
            assert actions[:, action] == pytest.approx([*up, *down], abs=1e-5)


def step_response(frame, lag_frames):
    pole = np.exp(-2.0 / lag_frames)
    return 1.0 - pole**frame * (1.0 + frame * (1.0 - pole))


@pytest.mark.parametrize(('filtered', 'other'), [(0, 1), (1, 0)])
def test_one_target_is_smoothed_without_the_other(filtered, other):
    frames = dict(zip(('speed_frames', 'yaw_frames'), np.eye(2)[filtered], strict=True))
    smoothed = SmoothedDriver(StepDriver(), **frames)
    smoothed.reset()
    actions = np.array([smoothed.act(None) for _ in range(181)])
    assert set(actions[:, other]) == {-1.0, 1.0}
    assert len(set(actions[:, filtered])) > 3


@pytest.mark.parametrize('inference', ['onnx', 'torch'])
def test_policy_is_smoothed_as_its_manifest_says(tmp_path, inference):
    """A lag of four frames at 20 Hz, or FALLING of it."""
    if inference == 'onnx':
        pytest.importorskip('onnxruntime')
    jumps = []
    for smoothing_s in (0.0, 0.2):
        outputs = dataclasses.replace(driving_outputs(), speed_smoothing_s=smoothing_s)
        save(tmp_path / NAME, outputs=outputs)
        params = DriverParams(policy=str(tmp_path / NAME), inference=inference)
        driver = make_driver(params).driver
        still, moving = (Observation(image=IMAGE, state=STATE * k, vehicle=None) for k in (0, 9))
        first, *_, last = (driver.act(seen)[0] for seen in [still, *4 * [moving]])
        jumps.append(last - first)
    assert jumps[0] != 0.0
    frames = 4.0 if jumps[0] > 0.0 else FALLING * 4.0
    assert jumps[1] == pytest.approx(step_response(4, frames) * jumps[0], rel=1e-3)

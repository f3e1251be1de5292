# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Learner: each line of the algorithm, and that it goes on exactly where it was saved."""

from concurrent.futures import ThreadPoolExecutor
import copy
import dataclasses
import math

import numpy as np
import pytest
import torch

from td3_agent.td3.learner import (
    Learner,
    TwinCritic,
    initialise_twins,
    prepare_learner_thread,
)
from td3_agent.td3.params import Td3Params
from td3_agent.td3.transitions import ObservationShape, Sample
from td3_agent.training.health import Health, examine

VECTORS = ObservationShape(state_size=3, privileged_size=2)
IMAGES = ObservationShape(state_size=3, image_shape=(2, 12, 12), frame_stack=2, privileged_size=2)
# The last two numbers that only the critics see are what an expert does.
ADVISED = [
    dataclasses.replace(shape, privileged_size=4, expert_size=2) for shape in (VECTORS, IMAGES)
]
LOW, HIGH = (-2.0, 0.0), (2.0, 0.5)
SMALL = {'hidden_units': 16, 'encoder': 'small_images', 'features': 8, 'batch_size': 8}
WAYS = [(VECTORS, 'observation'), (VECTORS, 'privileged')]
WAYS += [(IMAGES, how) for how in ('observation', 'privileged', 'both')]


def learner_of(shape=VECTORS, seed=0, **settings):
    return Learner(Td3Params(**{**SMALL, **settings}), shape, LOW, HIGH, seed=seed)


def sample_of(shape=VECTORS, seed=0, size=8, bootstrap=1.0):
    rng = np.random.default_rng(seed)

    def vector():
        return rng.normal(size=(size, shape.state_size + shape.privileged_size)).astype('f')

    def image():
        if shape.image_shape is None:
            return None
        return rng.integers(0, 256, (size, *shape.image_shape), dtype=np.uint8)

    return Sample(
        state=vector(),
        image=image(),
        action=rng.uniform(-1.0, 1.0, (size, 2)).astype('f'),
        reward=rng.normal(size=(size, 1)).astype('f'),
        bootstrap=np.full((size, 1), bootstrap, 'f'),
        next_state=vector(),
        next_image=image(),
    )


def update(learner, times=1, shape=VECTORS, first=0):
    for i in range(first, first + times):
        learner.update(learner.batch(sample_of(shape, seed=i)))


def tensors_of(learner, part=''):
    tensors = learner.state()[0].items()
    return {name: tensor.clone() for name, tensor in tensors if name.startswith(part)}


def changed(before, learner, part):
    """Names of a part's tensors that are others than before."""
    now = tensors_of(learner, part)
    assert now
    return {name for name, tensor in now.items() if not torch.equal(tensor, before[name])}


# ---- Networks ----------------------------------------------------------------------------------


def test_twins_are_two_networks():
    critic = TwinCritic(3, 2, (16, 16))
    initialise_twins(critic, torch.Generator().manual_seed(0))
    inputs, action = torch.randn(5, 3), torch.randn(5, 2)
    both = critic(inputs, action)
    for twin in (0, 1):
        values = torch.cat((inputs, action), dim=1)
        for i, (weight, bias) in enumerate(zip(critic.weights, critic.biases, strict=True)):
            values = torch.relu(values) if i else values
            values = values @ weight[twin] + bias[twin]
        torch.testing.assert_close(both[twin], values)
    torch.testing.assert_close(critic(inputs, action, twins=1)[0], both[0])
    assert (both[0] - both[1]).abs().min() > 0.0


@pytest.mark.parametrize(('decay_updates', 'share'), [(0, 1.0), (4, 0.775), (1, 0.1)])
def test_learning_rate_of_the_actor_falls_to_a_tenth(decay_updates, share):
    """Adam's first step is as long as the learning rate, for every weight with a gradient."""
    learner = learner_of(policy_delay=1, actor_lr=0.01, actor_lr_decay_updates=decay_updates)
    before = torch.cat([p.detach().flatten().clone() for p in learner.actor.parameters()])
    learner.update(learner.batch(sample_of()))
    after = torch.cat([p.detach().flatten() for p in learner.actor.parameters()])
    torch.testing.assert_close((after - before).abs().max(), torch.tensor(0.01 * share))


@pytest.mark.parametrize(('shape', 'how'), WAYS)
def test_every_parameter_is_trained_by_one_loss(shape, how):
    networks = learner_of(shape, critic_input=how).networks
    critic, actor = networks.critic_parameters(), networks.actor_parameters()
    assert {id(p) for p in critic} & {id(p) for p in actor} == set()
    assert {id(p) for p in critic + actor} == {id(p) for p in networks.parameters()}


def test_simulator_state_must_be_there():
    with pytest.raises(ValueError, match=r"critic_input 'both' needs .*'privileged'"):
        learner_of(ObservationShape(state_size=3), critic_input='both')


# ---- Algorithm 1 -------------------------------------------------------------------------------


def test_first_update_is_the_papers_formula():
    """Target, loss and its gradient written out, without noise."""
    learner = learner_of(target_noise=0.0, discount=0.9, critic_lr=0.0)
    sample = sample_of(bootstrap=0.5)
    batch, nets = learner.batch(sample), learner.networks
    own, later = batch.state[:, :3], batch.next_state[:, :3]
    with torch.no_grad():
        action = torch.tanh(nets.actor.pre_tanh(later))
        target = batch.reward + 0.9 * 0.5 * torch.min(*nets.critic(later, action))
    loss = sum((q - target).square().mean() for q in nets.critic(own, batch.action))
    learner.update(batch)
    torch.testing.assert_close(learner.critic_loss, loss.detach())


@pytest.mark.parametrize('bootstrap', [0.0, 1.0])
def test_only_what_goes_on_has_a_future(bootstrap):
    learners = [learner_of(), learner_of()]
    for learner, shift in zip(learners, (0.0, 5.0), strict=True):
        sample = sample_of(bootstrap=bootstrap)
        sample.next_state[:] += shift
        learner.update(learner.batch(sample))
    same = bool(learners[0].critic_loss == learners[1].critic_loss)
    assert same == (bootstrap == 0.0)


def test_smoothing_noise_is_clipped_and_so_is_the_action():
    learner = learner_of(target_noise=2.0, target_noise_clip=0.3)
    noise = learner._smoothing(torch.zeros(4000, 2))
    assert noise.abs().max() == pytest.approx(0.3)
    assert 0.0 < (noise.abs() < 0.3).float().mean() < 0.2
    seen = []
    learner.target.critic.forward = lambda _, action: (
        seen.append(action),
        torch.zeros(2, len(action), 1),
    )[1]
    learner.params = Td3Params(**SMALL, target_noise=2.0, target_noise_clip=2.0)
    update(learner)
    assert seen[0].abs().max() == 1.0


def test_actor_and_targets_wait_for_their_turn():
    learner = learner_of(policy_delay=3)
    before = tensors_of(learner)
    update(learner, 2)
    for part in ('networks.actor', 'target'):
        assert not changed(before, learner, part)
    critics = 'networks.critic'
    assert changed(before, learner, critics) == set(tensors_of(learner, critics))
    update(learner, 1, first=2)
    for part in ('networks.actor', 'target'):
        assert changed(before, learner, part) == set(tensors_of(learner, part))


@pytest.mark.parametrize(('shape', 'how'), WAYS)
def test_every_target_parameter_lags(shape, how):
    learner = learner_of(shape, critic_input=how, tau=0.25, policy_delay=1)
    before = copy.deepcopy(learner.target.state_dict())
    update(learner, 1, shape)
    for name, target in learner.target.state_dict().items():
        online = learner.networks.state_dict()[name]
        torch.testing.assert_close(target, 0.75 * before[name] + 0.25 * online)
        assert not torch.equal(online, before[name]), name  # it has learned, all of it


def test_actor_climbs_q1():
    learner = learner_of(critic_lr=0.0, actor_lr=1e-3, policy_delay=1)
    batch = learner.batch(sample_of())
    before = learner.actor_values(batch).mean().item()
    for _ in range(50):
        learner.update(batch)
    assert learner.actor_values(batch).mean().item() > before


@pytest.mark.parametrize('shape', ADVISED)
@pytest.mark.parametrize('how', ['observation', 'privileged'])
def test_loss_with_an_expert_is_the_formula(shape, how):
    """-Q1 / mean |Q1| + weight (pi - expert)^2, its gradient by autograd."""
    learner = learner_of(
        shape, critic_input=how, critic_lr=0.0, policy_delay=1, imitation_weight=3
    )
    batch, nets = learner.batch(sample_of(shape)), learner.networks
    seen = nets.views(batch.state, batch.image)
    features = seen.actor.detach() if nets.critic_sees_images else seen.actor
    action = torch.tanh(nets.actor.pre_tanh_from(features))
    value = nets.critic(seen.critic.detach(), action)[0]
    apart = action - batch.state[:, -2:]
    loss = -value.mean() / value.detach().abs().mean() + 3.0 * apart.square().mean()
    wanted = torch.autograd.grad(loss, nets.actor.head.weight)[0]
    learner.update(batch)
    torch.testing.assert_close(learner.actor_loss, loss.detach())
    torch.testing.assert_close(learner.head_gradient(), float(wanted.norm()))


def test_expert_is_imitated():
    learner = learner_of(ADVISED[0], policy_delay=1, imitation_weight=40.0, actor_lr=3e-3)
    sample = sample_of(ADVISED[0])
    sample.state[:, -2:] = 0.5 * np.tanh(sample.state[:, :2])
    batch = learner.batch(sample)
    for _ in range(300):
        learner.update(batch)
    with torch.no_grad():
        found = torch.tanh(learner.actor.pre_tanh(batch.state[:, :3]))
    assert (found - batch.state[:, -2:]).abs().max() < 0.1


def test_imitation_needs_an_expert():
    with pytest.raises(ValueError, match=r"imitation_weight needs .*'expert'"):
        learner_of(imitation_weight=1.0)


@pytest.mark.parametrize(('shape', 'how'), WAYS)
def test_actor_sees_the_critics_q(shape, how):
    """Of the same actions: the actor must not follow another network's features."""
    learner = learner_of(shape, critic_input=how)
    update(learner, 4, shape)
    batch, nets = learner.batch(sample_of(shape, seed=9)), learner.networks
    with torch.no_grad():
        action = torch.tanh(nets.actor.pre_tanh(batch.state[:, :3], batch.image))
        wanted = nets.critic(nets.views(batch.state, batch.image).critic, action)[0]
    torch.testing.assert_close(learner.actor_values(batch).detach(), wanted)


@pytest.mark.parametrize(('how', 'owner'), [('observation', 'critic'), ('privileged', 'actor')])
@pytest.mark.parametrize('learns', ['critic', 'actor'])
def test_encoder_has_one_owner(how, owner, learns):
    rates = {f'{one}_lr': 1e-3 if one == learns else 0.0 for one in ('critic', 'actor')}
    learner = learner_of(IMAGES, critic_input=how, policy_delay=1, **rates)
    before = [p.detach().clone() for p in learner.networks.encoder_parameters()]
    update(learner, 2, IMAGES)
    for old, new in zip(before, learner.networks.encoder_parameters(), strict=True):
        assert torch.equal(old, new) == (learns != owner)


@pytest.mark.parametrize(('shape', 'how'), WAYS)
def test_policy_reads_no_simulator_state(shape, how):
    learner = learner_of(shape, critic_input=how)
    sample = sample_of(shape)
    batch = learner.batch(sample)
    before = learner.networks.views(batch.state, batch.image).actor.detach().clone()
    sample.state[:, 3:] += 9.0
    assert torch.equal(learner.networks.views(batch.state, batch.image).actor, before)


# ---- Randomness, saving ------------------------------------------------------------------------


def test_same_seed_same_learner_whatever_the_global_generator():
    torch.manual_seed(1)
    first = learner_of()
    update(first, 4)
    torch.manual_seed(2)
    before = torch.random.get_rng_state()
    second = learner_of()
    update(second, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert not changed(tensors_of(first), second, '')
    assert changed(tensors_of(learner_of(seed=1)), second, 'networks.critic')


@pytest.mark.parametrize('saved_at', [0, 1, 5])
@pytest.mark.parametrize(('shape', 'how'), WAYS)
def test_restored_learner_goes_on_to_the_last_bit(shape, how, saved_at):
    learner, copy_of_it = (learner_of(shape, critic_input=how) for _ in range(2))
    update(learner, saved_at, shape)
    tensors, facts = learner.state()
    update(copy_of_it, 3, shape, first=50)  # it has been elsewhere
    copy_of_it.restore({name: tensor.clone() for name, tensor in tensors.items()}, facts)
    assert copy_of_it.head_gradient() == learner.head_gradient()
    for one in (learner, copy_of_it):
        update(one, 4, shape, first=saved_at)
    assert learner.updates == copy_of_it.updates == saved_at + 4
    assert tensors_of(learner).keys() == tensors_of(copy_of_it).keys()
    assert not changed(tensors_of(learner), copy_of_it, '')


def test_another_network_is_rejected():
    tensors, facts = learner_of(hidden_units=8).state()
    with pytest.raises(ValueError, match=r'saved networks\.\S+ is \(.*\), expected'):
        learner_of().restore(tensors, facts)


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason='of some processors')
@pytest.mark.parametrize('threads', [1, 2])
def test_moments_of_idle_weights_do_not_stay_denormal(threads):
    """A unit that no input wakes has no gradient, and Adam's moments fade for ever."""
    shape = ObservationShape(state_size=1)
    learner = Learner(Td3Params(hidden_units=16), shape, (-1.0,), (1.0,), seed=0)
    one = torch.ones(2, 1).numpy()
    torch.ones(100_000).square_()  # starts the pool of this thread, which does not flush
    with ThreadPoolExecutor(1, 'learner', prepare_learner_thread, (threads,)) as thread:
        batch = learner.batch(Sample(one, None, one, one, one, one, None))
        thread.submit(learner.update, batch).result()
        moments = learner.state()[0]['critic_adam.0.exp_avg']
        moments.fill_(1e-40)
        batch = learner.batch(Sample(0 * one, None, 0 * one, one, one, one, None))
        thread.submit(learner.update, batch).result()
    assert (moments == 0.0).all()  # nothing came in


# ---- Health ------------------------------------------------------------------------------------


def healthy(**changes):
    figures = {
        'saturation': 0.1,
        'pre_tanh': 0.5,
        'head_gradient': 0.01,
        'q_actor': 5.0,
        'q_critic': 5.0,
        'q_gap': 1e-7,
        'critic_loss': 0.1,
        'actor_loss': -5.0,
        'largest_return': 100.0,
    }
    return Health(**{**figures, **changes})


@pytest.mark.parametrize(
    ('change', 'said'),
    [
        ({'saturation': 0.21}, '21% of actions saturated'),
        ({'head_gradient': 0.0}, "no gradient reaches the actor's head"),
        ({'q_gap': 0.1}, 'actor sees Q off by 0.1'),
        ({'q_actor': 201.0}, 'Q of 201 is beyond any return of 100'),
        ({'q_actor': math.nan}, 'Q of nan'),
    ],
)
def test_alarm(change, said):
    assert healthy().alarms() == {}
    (name,) = change
    assert said in healthy(**change).alarms()[name]


def test_saturated_actor_is_seen():
    learner = learner_of()
    update(learner, 2)
    batch = learner.batch(sample_of())
    well = examine(learner, batch, 1.0)
    assert well.saturation == 0.0
    assert well.head_gradient > 0.0
    with torch.no_grad():
        learner.actor.head.bias.fill_(20.0)
    update(learner, 2, first=2)
    ill = examine(learner, batch, 1.0)
    assert ill.saturation == 1.0
    assert ill.head_gradient == 0.0
    assert len(ill.alarms()) == 2


def test_wrong_features_are_seen():
    learner = learner_of(IMAGES)
    update(learner, 4, IMAGES)
    batch = learner.batch(sample_of(IMAGES))
    assert examine(learner, batch, 1.0).q_gap < 1e-5
    mixed_up = learner_of(IMAGES, seed=5)
    learner.actor_values = mixed_up.actor_values
    assert examine(learner, batch, 1.0).q_gap > 1e-3

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A rollout worker without Ray: what it sends are the steps that it was asked for."""

from itertools import pairwise

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from td3_agent.td3.learner import Learner  # noqa: E402
from td3_agent.td3.params import Td3Params  # noqa: E402
from td3_agent.td3.replay import ReplayBuffer  # noqa: E402
from td3_agent.training.acting import greedy  # noqa: E402
from td3_agent.training.rollouts import RolloutWorker, WorkerConfig  # noqa: E402
from td3_agent.training.spaces import TaskSpaces  # noqa: E402

SPOT = 'td3_agent.training.tasks:td3_agent/Spot-v0'
TD3 = Td3Params(
    hidden_units=8, start_steps=20, encoder='small_images', features=4, exploration_noise=0.0
)


@pytest.fixture
def learner_of():
    def made(env_id, seed=0):
        spaces = TaskSpaces.of(gymnasium.make(env_id))
        low, high = (tuple(float(x) for x in side) for side in (spaces.low, spaces.high))
        return spaces, Learner(TD3, spaces.shape, low, high, seed=seed)

    return made


def worker_of(env_id, spaces, learner, number=0, steps=7):
    config = learner.actor.config
    return RolloutWorker(
        WorkerConfig(
            env_id=env_id,
            spaces=spaces,
            actor=config,
            td3=TD3,
            seed=5,
            number=number,
            steps=steps,
            random_steps=TD3.start_steps,
        )
    )


def test_steps_arrive_one_by_one_and_whole(learner_of):
    spaces, learner = learner_of('scale_envs:scale/Counting-v0')
    worker = worker_of('scale_envs:scale/Counting-v0', spaces, learner)
    buffer = ReplayBuffer(spaces.shape, 1, capacity=1000, seed=0)
    fragments = [worker.collect(learner.policy_weights(), 3, 7 * i) for i in range(6)]
    for fragment in fragments:
        assert fragment.steps.transitions == 7
        buffer.extend(fragment.steps)
    assert buffer.transitions == 42
    assert [count for _, _, count in buffer.states().tolist()] == [*range(12)] * 3 + [*range(6)]
    assert [fragment.finished for fragment in fragments] == [[], [12.0], [], [12.0], [], [12.0]]
    assert (fragments[-1].episodes, fragments[-1].version, fragments[-1].failures) == (3, 3, 0)


def test_policy_is_the_one_that_was_sent(learner_of):
    """Random actions first, then the policy's own: there is no noise on them here."""
    spaces, learner = learner_of(SPOT, seed=1)
    _, other = learner_of(SPOT, seed=2)
    worker = worker_of(SPOT, spaces, learner, steps=20)
    buffer = ReplayBuffer(spaces.shape, 1, capacity=1000, seed=0)
    buffer.extend(worker.collect(other.policy_weights(), 0, 0).steps)
    buffer.extend(worker.collect(learner.policy_weights(), 0, 20).steps)
    for _ in range(2):  # and once more, for the last one goes on within an episode
        before = buffer.newest()
        fragment = worker.collect(other.policy_weights(), 0, 40).steps
        np.testing.assert_allclose(fragment.actions[0], greedy(other.actor, before), atol=1e-6)
        buffer.extend(fragment)


def test_number_decides_on_episodes_and_noise(learner_of):
    env_id = 'scale_envs:scale/Counting-v0'
    spaces, learner = learner_of(env_id)

    def steps(number):
        fragment = worker_of(env_id, spaces, learner, number, steps=18).collect(
            learner.policy_weights(), 0, 0
        )
        return fragment.steps

    first, again, other = steps(0), steps(0), steps(1)
    for mine, theirs in zip(first, again, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert (first.actions[:12] != other.actions[:12]).all()
    seeds = [set(fragment.vectors[:, 1]) for fragment in (first, other)]
    assert len(seeds[0] | seeds[1]) == 4  # two episodes each, no two alike


def test_simulator_that_breaks_is_told_and_costs_its_episode(learner_of):
    env_id = 'scale_envs:scale/Breaking-v0'
    spaces, learner = learner_of(env_id)
    worker = worker_of(env_id, spaces, learner, steps=18)
    fragment = worker.collect(learner.policy_weights(), 0, 0)
    assert fragment.failures == 1
    assert 'server is gone' in fragment.warnings[0]
    assert fragment.steps.transitions == 17
    buffer = ReplayBuffer(spaces.shape, 1, capacity=100, seed=0)
    buffer.extend(fragment.steps)
    shown = buffer.states()[:, 1:]
    assert len(np.unique(shown[:, 0])) == 3
    assert all(a[0] != b[0] or a[1] + 1 == b[1] for a, b in pairwise(shown))
    assert worker.collect(learner.policy_weights(), 0, 0).warnings == []

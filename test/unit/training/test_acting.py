# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""How a policy acts: noise that fades, and evaluations, where environments break too."""

from types import SimpleNamespace

import pytest

pytest.importorskip('gymnasium')

from td3_agent.td3.params import Td3Params
from td3_agent.training import acting as module
from td3_agent.training.envs import LARGEST_FAILURES, EnvFailureError

FADING = Td3Params(exploration_noise=0.3, exploration_noise_end=0.1, exploration_decay_steps=1000)
STEPS = 4
SPACES = SimpleNamespace(observed=lambda seen: seen, action=lambda action: action)


@pytest.mark.parametrize(
    ('step', 'noise'), [(0, 0.3), (250, 0.25), (500, 0.2), (1000, 0.1), (10**9, 0.1)]
)
def test_noise_fades_evenly_or_stays(step, noise):
    assert module.noise_at(step, FADING) == pytest.approx(noise)
    assert module.noise_at(step, Td3Params(exploration_noise=0.3)) == 0.3


class BreakingEnv:
    """Breaks at the third step of its first episodes."""

    def __init__(self, breaks, error=RuntimeError, successes=(True, True)):
        self.left, self.error, self.seeds, self.successes = breaks, error, [], [*successes]

    def reset(self, *, seed):
        self.seeds.append(seed)
        self.count = 0
        return 0.0, {}

    def step(self, _):
        self.count += 1
        if self.count == 3 and self.left:
            self.left -= 1
            raise self.error('the bridge has ended')
        ends = self.count == STEPS
        told = {'is_success': self.successes.pop(0)} if ends and self.successes else {}
        return 0.0, 1.0, False, ends, told


@pytest.fixture(autouse=True)
def no_policy(monkeypatch):
    monkeypatch.setattr(module, 'greedy', lambda _, seen: seen)


def evaluated(env, longest=100):
    return module.evaluate(None, SPACES, [env], episodes=2, longest=longest, step=0)


def test_an_episode_that_breaks_is_begun_again():
    env = BreakingEnv(2)
    found = evaluated(env)
    assert found == {
        'step': 0,
        'return_mean': 4.0,
        'return_std': 0.0,
        'return_min': 4.0,
        'return_max': 4.0,
        'length_mean': 4.0,
        'episodes': 2,
        'success_rate': 1.0,
    }
    first, second = env.seeds[0], env.seeds[-1]
    assert env.seeds == [first, first, first, second]
    assert first != second


def test_one_that_never_ends_is_cut():
    assert evaluated(BreakingEnv(0), longest=2)['length_mean'] == 2.0


def test_success_is_counted_where_it_is_told():
    assert evaluated(BreakingEnv(0, successes=[True, False]))['success_rate'] == 0.5
    assert 'success_rate' not in evaluated(BreakingEnv(0, successes=[]))


def test_it_is_not_begun_for_ever():
    env = BreakingEnv(1000)
    with pytest.raises(EnvFailureError, match='evaluation: RuntimeError: the bridge has ended'):
        evaluated(env)
    assert len(env.seeds) == LARGEST_FAILURES


def test_a_fault_of_the_program_is_told_as_it_is():
    with pytest.raises(KeyError):
        evaluated(BreakingEnv(1, KeyError))

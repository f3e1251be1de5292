# SPDX-License-Identifier: Apache-2.0
"""Evaluation where environments break: an episode is begun again, but not for ever."""

from types import SimpleNamespace

import pytest

pytest.importorskip('gymnasium')

from td3_agent.training import evaluate as module
from td3_agent.training.envs import LARGEST_FAILURES, EnvFailureError

STEPS = 4
SPACES = SimpleNamespace(observed=lambda seen: seen, action=lambda action: action)


class Breaking:
    """Breaks at the third step of its first episodes."""

    def __init__(self, breaks, error=RuntimeError):
        self.left, self.error, self.seeds = breaks, error, []

    def reset(self, *, seed):
        self.seeds.append(seed)
        self.count = 0
        return 0.0, {}

    def step(self, _):
        self.count += 1
        if self.count == 3 and self.left:
            self.left -= 1
            raise self.error('the bridge has ended')
        return 0.0, 1.0, False, self.count == STEPS, {'is_success': True}


@pytest.fixture(autouse=True)
def no_policy(monkeypatch):
    monkeypatch.setattr(module, 'greedy', lambda _, seen: seen)


def evaluated(env, longest=100):
    return module.evaluate(None, SPACES, [env], episodes=2, longest=longest, step=0)


def test_an_episode_that_breaks_is_begun_again():
    env = Breaking(2)
    found = evaluated(env)
    assert (found.returns, found.lengths, found.successes) == ((4.0, 4.0), (4, 4), (True, True))
    first, second = env.seeds[0], env.seeds[-1]
    assert env.seeds == [first, first, first, second]
    assert first != second


def test_one_that_never_ends_is_cut():
    assert evaluated(Breaking(0), longest=2).lengths == (2, 2)


def test_it_is_not_begun_for_ever():
    env = Breaking(1000)
    with pytest.raises(EnvFailureError, match='evaluation: RuntimeError: the bridge has ended'):
        evaluated(env)
    assert len(env.seeds) == LARGEST_FAILURES


def test_a_fault_of_the_program_is_told_as_it_is():
    with pytest.raises(KeyError):
        evaluated(Breaking(1, KeyError))

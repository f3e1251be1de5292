# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""How long the learner waits for workers, by a Ray and a clock that do as they are told."""

import itertools
from types import SimpleNamespace

import pytest

pytest.importorskip('ray', reason='needs Ray: pip install -r requirements/ray.in')
pytest.importorskip('gymnasium')

from ray_runs import trainer_of

from td3_agent.training import ray_rollouts as module
from td3_agent.training.envs import EnvFailureError
from td3_agent.training.ray_rollouts import GIVE_UP_S, LOOK_S, PATIENCE_S

STEPS = 5  # of a fragment


class MadeUpRay:
    """Workers are numbered as they are started; some start, and some of those deliver at once.

    Attributes:
        starting: numbers of workers that start.
        delivering: numbers of workers that send what they are asked for.
        now_s: moves on where somebody waits in vain.
    """

    def __init__(self):
        self.now_s = 0.0
        self.starting = self.delivering = range(0)
        self._numbers, self._here = itertools.count(), {}

    def remote(self, **_):
        return lambda _: SimpleNamespace(remote=self.started_worker)

    def started_worker(self, _):
        number = next(self._numbers)
        fragment = SimpleNamespace(version=0)
        return SimpleNamespace(
            __ray_ready__=SimpleNamespace(
                remote=lambda: self.answer('ready', at_once=number in self.starting)
            ),
            collect=SimpleNamespace(
                remote=lambda *_: self.answer(fragment, at_once=number in self.delivering)
            ),
        )

    def answer(self, content, *, at_once):
        answer = object()
        if at_once:
            self._here[answer] = content
        return answer

    def wait(self, asked, *, num_returns, timeout, fetch_local):
        assert not fetch_local  # what lies on another machine would not count as here
        here = [answer for answer in asked if answer in self._here][:num_returns]
        self.now_s += 0.0 if here else timeout
        return here, [answer for answer in asked if answer not in here]

    def get(self, answer):
        return self._here.pop(answer)

    def put(self, policy):
        return policy

    def kill(self, _):
        pass


@pytest.fixture
def ray(monkeypatch):
    made_up = MadeUpRay()
    monkeypatch.setattr(module, 'ray', made_up)
    monkeypatch.setattr(module, 'time', SimpleNamespace(monotonic=lambda: made_up.now_s))
    monkeypatch.setattr(module.RayRollouts, '_store', lambda *_: STEPS)
    return made_up


@pytest.fixture
def rollouts_of(ray, tmp_path):
    def started(workers, *, starting, delivering=()):
        ray.starting, ray.delivering = starting, delivering
        rollouts = trainer_of(tmp_path / 'run', 100, 'Counting', workers=workers)._rollouts
        rollouts.start()
        return rollouts

    return started


def acts(rollouts, seconds):
    """Act as often as it takes where each time is waited in vain; return the steps."""
    return sum(rollouts.act(0) for _ in range(round(seconds / LOOK_S)))


def test_worker_that_is_silent_is_replaced_but_not_for_ever(rollouts_of, ray):
    rollouts = rollouts_of(1, starting=range(100))
    assert acts(rollouts, PATIENCE_S) == 0
    assert rollouts.lost == 0
    with pytest.raises(EnvFailureError, match='worker 0 was lost 5 times in a row: no answer'):
        acts(rollouts, 5.5 * PATIENCE_S)
    assert rollouts.failures == 5
    assert 5.0 * PATIENCE_S <= ray.now_s <= 5.1 * PATIENCE_S


def test_pause_of_the_learner_is_nobodys_silence(rollouts_of, ray):
    rollouts = rollouts_of(2, starting=range(2))
    rollouts.act(0)
    for _ in range(3):
        ray.now_s += 10.0 * PATIENCE_S
        assert rollouts.act(0) == 0
    assert rollouts.lost == 0


def test_silence_counts_while_others_keep_the_learner_busy(rollouts_of, ray):
    rollouts = rollouts_of(2, starting=range(100), delivering=[0])
    for _ in range(round(PATIENCE_S) + 2):
        rollouts.act(0)
        ray.now_s += 1.0  # of updates
    assert rollouts.lost == 1


def test_worker_that_is_not_there_is_waited_for_and_told_of_once(rollouts_of, ray, caplog):
    rollouts = rollouts_of(2, starting=[0], delivering=[0])
    for _ in range(round(2.0 * GIVE_UP_S)):
        ray.now_s += 1.0
        rollouts.act(0)
    assert rollouts.lost == 0
    (said,) = caplog.messages
    assert said.startswith('1 of 2 workers are not there after 300 s')


def test_worker_that_comes_late_is_asked(rollouts_of, ray):
    rollouts = rollouts_of(1, starting=())
    acts(rollouts, 2.0 * PATIENCE_S)
    (answer,) = rollouts._asked
    ray._here[answer], ray.delivering = True, [0]
    assert [rollouts.act(0), rollouts.act(0)] == [0, STEPS]


def test_run_ends_where_nobody_delivers(rollouts_of):
    rollouts = rollouts_of(3, starting=())
    acts(rollouts, GIVE_UP_S)
    with pytest.raises(EnvFailureError, match='sent anything for 1800 s; 0 of 3 are there'):
        rollouts.act(0)
    assert rollouts.lost == 0

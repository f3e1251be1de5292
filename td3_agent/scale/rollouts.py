# SPDX-License-Identifier: Apache-2.0
"""Rollouts by Ray's workers: each takes steps on its own, the learner waits for the first to end.

A worker is asked for a fragment, and for the next one as soon as that is here, so workers and
learner are at work at the same time; updates stay as many per step as without Ray, and a worker's
policy is at most a fragment old. A worker that dies takes along what it has not sent, and with it
the end of its episode; the learner puts another in its place, whose seeds no other one has had.
"""

from __future__ import annotations

import logging
import statistics
import time
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from td3_agent.scale.worker import Assignment, RolloutWorker, parameters_of
from td3_agent.training.envs import LARGEST_FAILURES, EnvFailureError
from td3_agent.training.rollouts import REMEMBERED_RETURNS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from td3_agent.scale.worker import Haul
    from td3_agent.td3.learner import Learner
    from td3_agent.td3.replay import ReplayBuffer
    from td3_agent.training.params import RayParams
    from td3_agent.training.rollouts import State
    from td3_agent.training.spaces import TaskSpaces

LOG = logging.getLogger(__name__)
PATIENCE_S = 300.0  # a machine may have to be started first


class RayRollouts:
    """Has workers act, each a stream of the buffer.

    Attributes:
        finished: returns of the last whole episodes.
        lost: workers that died.
    """

    def __init__(  # noqa: PLR0913  what a task is made of
        self,
        env_ids: tuple[str, ...],
        spaces: TaskSpaces,
        learner: Learner,
        buffer: ReplayBuffer,
        *,
        seed: int,
        random_steps: int,
        params: RayParams,
    ) -> None:
        """Prepare; workers start with the first steps.

        Args:
            env_ids: Gymnasium ids, which workers are given in turn.
            spaces: of the task.
            learner: whose policy acts.
            buffer: takes the steps, a stream for each worker.
            seed: of the run.
            random_steps: first ones of the run, whose actions owe nothing to the policy.
            params: how many workers, and how much at a time.

        Raises:
            ValueError: there are fewer workers than environments.
        """
        if params.workers < len(env_ids):
            raise ValueError(
                f'--workers must be >= {len(env_ids)}, one for each --env, got {params.workers}'
            )
        self._env_ids, self._spaces, self._learner = env_ids, spaces, learner
        self._buffer, self._seed, self._params = buffer, seed, params
        self._random_steps = random_steps
        self._make = ray.remote(num_cpus=1)(RolloutWorker)
        self._workers: list[Any] = [None] * params.workers
        self._asked: dict[Any, tuple[int, float]] = {}  # answer to come: stream, since when [s]
        self._counts = [(0, 0)] * params.workers  # episodes and failures that each tells of
        self._past = (0, 0)  # those of workers that are no more
        self._losses = [0] * params.workers  # workers in a place that died in a row
        self._hired = 0
        self._policy: Any = None  # where Ray keeps it
        self._version = 0
        self._lags = [0]
        self.finished: list[float] = []
        self.lost = 0

    @property
    def episodes(self) -> int:
        """How many there have been, besides those that are going on."""
        return self._past[0] + sum(episodes for episodes, _ in self._counts)

    @property
    def failures(self) -> int:
        """Episodes that broke, with their worker or without it."""
        return self._past[1] + sum(failures for _, failures in self._counts) + self.lost

    def figures(self) -> dict[str, float]:
        """Return what else belongs into a row of progress."""
        return {'workers_lost': self.lost, 'policy_lag_updates': statistics.fmean(self._lags)}

    def start(self) -> None:
        """Start every worker with its first fragment."""
        self._start(0)

    def _start(self, step: int) -> None:
        for stream in range(self._params.workers):
            self._hire(stream)
            self._ask(stream, step)

    def act(self, step: int) -> int:
        """Store what has come, wait if nothing has; return how many steps it was."""
        streams, self._lags = [], []
        taken = 0
        for answer in self._answers():
            stream, _ = self._asked.pop(answer)
            try:
                taken += self._store(stream, ray.get(answer))
            except RayTaskError:
                raise  # a mistake in the program or in the task, not a death
            except RayError as error:
                self._replace(stream, str(error))
            streams.append(stream)
        for stream in self._silent():
            self._replace(stream, f'no answer within {PATIENCE_S:.0f} s')
            streams.append(stream)
        self._lags = self._lags or [0]
        for stream in streams:
            self._ask(stream, step + taken)
        return taken

    def _answers(self) -> list[Any]:
        """Return all answers that are there; wait for one if there are none, as long as may be."""
        since_s = min(since_s for _, since_s in self._asked.values())
        left_s = max(since_s + PATIENCE_S - time.monotonic(), 0.0)
        asked = list(self._asked)
        if not ray.wait(asked, num_returns=1, timeout=left_s)[0]:
            return []
        answers: list[Any] = ray.wait(asked, num_returns=len(asked), timeout=0.0)[0]
        return answers

    def _silent(self) -> list[int]:
        """Return the streams whose answer is overdue, and no longer wait for these."""
        now_s = time.monotonic()
        asked = self._asked.items()
        late = [answer for answer, (_, since_s) in asked if now_s - since_s > PATIENCE_S]
        return [self._asked.pop(answer)[0] for answer in late]

    def _store(self, stream: int, haul: Haul) -> int:
        """Store what a worker has sent, and return how many steps it was."""
        self._buffer.extend(haul.fragment, stream)
        self._counts[stream] = haul.episodes, haul.failures
        self._losses[stream] = 0
        self._lags.append(self._learner.updates - haul.version)
        self.finished = [*self.finished, *haul.finished][-REMEMBERED_RETURNS:]
        for text in haul.warnings:
            LOG.warning('worker %d: %s', stream, text)
        return haul.fragment.transitions

    def _replace(self, stream: int, reason: str) -> None:
        """Put a worker in the place of one that is lost; its episode is cut where it was sent.

        Raises:
            EnvFailureError: those before it were lost too.
        """
        ray.kill(self._workers[stream])
        self._buffer.cut(stream)
        self.lost += 1
        self._losses[stream] += 1
        if self._losses[stream] == LARGEST_FAILURES:
            raise EnvFailureError(
                f'worker {stream} was lost {LARGEST_FAILURES} times in a row: {reason}'
            )
        LOG.warning('worker %d is lost, its episode is cut: %s', stream, reason.splitlines()[0])
        self._retire(stream)
        self._hire(stream)

    def _retire(self, stream: int) -> None:
        """Keep what the worker of a stream has told, for it will tell no more."""
        episodes, failures = self._counts[stream]
        self._past = self._past[0] + episodes + 1, self._past[1] + failures
        self._counts[stream] = (0, 0)

    def _hire(self, stream: int) -> None:
        """Start a worker.

        Not restarted by Ray: that one would begin with the seeds of the first.
        """
        task = Assignment(
            env_id=self._env_ids[stream % len(self._env_ids)],
            spaces=self._spaces,
            actor=self._learner.actor.config,
            td3=self._learner.params,
            seed=self._seed,
            number=self._hired,
            steps=self._params.fragment_steps,
            random_steps=self._random_steps,
        )
        self._hired += 1
        self._workers[stream] = self._make.remote(task)

    def _ask(self, stream: int, step: int) -> None:
        """Ask for the next fragment, to be made with the newest policy that was sent out."""
        updates, since = self._learner.updates, self._version
        if self._policy is None or updates >= since + self._params.broadcast_every:
            self._policy = ray.put(parameters_of(self._learner.actor))
            self._version = updates
        answer = self._workers[stream].collect.remote(self._policy, self._version, step)
        self._asked[answer] = stream, time.monotonic()

    def state(self) -> State:
        """Return everything there is to save; what workers are at is lost."""
        facts = {
            'past': [self.episodes + self._params.workers, self.failures - self.lost],
            'hired': self._hired,
            'lost': self.lost,
            'finished': self.finished,
        }
        return {}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:  # noqa: ARG002
        """Go on with new episodes: workers cannot be brought back to where they were."""
        episodes, failures = facts['past']
        self._past, self._hired, self.lost = (episodes, failures), facts['hired'], facts['lost']
        self.finished = facts['finished']
        for stream in range(self._params.workers):
            self._buffer.cut(stream)
        self._start(facts['step'])
        return False

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            if worker is not None:
                ray.kill(worker)
        self._workers, self._asked = [], {}

# SPDX-License-Identifier: Apache-2.0
"""Rollouts by Ray's workers: each takes steps on its own, the learner waits for the first to end.

A worker is asked for a fragment, and for the next one as soon as that is here, so workers and
learner are at work at the same time; updates stay as many per step as without Ray, and a worker's
policy is at most a fragment old. A worker that dies takes along what it has not sent, and with it
the end of its episode; the learner puts another in its place, whose seeds no other one has had.
One that the cluster has no room for is waited for, while the others go on.
"""

from __future__ import annotations

import logging
import statistics
import time
from typing import TYPE_CHECKING, Any, NamedTuple

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
PATIENCE_S = 300.0  # for a fragment, and for a worker to be there before its absence is told
GIVE_UP_S = (LARGEST_FAILURES + 1) * PATIENCE_S  # without a fragment from anybody
LOOK_S = 5.0  # longest wait: between two of them a Ctrl-C is looked for
AWAY_S = 60.0  # that count of a longer time between two looks, for nobody's silence is seen then


class Came(NamedTuple):
    """What has come since the learner looked last.

    Attributes:
        hauls: fragments, by stream.
        ready: streams whose worker can be asked for the next one.
        lost: how those ended whose worker is no more, by stream.
    """

    hauls: dict[int, Haul]
    ready: list[int]
    lost: dict[int, str]


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
            ValueError: there are fewer workers than environments, or a worker's part of the buffer
                has no room for a fragment.
        """
        if params.workers < len(env_ids):
            raise ValueError(
                f'--workers must be >= {len(env_ids)}, one for each --env, got {params.workers}'
            )
        # An observation before the first step; each step may end an episode, and the next begin.
        least = params.workers * (2 * params.fragment_steps + 1)
        if learner.params.buffer_capacity < least:
            raise ValueError(
                f'--buffer-capacity must be >= {least} for {params.workers} --workers with '
                f'--fragment-steps {params.fragment_steps}, got {learner.params.buffer_capacity}'
            )
        self._env_ids, self._spaces, self._learner = env_ids, spaces, learner
        self._buffer, self._seed, self._params = buffer, seed, params
        self._random_steps = random_steps
        self._make = ray.remote(num_cpus=1)(RolloutWorker)
        self._workers: list[Any] = [None] * params.workers
        self._asked: dict[Any, tuple[int, float]] = {}  # answer to come: stream, since when [s]
        self._there = [False] * params.workers  # whether a worker has been started by now
        self._missed: set[int] = set()  # streams whose worker is long in coming
        self._counts = [(0, 0)] * params.workers  # episodes and failures that each tells of
        self._past = (0, 0)  # those of workers that are no more
        self._losses = [0] * params.workers  # workers in a place that died in a row
        self._hired = 0
        self._policy: Any = None  # where Ray keeps it
        self._version = 0
        self._lags = [0]
        self._clock_s = 0.0  # for silences; falls behind where the learner is long away
        self._looked_s = time.monotonic()
        self._delivered_s = 0.0  # when the last fragment came, by that clock
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
        """Start every worker; its first fragment is asked for once it is there."""
        for stream in range(self._params.workers):
            self._hire(stream)

    def act(self, step: int) -> int:
        """Store what has come, wait a little if nothing has; return how many steps it was.

        Raises:
            EnvFailureError: the run cannot go on; nothing was stored, so what is counted agrees.
        """
        came = self._received()
        for stream, reason in (came.lost | self._silent()).items():
            self._replace(stream, reason)
        self._note_missing()
        self._note_delivery(came.hauls)
        self._lags = [self._learner.updates - haul.version for haul in came.hauls.values()] or [0]
        taken = sum(self._store(stream, haul) for stream, haul in came.hauls.items())
        for stream in came.ready:
            self._ask(stream, step + taken)
        return taken

    def _received(self) -> Came:
        """Return what has come since the last look."""
        came = Came({}, [], {})
        for answer in self._answers():
            stream, _ = self._asked.pop(answer)
            try:
                result = ray.get(answer)
            except RayTaskError as error:
                # A mistake in the program or in the task, not a death.
                raise error.cause from error
            except RayError as error:
                came.lost[stream] = str(error)
                continue
            if self._there[stream]:
                came.hauls[stream] = result
            self._there[stream] = True
            came.ready.append(stream)
        return came

    def _answers(self) -> list[Any]:
        """Return all answers that are there; wait for one if there are none, but not for long."""
        asked = list(self._asked)
        # On whatever machine they lie: what would have to be fetched first is there as well.
        ray.wait(asked, num_returns=1, timeout=LOOK_S, fetch_local=False)
        answers: list[Any] = ray.wait(
            asked, num_returns=len(asked), timeout=0.0, fetch_local=False
        )[0]
        now_s = time.monotonic()
        self._clock_s += min(now_s - self._looked_s, AWAY_S)
        self._looked_s = now_s
        return answers

    def _overdue(self, *, there: bool) -> dict[int, Any]:
        """Return answers that are long in coming, by stream; of workers that are there, or not."""
        return {
            stream: answer
            for answer, (stream, since_s) in self._asked.items()
            if self._there[stream] is there and self._clock_s - since_s > PATIENCE_S
        }

    def _silent(self) -> dict[int, str]:
        """Return whose fragment is overdue, and in what words; it is no longer waited for."""
        overdue = self._overdue(there=True)
        for answer in overdue.values():
            del self._asked[answer]
        return dict.fromkeys(overdue, f'no answer within {PATIENCE_S:.0f} s')

    def _note_missing(self) -> None:
        """Warn, once, of workers that should be there by now; they are waited for all the same."""
        missing = set(self._overdue(there=False))
        if missing - self._missed:
            LOG.warning(
                '%d of %d workers are not there after %.0f s: has the cluster the CPUs for them? '
                'The others go on',
                len(missing),
                self._params.workers,
                PATIENCE_S,
            )
        self._missed = missing

    def _note_delivery(self, hauls: dict[int, Haul]) -> None:
        """Remember when the last fragment came.

        Raises:
            EnvFailureError: that was too long ago.
        """
        if hauls:
            self._delivered_s = self._clock_s
        elif self._clock_s - self._delivered_s > GIVE_UP_S:
            raise EnvFailureError(
                f'no worker has sent anything for {GIVE_UP_S:.0f} s; '
                f'{sum(self._there)} of {self._params.workers} are there'
            )

    def _store(self, stream: int, haul: Haul) -> int:
        """Store what a worker has sent, and return how many steps it was."""
        self._buffer.extend(haul.fragment, stream)
        self._counts[stream] = haul.episodes, haul.failures
        self._losses[stream] = 0
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
        worker = self._workers[stream] = self._make.remote(task)
        self._there[stream] = False
        self._asked[worker.__ray_ready__.remote()] = stream, self._clock_s

    def _ask(self, stream: int, step: int) -> None:
        """Ask for the next fragment, to be made with the newest policy that was sent out."""
        updates, since = self._learner.updates, self._version
        if self._policy is None or updates >= since + self._params.broadcast_every:
            self._policy = ray.put(parameters_of(self._learner.actor))
            self._version = updates
        answer = self._workers[stream].collect.remote(self._policy, self._version, step)
        self._asked[answer] = stream, self._clock_s

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
        self.start()
        return False

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            if worker is not None:
                ray.kill(worker)
        self._workers, self._asked = [], {}

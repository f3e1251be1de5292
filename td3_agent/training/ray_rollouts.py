# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts by Ray's workers: each takes steps on its own, and the learner stores its fragments.

Each worker always has one rollout fragment requested, so workers and learner run in parallel;
there are as many updates per step as without Ray, and a worker's policy is at most a fragment old.
When a worker dies, the steps it has not sent are lost and its episode is cut; another worker takes
its slot, with its own seeds. Workers that wait for room in the cluster do not hold up the others.
"""

from __future__ import annotations

from dataclasses import dataclass
import logging
import statistics
import time
from typing import TYPE_CHECKING, Any

import ray
from ray.exceptions import RayError, RayTaskError

from td3_agent.training.envs import LARGEST_FAILURES, EnvFailureError
from td3_agent.training.rollouts import (
    REMEMBERED_RETURNS,
    RolloutWorker,
    WorkerConfig,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from td3_agent.td3.learner import Learner
    from td3_agent.td3.replay import ReplayBuffer
    from td3_agent.training.params import RayParams
    from td3_agent.training.rollouts import RolloutFragment, State
    from td3_agent.training.spaces import TaskSpaces

LOG = logging.getLogger(__name__)
PATIENCE_S = 300.0  # for a fragment; and for a worker to start, before a warning
GIVE_UP_S = (LARGEST_FAILURES + 1) * PATIENCE_S  # without a fragment from any worker
LOOK_S = 5.0  # longest wait without a look for Ctrl-C
AWAY_S = 60.0  # at most this much of the time between two looks counts as silence


@dataclass
class _WorkerSlot:
    """A stream of the buffer and the worker that fills it.

    Attributes:
        worker: Ray's handle; None before the first one.
        is_there: whether the worker has started.
        since_s: when its result was requested, by the clock of the rollouts.
        is_missed: whether a warning was logged because it has not started.
        losses: workers of this slot that died in a row.
        episodes, failures: last counts from the worker.
    """

    worker: Any = None
    is_there: bool = False
    since_s: float = 0.0
    is_missed: bool = False
    losses: int = 0
    episodes: int = 0
    failures: int = 0


class RayRollouts:
    """Has workers act, each a stream of the buffer.

    Attributes:
        finished: returns of the last whole episodes.
        lost: workers that died.
    """

    def __init__(  # noqa: PLR0913  keywords only
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
        """Prepare; :meth:`start` starts the workers.

        Args:
            env_ids: Gymnasium ids, which workers are given in turn.
            spaces: of the task.
            learner: whose policy acts.
            buffer: takes the steps, a stream for each worker.
            seed: of the run.
            random_steps: steps taken with random actions before learning starts.
            params: number of workers and size of fragments.

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
        self._slots = [_WorkerSlot() for _ in range(params.workers)]
        self._asked: dict[Any, int] = {}  # requested result: its stream
        self._past = (0, 0)  # episodes and failures of dead workers
        self._started = 0
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
        """Number of finished episodes."""
        return self._past[0] + sum(slot.episodes for slot in self._slots)

    @property
    def failures(self) -> int:
        """Number of broken episodes, with their worker or without it."""
        return self._past[1] + sum(slot.failures for slot in self._slots) + self.lost

    def figures(self) -> dict[str, float]:
        return {'workers_lost': self.lost, 'policy_lag_updates': statistics.fmean(self._lags)}

    def start(self) -> None:
        """Start every worker, and request its first fragment once it is ready."""
        for stream in range(self._params.workers):
            self._start_worker(stream)

    def act(self, step: int, learn: Callable[[int], None] = lambda _: None) -> int:
        """Store the fragments that have arrived; return how many steps they hold.

        Raises:
            EnvFailureError: the run cannot continue; nothing was stored, so all counts agree.
        """
        fragments, ready, dead = self._received()
        for stream, reason in (dead | self._silent()).items():
            self._replace(stream, reason)
        self._note_missing()
        self._note_delivery(fragments)
        updates = self._learner.updates
        self._lags = [updates - fragment.version for fragment in fragments.values()] or [0]
        taken = sum(self._store(stream, fragment) for stream, fragment in fragments.items())
        for stream in ready:
            self._ask(stream, step + taken)
        learn(taken)
        return taken

    def _received(self) -> tuple[dict[int, RolloutFragment], list[int], dict[int, str]]:
        """Return what has arrived.

        Returns:
            Fragments by stream, streams whose worker is free for the next one, and why the
            workers of other streams died.
        """
        fragments, ready, dead = {}, [], {}
        for answer in self._answers():
            stream = self._asked.pop(answer)
            try:
                result = ray.get(answer)
            except RayTaskError as error:
                # A bug in the program or in the task.
                raise error.cause from error
            except RayError as error:
                dead[stream] = str(error)
                continue
            slot = self._slots[stream]
            if slot.is_there:
                fragments[stream] = result
            slot.is_there, slot.is_missed = True, False
            ready.append(stream)
        return fragments, ready, dead

    def _answers(self) -> list[Any]:
        """Return all results that are there; wait a little for one if there are none."""
        asked = list(self._asked)
        # Results on other machines count as ready too: fetch_local would wait for their transfer.
        ray.wait(asked, num_returns=1, timeout=LOOK_S, fetch_local=False)
        answers: list[Any] = ray.wait(
            asked, num_returns=len(asked), timeout=0.0, fetch_local=False
        )[0]
        now_s = time.monotonic()
        self._clock_s += min(now_s - self._looked_s, AWAY_S)
        self._looked_s = now_s
        return answers

    def _overdue(self, *, there: bool) -> dict[int, Any]:
        """Return overdue results by stream, of workers that have started or not."""
        return {
            stream: answer
            for answer, stream in self._asked.items()
            if (slot := self._slots[stream]).is_there is there
            and self._clock_s - slot.since_s > PATIENCE_S
        }

    def _silent(self) -> dict[int, str]:
        """Return streams whose fragment is overdue, with the reason to replace the worker."""
        overdue = self._overdue(there=True)
        for answer in overdue.values():
            del self._asked[answer]
        return dict.fromkeys(overdue, f'no answer within {PATIENCE_S:.0f} s')

    def _note_missing(self) -> None:
        """Warn, once, of workers that should have started by now."""
        missing = [self._slots[stream] for stream in self._overdue(there=False)]
        if not all(slot.is_missed for slot in missing):
            LOG.warning(
                '%d of %d workers are not there after %.0f s: has the cluster the CPUs for them? '
                'The others go on',
                len(missing),
                self._params.workers,
                PATIENCE_S,
            )
        for slot in missing:
            slot.is_missed = True

    def _note_delivery(self, fragments: dict[int, RolloutFragment]) -> None:
        """Note when the last fragment arrived.

        Raises:
            EnvFailureError: that was too long ago.
        """
        if fragments:
            self._delivered_s = self._clock_s
        elif self._clock_s - self._delivered_s > GIVE_UP_S:
            raise EnvFailureError(
                f'no worker has sent anything for {GIVE_UP_S:.0f} s; '
                f'{sum(slot.is_there for slot in self._slots)} of {self._params.workers} are '
                'there'
            )

    def _store(self, stream: int, fragment: RolloutFragment) -> int:
        """Store the steps of a fragment, and return their number."""
        self._buffer.extend(fragment.steps, stream)
        slot = self._slots[stream]
        slot.episodes, slot.failures, slot.losses = fragment.episodes, fragment.failures, 0
        self.finished = [*self.finished, *fragment.finished][-REMEMBERED_RETURNS:]
        for text in fragment.warnings:
            LOG.warning('worker %d: %s', stream, text)
        return fragment.steps.transitions

    def _replace(self, stream: int, reason: str) -> None:
        """Start another worker in the slot of a dead one, whose open episode is cut.

        Raises:
            EnvFailureError: too many in a row died.
        """
        slot = self._slots[stream]
        ray.kill(slot.worker)
        self._buffer.cut(stream)
        self.lost += 1
        slot.losses += 1
        if slot.losses == LARGEST_FAILURES:
            raise EnvFailureError(
                f'worker {stream} was lost {LARGEST_FAILURES} times in a row: {reason}'
            )
        LOG.warning('worker %d is lost, its episode is cut: %s', stream, reason.splitlines()[0])
        episodes, failures = self._past
        self._past = episodes + slot.episodes + 1, failures + slot.failures
        slot.episodes = slot.failures = 0
        self._start_worker(stream)

    def _start_worker(self, stream: int) -> None:
        """Start a worker.

        Ray does not restart it: a restarted one would repeat its first seeds.
        """
        config = WorkerConfig(
            env_id=self._env_ids[stream % len(self._env_ids)],
            spaces=self._spaces,
            actor=self._learner.actor.config,
            td3=self._learner.params,
            seed=self._seed,
            number=self._started,
            steps=self._params.fragment_steps,
            random_steps=self._random_steps,
        )
        self._started += 1
        slot = self._slots[stream]
        slot.worker, slot.is_there = self._make.remote(config), False
        self._wait_for(slot.worker.__ray_ready__.remote(), stream)

    def _ask(self, stream: int, step: int) -> None:
        """Request the next fragment, with the newest policy that was sent out."""
        updates, since = self._learner.updates, self._version
        if self._policy is None or updates >= since + self._params.broadcast_every:
            self._policy = ray.put(self._learner.policy_weights())
            self._version = updates
        worker = self._slots[stream].worker
        self._wait_for(worker.collect.remote(self._policy, self._version, step), stream)

    def _wait_for(self, answer: Any, stream: int) -> None:  # noqa: ANN401  Ray's own
        self._asked[answer] = stream
        self._slots[stream].since_s = self._clock_s

    def state(self) -> State:
        """Return the state to save; steps under way are lost."""
        facts = {
            'past': [self.episodes + self._params.workers, self.failures - self.lost],
            'started': self._started,
            'lost': self.lost,
            'finished': self.finished,
        }
        return {}, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:  # noqa: ARG002
        """Continue with new episodes: workers cannot return to the middle of one."""
        episodes, failures = facts['past']
        self._past, self._started = (episodes, failures), facts['started']
        self.lost, self.finished = facts['lost'], facts['finished']
        for stream in range(self._params.workers):
            self._buffer.cut(stream)
        self.start()
        return False

    def close(self) -> None:
        for slot in self._slots:
            if slot.worker is not None:
                ray.kill(slot.worker)
        self._slots, self._asked = [], {}

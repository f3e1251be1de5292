# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rollouts: steps taken in environments and stored in a buffer, here or in a Ray worker.

A worker wraps the rollouts of this process and does not import Ray: its small buffer yields
fragments for the learner's buffer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import logging
from logging.handlers import BufferingHandler
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

import gymnasium
import numpy as np
import torch
from torch.nn.utils import vector_to_parameters

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.envs import with_module
from td3_agent.policy.policy import build_actor
from td3_agent.td3.replay import ReplayBuffer
from td3_agent.training.acting import Explorer
from td3_agent.training.envs import EnvFailureError, Episodes, LocalEnv, ResumeError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from td3_agent.policy.manifest import ActorConfig
    from td3_agent.td3.params import Td3Params
    from td3_agent.td3.transitions import Fragment, Observed
    from td3_agent.training.envs import StepResult
    from td3_agent.training.spaces import TaskSpaces

LOG = logging.getLogger(__name__)
REMEMBERED_RETURNS = 10

State = tuple[dict[str, 'Tensor'], dict[str, Any]]


class LocalRollouts:
    """Takes one step in each of some environments at a time, with one explorer for all.

    Attributes:
        finished: returns of the last whole episodes.
    """

    def __init__(
        self, streams: list[Episodes], explorer: Explorer, spaces: TaskSpaces, store: ReplayBuffer
    ) -> None:
        """Act in these environments, each a stream of the store; nothing happens yet."""
        self._streams, self._explorer = streams, explorer
        self._spaces, self._store = spaces, store
        self._observed: list[Observed] = []
        self._returns = [0.0] * len(streams)  # of the open episodes
        self.finished: list[float] = []

    @property
    def episodes(self) -> int:
        """Number of finished episodes."""
        return sum(episodes.number for episodes in self._streams)

    @property
    def failures(self) -> int:
        """Number of broken episodes."""
        return sum(episodes.failures for episodes in self._streams)

    def figures(self) -> dict[str, float]:
        return {}

    def start(self) -> None:
        self._observed = [self._begin(stream) for stream in range(len(self._streams))]

    def act(self, step: int, learn: Callable[[int], None] = lambda _: None) -> int:
        """Take a step in every environment; return their number.

        Args:
            step: environment steps of the whole run so far.
            learn: makes the updates that are due with so many steps, from the steps before;
                environments in processes work in the meantime.
        """
        actions = []
        for stream, episodes in enumerate(self._streams):
            action = self._explorer.action(self._observed[stream], step + stream, stream)
            episodes.step_async(self._spaces.action(action))
            actions.append(action)
        learn(len(actions))
        for stream, episodes in enumerate(self._streams):
            try:
                outcome = episodes.step_wait()
            except EnvFailureError as error:  # noqa: PERF203  a step costs far more
                LOG.warning('environment %d broke, its episode is cut: %s', stream, error)
                self._store.cut(stream)
                self._observed[stream] = self._begin(stream)
            else:
                self._keep(stream, actions[stream], outcome)
        return len(self._streams)

    def _keep(self, stream: int, action: NDArray[np.float32], outcome: StepResult) -> None:
        observed = self._spaces.observed(outcome.observation)
        self._store.add(
            action,
            outcome.reward,
            observed,
            terminated=outcome.terminated,
            truncated=outcome.truncated,
            stream=stream,
        )
        self._returns[stream] += outcome.reward
        if outcome.terminated or outcome.truncated:
            self.finished = [*self.finished, self._returns[stream]][-REMEMBERED_RETURNS:]
            observed = self._begin(stream)
        self._observed[stream] = observed

    def _begin(self, stream: int) -> Observed:
        """Begin an episode and return its first observation."""
        observed = self._spaces.observed(self._streams[stream].begin())
        self._store.begin(observed, stream)
        self._explorer.begin(stream)
        self._returns[stream] = 0.0
        return observed

    def state(self) -> State:
        noise, explorer = self._explorer.state()
        tensors = {'explorer.noise': torch.as_tensor(noise)}
        facts = {'explorer': explorer, 'returns': self._returns, 'finished': self.finished}
        for stream, episodes in enumerate(self._streams):
            actions, facts[f'stream_{stream}'] = episodes.state()
            tensors[f'stream_{stream}.actions'] = torch.as_tensor(actions)
        return tensors, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:
        """Replay the open episodes; one that takes another course is cut."""
        self._explorer.restore(tensors['explorer.noise'].numpy(), facts['explorer'])
        self._returns, self.finished = facts['returns'], facts['finished']
        replayed = []
        for stream in range(len(self._streams)):
            name = f'stream_{stream}'
            replayed.append(
                self._replayed(stream, tensors[f'{name}.actions'].numpy(), facts[name])
            )
        self._observed = [observed for observed, _ in replayed]
        return all(exact for _, exact in replayed)

    def _replayed(
        self, stream: int, actions: NDArray[np.float32], facts: dict[str, Any]
    ) -> tuple[Observed, bool]:
        """Return the last observation of a replayed episode, and whether the replay was exact."""
        episodes = self._streams[stream]
        reason = 'the environment does not repeat itself'
        try:
            observed = self._spaces.observed(episodes.restore(actions, facts))
            if _equal(observed, self._store.newest(stream)):
                return observed, True
        except (ResumeError, EnvFailureError) as error:
            reason = str(error)
        LOG.warning('resuming is not exact, an episode is cut: %s', reason)
        self._store.cut(stream)
        return self._begin(stream), False

    def close(self) -> None:
        for episodes in self._streams:
            episodes.port.close()


def _equal(one: Observed, other: Observed) -> bool:
    """Whether two observations are the same to the last bit, as the buffer stores them."""
    for mine, theirs in zip(one, other, strict=True):
        if mine is None or theirs is None:
            if mine is not theirs:
                return False
        elif not np.array_equal(np.asarray(mine, np.float32), theirs):
            return False
    return True


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """What a worker needs to start.

    Attributes:
        env_id: Gymnasium id of its environment.
        spaces: of the task.
        actor: architecture of the policies that will be sent.
        td3: settings; a worker uses those of exploration.
        seed: of the run.
        number: of the worker, unique in the run.
        steps: in one fragment.
        random_steps: steps taken with random actions before learning starts.
    """

    env_id: str
    spaces: TaskSpaces
    actor: ActorConfig
    td3: Td3Params
    seed: int
    number: int
    steps: int
    random_steps: int


class RolloutFragment(NamedTuple):
    """The steps of a worker, and its counts.

    Attributes:
        steps: in the buffer's form.
        version: updates of the policy that took them.
        episodes: finished so far.
        finished: returns of the episodes that ended within the fragment.
        failures: episodes that broke so far.
        warnings: logged within the fragment.
    """

    steps: Fragment
    version: int
    episodes: int
    finished: list[float]
    failures: int
    warnings: list[str]


class RolloutWorker:
    """Takes steps with the policies it is sent; its number determines episodes and noise."""

    def __init__(self, config: WorkerConfig) -> None:
        """Build everything but the environment, which is made for the first step."""
        torch.set_num_threads(1)
        keep_freed_memory()
        self._steps = config.steps
        # Its weights do not matter: a policy arrives before the first step.
        self._actor = build_actor(config.actor, torch.Generator())
        self._buffer = ReplayBuffer(
            config.spaces.shape,
            len(config.actor.action_low),
            # A step may end an episode, and the next one begin.
            capacity=2 * config.steps + config.spaces.shape.frame_stack + 2,
            seed=0,
        )
        make = partial(gymnasium.make, with_module(config.env_id))
        episodes = Episodes(LocalEnv(make), config.seed, config.number)
        explorer = Explorer(
            self._actor,
            config.td3,
            streams=1,
            seed=np.random.SeedSequence((config.seed, 3, config.number)),
            random_steps=config.random_steps,
        )
        self._rollouts = LocalRollouts([episodes], explorer, config.spaces, self._buffer)
        self._begun = False
        self._warnings = BufferingHandler(sys.maxsize)
        self._warnings.setLevel(logging.WARNING)
        logging.getLogger('td3_agent').addHandler(self._warnings)

    def collect(self, policy: NDArray[np.float32], version: int, step: int) -> RolloutFragment:
        """Take the steps of a fragment.

        Args:
            policy: its parameters in one vector.
            version: updates that were made to it.
            step: environment steps of the whole run so far.
        """
        # A copy: Ray's own memory cannot be written to, and torch warns of such arrays.
        vector_to_parameters(torch.tensor(policy), self._actor.parameters())
        if not self._begun:
            self._rollouts.start()
            self._begun = True
        for taken in range(self._steps):
            self._rollouts.act(step + taken)
        finished, self._rollouts.finished = self._rollouts.finished, []
        warnings = [record.getMessage() for record in self._warnings.buffer]
        self._warnings.flush()
        return RolloutFragment(
            self._buffer.take(),
            version,
            self._rollouts.episodes,
            finished,
            self._rollouts.failures,
            warnings,
        )

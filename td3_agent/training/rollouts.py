# SPDX-License-Identifier: Apache-2.0
"""Taking steps in environments and storing them: here, or wherever else somebody does it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from td3_agent.training.envs import EnvFailureError, ResumeError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from td3_agent.td3.replay import ReplayBuffer
    from td3_agent.td3.transitions import Observed
    from td3_agent.training.envs import Episodes, Outcome
    from td3_agent.training.exploration import Explorer
    from td3_agent.training.spaces import TaskSpaces

LOG = logging.getLogger(__name__)
REMEMBERED_RETURNS = 10

State = tuple[dict[str, 'Tensor'], dict[str, Any]]


class Rollouts(Protocol):
    """Who takes the steps of a run and stores them in its buffer."""

    @property
    def episodes(self) -> int:
        """How many there have been, all streams together, besides those that are going on."""

    @property
    def failures(self) -> int:
        """Episodes that broke."""

    @property
    def finished(self) -> Sequence[float]:
        """Returns of the last whole episodes."""

    def start(self) -> None:
        """Begin the first episodes of a new run."""

    def act(self, step: int) -> int:
        """Take steps, store them, and return how many; ``step`` is that of the whole run."""

    def figures(self) -> dict[str, float]:
        """Return what else belongs into a row of progress."""

    def state(self) -> State:
        """Return everything there is to save: tensors and plain JSON."""

    def restore(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:
        """Go on from what :meth:`state` returned; return whether it is exactly there."""

    def close(self) -> None:
        """End environments and workers."""


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
        self._returns = [0.0] * len(streams)  # of the episodes that are going on
        self.finished: list[float] = []

    @property
    def episodes(self) -> int:
        """How many there have been, besides those that are going on."""
        return sum(episodes.number for episodes in self._streams)

    @property
    def failures(self) -> int:
        """Episodes that broke."""
        return sum(episodes.failures for episodes in self._streams)

    def figures(self) -> dict[str, float]:
        """Return what else belongs into a row of progress: nothing."""
        return {}

    def start(self) -> None:
        """Begin the first episodes."""
        self._observed = [self._begin(stream) for stream in range(len(self._streams))]

    def act(self, step: int) -> int:
        """Take a step in every environment; they work at the same time."""
        actions = []
        for stream, episodes in enumerate(self._streams):
            action = self._explorer.action(self._observed[stream], step + stream, stream)
            episodes.ask(self._spaces.action(action))
            actions.append(action)
        for stream, episodes in enumerate(self._streams):
            try:
                outcome = episodes.answer()
            except EnvFailureError as error:  # noqa: PERF203  a step costs a thousand times more
                LOG.warning('environment %d broke, its episode is cut: %s', stream, error)
                self._store.cut(stream)
                self._observed[stream] = self._begin(stream)
            else:
                self._keep(stream, actions[stream], outcome)
        return len(self._streams)

    def _keep(self, stream: int, action: NDArray[np.float32], outcome: Outcome) -> None:
        """Store what came of a step."""
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
        """Return everything there is to save."""
        noise, explorer = self._explorer.state()
        tensors = {'explorer.noise': torch.as_tensor(noise)}
        facts = {'explorer': explorer, 'returns': self._returns, 'finished': self.finished}
        for stream, episodes in enumerate(self._streams):
            actions, facts[f'stream_{stream}'] = episodes.state()
            tensors[f'stream_{stream}.actions'] = torch.as_tensor(actions)
        return tensors, facts

    def restore(self, tensors: Mapping[str, Tensor], facts: dict[str, Any]) -> bool:
        """Replay the episodes that were going on; one that takes another course is cut."""
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
        """Bring an episode back to where it was, and say whether that was possible."""
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
        """Let go of the environments."""
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

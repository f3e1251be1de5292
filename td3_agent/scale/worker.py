# SPDX-License-Identifier: Apache-2.0
"""What a rollout worker does: the steps of one environment, with a policy that is sent to it.

A plain class that knows nothing of Ray, and the loop that trains without it: what differs is that
the store is a small buffer, whose fragments go to the learner's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import logging
from typing import TYPE_CHECKING, NamedTuple

import gymnasium
import numpy as np
import torch

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.policy.networks import build_actor
from td3_agent.td3.replay import Fragment, ReplayBuffer
from td3_agent.training.env_ids import with_module
from td3_agent.training.envs import Episodes, LocalEnv
from td3_agent.training.exploration import Explorer
from td3_agent.training.rollouts import LocalRollouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.policy.networks import Actor, ActorConfig
    from td3_agent.td3.params import Td3Params
    from td3_agent.training.spaces import TaskSpaces


@dataclass(frozen=True, kw_only=True)
class Assignment:
    """What a worker is to do.

    Attributes:
        env_id: Gymnasium id of its environment.
        spaces: of the task.
        actor: architecture of the policies that will be sent.
        td3: settings; of these, how it explores.
        seed: of the run.
        number: of the worker; no other one of the run ever has it.
        steps: that it takes each time it is asked.
        random_steps: first steps of the run, whose actions owe nothing to the policy.
    """

    env_id: str
    spaces: TaskSpaces
    actor: ActorConfig
    td3: Td3Params
    seed: int
    number: int
    steps: int
    random_steps: int


class Haul(NamedTuple):
    """What a worker sends.

    Attributes:
        fragment: the steps.
        version: updates that had been made to the policy that took them.
        episodes: how many there have been, besides the one that is going on.
        finished: returns of the last episodes that came to an end in the meantime.
        failures: episodes that broke, ever.
        warnings: what there was to say.
    """

    fragment: Fragment
    version: int
    episodes: int
    finished: list[float]
    failures: int
    warnings: list[str]


class RolloutWorker:
    """Takes steps; its number decides on episodes and noise."""

    def __init__(self, task: Assignment) -> None:
        """Make everything but the environment, which comes with the first step."""
        torch.set_num_threads(1)
        keep_freed_memory()
        self._steps = task.steps
        # Whatever its weights are: a policy comes before the first step.
        self._actor = build_actor(task.actor, torch.Generator())
        self._buffer = ReplayBuffer(
            task.spaces.shape,
            len(task.actor.action_low),
            # A step may end an episode, and the next one begin.
            capacity=2 * task.steps + task.spaces.shape.frame_stack + 2,
            seed=0,
        )
        make = partial(gymnasium.make, with_module(task.env_id))
        episodes = Episodes(LocalEnv(make), task.seed, task.number)
        explorer = Explorer(
            self._actor,
            task.td3,
            streams=1,
            seed=np.random.SeedSequence((task.seed, 3, task.number)),
            random_steps=task.random_steps,
        )
        self._rollouts = LocalRollouts([episodes], explorer, task.spaces, self._buffer)
        self._begun = False
        self._said = _Texts(logging.WARNING)
        logging.getLogger('td3_agent').addHandler(self._said)

    def collect(self, policy: NDArray[np.float32], version: int, step: int) -> Haul:
        """Take steps with a policy.

        Args:
            policy: its parameters, as :func:`parameters_of` returns them.
            version: updates that were made to it.
            step: environment steps of the whole run so far.
        """
        set_parameters(self._actor, policy)
        if not self._begun:
            self._rollouts.start()
            self._begun = True
        for taken in range(self._steps):
            self._rollouts.act(step + taken)
        finished, self._rollouts.finished = self._rollouts.finished, []
        said, self._said.texts = self._said.texts, []
        return Haul(
            self._buffer.take(),
            version,
            self._rollouts.episodes,
            finished,
            self._rollouts.failures,
            said,
        )


def parameters_of(actor: Actor) -> NDArray[np.float32]:
    """Return a copy of all parameters of a policy, one after the other: what is sent of it."""
    parts = [parameter.detach().reshape(-1) for parameter in actor.parameters()]
    return np.asarray(torch.cat(parts).cpu().numpy())


def set_parameters(actor: Actor, values: NDArray[np.float32]) -> None:
    """Give a policy what :func:`parameters_of` returned for one of the same architecture."""
    start = 0
    with torch.no_grad():
        for parameter in actor.parameters():
            end = start + parameter.numel()
            # A copy: Ray's own memory cannot be written to, and torch warns of such arrays.
            parameter.copy_(torch.tensor(values[start:end]).view(parameter.shape))
            start = end


class _Texts(logging.Handler):
    """Keeps what is logged, to be sent along."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        self.texts.append(record.getMessage())

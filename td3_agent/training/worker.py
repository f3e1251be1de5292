# SPDX-License-Identifier: Apache-2.0
"""A rollout worker: takes the steps of one environment, with a policy that is sent to it.

A plain class without Ray, around the rollouts that train without it: its buffer is a small one,
whose fragments go to the learner's.
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
from td3_agent.td3.replay import ReplayBuffer
from td3_agent.training.env_ids import with_module
from td3_agent.training.envs import Episodes, LocalEnv
from td3_agent.training.exploration import Explorer
from td3_agent.training.rollouts import LocalRollouts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.policy.actor_config import ActorConfig
    from td3_agent.policy.networks import Actor
    from td3_agent.td3.params import Td3Params
    from td3_agent.td3.transitions import Fragment
    from td3_agent.training.spaces import TaskSpaces


@dataclass(frozen=True, kw_only=True)
class WorkerConfig:
    """The task of a worker.

    Attributes:
        env_id: Gymnasium id of its environment.
        spaces: of the task.
        actor: architecture of the policies that will be sent.
        td3: settings; of these, how it explores.
        seed: of the run.
        number: of the worker; no other one of the run ever has it.
        steps: that it takes each time it is asked.
        random_steps: first steps of the run, taken with random actions.
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
    """What a worker sends.

    Attributes:
        steps: the steps, as the buffer takes them.
        version: updates that had been made to the policy that took them.
        episodes: how many there have been, besides the one that is going on.
        finished: returns of the last episodes that came to an end in the meantime.
        failures: episodes that broke, ever.
        warnings: what was logged meanwhile.
    """

    steps: Fragment
    version: int
    episodes: int
    finished: list[float]
    failures: int
    warnings: list[str]


class RolloutWorker:
    """Takes steps; its number decides on episodes and noise."""

    def __init__(self, config: WorkerConfig) -> None:
        """Make everything but the environment, which comes with the first step."""
        torch.set_num_threads(1)
        keep_freed_memory()
        self._steps = config.steps
        # Whatever its weights are: a policy comes before the first step.
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
        self._warnings = _Texts(logging.WARNING)
        logging.getLogger('td3_agent').addHandler(self._warnings)

    def collect(self, policy: NDArray[np.float32], version: int, step: int) -> RolloutFragment:
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
        warnings, self._warnings.texts = self._warnings.texts, []
        return RolloutFragment(
            self._buffer.take(),
            version,
            self._rollouts.episodes,
            finished,
            self._rollouts.failures,
            warnings,
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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Environments to learn from, in this process or in their own, and how episodes are replayed.

The seed of an episode follows from the run's seed, the stream and the episode's number. In a
deterministic environment, seed and actions lead back to any point of an episode: a run resumes in
the middle of one.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
import logging
import multiprocessing
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    import gymnasium
    from numpy.typing import NDArray

LOG = logging.getLogger(__name__)
TRAINING, EVALUATION = 1, 2  # keep the seeds of the two apart
FAILURES = (RuntimeError, OSError, EOFError)  # how simulators end; TimeoutError is an OSError
LARGEST_FAILURES = 5
PATIENCE_S = 120.0
CLOSING_S = 10.0  # what an environment may have to end, such as a simulator


class EnvFailureError(RuntimeError):
    """An environment broke, not the program: the episode is lost, training is not."""


class ResumeError(RuntimeError):
    """An episode could not be replayed."""


class StepResult(NamedTuple):
    """The result of a step, or of a reset (without reward)."""

    observation: Any
    reward: float = 0.0
    terminated: bool = False
    truncated: bool = False
    info: dict[str, Any] = {}  # noqa: RUF012  never written to


def perform(env: gymnasium.Env[Any, Any], command: str, argument: Any) -> StepResult:  # noqa: ANN401
    """Reset or step an environment."""
    if command == 'reset':
        observation, info = env.reset(seed=argument)
        return StepResult(observation, info=info)
    observation, reward, terminated, truncated, info = env.step(argument)
    return StepResult(observation, float(reward), bool(terminated), bool(truncated), info)


class LocalEnv:
    """An environment in this process, with the interface of :class:`ProcessEnv`."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        self._make = make
        self._env: gymnasium.Env[Any, Any] | None = None
        self._command: tuple[str, Any] = ('', None)

    def send(self, command: str, argument: Any) -> None:  # noqa: ANN401
        """Prepare ``reset`` with a seed, or ``step`` with an action."""
        self._command = (command, argument)

    def receive(self) -> StepResult:
        """Execute the last command.

        Raises:
            EnvFailureError: the environment broke; the next command starts a fresh one.
        """
        try:
            if self._env is None:
                self._env = self._make()
            return perform(self._env, *self._command)
        except FAILURES as error:
            self._env = None  # it may not even close
            raise EnvFailureError(f'{type(error).__name__}: {error}') from error

    def close(self) -> None:
        if self._env is not None:
            self._env.close()
            self._env = None


class ProcessEnv:
    """An environment in a process of its own, which may crash or hang without harm."""

    def __init__(self, make: Callable[[], gymnasium.Env[Any, Any]]) -> None:
        """Start it with the first command; ``make`` must be picklable."""
        self._make = make
        self._process: multiprocessing.process.BaseProcess | None = None
        self._pipe: Connection[Any, Any] | None = None

    def send(self, command: str, argument: Any) -> None:  # noqa: ANN401
        """Send ``reset`` with a seed, or ``step`` with an action."""
        if self._pipe is None:
            # Spawned: a fork would copy torch's threads in the middle of their work.
            context = multiprocessing.get_context('spawn')
            self._pipe, theirs = context.Pipe()
            self._process = context.Process(target=serve, args=(self._make, theirs), daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._pipe.send((command, argument))
        except OSError:
            return  # the process is gone: receive raises

    def receive(self) -> StepResult:
        """Wait for the result of the last command.

        Raises:
            EnvFailureError: the environment broke; the next command starts a fresh one.
        """
        assert self._pipe is not None  # noqa: S101  send comes first
        try:
            if not self._pipe.poll(PATIENCE_S):
                raise TimeoutError(f'no answer within {PATIENCE_S:.0f} s')
            result = self._pipe.recv()
        except FAILURES as error:
            self.close()
            raise EnvFailureError(f'{type(error).__name__}: {error}') from error
        if isinstance(result, str):
            self.close()
            raise EnvFailureError(result)
        return StepResult._make(result)

    def close(self) -> None:
        """Let the process close its environment and end; kill it if it does not."""
        if self._pipe is not None:
            self._pipe.close()  # serve ends
        if self._process is not None:
            self._process.join(CLOSING_S)
            self._process.kill()
            self._process.join()
            self._process.close()
        self._process = self._pipe = None


def serve(make: Callable[[], gymnasium.Env[Any, Any]], pipe: Connection[Any, Any]) -> None:
    """Execute commands until the pipe is closed: the main function of a process."""
    env = None
    try:
        while True:
            command, argument = pipe.recv()
            try:
                env = env or make()
                pipe.send(tuple(perform(env, command, argument)))
            except FAILURES as error:
                pipe.send(f'{type(error).__name__}: {error}')
                return
    except (EOFError, ConnectionError, KeyboardInterrupt):
        return
    finally:
        if env is not None:
            with suppress(*FAILURES):  # it may have broken
                env.close()


def episode_seed(seed: int, purpose: int, stream: int, episode: int) -> int:
    """Return the seed of one episode, in [0, 2**31)."""
    words = np.random.SeedSequence((seed, purpose, stream, episode)).generate_state(1)
    return int(words[0] >> 1)


@dataclass
class Episodes:
    """One stream of episodes, with what is needed to replay the open one.

    Attributes:
        port: the environment.
        seed: of the run.
        stream: number of this stream.
        number: of the open episode, -1 before the first.
        actions: taken in it so far.
        failures: episodes that broke.
    """

    port: LocalEnv | ProcessEnv
    seed: int
    stream: int = 0
    number: int = -1
    failures: int = 0
    actions: list[NDArray[np.float32]] = field(default_factory=list)

    def begin(self) -> Any:  # noqa: ANN401  an observation
        """Begin the next episode and return its first observation.

        An environment that breaks is replaced, for the next episode.

        Raises:
            EnvFailureError: it broke several times in a row.
        """
        for attempt in range(LARGEST_FAILURES):
            self.number += 1
            self.actions = []
            try:
                return self._reset()
            except EnvFailureError as error:
                self.failures += 1
                if attempt == LARGEST_FAILURES - 1:
                    raise
                text = 'an episode could not begin (attempt %d of %d): %s'
                LOG.warning(text, attempt + 1, LARGEST_FAILURES, error)
                time.sleep(0.1 * 2**attempt)  # a server may need its time to come back
        raise AssertionError

    def step_async(self, action: NDArray[np.float32]) -> None:
        """Start a step; :meth:`step_wait` returns its result."""
        self.actions.append(action)
        self.port.send('step', action)

    def step_wait(self) -> StepResult:
        """Return the result of the step.

        Raises:
            EnvFailureError: the environment broke; :meth:`begin` starts the next episode.
        """
        try:
            return self.port.receive()
        except EnvFailureError:
            self.failures += 1
            raise

    def _reset(self) -> Any:  # noqa: ANN401
        self.port.send('reset', episode_seed(self.seed, TRAINING, self.stream, self.number))
        return self.port.receive().observation

    def state(self) -> tuple[NDArray[np.float32], dict[str, Any]]:
        facts = {'number': self.number, 'failures': self.failures, 'steps': len(self.actions)}
        return np.array(self.actions, np.float32), facts  # (steps, actions), or (0,)

    def restore(self, actions: NDArray[np.float32], facts: dict[str, Any]) -> Any:  # noqa: ANN401
        """Replay the episode and return its newest observation.

        Raises:
            ResumeError: the environment takes another course.
        """
        self.number, self.failures = facts['number'], facts['failures']
        self.actions = list(actions)
        observation = self._reset()
        for action in self.actions:
            self.port.send('step', action)
            outcome = self.port.receive()
            if outcome.terminated or outcome.truncated:
                raise ResumeError(f'episode {self.number} of stream {self.stream} ends early')
            observation = outcome.observation
        return observation

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Training speed beside Stable-Baselines3's TD3 and SBX's: updates/s, and steps/s of a whole run.

Each in a process of its own, on one thread, in turns, on the same data and with sampling
included; a ratio is the median over the turns. Rates count a process's own time: on a machine
with nothing else to do, that is the time. Needs stable-baselines3, which the package itself does
not; SBX (the same in JAX, without convolutions) is measured where it is installed.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
import os
from pathlib import Path
import statistics
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium import spaces
import numpy as np
import torch

from benchmarks.harness import Limit, Program, check_least, in_turns, serve
from td3_agent.driving.memory import keep_freed_memory
from td3_agent.td3.learner import Learner, prepare_learner_thread
from td3_agent.td3.params import Td3Params
from td3_agent.td3.replay import ReplayBuffer
from td3_agent.td3.transitions import ObservationShape, Observed
from td3_agent.training.params import TrainParams
from td3_agent.training.trainer import Trainer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

PENDULUM, RUN_STEPS, RUN_TURNS = 'pendulum', 3000, 3  # steps of a run, runs of each learner
IMAGES = ObservationShape(state_size=0, image_shape=(4, 84, 84), frame_stack=4)
PATIENCE_S = 3600.0
OURS, SB3, SBX = 'td3_agent', 'stable_baselines3', 'sbx'


@dataclass(frozen=True, kw_only=True)
class Case:
    """What both learners are given.

    Attributes:
        shape: sizes of an observation.
        actions: numbers in an action.
        batch: transitions per update.
        stored: transitions in the buffer.
        updates: per turn.
        policy: Stable-Baselines3's networks; its hidden layers are 256-256 like ours.
        settings: of our networks, where they are not the default.
        least: ratio that must be reached, 0 where there is none.
    """

    shape: ObservationShape
    actions: int
    batch: int
    stored: int
    updates: int
    policy: str
    settings: dict[str, Any] = field(default_factory=dict)
    least: float = 0.0


CASES = {
    # The sizes of HalfCheetah.
    'vector': Case(
        shape=ObservationShape(state_size=17),
        actions=6,
        batch=256,
        stored=10_000,
        updates=20,
        policy='MlpPolicy',
        least=1.5,
    ),
    # The encoder that each comes with: theirs is that of Mnih et al. 2015.
    'image': Case(
        shape=IMAGES,
        actions=2,
        batch=128,
        stored=1000,
        updates=2,
        policy='CnnPolicy',
        least=5.0,
    ),
    'image_same_encoder': Case(
        shape=IMAGES,
        actions=2,
        batch=128,
        stored=1000,
        updates=2,
        policy='CnnPolicy',
        settings={'encoder': 'nature', 'features': 512},
    ),
}


class Stream(gymnasium.Env[Any, Any]):
    """A seeded stream of observations; the same for both."""

    def __init__(self, shape: ObservationShape, actions: int) -> None:
        """Make the spaces."""
        image = shape.image_shape
        self.observation_space = (
            spaces.Box(-np.inf, np.inf, (shape.state_size,), np.float32)
            if image is None
            else spaces.Box(0, 255, image, np.uint8)
        )
        self.action_space = spaces.Box(-1.0, 1.0, (actions,), np.float32)
        self._rng = np.random.default_rng(0)
        self._image: NDArray[np.uint8] = np.zeros(image or (0,), np.uint8)

    def observe(self, *, first: bool) -> NDArray[Any]:
        """Return the next observation; images are moved on by one frame."""
        if self._image.size == 0:
            return self._rng.normal(size=self.observation_space.shape).astype(np.float32)
        frame = self._rng.integers(0, 256, (1, *self._image.shape[1:]), dtype=np.uint8)
        kept = np.repeat(frame, len(self._image) - 1, axis=0) if first else self._image[1:]
        self._image = np.concatenate((kept, frame))
        return self._image


def ours(case: Case) -> Callable[[int], None]:
    """Return a function that makes that many updates with this package's learner."""
    keep_freed_memory()  # as a training run does
    shape, actions = case.shape, case.actions
    params = Td3Params(batch_size=case.batch, **case.settings)
    learner = Learner(params, shape, (-1.0,) * actions, (1.0,) * actions, seed=0)
    buffer = ReplayBuffer(shape, actions, capacity=case.stored + 1, seed=0)
    stream = Stream(shape, actions)
    no_state = np.zeros(0, np.float32)

    def observed(*, first: bool) -> Observed:
        seen = stream.observe(first=first)
        return Observed(seen) if shape.image_shape is None else Observed(no_state, seen)

    buffer.begin(observed(first=True))
    for action in np.random.default_rng(1).uniform(-1.0, 1.0, (case.stored, actions)):
        buffer.add(action, 0.1, observed(first=False), terminated=False, truncated=False)

    def update(count: int) -> None:
        for _ in range(count):
            learner.update(learner.batch(buffer.sample(case.batch)))

    return update


def theirs(algorithm: Any, case: Case) -> Callable[[int], None]:  # noqa: ANN401  a class of either
    """Return the same for Stable-Baselines3's or SBX's algorithm."""
    from stable_baselines3.common.logger import Logger  # noqa: PLC0415  needed here alone

    stream = Stream(case.shape, case.actions)
    model = algorithm(
        case.policy,
        stream,
        batch_size=case.batch,
        buffer_size=case.stored,
        learning_rate=3e-4,
        policy_kwargs={'net_arch': [256, 256]},
        device='cpu',
    )
    model.set_logger(Logger(None, []))
    before = stream.observe(first=True)
    reward, done = np.array([0.1]), np.array([False])
    for action in np.random.default_rng(1).uniform(-1.0, 1.0, (case.stored, 1, case.actions)):
        after = stream.observe(first=False)
        model.replay_buffer.add(before[None], after[None], action, reward, done, [{}])
        before = after

    def update(count: int) -> None:
        for _ in range(count):  # one by one, as between steps
            model.train(1, case.batch)

    return update


def our_run(steps: int) -> None:
    """Train on Pendulum-v1 with this package, as ``td3_agent train`` does."""
    td3 = Td3Params(buffer_capacity=steps + 1000)
    train = TrainParams(steps=steps, eval_every=0, snapshot_every=0, device='cpu')
    with tempfile.TemporaryDirectory() as folder:
        Trainer(('Pendulum-v1',), td3, train, Path(folder) / 'run').run()


def their_run(algorithm: Any, steps: int) -> None:  # noqa: ANN401  as above
    """Train on Pendulum-v1 with theirs and the same settings."""
    from stable_baselines3.common.noise import NormalActionNoise  # noqa: PLC0415  as above

    params = Td3Params()
    model = algorithm(
        'MlpPolicy',
        'Pendulum-v1',
        learning_rate=params.actor_lr,
        buffer_size=steps + 1000,
        learning_starts=params.start_steps,
        batch_size=params.batch_size,
        action_noise=NormalActionNoise(np.zeros(1), np.full(1, params.exploration_noise)),
        policy_kwargs={'net_arch': [params.hidden_units] * params.hidden_layers},
        device='cpu',
    )
    model.learn(steps)


def worker(side: str, name: str) -> Callable[[int], None]:
    """Return what a side does for a case, or for the Pendulum run."""
    if side == OURS:
        return our_run if name == PENDULUM else ours(CASES[name])
    algorithm = import_module(side).TD3
    if name == PENDULUM:
        return partial(their_run, algorithm)
    return theirs(algorithm, CASES[name])


def compare(name: str, count: int, turns: int, unit: str) -> dict[str, float]:
    """Return the median rates of all sides and the medians of the ratios.

    Args:
        name: of the case, or the Pendulum run.
        count: updates or steps of a turn.
        turns: of each side, after one to warm up.
        unit: of the rates.
    """
    has_images = name in CASES and CASES[name].shape.image_shape is not None
    sides = [OURS, SB3]
    if not has_images and find_spec(SBX) is not None:
        sides.append(SBX)
    with ExitStack() as stack:
        programs = [
            stack.enter_context(Program('benchmarks.learner', name, side, environment=os.environ))
            for side in sides
        ]
        for program in programs:
            program.ask(str(min(count, Td3Params().start_steps + 10)), PATIENCE_S)
        asked = (partial(program.ask, str(count), PATIENCE_S) for program in programs)
        rounds = zip(*in_turns(turns, *asked), strict=True)
        return ratios([tuple(answer['rate'] for answer in answers) for answers in rounds], unit)


def ratios(rounds: list[tuple[float, ...]], unit: str) -> dict[str, float]:
    """Return the medians of all sides, and of the ratios round by round.

    Args:
        rounds: rates of this package, Stable-Baselines3 and, if it took part, SBX.
        unit: of the rates.
    """
    mine, *others = zip(*rounds, strict=True)
    figures = {unit: statistics.median(mine)}
    for (prefix, ratio), rates in zip((('sb3', 'ratio'), ('sbx', 'sbx_ratio')), others):  # noqa: B905
        figures[f'{prefix}_{unit}'] = statistics.median(rates)
        figures[ratio] = statistics.median(a / b for a, b in zip(mine, rates, strict=True))
    return figures


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=30, help='turns of each learner')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is not positive, or Stable-Baselines3 is not installed.
    """
    check_least(args, turns=1)
    if find_spec(SB3) is None:
        raise ValueError(
            'stable-baselines3 is not installed: pip install -r requirements/bench.in'
        )
    figures = {
        name: compare(name, case.updates, args.turns, 'updates_per_s')
        for name, case in CASES.items()
    }
    figures[PENDULUM] = compare(PENDULUM, RUN_STEPS, RUN_TURNS, 'steps_per_s')
    versions = {'torch': torch.__version__, 'stable_baselines3': version('stable_baselines3')}
    if find_spec(SBX) is not None:
        versions[SBX] = version('sbx-rl')
    return {'versions': versions, 'threads': 1, 'cases': figures}


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return what the ratios must be."""
    return [
        Limit(f'{name}: times as fast', figures['ratio'], least=CASES[name].least)
        for name, figures in report['cases'].items()
        if name in CASES
    ]


def work(name: str, side: str) -> None:
    """Do as much as is asked for; answer with the rate by the process's own time [1/s]."""
    prepare_learner_thread(1) if side == OURS else torch.set_num_threads(1)
    do = worker(side, name)

    def timed(count: int) -> dict[str, float]:
        start_s = time.process_time()
        do(count)
        return {'rate': count / (time.process_time() - start_s)}

    serve(timed)


if __name__ == '__main__':
    work(sys.argv[1], sys.argv[2])

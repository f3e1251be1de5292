# SPDX-License-Identifier: Apache-2.0
"""Training speed beside Stable-Baselines3's TD3: updates/s, and steps/s of a whole run.

Each in a process of its own, on one thread, in turns, on the same data and with sampling
included; a ratio is the median over the turns. Rates count a process's own time: on a machine
with nothing else to do, that is the time. Needs stable-baselines3, which the package itself does
not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
import multiprocessing
from pathlib import Path
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium import spaces
import numpy as np
import torch
from tqdm import tqdm

from td3_agent.driving.memory import keep_freed_memory
from td3_agent.td3.learner import Learner
from td3_agent.td3.params import Td3Params
from td3_agent.td3.replay import ObservationShape, Observed, ReplayBuffer
from td3_agent.training.params import TrainParams
from td3_agent.training.trainer import Trainer

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from multiprocessing.connection import Connection

    from numpy.typing import NDArray

PENDULUM = 'pendulum'
IMAGES = ObservationShape(state_size=0, image_shape=(4, 84, 84), frame_stack=4)


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


def theirs(case: Case) -> Callable[[int], None]:
    """Return the same for Stable-Baselines3."""
    from stable_baselines3 import TD3  # noqa: PLC0415  needed here alone
    from stable_baselines3.common.logger import Logger  # noqa: PLC0415  as above

    stream = Stream(case.shape, case.actions)
    model = TD3(
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
    return lambda count: model.train(count, case.batch)


def our_run(steps: int) -> None:
    """Train on Pendulum-v1 with this package, as ``td3_agent train`` does."""
    td3 = Td3Params(buffer_capacity=steps + 1000)
    train = TrainParams(steps=steps, eval_every=0, snapshot_every=0, device='cpu')
    with tempfile.TemporaryDirectory() as folder:
        Trainer(('Pendulum-v1',), td3, train, Path(folder) / 'run').run()


def their_run(steps: int) -> None:
    """Train on Pendulum-v1 with Stable-Baselines3 and the same settings."""
    from stable_baselines3 import TD3  # noqa: PLC0415  needed here alone
    from stable_baselines3.common.noise import NormalActionNoise  # noqa: PLC0415  as above

    params = Td3Params()
    model = TD3(
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


class Worker:
    """A process that does some work again and again, when asked."""

    def __init__(self, make: Callable[[], Callable[[int], None]]) -> None:
        """Start it; ``make`` goes there and returns the work."""
        context = multiprocessing.get_context('spawn')  # each begins with a fresh torch
        self._pipe, pipe = context.Pipe()
        self._process = context.Process(target=work, args=(make, pipe), daemon=True)
        self._process.start()
        pipe.close()

    def rate(self, count: int) -> float:
        """Return how much of ``count`` is done per second of the process's own time [1/s].

        Raises:
            EOFError: the process has ended; it has said why.
        """
        self._pipe.send(count)
        return float(self._pipe.recv())

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def work(make: Callable[[], Callable[[int], None]], pipe: Connection[Any, Any]) -> None:
    """Do as much as is asked for and answer with the rate; what a worker's process does."""
    torch.set_num_threads(1)
    do = make()
    try:
        while True:
            count = pipe.recv()
            start_s = time.process_time()
            do(count)
            pipe.send(count / (time.process_time() - start_s))
    except EOFError:
        return


def compare(mine: Worker, other: Worker, count: int, turns: int, unit: str) -> dict[str, float]:
    """Return the median rates of both and the median of their ratios, in turns.

    Who begins changes from turn to turn, so that a machine that slows down favours neither.
    """
    pairs = []
    for turn in tqdm(range(turns), unit='turn', disable=None, leave=False):
        both = (mine, other) if turn % 2 == 0 else (other, mine)
        rates = [worker.rate(count) for worker in both]
        pairs.append(rates if turn % 2 == 0 else rates[::-1])
    return {
        unit: statistics.median(pair[0] for pair in pairs),
        f'sb3_{unit}': statistics.median(pair[1] for pair in pairs),
        'ratio': statistics.median(pair[0] / pair[1] for pair in pairs),
    }


def compare_updates(case: Case, turns: int) -> dict[str, float]:
    """Return the rates of updates, after a turn of each to warm up."""
    mine, other = Worker(partial(ours, case)), Worker(partial(theirs, case))
    for worker in (mine, other):
        worker.rate(case.updates)
    figures = compare(mine, other, case.updates, turns, 'updates_per_s')
    for worker in (mine, other):
        worker.close()
    return figures


def compare_runs(steps: int, runs: int) -> dict[str, float]:
    """Return the rates of whole runs, after a short one of each to warm up."""
    mine, other = Worker(partial(_same, our_run)), Worker(partial(_same, their_run))
    for worker in (mine, other):
        worker.rate(Td3Params().start_steps + 10)
    figures = compare(mine, other, steps, runs, 'steps_per_s')
    for worker in (mine, other):
        worker.close()
    return figures


def _same(run: Callable[[int], None]) -> Callable[[int], None]:
    return run


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=30, help='turns of each learner')
    parser.add_argument(
        '--case', action='append', choices=(*CASES, PENDULUM), help='only this one, or these'
    )
    parser.add_argument('--run-steps', type=int, default=3000, help='steps of a Pendulum run')
    parser.add_argument('--runs', type=int, default=3, help='Pendulum runs of each')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures.

    Raises:
        ValueError: an argument is not positive, or Stable-Baselines3 is not installed.
    """
    for name in ('turns', 'run_steps', 'runs'):
        if getattr(args, name) < 1:
            raise ValueError(f'{name} must be >= 1, got {getattr(args, name)}')
    if find_spec('stable_baselines3') is None:
        raise ValueError(
            'stable-baselines3 is what this compares with, and it is not installed: '
            'pip install stable-baselines3'
        )
    import stable_baselines3  # noqa: PLC0415  not everywhere there

    figures = {}
    for name in args.case or (*CASES, PENDULUM):
        if name == PENDULUM:
            figures[name] = compare_runs(args.run_steps, args.runs)
        else:
            figures[name] = compare_updates(CASES[name], args.turns)
    versions = {'torch': torch.__version__, 'stable_baselines3': stable_baselines3.__version__}
    return {'versions': versions, 'threads': 1, 'cases': figures}


def table(report: dict[str, Any]) -> str:
    """Return the figures as lines of text."""
    lines = [f'{"case":<20}{"per second":>12}{"SB3":>10}{"ratio":>8}']
    for name, figures in report['cases'].items():
        mine, other, ratio = figures.values()
        lines.append(f'{name:<20}{mine:>12.1f}{other:>10.1f}{ratio:>8.2f}')
    return '\n'.join(lines)


def shortfalls(report: dict[str, Any]) -> list[str]:
    """Return a sentence for each ratio that is too small."""
    return [
        f'{name} is {figures["ratio"]:.2f} times as fast, expected >= {CASES[name].least}'
        for name, figures in report['cases'].items()
        if name in CASES and figures['ratio'] < CASES[name].least
    ]

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Training by workers of Ray: what 1, 2, 4 of them bring, and what goes over the wire.

For each number of workers two runs of a driving task, measured once their workers are warm: one
that stores the steps, and one that trains with them. Beside it what each part does alone, by its
process's own time: a worker's steps, storing fragments, the learner's updates. Needs Ray.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, replace
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
import pickle
import tempfile
import time
from typing import TYPE_CHECKING, Any

import gymnasium
import torch
from tqdm import tqdm

from benchmarks.harness import check_least
from td3_agent.envs import with_module
from td3_agent.files import shared_path
from td3_agent.td3.learner import Learner
from td3_agent.td3.params import Td3Params
from td3_agent.td3.replay import ReplayBuffer
from td3_agent.training.params import LOCAL, RayParams, TrainParams
from td3_agent.training.rollouts import RolloutWorker, WorkerConfig
from td3_agent.training.spaces import TaskSpaces
from td3_agent.training.train import params_of, settings_of
from td3_agent.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = 'config/train_lane.yaml'
STORE, TRAIN = 'store', 'train'  # what a run does with the steps
WARM_FRAGMENTS = 3  # of each worker


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument(
        '--workers',
        type=int,
        nargs='+',
        default=[1, 2, 4],
        metavar='N',
        help='of each pair of runs',
    )
    parser.add_argument('--seconds', type=float, default=30.0, help='that each run is measured')
    parser.add_argument('--fragments', type=int, default=40, help='of the parts alone')
    parser.add_argument('--updates', type=int, default=300, help='of the learner alone')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; ValueError if an argument is not positive, or Ray is not installed."""
    check_least(args, seconds=1e-3, fragments=1, updates=1)
    if min(args.workers) < 1:
        raise ValueError(f'--workers must be >= 1, got {min(args.workers)}')
    if find_spec('ray') is None:
        raise ValueError('Ray is not installed: pip install -r requirements/ray.in')
    from td3_agent.training.ray_session import ray_session  # noqa: PLC0415  not everywhere there

    settings = settings_of(argparse.Namespace(config=shared_path(CONFIG)))
    ray = RayParams()
    alone = parts(settings, ray, args.fragments, args.updates)
    runs = {}
    with ray_session(LOCAL, max(args.workers)):
        for workers in tqdm(args.workers, unit='pair', disable=None, leave=False):
            runs[str(workers)] = {
                kind: run(settings, replace(ray, workers=workers), kind, args.seconds)
                for kind in (STORE, TRAIN)
            }
    return {
        'versions': {'torch': torch.__version__, 'ray': metadata.version('ray')},
        'env': settings['env'][0],
        'batch_size': settings['batch_size'],
        'updates_per_step': settings['updates_per_step'],
        'ray': {name: value for name, value in asdict(ray).items() if name != 'workers'},
        'parts': alone,
        'runs': runs,
    }


def run(settings: dict[str, Any], ray: RayParams, kind: str, seconds: float) -> dict[str, float]:
    """Return the rates of a run in a session of Ray."""
    warm = WARM_FRAGMENTS * ray.fragment_steps * ray.workers
    td3 = replace(params_of(settings, Td3Params), start_steps=warm)
    if kind == STORE:
        td3 = replace(td3, updates_per_step=0.0)
    train = TrainParams(steps=1 << 30, eval_every=0, snapshot_every=0, device='cpu')
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(tuple(settings['env']), td3, train, Path(folder) / 'run', ray)
        try:
            trainer.begin()
            while trainer.step < 2 * warm:
                trainer.round()
            return _rates(trainer, seconds)
        finally:
            trainer.close()


def _rates(trainer: Trainer, seconds: float) -> dict[str, float]:
    """Return steps and updates per second of a training that is under way."""
    steps, updates, begun_s = trainer.step, trainer.learner.updates, time.monotonic()
    own_s = time.process_time()
    while time.monotonic() - begun_s < seconds:
        trainer.round()
    passed_s, steps = time.monotonic() - begun_s, trainer.step - steps
    return {
        'steps_per_s': steps / passed_s,
        'updates_per_s': (trainer.learner.updates - updates) / passed_s,
        'learner_cpu_share': (time.process_time() - own_s) / passed_s,
    }


def parts(
    settings: dict[str, Any], ray: RayParams, fragments: int, updates: int
) -> dict[str, float]:
    """Return what worker, buffer and learner do alone, on one thread, and how much is sent."""
    torch.set_num_threads(1)
    td3 = params_of(settings, Td3Params)
    env_id = settings['env'][0]
    env = gymnasium.make(with_module(env_id))
    spaces = TaskSpaces.of(env)
    env.close()
    low, high = (tuple(float(x) for x in side) for side in (spaces.low, spaces.high))
    learner = Learner(td3, spaces.shape, low, high, seed=0)
    policy = learner.policy_weights()
    worker = RolloutWorker(
        WorkerConfig(
            env_id=env_id,
            spaces=spaces,
            actor=learner.actor.config,
            td3=td3,
            seed=0,
            number=0,
            steps=ray.fragment_steps,
            random_steps=td3.start_steps,
        )
    )
    buffer = ReplayBuffer(spaces.shape, len(low), capacity=td3.buffer_capacity, seed=0)
    collect = partial(worker.collect, policy, 0, td3.start_steps)  # past the random actions
    sent = [pickle.dumps(collect(), protocol=5)]  # the first loads roads
    steps_per_s = rate(fragments, lambda: sent.append(pickle.dumps(collect(), protocol=5)))
    arrived = iter(sent)
    stored_per_s = rate(len(sent), lambda: buffer.extend(pickle.loads(next(arrived)).steps))  # noqa: S301  our own
    sample = partial(buffer.sample, td3.batch_size)
    learner.update(learner.batch(sample()))
    return {
        'worker_steps_per_s': steps_per_s * ray.fragment_steps,
        'stored_steps_per_s': stored_per_s * ray.fragment_steps,
        'updates_per_s': rate(updates, lambda: learner.update(learner.batch(sample()))),
        'bytes_per_step': sum(map(len, sent)) / buffer.transitions,
        'policy_bytes': policy.nbytes,
    }


def rate(count: int, do: Callable[[], object]) -> float:
    """Return how often per second of this process's own time something is done [1/s]."""
    begun_s = time.process_time()
    for _ in range(count):
        do()
    return count / (time.process_time() - begun_s)

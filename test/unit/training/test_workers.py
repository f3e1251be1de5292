# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Environments in processes of their own: side by side, of different kinds, and mortal."""

from functools import partial
import os
from pathlib import Path
import time

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from td3_agent.td3.params import Td3Params  # noqa: E402
from td3_agent.training import envs  # noqa: E402
from td3_agent.training.params import TrainParams  # noqa: E402
from td3_agent.training.trainer import Trainer  # noqa: E402

STEPS = 12  # of an episode of these environments
TD3 = {'hidden_units': 8, 'batch_size': 4, 'start_steps': 4, 'buffer_capacity': 200}


@pytest.fixture(autouse=True)
def importable(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setenv('WORKER_ENVS_FOLDER', str(tmp_path))


def trained(names, steps, out):
    train = TrainParams(steps=steps, eval_every=0, snapshot_every=0, device='cpu', processes=True)
    env_ids = tuple(f'worker_envs:{name}-v0' for name in names)
    trainer = Trainer(env_ids, Td3Params(**TD3), train, out / 'run')
    return trainer, trainer.run()


@pytest.mark.slow
def test_different_environments_work_at_the_same_time(tmp_path, monkeypatch):
    """They wait for each other, so one after the other would never end."""
    monkeypatch.setattr(envs, 'PATIENCE_S', 60.0)
    for step in range(STEPS):
        os.mkfifo(tmp_path / f'step_{step}')
    trainer, summary = trained(('Left', 'Right'), 2 * STEPS, tmp_path)
    assert summary['failures'] == 0
    sample = trainer.buffer.sample(500)
    assert set(np.unique(sample.state[:, 0])) == {1.0, 2.0}
    assert (sample.state[:, :2] == sample.next_state[:, :2]).all()


@pytest.mark.slow
def test_death_of_a_process_costs_one_step_of_its_own_episode(tmp_path):
    trainer, summary = trained(('Mortal', 'Counting'), 40, tmp_path)
    assert (summary['failures'], summary['step']) == (1, 40)
    assert trainer.buffer.transitions == 39
    stored = trainer.buffer.states()
    assert (stored[:, 0] == 0.0).sum() == 20  # the other one has lost nothing
    sample = trainer.buffer.sample(500)
    assert (sample.state[:, :2] == sample.next_state[:, :2]).all()  # nor do episodes mix
    assert (sample.state[:, 2] + 1 == sample.next_state[:, 2]).all()


def closed_in_s(name):
    """How long it takes to close a worker process with such an environment [s]."""
    port = envs.ProcessEnv(partial(gymnasium.make, f'closing_envs:{name}-v0'))
    port.send('reset', 0)
    port.receive()
    port.send('step', np.zeros(1, np.float32))  # whose result is never received
    started_s = time.monotonic()
    port.close()
    return time.monotonic() - started_s


@pytest.mark.slow
def test_a_process_closes_its_environment_at_its_end(tmp_path):
    closed_in_s('Closing')
    assert (tmp_path / 'closed').exists()


@pytest.mark.slow
def test_a_process_that_comes_to_no_end_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(envs, 'CLOSING_S', 5.0)
    assert 5.0 <= closed_in_s('Stuck') < 60.0
    assert (tmp_path / 'closed').exists()

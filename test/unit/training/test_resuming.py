# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A run resumes to the last bit, wherever it was stopped."""

from dataclasses import asdict, replace
import json
import os
from pathlib import Path
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from harness.training_runs import IDENTITY, SHORT, SPOT, TINY, fingerprint, rows, trainer_of  # noqa: E402

from td3_agent.__main__ import main  # noqa: E402
from td3_agent.policy.checkpoint import load_checkpoint  # noqa: E402
from td3_agent.td3.params import Td3Params  # noqa: E402
from td3_agent.td3.snapshot import snapshots  # noqa: E402
from td3_agent.training.params import TrainParams  # noqa: E402
from td3_agent.training.train import trained  # noqa: E402
from td3_agent.training.trainer import Trainer  # noqa: E402

ROOT = Path(__file__).parents[3]


class KillError(BaseException):
    """Stands for the end of the process: nothing in the program expects it."""


def killed_at(trainer, step):
    """Run a trainer until its process, so to speak, is killed at a step."""
    take = trainer.round

    def take_or_die():
        if trainer.step >= step:
            raise KillError
        take()

    trainer.round = take_or_die
    with pytest.raises(KillError):
        trainer.run()


@pytest.mark.parametrize('env', [IDENTITY, SPOT])
@pytest.mark.parametrize('killed', [3, 15, 38, 50])  # no snapshot; learning or not; mid-episode
def test_resumed_run_is_the_uninterrupted_one(env, killed, tmp_path):
    whole = trainer_of(tmp_path / 'whole', env, snapshot_every=7)
    whole.run()
    killed_at(trainer_of(tmp_path / 'cut', env, snapshot_every=7), killed)
    second = trainer_of(tmp_path / 'cut', env, snapshot_every=7)
    assert second.run(resume=True)['exact']
    assert fingerprint(second) == fingerprint(whole)
    for name in ('progress.csv', 'eval.csv'):
        assert rows(tmp_path / 'cut' / name) == rows(tmp_path / 'whole' / name)
    policies = [
        load_checkpoint(tmp_path / run / 'best.safetensors')[1] for run in ('cut', 'whole')
    ]
    assert policies[0].weights_sha256 == policies[1].weights_sha256


def interrupted_at(trainer, step, number, times=1):
    """Run a trainer that is sent a signal, so many times, in the round that begins at a step."""
    take = trainer.round

    def take_and_be_told():
        if trainer.step == step:
            for _ in range(times):
                signal.raise_signal(number)
        take()

    trainer.round = take_and_be_told
    with pytest.raises(KeyboardInterrupt):
        trainer.run()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_keeps_every_step(number, tmp_path):
    whole = trainer_of(tmp_path / 'whole', snapshot_every=1000)
    whole.run()
    interrupted_at(trainer_of(tmp_path / 'cut', snapshot_every=1000), 23, number)
    assert [p.name for p in snapshots(tmp_path / 'cut' / 'snapshots')] == ['step_0000000024']
    second = trainer_of(tmp_path / 'cut', snapshot_every=1000)
    assert second.run(resume=True)['exact']
    assert fingerprint(second) == fingerprint(whole)


def test_run_that_is_interrupted_in_its_first_evaluation_ends_after_it(tmp_path, monkeypatch):
    trainer = trainer_of(tmp_path, snapshot_every=1000)
    evaluate = trainer._evaluate

    def evaluate_and_be_told():
        signal.raise_signal(signal.SIGTERM)
        evaluate()

    monkeypatch.setattr(trainer, '_evaluate', evaluate_and_be_told)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    assert (trainer.step, len(rows(tmp_path / 'eval.csv'))) == (0, 1)
    assert trainer_of(tmp_path, snapshot_every=1000).run(resume=True)['exact']


def test_run_that_is_interrupted_twice_ends_at_once(tmp_path):
    interrupted_at(trainer_of(tmp_path, snapshot_every=1000), 23, signal.SIGINT, times=2)
    assert not snapshots(tmp_path / 'snapshots')


def test_interrupted_run_without_snapshots_leaves_none(tmp_path):
    interrupted_at(trainer_of(tmp_path, snapshot_every=0), 23, signal.SIGINT)
    assert not (tmp_path / 'snapshots').exists()


def test_finished_run_can_be_made_longer(tmp_path):
    first = trainer_of(tmp_path / 'run', steps=25, eval_every=10).run()
    (tmp_path / 'run' / 'summary.json').write_text('{}')
    longer = trainer_of(tmp_path / 'run', steps=40, eval_every=10).run(resume=True)
    assert (first['step'], longer['step']) == (25, 40)
    assert not (tmp_path / 'run' / 'summary.json').exists()  # no outcome of a shorter run
    steps = [int(row['step']) for row in rows(tmp_path / 'run' / 'eval.csv')]
    assert steps == [0, 10, 20, 25, 30, 40]  # the last policy is evaluated, whatever its step
    again = trainer_of(tmp_path / 'run', steps=40, eval_every=10).run(resume=True)
    assert again['last_return'] == longer['last_return']
    assert len(rows(tmp_path / 'run' / 'eval.csv')) == len(steps)


def test_run_that_has_come_to_its_end_keeps_its_summary(tmp_path):
    settings = (IDENTITY,), Td3Params(**TINY), TrainParams(**SHORT)
    first = trained(*settings, tmp_path)
    text = (tmp_path / 'summary.json').read_text()
    assert trained(*settings, tmp_path, resume=True) == first
    assert (tmp_path / 'summary.json').read_text() == text
    env_ids, td3, train = settings
    with pytest.raises(ValueError, match=r'cannot resume .*: tau was 0.005, now 0.1'):
        trained(env_ids, replace(td3, tau=0.1), train, tmp_path, resume=True)
    assert trained(env_ids, td3, replace(train, steps=70), tmp_path, resume=True)['step'] == 70


@pytest.mark.slow
@pytest.mark.parametrize('env', [IDENTITY, SPOT])
def test_killed_process_resumes_to_the_last_bit(env, tmp_path):
    """SIGKILL of a real process, anywhere after its second snapshot."""
    out = tmp_path / 'cut'
    options = [f'--{name.replace("_", "-")}={value}' for name, value in TINY.items()]
    options += ['--steps=1000000', '--snapshot-every=20', '--log-every=1', '--device=cpu']
    path = os.pathsep.join([str(ROOT), *sys.path])
    process = subprocess.Popen(
        [sys.executable, '-m', 'td3_agent', 'train', '--env', env, '--out', str(out), *options],
        env=os.environ | {'PYTHONPATH': path},
    )
    step = random.Random(env).randrange(41, 100)
    deadline = time.monotonic() + 120.0
    table = out / 'progress.csv'
    while not (table.exists() and table.read_bytes().count(b'\n') > step):
        assert time.monotonic() < deadline
        with pytest.raises(subprocess.TimeoutExpired):  # it goes on, and is given the time to
            process.wait(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    steps = int(snapshots(out / 'snapshots')[-1].name.removeprefix('step_')) + 30
    train = {'steps': steps, 'snapshot_every': 20, 'log_every': 1, 'device': 'cpu'}
    fingerprints = []
    for run in ('whole', 'cut'):
        trainer = Trainer((env,), Td3Params(**TINY), TrainParams(**train), tmp_path / run)
        assert trainer.run(resume=run == 'cut')['exact']
        fingerprints.append(fingerprint(trainer))
    assert fingerprints[0] == fingerprints[1]
    assert rows(tmp_path / 'cut' / 'progress.csv') == rows(tmp_path / 'whole' / 'progress.csv')


class Forgetful(gymnasium.Env):
    """Depends on something that a seed does not bring back."""

    observation_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    made = 0

    def __init__(self):
        type(self).made += 1

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        return np.array([self.made / 100.0], np.float32), {}

    def step(self, action):
        return np.array([self.made / 100.0], np.float32), float(action[0]), False, False, {}


def test_environment_that_does_not_repeat_itself_is_told(tmp_path, caplog):
    gymnasium.register('Forgetful-v0', entry_point=Forgetful)
    try:
        trainer_of(tmp_path / 'run', 'Forgetful-v0', snapshot_every=20).run()
        again = trainer_of(tmp_path / 'run', 'Forgetful-v0', snapshot_every=20, steps=80)
        assert not again.run(resume=True)['exact']
        assert 'does not repeat itself' in caplog.text
    finally:
        del gymnasium.registry['Forgetful-v0']


def test_other_settings_are_rejected(tmp_path):
    trainer_of(tmp_path / 'run', snapshot_every=20).run()
    with pytest.raises(ValueError, match=r'already holds a run; see --resume'):
        trainer_of(tmp_path / 'run').run()
    other = trainer_of(tmp_path / 'run', td3=TINY | {'tau': 0.1}, snapshot_every=20, seed=3)
    with pytest.raises(ValueError, match=r'tau was 0.005, now 0.1; seed was 0, now 3'):
        other.run(resume=True)


def test_resuming_needs_no_more_than_the_folder(tmp_path, capsys):
    out = tmp_path / 'run'
    Trainer((IDENTITY,), Td3Params(**TINY), TrainParams(**SHORT), out).run()
    steps = SHORT['steps'] + 10
    with pytest.raises(SystemExit) as ended:
        main(['train', '--resume', '--out', str(out), '--steps', str(steps)])
    assert ended.value.code == 0
    assert 'best_return' in capsys.readouterr().out
    config = json.loads((out / 'config.json').read_text())
    assert config['td3'] == asdict(Td3Params(**TINY))
    assert json.loads((out / 'summary.json').read_text())['step'] == steps


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        (None, 'holds no run to resume'),
        ('{', 'config.json cannot be read'),
    ],
)
def test_resuming_what_is_no_run_is_one_sentence(text, said, tmp_path, capsys):
    if text is not None:
        (tmp_path / 'config.json').write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(['train', '--resume', '--out', str(tmp_path)])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err

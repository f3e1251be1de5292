# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Training as a whole: it learns, every setting counts, and a seed is all its randomness."""

from dataclasses import asdict, fields, replace
import json
from pathlib import Path
import random
import signal
import threading

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from harness.training_runs import IDENTITY, SHORT, SPOT, TINY, fingerprint, rows, trainer_of  # noqa: E402

from td3_agent.__main__ import main  # noqa: E402
from td3_agent.policy.manifest import SMOOTHING  # noqa: E402
from td3_agent.policy.policy_file import policy_file, read_policy  # noqa: E402
from td3_agent.td3.learner import Learner  # noqa: E402
from td3_agent.td3.params import Td3Params  # noqa: E402
from td3_agent.td3.replay import ReplayBuffer  # noqa: E402
from td3_agent.td3.snapshot import snapshots  # noqa: E402
from td3_agent.training.envs import (  # noqa: E402
    LARGEST_FAILURES,
    EnvFailureError,
    Episodes,
    LocalEnv,
)
from td3_agent.training.params import TrainParams  # noqa: E402
from td3_agent.training.tasks import Spot  # noqa: E402
from td3_agent.training.trainer import Trainer  # noqa: E402

ROOT = Path(__file__).parents[3]
ADVISED, UNPAID = 'AdvisedSpot-v0', 'UnpaidSpot-v0'


class AdvisedSpot(Spot):
    """The task of the spot, with the right answer as the expert's."""

    def __init__(self, pay=1.0):
        super().__init__()
        expert = gymnasium.spaces.Box(-1.0, 1.0, (1,))
        self.observation_space = gymnasium.spaces.Dict(
            {**self.observation_space.spaces, 'expert': expert}
        )
        self.pay = pay

    def step(self, action):
        observed, reward, *others = super().step(action)
        return observed, self.pay * reward, *others

    def _observed(self):
        return super()._observed() | {'expert': np.array([self._column], np.float32)}


gymnasium.register(id=ADVISED, entry_point=AdvisedSpot)
gymnasium.register(id=UNPAID, entry_point=AdvisedSpot, kwargs={'pay': 0.0})


# ---- It learns ---------------------------------------------------------------------------------


def trained_return(env, tmp_path, steps, eval_env='', **td3):
    params = Td3Params(start_steps=200, actor_lr=1e-3, critic_lr=1e-3, hidden_units=64, **td3)
    train = TrainParams(
        steps=steps, eval_env=eval_env, eval_every=steps, device='cpu', snapshot_every=0
    )
    out = tmp_path / 'run'
    summary = Trainer((env,), params, train, out).run()
    first, last = (float(row['return_mean']) for row in rows(out / 'eval.csv'))
    assert last == summary['last_return']
    return first, last


@pytest.mark.slow
def test_identity_is_learned(tmp_path):
    before, after = trained_return(IDENTITY, tmp_path, 800, batch_size=64, discount=0.5)
    assert before < -4.0
    assert after > -0.3


@pytest.mark.parametrize('critic_input', ['observation', 'privileged'])
@pytest.mark.slow
def test_image_task_is_learned(tmp_path, critic_input):
    settings = {'encoder': 'small_images', 'features': 32, 'discount': 0.0}
    before, after = trained_return(
        SPOT, tmp_path, 1200, batch_size=64, critic_input=critic_input, **settings
    )
    assert before < -2.5
    assert after > -0.6


@pytest.mark.slow
def test_expert_teaches_what_no_reward_tells(tmp_path):
    settings = {'encoder': 'small_images', 'features': 32, 'critic_input': 'privileged'}
    before, after = trained_return(
        UNPAID, tmp_path, 1200, ADVISED, batch_size=64, imitation_weight=4.0, **settings
    )
    assert before < -2.5
    assert after > -0.6


# ---- No dead settings --------------------------------------------------------------------------

CHANGED = {
    'discount': 0.5,
    'tau': 0.1,
    'policy_delay': 3,
    'actor_start_updates': 10,
    'target_noise': 0.4,
    'target_noise_clip': 0.05,
    'actor_lr': 1e-2,
    'actor_lr_decay_updates': 5,
    'critic_lr': 1e-2,
    'batch_size': 5,
    'hidden_units': 9,
    'hidden_layers': 2,
    'encoder': 'other',
    'features': 5,
    'still_share': 0.5,
    'tone_share': 0.5,
    'critic_input': 'both',
    'n_step': 3,
    'buffer_capacity': 30,
    'start_steps': 12,
    'updates_per_step': 0.5,
    'exploration_noise': 0.3,
    'exploration_noise_end': 0.3,
    'exploration_decay_steps': 20,
    'exploration_correlation': 0.5,
    'imitation_weight': 1.0,
}


@pytest.fixture(scope='module')
def base_fingerprint(tmp_path_factory):
    trainer = trainer_of(tmp_path_factory.mktemp('base') / 'run', ADVISED)
    trainer.run()
    return fingerprint(trainer)


def test_every_setting_is_tried():
    assert set(CHANGED) == {spec.name for spec in fields(Td3Params)}


@pytest.mark.parametrize('name', CHANGED)
def test_every_setting_makes_a_difference(name, tmp_path, base_fingerprint, monkeypatch):
    monkeypatch.setitem(
        __import__('td3_agent.td3.params', fromlist=['ENCODERS']).ENCODERS, 'other', ((4, 3, 2),)
    )
    if name == 'encoder':
        monkeypatch.setattr('td3_agent.td3.params.Td3Params.__post_init__', lambda _: None)
    trainer = trainer_of(tmp_path / 'run', ADVISED, TINY | {name: CHANGED[name]})
    trainer.run()
    assert fingerprint(trainer) != base_fingerprint


def test_seed_is_the_only_randomness(tmp_path, base_fingerprint):
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002  must have no effect
    same = trainer_of(tmp_path / 'same', ADVISED)
    same.run()
    assert fingerprint(same) == base_fingerprint
    other = trainer_of(tmp_path / 'other', ADVISED, seed=1)
    other.run()
    assert fingerprint(other) != base_fingerprint


def test_environments_step_while_the_learner_updates(tmp_path, monkeypatch):
    steps, at_sample, beside = [], [], []
    changed = threading.Condition()
    receive, sample, update = LocalEnv.receive, ReplayBuffer.sample, Learner.update

    def received(env):
        result = receive(env)
        with changed:
            steps.append(result)
            changed.notify()
        return result

    def sampled(*args, **kwargs):
        at_sample.append(len(steps))
        return sample(*args, **kwargs)

    def updated(learner, batch):
        with changed:
            beside.append(changed.wait_for(lambda: len(steps) > at_sample[len(beside)], 10.0))
        update(learner, batch)

    monkeypatch.setattr(LocalEnv, 'receive', received)
    monkeypatch.setattr(ReplayBuffer, 'sample', sampled)
    monkeypatch.setattr(Learner, 'update', updated)
    trainer_of(tmp_path, steps=20, eval_every=0).run()
    assert len(beside) > 3
    assert all(beside)


def test_looking_changes_nothing(tmp_path):
    """Evaluations, logs and snapshots leave no trace in the training."""
    trainer = trainer_of(tmp_path / 'run', SPOT, eval_every=7, log_every=3, snapshot_every=9)
    trainer.run()
    reference = trainer_of(tmp_path / 'other', SPOT)
    reference.run()
    mine, theirs = (one.state()[0] for one in (trainer, reference))
    assert all(bool((mine[name] == theirs[name]).all()) for name in theirs)


# ---- Beginning with a policy --------------------------------------------------------------------


def test_run_may_begin_with_the_policy_of_another(tmp_path):
    other = trainer_of(tmp_path / 'other', seed=1)
    other.run()
    td3 = TINY | {'actor_start_updates': 10**6}
    begun = trainer_of(
        tmp_path / 'begun',
        td3=td3,
        start_policy=str(tmp_path / 'other/policies/step_0000000060.safetensors'),
    )
    begun.run()
    for mine, theirs in zip(
        begun.learner.actor.parameters(), other.learner.actor.parameters(), strict=True
    ):
        assert (mine == theirs).all()
    first, last = rows(tmp_path / 'begun/eval.csv')[:1], rows(tmp_path / 'other/eval.csv')[-1:]
    assert first[0]['return_mean'] == last[0]['return_mean']


def test_policy_to_begin_with_acts_from_the_first_step(tmp_path):
    trainer_of(tmp_path / 'other').run()
    folder = str(tmp_path / 'other/best.safetensors')
    plain = trainer_of(tmp_path / 'plain')
    begun = trainer_of(tmp_path / 'begun', start_policy=folder)
    for trainer in (plain, begun):
        trainer.run()
    assert fingerprint(plain) != fingerprint(begun)
    assert (plain._random_steps, begun._random_steps) == (10, 0)


def test_policy_of_another_architecture_is_rejected(tmp_path):
    trainer_of(tmp_path / 'other').run()
    wide = TINY | {'hidden_units': 9}
    with pytest.raises(ValueError, match=r'the policy of a warm start must have .*9,.* got .*8,'):
        trainer_of(
            tmp_path / 'wide', td3=wide, start_policy=str(tmp_path / 'other/best.safetensors')
        )


def test_policy_that_saw_other_images_is_rejected(tmp_path):
    params = {'encoder': 'compact', 'features': 128, 'buffer_capacity': 10}
    with pytest.raises(ValueError, match=r'crop_top must be 0\.35, got 0\.0'):
        trainer_of(tmp_path, 'td3_agent/Driving-v0', params, start_policy='lane')


def test_policies_that_ship_may_go_on_over_ros():
    ros_env = pytest.importorskip('td3_agent.evaluation.ros_env', exc_type=ImportError)
    learned = read_policy(policy_file('lane'))[1].inputs
    for env_id in ros_env.BRIDGES.values():
        assert gymnasium.spec(env_id).kwargs['observation'] == learned.image.observation_spec()


# ---- Environments that break -------------------------------------------------------------------


class BrokenServer(gymnasium.Env):
    """A simulator whose server dies at every 13th step."""

    observation_space = gymnasium.spaces.Box(-1e6, 1e6, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        return np.array([1000.0 * self.np_random.integers(1, 1000)], np.float32), {}

    def step(self, action):
        type(self).steps += 1
        if self.steps % 13 == 0:
            raise ConnectionError('server is gone')
        self.at = action
        return np.array([0.0], np.float32), 0.0, False, False, {}


def test_training_survives_a_simulator_that_dies(tmp_path, caplog):
    gymnasium.register('BrokenServer-v0', entry_point=BrokenServer)
    try:
        trainer = trainer_of(tmp_path / 'run', 'BrokenServer-v0', eval_every=0)
        summary = trainer.run()
    finally:
        del gymnasium.registry['BrokenServer-v0']
    assert summary['failures'] == 4
    assert 'server is gone' in caplog.text
    sample = trainer.buffer.sample(500)
    assert (sample.next_state == 0.0).all()  # never the first observation of a later episode
    assert (sample.bootstrap == 1.0).all()


def test_each_failure_of_a_server_to_come_back_is_told(monkeypatch, caplog):
    """A bridge that is not there is waited for, half a minute each time."""
    monkeypatch.setattr(Ruined, 'steps', 13)
    monkeypatch.setattr('time.sleep', lambda _: None)
    with pytest.raises(EnvFailureError, match='server is gone'):
        Episodes(LocalEnv(Ruined), seed=0).begin()
    assert len(caplog.messages) == LARGEST_FAILURES - 1
    for number, said in enumerate(caplog.messages, start=1):
        assert f'attempt {number} of {LARGEST_FAILURES}' in said
        assert 'server is gone' in said


class Ruined(BrokenServer):
    """A simulator whose server dies at the 13th step, for good."""

    def reset(self, *, seed=None, options=None):
        if type(self).steps >= 13:
            raise ConnectionError('server is gone')
        return super().reset(seed=seed, options=options)


class Interrupting(BrokenServer):
    """Somebody presses Ctrl-C at the 13th step."""

    def step(self, action):
        self.steps, self.at = self.steps + 1, action
        if self.steps == 13:
            signal.raise_signal(signal.SIGINT)
        return np.array([0.0], np.float32), 0.0, False, False, {}


@pytest.mark.parametrize(
    ('env', 'status', 'begin', 'every', 'end'),
    [
        (
            Ruined,
            1,
            'td3_agent train: ConnectionError: server is gone; ',
            99,
            '{} continues',
        ),
        (Interrupting, 130, 'interrupted; ', 99, '{} continues'),
        (
            Interrupting,
            130,
            'interrupted; no snapshot was written yet',
            0,
            '{} starts from the beginning',
        ),
    ],
)
def test_run_that_ends_early_says_what_becomes_of_it(  # noqa: PLR0913  what is given and expected
    env, status, begin, every, end, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(env, 'steps', 0)
    gymnasium.register('Ending-v0', entry_point=env)
    try:
        words = [f'--{name.replace("_", "-")}={value}' for name, value in TINY.items()]
        words += ['--eval-every=0', f'--snapshot-every={every}', f'--out={tmp_path / "run"}']
        with pytest.raises(SystemExit) as ended:
            main(['train', '--env=Ending-v0', *words])
    finally:
        del gymnasium.registry['Ending-v0']
    assert ended.value.code == status
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(begin)
    assert last.endswith(end.format(f'--resume --out {tmp_path / "run"}'))
    assert len(snapshots(tmp_path / 'run' / 'snapshots')) == (every > 0)


# ---- Several environments, the command line ----------------------------------------------------


@pytest.mark.slow
def test_processes_do_what_this_process_does(tmp_path):
    runs = []
    for processes in (False, True):
        train = TrainParams(**SHORT, processes=processes)
        td3 = Td3Params(**TINY)
        trainer = Trainer((IDENTITY, IDENTITY), td3, train, tmp_path / str(processes))
        trainer.run()
        runs.append(fingerprint(trainer))
    assert runs[0] == runs[1]


def test_command_line_reaches_every_setting(tmp_path, capsys):
    out = tmp_path / 'run'
    small = [f'--{name.replace("_", "-")}={value}' for name, value in TINY.items()]
    with pytest.raises(SystemExit) as ended:
        main(['train', '--env', IDENTITY, '--steps', '60', '--out', str(out), *small])
    assert ended.value.code == 0
    assert 'best_return' in capsys.readouterr().out
    config = json.loads((out / 'config.json').read_text())
    assert config['td3'] == asdict(Td3Params(**TINY))
    assert config['train'] == asdict(replace(TrainParams(), steps=60))
    assert json.loads((out / 'summary.json').read_text())['step'] == 60


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--batch-size', '0'], 'batch_size must be in'),
        (['--env', 'CartPole-v1'], 'actions must be a bounded Box'),
        (['--env', 'Nope-v0'], "Gymnasium: Environment `Nope` doesn't exist"),
        (['--env', 'no_such_module:Nope-v0'], "Gymnasium: No module named 'no_such_module'"),
    ],
)
def test_bad_input_ends_with_a_sentence(arguments, said, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['train', '--env', 'CartPole-v1', '--out', str(tmp_path / 'run'), *arguments])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize('name', SMOOTHING)
def test_only_a_driving_policy_is_smoothed(name, tmp_path):
    train = TrainParams(**SHORT, **{name: 0.2})
    with pytest.raises(ValueError, match=rf'{name} must be 0 .* got 0\.2'):
        Trainer((IDENTITY,), Td3Params(**TINY), train, tmp_path)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Sweeps without Ray: which trials there are, what is rejected, and what the tables say."""

import csv

import pytest

pytest.importorskip('gymnasium')
pytest.importorskip('matplotlib')

from td3_agent.__main__ import main, parser
from td3_agent.evaluation import sweep
from td3_agent.evaluation.sweep import Result, setting_table, trial_csv, trials_of


def trials(*words):
    return trials_of(parser('sweep').parse_args(['sweep', '--env=Task-v0', *words]))


def test_every_combination_is_run_with_every_seed(tmp_path):
    found = trials(
        '--set=actor_lr=1e-3,1e-4', '--set=n-step=1,3', '--seeds', '4', '5', f'--out={tmp_path}'
    )
    assert len(found) == 8
    assert len({trial.out for trial in found}) == 8
    assert found[0].out == tmp_path / 'actor_lr=0.001,n_step=1,seed=4'
    last = found[-1]
    assert (last.td3.actor_lr, last.td3.n_step, last.train.seed) == (1e-4, 3, 5)
    assert last.setting == 'actor_lr=0.0001,n_step=3'


def test_seeds_alone_are_a_sweep():
    found = trials('--seeds', '1', '2')
    assert [trial.train.seed for trial in found] == [1, 2]
    assert {trial.setting for trial in found} == {''}


def test_folder_of_a_run_lies_in_that_of_the_sweep(tmp_path):
    values = 'module:a/Task-v0', '../../runs/best'
    found = trials(f'--set=start_policy={",".join(values)}', '--seeds', '0', f'--out={tmp_path}')
    assert [trial.out.name for trial in found] == [
        'start_policy=module:a_Task-v0,seed=0',
        'start_policy=____runs_best,seed=0',
    ]
    assert {trial.out.parent for trial in found} == {tmp_path}
    assert [trial.train.start_policy for trial in found] == list(values)


def test_settings_of_the_file_and_the_line_are_shared(tmp_path):
    path = tmp_path / 'config.yaml'
    path.write_text('env: [Other-v0]\nsteps: 70\nbatch_size: 32\nseed: 9\n')
    args = ['sweep', f'--config={path}', '--steps=80', '--set=batch_size=64', '--seeds', '0']
    (trial,) = trials_of(parser('sweep').parse_args(args))
    assert trial.env_ids == ('Other-v0',)
    assert (trial.train.steps, trial.td3.batch_size, trial.train.seed) == (80, 64, 0)


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--set=actor_lr'], "--set must be NAME=VALUE,VALUE, got 'actor_lr'"),
        (['--set=actor_rl=1'], r'actor_rl.*actor_lr'),
        (['--set=batch_size=64,many'], "--set batch_size: 'many' is no int"),
        (['--set=processes=true,perhaps'], "--set processes: 'perhaps' is no bool"),
        (['--set=tau=0.1,7'], r'tau must be in \[0, 1\], got 7'),
        (['--set=tau=0.1', '--set=tau=0.2'], 'names a setting twice'),
        (['--set=seed=1,2'], 'seeds are given by --seeds'),
        (['--set=tau=0.1,1e-1'], 'more than one run would be in tau=0.1,seed=0'),
        (['--set=start_policy=a/b,a_b'], 'more than one run would be in start_policy=a_b,seed=0'),
        (['--seeds', '1', '1'], r'--seeds must be unique, got \[1, 1\]'),
    ],
)
def test_what_is_no_sweep_is_rejected(words, said):
    with pytest.raises(ValueError, match=said):
        trials(*words)


def test_folder_with_something_in_it_is_rejected(tmp_path, capsys):
    (tmp_path / 'file').touch()
    with pytest.raises(SystemExit) as ended:
        main(['sweep', '--env=Task-v0', f'--out={tmp_path}'])
    assert ended.value.code == 2
    assert 'holds something already; see --resume' in capsys.readouterr().err


def test_what_is_not_installed_is_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(sweep, 'find_spec', lambda name: None if name == 'pyarrow' else name)
    with pytest.raises(SystemExit) as ended:
        main(['sweep', '--env=Task-v0', f'--out={tmp_path / "new"}'])
    assert ended.value.code == 2
    assert 'pyarrow: not installed, pip install -r requirements/ray.in' in capsys.readouterr().err


@pytest.fixture
def results():
    """Two settings with two seeds; the last one has failed."""
    made = []
    for trial in trials('--set=tau=0.1,0.2', '--seeds', '0', '1'):
        value = 100.0 * trial.td3.tau + trial.train.seed
        summary = {'step': 9, 'best_return': value + 1.0, 'last_return': value}
        summary |= {'steps_per_s': 1.0, 'wall_s': 9.0, 'alarms': {'q_gap': 2}}
        made.append(Result(trial=trial, summary=summary))
    return [*made[:-1], Result(trial=made[-1].trial, error='ValueError: no')]


def test_table_has_the_best_setting_first(results):
    _, first, second = setting_table(results).splitlines()
    assert first.split() == ['tau=0.2', '1', '20.00', '21.00']
    assert second.split()[:3] == ['tau=0.1', '2', '10.50']
    assert '[4.15, 16.85]' in second  # 10.5 -+ 12.706 * 0.5


def test_every_trial_has_a_row(results):
    rows = list(csv.DictReader(trial_csv(results).splitlines()))
    assert [(row['tau'], row['seed']) for row in rows] == [
        ('0.1', '0'),
        ('0.1', '1'),
        ('0.2', '0'),
        ('0.2', '1'),
    ]
    assert rows[0]['last_return'] == '10.0'
    assert rows[0]['alarms'] == 'q_gap'
    assert (rows[3]['last_return'], rows[3]['error']) == ('', 'ValueError: no')

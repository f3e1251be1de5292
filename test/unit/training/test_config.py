# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings from a file, and the files that ship."""

import argparse
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

gymnasium = pytest.importorskip('gymnasium')

from td3_agent.td3.params import Td3Params  # noqa: E402
from td3_agent.training.params import RayParams, TrainParams  # noqa: E402
from td3_agent.training.train import add_arguments, params_of, settings_of, trained  # noqa: E402
from td3_agent.training.trainer import Trainer  # noqa: E402

CONFIGS = sorted((Path(__file__).parents[3] / 'config').glob('train_*.yaml'))
IDENTITY = 'td3_agent.training.tasks:td3_agent/Identity-v0'
SPOT = 'td3_agent.training.tasks:td3_agent/Spot-v0'


def settings(*arguments):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return settings_of(parser.parse_args([str(argument) for argument in arguments]))


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / 'config.yaml'
        path.write_text(text)
        return path

    return write


def test_command_line_goes_before_the_file_and_the_file_before_defaults(config):
    path = config(f'env: [{IDENTITY}]\nsteps: 7\nbatch_size: 5\n')
    given = settings('--config', path, '--batch-size', 9)
    assert given == {'env': [IDENTITY], 'steps': 7, 'batch_size': 9}
    assert params_of(given, TrainParams) == TrainParams(steps=7)
    assert params_of(given, Td3Params) == Td3Params(batch_size=9)
    assert settings('--config', path, '--env', SPOT)['env'] == [SPOT]


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('env: [a]\nbatchsize: 3\n', 'unknown settings: batchsize'),
        ('- env\n', 'must be a mapping'),
        ('env: a\n', 'with a list as env'),
        ('env: [a\n', 'cannot be read'),
        ('steps: 5\n', 'nothing to train on'),
    ],
)
def test_bad_file_is_one_sentence(config, text, said):
    with pytest.raises(ValueError, match=said):
        settings('--config', config(text))


def test_missing_file_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match='cannot be read'):
        settings('--config', tmp_path / 'none.yaml')


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_shipped_file_describes_a_run(path):
    given = settings('--config', path)
    train, td3 = params_of(given, TrainParams), params_of(given, Td3Params)
    assert train.steps > td3.start_steps
    for env_id in (*given['env'], train.eval_env):
        env = gymnasium.make(env_id, roads=1)
        assert 'privileged' in env.observation_space.spaces


def test_there_are_files():
    assert {path.stem for path in CONFIGS} >= {'train_lane', 'train_route'}


def test_every_name_in_a_shipped_file_is_a_setting():
    names = {'env', *(spec.name for cls in (TrainParams, Td3Params) for spec in fields(cls))}
    for path in CONFIGS:
        assert set(yaml.safe_load(path.read_text())) <= names


def test_evaluation_may_have_an_environment_of_its_own(tmp_path):
    """What is trained on is not what is evaluated on, and their spaces must agree."""
    small = Td3Params(hidden_units=8, batch_size=4, start_steps=10, buffer_capacity=40)
    short = {'steps': 20, 'eval_every': 20, 'eval_episodes': 1, 'device': 'cpu'}
    other = TrainParams(eval_env=SPOT, **short)
    with pytest.raises(ValueError, match='other spaces'):
        Trainer((IDENTITY,), small, other, tmp_path / 'other')
    same = TrainParams(eval_env=IDENTITY, **short)
    assert Trainer((IDENTITY,), small, same, tmp_path / 'same').run()['step'] == 20


def test_a_running_bridge_is_for_one_process(tmp_path):
    env_id = 'td3_agent/RosDrivingRunning-v0'
    for params, ray in ((TrainParams(processes=True), None), (TrainParams(), RayParams())):
        with pytest.raises(ValueError, match=f'{env_id}: one process steps that bridge'):
            trained((env_id,), Td3Params(), params, tmp_path, ray=ray)
    assert not [*tmp_path.iterdir()]

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every environment is known to Gymnasium by its name, and imported when it is made."""

import importlib
import subprocess
import sys

import gymnasium
import pytest

from td3_agent import envs
from td3_agent.envs import MODULES, did_you_mean, with_module

NAMES = """
import sys
import gymnasium, td3_agent.envs
print(sorted(name for name in gymnasium.registry if name.startswith('td3_agent/')))
print(sorted(sys.modules.keys() & {'torch', 'carla', 'cv2', 'rclpy', 'matplotlib'}))
"""


@pytest.fixture
def announced(monkeypatch):
    """A registry without our environments but those that td3_agent.envs puts there."""
    others = {k: v for k, v in gymnasium.registry.items() if not k.startswith('td3_agent/')}
    monkeypatch.setattr('gymnasium.envs.registration.registry', others)
    monkeypatch.setattr('gymnasium.registry', others)
    monkeypatch.setattr(envs, 'registry', others)
    envs.register()
    return others


def test_names_are_known_and_nothing_heavy_is_imported():
    done = subprocess.run(
        [sys.executable, '-c', NAMES], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [str(sorted(MODULES)), '[]']


@pytest.mark.parametrize('env_id', ['td3_agent/Identity-v0', 'td3_agent/Spot-v0'])
def test_made_by_its_name(env_id, announced):
    assert announced[env_id].entry_point == 'td3_agent.envs:make'
    first, second = gymnasium.make(env_id), gymnasium.make(env_id)
    assert type(first.unwrapped) is type(second.unwrapped)
    assert announced[env_id].entry_point.startswith('td3_agent.training.tasks:')
    envs.register()
    assert announced[env_id].entry_point.startswith('td3_agent.training.tasks:')


@pytest.mark.usefixtures('announced')
def test_arguments_reach_the_environment():
    pytest.importorskip('carla')
    env = gymnasium.make('td3_agent/Driving-v0', render_mode='rgb_array')
    assert env.unwrapped.render_mode == 'rgb_array'
    for name, numbers in (('Lane', 4), ('Route', 20)):  # with the path ahead
        env = gymnasium.make(f'td3_agent/{name}Training-v0', roads=1)
        assert env.observation_space['state'].shape == (numbers,)


def test_the_module_may_be_part_of_the_name(announced):
    announced.pop('td3_agent/Spot-v0')
    importlib.reload(envs)
    assert gymnasium.make('td3_agent.envs:td3_agent/Spot-v0').spec.id == 'td3_agent/Spot-v0'


@pytest.mark.parametrize('before', ['', 'td3_agent.tasks_of_old:'])
def test_training_finds_ours_by_name_whatever_module_is_written(before):
    found = with_module(f'{before}td3_agent/Spot-v0')
    assert found == 'td3_agent.training.tasks:td3_agent/Spot-v0'
    assert with_module(f'{before}Pendulum-v1') == f'{before}Pendulum-v1'


class TestMeant:
    @pytest.mark.parametrize('env_id', [*MODULES, 'td3_agent.sim.env:td3_agent/Driving-v0', ''])
    def test_nothing_is_said_of_what_there_is(self, env_id):
        assert did_you_mean(env_id) == ''

    @pytest.mark.parametrize('env_id', ['Pendulum-v9', 'ALE/Pong-v5', 'other:Maze-v0'])
    def test_nor_of_what_is_of_others(self, env_id):
        assert did_you_mean(env_id) == ''

    @pytest.mark.parametrize(
        ('env_id', 'nearest'),
        [
            ('td3_agent/Drivng-v0', 'td3_agent/Driving-v0'),
            ('td3_agent/Driving-v1', 'td3_agent/Driving-v0'),
            ('Driving-v0', 'td3_agent/Driving-v0'),
            ('td3-agent/RosDriving-v0', 'td3_agent/RosDriving-v0'),
            ('td3_agent.sim.env:td3_agent/LaneTrainin-v0', 'td3_agent/LaneTraining-v0'),
        ],
    )
    def test_the_nearest(self, env_id, nearest):
        assert f'Did you mean {nearest}?' in did_you_mean(env_id)

    def test_all_of_them(self):
        said = did_you_mean('td3_agent/Nope-v0')
        assert all(name in said for name in MODULES)


def test_train_names_them(tmp_path, capsys):
    from td3_agent.__main__ import main

    with pytest.raises(SystemExit) as ended:
        main(['train', '--env', 'td3_agent/Nope-v0', '--out', str(tmp_path / 'run')])
    assert ended.value.code == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "doesn't exist in namespace td3_agent. td3_agent has td3_agent/Driving-v0" in said

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What a run tells of itself: speeds, alarms, the best policy, TensorBoard, its origin."""

import json
import logging
import re
import sys
import types

import numpy as np
import pytest

gymnasium = pytest.importorskip('gymnasium')

from td3_agent.driving.command import CONTROL_MAX_SPEED_MPS  # noqa: E402
from td3_agent.training import run_folder  # noqa: E402
from td3_agent.training.health import PARKED, SpeedState, parked_alarm, speed_state_of  # noqa: E402
from td3_agent.training.run_folder import CsvLog, TensorBoard  # noqa: E402

BOX = gymnasium.spaces.Box(-1.0, 1.0, (1,), np.float32)


class SpeedEnv(gymnasium.Env):
    """Shows a speed; tells whether it is a success."""

    observation_space = action_space = BOX
    speed_state = (0, 10.0)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed, options=options)
        return np.zeros(1, np.float32), {}

    def step(self, action):  # noqa: ARG002  named as in Gymnasium
        return np.zeros(1, np.float32), 1.0, True, False, {'is_success': True}


# ---- Speeds ------------------------------------------------------------------------------------


def test_shares_of_speed_are_those_of_the_stored_states():
    states = np.array([[9.0, -0.1], [9.0, 0.0], [9.0, 0.05], [9.0, 0.7], [9.0, 0.9]], np.float32)
    fractions = SpeedState(1, 10.0).fractions(states)
    assert fractions == {
        'speed_below_0.5_mps': 0.4,
        'speed_from_0.5_mps': 0.2,  # its lower end belongs to a range
        'speed_from_2_mps': 0.0,
        'speed_from_4_mps': 0.0,
        'speed_from_6_mps': 0.2,
        'speed_from_8_mps': 0.2,
    }


@pytest.mark.parametrize(('fraction', 'alarmed'), [(0.8, False), (0.81, True)])
def test_parked_buffer_is_an_alarm(fraction, alarmed):
    assert bool(parked_alarm({PARKED: fraction})) == alarmed
    assert parked_alarm({}) == {}


def test_environment_says_where_its_speed_is():
    assert speed_state_of(SpeedEnv()) == SpeedState(0, 10.0)
    driving = types.SimpleNamespace(spec_of_observation=object())
    driving.unwrapped = driving
    assert speed_state_of(driving) == SpeedState(0, CONTROL_MAX_SPEED_MPS)
    driving.unwrapped = object()
    assert speed_state_of(driving) is None


def test_speeds_and_alarms_are_recorded(tmp_path, caplog):
    from td3_agent.td3.params import Td3Params
    from td3_agent.training.params import TrainParams
    from td3_agent.training.trainer import Trainer

    gymnasium.register('SpeedEnv-v0', entry_point=SpeedEnv)
    try:
        td3 = Td3Params(hidden_units=8, batch_size=4, start_steps=4)
        train = TrainParams(steps=20, log_every=5, eval_every=10, eval_episodes=2, device='cpu')
        trainer = Trainer(('SpeedEnv-v0',), td3, train, tmp_path / 'run')
        summary = trainer.run()
    finally:
        del gymnasium.registry['SpeedEnv-v0']
    header, *rows = (tmp_path / 'run' / 'progress.csv').read_text().splitlines()
    assert 'speed_below_0.5_mps' in header
    assert summary['alarms']['parked'] == len(rows) == 4
    assert rows[-1].endswith('the car stands in 100% of the buffer')
    assert caplog.text.count('the car stands') == 1  # told once, not at every row
    assert 'the car stands' in trainer._shown()
    assert (tmp_path / 'run' / 'eval.csv').read_text().splitlines()[0].endswith('success_rate')


# ---- Files -------------------------------------------------------------------------------------


def test_table_loses_what_comes_again(tmp_path):
    table = CsvLog(tmp_path / 'table.csv')
    for step in (1, 2, 3):
        table.write({'step': step, 'text': 'a, b'})
    with (tmp_path / 'table.csv').open('a') as file:
        file.write('4')  # cut off by a kill
    table.rewind(2)
    table.write({'step': 9, 'text': ''})
    lines = (tmp_path / 'table.csv').read_text().splitlines()
    assert lines == ['step,text', '1,"a, b"', '2,"a, b"', '9,']
    table.rewind(-1)
    table.write({'step': 0, 'text': 'x'})
    assert (tmp_path / 'table.csv').read_text().splitlines() == ['step,text', '0,x']


class FakeWriter:
    def __init__(self, folder, purge_step):
        self.told = [(folder, purge_step)]

    def add_scalar(self, *told):
        self.told.append(told)

    add_text = add_scalar

    def close(self):
        self.told.append('closed')


def test_tensorboard_gets_numbers_and_texts(tmp_path, monkeypatch):
    module = types.SimpleNamespace(SummaryWriter=FakeWriter)
    monkeypatch.setitem(sys.modules, 'torch.utils.tensorboard', module)
    monkeypatch.setattr('td3_agent.training.run_folder.find_spec', lambda _: True)
    board = TensorBoard(tmp_path, 30)
    board.write('train', {'q': 1.5, 'alarms': 'ill', 'mean': ''}, 40)
    board.close()
    expected = [(str(tmp_path), 30), ('train/q', 1.5, 40), ('train/alarms', 'ill', 40), 'closed']
    assert board._writer.told == expected


def test_tensorboard_that_is_not_there_is_told(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr('td3_agent.training.run_folder.find_spec', lambda _: None)
    with caplog.at_level(logging.INFO):
        board = TensorBoard(tmp_path)
    board.write('train', {'q': 1.5}, 40)
    board.close()
    assert 'tensorboard is not installed' in caplog.text


@pytest.mark.filterwarnings('ignore')  # of tensorboard's own dependencies
def test_real_tensorboard_writes_events(tmp_path):
    pytest.importorskip('tensorboard')
    board = TensorBoard(tmp_path)
    board.write('train', {'q': 1.5, 'alarms': 'ill'}, 40)
    board.close()
    assert list(tmp_path.glob('events.out.tfevents.*'))


def test_run_names_what_made_it(monkeypatch):
    made_with = run_folder.versions()
    assert {'td3_agent', 'commit', 'torch', 'numpy', 'gymnasium'} == set(made_with)
    assert made_with['commit'] is None or re.match('[0-9a-f]{40}', made_with['commit'])
    json.dumps(made_with)
    nowhere = types.SimpleNamespace(resolve=lambda: types.SimpleNamespace(parent='/nowhere'))
    monkeypatch.setattr(run_folder, 'Path', lambda _: nowhere)
    assert run_folder.commit.__wrapped__() is None

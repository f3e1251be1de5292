# SPDX-License-Identifier: Apache-2.0
"""The environment over ROS 2: Gymnasium's rules, the direct one's world, and bridges that die."""

import json
import os
import signal
import subprocess
import sys

import pytest

pytest.importorskip('carla')
pytest.importorskip('cv2')
pytest.importorskip('gymnasium')

import numpy as np

from td3_agent.driving.parameters import ParameterError
from td3_agent.evaluation.processes import ProcessGroup, free_domain_id, ros_environment
from td3_agent.evaluation.ros_env import BRIDGE_SETTINGS, RosDrivingEnv
from td3_agent.nodes.lockstep_client import BridgeLostError
from td3_agent.sim.env import DrivingEnv
from td3_agent.sim.task import TaskConfig

pytestmark = pytest.mark.system
PATIENCE = {'patience_s': 60.0}  # of a busy machine
FORWARD = np.array([0.2, 0.0], np.float32)


@pytest.fixture(scope='module')
def env():
    """One environment with a bridge of its own."""
    env = RosDrivingEnv(client=PATIENCE)
    yield env
    env.close()


def drive(env, actions, seed):
    """Observations and rewards of an episode's beginning; every command must be executed."""
    seen, _ = env.reset(seed=seed)
    images, states, rewards = [seen['image']], [seen['state']], []
    for action in actions:
        seen, earned, terminated, truncated, info = env.step(action)
        assert info['executed']
        assert (terminated, truncated) == (False, False)
        images.append(seen['image'])
        states.append(seen['state'])
        rewards.append(earned)
    return images, states, rewards


def drive_on(env):
    """A few steps: what is under way may still arrive."""
    for _ in range(3):
        env.step(FORWARD)


def test_spaces_are_those_of_the_direct_environment(env):
    direct = DrivingEnv()
    assert env.observation_space == direct.observation_space
    assert env.action_space == direct.action_space
    assert env.task == direct.task


def test_what_it_says_is_in_its_spaces(env):
    first, info = env.reset(seed=3)
    assert env.observation_space.contains(first)
    assert info['ending'] == 'none'
    seen, earned, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen)
    assert isinstance(earned, float)
    assert (terminated, truncated) == (False, False)


def test_the_same_seed_is_the_same_episode(env):
    actions = [np.array([0.3, 0.2 * (-1) ** (k // 5)], np.float32) for k in range(15)]
    images, states, rewards = drive(env, actions, seed=5)
    again = drive(env, actions, seed=5)
    np.testing.assert_allclose(states, again[1], atol=1e-5)
    np.testing.assert_allclose(rewards, again[2], atol=1e-5)
    # A hair of the place is left of the episode before: single grey levels may differ.
    assert np.abs(np.array(images, int) - np.array(again[0], int)).mean() < 1.0
    assert (images[0] != drive(env, actions, seed=6)[0][0]).any()  # another place


def test_it_drives_as_the_direct_environment_does(env):
    """From rest, the same actions give the same speeds and the same pay for progress."""
    actions = [FORWARD] * 30
    _, states, rewards = drive(env, actions, seed=1)
    direct = DrivingEnv()
    direct.reset(seed=1)
    for state, earned, action in zip(states[1:], rewards, actions, strict=True):
        seen, direct_earned, *_ = direct.step(action)
        assert state[0] == pytest.approx(seen['state'][0], abs=0.02)
        assert earned == pytest.approx(direct_earned, abs=0.05)


def test_an_episode_ends_by_the_rules(env):
    env.task = TaskConfig(stall_time_s=0.5)
    try:
        env.reset(seed=0)
        for _ in range(10):
            *_, terminated, truncated, info = env.step(np.array([-1.0, 0.0], np.float32))
        assert (terminated, truncated, info['ending']) == (False, True, 'stalled')
    finally:
        env.task = TaskConfig()


@pytest.mark.parametrize('end', [signal.SIGKILL, signal.SIGTERM])
def test_a_bridge_that_dies_is_named_and_replaced(end, monkeypatch):
    started = []
    start = ProcessGroup.start
    monkeypatch.setattr(
        ProcessGroup, 'start', lambda *words: started.append(start(*words)) or started[-1]
    )
    env = RosDrivingEnv(client=PATIENCE)
    try:
        env.reset(seed=0)
        started[0].process.send_signal(end)
        started[0].process.wait(60.0)
        with pytest.raises(BridgeLostError, match='the bridge has ended'):
            drive_on(env)
        with pytest.raises(BridgeLostError, match=r'call reset\(\) first'):
            env.step(FORWARD)
        env.reset(seed=0)
        assert env.step(FORWARD)[-1]['executed']
    finally:
        env.close()
    assert len(started) == 2
    assert all(node.process.poll() is not None for node in started)


def test_a_running_bridge_is_used_and_left_alone(tmp_path):
    """One that plays, with upstream's wait of a second: as the real one starts."""
    domain_id = free_domain_id()
    settings = BRIDGE_SETTINGS | {'start_paused': False, 'command_wait_s': 1.0}
    with ProcessGroup(tmp_path, ros_environment(domain_id)) as group:
        bridge = group.start('sim_bridge_node', settings)
        for _ in range(2):  # the second finds it paused
            env = RosDrivingEnv(bridge='running', client={'domain_id': domain_id} | PATIENCE)
            drive(env, [FORWARD] * 5, seed=0)
            env.close()
            assert bridge.process.poll() is None


def test_a_learner_slower_than_the_bridges_patience_is_still_obeyed():
    env = RosDrivingEnv(bridge_settings={'command_wait_s': 0.1}, client=PATIENCE)
    try:
        env.reset(seed=0)
        client = env._client
        before = client.late
        for number in range(1, 6):
            client._listen(60.0, lambda: client._running is False)  # it has given up
            info = env.step(FORWARD)[-1]
            assert info['executed']
            assert client.late == before + number
    finally:
        env.close()


def test_nobody_there_is_said_in_time():
    env = RosDrivingEnv(
        bridge='running', client={'domain_id': free_domain_id(), 'patience_s': 0.2}
    )
    with pytest.raises(BridgeLostError, match=r'nothing of the bridge in 0\.2 s: listens'):
        env.reset(seed=0)
    env.close()


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'bridge': 'other'}, "bridge must be embedded or running, got 'other'"),
        ({'render_mode': 'human'}, "render_mode must be None, got 'human'"),
    ],
)
def test_arguments_are_refused(arguments, text):
    with pytest.raises(ParameterError, match=text):
        RosDrivingEnv(**arguments)


@pytest.mark.slow
def test_training_goes_through_ros(tmp_path):
    words = ['--env', 'td3_agent/RosDriving-v0', '--steps', '120', '--out', str(tmp_path)]
    limits = ['--start-steps', '60', '--eval-every', '120', '--eval-episodes', '1']
    done = subprocess.run(
        [sys.executable, '-m', 'td3_agent', 'train', *words, *limits, '--batch-size', '8'],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads((tmp_path / 'summary.json').read_text('utf-8'))
    assert list((tmp_path / 'policies').iterdir())

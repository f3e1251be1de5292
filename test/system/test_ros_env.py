# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The environment over ROS 2: Gymnasium's rules, the direct one's world, and bridges that die."""

from functools import partial
import json
import multiprocessing
from pathlib import Path
import subprocess
import sys
import time

import pytest

pytest.importorskip('carla')
pytest.importorskip('cv2')
pytest.importorskip('gymnasium')

import gymnasium
from harness.programs import is_there, wait_until
import numpy as np
import psutil

from td3_agent.driving.parameters import ParameterError
from td3_agent.evaluation.ros_env import BRIDGE_SETTINGS, BRIDGES, ros_env
from td3_agent.nodes.lockstep_client import BridgeLostError, BridgeTakenError, LockstepClient
from td3_agent.processes import ProcessGroup, free_domain_id, ros_environment
from td3_agent.sim.env import embedded_env
from td3_agent.training.envs import ProcessEnv

pytestmark = pytest.mark.system
PATIENCE = {'patience_s': 60.0}  # of a busy machine
FORWARD = np.array([0.2, 0.0], np.float32)
BROUGHT_UP = """
from td3_agent.evaluation.ros_env import ros_env
env = ros_env()
env.reset(seed=0)
print(env.world.bridge.process.pid, env.world.bridge.log_path.parent, flush=True)
"""


@pytest.fixture(scope='module')
def env():
    """One environment with a bridge of its own."""
    env = ros_env(client=PATIENCE)
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
    direct = embedded_env()
    assert env.observation_space == direct.observation_space
    assert env.action_space == direct.action_space
    assert env.task.config == direct.task.config


def test_what_it_says_is_in_its_spaces(env):
    first, info = env.reset(seed=3)
    assert env.observation_space.contains(first)
    assert info['ending'] == 'none'
    seen, earned, terminated, truncated, info = env.step(env.action_space.sample())
    assert env.observation_space.contains(seen)
    assert isinstance(earned, float)
    assert (terminated, truncated) == (False, False)


def test_it_drives_as_the_direct_environment_does(env):
    """From rest, the same actions give the same speeds and the same pay for progress."""
    actions = [FORWARD] * 30
    _, states, rewards = drive(env, actions, seed=1)
    direct = embedded_env()
    direct.reset(seed=1)
    for state, earned, action in zip(states[1:], rewards, actions, strict=True):
        seen, direct_earned, *_ = direct.step(action)
        assert state[0] == pytest.approx(seen['state'][0], abs=0.02)
        assert earned == pytest.approx(direct_earned, abs=0.05)


def test_a_reset_waits_for_nothing_but_the_car(env):
    took_s = []
    for seed in range(4):
        started_s = time.monotonic()
        env.reset(seed=seed)
        took_s.append(time.monotonic() - started_s)
    assert min(took_s) < 0.7


def test_the_road_s_height_is_the_one_of_the_new_place(env, monkeypatch):
    moves = []
    move = LockstepClient.move
    monkeypatch.setattr(
        LockstepClient, 'move', lambda self, *place: moves.append(place) or move(self, *place)
    )
    env.reset(seed=0)  # the oval is flat, and says so
    assert moves[0][2] == pytest.approx(env.world.client.newest.state.z_m)
    poses = env.world.client.latched['route'].poses
    for pose in poses:
        pose.pose.position.z = pose.pose.position.x / 10.0
    try:
        env.reset(seed=1)
    finally:
        for pose in poses:
            pose.pose.position.z = 0.0
    x_m, _, z_m, _ = moves[1]
    assert z_m == pytest.approx(x_m / 10.0, abs=0.35)  # a point of the route per meter


def test_clients_of_one_graph_are_no_namesakes(ros):
    def clients():
        return {name for name in ros.peer.get_node_names() if name.startswith('lockstep_client')}

    with LockstepClient(domain_id=ros.domain_id), LockstepClient(domain_id=ros.domain_id):
        ros.spin_until(lambda: len(clients()) == 2, 'two names')


@pytest.fixture
def started(monkeypatch):
    """The processes of the bridges that were started."""
    started = []
    start = ProcessGroup.start
    monkeypatch.setattr(
        ProcessGroup, 'start', lambda *words: started.append(start(*words)) or started[-1]
    )
    return started


def test_bridge_that_dies_is_named_and_replaced(started):
    def kill():
        started[-1].process.kill()
        started[-1].process.wait(60.0)

    env = ros_env(client=PATIENCE)
    try:
        env.reset(seed=5)
        place_m = env.task.situation.s_m
        kill()
        with pytest.raises(BridgeLostError, match='the bridge has ended'):
            drive_on(env)
        with pytest.raises(BridgeLostError, match=r'call reset\(\) first'):
            env.step(FORWARD)
        for _ in range(2):  # after an error, and without a step in between
            env.reset(seed=5)
            assert env.task.situation.s_m == pytest.approx(place_m, abs=0.5)
            assert env.step(FORWARD)[-1]['executed']
            kill()
    finally:
        env.close()
    assert len(started) == 3
    assert all(node.process.poll() is not None for node in started)


@pytest.mark.parametrize(
    ('arguments', 'error', 'text'),
    [
        ({'bridge_settings': {'map': 'nope'}}, BridgeLostError, r'(?s)has ended.*map.*nope'),
        (
            {'client': {'camera_reliability': 'x'}},
            ParameterError,
            "camera_reliability must be reliable or best_effort, got 'x'",
        ),
        ({'client': {'role_name': 'a b'}}, Exception, 'a b'),
    ],
)
def test_rejected_setting_is_named_and_leaves_nothing(arguments, error, text, started):
    env = ros_env(**arguments)
    with pytest.raises(error, match=text):
        env.reset(seed=0)
    assert [node.process.poll() is None for node in started] == [False]
    assert not started[0].log_path.parent.exists()


@pytest.mark.parametrize(
    ('last', 'status'),
    [('raise KeyError', 1), ('import os; os.kill(os.getpid(), 9)', -9)],
)
def test_no_bridge_outlives_its_program(last, status):
    done = subprocess.run(
        [sys.executable, '-c', BROUGHT_UP + last], capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stderr
    pid, folder = done.stdout.split()
    wait_until(lambda: not is_there(int(pid)), f'process {pid} has ended')
    if status >= 0:
        assert not Path(folder).exists()
        assert 'Warning' not in done.stderr


def test_no_bridge_outlives_an_unreferenced_environment(started):
    env = ros_env(client=PATIENCE)
    env.reset(seed=0)
    del env
    assert started[0].process.poll() is not None


@pytest.mark.parametrize('is_killed', [False, True])
def test_no_bridge_outlives_a_worker_process(is_killed):
    others = set(multiprocessing.active_children())
    port = ProcessEnv(partial(ros_env, client=PATIENCE))
    try:
        port.send('reset', 0)
        port.receive()
        (worker,) = set(multiprocessing.active_children()) - others
        (bridge,) = (child.pid for child in psutil.Process(worker.pid).children())
        worker.kill() if is_killed else port.close()
        wait_until(lambda: not is_there(bridge), f'process {bridge} has ended')
    finally:
        port.close()


def test_a_frame_without_an_image_is_passed_over():
    """At 10 Hz of the camera every second one is; the bridge waits for its command, or not."""
    for wait_s in (600.0, 0.1):
        settings = {'camera_rate_hz': 10.0, 'command_wait_s': wait_s}
        env = ros_env(bridge_settings=settings, client=PATIENCE)
        try:
            env.reset(seed=0)
            before, stamp_ns = env.world.client.gaps, env.world.client.newest.stamp_ns
            for number in range(1, 4):
                info = env.step(FORWARD)[-1]
                assert info['executed']
                assert env.world.client.gaps == before + number
                assert info['stamp_ns'] == pytest.approx(stamp_ns + number * 100_000_000, abs=10)
        finally:
            env.close()


def test_a_camera_that_is_dead_is_given_up(monkeypatch):
    monkeypatch.setattr('td3_agent.nodes.lockstep_client.MOST_GAPS', 3)
    env = ros_env(client=PATIENCE | {'camera_id': 'other'})
    with pytest.raises(BridgeLostError, match='image, odometry or status was missing of 3 frames'):
        env.reset(seed=0)
    env.close()


def test_environments_share_a_running_bridge_in_turns(tmp_path):
    """The bridge would wait ten minutes for the command that the other one owes it."""
    domain_id = free_domain_id()
    arguments = {'client': {'domain_id': domain_id} | PATIENCE}
    with ProcessGroup(tmp_path, ros_environment(domain_id)) as group:
        group.start('sim_bridge_node', BRIDGE_SETTINGS)  # it starts paused
        first, second, third = (
            gymnasium.make(BRIDGES['running'], **arguments).unwrapped for _ in range(3)
        )
        drive(first, [FORWARD] * 3, seed=0)
        for one, other in ((second, first), (first, second)):
            drive(one, [FORWARD] * 3, seed=1)
            with pytest.raises(BridgeTakenError, match='another environment has begun'):
                other.step(FORWARD)
            after_ns = one.world.client.newest.stamp_ns + 50_000_000
            assert one.step(FORWARD)[-1]['stamp_ns'] == pytest.approx(after_ns, abs=10)
        first.close()
        drive(third, [FORWARD] * 3, seed=2)
        drive(second, [FORWARD] * 3, seed=3)
        for env in (second, third):
            env.close()


def test_a_running_bridge_is_used_and_left_alone(tmp_path):
    """One that plays, with upstream's wait of a second: as the real one starts."""
    domain_id = free_domain_id()
    settings = BRIDGE_SETTINGS | {'start_paused': False, 'command_wait_s': 1.0}
    with ProcessGroup(tmp_path, ros_environment(domain_id)) as group:
        bridge = group.start('sim_bridge_node', settings)
        for _ in range(2):  # the second finds it paused
            env = ros_env(bridge='running', client={'domain_id': domain_id} | PATIENCE)
            drive(env, [FORWARD] * 5, seed=0)
            env.close()
            assert bridge.process.poll() is None


def test_a_learner_slower_than_the_bridges_patience_is_still_obeyed():
    env = ros_env(bridge_settings={'command_wait_s': 0.5}, client=PATIENCE)
    try:
        env.reset(seed=0)
        before, took_s = env.world.client.late, []
        for number in range(1, 6):
            time.sleep(0.8)  # a learner at work, which takes no messages
            started_s = time.monotonic()
            assert env.step(FORWARD)[-1]['executed']
            took_s.append(time.monotonic() - started_s)
            assert env.world.client.late == before + number
        assert min(took_s) < 0.4
        # Each of these commands lets the bridge not wait for the next; a reset ends that.
        env.reset(seed=1)
        before = env.world.client.late
        drive_on(env)
        assert env.world.client.late == before
    finally:
        env.close()


def test_missing_bridge_is_named_in_time():
    env = ros_env(bridge='running', client={'domain_id': free_domain_id(), 'patience_s': 0.2})
    with pytest.raises(BridgeLostError, match=r'did not subscribe to commands within 0\.2 s'):
        env.reset(seed=0)
    env.close()


@pytest.mark.parametrize(
    ('arguments', 'text'),
    [
        ({'bridge': 'other'}, "bridge must be embedded or running, got 'other'"),
        ({'render_mode': 'human'}, "render_mode must be 'rgb_array' or None, got 'human'"),
    ],
)
def test_arguments_are_rejected(arguments, text):
    with pytest.raises(ValueError, match=text):
        ros_env(**arguments)


@pytest.mark.slow
def test_training_goes_through_ros(tmp_path, program):
    words = ['--env', BRIDGES['embedded'], '--steps', '120', '--out', str(tmp_path)]
    words += ['--start-steps', '60', '--eval-every', '120', '--eval-episodes', '1']
    words += ['--eval-steps', '40', '--batch-size', '8', '--processes']
    training = program('td3_agent', 'train', *words)
    status, _, errors = training.end()
    assert status == 0, errors[-2000:]
    assert json.loads((tmp_path / 'summary.json').read_text('utf-8'))['failures'] == 0
    assert list((tmp_path / 'policies').iterdir())
    assert not training.alive()


@pytest.mark.slow
def test_training_and_evaluation_share_a_running_bridge(tmp_path, program):
    """Each evaluation costs one episode of training, and neither sees what is the other's."""
    domain_id = free_domain_id()
    environment = ros_environment(domain_id)
    # A name that needs no list of names.
    words = ['--env', f'td3_agent.evaluation.ros_env:{BRIDGES["running"]}', '--out', str(tmp_path)]
    words += ['--steps', '80', '--start-policy', 'lane', '--encoder', 'compact']
    words += ['--features', '128']
    words += ['--start-steps', '1000', '--eval-every', '40', '--eval-episodes', '1']
    words += ['--eval-steps', '30', '--batch-size', '8']
    with ProcessGroup(tmp_path, environment) as group:
        group.start('sim_bridge_node', BRIDGE_SETTINGS | {'command_wait_s': 1.0})
        status, _, errors = program('td3_agent', 'train', *words, env=environment).end()
    assert status == 0, errors[-2000:]
    assert json.loads((tmp_path / 'summary.json').read_text('utf-8'))['failures'] == 2
    header, *rows = (tmp_path / 'eval.csv').read_text('utf-8').splitlines()
    assert len(rows) == 3
    length = header.split(',').index('length_mean')
    assert {row.split(',')[length] for row in rows} == {'30.0'}

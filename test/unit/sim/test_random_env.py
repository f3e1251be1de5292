# SPDX-License-Identifier: Apache-2.0
"""The tasks that are trained on: everything is drawn, and all of it from the episode's seed."""

import math

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest

from td3_agent.sim.look import Photometry
from td3_agent.sim.privileged import PRIVILEGED_SIZE, Privileged
from td3_agent.sim.random_env import random_env
from td3_agent.sim.randomisation import FAMILIES, NOTHING_RANDOM, Randomisation

MODULE = 'td3_agent.sim.random_env'
TASKS = ('LaneTraining', 'LaneValidation')
AHEAD = np.array([0.0, 0.0], dtype=np.float32)


def make(name, **arguments):
    return gymnasium.make(f'{MODULE}:td3_agent/{name}-v0', **arguments).unwrapped


@pytest.fixture(scope='module')
def env():
    return random_env(roads=2)


@pytest.fixture(scope='module')
def ideal():
    return random_env(roads=1, random=NOTHING_RANDOM, random_style=False)


def same(one, other):
    return all(np.array_equal(one[part], other[part]) for part in ('image', 'state', 'privileged'))


@pytest.mark.slow
def test_gymnasium_s_checker_has_no_complaint(env):
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize('name', TASKS)
def test_registered_tasks_are_of_their_family(name):
    task = make(name, roads=1)
    family = 'training' if 'Training' in name else 'validation'
    assert task.world.simulator.config.map_seed in FAMILIES[family]
    assert task.world.simulator.config.map == 'winding'
    assert not task.spec_of_observation.path


def test_seed_decides_on_everything(env):
    runs = []
    for _ in range(2):
        seen = [env.reset(seed=5)[0]]
        seen += [env.step(AHEAD)[0] for _ in range(20)]
        runs.append(seen)
        env.reset(seed=6)
        env.step(AHEAD)  # another episode in between leaves no trace
    assert all(same(one, other) for one, other in zip(*runs, strict=True))
    assert not same(env.reset(seed=5)[0], env.reset(seed=7)[0])


def test_starts_differ_within_their_limits(env):
    limits, starts, cameras, roads = Randomisation(), [], set(), set()
    for seed in range(12):
        env.reset(seed=seed)
        state, route = env.world.simulator.ego.state, env.world.simulator.ego.route
        askew = math.remainder(state.yaw_rad - route.sample(0.0)[2], 2.0 * math.pi)
        starts.append((env.task.situation.lateral_m, askew, state.speed_mps))
        cameras.add(env.world.simulator.camera.config)
        roads.add(env.world.simulator.config.map_seed)
    lateral, askew, speed = np.abs(np.array(starts)).T
    assert lateral.max() <= limits.lateral_m + 0.05
    assert askew.max() <= limits.heading_rad + 0.02
    assert lateral.max() > 0.3
    assert askew.max() > 0.05
    assert 0 < np.count_nonzero(speed == 0.0) < 12
    assert len(cameras) == 12
    assert len(roads) == 2


def test_nothing_random_starts_on_the_road_at_rest(ideal):
    observation, _ = ideal.reset(seed=3)
    assert abs(ideal.task.situation.lateral_m) < 0.05
    assert ideal.world.simulator.ego.state.speed_mps == 0.0
    assert ideal.world.simulator.camera.config == ideal.world.simulator.config.camera
    assert observation['privileged'][0] == pytest.approx(ideal.task.situation.lateral_m / 2.0)
    assert observation['privileged'][2] == pytest.approx(1.0, abs=1e-3)  # cos of heading error


def test_length_is_drawn_and_motion_may_be_hidden():
    limits = Randomisation(episode_shortest_s=0.1, picture_share=1.0, moving_share=1.0)
    env = random_env(roads=1, random=limits, time_limit_s=10.0)
    lengths_s = []
    for seed in range(8):
        env.reset(seed=seed)
        observed, *_ = env.step(np.array([0.0, 1.0], dtype=np.float32))
        assert observed['state'][0] > 0.0
        assert (observed['state'][1:4] == 0.0).all()
        lengths_s.append(env.task.config.time_limit_s)
    assert 0.1 <= min(lengths_s) < 1.0 < max(lengths_s) <= 10.0


@pytest.mark.slow
def test_end_of_the_road_is_sought():
    def short_ones(share):
        env = random_env(roads=1, random=Randomisation(road_end_share=share))
        for seed in range(8):
            env.reset(seed=seed)
            yield env.world.simulator.ego.route.length_m < 210.0

    assert sum(short_ones(1.0)) > sum(short_ones(0.0)) + 2


def test_noise_is_as_large_as_drawn():
    quiet = random_env(roads=1, random=NOTHING_RANDOM, random_style=False)
    quiet.reset(seed=2)
    clean = quiet.world.simulator.render()
    noisy = Photometry(noise_levels=5.0).applied(clean, np.random.default_rng(0))
    noise = noisy.astype(int) - clean
    grey = noise[clean[..., :3].max(axis=2) < 200][..., 0]
    assert grey.std() == pytest.approx(5.0, rel=0.1)
    assert grey.mean() == pytest.approx(0.0, abs=0.6)
    assert (noisy[..., 3] == 255).all()


@pytest.mark.parametrize(('late_share', 'frames'), [(0.0, 0), (1.0, 1)])
def test_late_commands_arrive_a_frame_later(late_share, frames):
    limits = Randomisation(moving_share=0.0, late_share=late_share)
    env = random_env(roads=1, random=limits)
    env.reset(seed=0)
    throttle = []
    for _ in range(3):
        env.step(np.array([1.0, 0.0], dtype=np.float32))
        throttle.append(env.world.simulator.ego.control.throttle)
    assert [value == 0.0 for value in throttle].count(True) == frames


def known_where_it_stands(env):
    """Privileged part after the car was put elsewhere."""
    ego = env.world.simulator.ego
    env.task.begin(ego.route, (ego.state.x_m, ego.state.y_m))
    privileged = Privileged(env.world)
    return privileged.parts(env.observation, env.task.situation)['privileged']


def test_privileged_part_tells_left_from_right(ideal):
    ideal.reset(seed=1)
    x_m, y_m, yaw_rad = ideal.world.simulator.ego.route.sample(20.0)
    for left_m, turned_rad in ((1.0, 0.2), (-1.0, -0.2)):
        x = x_m - left_m * math.sin(yaw_rad)
        y = y_m + left_m * math.cos(yaw_rad)
        ideal.world.simulator.ego.set_pose(x, y, yaw_rad + turned_rad)
        known = known_where_it_stands(ideal)
        assert known.shape == (PRIVILEGED_SIZE,)
        assert known[0] == pytest.approx(left_m / 2.0, abs=0.02)
        assert known[1] == pytest.approx(math.sin(turned_rad), abs=0.02)

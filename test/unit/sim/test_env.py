# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The Gymnasium contract, and that the road can be driven."""

from dataclasses import replace
import math

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest

from td3_agent.driving.task import TaskConfig
from td3_agent.sim.env import ENV_ID, default_world, embedded_env

FULL_LEFT = np.array([0.0, 1.0], dtype=np.float32)
STAND = np.array([-1.0, 0.0], dtype=np.float32)


def follow_route(env):
    """Pure pursuit: the circle through a point some metres ahead on the route."""
    ego = env.world.simulator.ego
    state = ego.state
    s_m = env.task.situation.s_m
    x, y, _ = ego.route.sample(s_m + max(4.0, 0.9 * state.speed_mps))
    dx, dy = x - state.x_m, y - state.y_m
    curvature = 2.0 * math.sin(math.atan2(dy, dx) - state.yaw_rad) / math.hypot(dx, dy)
    bends = np.abs(ego.route.curvature_array(s_m + np.arange(2.0, 14.0, 3.0), 4.0))
    speed = min(8.0, math.sqrt(2.5 / max(float(bends.max()), 1e-3)))
    return np.clip(
        [speed / 8.33 * 2.0 - 1.0, curvature * max(state.speed_mps, 1.0)], -1.0, 1.0
    ).astype(np.float32)


@pytest.fixture(scope='module')
def env():
    return embedded_env()


def test_gymnasium_s_checker_has_no_complaint():
    check_env(gymnasium.make(ENV_ID, render_mode='rgb_array').unwrapped)


def test_same_seed_same_episode(env):
    runs = []
    for _ in range(2):
        env.reset(seed=11)
        runs.append([env.step(follow_route(env)) for _ in range(40)])
    for first, second in zip(*runs, strict=True):
        assert np.array_equal(first[0]['image'], second[0]['image'])
        assert np.array_equal(first[0]['state'], second[0]['state'])
        assert first[1:] == second[1:]


def test_resets_without_seed_differ(env):
    env.reset(seed=0)
    places = [env.world.simulator.ego.state for _ in range(3) if env.reset()]
    assert len(set(places)) == 3


def test_first_stack_repeats_the_first_frame_and_action_is_remembered(env):
    observation, _ = env.reset(seed=1)
    assert (observation['image'] == observation['image'][-1]).all()
    assert (observation['state'] == 0.0).all()
    observation = env.step(FULL_LEFT)[0]
    assert observation['state'][2:].tolist() == FULL_LEFT.tolist()
    assert (observation['image'][0] == observation['image'][2]).all()


def test_observations_share_no_memory(env):
    first, _ = env.reset(seed=1)
    kept = first['image'].copy()
    for _ in range(6):
        second = env.step(FULL_LEFT)[0]
        assert not np.shares_memory(first['image'], second['image'])
    assert np.array_equal(first['image'], kept)


def test_positive_yaw_action_turns_left(env):
    env.reset(seed=1)
    yaw = env.world.simulator.ego.state.yaw_rad
    for _ in range(15):
        env.step(FULL_LEFT)
    assert math.remainder(env.world.simulator.ego.state.yaw_rad - yaw, math.tau) > 0.1
    assert env.task.situation.lateral_m > 0.0


def test_standing_still_earns_nothing_and_is_truncated(env):
    env.reset(seed=2)
    for _ in range(1000):
        _, reward, terminated, truncated, info = env.step(STAND)
        assert reward == 0.0
        assert not terminated
        if truncated:
            break
    assert info['ending'] == 'stalled'


def test_leaving_the_route_terminates(env):
    env.reset(seed=2)
    rewards = []
    for _ in range(1000):
        _, reward, terminated, _, info = env.step(FULL_LEFT)
        rewards.append(reward)
        if terminated:
            break
    assert info['ending'] in ('off_route', 'collision')
    assert rewards[-1] < 0.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ('name', 'ending'), [('oval', 'time_limit'), ('winding', 'goal'), ('town', 'goal')]
)
def test_road_can_be_driven_without_fault(name, ending):
    world = replace(default_world(), map=name, route_length_m=450.0)
    env = embedded_env(world, TaskConfig(time_limit_s=80.0))
    _, info = env.reset(seed=4)
    total, steps = 0.0, 0
    while info['ending'] == 'none':
        _, reward, _, _, info = env.step(follow_route(env))
        total, steps = total + reward, steps + 1
        assert info['lane_invasions'] == 0 or name == 'town'
        assert info['on_road']
    assert info['ending'] == ending
    assert total / steps > 0.8


def test_render_gives_the_camera_s_picture_in_rgb():
    env = gymnasium.make(ENV_ID, render_mode='rgb_array')
    env.reset(seed=0)
    picture = env.render()
    sky_red, _, sky_blue = picture[0, 0].tolist()
    assert picture.shape == (84, 84, 3)
    assert sky_blue > sky_red


def test_bad_arguments_are_refused(env):
    with pytest.raises(ValueError, match="render_mode must be 'rgb_array' or None, got 'human'"):
        embedded_env(render_mode='human')
    env.reset(seed=0)
    with pytest.raises(ValueError, match='action must be finite'):
        env.step(np.array([np.nan, 0.0], dtype=np.float32))

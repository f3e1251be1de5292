# SPDX-License-Identifier: Apache-2.0
"""The task among other cars: drawn anew, all from the seed, and distance pays."""

from dataclasses import replace
import math

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest

from td3_agent.sim.lookout import lead_of
from td3_agent.sim.randomisation import Randomisation
from td3_agent.sim.seeds import FAMILIES
from td3_agent.sim.task import Situation, quality
from td3_agent.sim.traffic import TrafficConfig
from td3_agent.sim.traffic_env import (
    MOST_VEHICLES,
    TRAFFIC_TASK,
    USUAL_VEHICLES,
    TrafficDrivingEnv,
)
from td3_agent.training.env_ids import MODULES, with_module

pytestmark = pytest.mark.slow

AHEAD = np.array([0.5, 0.0], dtype=np.float32)


@pytest.fixture(scope='module')
def env():
    return TrafficDrivingEnv(maps=('town',), path=True, roads=2)


def test_gymnasium_s_checker_has_no_complaint(env):
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize('family', ['training', 'validation'])
def test_registered_tasks_are_of_their_family(family):
    name = f'td3_agent/Route{family.title()}-v0'
    assert name in MODULES
    task = gymnasium.make(with_module(name), roads=1).unwrapped
    assert task.world.config.map_seed in FAMILIES[family]
    assert task.task.collision_penalty > task.task.off_route_penalty
    task.reset(seed=0)
    if family == 'validation':
        assert len(task.world.traffic.fleet) in {USUAL_VEHICLES, USUAL_VEHICLES + 1}


def test_episodes_begin_anywhere_behind_the_vehicle_ahead():
    gaps_m = {}
    for share in (0.0, 1.0):
        env = TrafficDrivingEnv(
            maps=('country',), path=True, roads=1, least=0, most=0, crowd=0,
            random=Randomisation(approach_share=share, road_end_share=0.0),
        )  # fmt: skip
        env._traffic = lambda _: TrafficConfig(leader='standing')
        gaps_m[share] = []
        for seed in range(8):
            env.reset(seed=seed)
            gaps_m[share].append(lead_of(env.world, env.world.ego, None).gap_m)
    assert min(gaps_m[0.0]) > 40.0
    assert min(gaps_m[1.0]) < 15.0 < max(gaps_m[1.0])
    assert min(gaps_m[1.0]) >= 1.5


def test_seed_decides_on_everything(env):
    runs = []
    for _ in range(2):
        seen = [env.reset(seed=5)[0]]
        seen += [env.step(AHEAD)[0] for _ in range(20)]
        runs.append(seen)
        env.reset(seed=6)
        env.step(AHEAD)
    for one, other in zip(*runs, strict=True):
        assert all(np.array_equal(one[part], other[part]) for part in one)


def test_every_episode_draws_its_traffic(env):
    counts, led = set(), 0
    for seed in range(16):
        env.reset(seed=seed)
        traffic = env.world.traffic
        counts.add(0 if traffic is None else len(traffic.fleet))
        led += traffic is not None and traffic._leading is not None
    assert len(counts) > 6
    assert max(counts) <= MOST_VEHICLES + 1
    assert 2 < led < 14


def test_privileged_part_tells_who_is_ahead_and_how_near(env):
    env.reset(seed=1)
    env.world.reset(1, TrafficConfig(leader='standing'))
    world = env.world
    place = world.ego.route.project(world.traffic.x_m[0], world.traffic.y_m[0]).s_m
    known = []
    for back_m in (30.0, 12.0):
        world.ego.set_pose(*world.ego.route.sample(place - back_m))
        world.ego.set_velocity(5.0)
        env.situation = env._first_situation()
        known.append(env._known()[18:])
    far, near = known
    assert far[0] == near[0] == 1.0
    assert near[1] > far[1] > 0.2
    assert near[2] == pytest.approx(1.0, abs=1e-6)  # 5 m/s, in units of 5 m/s
    assert near[4:7] == pytest.approx([1.0, 12.0 / 30.0, 0.0], abs=0.02)


def test_expert_drives_and_stops_behind_who_stands():
    env = TrafficDrivingEnv(maps=('town',), path=True, roads=1, least=0, most=0, leader_share=0.0)
    env._traffic = lambda _: TrafficConfig(leader='standing')
    observed, speeds = env.reset(seed=3)[0], []
    for _ in range(400):
        assert observed['expert'] in env.observation_space['expert']
        observed, _, terminated, truncated, info = env.step(observed['expert'])
        speeds.append(info['speed_mps'])
        assert not terminated, info
        assert not truncated, info
    assert max(speeds) > 4.0
    assert speeds[-1] < 0.1
    assert observed['expert'][0] < -0.95  # stay where you are


def test_who_runs_into_somebody_has_no_success():
    env = TrafficDrivingEnv(maps=('town',), path=True, roads=1, least=0, most=0, leader_share=1.0)
    endings = {}
    for heedless in (True, False):
        observed, over = env.reset(seed=1)[0], False
        while not over:
            speed, turn = observed['expert']
            action = np.array([1.0 if heedless else speed, turn], np.float32)
            observed, _, terminated, truncated, info = env.step(action)
            over = terminated or truncated
        endings[info['ending']] = info['is_success']
    assert endings == {'collision': False, 'time_limit': True}


def test_distance_pays():
    def earned(headway_s):
        return quality(Situation(), replace(Situation(), headway_s=headway_s), TRAFFIC_TASK)

    assert earned(math.inf) == earned(1.0) == 1.0
    assert earned(0.5) == pytest.approx(1.0 - 0.5 * TRAFFIC_TASK.headway_weight)
    assert earned(0.0) == pytest.approx(1.0 - TRAFFIC_TASK.headway_weight)

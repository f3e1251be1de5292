# SPDX-License-Identifier: Apache-2.0
"""The task among other cars: drawn anew, all from the seed, and distance pays."""

from dataclasses import replace
import math

import gymnasium
from gymnasium.utils.env_checker import check_env
import numpy as np
import pytest

from td3_agent.driving.task import Situation, quality
from td3_agent.sim.lead import lead_of
from td3_agent.sim.privileged import PRIVILEGED_SIZE, Privileged
from td3_agent.sim.random_env import (
    MOST_VEHICLES,
    TRAFFIC_TASK,
    USUAL_VEHICLES,
    DrawnTraffic,
    random_env,
)
from td3_agent.sim.randomisation import FAMILIES, Randomisation
from td3_agent.sim.traffic import TrafficConfig
from td3_agent.training.env_ids import MODULES, with_module

pytestmark = pytest.mark.slow

AHEAD = np.array([0.5, 0.0], dtype=np.float32)


def town_env(roads=1, traffic=None):
    return random_env(
        ('town',), roads=roads, path=True, task=TRAFFIC_TASK, traffic=traffic or DrawnTraffic()
    )


@pytest.fixture(scope='module')
def env():
    return town_env(roads=2)


def test_gymnasium_s_checker_has_no_complaint(env):
    check_env(env, skip_render_check=True)


@pytest.mark.parametrize('family', ['training', 'validation'])
def test_registered_tasks_are_of_their_family(family):
    name = f'td3_agent/Route{family.title()}-v0'
    assert name in MODULES
    task = gymnasium.make(with_module(name), roads=1).unwrapped
    assert task.world.simulator.config.map_seed in FAMILIES[family]
    assert task.task.config.collision_penalty > task.task.config.off_route_penalty
    task.reset(seed=0)
    if family == 'validation':
        assert len(task.world.simulator.traffic.fleet) in {USUAL_VEHICLES, USUAL_VEHICLES + 1}


def test_episodes_begin_anywhere_behind_the_vehicle_ahead():
    gaps_m = {}
    for share in (0.0, 1.0):
        env = random_env(
            maps=('country',),
            path=True,
            roads=1,
            traffic=lambda _: TrafficConfig(leader='standing'),
            random=Randomisation(approach_share=share, road_end_share=0.0),
        )
        gaps_m[share] = []
        for seed in range(8):
            env.reset(seed=seed)
            simulator = env.world.simulator
            gaps_m[share].append(lead_of(simulator, simulator.ego, None).gap_m)
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
        traffic = env.world.simulator.traffic
        counts.add(0 if traffic is None else len(traffic.fleet))
        led += traffic is not None and traffic._leading is not None
    assert len(counts) > 6
    assert max(counts) <= MOST_VEHICLES + 1
    assert 2 < led < 14


def test_privileged_part_tells_who_is_ahead_and_how_near(env):
    env.reset(seed=1)
    world = env.world.simulator
    world.reset(1, TrafficConfig(leader='standing'))
    privileged = Privileged(env.world, traffic=True)
    place = world.ego.route.project(world.traffic.x_m[0], world.traffic.y_m[0]).s_m
    known = []
    for back_m in (30.0, 12.0):
        world.ego.set_pose(*world.ego.route.sample(place - back_m))
        world.ego.set_velocity(5.0)
        env.task.begin(world.ego.route, (world.ego.state.x_m, world.ego.state.y_m))
        privileged.begin(env.task.situation)
        parts = privileged.parts(env.observation, env.task.situation)
        known.append(parts['privileged'][PRIVILEGED_SIZE:])
    far, near = known
    assert far[0] == near[0] == 1.0
    assert near[1] > far[1] > 0.2
    assert near[2] == pytest.approx(1.0, abs=1e-6)  # 5 m/s, in units of 5 m/s
    assert near[4:7] == pytest.approx([1.0, 12.0 / 30.0, 0.0], abs=0.02)


def test_expert_drives_and_stops_behind_who_stands():
    env = town_env(traffic=lambda _: TrafficConfig(leader='standing'))
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
    env = town_env(traffic=DrawnTraffic(most=0, leader_share=1.0))
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

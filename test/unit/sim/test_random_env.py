# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The tasks that are trained on: everything is drawn, and all of it from the episode's seed."""

from dataclasses import replace
import math

import gymnasium
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.command import twist_from_action
from td3_agent.driving.observation import STATE_SIZE
from td3_agent.driving.task import Situation, quality
from td3_agent.envs import with_module
from td3_agent.sim.lead import lead_of
from td3_agent.sim.look import NO_SHADOWS, Look
from td3_agent.sim.privileged import (
    BRAKING_MPS2,
    PRIVILEGED_SIZE,
    REACTION_S,
    STANDING_GAP_M,
    Privileged,
    stopping_speed,
)
from td3_agent.sim.random_env import (
    ENVS,
    MOST_VEHICLES,
    TRAFFIC_TASK,
    USUAL_VEHICLES,
    DrawnTraffic,
    random_env,
)
from td3_agent.sim.randomisation import FAMILIES, NOTHING_RANDOM, Randomisation
from td3_agent.sim.traffic import TrafficConfig

AHEAD = np.array([0.5, 0.0], dtype=np.float32)
AMONG_TRAFFIC = pytest.param('among_traffic', marks=pytest.mark.slow)


def town_env(roads=1, traffic=None):
    return random_env(
        ('town',), roads=roads, path=True, task=TRAFFIC_TASK, traffic=traffic or DrawnTraffic()
    )


@pytest.fixture(scope='module')
def env():
    return random_env(roads=2)


@pytest.fixture(scope='module')
def among_traffic():
    return town_env(roads=2)


@pytest.fixture(scope='module')
def ideal():
    return random_env(roads=1, random=NOTHING_RANDOM, random_style=False)


def same(one, other):
    return one.keys() == other.keys() and all(
        np.array_equal(one[part], other[part]) for part in one
    )


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['env', 'among_traffic'])
def test_gymnasium_s_checker_has_no_complaint(kind, request):
    check_env(request.getfixturevalue(kind), skip_render_check=True)


@pytest.mark.parametrize('family', ['training', 'validation'])
@pytest.mark.parametrize('name', ['Lane', pytest.param('Route', marks=pytest.mark.slow)])
def test_registered_tasks_are_of_their_family(name, family):
    env = gymnasium.make(with_module(f'td3_agent/{name}{family.title()}-v0'), roads=1).unwrapped
    config = env.world.simulator.config
    assert config.map_seed in FAMILIES[family]
    assert config.map == ('winding' if name == 'Lane' else 'town')
    assert env.spec_of_observation.path == (name == 'Route')
    env.reset(seed=0)
    if (name, family) == ('Route', 'validation'):
        assert len(env.world.simulator.traffic.fleet) in {USUAL_VEHICLES, USUAL_VEHICLES + 1}


@pytest.mark.parametrize('kind', ['env', AMONG_TRAFFIC])
def test_seed_decides_on_everything(kind, request):
    env, runs = request.getfixturevalue(kind), []
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


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_shadows_lie_on_roads_in_the_default_look(share):
    limits = replace(NOTHING_RANDOM, plain_shadow_probability=share)
    env, drawn = random_env(roads=1, random=limits, random_style=False), set()
    for seed in range(6):
        env.reset(seed=seed)
        look = env.world.simulator.look
        assert replace(look, shadows=NO_SHADOWS) == Look()
        drawn.add(look.shadows)
    assert drawn == {NO_SHADOWS} if share == 0.0 else len(drawn - {NO_SHADOWS}) > 2


def test_length_is_drawn_and_motion_may_be_disguised():
    limits = Randomisation(
        episode_shortest_s=0.1, disguise_probability=1.0, moving_probability=1.0
    )
    env = random_env(roads=1, random=limits, time_limit_s=10.0)
    action = np.array([0.0, 1.0], dtype=np.float32)
    lengths_s, shown = [], []
    for seed in range(8):
        env.reset(seed=seed)
        observed, *_ = env.step(action)
        assert observed['state'][0] > 0.0
        shown.append(observed['state'][1:STATE_SIZE])
        lengths_s.append(env.task.config.time_limit_s)
    assert 0.1 <= min(lengths_s) < 1.0 < max(lengths_s) <= 10.0
    assert np.abs(shown).max() <= 1.0
    assert np.std(shown, axis=0).min() > 0.3
    env.reset(seed=7)
    assert (env.step(action)[0]['state'] == observed['state']).all()  # all from its seed


@pytest.mark.slow
def test_end_of_the_road_is_sought():
    def short_ones(share):
        env = random_env(roads=1, random=Randomisation(road_end_probability=share))
        for seed in range(8):
            env.reset(seed=seed)
            yield env.world.simulator.ego.route.length_m < 210.0

    assert sum(short_ones(1.0)) > sum(short_ones(0.0)) + 2


@pytest.mark.parametrize(('late_probability', 'frames'), [(0.0, 0), (1.0, 1)])
def test_late_commands_arrive_a_frame_later(late_probability, frames):
    limits = Randomisation(moving_probability=0.0, late_probability=late_probability)
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


@pytest.mark.slow
def test_episodes_begin_anywhere_behind_the_vehicle_ahead():
    gaps_m = {}
    for share in (0.0, 1.0):
        env = random_env(
            maps=('country',),
            path=True,
            roads=1,
            traffic=lambda _: TrafficConfig(leader='standing'),
            random=Randomisation(approach_probability=share, road_end_probability=0.0),
        )
        gaps_m[share] = []
        for seed in range(8):
            env.reset(seed=seed)
            simulator = env.world.simulator
            gaps_m[share].append(lead_of(simulator, simulator.ego, None).gap_m)
    assert min(gaps_m[0.0]) > 40.0
    assert min(gaps_m[1.0]) < 15.0 < max(gaps_m[1.0])
    assert min(gaps_m[1.0]) >= 0.3


@pytest.mark.parametrize('places', [0, 2])
def test_episodes_may_begin_at_few_places(places):
    """Each with other colours and another start."""
    env = random_env(roads=1, random=Randomisation(places=places, road_end_probability=0.0))
    routes, poses = set(), set()
    for seed in range(8):
        env.reset(seed=seed)
        ego = env.world.simulator.ego
        routes.add(ego.route.sample(0.0))
        poses.add(ego.motion[:2])
    assert len(routes) == places if places else len(routes) > 3
    assert len(poses) == 8


def test_held_car_stands_whatever_is_commanded():
    held = Randomisation(held_probability=1.0, moving_probability=1.0, road_end_probability=0.0)
    env = random_env(roads=1, random=held, time_limit_s=10.0)
    env.reset(seed=0)
    for _ in range(20):
        env.step(np.array([1.0, 0.0], dtype=np.float32))
    assert env.world.simulator.ego.state.speed_mps == 0.0


def test_plain_picture_is_that_of_the_usual_camera():
    """On plain roads, every other round of the maps, in the default look."""
    plain = Randomisation(plain_probability=1.0, road_end_probability=0.0)
    env = random_env(roads=2, plain_roads=True, random=plain)
    looks = set()
    for seed in range(8):
        env.reset(seed=seed)
        simulator = env.world.simulator
        assert simulator.camera.config == simulator.config.camera
        assert simulator.config.random_style == (simulator.look != Look())
        looks.add(simulator.look)
    assert Look() in looks
    assert len(looks) > 2


def test_training_meets_each_kind_of_vehicle_equally_often():
    assert ENVS['td3_agent/RouteTraining-v0']['traffic'](np.random.default_rng(0)).even_kinds
    assert not ENVS['td3_agent/RouteValidation-v0']['traffic'](np.random.default_rng(0)).even_kinds


@pytest.mark.slow
def test_every_episode_draws_its_traffic(among_traffic):
    counts, led = set(), 0
    for seed in range(16):
        among_traffic.reset(seed=seed)
        traffic = among_traffic.world.simulator.traffic
        counts.add(0 if traffic is None else len(traffic.fleet))
        led += traffic is not None and traffic._lead_vehicle is not None
    assert len(counts) > 6
    assert max(counts) <= MOST_VEHICLES + 1
    assert 2 < led < 14


@pytest.mark.slow
def test_privileged_part_tells_who_is_ahead_and_how_near(among_traffic):
    among_traffic.reset(seed=1)
    world = among_traffic.world.simulator
    world.reset(1, TrafficConfig(leader='standing'))
    privileged = Privileged(among_traffic.world, traffic=True)
    place = world.ego.route.project(world.traffic.x_m[0], world.traffic.y_m[0]).s_m
    known = []
    for back_m in (30.0, 12.0):
        world.ego.set_pose(*world.ego.route.sample(place - back_m))
        world.ego.set_velocity(5.0)
        among_traffic.task.begin(world.ego.route, (world.ego.state.x_m, world.ego.state.y_m))
        privileged.begin(among_traffic.task.situation)
        parts = privileged.parts(among_traffic.observation, among_traffic.task.situation)
        known.append(parts['privileged'][PRIVILEGED_SIZE:])
    far, near = known
    assert far[0] == near[0] == 1.0
    assert near[1] > far[1] > 0.2
    assert near[2] == pytest.approx(1.0, abs=1e-6)  # 5 m/s, in units of 5 m/s
    assert near[4:7] == pytest.approx([1.0, 12.0 / 30.0, 0.0], abs=0.02)


@pytest.mark.slow
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
    assert twist_from_action(observed['expert']).linear_x == 0.0


@given(gap_m=st.floats(STANDING_GAP_M, 200.0))
def test_stopping_distance_of_that_speed_is_the_free_distance(gap_m):
    speed_mps = stopping_speed(gap_m)
    stopping_m = speed_mps * REACTION_S + speed_mps**2 / (2.0 * BRAKING_MPS2)
    assert STANDING_GAP_M + stopping_m == pytest.approx(gap_m)


def test_expert_depends_on_place_and_speed_alone(ideal):
    ideal.reset(seed=2)
    fresh = Privileged(ideal.world, expert=True)
    fresh.begin(ideal.task.situation)
    for _ in range(40):
        observed = ideal.step(AHEAD)[0]
    now = fresh.parts(ideal.observation, ideal.task.situation)
    assert now['expert'].tolist() == observed['expert'].tolist()


@pytest.mark.slow
def test_who_runs_into_somebody_has_no_success():
    env = town_env(traffic=DrawnTraffic(most=0, leader_probability=1.0))
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

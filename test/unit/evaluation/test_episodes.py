# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes: drawn by their seed, ended by their ledger alone."""

import math

import numpy as np
import pytest

from td3_agent.driving.ledger import SKIPPED
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.route import Route
from td3_agent.driving.task import STEP_S, Ending, TaskConfig
from td3_agent.evaluation.episodes import (
    EpisodePlan,
    begun,
    frames_to_drive,
    up_to_the_ending,
)
from td3_agent.sim.embedded import route_on_the_wire
from td3_agent.sim.maps import built_in_opendrive
from td3_agent.sim.randomisation import FAMILIES

LINE = Route(np.column_stack((np.arange(101.0), np.zeros(101))))
RADIUS_M = 20.0
ANGLES = np.linspace(0.0, 2.0 * math.pi, 400, endpoint=False)
LAP = Route(RADIUS_M * np.column_stack((np.cos(ANGLES), np.sin(ANGLES))), closed=True)
TASK = TaskConfig(time_limit_s=60.0)
SPEED_MPS = 5.0


def along_x(count, y_m=0.0, speed=SPEED_MPS):
    return [{'x_m': (i + 1) * speed * STEP_S, 'y_m': y_m} for i in range(count)]


def around(count):
    angle = SPEED_MPS * STEP_S / RADIUS_M
    return [
        {'x_m': RADIUS_M * math.cos(i * angle), 'y_m': RADIUS_M * math.sin(i * angle)}
        for i in range(1, count + 1)
    ]


def outcome(records, route=LINE, task=TASK):
    """Return ending, frames until then, and route completion."""
    following = begun(task, route, tuple(route.points_xy[0]))
    kept = up_to_the_ending(records, following)
    return following.ending, len(kept), following.route_completion


def test_goal_is_reached_within_the_goal_distance():
    frames = math.ceil((100.0 - TASK.goal_distance_m) / (SPEED_MPS * STEP_S))
    assert outcome(along_x(500)) == (Ending.GOAL, frames, 1.0)


def test_a_lap_is_the_whole_of_a_closed_route():
    ending, frames, completion = outcome(around(1000), LAP)
    assert (ending, completion) == (Ending.GOAL, 1.0)
    assert frames * SPEED_MPS * STEP_S == pytest.approx(
        LAP.length_m - TASK.goal_distance_m, abs=0.3
    )


def test_lap_begun_backwards_is_no_goal():
    ending, _, completion = outcome([place | {'y_m': -place['y_m']} for place in around(200)], LAP)
    assert ending is Ending.STALLED
    assert completion < 0.01


def test_collision_ends_at_its_frame():
    records = along_x(200)
    records[42]['collision'] = 200
    ending, frames, completion = outcome(records)
    assert (ending, frames) == (Ending.COLLISION, 43)
    assert completion == pytest.approx(43 * SPEED_MPS * STEP_S / 100.0)


def test_leaving_the_route_ends():
    records = along_x(20) + along_x(200, y_m=-3.6)[20:]
    assert outcome(records)[:2] == (Ending.OFF_ROUTE, 21)


def test_standing_ends_when_it_has_lasted():
    stall_frames = round(TASK.stall_time_s / STEP_S)
    ending, frames, _ = outcome(along_x(20) + [along_x(20)[-1]] * 500)
    assert (ending, frames) == (Ending.STALLED, 20 + stall_frames)


def test_time_limit_ends():
    task = TaskConfig(time_limit_s=7.5)
    assert outcome(along_x(500), task=task)[:2] == (Ending.TIME_LIMIT, 150)


def test_frames_without_odometry_take_time_and_may_hold_a_collision():
    records = along_x(10)
    stall_frames = round(TASK.stall_time_s / STEP_S)
    lost = [{'outcome': SKIPPED}] * 300
    assert outcome(records + lost)[:2] == (Ending.STALLED, 10 + stall_frames)
    assert outcome([*records, {'collision': 200}])[:2] == (Ending.COLLISION, 11)


def test_unfinished_episode_has_no_ending():
    assert outcome(along_x(100))[0] is Ending.NONE
    assert outcome([]) == (Ending.NONE, 0, 0.0)


def test_turning_back_keeps_what_was_covered():
    there = along_x(200)
    _, _, completion = outcome(there + there[::-1])
    assert completion == pytest.approx(0.5)


def test_time_limit_follows_from_the_length_of_the_route():
    plan = EpisodePlan(least_mean_speed_mps=4.0, time_allowance_s=5.0)
    task = plan.task(LINE)
    assert task.time_limit_s == pytest.approx(30.0)
    assert frames_to_drive(task) == 600 + 4  # and the frames that confirm the last command


def test_roads_are_all_different_and_of_their_family():
    plans = {family: EpisodePlan(family=family) for family in FAMILIES}
    seeds = {family: drawn(plan)[0] for family, plan in plans.items()}
    for family, drawn_here in seeds.items():
        assert set(drawn_here) <= set(FAMILIES[family])
        assert len(set(drawn_here)) == 20
    assert len(set().union(*seeds.values())) == 60


def drawn(plan):
    """Seeds of maps and of worlds of all episodes of a plan."""
    episodes = [plan.episode(number).bridge for number in range(plan.episodes)]
    return [e.map_seed for e in episodes], [e.seed for e in episodes]


def test_equal_seeds_draw_equal_episodes_and_others_do_not():
    assert drawn(EpisodePlan(seed=3)) == drawn(EpisodePlan(seed=3))
    for one, other in zip(drawn(EpisodePlan(seed=3)), drawn(EpisodePlan(seed=4)), strict=True):
        assert not set(one) & set(other)


def test_map_from_a_file_keeps_its_road_and_draws_the_start(tmp_path):
    path = tmp_path / 'street.xodr'
    path.write_text(built_in_opendrive('winding', 5), 'utf-8')
    plan = EpisodePlan(map=str(path), episodes=6)
    maps, worlds = drawn(plan)
    assert set(maps) == {0}
    assert len(set(worlds)) == 6
    starts = {plan.episode(number).simulator().ego.state.x_m for number in range(3)}
    assert len(starts) > 1


@pytest.mark.parametrize('name', ['oval', 'winding'])
def test_route_on_the_wire_is_the_route_of_the_world(name):
    world = EpisodePlan(map=name, route_length_m=1000.0).episode(0).simulator()
    route = route_on_the_wire(world.ego)
    assert route.closed == world.ego.route.closed == (name == 'oval')
    np.testing.assert_array_equal(route.points_xy, world.ego.route.points_xy)


@pytest.mark.parametrize(
    ('values', 'texts'),
    [
        ({'episodes': 0}, ('episodes', '0')),
        ({'family': 'unseen'}, ('family', 'unseen')),
        ({'route_length_m': -1.0, 'seed': -2}, ('route_length_m', '-1', 'seed', '-2', '[m]')),
        ({'least_mean_speed_mps': math.nan}, ('least_mean_speed_mps', 'nan')),
    ],
)
def test_bad_plans_are_refused_by_name(values, texts):
    with pytest.raises(ParameterError) as error:
        EpisodePlan(**values)
    for text in texts:
        assert text in str(error.value)

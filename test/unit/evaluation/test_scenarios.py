# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Scenarios: named, seeded, listed; a driver that reads the simulator has no contact in them."""

import json

import pytest

from td3_agent.__main__ import main, parser
from td3_agent.driving.parameters import ParameterError
from td3_agent.evaluation.direct_episodes import (
    FOLLOWING,
    DirectDriverParams,
    DirectJob,
    drive_job,
)
from td3_agent.evaluation.episodes import EpisodePlan
from td3_agent.evaluation.evaluate import check_drivable, evaluation_of, progress_line
from td3_agent.evaluation.scenarios import SCENARIOS
from td3_agent.sim.maps import built_in_opendrive

SHORT = EpisodePlan(route_length_m=120.0, camera_width=84, camera_height=84, episodes=1)

STREET = """<OpenDRIVE><header revMajor="1" revMinor="7"/><road name="" id="1" length="30"
junction="-1"><link/><planView><geometry s="0" x="0" y="0" hdg="0" length="30"><line/></geometry>
</planView><lanes><laneSection s="0"><center><lane id="0" type="none"/></center><right>
<lane id="-1" type="driving"><width sOffset="0" a="3.5" b="0" c="0" d="0"/></lane></right>
</laneSection></lanes></road></OpenDRIVE>"""


def arguments(*words):
    return parser('evaluate').parse_args(['evaluate', *words])


def listed(capsys, *words):
    with pytest.raises(SystemExit) as end:
        main(['scenarios', *words])
    assert end.value.code == 0
    return capsys.readouterr().out


def test_list_names_every_scenario_and_says_what_it_is_about(capsys):
    lines = listed(capsys).splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(SCENARIOS)
    for line, scenario in zip(lines[1:], SCENARIOS.values(), strict=True):
        assert line.endswith(scenario.about)


def test_json_holds_the_whole_plan(capsys):
    plans = json.loads(listed(capsys, '--json'))
    assert plans['traffic-50']['plan']['traffic_vehicles'] == 50
    assert plans['traffic-50']['plan']['map'] == 'town'


def test_scenario_decides_on_road_and_traffic_the_rest_is_as_asked_for():
    words = ('--scenario', 'leader-stop-and-go', '--episodes', '3', '--seed', '7')
    plan = evaluation_of(arguments(*words)).plan
    assert (plan.map, plan.traffic_leader, plan.episodes, plan.seed) == (
        'winding',
        'stop_and_go',
        3,
        7,
    )
    assert plan.stall_time_s > EpisodePlan().stall_time_s


def test_what_the_scenario_decides_cannot_be_asked_for_besides():
    """Not even by what would be taken without a scenario: it is not what will be driven."""
    words = ('--map', 'winding', '--least-mean-speed', '2.0')
    with pytest.raises(ParameterError) as refused:
        evaluation_of(arguments('--scenario', 'traffic-20', *words))
    assert str(refused.value) == (
        "map is decided by the scenario, or an .xodr file, got 'winding'; "
        'least_mean_speed_mps is decided by the scenario, got 2.0'
    )


@pytest.fixture
def town_file(tmp_path):
    path = tmp_path / 'own town.xodr'
    path.write_text(built_in_opendrive('town', 3))
    return str(path)


@pytest.mark.parametrize('name', SCENARIOS)
def test_every_scenario_is_driven_on_a_map_of_ones_own(name, town_file):
    words = ('--scenario', name, '--map', town_file, '--episodes', '2')
    evaluation = evaluation_of(arguments(*words))
    check_drivable(evaluation)
    plan, scenario = evaluation.plan, SCENARIOS[name]
    assert (plan.map, plan.traffic_vehicles) == (town_file, scenario.traffic_vehicles)
    world = plan.episode(1).simulator()
    assert world.map.name == 'own town'
    wanted = scenario.traffic_vehicles + (scenario.traffic_leader != 'none')
    assert (len(world.traffic.fleet) if wanted else 0) == wanted


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('traffic-100', 'needs room for 100 vehicles; map .oval. has room for'),
        ('leader-slow', r'1 vehicles, one of them ahead of the car \(slow\); map .street.'),
    ],
)
def test_a_map_without_room_for_the_scenario_is_refused(name, words, tmp_path):
    path = tmp_path / ('oval.xodr' if name == 'traffic-100' else 'street.xodr')
    path.write_text(built_in_opendrive('oval', 0) if name == 'traffic-100' else STREET)
    evaluation = evaluation_of(arguments('--scenario', name, '--map', str(path)))
    with pytest.raises(ParameterError, match=words):
        check_drivable(evaluation)


def test_without_a_scenario_arguments_decide():
    usual = EpisodePlan()
    plan = evaluation_of(arguments()).plan
    assert (plan.map, plan.least_mean_speed_mps) == (usual.map, usual.least_mean_speed_mps)
    plan = evaluation_of(arguments('--map', 'oval', '--least-mean-speed', '3')).plan
    assert (plan.map, plan.least_mean_speed_mps) == ('oval', 3.0)


@pytest.mark.parametrize('words', [('--transport', 'ros'), ('--compare',)])
def test_driver_that_reads_the_simulator_drives_in_process_only(words):
    with pytest.raises(ValueError, match='pure_pursuit_idm needs --transport direct'):
        evaluation_of(arguments('--driver', FOLLOWING, *words))


def test_episodes_are_the_same_worlds_over_ros():
    """Everything that makes the world goes to the bridge process as a parameter."""
    episode = SCENARIOS['traffic-50'].plan(SHORT).episode(0)
    assert episode.settings['traffic_vehicles'] == 50
    assert len(episode.simulator().traffic.fleet) == 50


@pytest.mark.parametrize('name', ['leader-stop-and-go', 'leader-sudden-stop', 'traffic-100'])
@pytest.mark.slow
def test_following_reaches_the_goal_without_contact(name):
    plan = SCENARIOS[name].plan(SHORT)
    drivers = {'following': DirectDriverParams(driver=FOLLOWING)}
    job = DirectJob(plan=plan, episode=plan.episode(0), drivers=drivers, ledgers={})
    figures = drive_job(job)['following'].figures
    assert figures['collisions'] == 0
    assert figures['ending'] == 'goal'


def test_driver_that_sees_nothing_runs_into_the_obstacle():
    plan = SCENARIOS['parked-obstacle'].plan(SHORT)
    drivers = {'blind': DirectDriverParams(driver='pure_pursuit')}
    job = DirectJob(plan=plan, episode=plan.episode(0), drivers=drivers, ledgers={})
    assert drive_job(job)['blind'].figures['ending'] == 'collision'


def test_progress_has_a_line_for_each_tenth_of_the_episodes():
    lines = [progress_line(done, 50, 2.0 * done) for done in range(1, 51)]
    assert [number for number, line in enumerate(lines, start=1) if line] == [*range(5, 51, 5)]
    assert lines[19] == 'evaluating: 20 of 50 episodes, 40 s, 60 s left\n'
    assert all(progress_line(done, 3, 1.0) for done in (1, 2, 3))

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The policies that ship: trained, whole, with the record of their training, and they drive."""

import csv
from itertools import islice
import json
from pathlib import Path

import pytest

torch = pytest.importorskip('torch')

from td3_agent.driving.loop import ledger_records  # noqa: E402
from td3_agent.evaluation.direct_episodes import direct_drive  # noqa: E402
from td3_agent.nodes.drivers import DriverParams, make_driver  # noqa: E402
from td3_agent.policy.checkpoint import load_checkpoint  # noqa: E402
from td3_agent.policy.policy_file import SHIPPED, policy_file  # noqa: E402
from td3_agent.sim.lead import BEHAVIOURS  # noqa: E402
from td3_agent.sim.randomisation import map_seed  # noqa: E402
from td3_agent.sim.simulator import Simulator, SimulatorConfig  # noqa: E402
from td3_agent.sim.traffic import TrafficConfig  # noqa: E402

ROOT = Path(__file__).parents[2]
ROADS = {'lane': 'winding', 'route': 'town'}


@pytest.fixture(autouse=True)
def threads():
    """Hand back the threads that making a driver takes away."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def driven(world, name, frames):
    """Records of a drive by a policy."""
    steps = direct_drive(world, make_driver(DriverParams(driver='td3', policy=name)))
    return list(ledger_records(islice(steps, frames)))


@pytest.mark.parametrize('name', SHIPPED)
def test_weights_are_those_of_the_recorded_training(name):
    policy, manifest = load_checkpoint(policy_file(name), kind='driving')
    assert policy.trained
    assert manifest.observation_spec.path == (name != 'lane')
    logs = ROOT / 'docs' / 'results' / 'driving' / name
    summary = json.loads((logs / 'summary.json').read_text())
    with (logs / 'eval.csv').open(newline='') as file:
        returns = {int(row['step']): float(row['return_mean']) for row in csv.DictReader(file)}
    assert manifest.training['train']['seed'] == summary['train']['seed']
    step = manifest.training['step']
    assert returns[step] == manifest.training['evaluation']['return_mean']
    assert step in {max(returns, key=returns.get), summary['step']}  # the best or the last
    assert manifest.training['env'] == summary['env']


@pytest.mark.parametrize('name', SHIPPED)
@pytest.mark.slow
def test_unseen_road_is_driven(name):
    """Fifteen seconds on a road of the test family: in the lane, and not at a crawl."""
    config = SimulatorConfig(map=ROADS[name], map_seed=map_seed('test', 123, 0), seed=5)
    world = Simulator(config)
    records = driven(world, name, frames=300)
    near_m, lateral_m = None, []
    for record in records:
        seen = world.ego.route.project(record['x_m'], record['y_m'], near_m)
        near_m = seen.s_m
        lateral_m.append(abs(seen.lateral_m))
    assert max(lateral_m) < 1.5
    assert near_m > 50.0
    assert not any('collision' in record for record in records)


@pytest.mark.parametrize('leader', BEHAVIOURS)
@pytest.mark.slow
def test_route_policy_brakes_for_a_lead_vehicle(leader):
    """Half a minute behind each of the leading vehicles, in a town that nobody was trained in."""
    traffic = TrafficConfig(vehicles=0, leader=leader)
    config = SimulatorConfig(
        map='town', map_seed=map_seed('test', 123, 0), seed=5, traffic=traffic
    )
    records = driven(Simulator(config), 'route', frames=600)
    assert not any('collision' in record for record in records)
    speeds_mps = [record['speed_mps'] for record in records]
    assert max(speeds_mps) > 2.5

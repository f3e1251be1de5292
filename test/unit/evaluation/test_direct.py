# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The direct path: pure pursuit finishes every built-in map; equal drives, equal ledgers."""

from itertools import islice

from harness.ledgers import check_ledger
import numpy as np
import pytest
import torch

from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention, VehicleControl
from td3_agent.driving.loop import drive, ledger_records
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.evaluation.summary import summarize
from td3_agent.policy.policy import untrained_policy
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.embedded import EmbeddedWorld, geometry_on_the_wire
from td3_agent.sim.simulator import Simulator, SimulatorConfig

SMALL = CameraConfig(width=32, height=24)  # pure pursuit does not look
STANDSTILL_MPS = 0.1


def make_simulator(**config):
    return Simulator(SimulatorConfig(**({'spawn_index': 0, 'camera': SMALL} | config)))


def driven(world, driver, frames, convention=TwistConvention.VELOCITY):
    """Ledger records of a drive."""
    steps = drive(EmbeddedWorld(world), Agent(driver), TwistConverter(convention))
    return ledger_records(islice(steps, frames))


def drive_to_the_end(world, frames):
    """Drive until the route is finished and the car stands; return driver and records."""
    driver, records = PurePursuitDriver(route=world.ego.route), []
    for record in driven(world, driver, frames):
        records.append(record)
        if driver.arrived and abs(record['speed_mps']) < STANDSTILL_MPS:
            break
    return driver, records


def check_clean(summary):
    assert summary['outcomes'] == {'ok': summary['frames']}
    assert (summary['violations'], summary['collisions'], summary['lane_invasions']) == (0, 0, 0)
    assert summary['lateral_error_max_m'] < 0.5


def test_pure_pursuit_drives_a_lap_of_the_oval():
    world = make_simulator(map='oval')
    records = list(driven(world, PurePursuitDriver(route=world.ego.route), 1250))
    summary = summarize(records, world.ego.route)
    check_clean(summary)
    assert summary['route_completion'] == 1.0
    assert check_ledger(records) == []


@pytest.mark.parametrize(
    ('where', 'seed', 'route_length_m'),
    [
        ('winding', 0, 1000.0),  # to the end of the road
        ('winding', 1, 250.0),
        ('winding', 2, 250.0),
        ('winding', 3, 250.0),
        ('town', 0, 1000.0),
    ],
)
@pytest.mark.slow
def test_pure_pursuit_reaches_the_goal(where, seed, route_length_m):
    world = make_simulator(map=where, map_seed=seed, seed=seed, route_length_m=route_length_m)
    driver, records = drive_to_the_end(world, frames=int(6.0 * route_length_m))
    assert driver.arrived
    summary = summarize(records, world.ego.route)
    check_clean(summary)
    assert summary['route_completion'] > 0.99
    assert summary['mean_speed_mps'] > 5.0
    assert check_ledger(records) == []


@pytest.fixture(scope='module')
def oval():
    return make_simulator(map='oval', camera=CameraConfig(width=84, height=84))


@pytest.fixture
def policy():
    """Return an untrained policy that leaves the other cores alone."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield untrained_policy(3)
    torch.set_num_threads(threads)


def pursuit(world):
    return PurePursuitDriver(route=world.ego.route)


@pytest.mark.parametrize('convention', TwistConvention)
def test_two_runs_give_equal_ledgers(oval, convention):
    ledgers = []
    for _ in range(2):
        oval.reset(0)
        ledgers.append(list(driven(oval, pursuit(oval), 100, convention)))
    assert ledgers[0] == ledgers[1]
    assert len({record['observation_sha256'] for record in ledgers[0]}) > 90


def test_another_seed_gives_another_ledger(oval):
    hashes = []
    for seed in (0, 1):
        oval.reset(seed)
        records = driven(oval, pursuit(oval), 5)
        hashes.append([record['observation_sha256'] for record in records])
    assert hashes[0] != hashes[1]


def test_untrained_policy_drives_fifty_frames_the_same_way_twice(oval, policy):
    ledgers = []
    for _ in range(2):
        oval.reset(0)
        ledgers.append(list(driven(oval, policy, 50)))
    assert ledgers[0] == ledgers[1]
    assert [record['outcome'] for record in ledgers[0]] == ['ok'] * 50
    assert all(abs(value) <= 1.0 for record in ledgers[0] for value in record['action'])
    assert check_ledger(ledgers[0]) == []


def test_frames_are_numbered_from_the_one_after_the_present_one(oval):
    oval.reset(0)
    before = oval.frame
    records = list(driven(oval, pursuit(oval), 10))
    assert [record['frame'] for record in records] == list(range(before + 1, before + 11))


def test_every_command_is_carried_out_in_the_following_frame(oval):
    oval.reset(0)
    records = list(driven(oval, pursuit(oval), 30))
    assert [r['applied'] == r['sent'] for r in records] == [True] * 29 + [False]
    assert records[-1]['applied'] is None
    assert len({r['sent']['throttle'] for r in records}) > 5


def test_commands_are_rounded_as_the_wire_rounds_them(oval):
    oval.reset(0)
    for record in driven(oval, pursuit(oval), 30):
        sent = VehicleControl(**record['sent'])
        assert sent == sent.as_float32()


def test_driver_sees_the_motion_as_odometry_carries_it(oval):
    class Bend:
        """Drives a bend and compares what it sees with the world."""

        def __init__(self):
            self.exact = []

        def set_route(self, route):
            assert route.closed

        def act(self, observation):
            assert observation.vehicle == oval.ego.as_carla_has_it()[0].as_odometry()
            self.exact.append(observation.vehicle == oval.ego.state)
            return np.array([0.0, 0.3], dtype=np.float32)

    oval.reset(0)
    driver = Bend()
    assert len(list(driven(oval, driver, 40))) == 40
    assert not all(driver.exact)  # the quaternion rounds: else this would prove nothing


def test_geometry_is_read_from_vehicle_info(oval):
    geometry = geometry_on_the_wire(oval.ego)
    assert 2.0 < geometry.wheelbase_m < 4.0
    assert 0.3 < geometry.max_steer_angle_rad < 1.57

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What every world keeps, be it the embedded simulator, a ROS bridge or a recorded bag."""

from itertools import islice
import math
from pathlib import Path

from harness.ledgers import check_ledger
import numpy as np
import pytest

from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention, VehicleControl
from td3_agent.driving.loop import drive, ledger_records
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.driving.velocity_control import TwistConverter

OVAL_BAG = Path(__file__).parents[1] / 'bags' / 'oval'
COMMANDS = [VehicleControl(throttle=0.5, steer=steer) for steer in (0.0, 0.25, -0.25, 0.125)]
SAME_PLACE_M = 0.01  # a bridge lets the car settle
ON_ROUTE_M = 3.5


def embedded_world():
    pytest.importorskip('carla')
    from td3_agent.sim.embedded import EmbeddedWorld
    from td3_agent.sim.env import default_world
    from td3_agent.sim.simulator import Simulator

    return EmbeddedWorld(Simulator(default_world()))


def bag_world():
    pytest.importorskip('rosbags')
    from td3_agent.bags.bag import Bag
    from td3_agent.bags.inputs import find_inputs
    from td3_agent.bags.offline import BagWorld, Replay

    bag = Bag(OVAL_BAG)
    inputs = find_inputs(bag.contents())
    return BagWorld(lambda: bag.messages(inputs.names), inputs, Replay('bag'))


def ros_world():
    pytest.importorskip('rclpy')
    from td3_agent.evaluation.ros_env import RosWorld

    return RosWorld(client={'patience_s': 60.0})


WORLDS = [
    embedded_world,
    bag_world,
    pytest.param(ros_world, marks=pytest.mark.system),
]


@pytest.fixture(scope='module', params=WORLDS)
def world(request):
    made = request.param()
    yield made
    made.close()


def frames_of(world, seed):
    """First frame of an episode, and one for each of the commands."""
    return [world.reset(seed), *map(world.step, COMMANDS)]


def test_a_frame_is_of_one_instant_and_the_next_one_a_step_later(world):
    frames = frames_of(world, 3)
    stamps_ns = np.array([frame.stamp_ns for frame in frames])
    np.testing.assert_allclose(np.diff(stamps_ns), world.step_s * 1e9, atol=1000)
    numbers = [frame.number for frame in frames]
    assert numbers == list(range(numbers[0], numbers[0] + len(frames)))
    assert all(frame.image.pixels().any() for frame in frames)
    assert all(math.isfinite(value) for value in frames[-1].acceleration_in_car_mps2)
    assert 2.0 < frames[-1].geometry.wheelbase_m < 4.0


def test_a_frame_tells_which_command_led_to_it(world):
    for frame, sent in zip(frames_of(world, 3)[1:], COMMANDS, strict=True):
        assert frame.applied in (None, sent.as_float32())


def test_the_car_stands_on_the_route(world):
    frame = world.reset(5)
    seen = world.route.project(frame.state.x_m, frame.state.y_m)
    assert seen.distance_m < ON_ROUTE_M


def test_the_same_seed_is_the_same_beginning(world):
    first, again = world.reset(7), world.reset(7)
    for name in ('x_m', 'y_m', 'yaw_rad'):
        there, here = getattr(first.state, name), getattr(again.state, name)
        assert here == pytest.approx(there, abs=SAME_PLACE_M)


def test_frames_share_no_memory(world):
    first = world.reset(1)
    kept = first.image.pixels().copy()
    for command in COMMANDS:
        world.step(command)
    assert (first.image.pixels() == kept).all()


def test_a_drive_has_a_ledger_without_gaps(world):
    world.reset(2)
    agent, converter = Agent(PurePursuitDriver()), TwistConverter(TwistConvention.VELOCITY)
    records = list(ledger_records(islice(drive(world, agent, converter), 12)))
    assert len(records) == 12
    assert check_ledger(records) == []
    assert len({record['observation_sha256'] for record in records}) == 12
    assert all(record['applied'] in (None, record['sent']) for record in records)

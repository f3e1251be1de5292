# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The world's contract: time, events, determinism, refusals."""

from dataclasses import replace
import math

import numpy as np
import pytest

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.geometry import nanoseconds_from_stamp, stamp_from_seconds
from td3_agent.driving.parameters import ParameterError
from td3_agent.sim.boxes import Box
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.simulator import FIRST_FRAME, Simulator, SimulatorConfig
from td3_agent.sim.vehicle import vehicle_info

SMALL = CameraConfig(width=84, height=84)
BROKEN, SOLID = 1, 2
HALF_WIDTH_M = 0.5 * vehicle_info().width_m


def test_another_seed_is_another_episode():
    world = Simulator(SimulatorConfig(seed=1, camera=SMALL))
    first, parked, gain = world.ego.state, world.parked, world.light_gain
    world.reset(2)
    assert world.ego.state != first
    assert world.parked != parked
    assert world.light_gain != gain


def test_time_is_a_product_stamped_like_the_bridge(world):
    assert world.frame == FIRST_FRAME
    for count in range(1, 200):
        world.tick(VehicleControl())
        seconds = 10.0 + (FIRST_FRAME + count) * 0.05
        assert world.frame == FIRST_FRAME + count
        assert world.elapsed_s == seconds
        assert world.stamp == stamp_from_seconds(seconds)
        assert world.ego.state.stamp_ns == world.stamp_ns == nanoseconds_from_stamp(*world.stamp)


def test_applied_control_is_what_the_wire_carries(world):
    world.tick(VehicleControl(throttle=0.1, steer=-0.3))
    assert world.ego.control.throttle == float(np.float32(0.1)) != 0.1
    assert world.ego.control.steer == float(np.float32(-0.3)) != -0.3


def test_acceleration_is_in_map_axes(world):
    world.ego.set_pose(40.0, -1.75, math.pi / 2.0)
    world.tick(VehicleControl(throttle=0.5))
    ax, ay, az = world.ego.acceleration
    assert ay == pytest.approx(0.5 * 5000.0 / world.ego.vehicle_info.mass, rel=0.1)
    assert (ax, az) == pytest.approx((0.0, 0.0), abs=1e-6)


def test_set_pose_puts_the_car_at_rest_and_is_no_event(world):
    world.ego.set_velocity(5.0)
    world.tick(VehicleControl())
    frame = world.frame
    world.ego.set_pose(40.0, 0.0, math.pi)  # on the centre line
    state = world.ego.state
    assert (state.x_m, state.y_m, state.speed_mps) == (40.0, 0.0, 0.0)
    assert abs(state.yaw_rad) == pytest.approx(math.pi)
    assert (world.frame, world.ego.crossed_markings, world.ego.collisions) == (frame, (), [])
    world.tick(VehicleControl())
    assert world.ego.crossed_markings == ()


def test_set_velocity_is_in_the_car_s_axes(world):
    world.ego.set_pose(40.0, -1.75, math.pi / 2.0)
    world.ego.set_velocity(3.0, 1.0, 0.2)
    assert world.ego.velocity == pytest.approx((-1.0, 3.0, 0.0))
    assert world.ego.state.speed_mps == pytest.approx(3.0)
    assert world.ego.state.yaw_rate_radps == 0.2
    world.ego.set_velocity(-2.0, 0.5)
    assert world.ego.velocity == pytest.approx((-0.5, -2.0, 0.0))
    assert world.ego.state.speed_mps == pytest.approx(-2.0)


def test_leaving_the_lane_to_the_left_crosses_the_broken_line_once(world):
    world.ego.set_pose(20.0, -1.75, 0.25)
    world.ego.set_velocity(5.0)
    events = []
    for _ in range(20):
        world.tick(VehicleControl())
        events += [world.ego.crossed_markings] if world.ego.crossed_markings else []
        if world.ego.state.y_m > -HALF_WIDTH_M - 0.5 and not events:
            assert world.ego.state.y_m < 0.3 - HALF_WIDTH_M
    assert events == [(BROKEN,)]


def test_leaving_the_road_crosses_the_solid_line_and_is_off_road(world):
    world.ego.set_pose(20.0, -1.75, -0.4)
    world.ego.set_velocity(6.0)
    kinds = []
    assert world.ego.on_road
    for _ in range(20):
        world.tick(VehicleControl())
        kinds += world.ego.crossed_markings
    assert kinds == [SOLID]
    assert not world.ego.on_road


class TestCollision:
    @pytest.fixture
    def wall(self, world):
        world.ego.set_pose(20.0, -1.75, 0.0)
        world.parked = (Box(x_m=32.0, y_m=-1.75, yaw_rad=0.0, length_m=4.0, actor_id=205),)
        world.ego.set_velocity(8.0)
        return world

    def test_car_stops_at_the_obstacle_with_its_momentum_as_impulse(self, wall):
        ticks = 0
        while not wall.ego.collisions:
            speed = wall.ego.state.speed_mps
            wall.tick(VehicleControl())
            ticks += 1
            assert ticks < 60
        (event,) = wall.ego.collisions
        assert event.other_actor_id == 205
        assert event.normal_impulse[0] == pytest.approx(
            -wall.ego.vehicle_info.mass * speed, rel=0.05
        )
        assert event.normal_impulse[1:] == pytest.approx((0.0, 0.0), abs=1.0)
        assert wall.ego.state.speed_mps == pytest.approx(0.0, abs=1e-6)
        assert wall.ego.state.x_m == pytest.approx(
            30.0 - 0.5 * wall.ego.vehicle_info.length_m, abs=1e-6
        )

    def test_pushing_on_gives_an_event_each_frame(self, wall):
        for _ in range(60):
            wall.tick(VehicleControl(throttle=0.5))
        for _ in range(5):
            wall.tick(VehicleControl(throttle=0.5))
            assert len(wall.ego.collisions) == 1
        wall.tick(VehicleControl(throttle=0.5, reverse=True))
        assert wall.ego.collisions == []
        for _ in range(20):
            wall.tick(VehicleControl(throttle=0.5, reverse=True))
        assert wall.ego.state.x_m < 27.0

    def test_impulse_is_in_carla_axes(self, world):
        """Driving to the left (map y up) into a wall: the push is to the right, CARLA +y."""
        world.ego.set_pose(20.0, -1.75, math.pi / 2.0)
        world.parked = (Box(x_m=20.0, y_m=6.0, yaw_rad=0.0, actor_id=9),)
        world.ego.set_velocity(8.0)
        while not world.ego.collisions:
            world.tick(VehicleControl())
        assert world.ego.collisions[0].normal_impulse[1] > 0.0


@pytest.mark.parametrize(
    ('field', 'value', 'text'),
    [
        ('fixed_delta_seconds', 0.5, r'fixed_delta_seconds must be in \[0\.001, 0\.1\] \[s\]'),
        ('fixed_delta_seconds', math.nan, r'fixed_delta_seconds .* \[s\], got nan'),
        ('start_time_s', -1.0, r'start_time_s must be in .* \[s\], got -1'),
        ('vehicles', 0, r'vehicles must be in \[1, 16\], got 0'),
        ('vehicles', 17, r'vehicles must be in \[1, 16\], got 17'),
        ('parked_vehicles', -1, r'parked_vehicles must be in \[0, 200\], got -1'),
        ('seed', 1.5, 'seed must be int, got 1.5'),
        ('camera', None, 'camera must be CameraConfig, got None'),
    ],
)
def test_bad_config_names_field_value_and_unit(field, value, text):
    with pytest.raises(ParameterError, match=text):
        SimulatorConfig(**{field: value})


def test_spawn_index_beyond_the_map_is_refused():
    with pytest.raises(ParameterError, match=r'spawn_index must be in \[-1, .* got 9999'):
        Simulator(SimulatorConfig(spawn_index=9999))


@pytest.mark.parametrize('field', ['throttle', 'steer', 'brake'])
def test_command_that_is_not_finite_is_refused_and_nothing_moves(world, field):
    before = (world.frame, world.ego.state)
    with pytest.raises(ValueError, match=rf'control\.{field} must be a finite number, got nan'):
        world.tick(replace(VehicleControl(), **{field: math.nan}))
    assert (world.frame, world.ego.state) == before


def test_pose_and_velocity_that_are_not_finite_are_refused(world):
    with pytest.raises(ValueError, match=r'pose must be finite'):
        world.ego.set_pose(math.inf, 0.0, 0.0)
    with pytest.raises(ValueError, match=r'velocity must be finite'):
        world.ego.set_velocity(math.nan)

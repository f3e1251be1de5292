# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Several driven cars in one world: their starts, how they meet, and how they see each other."""

import math

import numpy as np
import pytest

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.parameters import ParameterError
from td3_agent.sim.boxes import Box, overlap
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.env import embedded_env
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.placement import FREE_AROUND_CAR_M
from td3_agent.sim.simulator import EGO_ACTOR_ID, Simulator, SimulatorConfig

SMALL = CameraConfig(width=84, height=84)
STILL = VehicleControl()
LANE_Y_M = -1.75  # right lane of the oval's first straight


@pytest.fixture(scope='module')
def _pair():
    return Simulator(SimulatorConfig(vehicles=2, camera=SMALL, parked_vehicles=0, spawn_index=0))


@pytest.fixture
def pair(_pair):
    """Return the oval with two cars and nothing parked."""
    _pair.reset(0)
    return _pair


def facing(world, first, second, speeds_mps=(8.0, 8.0)):
    """Let two cars drive at each other along the lane, 10 m apart."""
    for car, x_m, yaw_rad, speed_mps in (
        (first, 20.0, 0.0, speeds_mps[0]),
        (second, 30.0, math.pi, speeds_mps[1]),
    ):
        car.set_pose(x_m, LANE_Y_M, yaw_rad)
        car.set_velocity(speed_mps)
    while not world.ego.collisions:
        world.tick(*[STILL] * len(world.cars))


def drive(world, ticks=60):
    """Drive seeded commands and return everything that left the world."""
    rng, trace = np.random.default_rng(5), []
    for _ in range(ticks):
        world.tick(
            *(
                VehicleControl(throttle=float(throttle), steer=float(steer))
                for throttle, steer in rng.uniform((0.2, -0.3), (0.9, 0.3), (len(world.cars), 2))
            )
        )
        trace += [
            (car.state, car.control, car.acceleration, car.collisions, car.crossed_markings)
            for car in world.cars
        ]
        trace += [world.render(car).tobytes() for car in world.cars]
    return trace


class TestStart:
    @pytest.mark.parametrize('name', BUILT_IN)
    @pytest.mark.parametrize('seed', range(3))
    def test_cars_stand_apart_with_road_ahead(self, name, seed):
        world = Simulator(SimulatorConfig(map=name, vehicles=8, seed=seed))
        places = [(car.state.x_m, car.state.y_m) for car in world.cars]
        for number, car in enumerate(world.cars):
            before = [math.dist(places[number], other) for other in places[:number]]
            assert min(before, default=math.inf) > FREE_AROUND_CAR_M
            assert all(overlap(car.outline, box) is None for box in world.parked)
            assert car.on_road
            assert car.route.length_m > 50.0
            assert math.dist(places[number], car.route_points[0, :2]) < 1.0
        ids = [car.actor_id for car in world.cars]
        assert ids == list(range(EGO_ACTOR_ID, EGO_ACTOR_ID + 8))
        assert not set(ids) & {box.actor_id for box in world.parked}

    def test_one_car_more_changes_nothing_for_the_others(self):
        few, many = (Simulator(SimulatorConfig(map='town', vehicles=n, seed=4)) for n in (1, 3))
        assert few.ego.state == many.ego.state
        assert few.parked == many.parked
        assert few.light_gain == many.light_gain
        assert np.array_equal(few.ego.route_points, many.ego.route_points)
        three, four = (Simulator(SimulatorConfig(map='town', vehicles=n, seed=4)) for n in (3, 4))
        assert [car.state for car in three.cars] == [car.state for car in four.cars[:3]]

    @pytest.mark.parametrize('name', ['winding', pytest.param('town', marks=pytest.mark.slow)])
    def test_equal_seeds_and_commands_give_equal_bits(self, name):
        config = SimulatorConfig(map=name, vehicles=3, seed=3, camera=SMALL)
        world = Simulator(config)
        first = drive(world)
        assert drive(Simulator(config)) == first
        world.reset()
        assert drive(world) == first
        world.reset(9)
        assert drive(world) != first

    def test_map_without_room_is_named(self):
        with pytest.raises(
            ParameterError,
            match=r"vehicles must be in \[1, \d+\] on map 'oval' with \d+ parked .*, got 16",
        ):
            Simulator(SimulatorConfig(vehicles=16, parked_vehicles=40))

    def test_environment_has_one_driver(self):
        with pytest.raises(
            ParameterError, match='vehicles must be 1 in a world of one driver, got 2'
        ):
            embedded_env(SimulatorConfig(vehicles=2))


class TestTick:
    @pytest.mark.parametrize('count', [0, 1, 3])
    def test_one_command_per_car_or_nothing_moves(self, pair, count):
        before = (pair.frame, [car.state for car in pair.cars])
        with pytest.raises(ValueError, match=f'tick takes 2 commands, got {count}'):
            pair.tick(*[VehicleControl(throttle=1.0)] * count)
        assert (pair.frame, [car.state for car in pair.cars]) == before

    def test_bad_command_of_the_second_car_moves_neither(self, pair):
        before = (pair.frame, [car.state for car in pair.cars])
        with pytest.raises(ValueError, match=r'control\.brake must be a finite number, got nan'):
            pair.tick(VehicleControl(throttle=1.0), VehicleControl(brake=math.nan))
        assert (pair.frame, [car.state for car in pair.cars]) == before

    def test_each_car_obeys_its_own_command(self, pair):
        for _ in range(20):
            pair.tick(VehicleControl(throttle=0.8), VehicleControl(brake=1.0))
        assert pair.cars[0].state.speed_mps > 1.0
        assert pair.cars[1].state.speed_mps == 0.0
        assert pair.cars[0].state.stamp_ns == pair.cars[1].state.stamp_ns == pair.stamp_ns

    def test_apart_they_drive_as_if_alone(self, pair):
        alone = Simulator(SimulatorConfig(camera=SMALL, parked_vehicles=0, spawn_index=0))
        alone.reset(0)
        for _ in range(40):
            command = VehicleControl(throttle=0.7, steer=0.02)
            alone.tick(command)
            pair.tick(command, STILL)
            assert pair.ego.state == alone.ego.state


class TestMeeting:
    def test_head_on_both_stop_with_opposite_impulses(self, pair):
        first, second = pair.cars
        facing(pair, first, second)
        (hit,), (taken,) = first.collisions, second.collisions
        assert (hit.other_actor_id, taken.other_actor_id) == (second.actor_id, first.actor_id)
        assert np.add(hit.normal_impulse, taken.normal_impulse) == pytest.approx(0.0)
        momentum = first.vehicle_info.mass * 8.0
        assert hit.normal_impulse[0] == pytest.approx(-momentum, rel=0.05)
        for car in pair.cars:
            assert car.state.speed_mps == pytest.approx(0.0, abs=1e-9)
        gap_m = second.state.x_m - first.state.x_m
        assert gap_m == pytest.approx(first.vehicle_info.length_m, abs=1e-9)

    def test_order_does_not_matter_head_on(self, pair):
        ends = []
        for order in (pair.cars, pair.cars[::-1]):
            facing(pair, *order, speeds_mps=(9.0, 4.0))
            ends.append([(*car.motion, *car.collisions[0].normal_impulse) for car in order])
        assert np.allclose(ends[0], ends[1], rtol=1e-12, atol=1e-9)

    def test_equal_cars_head_on_are_mirror_images(self, pair):
        facing(pair, *pair.cars)
        first, second = (car.state for car in pair.cars)
        assert first.x_m + second.x_m == pytest.approx(50.0, abs=1e-9)
        assert first.y_m == pytest.approx(second.y_m, abs=1e-9)

    def test_rear_end_shares_the_speed(self, pair):
        first, second = pair.cars
        first.set_pose(20.0, LANE_Y_M, 0.0)
        second.set_pose(27.0, LANE_Y_M, 0.0)
        first.set_velocity(8.0)
        while not first.collisions:
            before_mps = first.state.speed_mps
            pair.tick(STILL, STILL)
        assert first.state.speed_mps == pytest.approx(second.state.speed_mps)
        assert first.state.speed_mps == pytest.approx(0.5 * before_mps, rel=0.02)
        assert second.acceleration[0] > 10.0 > -10.0 > first.acceleration[0]

    def test_between_a_car_and_a_wall_the_wall_has_the_last_word(self, pair):
        first, second = pair.cars
        second.set_pose(30.0, LANE_Y_M, 0.0)
        pair.parked = (Box(x_m=34.6, y_m=LANE_Y_M, yaw_rad=0.0, actor_id=200),)
        first.set_pose(24.0, LANE_Y_M, 0.0)
        first.set_velocity(8.0)
        touched = set()
        for _ in range(40):
            pair.tick(VehicleControl(throttle=0.5), STILL)
            touched |= {event.other_actor_id for event in second.collisions}
            assert overlap(second.outline, pair.parked[0]) is None
        assert touched == {first.actor_id, 200}


class TestSight:
    def see(self, world, boxes):
        motion = world.ego.motion
        place = (motion.x_m, motion.y_m, motion.yaw_rad)
        return world.camera.render(*place, boxes=boxes, gain=world.light_gain)

    def test_other_car_is_seen_as_a_box_of_its_size(self, pair):
        first, second = pair.cars
        first.set_pose(20.0, LANE_Y_M, 0.0)
        second.set_pose(32.0, LANE_Y_M, 0.0)
        outline, info = second.outline, second.vehicle_info
        assert (outline.length_m, outline.width_m, outline.height_m) == (
            info.length_m,
            info.width_m,
            info.height_m,
        )
        image = pair.render()
        assert np.array_equal(image, self.see(pair, (outline,)))
        changed = np.argwhere((image != self.see(pair, ())).any(axis=2))
        columns = np.ptp(changed[:, 1]) + 1
        px_per_m = SMALL.focal_px / (12.0 - 0.5 * info.length_m - SMALL.x)
        shadow_m, edges_px = 0.2, 4.0
        widest = px_per_m * (info.width_m + shadow_m) + edges_px
        assert px_per_m * info.width_m < columns < widest

    def test_each_looks_from_its_own_place_and_never_at_itself(self, pair):
        first, second = pair.cars
        first.set_pose(20.0, LANE_Y_M, 0.0)
        second.set_pose(32.0, LANE_Y_M, math.pi)
        motion = second.motion
        expected = pair.camera.render(
            motion.x_m,
            motion.y_m,
            motion.yaw_rad,
            boxes=(first.outline,),
            gain=pair.light_gain,
        )
        assert np.array_equal(pair.render(second), expected)


class TestPrecision:
    """CARLA has metres, degrees and metres per second in float32."""

    @pytest.mark.parametrize('yaw_rad', [0.0, 0.3, -2.0, 3.1])
    def test_state_is_rounded_as_carla_rounds_and_the_speed_to_the_left_is_told(
        self, pair, yaw_rad
    ):
        car = pair.ego
        car.set_pose(12.3456789012, LANE_Y_M, yaw_rad)
        car.set_velocity(6.0, 0.25, 0.1)
        state, lateral_mps, velocity = car.as_carla_has_it()
        assert state.x_m == np.float32(12.3456789012)
        assert math.degrees(state.yaw_rad) == pytest.approx(
            float(np.float32(math.degrees(car.state.yaw_rad))), abs=1e-12
        )
        assert all(value == np.float32(value) for value in velocity)
        assert math.hypot(*velocity) == pytest.approx(math.hypot(6.0, 0.25), abs=1e-6)
        assert state.speed_mps == pytest.approx(6.0, abs=2e-6)
        assert lateral_mps == pytest.approx(0.25, abs=2e-6)
        assert state.yaw_rate_radps == pytest.approx(0.1, abs=1e-8)

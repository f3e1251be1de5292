# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Traffic: no contact, no endless wait, everything follows from the seed."""

import hashlib
import math

import numpy as np
import pytest

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.idm import equilibrium_gap_m
from td3_agent.sim.boxes import overlap
from td3_agent.sim.camera import CameraConfig, pixel_from_vehicle
from td3_agent.sim.lane_network import lane_network
from td3_agent.sim.simulator import FIRST_TRAFFIC_ID, Simulator, SimulatorConfig
from td3_agent.sim.traffic import Traffic, TrafficConfig

pytestmark = pytest.mark.slow
STEP_S = 0.05
SMALL = CameraConfig(width=84, height=84)
AWAY = (5000.0, 5000.0, 0.0)  # far from every road
STAND = VehicleControl(brake=1.0)


def world_with(name='town', others=20, leader='none', **config):
    traffic = TrafficConfig(vehicles=others, leader=leader)
    return Simulator(SimulatorConfig(map=name, traffic=traffic, camera=SMALL, **config))


def alone(name, vehicles, seed=0):
    """Return a world whose driven car is nowhere near."""
    world = world_with(name, vehicles, seed=seed, map_seed=seed)
    world.ego.set_pose(*AWAY)
    return world


def pairs_in_contact(traffic):
    boxes = traffic.outlines(0.0, 0.0, 4000.0)
    x, y = np.array([(box.x_m, box.y_m) for box in boxes]).T
    near = np.hypot(x[:, np.newaxis] - x, y[:, np.newaxis] - y) < 6.0
    return [
        (boxes[i].actor_id, boxes[j].actor_id)
        for i, j in np.argwhere(np.triu(near, 1))
        if overlap(boxes[i], boxes[j]) is not None
    ]


def track_hash(world, steps, *controls):
    digest = hashlib.sha256()
    for _ in range(steps):
        world.tick(*(controls or [STAND]))
        for part in (world.traffic.x_m, world.traffic.y_m, world.traffic.yaw_rad):
            digest.update(part.tobytes())
    return digest.hexdigest()


@pytest.mark.parametrize(
    ('name', 'vehicles', 'seed', 'minutes'),
    [
        ('town', 20, 0, 1),
        ('town', 50, 1, 2),
        ('town', 100, 2, 2),
        ('oval', 30, 0, 1),
        ('winding', 50, 0, 1),
    ],
)
def test_no_vehicle_touches_another_or_waits_for_ever(name, vehicles, seed, minutes):
    world = alone(name, vehicles, seed)
    traffic, limits = world.traffic, lane_network(world.map)
    standing_s = np.zeros(len(traffic.fleet))
    longest_s, way_m = 0.0, np.zeros(len(traffic.fleet))
    for step in range(1200 * minutes):
        traffic.step(world.cars, STEP_S)
        fleet = traffic.fleet
        moving = (fleet.speed_mps > 0.1) | (fleet.edge < 0)
        standing_s = np.where(moving, 0.0, standing_s + STEP_S)
        longest_s = max(longest_s, standing_s.max())
        way_m += fleet.speed_mps * STEP_S
        assert (fleet.speed_mps >= 0.0).all()
        on_map = fleet.edge >= 0
        allowed = limits.limits_mps(fleet.edge, fleet.s_m) + 0.2
        assert (fleet.speed_mps <= allowed)[on_map].all()
        if step % 5 == 0:
            assert pairs_in_contact(traffic) == []
    assert longest_s < 60.0
    assert way_m.min() > 20.0
    assert way_m.mean() > 100.0 * minutes


def test_seed_decides_on_everything():
    first = track_hash(world_with(seed=3), 200)
    world = world_with(seed=3)
    assert track_hash(world, 200) == first
    world.reset()
    assert track_hash(world, 200) == first
    world.reset(4)
    assert track_hash(world, 200) != first


def test_one_vehicle_more_changes_nothing_about_how_the_others_begin():
    few, many = (world_with(others=n, seed=1).traffic for n in (10, 11))
    assert (few.x_m == many.x_m[:10]).all()
    assert (few.fleet.length_m == many.fleet.length_m[:10]).all()
    assert (few.fleet.plan == many.fleet.plan[:10]).all()


def test_traffic_changes_nothing_about_the_rest_of_the_world():
    without, with_traffic = (world_with(others=n, seed=5) for n in (0, 20))
    assert without.traffic is None
    assert without.parked == with_traffic.parked
    assert without.ego.state == with_traffic.ego.state
    assert without.light_gain == with_traffic.light_gain


def test_reset_can_ask_for_other_traffic():
    world = world_with(others=0)
    world.reset(1, TrafficConfig(vehicles=7))
    assert len(world.traffic.fleet) == 7
    world.reset(1)
    assert len(world.traffic.fleet) == 7
    world.reset(1, TrafficConfig())
    assert world.traffic is None


def test_there_are_fewer_where_there_is_no_room():
    world = world_with('oval', 200)
    assert 20 < len(world.traffic.fleet) < 100
    assert pairs_in_contact(world.traffic) == []


def test_actor_ids_are_their_own():
    world = world_with(parked_vehicles=200)
    others = {box.actor_id for box in world.parked} | {car.actor_id for car in world.cars}
    assert world.traffic.actor_ids.start == FIRST_TRAFFIC_ID
    assert others.isdisjoint(world.traffic.actor_ids)


class TestDrivenCar:
    """The car that is driven, as traffic meets it."""

    def test_vehicles_stop_behind_one_that_stands(self):
        world = world_with('oval', 30, parked_vehicles=0)
        for _ in range(800):
            world.tick(STAND)
        assert world.ego.collisions == []
        ego = world.ego.motion
        along = [
            math.dist((box.x_m, box.y_m), (ego.x_m, ego.y_m)) - 0.5 * box.length_m
            for box in world.traffic.outlines(ego.x_m, ego.y_m, 12.0)
            if math.cos(box.yaw_rad - ego.yaw_rad) > 0.9
        ]
        gap_m = min(along) - 0.5 * world.ego.vehicle_info.length_m
        assert gap_m == pytest.approx(equilibrium_gap_m(TrafficConfig(), 0.0), abs=0.6)

    def test_one_that_stands_across_both_lanes_stops_both_directions(self):
        world = world_with('oval', 0, parked_vehicles=0)
        world.ego.set_pose(40.0, 0.0, 0.5 * math.pi)
        traffic = Traffic(world.map, 1)
        traffic.start(TrafficConfig(vehicles=10), 0, world.cars)
        for _ in range(1600):
            traffic.step(world.cars, STEP_S)
        assert (traffic.fleet.speed_mps < 0.5).all()
        nearest = traffic.outlines(40.0, 0.0, 8.0)
        assert len(nearest) == 2
        assert all(overlap(world.ego.outline, box) is None for box in nearest)

    def test_running_into_one_is_a_collision_with_its_id(self):
        world = world_with('oval', 0, 'standing', parked_vehicles=0, spawn_index=0)
        events = []
        for _ in range(400):
            world.tick(VehicleControl(throttle=0.4))
            events += world.ego.collisions
            if events:
                break
        assert events[0].other_actor_id == FIRST_TRAFFIC_ID
        assert np.hypot(*events[0].normal_impulse[:2]) > 1000.0


@pytest.mark.parametrize('leader', ['slow', 'stop_and_go', 'sudden_stop', 'standing'])
def test_lead_vehicle_starts_ahead_on_the_route_and_does_what_its_name_says(leader):
    world = world_with('winding', 0, leader, seed=2, parked_vehicles=0)
    traffic, route = world.traffic, world.ego.route
    seen = route.project(float(traffic.x_m[0]), float(traffic.y_m[0]))
    assert abs(seen.lateral_m) < 0.3
    assert 20.0 < seen.s_m < 130.0
    world.ego.set_pose(*AWAY)
    speeds = []
    for _ in range(1200):
        traffic.step(world.cars, STEP_S)
        speeds.append(float(traffic.fleet.speed_mps[0]))
    speed, change = np.array(speeds), np.diff(speeds) / STEP_S
    if leader == 'slow':
        assert speed.max() == pytest.approx(3.0)
        assert speed[200:].min() == pytest.approx(3.0)
    if leader == 'standing':
        assert speed[:490].max() == 0.0
        assert speed[600:].max() > 4.0
    if leader in ('stop_and_go', 'sudden_stop'):
        starts = np.flatnonzero((speed[1:] > 0.0) & (speed[:-1] == 0.0))
        assert len(starts) >= 3
        hardest = 6.0 if leader == 'sudden_stop' else 2.0
        assert change.min() == pytest.approx(-hardest, abs=0.3)


def test_lead_vehicle_takes_the_turns_of_the_route():
    world = world_with('town', 0, 'slow', seed=1)
    assert len(world.ego.route_turns) >= 3
    traffic, route = world.traffic, world.ego.route
    world.ego.set_pose(*AWAY)
    for _ in range(2000):  # 300 m at 3 m/s
        traffic.step(world.cars, STEP_S)
        seen = route.project(float(traffic.x_m[0]), float(traffic.y_m[0]))
        assert seen.distance_m < 0.5


def test_vehicle_that_leaves_at_the_end_of_a_road_comes_back_where_one_begins():
    world = alone('winding', 40)
    traffic = world.traffic
    away, back = set(), set()
    for _ in range(2400):
        traffic.step(world.cars, STEP_S)
        gone = set(np.flatnonzero(traffic.fleet.edge < 0).tolist())
        back |= away - gone
        away |= gone
    assert len(away) > 10
    assert len(back) > 10
    assert len(traffic.outlines(0.0, 0.0, 4000.0)) + len(gone) == 40


def test_it_is_seen_as_large_as_its_projection():
    world = world_with('oval', 0, 'slow', parked_vehicles=0, spawn_index=0)
    traffic, motion = world.traffic, world.ego.motion
    (box,) = traffic.outlines(motion.x_m, motion.y_m, 100.0)
    seen = world.render().astype(int)
    world.traffic = None
    changed = (np.abs(seen - world.render()) > 3).any(axis=2)
    back_m = math.dist((box.x_m, box.y_m), motion[:2]) - 0.5 * box.length_m
    half_m = 0.5 * box.width_m
    edges = np.array([(back_m, half_m, 0.6, 1.0), (back_m, -half_m, 0.6, 1.0)])
    u_w, _, w = pixel_from_vehicle(world.camera.config) @ edges.T
    columns = np.flatnonzero(changed.any(axis=0))
    assert (columns[0], columns[-1] + 1) == pytest.approx(u_w / w, abs=1.5)


def test_lead_vehicle_keeps_clear_of_the_other_driven_cars():
    for seed in range(6):
        world = world_with('oval', 0, 'slow', vehicles=4, seed=seed, parked_vehicles=0)
        ahead = world.traffic.outlines(0.0, 0.0, 4000.0)
        assert all(overlap(car.outline, box) is None for car in world.cars for box in ahead)


def test_road_too_short_for_a_lead_vehicle_has_none():
    world = world_with('winding', 0, 'standing', route_length_m=40.0)
    assert len(world.traffic.fleet) == 0
    world.tick(STAND)
    assert world.traffic.bodies().shape == (0, 7)


def test_length_of_the_step_does_not_matter_much():
    """Patience and looks are in seconds: half the step, about the same traffic."""
    ways_m = []
    for step_s in (0.05, 0.025):
        world = alone('town', 20)
        way_m = np.zeros(20)
        for _ in range(round(40.0 / step_s)):
            world.traffic.step(world.cars, step_s)
            way_m += world.traffic.fleet.speed_mps * step_s
        ways_m.append(way_m.mean())
    assert ways_m[0] == pytest.approx(ways_m[1], rel=0.15)

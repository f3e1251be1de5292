# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded bridge's synchronous protocol, also with several vehicles."""

import math
import threading
import time

from carla_msgs.msg import (
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaStatus,
)
from geometry_msgs.msg import Pose
from harness.messages import ROLE
from harness.sim_bench import ORDER, Bench, spied
from nav_msgs.msg import Odometry
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_srvs.srv import Trigger

from td3_agent.driving.parameters import ParameterError
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.runtime import LATCHED
from td3_agent.nodes.sim_bridge_node import SimBridgeNode


@pytest.fixture
def bench(ros):
    return Bench(ros)


class TestProtocol:
    """PLAY, PAUSE and STEP_ONCE; the races are upstream's, and an agent must live with them."""

    def test_strict_lockstep(self, bench, capfd):
        bench.step()
        for n in range(2, 5):
            since = len(bench.status)
            bench.begin_step()
            assert not bench.is_idle()
            bench.end_step()
            assert bench.flags(since) == [(n, True), (n + 1, True), (n + 1, False)]
        assert bench.bridge.timeouts == bench.bridge.unexpected == 0
        assert 'WARN' not in capfd.readouterr().err

    def test_command_while_paused_spoils_the_next_wait(self, bench, capfd):
        bench.step()
        for command in (CarlaEgoVehicleControl(brake=1.0), CarlaEgoVehicleControl()):
            bench.control.publish(command)
        bench.ros.spin_until(lambda: bench.bridge.unexpected, 'unexpected')
        assert bench.bridge.unexpected == 1  # the gate may stop the car at any time
        assert f'Unexpected vehicle control command received from {ROLE}' in capfd.readouterr().err
        bench.begin_step()
        bench.ros.spin_until(bench.is_idle, 'acknowledged before any reply')
        assert bench.bridge.timeouts == 0

    def test_without_a_command_one_tick_per_second(self, bench, monkeypatch, capfd):
        """R5: the bridge gives up after 1.0 s and goes on."""
        times_s = []
        publish_frame = bench.bridge.output.publish_frame

        def timed():
            publish_frame()
            times_s.append(time.monotonic())

        monkeypatch.setattr(bench.bridge.output, 'publish_frame', timed)
        bench.order(CarlaControl.PLAY)
        bench.ros.spin_until(lambda: len(times_s) >= 3, 'three frames')
        assert np.diff(times_s).min() > 0.98
        assert np.diff(times_s).max() < 2.0
        assert bench.bridge.timeouts == 2
        expected = (
            "Timeout (1.0s) while waiting for vehicle control commands. Missing command from ['"
        )
        assert expected in capfd.readouterr().err

    def test_without_the_wait_option_commands_are_not_waited_for(self, ros):
        bench = Bench(ros, synchronous_mode_wait_for_vehicle_control_command=False)
        for _ in range(3):
            bench.order(CarlaControl.STEP_ONCE)
            frames = len(bench.odometry) + 1
            ros.spin_until(lambda n=frames: len(bench.odometry) == n and bench.is_idle(), 'frame')
        assert bench.bridge.timeouts == 0

    def test_unknown_value_is_rejected_and_later_ones_obeyed(self, bench, capfd):
        value = 9
        bench.step()
        bench.order(value)
        bench.ros.spin_until(lambda: bench.bridge.wiring.rejections.count == 1, 'rejected')
        expected = f'command must be 0 (PLAY), 1 (PAUSE) or 2 (STEP_ONCE), got {value}'
        assert expected in capfd.readouterr().err
        bench.step()
        bench.order(value, CarlaControl.PLAY)
        for n in range(3, 6):
            bench.ros.spin_until(lambda n=n: len(bench.odometry) >= n, 'playing')
            bench.control.publish(CarlaEgoVehicleControl())
        assert bench.bridge.wiring.rejections.count == 2

    def test_shut_down_while_paused_is_quick(self, bench):
        bench.step()
        started_s = time.monotonic()
        bench.bridge.close()
        assert time.monotonic() - started_s < 1.0
        assert not any(it.name == 'bridge loop' for it in threading.enumerate())

    def test_shut_down_while_waiting_for_a_command(self, bench):
        bench.begin_step()
        bench.bridge.close()
        assert not any(it.name == 'bridge loop' for it in threading.enumerate())

    def test_broken_loop_ends_the_process(self, bench, monkeypatch, capfd):
        monkeypatch.setattr(bench.simulator, 'tick', None)
        bench.order(CarlaControl.STEP_ONCE)
        bench.ros.spin_until(bench.bridge.finished.done, 'finished')
        assert bench.bridge.exit_status == 1
        assert 'the simulation loop broke' in capfd.readouterr().err


class TestDeterminism:
    def test_same_seed_same_commands_same_messages(self, ros):
        runs = []
        for _ in range(2):
            bench = Bench(ros, seed=7, spawn_index=-1, parked_vehicles=4)
            for i in range(12):
                bench.step(throttle=0.8, steer=0.1 * math.sin(i))
            images = [bytes(m.data) for m in bench.images]
            runs.append((images, bench.odometry[:], bench.vehicle_status[:], bench.clock[:]))
            ros.drop(bench.bridge)
            ros.drop(ros.peer)
        assert runs[0] == runs[1]
        assert len(set(runs[0][0])) == 12

    def test_another_seed_is_another_drive(self, ros):
        first = Bench(ros, seed=1, spawn_index=-1)
        place = (first.simulator.ego.state.x_m, first.simulator.light_gain)
        second = ros.make(SimBridgeNode, seed=2, role_names=['b'], map='oval', start_paused=True)
        assert (second.simulator.ego.state.x_m, second.simulator.light_gain) != place


class TestSeveralVehicles:
    """One world, one clock, each vehicle with topics of its own."""

    ROLES = ('red', 'blue')

    def make(self, ros):
        bridge = ros.make(
            SimBridgeNode, role_names=list(self.ROLES), map='oval', start_paused=True
        )
        heard = {role: ros.listen(Odometry, topics.odometry(role)) for role in self.ROLES}
        status = ros.listen(CarlaStatus, topics.STATUS)
        talkers = {r: ros.talk(CarlaEgoVehicleControl, topics.control(r)) for r in self.ROLES}
        run_state = ros.talk(CarlaControl, topics.CONTROL)
        ros.spin_until_matched()
        return bridge, heard, status, talkers, run_state

    def test_frame_is_over_when_every_vehicle_has_its_command(self, ros):
        bridge, heard, status, talkers, run_state = self.make(ros)
        run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: all(len(h) == 1 for h in heard.values()), 'both odometries')
        assert len({stamp_ns(h[0].header.stamp) for h in heard.values()}) == 1
        talkers['blue'].publish(CarlaEgoVehicleControl(brake=1.0))
        ros.spin_until(lambda: bridge.vehicles['blue'].control.brake, 'the command of blue')
        assert status[-1].synchronous_mode_running
        talkers['red'].publish(CarlaEgoVehicleControl(throttle=0.5))
        ros.spin_until(lambda: not status[-1].synchronous_mode_running, 'acknowledged')
        assert bridge.timeouts == bridge.unexpected == 0
        run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: all(len(h) == 2 for h in heard.values()), 'the next frame')
        red, blue = bridge.simulator.cars
        assert (red.control.throttle, blue.control.brake) == (0.5, 1.0)

    def test_one_vehicle_after_the_other_on_the_wire(self, ros, monkeypatch):
        bridge, heard, _, _, run_state = self.make(ros)
        sent = spied(bridge.output, monkeypatch)
        run_state.publish(CarlaControl(command=CarlaControl.STEP_ONCE))
        ros.spin_until(lambda: all(heard.values()), 'both odometries')
        common = [topic for topic in ORDER if ROLE not in topic]
        each = [topic for topic in ORDER if ROLE in topic]
        expected = [topic.replace(ROLE, role) for role in self.ROLES for topic in each]
        assert sent[: 1 + len(common + expected)] == ['/carla/status', *common, *expected]

    def test_each_vehicle_has_its_own_topics(self, ros):
        info = {r: ros.listen(CarlaEgoVehicleInfo, topics.vehicle_info(r), LATCHED) for r in 'ab'}
        images = {r: ros.listen(Image, topics.image(r, 'camera')) for r in 'ab'}
        bridge = ros.make(
            SimBridgeNode,
            role_names=['a', 'b'],
            synchronous_mode_wait_for_vehicle_control_command=False,
        )
        ros.spin_until(lambda: all(info.values()) and all(images.values()), 'both vehicles')
        first, second = bridge.simulator.cars
        assert {r: (m[0].rolename, m[0].id) for r, m in info.items()} == {
            'a': ('a', first.actor_id),
            'b': ('b', second.actor_id),
        }
        assert {r: m[0].header.frame_id for r, m in images.items()} == {
            'a': 'a/camera',
            'b': 'b/camera',
        }
        pose = ros.talk(Pose, topics.of('b', 'control/set_transform'))
        ros.spin_until_matched()
        before = first.state.x_m, first.state.y_m
        moved = Pose()
        moved.position.x, moved.position.y, moved.orientation.w = 50.0, 2.0, 1.0
        pose.publish(moved)
        ros.spin_until(lambda: second.state.x_m == 50.0, 'teleported')
        assert (first.state.x_m, first.state.y_m) == before

    @pytest.mark.parametrize('roles', [['a', 'a'], ['']])
    def test_roles_are_unique_and_not_empty(self, ros, roles):
        with pytest.raises(ParameterError, match='role_names must be non-empty and unique, got'):
            ros.make(SimBridgeNode, role_names=roles)


class TestMannersOfUpstream:
    @staticmethod
    def ask(ros, name):
        client = ros.peer.create_client(Trigger, f'/carla_ros_bridge/{name}')
        ros.spin_until(client.service_is_ready, 'the service')
        future = client.call_async(Trigger.Request())
        ros.spin_until(future.done, 'the answer')
        assert future.result().success

    def test_vehicle_comes_and_goes_at_a_tick(self, ros):
        bench = Bench(ros, spawned=False, waypoints=False)
        bench.order(CarlaControl.STEP_ONCE)
        ros.spin_until(lambda: bench.clock and bench.is_idle(), 'a frame that awaits no command')
        self.ask(ros, 'spawn')
        assert not ros.peer.count_publishers(topics.odometry(ROLE))
        bench.order(CarlaControl.STEP_ONCE)  # R4: its command is not awaited in this one
        ros.spin_until(lambda: ros.peer.count_publishers(topics.odometry(ROLE)), 'the vehicle')
        ros.spin_until_matched()
        ros.spin_until(bench.is_idle, 'paused')
        assert not ros.peer.count_publishers(topics.waypoints(ROLE))
        for _ in range(2):
            heard = len(bench.odometry)
            bench.order(CarlaControl.STEP_ONCE)
            ros.spin_until(lambda heard=heard: len(bench.odometry) > heard, 'odometry')
            bench.end_step(throttle=1.0)
        assert bench.simulator.ego.control.throttle == 1.0
        self.ask(ros, 'destroy')
        assert ros.peer.count_publishers(topics.odometry(ROLE))
        bench.order(CarlaControl.STEP_ONCE)
        ros.spin_until(lambda: not ros.peer.count_publishers(topics.odometry(ROLE)), 'its end')

    def test_world_may_have_had_frames_before_its_bridge(self, ros):
        bench = Bench(ros, first_frame=5123)
        bench.step()
        assert bench.status[-1].frame == 5124 + 1
        assert stamp_ns(bench.clock[-1].clock) == bench.simulator.stamp_ns

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded simulator behind the CARLA ROS bridge's topics and synchronous protocol.

A stand-in for CARLA and its bridge where there is no GPU: its topics have the bridge's names,
types, QoS, frame ids, stamps and order. As upstream, the loop has its own thread; callbacks run on
the executor's.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
import queue
import threading
import time
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaControl, CarlaEgoVehicleControl
from geometry_msgs.msg import Pose, Twist
from rclpy.node import Node
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from td3_agent.driving.command import FULL_BRAKE, VehicleControl
from td3_agent.driving.reports import Status
from td3_agent.nodes import topics
from td3_agent.nodes.bridge_publisher import BridgePublisher
from td3_agent.nodes.conversions import checked_control, place_from_pose, velocity_from_twist
from td3_agent.nodes.parameters import declare
from td3_agent.nodes.runtime import LATCHED, RELIABLE, run_program
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_simulator
from td3_agent.nodes.wiring import Wiring, expected_endpoint
from td3_agent.sim.bridge_protocol import CommandWait, RunState

if TYPE_CHECKING:
    from collections.abc import Callable

    from td3_agent.sim.car import Car

END_WAIT_S = 2.0  # for the loop to finish its frame


@dataclass
class _BridgedCar:
    """One driven vehicle and its newest command."""

    car: Car
    control: VehicleControl
    manual_override: bool = False


class SimBridgeNode(Node):
    """One world and its driven vehicles on the bridge's topics."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Build the world and start the loop; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__(
            'carla_ros_bridge', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        self._params = params = declare(self, SimBridgeParams)
        self.simulator = make_simulator(params)
        self._lock = threading.Lock()  # over the world: callbacks change it, the loop ticks it
        self.vehicles = {
            role: _BridgedCar(car, car.control)
            for role, car in zip(params.role_names, self.simulator.cars, strict=True)
        }
        states = [car.state for car in self.simulator.cars]
        self._starts = [(at.x_m, at.y_m, at.yaw_rad, at.z_m) for at in states]
        self._commands = CommandWait()
        self.output = BridgePublisher(self, params, self.simulator)
        self.run_state = RunState(self.output.publish_running, start_paused=params.start_paused)
        self.finished, self.exit_status = Future(), 0
        self.timeouts = self.unexpected = 0
        self.wiring = Wiring(self, self._describe)
        self.wiring.expect(
            expected_endpoint(self, Clock, '/clock', RELIABLE, writes=True, exclusive=True)
        )
        for role in params.role_names:
            self._subscribe_role(role)
        # Last: the executor serves subscriptions in this order, and a command that arrived before
        # a step must be taken before it.
        on_control = self._on_carla_control
        self.wiring.subscribe(CarlaControl, topics.CONTROL, on_control, exclusive=True)
        self._tasks: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        if not params.spawned:
            for name, task in (('spawn', self._spawn), ('destroy', self.output.destroy)):
                self.create_service(Trigger, f'~/{name}', partial(self._on_task, task))
        self.output.publish_status()
        self._loop = threading.Thread(target=self._run_loop, name='bridge loop', daemon=True)
        self._loop.start()

    def close(self) -> None:
        """End the loop, also while it is paused (upstream hangs there)."""
        self.run_state.shut_down()
        self._commands.give_up()
        self._loop.join(END_WAIT_S)

    def _subscribe_role(self, role: str) -> None:
        """Subscribe to the commands of one vehicle."""
        manual = topics.of(role, 'vehicle_control_cmd_manual')
        override = topics.of(role, 'vehicle_control_manual_override')
        for kind, topic, handler, qos in (
            (CarlaEgoVehicleControl, topics.control(role), self._on_control, RELIABLE),
            (CarlaEgoVehicleControl, manual, partial(self._on_control, by_hand=True), RELIABLE),
            (Bool, override, self._on_manual_override, LATCHED),
            (Pose, topics.of(role, 'control/set_transform'), self._on_transform, RELIABLE),
            (Twist, topics.of(role, 'control/set_target_velocity'), self._on_velocity, RELIABLE),
        ):
            is_sole = topic == topics.control(role)
            self.wiring.subscribe(kind, topic, partial(handler, role), qos, exclusive=is_sole)

    def _on_carla_control(self, msg: CarlaControl) -> None:
        if not self.run_state.put(msg.command):
            allowed = '0 (PLAY), 1 (PAUSE) or 2 (STEP_ONCE)'
            raise ValueError(f'command must be {allowed}, got {msg.command}')

    def _on_control(
        self, role: str, msg: CarlaEgoVehicleControl, *, by_hand: bool = False
    ) -> None:
        if self.vehicles[role].manual_override is by_hand:
            self._apply(role, msg)

    def _on_manual_override(self, role: str, msg: Bool) -> None:
        self.vehicles[role].manual_override = msg.data

    def _apply(self, role: str, msg: CarlaEgoVehicleControl) -> None:
        """Keep the command until the next one; its header is ignored."""
        control = checked_control(msg)
        with self._lock:
            self.vehicles[role].control = control
        if not self._params.synchronous_mode_wait_for_vehicle_control_command:
            return
        # The gate sends a stop at the end of a drive and when no frame arrives.
        if not self._commands.received(role) and control != FULL_BRAKE:
            self.unexpected += 1
            text = f'Unexpected vehicle control command received from {role}'
            self.get_logger().warning(text, throttle_duration_sec=1.0)

    def _on_transform(self, role: str, msg: Pose) -> None:
        place = place_from_pose(msg)
        with self._lock:
            self.vehicles[role].car.set_pose(*place)

    def _on_velocity(self, role: str, msg: Twist) -> None:
        velocity = velocity_from_twist(msg)
        if not self.vehicles[role].manual_override:
            with self._lock:
                self.vehicles[role].car.set_velocity(*velocity)

    def _on_task(
        self, task: Callable[[], None], _: Trigger.Request, response: Trigger.Response
    ) -> Trigger.Response:
        """Queue a task for the next tick and respond at once, as upstream does."""
        self._tasks.put(task)
        response.success = True
        return response

    def _run_loop(self) -> None:
        """Step the world until the node ends; paced only in PLAY.

        An error ends the process; upstream's node stays alive with silent topics.
        """
        try:
            while self.run_state.wait_for_turn():
                started_s = time.monotonic()
                self._iterate()
                factor = self._params.play_real_time_factor
                if self.run_state.is_playing and factor > 0.0:
                    period_s = self._params.fixed_delta_seconds / factor
                    time.sleep(max(0.0, started_s + period_s - time.monotonic()))
        except Exception as error:  # noqa: BLE001  a silent bridge is worse
            self.get_logger().fatal(f'the simulation loop broke: {error!r}')
            self.exit_status = 1
            self.finished.set_result(None)

    def _iterate(self) -> None:
        """One frame: tick, publish everything of the frame, wait for the commands."""
        waits = self._params.synchronous_mode_wait_for_vehicle_control_command
        if waits:
            self._commands.expect(self.output.spawned_roles)
        while not self._tasks.empty():
            self._tasks.get()()
        with self._lock:
            self.simulator.tick(*(vehicle.control for vehicle in self.vehicles.values()))
        self.output.publish_frame()
        wait_s = self._params.command_wait_s
        if missing := self._commands.wait(wait_s) if waits else []:
            self.timeouts += 1
            text = f'Timeout ({wait_s}s) while waiting for vehicle control commands. '
            text += f'Missing command from {missing}'
            self.get_logger().warning(text, throttle_duration_sec=1.0)

    def _spawn(self) -> None:
        """Put new vehicles where the first ones stood."""
        with self._lock:
            for vehicle, start in zip(self.vehicles.values(), self._starts, strict=True):
                vehicle.car.set_pose(*start)
                vehicle.control = VehicleControl()
        self.output.spawn()

    def _describe(self) -> Status:
        values = {
            'frame': self.simulator.frame,
            'command_timeouts': self.timeouts,
            'unexpected_commands': self.unexpected,
            'rejected': self.wiring.rejections.count,
        }
        return Status(f'embedded simulator, map {self.simulator.map.name}', values=values)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(SimBridgeNode, args=args)


if __name__ == '__main__':
    main()

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The gate as a node: the only publisher of ``vehicle_control_cmd``.

Wires :mod:`td3_agent.driving.gate` to the agent's Twist and to the CARLA ROS bridge.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool, Header

from td3_agent.driving.command import FULL_BRAKE, TwistConvention
from td3_agent.driving.gate import FreeRunningGate, Gate, GateResponse, Outcome
from td3_agent.driving.readiness import BRIDGE, ODOMETRY
from td3_agent.driving.reports import loop_status
from td3_agent.driving.velocity_control import TwistConverter, VelocityControlParams
from td3_agent.driving.watchdog import GateWatch
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import (
    command_from_twist,
    control_message,
    geometry_from_info,
    stamp_ns,
    state_from_odometry,
    time_from_ns,
)
from td3_agent.nodes.diagnostics import LOOP
from td3_agent.nodes.liveliness import LivelinessWatch, Readiness
from td3_agent.nodes.parameters import DEADLINE_SHARE, GateParams, declare
from td3_agent.nodes.runtime import (
    LATCHED,
    RELIABLE,
    WakeUp,
    run_program,
    steady_ns,
    steady_timer,
)
from td3_agent.nodes.wiring import Wiring

NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
GRAPH_PERIOD_S = 0.1  # between checks for the agent
FINAL_STOP_S = 0.5  # how long the final stop may take to reach the bridge


class GateNode(Node):
    """Responds to each frame with exactly one vehicle command."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Subscribe to commands and frames; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__('gate', automatically_declare_parameters_from_overrides=True, **kwargs)
        self._params = params = declare(self, GateParams)
        self._lockstep = params.mode == 'lockstep'
        self.gate = make_gate(params)
        role = params.role_name
        self._odometry_topic = params.odometry_topic or topics.odometry(role)
        self.watch = GateWatch(
            self.gate, round(params.silence_s * 1e9), DEADLINE_SHARE * params.bridge_wait_s
        )
        self.wiring = Wiring(
            self,
            lambda: self.watch.describe(self.wiring.rejections.count),
            parts={LOOP: lambda: loop_status(self.watch.findings())},
            on_rejected=self._on_rejected,
        )
        self._control_pub = self.wiring.publisher(
            CarlaEgoVehicleControl, topics.control(role), advice='start the bridge'
        )
        self._subscribe(role)
        self._deadline = WakeUp(self, self._on_deadline)
        self._silence = WakeUp(self, self._on_silence)
        if self._lockstep and params.input == 'twist_stamped':
            self._agent_liveliness = LivelinessWatch(self, topics.alive(topics.agent_report(role)))
            steady_timer(self, GRAPH_PERIOD_S, self._look_for_agent)
        self._readiness = Readiness(self, topics.gate_report(role), self._missing)

    def _subscribe(self, role: str) -> None:
        """Subscribe to the vehicle, the agent and the frames, in this order."""
        subscribe = self.wiring.subscribe
        subscribe(CarlaEgoVehicleInfo, topics.vehicle_info(role), self._on_info, LATCHED)
        subscribe(
            Odometry,
            self._odometry_topic,
            self._on_odometry,
            exclusive=True,
            advice='start the bridge, or set odometry_topic',
        )
        plain = (Twist, topics.twist(role), self._on_twist)
        stamped = (TwistStamped, topics.twist_stamped(role), self._on_twist_stamped)
        subscribe(
            *(plain if self._params.input == 'twist' else stamped),
            # Free-running, only the newest command counts: queued ones are stale.
            RELIABLE if self._lockstep else NEWEST,
            exclusive=True,
            advice='start td3_agent_node, or the program that drives',
        )
        if self._lockstep:
            subscribe(Clock, '/clock', self._on_clock, exclusive=True)
            # Optional: without a publisher there is nothing to know.
            ended = topics.step_ended(role)
            subscribe(Header, ended, self._on_step_ended, is_expected=False)
            subscribe(Bool, topics.idle(role), self._on_idle, LATCHED, is_expected=False)

    def _on_rejected(self, topic: str, _: object) -> None:
        """Stop a free-running car whose motion is unknown."""
        if topic == self._odometry_topic:
            self._send(self.gate.on_rejected_state(steady_ns()))

    def close(self) -> None:
        """Publish full brake: CARLA keeps the last command indefinitely."""
        if self.gate.counts.answered:
            stamp = self.get_clock().now().to_msg()
            self._control_pub.publish(control_message(FULL_BRAKE, stamp))
            self._control_pub.wait_for_all_acked(Duration(seconds=FINAL_STOP_S))

    def _look_for_agent(self) -> None:
        is_published = self.count_publishers(topics.twist_stamped(self._params.role_name)) > 0
        is_there = is_published and not self._agent_liveliness.is_lost
        self.watch.look_for_agent(steady_ns(), is_there=is_there)

    def _missing(self) -> list[str]:
        """Return what is missing before every frame can get a response."""
        found = [] if self.count_publishers(self._odometry_topic) else [ODOMETRY]
        return found if self._control_pub.get_subscription_count() else [*found, BRIDGE]

    def _on_info(self, msg: CarlaEgoVehicleInfo) -> None:
        geometry = geometry_from_info(msg, self._params.default_wheelbase_m)
        self._send(self.gate.on_geometry(geometry))

    def _on_odometry(self, msg: Odometry) -> None:
        self._send(self.gate.on_state(state_from_odometry(msg), steady_ns()))

    def _on_twist_stamped(self, msg: TwistStamped) -> None:
        now_ns = steady_ns()
        stamp, twist = stamp_ns(msg.header.stamp), command_from_twist(msg.twist)
        self._send(self.gate.on_command(stamp, twist, now_ns))

    def _on_twist(self, msg: Twist) -> None:
        now_ns, ros_now_ns = steady_ns(), self.get_clock().now().nanoseconds
        stamp = self.gate.open_stamp_ns if self._lockstep else ros_now_ns
        if stamp is not None:
            self._send(self.gate.on_command(stamp, command_from_twist(msg), now_ns))

    def _on_clock(self, msg: Clock) -> None:
        self._send(self.gate.on_frame(stamp_ns(msg.clock), steady_ns()))

    def _on_step_ended(self, msg: Header) -> None:
        self._send(self.gate.on_step_ended(stamp_ns(msg.stamp)))

    def _on_idle(self, msg: Bool) -> None:
        self.gate.is_idle = msg.data

    def _on_deadline(self) -> None:
        self._send(self.gate.on_time(steady_ns()))

    def _send(self, response: GateResponse | None) -> None:
        """Publish a response, if there is one, and set the next deadline."""
        self.watch.note(response, steady_ns())
        if response is not None:
            if not response.is_sent_already:
                stamp = time_from_ns(max(response.stamp_ns, 0))
                self._control_pub.publish(control_message(response.control, stamp))
            record = {'outcome': response.outcome.value, 'gate_published_ns': steady_ns()}
            if response.twist_received_ns is not None:
                record['twist_received_ns'] = response.twist_received_ns
            self._readiness.report(response.stamp_ns, record)
            if response.outcome is not Outcome.OK:  # otherwise the timer of diagnostics is enough
                self.wiring.changed()
        self._deadline.at(self.gate.due_ns)
        self._silence.at(self.watch.idle_stop.due_ns)

    def _on_silence(self) -> None:
        """Stop a car that still executes a command while no frame arrives.

        The report names it an idle stop: in the ledger it is the response to the next frame, not
        a second one to the last.
        """
        if self.watch.idle_stop.on_time(steady_ns()):
            frame_ns = self.watch.frame_ns
            self._control_pub.publish(
                control_message(self.gate.idle_stop(), time_from_ns(frame_ns))
            )
            self._readiness.report(frame_ns, {'outcome': Outcome.SILENCE.value})
            self.wiring.changed()
        self._silence.at(self.watch.idle_stop.due_ns)


def make_gate(params: GateParams) -> Gate | FreeRunningGate:
    """Return the gate for the mode."""
    control_params = VelocityControlParams(
        **{spec.name: getattr(params, spec.name) for spec in fields(VelocityControlParams)}
    )
    converter = TwistConverter(TwistConvention(params.twist_convention), control_params)
    wait_ns = round(params.deadline_s * 1e9)
    if params.mode == 'lockstep':
        return Gate(converter, deadline_ns=wait_ns)
    return FreeRunningGate(converter, timeout_ns=wait_ns)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(GateNode, args=args, shared_memory=False)


if __name__ == '__main__':
    main()

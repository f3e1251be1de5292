# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Synchronizer node: steps the paused bridge and keeps the ledger.

Wires :mod:`td3_agent.driving.synchronizer` to the bridge.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
)
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry
from rclpy.node import Node
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from td3_agent.driving.lockstep import Phase
from td3_agent.driving.reports import AGENT_FIELDS, GATE_FIELDS
from td3_agent.driving.synchronizer import Synchronizer, SynchronizerParams
from td3_agent.nodes import conversions, topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.diagnostics import LOOP
from td3_agent.nodes.liveliness import DriveCheck, Members
from td3_agent.nodes.parameters import declare
from td3_agent.nodes.runtime import (
    EXIT_BROKEN,
    RELIABLE,
    REPORTS,
    WakeUp,
    run_program,
    steady_ns,
    steady_timer,
)
from td3_agent.nodes.wiring import Wiring

LAST_REPORTS_NS = 300_000_000
GRAPH_PERIOD_S = 0.1  # between looks at the graph


class SynchronizerNode(Node):
    """Owns the bridge's clock: one STEP_ONCE once all roles have responded to the frame."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        super().__init__(
            'synchronizer', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        params = declare(self, SynchronizerParams)
        roles = params.role_names
        odometry = {role: params.odometry_topic or topics.odometry(role) for role in roles}
        self.core = Synchronizer(params, self._on_ledger_fault)
        self.members = Members(self, odometry, self.core.readiness.names)
        self._check = DriveCheck(self, self.members.exclusive, lambda: self.core.breaks)
        self.wiring = Wiring(
            self,
            lambda: self.core.describe(
                steady_ns(), self._check.duplicates(), self.wiring.rejections.count
            ),
            figures=self.core.ledger.figures,
            parts={LOOP: lambda: self.core.loop_status(self._check.duplicates())},
        )
        self._control_pub = self.wiring.publisher(CarlaControl, topics.CONTROL)
        self._step_ended_pubs = {
            role: self.create_publisher(Header, topics.step_ended(role), RELIABLE)
            for role in roles
        }
        self.wiring.subscribe(
            CarlaStatus, topics.STATUS, self._on_status, exclusive=True, advice='start the bridge'
        )
        self.wiring.subscribe(Clock, '/clock', self._on_clock, exclusive=True)
        for role in roles:
            self._subscribe_role(role, odometry[role])
        self.create_service(Trigger, '~/stop', self._on_stop)
        self.finished = Future()
        self._wake = WakeUp(self, self._advance)
        self._last_reports: WakeUp | None = None
        steady_timer(self, GRAPH_PERIOD_S, self.look_around)

    def _subscribe_role(self, role: str, odometry_topic: str) -> None:
        """Subscribe to all topics of one vehicle."""
        for kind, topic, handler, exclusive in (
            (CarlaEgoVehicleControl, topics.control(role), self._on_command, True),
            (CarlaEgoVehicleStatus, topics.vehicle_status(role), self._on_vehicle, True),
            (Odometry, odometry_topic, self._on_odometry, True),
            (CarlaCollisionEvent, topics.collision(role), self._on_collision, False),
            (CarlaLaneInvasionEvent, topics.lane_invasion(role), self._on_invasion, False),
            (DiagnosticArray, topics.agent_report(role), self._on_agent_report, True),
            (DiagnosticArray, topics.gate_report(role), self._on_gate_report, True),
        ):
            qos = REPORTS if kind is DiagnosticArray else RELIABLE
            self.wiring.subscribe(kind, topic, partial(handler, role), qos, exclusive=exclusive)

    @property
    def exit_status(self) -> int:
        """1 if the drive has an error or its ledger has ended early, else 0."""
        return EXIT_BROKEN if self.core.has_failed else 0

    def close(self) -> None:
        """Leave the bridge paused and the ledger complete."""
        for finding in self.core.close(self._check.duplicates() + self._check.reported()):
            if finding.is_error:  # rclpy rejects two severities from one line
                self.get_logger().error(finding.text)
            else:
                self.get_logger().warning(finding.text)
        figures = asdict(self.core.lockstep.counts) | self.core.ledger.disk_figures()
        self.get_logger().info('ended: ' + ', '.join(f'{k} {n}' for k, n in figures.items()))

    def _on_status(self, msg: CarlaStatus) -> None:
        now_ns = steady_ns()
        if self.core.lockstep.phase is Phase.PAUSING:  # before the status explains why it ran
            self.core.on_bridges(self.members.bridges())
        running, step_s = msg.synchronous_mode_running, msg.fixed_delta_seconds
        self.core.on_status(msg.frame, running=running, step_s=step_s, now_ns=now_ns)
        self._advance_after_event()

    def _on_clock(self, msg: Clock) -> None:
        self.core.lockstep.on_clock(stamp_ns(msg.clock))
        self._advance_after_event()

    def _on_command(self, role: str, msg: CarlaEgoVehicleControl) -> None:
        stamp, control = stamp_ns(msg.header.stamp), conversions.checked_control(msg)
        self.core.ledger.logs[role].note_command(stamp, control, steady_ns())

    def _on_vehicle(self, role: str, msg: CarlaEgoVehicleStatus) -> None:
        control = conversions.checked_control(msg.control)
        self.core.ledger.logs[role].note_status(stamp_ns(msg.header.stamp), control)

    def _on_odometry(self, role: str, msg: Odometry) -> None:
        self.core.on_motion(role, conversions.state_from_odometry(msg))
        self._advance_after_event()

    def _on_collision(self, role: str, msg: CarlaCollisionEvent) -> None:
        self._note(role, msg, {'collision': msg.other_actor_id})

    def _on_invasion(self, role: str, msg: CarlaLaneInvasionEvent) -> None:
        self._note(role, msg, {'lane_invasion': conversions.crossed_markings(msg)})

    def _on_agent_report(self, role: str, msg: DiagnosticArray) -> None:
        self._note(role, msg, conversions.fields_from_report(msg, AGENT_FIELDS))

    def _note(self, role: str, msg: Any, fields: dict[str, Any]) -> None:  # noqa: ANN401
        self.core.ledger.logs[role].note(stamp_ns(msg.header.stamp), **fields)

    def _on_gate_report(self, role: str, msg: DiagnosticArray) -> None:
        fields = conversions.fields_from_report(msg, GATE_FIELDS)
        self.core.on_gate_report(role, stamp_ns(msg.header.stamp), fields)
        self._advance_after_event()

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._end()
        response.success = True
        response.message = f'ended after {self.core.lockstep.counts.steps} steps'
        return response

    def look_around(self) -> None:
        """Update who is present; a bridge or a gate may go and come back."""
        self.core.on_bridges(self.members.bridges())
        present, waits = self.members.look()
        under_way = self.core.lockstep.counts.steps > 0
        self.core.readiness.look(present, waits, under_way=under_way)
        self._advance()

    def _advance_after_event(self) -> None:
        """Advance, unless a step is in flight: its acknowledgement comes first."""
        if self.core.lockstep.phase is not Phase.STEPPING:
            self._advance()

    def _advance(self) -> None:
        """Publish what is due, and schedule the next call."""
        # A subscription alone may be a recorder's.
        if not self.core.has_bridge or self._control_pub.get_subscription_count() == 0:
            return
        now_ns = steady_ns()
        orders = self.core.advance(now_ns)
        if orders.is_idle is not None:  # before the step, so that none of the drive is braked
            self.members.publish_idle(is_idle=orders.is_idle)
        if orders.request is not None:
            self._check.is_driving = self.core.is_driving
            command = getattr(CarlaControl, orders.request.name)
            self._control_pub.publish(CarlaControl(command=command))
        for role in orders.ended:
            stamp = conversions.time_from_ns(self.core.lockstep.stamp_ns)
            self._step_ended_pubs[role].publish(Header(stamp=stamp))
        self.core.write_ended(now_ns)  # after the next step is out
        if self.core.lockstep.phase is Phase.DONE:
            self._end()
        self._wake.at(self.core.wake_ns(now_ns))

    def _end(self) -> None:
        """Stop stepping; end the program after the time that the last reports may take."""
        self.core.lockstep.stop()
        if self._last_reports is None:
            self._last_reports = WakeUp(self, lambda: self.finished.set_result(None))
            self._last_reports.at(steady_ns() + LAST_REPORTS_NS)

    def _on_ledger_fault(self, text: str) -> None:
        self.get_logger().error(text)
        self.wiring.changed()


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(SynchronizerNode, args=args, shared_memory=False)


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""Synchronizer node: steps the paused bridge and keeps the ledger.

Wires :mod:`td3_agent.driving.lockstep` and :mod:`td3_agent.driving.ledger` to the bridge.
"""

from __future__ import annotations

from dataclasses import asdict, astuple, dataclass, replace
from functools import partial
import re
from typing import TYPE_CHECKING, Any

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
from rclpy.clock import Clock as RosClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rclpy.task import Future
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Header
from std_srvs.srv import Trigger

from td3_agent.driving.attendance import BRIDGE
from td3_agent.driving.drive_ledger import DriveLedger
from td3_agent.driving.gate import HOLD, Outcome
from td3_agent.driving.ledger import UNWRITTEN_FRAMES
from td3_agent.driving.lockstep import Lockstep, LockstepParams, Phase, Request
from td3_agent.driving.loop_check import Breaks
from td3_agent.driving.parameters import ParameterError, param
from td3_agent.driving.reports import AGENT_FACTS, GATE_FACTS
from td3_agent.nodes import topics
from td3_agent.nodes.connections import Connections, interest
from td3_agent.nodes.conversions import (
    checked_control,
    crossed_markings,
    facts_from_report,
    stamp_ns,
    state_from_odometry,
    time_from_ns,
)
from td3_agent.nodes.diagnostics import LOOP, Diagnostics, Status, loop_status
from td3_agent.nodes.drive_check import DriveCheck
from td3_agent.nodes.members import Members
from td3_agent.nodes.parameters import declare
from td3_agent.nodes.qos import RELIABLE, REPORTS
from td3_agent.nodes.refusals import Refusals
from td3_agent.nodes.runtime import EXIT_BROKEN, WakeUp, run_program, steady_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.driving.endpoints import Finding, Interest

COMMANDS = {Request.PAUSE: CarlaControl.PAUSE, Request.STEP_ONCE: CarlaControl.STEP_ONCE}
SOLE = (CarlaEgoVehicleControl, CarlaEgoVehicleStatus, Odometry, DiagnosticArray)  # one writer
LAST_REPORTS_NS = 300_000_000
GRAPH_PERIOD_S = 0.1  # how often it is looked whether everybody is there


@dataclass(frozen=True, kw_only=True)
class SynchronizerParams(LockstepParams):
    """Parameters of synchronizer_node."""

    fixed_delta_seconds: float = param(
        0.05, "the bridge's step, checked against CarlaStatus", unit='s', low=0.001, high=0.1
    )
    wait_for_agent: bool = param(
        True,
        'start when every role has an active agent as well as a gate, pause while no role has one',
    )
    odometry_topic: str = param(
        '', 'odometry topic of the only vehicle; empty: /carla/<role_name>/odometry'
    )
    ledger_path: str = param('', 'where the ledger is written; empty: nowhere', path=True)
    ledger_flush_frames: int = param(
        UNWRITTEN_FRAMES + 1,
        'a kill of this process loses at most so many of the newest frames',
        low=UNWRITTEN_FRAMES + 1,
        high=100000,
    )

    def __post_init__(self) -> None:
        """Refuse bad values, and one odometry topic for several vehicles.

        Raises:
            ParameterError: naming each field and value.
        """
        super().__post_init__()
        if self.odometry_topic and len(self.role_names) > 1:
            raise ParameterError(
                f'odometry_topic must be empty for {len(self.role_names)} role_names, '
                f'got {self.odometry_topic!r}'
            )

    def odometry(self, role: str) -> str:
        """Return the odometry topic of a vehicle."""
        return self.odometry_topic or topics.odometry(role)


class SynchronizerNode(Node):
    """Owns the bridge's clock: one STEP_ONCE each time all roles have answered the frame."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Start to pause the bridge; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__(
            'synchronizer', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        self._params = params = declare(self, SynchronizerParams)
        self.lockstep = Lockstep(params, round(params.fixed_delta_seconds * 1e9))
        self.ledger = DriveLedger(
            params.role_names,
            params.ledger_path,
            params.ledger_flush_frames,
            self._on_ledger_fault,
        )
        self.finished = Future()
        self._drive_failed = False
        self._step_mismatch: float | None = None
        self._restarts_seen = 0
        self.members = Members(
            self,
            params.role_names,
            params.odometry,
            wait_for_agent=params.wait_for_agent,
            idle_ticks=params.idle_period_s > 0.0,
        )
        self._step_facts: dict[str, int] = {}
        self._control_pub = self.create_publisher(CarlaControl, topics.CONTROL, RELIABLE)
        self._step_ended_pubs = {
            role: self.create_publisher(Header, topics.step_ended(role), RELIABLE)
            for role in params.role_names
        }
        self._stopped: set[str] = set()  # roles stopped between frames and not driven since
        self._told_ended: set[str] = set()  # of those, who was told of the newest frame's end
        self._refusals = Refusals(self)
        guarded_status = self._refusals.guard(topics.STATUS, self._on_status)
        self.create_subscription(CarlaStatus, topics.STATUS, guarded_status, RELIABLE)
        guarded_clock = self._refusals.guard('/clock', self._on_clock)
        self.create_subscription(Clock, '/clock', guarded_clock, RELIABLE)
        self._interests = self._own_interests()
        for role in params.role_names:
            self._subscribe_role(role)
        self.create_service(Trigger, '~/stop', self._on_stop)
        self._connections = Connections(self, lambda: self._interests, self._tell)
        self._check = DriveCheck(self, self.members.exclusive, self._breaks)
        self._diagnostics = Diagnostics(
            self,
            self._describe,
            self.ledger.figures,
            {
                'inputs': self._refusals.status,
                'connections': self._connections.status,
                LOOP: lambda: loop_status(self._loop_findings()),
            },
        )
        self._refusals.on_refused = lambda *_: self._tell()
        self._wake = WakeUp(self, self._advance)
        self._last_reports: WakeUp | None = None
        # Steady clock: simulated time stands still while we wait for somebody.
        self.create_timer(
            GRAPH_PERIOD_S, self._look_around, clock=RosClock(clock_type=ClockType.STEADY_TIME)
        )

    def _own_interests(self) -> list[Interest]:
        """Return what is wanted of the bridge's own topics."""
        return [
            interest(self, CarlaControl, topics.CONTROL, RELIABLE, writes=True, one_writer=True),
            interest(
                self,
                CarlaStatus,
                topics.STATUS,
                RELIABLE,
                writes=False,
                one_writer=True,
                advice='start the bridge',
            ),
            interest(self, Clock, '/clock', RELIABLE, writes=False, one_writer=True),
        ]

    def _tell(self) -> None:
        """Say at once what has changed."""
        self._diagnostics.changed()

    @property
    def exit_status(self) -> int:
        """That of the program: 1 if the drive was no good one, or its ledger has ended early."""
        failed = self.ledger.violations or self.ledger.fault or self._drive_failed
        return EXIT_BROKEN if failed else 0

    def close(self) -> None:
        """Leave the bridge paused and the ledger whole."""
        self.lockstep.stop()
        self.ledger.close_ended(self.lockstep.take_ended(), {})
        for finding in self.ledger.close(self._check.duplicates() + self._check.said()):
            if finding.is_error:
                self._drive_failed = True
                self.get_logger().error(finding.text)
            else:
                self.get_logger().warning(finding.text)
        figures = asdict(self.lockstep.counts) | self.ledger.disk_figures()
        counts = ', '.join(f'{name} {n}' for name, n in figures.items())
        self.get_logger().info(f'ended: {counts}')

    def _subscribe_role(self, role: str) -> None:
        """Listen to everything that is said of one vehicle."""
        for kind, topic, handler, qos in (
            (CarlaEgoVehicleControl, topics.control(role), self._on_command, RELIABLE),
            (CarlaEgoVehicleStatus, topics.vehicle_status(role), self._on_vehicle, RELIABLE),
            (Odometry, self._params.odometry(role), self._on_odometry, RELIABLE),
            (CarlaCollisionEvent, topics.collision(role), self._on_collision, RELIABLE),
            (CarlaLaneInvasionEvent, topics.lane_invasion(role), self._on_invasion, RELIABLE),
            (DiagnosticArray, topics.agent_report(role), self._on_agent_report, REPORTS),
            (DiagnosticArray, topics.gate_report(role), self._on_gate_report, REPORTS),
        ):
            guarded = self._refusals.guard(topic, partial(handler, role))
            self.create_subscription(kind, topic, guarded, qos)
            self._interests.append(
                interest(self, kind, topic, qos, writes=False, one_writer=kind in SOLE)
            )

    def _on_status(self, msg: CarlaStatus) -> None:
        now_ns = steady_ns()
        if self.lockstep.phase is Phase.PAUSING:  # before it is told what had made it run
            self._look_for_another_bridge()
        running, frame_before = msg.synchronous_mode_running, self.lockstep.frame
        self.lockstep.on_status(msg.frame, running=running, now_ns=now_ns)
        if self.lockstep.frame != frame_before:
            self._step_facts['announced_ns'] = now_ns
        if abs(msg.fixed_delta_seconds - self._params.fixed_delta_seconds) > 1e-6:
            self._step_mismatch = msg.fixed_delta_seconds
        if not running:
            self._step_facts['acknowledged_ns'] = now_ns
        self._advance()

    def _on_clock(self, msg: Clock) -> None:
        self.lockstep.on_clock(stamp_ns(msg.clock))
        self._advance()

    def _on_command(self, role: str, msg: CarlaEgoVehicleControl) -> None:
        stamp, control = stamp_ns(msg.header.stamp), checked_control(msg)
        if msg.header.frame_id == HOLD:
            self.ledger.logs[role].note_hold(stamp, control)
            self._stopped.add(role)
        else:
            self.ledger.logs[role].note_command(stamp, control, steady_ns())

    def _on_vehicle(self, role: str, msg: CarlaEgoVehicleStatus) -> None:
        control = checked_control(msg.control)
        self.ledger.logs[role].note_status(stamp_ns(msg.header.stamp), control)

    def _on_odometry(self, role: str, msg: Odometry) -> None:
        facts = asdict(state_from_odometry(msg))
        stamp = facts.pop('stamp_ns')
        self.ledger.logs[role].note(stamp, **facts)
        self.members.attendance.moved(role, stamp)
        self.lockstep.on_motion(stamp)
        self._advance()

    def _on_collision(self, role: str, msg: CarlaCollisionEvent) -> None:
        self.ledger.logs[role].note(stamp_ns(msg.header.stamp), collision=msg.other_actor_id)

    def _on_invasion(self, role: str, msg: CarlaLaneInvasionEvent) -> None:
        crossed = crossed_markings(msg)
        self.ledger.logs[role].note(stamp_ns(msg.header.stamp), lane_invasion=crossed)

    def _on_agent_report(self, role: str, msg: DiagnosticArray) -> None:
        facts = facts_from_report(msg, AGENT_FACTS)
        self.ledger.logs[role].note(stamp_ns(msg.header.stamp), **facts)

    def _on_gate_report(self, role: str, msg: DiagnosticArray) -> None:
        """Take the gate's word that its command is out.

        The command itself may reach us before it reaches the bridge; the report is sent when
        publishing has returned, so a step sent now cannot overtake the command.
        """
        stamp, facts = stamp_ns(msg.header.stamp), facts_from_report(msg, GATE_FACTS)
        self.ledger.logs[role].note(stamp, **facts)
        if facts.get('outcome') != Outcome.SILENCE.value:  # no new answer
            self.lockstep.on_command(role, stamp)
            if facts.get('outcome') != Outcome.IN_ADVANCE.value:
                self._stopped.discard(role)
        self._advance()

    def _on_stop(self, _: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._end()
        response.success = True
        response.message = f'ended after {self.lockstep.counts.steps} steps'
        return response

    def _look_around(self) -> None:
        """See who is there; a bridge or a gate may come, go and come back."""
        self._look_for_another_bridge()
        self.members.look(under_way=self.lockstep.counts.steps > 0)
        self._advance()

    def _look_for_another_bridge(self) -> None:
        """Begin with a bridge that was not there, unless its count has told already."""
        restarts = self.lockstep.counts.restarts
        if self.members.is_another_bridge() and restarts == self._restarts_seen:
            self.lockstep.restart()
        self._restarts_seen = self.lockstep.counts.restarts

    def _advance(self) -> None:
        """Send what the lockstep asks for, and see to it that it is asked again in time."""
        attendance = self.members.attendance
        if BRIDGE in attendance.absent or self._control_pub.get_subscription_count() == 0:
            return  # a subscription alone may be that of a recorder
        now_ns = steady_ns()
        attendance.follow(self.lockstep.counts.restarts, self.lockstep.stamp_ns)
        self.members.tell_gates()  # before the step, so that none of the drive is braked
        request = self.lockstep.poll(
            now_ns,
            vehicles_present=attendance.vehicles_present,
            gates_present=not attendance.absent,
            needs_ticks=attendance.needs_ticks,
        )
        facts = self._step_facts
        if request is not None:
            self._step_facts = {'step_sent_ns': steady_ns()}
            self._check.is_driving |= request is Request.STEP_ONCE and not attendance.needs_ticks
            self._told_ended.clear()
            self._control_pub.publish(CarlaControl(command=COMMANDS[request]))
        if self._stopped and self.lockstep.phase is Phase.HOLDING:
            self._tell_ended()
        # After the next step is out: the simulator works while the ledger is written.
        self.ledger.close_ended(self.lockstep.take_ended(), facts | {'frame_closed_ns': now_ns})
        if self.lockstep.phase is Phase.DONE:
            self._end()
        self._wake.at(self.lockstep.wake_ns(now_ns) if not attendance.absent else None)

    def _tell_ended(self) -> None:
        """Tell gates in doubt that the step of a frame has ended, which they have not answered."""
        stamp = self.lockstep.stamp_ns
        if stamp is None:
            return
        for role in (self._stopped & self.lockstep.missing) - self._told_ended:
            self._told_ended.add(role)
            self._step_ended_pubs[role].publish(Header(stamp=time_from_ns(stamp)))

    def _on_ledger_fault(self, text: str) -> None:
        self.get_logger().error(text)
        self._tell()

    def _end(self) -> None:
        """Stop stepping, and end the program once the last frame's reports can be in."""
        self.lockstep.stop()
        if self._last_reports is None:
            self._last_reports = WakeUp(self, lambda: self.finished.set_result(None))
            self._last_reports.at(steady_ns() + LAST_REPORTS_NS)

    def _breaks(self) -> Breaks:
        return Breaks(self.ledger.violations, self.lockstep.counts.restarts)

    def _loop_findings(self) -> list[Finding]:
        return self._check.duplicates() + self.ledger.findings()

    def _describe(self) -> Status:
        """Say how the lockstep stands."""
        values = asdict(self.lockstep.counts) | {'phase': self.lockstep.phase.value}
        violations = self.ledger.violations
        values |= {'frame': self.lockstep.frame, 'violations': violations}
        values['refused'] = self._refusals.count
        waiting = self.members.attendance.describe() or self.lockstep.interruption(steady_ns())
        causes = [finding for finding in self._check.duplicates() if finding.is_error]
        troubles = (*map(astuple, causes), *self._troubles(violations))
        # Without the time, which grows: one line is enough.
        timeless = [re.sub(r' for [0-9.]+ s\b', '', finding.text) for finding in causes]
        console = '; '.join(filter(None, [*timeless, waiting]))
        for text, is_error in troubles:
            return Status(
                text, is_error=is_error, is_warning=not is_error, values=values, console=console
            )
        if found := self._loop_findings():
            return replace(loop_status(found), values=values)
        return Status(self.lockstep.phase.value, values=values)

    def _troubles(self, violations: int) -> Iterator[tuple[str, bool]]:
        """Yield what is wrong, the worst first, and whether it is an error."""
        if self._step_mismatch is not None:
            here_s = self._params.fixed_delta_seconds
            text = f'fixed_delta_seconds is {self._step_mismatch:.6g} s at the bridge'
            yield f'{text}, {here_s:.6g} s here', True
        if self.ledger.fault:
            yield f'the ledger has ended, the drive goes on: {self.ledger.fault}', True
        if awaited := self.members.attendance.describe():
            yield awaited, False
        now_ns = steady_ns()
        if trouble := self.lockstep.trouble(now_ns):
            yield trouble, True
        if interruption := self.lockstep.interruption(now_ns):
            yield interruption, False
        if braked := self.members.attendance.braked:
            yield f'silent or not there, the gate brakes its car: {", ".join(braked)}', True
        if violations:
            yield 'lockstep violations', True


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(SynchronizerNode, args, shared_memory=False)


if __name__ == '__main__':
    main()

# SPDX-License-Identifier: Apache-2.0
"""Synchronizer node: steps the paused bridge and keeps the ledger.

Wires :mod:`td3_agent.driving.lockstep` and :mod:`td3_agent.driving.ledger` to the bridge.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
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

from td3_agent.driving.gate import HOLD, Outcome
from td3_agent.driving.ledger import UNWRITTEN_FRAMES, FrameLog, LedgerWriter
from td3_agent.driving.lockstep import EndedFrame, Lockstep, LockstepParams, Phase, Request
from td3_agent.driving.parameters import ParameterError, param
from td3_agent.driving.reports import AGENT_FACTS, GATE_FACTS
from td3_agent.driving.stages import StageWindow
from td3_agent.nodes import topics
from td3_agent.nodes.alive import LifeWatch
from td3_agent.nodes.connections import Connections, interest
from td3_agent.nodes.conversions import (
    checked_control,
    crossed_markings,
    facts_from_report,
    stamp_ns,
    state_from_odometry,
    time_from_ns,
)
from td3_agent.nodes.diagnostics import Diagnostics, Status
from td3_agent.nodes.parameters import declare
from td3_agent.nodes.qos import RELIABLE, REPORTS
from td3_agent.nodes.refusals import Refusals
from td3_agent.nodes.runtime import WakeUp, run_program, steady_ns

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.driving.endpoints import Interest

COMMANDS = {Request.PAUSE: CarlaControl.PAUSE, Request.STEP_ONCE: CarlaControl.STEP_ONCE}
SOLE = (CarlaEgoVehicleControl, CarlaEgoVehicleStatus, Odometry, DiagnosticArray)  # one writer
LAST_REPORTS_NS = 300_000_000
VEHICLE_OF, GATE_OF, AGENT_OF = 'vehicle of ', 'gate of ', 'agent of '
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
    ledger_path: str = param('', 'where the ledger is written; empty: nowhere')
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
        self.logs = {role: FrameLog(role) for role in params.role_names}
        self.finished = Future()
        self._ledger = open_ledger(params)
        self._ledger_fault = ''
        self._step_mismatch: float | None = None
        self._members = members(params)
        self._absent = list(self._members)
        self._braked: list[str] = []  # agents that are gone while others drive
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
        self._life = {
            name: LifeWatch(self, topics.alive(topic))
            for name, topic in self._members.items()
            if name.startswith((GATE_OF, AGENT_OF))
        }
        self.create_service(Trigger, '~/stop', self._on_stop)
        self._stages = StageWindow()
        self._connections = Connections(self, lambda: self._interests, self._tell)
        self._diagnostics = Diagnostics(
            self,
            self._describe,
            self._figures,
            {'inputs': self._refusals.status, 'connections': self._connections.status},
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

    def close(self) -> None:
        """Leave the bridge paused and the ledger whole."""
        self.lockstep.stop()
        self._close_ended({})
        for log in self.logs.values():
            self._write(log.flush())
        if self._ledger is not None:
            try:
                self._ledger.close()
            except OSError as error:
                self._end_ledger(error)
        figures = asdict(self.lockstep.counts) | self._ledger_figures()
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
            self.logs[role].note_hold(stamp, control)
            self._stopped.add(role)
        else:
            self.logs[role].note_command(stamp, control, steady_ns())

    def _on_vehicle(self, role: str, msg: CarlaEgoVehicleStatus) -> None:
        control = checked_control(msg.control)
        self.logs[role].note_status(stamp_ns(msg.header.stamp), control)

    def _on_odometry(self, role: str, msg: Odometry) -> None:
        facts = asdict(state_from_odometry(msg))
        stamp = facts.pop('stamp_ns')
        self.logs[role].note(stamp, **facts)
        self.lockstep.on_motion(stamp)
        self._advance()

    def _on_collision(self, role: str, msg: CarlaCollisionEvent) -> None:
        self.logs[role].note(stamp_ns(msg.header.stamp), collision=msg.other_actor_id)

    def _on_invasion(self, role: str, msg: CarlaLaneInvasionEvent) -> None:
        crossed = crossed_markings(msg)
        self.logs[role].note(stamp_ns(msg.header.stamp), lane_invasion=crossed)

    def _on_agent_report(self, role: str, msg: DiagnosticArray) -> None:
        facts = facts_from_report(msg, AGENT_FACTS)
        self.logs[role].note(stamp_ns(msg.header.stamp), **facts)

    def _on_gate_report(self, role: str, msg: DiagnosticArray) -> None:
        """Take the gate's word that its command is out.

        The command itself may reach us before it reaches the bridge; the report is sent when
        publishing has returned, so a step sent now cannot overtake the command.
        """
        stamp, facts = stamp_ns(msg.header.stamp), facts_from_report(msg, GATE_FACTS)
        self.logs[role].note(stamp, **facts)
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
        absent = [
            name
            for name, topic in self._members.items()
            if not self.count_publishers(self.resolve_topic_name(topic))
            or (name in self._life and self._life[name].is_lost)
        ]
        agents = [name for name in absent if name.startswith(AGENT_OF)]
        # Once under way, the others go on: the gate of a role without agent brakes its car.
        goes_on = self.lockstep.counts.steps > 0 and len(agents) < len(self._params.role_names)
        self._braked = agents if goes_on else []
        self._absent = [name for name in absent if name not in self._braked]
        self._advance()

    def _advance(self) -> None:
        """Send what the lockstep asks for, and see to it that it is asked again in time."""
        if self._control_pub.get_subscription_count() == 0:
            return  # no bridge: nothing would hear us
        now_ns = steady_ns()
        request = self.lockstep.poll(
            now_ns,
            vehicles_present=not any(name.startswith(VEHICLE_OF) for name in self._absent),
            gates_present=not self._absent,
        )
        facts = self._step_facts
        if request is not None:
            self._step_facts = {'step_sent_ns': steady_ns()}
            self._told_ended.clear()
            self._control_pub.publish(CarlaControl(command=COMMANDS[request]))
        if self._stopped and self.lockstep.phase is Phase.HOLDING:
            self._tell_ended()
        # After the next step is out: the simulator works while the ledger is written.
        self._close_ended(facts | {'frame_closed_ns': now_ns})
        if self.lockstep.phase is Phase.DONE:
            self._end()
        self._wake.at(self.lockstep.wake_ns(now_ns) if not self._absent else None)

    def _tell_ended(self) -> None:
        """Tell gates in doubt that the step of a frame has ended, which they have not answered."""
        stamp = self.lockstep.stamp_ns
        if stamp is None:
            return
        for role in (self._stopped & self.lockstep.missing) - self._told_ended:
            self._told_ended.add(role)
            self._step_ended_pubs[role].publish(Header(stamp=time_from_ns(stamp)))

    def _close_ended(self, facts: dict[str, int]) -> None:
        """Enter what has ended into the logs, a frame with the facts of its step."""
        for ended in self.lockstep.take_ended():
            for log in self.logs.values():
                if isinstance(ended, EndedFrame) and not ended.is_idle:
                    log.note(ended.stamp_ns, **facts)
                self._write(log.close(ended))

    def _write(self, records: list[dict]) -> None:
        """Count the stages of records, and append them to the ledger, if one is kept."""
        for record in records:
            self._stages.add(record.get('stages_ns'))
            if self._ledger is not None:
                self._record(record)

    def _record(self, record: dict) -> None:
        """Append a record; a disk that takes no more ends the ledger and not the drive."""
        try:
            self._ledger.write(record)
        except OSError as error:
            self._end_ledger(error)

    def _end_ledger(self, error: OSError) -> None:
        """Give the ledger up: what was written stays."""
        self._ledger_fault = f'{self._params.ledger_path}: {error.strerror}'
        self.get_logger().error(f'the ledger has ended: {self._ledger_fault}')
        self._ledger.abandon()
        self._ledger = None
        self._diagnostics.changed()

    def _end(self) -> None:
        """Stop stepping, and end the program once the last frame's reports can be in."""
        self.lockstep.stop()
        if self._last_reports is None:
            self._last_reports = WakeUp(self, lambda: self.finished.set_result(None))
            self._last_reports.at(steady_ns() + LAST_REPORTS_NS)

    def _figures(self) -> dict[str, float]:
        """Return where the time goes: in frames, and to the disk."""
        return self._stages.figures() | self._ledger_figures()

    def _ledger_figures(self) -> dict[str, float]:
        """Return how long the disk has kept the drive waiting at most."""
        if self._ledger is None:
            return {}
        return {'ledger_slowest_write_ms': round(self._ledger.slowest_ns / 1e6, 3)}

    def _describe(self) -> Status:
        """Say how the lockstep stands."""
        values = asdict(self.lockstep.counts) | {'phase': self.lockstep.phase.value}
        violations = sum(log.counts.violations for log in self.logs.values())
        values |= {'frame': self.lockstep.frame, 'violations': violations}
        values['refused'] = self._refusals.count
        for text, is_error in self._troubles(violations):
            return Status(text, is_error=is_error, is_warning=not is_error, values=values)
        return Status(self.lockstep.phase.value, values=values)

    def _troubles(self, violations: int) -> Iterator[tuple[str, bool]]:
        """Yield what is wrong, the worst first, and whether it is an error."""
        if self._step_mismatch is not None:
            here_s = self._params.fixed_delta_seconds
            text = f'fixed_delta_seconds is {self._step_mismatch:.6g} s at the bridge'
            yield f'{text}, {here_s:.6g} s here', True
        if self._ledger_fault:
            yield f'the ledger has ended, the drive goes on: {self._ledger_fault}', True
        if self._absent:
            yield f'no step while these are silent or not there: {", ".join(self._absent)}', False
        now_ns = steady_ns()
        if trouble := self.lockstep.trouble(now_ns):
            yield trouble, True
        if interruption := self.lockstep.interruption(now_ns):
            yield interruption, False
        if self._braked:
            yield f'silent or not there, the gate brakes its car: {", ".join(self._braked)}', True
        if violations:
            yield 'lockstep violations', True


def members(params: SynchronizerParams) -> dict[str, str]:
    """Return who must be there for a step, and the topic that each of them offers.

    A vehicle offers its odometry, the last of the objects that are spawned for it.
    """
    roles = params.role_names
    found = {'bridge': topics.STATUS}
    found |= {f'{VEHICLE_OF}{role}': params.odometry(role) for role in roles}
    found |= {f'{GATE_OF}{role}': topics.gate_report(role) for role in roles}
    if params.wait_for_agent:
        found |= {f'{AGENT_OF}{role}': topics.agent_report(role) for role in roles}
    return found


def open_ledger(params: SynchronizerParams) -> LedgerWriter | None:
    """Return the ledger's writer, or None when none is kept."""
    if not params.ledger_path:
        return None
    # The newest frames are not written yet, but wait for late reports: they are lost as well.
    flush_every = params.ledger_flush_frames - UNWRITTEN_FRAMES
    return LedgerWriter(Path(params.ledger_path), flush_every)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(SynchronizerNode, args, shared_memory=False)


if __name__ == '__main__':
    main()

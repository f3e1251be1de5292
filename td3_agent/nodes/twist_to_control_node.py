# SPDX-License-Identifier: Apache-2.0
"""The gate as a node: the only publisher of ``vehicle_control_cmd``.

Wires :mod:`td3_agent.driving.gate` to the agent's Twist and to the CARLA ROS bridge.
"""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from typing import Any

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Bool, Header

from td3_agent.driving.attendance import BRIDGE, ODOMETRY
from td3_agent.driving.command import FULL_BRAKE, TwistConvention
from td3_agent.driving.gate import Answer, FreeRunningGate, Gate, Outcome, TwistConverter
from td3_agent.driving.loop_check import REMEDIES, OutcomeWindow
from td3_agent.driving.status import Status, loop_status
from td3_agent.driving.velocity_control import VelocityControlParams
from td3_agent.driving.watchdog import SilenceHold
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
from td3_agent.nodes.parameters import DEADLINE_SHARE, TwistToControlParams, declare
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
GRAPH_PERIOD_S = 0.1  # how often it is looked whether the agent is there
LAST_WORD_S = 0.5  # how long the final stop may take to reach the bridge


class TwistToControlNode(Node):
    """Answers each frame with exactly one vehicle command."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Subscribe to commands and frames; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__(
            'twist_to_control', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        self._params = params = declare(self, TwistToControlParams)
        self._lockstep = params.mode == 'lockstep'
        self.gate = make_gate(params)
        role = params.role_name
        self._odometry_topic = params.odometry_topic or topics.odometry(role)
        self._last_outcome: Outcome | None = None
        self._window = OutcomeWindow()
        self.wiring = Wiring(
            self,
            self._describe,
            parts={LOOP: lambda: loop_status(self._window.findings())},
            on_rejected=self._on_rejected,
        )
        self._control_pub = self.wiring.publisher(
            CarlaEgoVehicleControl, topics.control(role), advice='start the bridge'
        )
        self._subscribe(role)
        self._lost = (0, 0)  # frames that went by unanswered, commands that came too late
        self._deadline = WakeUp(self, self._on_deadline)
        self._hold = SilenceHold(round(params.silence_s * 1e9))
        self._silence = WakeUp(self, self._on_silence)
        self._frame_ns = -1
        self._agent_seen_ns: int | None = None
        if self._lockstep and params.input == 'twist_stamped':
            self._agent_life = LivelinessWatch(self, topics.alive(topics.agent_report(role)))
            steady_timer(self, GRAPH_PERIOD_S, self._look_around)
        self._readiness = Readiness(self, topics.gate_report(role), self._missing)

    def _subscribe(self, role: str) -> None:
        """Listen to the vehicle's data, to the agent, and to frames, in this order."""
        subscribe = self.wiring.subscribe
        subscribe(CarlaEgoVehicleInfo, topics.vehicle_info(role), self._on_info, LATCHED)
        subscribe(
            Odometry,
            self._odometry_topic,
            self._on_odometry,
            one_writer=True,
            advice='start the bridge, or set odometry_topic',
        )
        plain = (Twist, topics.twist(role), self._on_twist)
        stamped = (TwistStamped, topics.twist_stamped(role), self._on_twist_stamped)
        subscribe(
            *(plain if self._params.input == 'twist' else stamped),
            # Free-running only the newest counts: what has piled up is not driven after.
            RELIABLE if self._lockstep else NEWEST,
            one_writer=True,
            advice='start td3_agent_node, or whoever is to drive',
        )
        if self._lockstep:
            subscribe(Clock, '/clock', self._on_clock, one_writer=True)
            # No publisher of these is missed: it has nothing to say here.
            ended = topics.step_ended(role)
            subscribe(Header, ended, self._on_step_ended, is_expected=False)
            subscribe(Bool, topics.idle(role), self._on_idle, LATCHED, is_expected=False)

    def _on_rejected(self, topic: str, _: object) -> None:
        """Stop a freely running car whose motion is not known any more."""
        if topic == self._odometry_topic:
            self._send(self.gate.on_refused_state(steady_ns()))

    def close(self) -> None:
        """Say the last word: full brake, because CARLA keeps the last command for ever."""
        if self.gate.counts.answered:
            stamp = self.get_clock().now().to_msg()
            self._control_pub.publish(control_message(FULL_BRAKE, stamp))
            self._control_pub.wait_for_all_acked(Duration(seconds=LAST_WORD_S))

    def _look_around(self) -> None:
        """See whether the agent, once met, is gone for as long as a frame waits for it."""
        now_ns = steady_ns()
        topic = topics.twist_stamped(self._params.role_name)
        if self.count_publishers(topic) and not self._agent_life.is_lost:
            self._agent_seen_ns = now_ns
        seen_ns = self._agent_seen_ns
        self.gate.agent_gone = seen_ns is not None and now_ns - seen_ns > self.gate.deadline_ns

    def _missing(self) -> list[str]:
        """Return what is missing for every frame from now on to be answered."""
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

    def _send(self, answer: Answer | None) -> None:
        """Publish an answer, if there is one, and set the next deadline."""
        self._note_lost()
        if self._lockstep:
            self._watch_frames(answer)
        if answer is not None:
            if not answer.is_sent_already:
                stamp = time_from_ns(max(answer.stamp_ns, 0))
                self._control_pub.publish(control_message(answer.control, stamp))
            facts = {'outcome': answer.outcome.value, 'gate_published_ns': steady_ns()}
            if answer.twist_received_ns is not None:
                facts['twist_received_ns'] = answer.twist_received_ns
            self._readiness.report(answer.stamp_ns, facts)
            self._last_outcome = answer.outcome
            if answer.outcome is not Outcome.IDLE:  # no frame of the drive
                self._window.add(answer.outcome.value)
            self.wiring.changed()
        self._deadline.at(self.gate.due_ns)

    def _note_lost(self) -> None:
        """Note what the gate has counted since the last look."""
        counts, (unanswered, late) = self.gate.counts, self._lost
        self._lost = (counts.unanswered, counts.late)
        for _ in range(counts.unanswered - unanswered):
            self._window.add('unanswered')
        if counts.late > late:
            self._window.add_late()

    def _on_silence(self) -> None:
        """Stop a car that was told to drive and then was asked for nothing more.

        It is reported as such: for the ledger it is no second answer to the frame, but that of
        the next one.
        """
        if self._hold.on_time(steady_ns()):
            stamp = time_from_ns(self._frame_ns)
            self._control_pub.publish(control_message(self.gate.hold(), stamp))
            self._readiness.report(self._frame_ns, {'outcome': Outcome.SILENCE.value})
            self.wiring.changed()
        self._silence.at(self._hold.due_ns)

    def _watch_frames(self, answer: Answer | None) -> None:
        """Let the deadline of a frame take over from the watch over silence, and back."""
        stamp = self.gate.open_stamp_ns if answer is None else max(answer.stamp_ns, 0)
        if stamp is not None and stamp != self._frame_ns:
            self._frame_ns = stamp
            self._hold.frame_begun(steady_ns())
        if answer is not None:
            self._hold.answered(steady_ns(), stopped=answer.control == FULL_BRAKE)
        self._silence.at(self._hold.due_ns)

    def _remedy(self, outcome: Outcome) -> str:
        """Return what to do about a frame that was answered with a stop."""
        late_ns = self.gate.late_ns if self._lockstep else 0
        if outcome is not Outcome.NO_COMMAND or not late_ns:
            return REMEDIES[outcome.value]
        longest_s = DEADLINE_SHARE * self._params.bridge_wait_s
        return (
            f'the commands come {late_ns / 1e9:.2f} s after their frames, later than deadline_s '
            f'{self._params.deadline_s:g} s: raise deadline_s, at most to {longest_s:g} s, or see '
            'what delays the camera or the agent'
        )

    def _describe(self) -> Status:
        """Say how the gate stands."""
        values: dict[str, object] = asdict(self.gate.counts)
        values |= {'held': self._hold.count, 'refused': self.wiring.rejections.count}
        if self.gate.geometry is None:
            return Status('vehicle_info has not arrived', is_warning=True, values=values)
        if self._last_outcome is None:
            return Status('no frame yet', values=values)
        if self._hold.holding:
            text = f'no frame for {self._hold.limit_ns / 1e9:.2g} s or longer, {self._hold.count} '
            text += 'so far: the car is braked; are synchronizer and bridge running?'
            return Status(text, is_error=True, values=values)
        if self._last_outcome is not Outcome.OK:
            text = f'last frame {self._last_outcome.value}, {self.gate.counts.stopped} so far: '
            text += f'the car is braked; {self._remedy(self._last_outcome)}'
            is_idle = self._last_outcome is Outcome.IDLE
            return Status(text, is_error=not is_idle, is_warning=is_idle, values=values)
        if found := self._window.findings():
            return replace(loop_status(found), values=values, console='')
        return Status('every frame answered', values=values)


def make_gate(params: TwistToControlParams) -> Gate | FreeRunningGate:
    """Return the gate that the parameters ask for."""
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
    run_program(TwistToControlNode, args, shared_memory=False)


if __name__ == '__main__':
    main()

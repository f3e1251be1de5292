# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The driving agent as a lifecycle node: camera and odometry in, Twist out.

Configure loads and checks the policy, activate opens the command topics, deactivate and shutdown
publish a stop. The handling of frames is in :mod:`td3_agent.nodes.agent_topics`.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.task import Future

from td3_agent.driving.agent import Agent, Response, TwistEncoder
from td3_agent.driving.command import STOP, TwistConvention
from td3_agent.driving.reports import Status, loop_status
from td3_agent.driving.responder import FrameResponder
from td3_agent.driving.stages import StageWindow, agent_durations_ns
from td3_agent.nodes import topics
from td3_agent.nodes.agent_topics import AgentTopics
from td3_agent.nodes.diagnostics import ACTIVE, LOOP
from td3_agent.nodes.drivers import LoadedDriver, make_driver
from td3_agent.nodes.liveliness import DuplicateAgentCheck, Readiness
from td3_agent.nodes.parameters import Td3AgentParams, declare
from td3_agent.nodes.runtime import EXIT_USAGE, reject_illegal_transitions, run_program, steady_ns
from td3_agent.nodes.wiring import Wiring

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import State


class Td3AgentNode(LifecycleNode):
    """Responds to every complete frame with one Twist."""

    def __init__(
        self,
        load_driver: Callable[[Td3AgentParams], LoadedDriver] = make_driver,
        **kwargs: Any,  # noqa: ANN401  what Node takes
    ) -> None:
        """Read the parameters.

        Args:
            load_driver: returns the driver; raises ValueError or OSError if it cannot be used.
            kwargs: go to ``rclpy.lifecycle.LifecycleNode``.
        """
        super().__init__(
            'td3_agent', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        reject_illegal_transitions(self)
        self.params = declare(self, Td3AgentParams)
        self.finished = Future()
        self.exit_status = 0
        self._load_driver = load_driver
        self.loaded: LoadedDriver | None = None
        self.responder: FrameResponder | None = None
        self.link: AgentTopics | None = None  # from configuration to clean-up
        self.fault = ''  # why it is inactive
        role = self.params.role_name
        report, waits = topics.agent_report(role), topics.agent_waits(role)
        self._readiness = Readiness(self, report, self._missing, waits)
        self._stages = StageWindow()
        self._duplicates = DuplicateAgentCheck(self, role)
        self.wiring = Wiring(
            self,
            self._describe,
            figures=self._stages.figures,
            parts={LOOP: self._loop_status},
            on_rejected=self._on_rejected,
        )
        if self.params.autostart:
            self.start()

    def start(self) -> None:
        """Configure, and activate unless another agent drives; end if that fails.

        With autostart no lifecycle manager would try again.
        """
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self._duplicates.when_known(self.trigger_activate)
        else:
            self.exit_status = EXIT_USAGE
            self.finished.set_result(None)

    def close(self) -> None:
        if self._is_active:
            self.trigger_deactivate()

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        try:
            self.loaded = self._load_driver(self.params)
        except (ValueError, OSError) as error:
            return self._failed(f'policy rejected: {error}')
        self.fault = ''
        self.get_logger().info(f'driver: {self.loaded.title}')
        self.responder = FrameResponder(
            Agent(self.loaded.driver, self.loaded.spec, steady_ns),
            TwistEncoder(TwistConvention(self.params.twist_convention)),
            lockstep=self.params.mode == 'lockstep',
            max_frame_age_ns=round(self.params.max_frame_age_s * 1e9),
            contract=self.loaded.contract,
        )
        self.link = AgentTopics(
            self,
            self.params,
            self.wiring,
            self.responder,
            needs_route=self.loaded.needs_route,
            on_sent=self._on_sent,
            on_route_lost=self._readiness.withdraw,
        )
        return super().on_configure(state)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Open the command topics, unless another agent drives this vehicle."""
        if fault := self._duplicates.fault():
            return self._failed(fault)
        self.fault = ''
        self._duplicates.settled()
        self.responder.reset()
        self.responder.watch.restart()
        result = super().on_activate(state)
        self.link.is_active = True
        self.wiring.changed()
        return result

    def _failed(self, fault: str) -> TransitionCallbackReturn:
        """Keep the state and report the fault."""
        self.fault = fault
        self.get_logger().error(fault)
        self.wiring.changed()
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        self.link.is_active = False
        self._readiness.withdraw()
        stamp = self.responder.newest_stamp_ns
        if stamp is not None:
            self.link.publish(Response(stamp_ns=stamp, twist=STOP))
        self.wiring.changed()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        self._close_link()
        self.loaded = self.responder = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        if self._is_active:
            self.on_deactivate(state)
        self._close_link()
        return super().on_shutdown(state)

    def _close_link(self) -> None:
        if self.link is not None:
            self.link.close()
            self.link = None

    # Frames

    @property
    def _is_active(self) -> bool:
        return self.link is not None and self.link.is_active

    def _missing(self) -> list[str] | None:
        """Return what is missing before every frame can get a response; None if inactive."""
        return self.link.missing() if self._is_active else None

    def _on_rejected(self, topic: str, reason: object) -> None:
        if self.link is not None:
            self.link.on_rejected(topic, reason)

    def _on_sent(self, response: Response) -> None:
        """Report a response for the ledger, unless it repeats an earlier one."""
        published_ns = steady_ns()
        if record := response.record():
            record['twist_published_ns'] = published_ns
            self._readiness.report(response.stamp_ns, record)
            self._stages.add(agent_durations_ns(record))
        if self.responder.fault:  # otherwise the timer of diagnostics is enough
            self.wiring.changed()

    def _loop_status(self) -> Status:
        found = self.responder.watch.findings() if self._is_active else []
        has_frames = self._is_active and self.responder.newest_stamp_ns is not None
        return loop_status(found) if found or has_frames else Status('no frames')

    def _describe(self) -> Status:
        if not self._is_active:
            is_error, text = bool(self.fault), self.fault or 'not active'
            return Status(text, is_error=is_error, is_warning=True, values={ACTIVE: False})
        values = asdict(self.responder.counts)
        values |= {'rejected': self.wiring.rejections.count, ACTIVE: True}
        if fault := self.responder.fault:
            return Status(fault, is_error=True, values=values, console=fault)
        watch = self.responder.watch
        if not watch.names_missing_halves and (fault := self.responder.missing(steady_ns())):
            return Status(fault, is_error=True, values=values)
        found, awaited = loop_status(watch.findings()), self.link.awaited()
        if awaited and not found.is_error:
            found = Status(awaited, is_warning=True, console=awaited)
        if found.is_error or found.is_warning:
            return replace(found, values=values)
        state = 'ready, no frame yet' if self.responder.newest_stamp_ns is None else 'driving'
        return Status(f'{state}: {self.loaded.title}', values=values)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(Td3AgentNode, args=args)


if __name__ == '__main__':
    main()

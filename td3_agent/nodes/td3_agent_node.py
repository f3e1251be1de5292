# SPDX-License-Identifier: Apache-2.0
"""The driving agent as a lifecycle node: camera and odometry in, Twist out.

Wires :mod:`td3_agent.driving.answering` to ROS. Configure loads and checks the policy, activate
opens the command topics, deactivate and shutdown end with a stop.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleInfo
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.task import Future
from sensor_msgs.msg import CameraInfo, Image

from td3_agent.driving.agent import Agent, TwistEncoder
from td3_agent.driving.answering import FrameAnswerer, FrameCommand
from td3_agent.driving.attendance import CAMERA, GATE, ODOMETRY, ROUTE
from td3_agent.driving.command import STOP, TwistConvention
from td3_agent.driving.stages import StageWindow, agent_spans_ns
from td3_agent.driving.status import Status, loop_status
from td3_agent.nodes import conversions, topics
from td3_agent.nodes.diagnostics import ACTIVE, LOOP
from td3_agent.nodes.drivers import Equipment, make_driver
from td3_agent.nodes.liveliness import OtherDrivers, Readiness
from td3_agent.nodes.parameters import Td3AgentParams, declare
from td3_agent.nodes.runtime import (
    EXIT_REFUSED,
    LATCHED,
    RELIABLE,
    camera_qos,
    refuse_illegal_transitions,
    run_program,
    steady_ns,
    steady_timer,
)
from td3_agent.nodes.wiring import WhileWanted, Wiring, interest

if TYPE_CHECKING:
    from rclpy.lifecycle import State
    from rclpy.subscription import Subscription
    from rclpy.timer import Timer

    from td3_agent.driving.endpoints import Finding


class Td3AgentNode(LifecycleNode):
    """Answers every complete frame with one Twist."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Read the parameters; keyword arguments go to ``rclpy.lifecycle.LifecycleNode``."""
        super().__init__(
            'td3_agent', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        refuse_illegal_transitions(self)
        self.params = declare(self, Td3AgentParams)
        self.finished = Future()
        self.exit_status = 0
        self._equipment: Equipment | None = None
        self._answerer: FrameAnswerer | None = None
        self._inputs: dict[str, Subscription] = {}  # by what they bring
        self._timer: Timer | None = None
        self._active = self._has_route = False
        self._fault = ''  # why it is not active
        role = self.params.role_name
        self._readiness = Readiness(
            self, topics.agent_report(role), self._missing, topics.agent_waits(role)
        )
        self._stages = StageWindow()
        self._others = OtherDrivers(self, [topics.twist(role), topics.twist_stamped(role)])
        self.wiring = Wiring(
            self,
            self._describe,
            figures=self._stages.figures,
            parts={LOOP: lambda: loop_status(self._loop_findings())},
            on_rejected=self._on_rejected,
        )
        if self.params.autostart:
            self.start()

    def start(self) -> None:
        """Configure, and activate unless another agent drives; end if that is refused.

        Only a lifecycle manager could configure again, and with autostart there is none.
        """
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self._others.when_known(self.trigger_activate)
        else:
            self.exit_status = EXIT_REFUSED
            self.finished.set_result(None)

    def close(self) -> None:
        """Say the last word: stop."""
        if self._active:
            self.trigger_deactivate()

    # Lifecycle

    def on_configure(self, state: State) -> TransitionCallbackReturn:
        """Load and check the policy, and listen."""
        try:
            self._equipment = make_driver(self.params)
        except (ValueError, OSError) as error:
            return self._refused(f'policy refused: {error}')
        self._fault = ''
        self.get_logger().info(f'driver: {self._equipment.title}')
        self._answerer = FrameAnswerer(
            Agent(self._equipment.driver, self._equipment.spec, steady_ns),
            TwistEncoder(TwistConvention(self.params.twist_convention)),
            lockstep=self.params.mode == 'lockstep',
            max_frame_age_ns=round(self.params.max_frame_age_s * 1e9),
            contract=self._equipment.contract,
        )
        self._create_entities()
        return super().on_configure(state)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Open the command topics, unless somebody else drives this vehicle."""
        if fault := self._others.fault():
            return self._refused(fault)
        self._fault = ''
        self._others.settled()
        self._answerer.reset()
        self._answerer.watch.restart()
        result = super().on_activate(state)
        self._active = True
        self.wiring.changed()
        return result

    def _refused(self, fault: str) -> TransitionCallbackReturn:
        """Stay as it is, and tell why."""
        self._fault = fault
        self.get_logger().error(fault)
        self.wiring.changed()
        return TransitionCallbackReturn.FAILURE

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """End with a stop."""
        self._active = False
        self._readiness.withdraw()
        stamp = self._answerer.newest_stamp_ns
        if stamp is not None:
            self._publish(FrameCommand(stamp, STOP))
        self.wiring.changed()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Give back policy and topics."""
        self._destroy_entities()
        self._equipment = self._answerer = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """End with a stop, whatever the state was."""
        if self._active:
            self.on_deactivate(state)
        self._destroy_entities()
        return super().on_shutdown(state)

    def _create_entities(self) -> None:
        """Offer the command topics, and listen to the vehicle."""
        params, role = self.params, self.params.role_name
        self._create_outputs()
        image_topic = params.image_topic or topics.image(role, params.camera_id)
        subscribe = self.wiring.subscribe
        self._inputs = {
            CAMERA: subscribe(
                Image,
                image_topic,
                self._on_image,
                camera_qos(params.camera_reliability),
                advice='start the bridge with a camera of this name, or set image_topic',
            ),
            ODOMETRY: subscribe(
                Odometry,
                params.odometry_topic or topics.odometry(role),
                self._on_odometry,
                advice='start the bridge with a sensor.pseudo.odom, or set odometry_topic',
            ),
            'vehicle_info': subscribe(
                CarlaEgoVehicleInfo, topics.vehicle_info(role), self._on_info, LATCHED
            ),
        }
        if self._equipment.needs_route:
            self._inputs[ROUTE] = subscribe(
                Path,
                topics.waypoints(role),
                self._on_path,
                LATCHED,
                advice='start route_node, or carla_waypoint_publisher',
            )
        info_topic = topics.beside(image_topic, 'camera_info')
        self._lens = WhileWanted(
            self,
            CameraInfo,
            info_topic,
            self.wiring.rejections.guard(info_topic, self._on_lens),
            lambda: self._answerer.watch.wants_lens,
        )
        if params.mode == 'free_running':
            self._timer = steady_timer(self, 1.0 / params.rate_hz, self._on_timer)

    def _create_outputs(self) -> None:
        """Offer the command topics, closed until activation."""
        role = self.params.role_name
        make = self.create_lifecycle_publisher
        self._twist_pub = make(Twist, topics.twist(role), RELIABLE)
        self._stamped_pub = make(TwistStamped, topics.twist_stamped(role), RELIABLE)
        for kind, pub in ((Twist, self._twist_pub), (TwistStamped, self._stamped_pub)):
            one = interest(self, kind, pub.topic_name, RELIABLE, writes=True, one_writer=True)
            self.wiring.expect(one, self._advice if kind is Twist else None)

    def _advice(self) -> str:
        """Return what to do for a reader; one of the topics is enough: converters take either."""
        pubs = (self._twist_pub, self._stamped_pub)
        has_reader = any(pub.get_subscription_count() for pub in pubs)
        return '' if has_reader else 'start twist_to_control_node'

    def _destroy_entities(self) -> None:
        """Undo :meth:`_create_entities`; nothing happens when there is nothing."""
        if not self._inputs:
            return
        outputs = (self._twist_pub, self._stamped_pub)
        self.wiring.forget([pub.topic_name for pub in outputs])
        self.wiring.forget([subscription.topic for subscription in self._inputs.values()])
        for subscription in self._inputs.values():
            self.destroy_subscription(subscription)
        self._lens.close()
        self._inputs = {}
        self._has_route = False
        for pub in outputs:
            self.destroy_lifecycle_publisher(pub)
        if self._timer is not None:
            self.destroy_timer(self._timer)
            self._timer = None

    def _on_rejected(self, topic: str, reason: object) -> None:
        """Stop the car, once too much of image or odometry could not be used."""
        if self._active and topic in {self._inputs[it].topic for it in (CAMERA, ODOMETRY)}:
            self._publish(self._answerer.on_refused(f'{topic}: {reason}'))

    def _missing(self) -> list[str] | None:
        """Return what is missing for every frame from now on to be answered; None if inactive."""
        if not self._active:
            return None
        there = {
            CAMERA: self.count_publishers(self._inputs[CAMERA].topic),
            ODOMETRY: self.count_publishers(self._inputs[ODOMETRY].topic),
            ROUTE: self._has_route or not self._equipment.needs_route,
            GATE: self._stamped_pub.get_subscription_count(),
        }
        return [name for name, is_there in there.items() if not is_there]

    def _awaited(self) -> str:
        """Return what is waited for, as a sentence; empty if nothing is."""
        names = {CAMERA: 'image', GATE: 'reader'}
        at = {name: subscription.topic for name, subscription in self._inputs.items()}
        at[GATE] = self._stamped_pub.topic_name
        return ', '.join(
            f'no {names.get(name, name)} yet on {at[name]}' for name in self._missing() or ()
        )

    # Inputs

    def _on_image(self, msg: Image) -> None:
        if self._active:
            now_ns = steady_ns()
            stamp, view = conversions.header_stamp_ns(msg.header), conversions.image_view(msg)
            self._publish(self._answerer.on_image(stamp, view, now_ns))

    def _on_lens(self, msg: CameraInfo) -> None:
        self._answerer.watch.on_camera_info(msg.width, msg.height, msg.k[0])

    def _on_odometry(self, msg: Odometry) -> None:
        if self._active:
            now_ns = steady_ns()
            self._publish(self._answerer.on_motion(conversions.state_from_odometry(msg), now_ns))

    def _on_info(self, msg: CarlaEgoVehicleInfo) -> None:
        geometry = conversions.geometry_from_info(msg, self.params.default_wheelbase_m)
        self._publish(self._answerer.on_geometry(geometry))

    def _on_path(self, msg: Path) -> None:
        route = conversions.announced_route(msg)
        self._answerer.set_route(route)
        if self._has_route and route is None:
            self._readiness.withdraw()
        self._has_route = route is not None
        self.wiring.changed()

    def _on_timer(self) -> None:
        if self._active:
            self._publish(self._answerer.on_timer(steady_ns()))

    def _publish(self, command: FrameCommand | None) -> None:
        """Send a command, if there is one, and report what the ledger wants to know of it."""
        if command is None:
            return
        stamp = conversions.time_from_ns(command.stamp_ns)
        self._stamped_pub.publish(
            conversions.stamped_twist_message(command.twist, stamp, self.params.role_name)
        )
        self._twist_pub.publish(conversions.twist_message(command.twist))
        if command.facts is not None:
            published_ns = steady_ns()
            facts = command.facts() | {'twist_published_ns': published_ns}
            self._readiness.report(command.stamp_ns, facts)
            self._stages.add(agent_spans_ns(facts))
        self.wiring.changed()

    def _loop_findings(self) -> list[Finding]:
        """Return why the loop does not drive, or not as the policy was trained."""
        if self._answerer is None or not self._active:
            return []
        return self._answerer.watch.findings()

    def _describe(self) -> Status:
        """Say how the agent stands."""
        if self._answerer is None or not self._active:
            return Status(
                self._fault or 'not active',
                is_error=bool(self._fault),
                is_warning=True,
                values={ACTIVE: False},
            )
        values = asdict(self._answerer.counts)
        values |= {'refused': self.wiring.rejections.count, ACTIVE: True}
        found = self._loop_findings()
        trouble = self._answerer.trouble
        if not self._answerer.watch.names_missing_halves:
            trouble = trouble or self._answerer.missing(steady_ns())
        if trouble:
            return Status(trouble, is_error=True, values=values)
        if awaited := self._awaited():
            return Status(awaited, is_warning=True, values=values, console=awaited)
        if found:
            return replace(loop_status(found), values=values)
        state = 'ready, no frame yet' if self._answerer.newest_stamp_ns is None else 'driving'
        return Status(f'{state}: {self._equipment.title}', values=values)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(Td3AgentNode, args)


if __name__ == '__main__':
    main()

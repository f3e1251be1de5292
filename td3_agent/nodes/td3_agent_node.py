# SPDX-License-Identifier: Apache-2.0
"""The driving agent as a lifecycle node: camera and odometry in, Twist out.

Wires :mod:`td3_agent.driving.pairing` and :mod:`td3_agent.driving.agent` to ROS. Configure
loads and checks the policy, activate opens the command topics, deactivate and shutdown end
with a stop.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
import sys
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleInfo
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from sensor_msgs.msg import Image

from td3_agent.driving.agent import Agent, TwistEncoder
from td3_agent.driving.command import STOP, TwistConvention
from td3_agent.driving.pairing import FramePairer, Pair
from td3_agent.driving.parameters import param
from td3_agent.nodes import topics
from td3_agent.nodes.announcer import Announcer
from td3_agent.nodes.conversions import (
    geometry_from_info,
    image_view,
    route_from_path,
    stamp_ns,
    stamped_twist_message,
    state_from_odometry,
    time_from_ns,
    twist_message,
)
from td3_agent.nodes.diagnostics import Diagnostics, Status
from td3_agent.nodes.drivers import DriverParams, Equipment, make_driver
from td3_agent.nodes.parameters import declare
from td3_agent.nodes.qos import LATCHED, RELIABLE, camera
from td3_agent.nodes.runtime import run, steady_ns

if TYPE_CHECKING:
    from rclpy.lifecycle import State

    from td3_agent.driving.command import TwistCommand
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState


@dataclass(frozen=True, kw_only=True)
class Td3AgentParams(DriverParams):
    """Parameters of td3_agent_node."""

    role_name: str = param('ego_vehicle', 'role name of the vehicle')
    camera_id: str = param('camera', 'id of the camera in the objects file')
    mode: str = param(
        'lockstep',
        'one command per frame, or at a fixed rate from the newest frame',
        choices=('lockstep', 'free_running'),
    )
    twist_convention: str = param(
        'velocity',
        'how linear.x and angular.z are meant',
        choices=('velocity', 'carla_twist_to_control'),
    )
    camera_reliability: str = param(
        'reliable',
        'reliable loses no large frame; best_effort matches every known publisher',
        choices=('reliable', 'best_effort'),
    )
    image_topic: str = param('', 'image topic; empty: /carla/<role_name>/<camera_id>/image')
    odometry_topic: str = param('', 'odometry topic; empty: /carla/<role_name>/odometry')
    rate_hz: float = param(20.0, 'command rate when free-running', unit='Hz', low=0.1, high=1000.0)
    max_frame_age_s: float = param(
        0.5,
        'free-running: stop the car when the newest frame arrived longer ago (steady clock)',
        unit='s',
        low=0.01,
        high=60.0,
    )
    default_wheelbase_m: float = param(
        2.87, 'wheelbase when vehicle_info does not tell', unit='m', low=1.0, high=10.0
    )
    autostart: bool = param(True, 'configure and activate at start, without a lifecycle manager')


@dataclass(frozen=True)
class Received:
    """One half of a frame, and when it came [ns, steady]."""

    content: ImageView | VehicleState
    received_ns: int


class Td3AgentNode(LifecycleNode):
    """Answers every complete frame with one Twist."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Read the parameters; keyword arguments go to ``rclpy.node.Node``."""
        super().__init__(
            'td3_agent', automatically_declare_parameters_from_overrides=True, **kwargs
        )
        self.params = declare(self, Td3AgentParams)
        self._equipment: Equipment | None = None
        self._agent: Agent | None = None
        self._pairer: FramePairer = FramePairer()
        self._encoder = TwistEncoder(TwistConvention(self.params.twist_convention))
        self._geometry: VehicleGeometry | None = None
        self._newest: Pair | None = None
        self._answered: tuple[int, TwistCommand] = (-1, STOP)
        self._active = False
        self._has_route = False
        self._refused = 0
        self._trouble = ''
        self._announcer = Announcer(
            self, topics.agent_report(self.params.role_name), self._is_ready
        )
        self._diagnostics = Diagnostics(self, self._describe)
        if self.params.autostart:
            self.start()

    def start(self) -> None:
        """Configure and activate; a refusal leaves the node inactive and is reported."""
        if self.trigger_configure() is TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()

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
            self._trouble = f'policy refused: {error}'
            self.get_logger().error(self._trouble)
            self._diagnostics.changed()
            return TransitionCallbackReturn.FAILURE
        self._trouble = ''
        self._agent = Agent(self._equipment.driver, self._equipment.spec)
        self.get_logger().info(f'driver: {self._equipment.title}')
        self._create_publishers()
        self._create_subscriptions()
        return super().on_configure(state)

    def on_activate(self, state: State) -> TransitionCallbackReturn:
        """Open the command topics."""
        self._reset()
        result = super().on_activate(state)
        self._active = True
        self._diagnostics.changed()
        return result

    def on_deactivate(self, state: State) -> TransitionCallbackReturn:
        """End with a stop."""
        self._active = False
        self._announcer.withdraw()
        if self._newest is not None:
            self._publish(STOP, self._newest.stamp_ns)
        self._diagnostics.changed()
        return super().on_deactivate(state)

    def on_cleanup(self, state: State) -> TransitionCallbackReturn:
        """Give back policy and topics."""
        self._destroy_entities()
        self._equipment = self._agent = None
        return super().on_cleanup(state)

    def on_shutdown(self, state: State) -> TransitionCallbackReturn:
        """End with a stop, whatever the state was."""
        if self._active:
            self.on_deactivate(state)
        self._destroy_entities()
        return super().on_shutdown(state)

    def _create_publishers(self) -> None:
        role = self.params.role_name
        self._twist_pub = self.create_lifecycle_publisher(Twist, topics.twist(role), RELIABLE)
        self._stamped_pub = self.create_lifecycle_publisher(
            TwistStamped, topics.twist_stamped(role), RELIABLE
        )

    def _create_subscriptions(self) -> None:
        params, role = self.params, self.params.role_name
        image_topic = params.image_topic or topics.image(role, params.camera_id)
        self._inputs = [
            self.create_subscription(
                Image, image_topic, self._on_image, camera(params.camera_reliability)
            ),
            self.create_subscription(
                Odometry,
                params.odometry_topic or topics.odometry(role),
                self._on_odometry,
                RELIABLE,
            ),
            self.create_subscription(
                CarlaEgoVehicleInfo, topics.vehicle_info(role), self._on_info, LATCHED
            ),
        ]
        if self._equipment.needs_route:
            self._inputs.append(
                self.create_subscription(Path, topics.waypoints(role), self._on_path, LATCHED)
            )
        self._timer = None
        if params.mode == 'free_running':
            steady = Clock(clock_type=ClockType.STEADY_TIME)
            self._timer = self.create_timer(1.0 / params.rate_hz, self._on_timer, clock=steady)

    def _destroy_entities(self) -> None:
        for subscription in getattr(self, '_inputs', []):
            self.destroy_subscription(subscription)
        self._inputs = []
        if getattr(self, '_timer', None) is not None:
            self.destroy_timer(self._timer)
            self._timer = None
        for name in ('_twist_pub', '_stamped_pub'):
            if getattr(self, name, None) is not None:
                self.destroy_publisher(getattr(self, name))
                setattr(self, name, None)

    def _is_ready(self) -> bool:
        """Whether every frame from now on can be answered."""
        return (
            self._active
            and (self._has_route or not self._equipment.needs_route)
            and all(self.count_publishers(subscription.topic) for subscription in self._inputs[:2])
            and self._stamped_pub.get_subscription_count() > 0
        )

    # Inputs

    def _on_image(self, msg: Image) -> None:
        now_ns = steady_ns()
        try:
            stamp, view = stamp_ns(msg.header.stamp), image_view(msg)
        except ValueError as error:
            self._refuse('image', error)
            return
        self._on_pair(self._pairer.add_image(stamp, Received(view, now_ns)))

    def _on_odometry(self, msg: Odometry) -> None:
        now_ns = steady_ns()
        try:
            state = state_from_odometry(msg)
        except ValueError as error:
            self._refuse('odometry', error)
            return
        self._on_pair(self._pairer.add_motion(state.stamp_ns, Received(state, now_ns)))

    def _on_info(self, msg: CarlaEgoVehicleInfo) -> None:
        try:
            self._geometry = geometry_from_info(msg, self.params.default_wheelbase_m)
        except ValueError as error:
            self._refuse('vehicle_info', error)

    def _on_path(self, msg: Path) -> None:
        try:
            self._equipment.driver.set_route(route_from_path(msg))
        except ValueError as error:
            self._refuse('waypoints', error)
            return
        self._has_route = True

    def _on_pair(self, pair: Pair | None) -> None:
        """Answer a frame at once in lockstep, or keep it for the timer."""
        if pair is None:
            return
        self._newest = pair
        if pair.fresh_start:
            self._reset()
        if self._active and self.params.mode == 'lockstep':
            self._answer(pair)

    def _on_timer(self) -> None:
        """Free-running: command from the newest frame, or stop when it is too old."""
        if not self._active or self._newest is None:
            return
        arrived_ns = max(self._newest.image.received_ns, self._newest.motion.received_ns)
        if steady_ns() - arrived_ns > self.params.max_frame_age_s * 1e9:
            self._set_trouble('the newest frame is too old: the car is stopped')
            self._publish(STOP, self._newest.stamp_ns)
        elif self._newest.stamp_ns == self._answered[0]:
            self._publish(self._answered[1], self._newest.stamp_ns)  # same frame, same command
        else:
            self._answer(self._newest)

    # The work

    def _answer(self, pair: Pair) -> None:
        """Decide and publish; a driver that fails stops the car."""
        try:
            twist, facts = self._decide(pair)
        except (ValueError, RuntimeError) as error:
            self._set_trouble(f'driver failed: {error}')
            twist, facts = STOP, {'agent_error': str(error)}
        else:
            self._set_trouble('')
        self._answered = (pair.stamp_ns, twist)
        self._publish(twist, pair.stamp_ns)
        facts |= {
            'image_received_ns': pair.image.received_ns,
            'odometry_received_ns': pair.motion.received_ns,
            'twist_published_ns': steady_ns(),
        }
        self._announcer.report(pair.stamp_ns, facts)

    def _decide(self, pair: Pair) -> tuple[TwistCommand, dict]:
        """Return the command of a frame and what the ledger wants to know of it."""
        decision = self._agent.decide(pair.image.content, pair.motion.content)
        twist = self._encoder.encode(decision.twist, pair.motion.content, self._geometry)
        return twist, decision.facts()

    def _publish(self, twist: TwistCommand, stamp: int) -> None:
        """Send a command for the frame ``stamp`` [ns]."""
        message = stamped_twist_message(twist, time_from_ns(stamp), self.params.role_name)
        self._stamped_pub.publish(message)
        self._twist_pub.publish(twist_message(twist))

    def _reset(self) -> None:
        """Forget the past: a new drive begins."""
        self._agent.reset()
        self._encoder.reset()

    def _refuse(self, topic: str, error: ValueError) -> None:
        """Count and log a message that was not used."""
        self._refused += 1
        self.get_logger().warning(
            f'{topic} refused ({self._refused} so far): {error}', throttle_duration_sec=1.0
        )

    def _set_trouble(self, text: str) -> None:
        """Note what is wrong, and say so when it changes."""
        if text != self._trouble:
            self._trouble = text
            self._diagnostics.changed()

    def _describe(self) -> Status:
        """Say how the agent stands."""
        values = asdict(self._pairer.counts) | {'refused': self._refused}
        if self._trouble:
            return Status(self._trouble, is_error=True, values=values)
        if not self._active:
            return Status('not active', is_warning=True, values=values)
        return Status(f'driving: {self._equipment.title}', values=values)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    sys.exit(run(Td3AgentNode, args))


if __name__ == '__main__':
    main()

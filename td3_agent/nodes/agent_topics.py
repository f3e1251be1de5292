# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The topics of an agent, between its configuration and its clean-up.

Wires :mod:`td3_agent.driving.responder` to ROS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from carla_msgs.msg import CarlaEgoVehicleInfo
from geometry_msgs.msg import Twist, TwistStamped
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import CameraInfo, Image

from td3_agent.driving.readiness import CAMERA, GATE, ODOMETRY, ROUTE
from td3_agent.nodes import conversions, topics
from td3_agent.nodes.runtime import LATCHED, RELIABLE, camera_qos, steady_ns, steady_timer
from td3_agent.nodes.wiring import WhileWanted, Wiring, expected_endpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleNode
    from rclpy.subscription import Subscription

    from td3_agent.driving.agent import Response
    from td3_agent.driving.responder import FrameResponder
    from td3_agent.nodes.parameters import Td3AgentParams

INFO = 'vehicle_info'


class AgentTopics:
    """Feeds a responder and publishes its commands.

    Attributes:
        is_active: whether frames get a response.
        has_route: whether a route is known; None if the driver needs none.
    """

    def __init__(  # noqa: PLR0913  the ends of the wiring
        self,
        node: LifecycleNode,
        params: Td3AgentParams,
        wiring: Wiring,
        responder: FrameResponder,
        *,
        needs_route: bool,
        on_sent: Callable[[Response], None],
        on_route_lost: Callable[[], None],
    ) -> None:
        """Create the command topics, inactive, and subscribe to the vehicle.

        Args:
            node: whose topics they are.
            params: of the node.
            wiring: creates them.
            responder: gets the inputs.
            needs_route: whether its driver follows a route.
            on_sent: called after publishing a command.
            on_route_lost: called when the route is withdrawn.
        """
        self.is_active = False
        self.has_route = False if needs_route else None
        self._node, self._params, self._wiring = node, params, wiring
        self._responder = responder
        self._on_sent, self._on_route_lost = on_sent, on_route_lost
        role = params.role_name
        make = node.create_lifecycle_publisher
        self._twist_pub = make(Twist, topics.twist(role), RELIABLE)
        self._stamped_pub = make(TwistStamped, topics.twist_stamped(role), RELIABLE)
        for kind, pub in ((Twist, self._twist_pub), (TwistStamped, self._stamped_pub)):
            one = expected_endpoint(
                node, kind, pub.topic_name, RELIABLE, writes=True, exclusive=True
            )
            wiring.expect(one, self._advice if kind is Twist else None)
        image_topic = params.image_topic or topics.image(role, params.camera_id)
        self._inputs = self._subscribe(role, image_topic)
        info_topic = topics.beside(image_topic, 'camera_info')
        self._lens = WhileWanted(
            node,
            CameraInfo,
            info_topic,
            wiring.rejections.guard(info_topic, self._on_lens),
            lambda: responder.watch.wants_lens,
        )
        self._timer = None
        if params.mode == 'free_running':
            self._timer = steady_timer(node, 1.0 / params.rate_hz, self._on_timer)

    def _subscribe(self, role: str, image_topic: str) -> dict[str, Subscription]:
        """Return the subscriptions to the vehicle, by input."""
        params, subscribe = self._params, self._wiring.subscribe
        inputs = {
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
            INFO: subscribe(
                CarlaEgoVehicleInfo, topics.vehicle_info(role), self._on_info, LATCHED
            ),
        }
        if self.has_route is not None:
            inputs[ROUTE] = subscribe(
                Path,
                topics.waypoints(role),
                self._on_path,
                LATCHED,
                advice='start route_node, or carla_waypoint_publisher',
            )
        return inputs

    def _advice(self) -> str:
        """Return the remedy for a missing subscriber; one of the two topics is enough."""
        pubs = (self._twist_pub, self._stamped_pub)
        has_reader = any(pub.get_subscription_count() for pub in pubs)
        return '' if has_reader else 'start gate_node'

    def close(self) -> None:
        self._lens.close()
        outputs = (self._twist_pub, self._stamped_pub)
        self._wiring.forget([pub.topic_name for pub in outputs])
        self._wiring.forget([subscription.topic for subscription in self._inputs.values()])
        for subscription in self._inputs.values():
            self._node.destroy_subscription(subscription)
        for pub in outputs:
            self._node.destroy_lifecycle_publisher(pub)
        if self._timer is not None:
            self._node.destroy_timer(self._timer)

    def missing(self) -> list[str]:
        """Return what is missing before every frame can get a response."""
        there = {
            CAMERA: self._node.count_publishers(self._inputs[CAMERA].topic),
            ODOMETRY: self._node.count_publishers(self._inputs[ODOMETRY].topic),
            ROUTE: self.has_route is not False,
            GATE: self._stamped_pub.get_subscription_count(),
        }
        return [name for name, is_there in there.items() if not is_there]

    def awaited(self) -> str:
        """Return a sentence that names each missing input; empty if none is missing.

        In free-running mode an input also counts as missing until its first message.
        """
        names = {CAMERA: 'image', GATE: 'reader'}
        watch = self._responder.watch
        arrived = {CAMERA: watch.has_image, ODOMETRY: watch.has_motion}
        lacking = set(self.missing())
        if self._params.mode == 'free_running':
            lacking |= {name for name, is_there in arrived.items() if not is_there}
        at = {name: subscription.topic for name, subscription in self._inputs.items()}
        at[GATE] = self._stamped_pub.topic_name
        return ', '.join(
            f'no {names.get(name, name)} yet on {at[name]}' for name in at if name in lacking
        )

    def publish(self, response: Response | None) -> None:
        if response is None:
            return
        stamp = conversions.time_from_ns(response.stamp_ns)
        msg = conversions.stamped_twist_message(response.twist, stamp, self._params.role_name)
        self._stamped_pub.publish(msg)
        self._twist_pub.publish(msg.twist)
        self._on_sent(response)

    def on_rejected(self, topic: str, reason: object) -> None:
        """Stop the car after too many rejected images or odometry messages."""
        if self.is_active and topic in {self._inputs[it].topic for it in (CAMERA, ODOMETRY)}:
            self.publish(self._responder.on_rejected(f'{topic}: {reason}'))

    # Callbacks

    def _on_image(self, msg: Image) -> None:
        if self.is_active:
            now_ns = steady_ns()
            stamp, view = conversions.header_stamp_ns(msg.header), conversions.image_view(msg)
            self.publish(self._responder.on_image(stamp, view, now_ns))

    def _on_lens(self, msg: CameraInfo) -> None:
        self._responder.watch.on_camera_info(msg.width, msg.height, msg.k[0])

    def _on_odometry(self, msg: Odometry) -> None:
        if self.is_active:
            now_ns = steady_ns()
            self.publish(self._responder.on_motion(conversions.state_from_odometry(msg), now_ns))

    def _on_info(self, msg: CarlaEgoVehicleInfo) -> None:
        geometry = conversions.geometry_from_info(msg, self._params.default_wheelbase_m)
        self.publish(self._responder.on_geometry(geometry))

    def _on_path(self, msg: Path) -> None:
        route = conversions.announced_route(msg)
        self._responder.set_route(route)
        if self.has_route and route is None:
            self._on_route_lost()
        self.has_route = route is not None
        self._wiring.changed()

    def _on_timer(self) -> None:
        if self.is_active:
            self.publish(self._responder.on_timer(steady_ns()))

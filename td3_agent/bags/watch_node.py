# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Shows a running drive: receives the topics of the loop and logs them to Rerun.

It subscribes with best effort, so a slow viewer blocks no publisher.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
import os
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleControl
from diagnostic_msgs.msg import DiagnosticArray
from nav_msgs.msg import Odometry, Path
import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
import rerun as rr
from sensor_msgs.msg import Image

from td3_agent.driving.observation import ENCODINGS, ObservationBuilder
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import (
    announced_route,
    fields_from_report,
    image_view,
    stamp_ns,
    state_from_odometry,
)
from td3_agent.nodes.runtime import LATCHED
from td3_agent.nodes.wiring import Rejections
from td3_agent.ros_domain import domain_id_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from td3_agent.driving.observation import ObservationSpec
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleState

FORGETFUL = QoSProfile(depth=2, reliability=ReliabilityPolicy.BEST_EFFORT)
TRAIL_POINTS = 4000
TRAIL_EVERY = 10  # frames; the line is sent whole each time
JUMP_M = 5.0
SEARCH_S = 3.0  # discovery takes about one second
LEVELS = ('INFO', 'WARN', 'ERROR', 'WARN')
ROUTE_GREY, CAR_BLUE, TRAIL_ORANGE = (140, 147, 156), (31, 111, 235), (224, 161, 0)

THIN, THICK = rr.Radius.ui_points(1.0), rr.Radius.ui_points(2.5)


@dataclass(frozen=True, kw_only=True)
class WatchTopics:
    """Role name and topics of the vehicle."""

    role_name: str
    image: str
    odometry: str


class WatchNode(Node):
    """Logs one vehicle to Rerun."""

    def __init__(
        self,
        recording: rr.RecordingStream,
        watched: WatchTopics,
        spec: ObservationSpec,
        on_close: Callable[[], None] = lambda: None,
        **kwargs: Any,  # noqa: ANN401  what Node takes
    ) -> None:
        """Subscribe.

        Args:
            recording: receives the data.
            watched: topics of the vehicle.
            spec: of the network's input.
            on_close: called at the end.
            kwargs: of ``rclpy.node.Node``.
        """
        super().__init__('watch', start_parameter_services=False, **kwargs)
        self._log = recording
        self.close = on_close
        self._builder = ObservationBuilder(spec)
        self._route: Route | None = None
        self._near_m: float | None = None
        self._trail: deque[tuple[float, float]] = deque(maxlen=TRAIL_POINTS)
        self._statuses: dict[str, tuple[int, str]] = {}
        rejections, role = Rejections(self), watched.role_name
        for kind, topic, handler, qos in (
            (Image, watched.image, self._on_image, FORGETFUL),
            (Odometry, watched.odometry, self._on_odometry, FORGETFUL),
            (Path, topics.waypoints(role), self._on_path, LATCHED),
            (CarlaEgoVehicleControl, topics.control(role), self._on_control, FORGETFUL),
            (DiagnosticArray, topics.agent_report(role), self._on_report, FORGETFUL),
            (DiagnosticArray, '/diagnostics', self._on_diagnostics, FORGETFUL),
        ):
            self.create_subscription(kind, topic, rejections.guard(topic, handler), qos)
        self._odometry_topic = watched.odometry
        self._search = self.create_timer(SEARCH_S, self._look_for_vehicle)

    def _look_for_vehicle(self) -> None:
        """Warn once if no vehicle publishes odometry in this ROS domain."""
        self._search.cancel()
        if self.count_publishers(self._odometry_topic) == 0:
            domain_id = domain_id_of(os.environ)
            text = (
                f'no publisher of {self._odometry_topic} in ROS domain {domain_id}: '
                'start the drive, or watch with its ROS_DOMAIN_ID and --role-name'
            )
            self.get_logger().warning(text)
            self._log.log('diagnostics', rr.TextLog(text, level='WARN'))

    def _at(self, stamp: int) -> None:
        """Set the simulated time of the next entries [ns]."""
        self._log.set_time('sim', duration=stamp / 1e9)

    def _on_image(self, msg: Image) -> None:
        view = image_view(msg)
        red, green, blue = ENCODINGS[view.encoding][1]
        pixels = view.pixels()[:, :, [red, green, blue]]
        self._at(stamp_ns(msg.header.stamp))
        self._log.log('camera/image', rr.Image(pixels, color_model='RGB'))
        self._log.log('network/input', rr.Image(self._builder.preprocess(view), color_model='L'))

    def _on_odometry(self, msg: Odometry) -> None:
        state = state_from_odometry(msg)
        self._at(state.stamp_ns)
        self._log.log('plots/speed', rr.Scalars([state.speed_mps]))
        place = _on_the_map(state.x_m, state.y_m)
        if self._trail and np.hypot(*np.subtract(place, self._trail[-1])) > JUMP_M:
            self._trail.clear()
        self._trail.append(place)
        car = rr.Points2D([place], colors=[CAR_BLUE], radii=rr.Radius.ui_points(6.0))
        self._log.log('map/car', car)
        if len(self._trail) % TRAIL_EVERY == 0:
            line = rr.LineStrips2D([list(self._trail)], colors=[TRAIL_ORANGE], radii=THICK)
            self._log.log('map/driven', line)
        self._log_lateral_error(state)

    def _log_lateral_error(self, state: VehicleState) -> None:
        if self._route is not None:
            projection = self._route.project(state.x_m, state.y_m, self._near_m)
            self._near_m = projection.s_m
            self._log.log('plots/lateral_error', rr.Scalars([projection.lateral_m]))

    def _on_path(self, msg: Path) -> None:
        self._route, self._near_m = announced_route(msg), None
        route_xy = [] if self._route is None else self._route.points_xy.tolist()
        points = [_on_the_map(x, y) for x, y in route_xy]
        line = rr.LineStrips2D([points], colors=[ROUTE_GREY], radii=THIN)
        self._log.log('map/route', line, static=True)

    def _on_control(self, msg: CarlaEgoVehicleControl) -> None:
        self._at(stamp_ns(msg.header.stamp))
        for name in ('steer', 'throttle', 'brake'):
            self._log.log(f'control/{name}', rr.Scalars([getattr(msg, name)]))

    def _on_report(self, msg: DiagnosticArray) -> None:
        facts = fields_from_report(msg)
        if 'twist_published_ns' in facts and 'image_received_ns' in facts:
            self._at(stamp_ns(msg.header.stamp))
            span_ms = (facts['twist_published_ns'] - facts['image_received_ns']) / 1e6
            self._log.log('latency/image_to_twist_ms', rr.Scalars([span_ms]))

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        """Log the status of a node when it changes."""
        for status in msg.status:
            level = int.from_bytes(status.level, 'little')
            if self._statuses.get(status.name) != (level, status.message):
                self._statuses[status.name] = (level, status.message)
                text = f'{status.name}: {status.message}'
                self._log.log('diagnostics', rr.TextLog(text, level=LEVELS[min(level, 3)]))


def _on_the_map(x_m: float, y_m: float) -> tuple[float, float]:
    """Return a position in Rerun's 2D view, whose second axis points down."""
    return (x_m, -y_m)

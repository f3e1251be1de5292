# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Plans the route of one vehicle, from the town and the pose that the bridge publishes.

Wires :mod:`td3_agent.sim.navigator` to ROS. Neither a CARLA server nor its ``agents`` package is
needed, only the bridge's topics and the wheel ``carla``, which parses the town.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaWorldInfo
from geometry_msgs.msg import PoseStamped
from nav_msgs.msg import Odometry, Path
from rclpy.node import Node
from std_msgs.msg import Header

from td3_agent.driving.parameters import param
from td3_agent.driving.reports import Status
from td3_agent.nodes import conversions, topics
from td3_agent.nodes.conversions import MAP_FRAMES
from td3_agent.nodes.parameters import declare
from td3_agent.nodes.runtime import LATCHED, run_program, steady_timer
from td3_agent.nodes.wiring import Wiring
from td3_agent.sim.map_reader import GraphReader
from td3_agent.sim.navigator import Navigator, NavigatorParams
from td3_agent.sim.opendrive import MapError

if TYPE_CHECKING:
    from td3_agent.sim.route_planner import PlannedRoute

ROOT_ELEMENT = '<OpenDRIVE'
SHOWN = 40  # characters of a rejected text
READING_PERIOD_S = 0.1  # between checks whether the town is parsed
WITHOUT_CARLA = (
    'route_node reads the town with the Python package carla, which is not installed: '
    "'pip install carla==0.9.16' (Python 3.10 to 3.12 on x86-64), or publish the route from "
    'another node (carla.launch.py: route:=false)'
)


@dataclass(frozen=True, kw_only=True)
class RouteNodeParams(NavigatorParams):
    """Parameters of route_node."""

    role_name: str = param('ego_vehicle', 'role name of the vehicle')
    odometry_topic: str = param('', 'odometry topic; empty: /carla/<role_name>/odometry')


class RouteNode(Node):
    """Publishes a route only when the vehicle needs a new one."""

    def __init__(self, **kwargs: Any) -> None:  # noqa: ANN401  what Node takes
        """Subscribe; keyword arguments go to ``rclpy.node.Node``.

        Raises:
            MapError: the package ``carla`` is not installed.
        """
        reject_without_carla()
        super().__init__('route', automatically_declare_parameters_from_overrides=True, **kwargs)
        self._params = params = declare(self, RouteNodeParams)
        self._navigator = Navigator(params)
        self._reader: GraphReader | None = None
        self._map_name = self._opendrive = self._map_fault = ''
        self._header = Header(frame_id=MAP_FRAMES[0])
        self._published: PlannedRoute | None = None
        self._routes = 0
        role = params.role_name
        self._odometry_topic = params.odometry_topic or topics.odometry(role)
        self.wiring = Wiring(self, self._describe)
        self._path = self.wiring.publisher(Path, topics.waypoints(role), LATCHED)
        self.wiring.subscribe(
            CarlaWorldInfo,
            topics.WORLD_INFO,
            self._on_world_info,
            LATCHED,
            advice='start the bridge',
        )
        self.wiring.subscribe(
            Odometry,
            self._odometry_topic,
            self._on_odometry,
            advice='start the bridge with a sensor.pseudo.odom, or set odometry_topic',
        )
        self.wiring.subscribe(PoseStamped, topics.goal(role), self._on_goal, is_expected=False)
        self._timer = steady_timer(self, READING_PERIOD_S, self._on_timer)
        self._timer.cancel()

    def close(self) -> None:
        if self._reader is not None:
            self._reader.cancel()

    def _on_world_info(self, msg: CarlaWorldInfo) -> None:
        """Parse the town, unless it is the known one, from a restarted bridge."""
        if ROOT_ELEMENT not in msg.opendrive:  # the reader reports every other fault
            raise ValueError(
                f'opendrive of map {msg.map_name[:SHOWN]!r} must be an OpenDRIVE text, got '
                f'{msg.opendrive[:SHOWN]!r}'
            )
        if msg.opendrive == self._opendrive:
            return
        self.close()
        if self._opendrive:  # a pose may come before the first town
            self._navigator.forget_graph()
        self._map_name, self._opendrive, self._map_fault = msg.map_name, msg.opendrive, ''
        self._reader = GraphReader(msg.map_name, msg.opendrive)
        self._timer.reset()
        self._publish()

    def _on_timer(self) -> None:
        if self._reader is None or not self._reader.done:
            return
        self._timer.cancel()
        reader, self._reader = self._reader, None
        try:
            self._navigator.set_graph(reader.graph())
        except MapError as error:
            self._map_fault = str(error)
        self._publish()

    def _on_odometry(self, msg: Odometry) -> None:
        state = conversions.state_from_odometry(msg)
        frame_id = msg.header.frame_id if msg.header.frame_id in MAP_FRAMES else MAP_FRAMES[0]
        self._header = Header(stamp=msg.header.stamp, frame_id=frame_id)
        self._navigator.update(state)
        self._publish_if_changed()  # diagnostics have a timer of their own

    def _on_goal(self, msg: PoseStamped) -> None:
        self._navigator.set_goal(*conversions.goal_from_pose(msg))
        self._publish()

    def _publish(self) -> None:
        self._publish_if_changed()
        self.wiring.changed()

    def _publish_if_changed(self) -> None:
        """Publish the current route if it has changed.

        An empty path withdraws a route of another town or from another place: the old one is
        latched, so vehicles would keep following it.
        """
        route = self._navigator.route
        if route is self._published:
            return
        self._published = route
        if route is None:
            self._path.publish(Path(header=self._header))
            self.get_logger().info(f'route {self._routes} withdrawn')
            return
        self._routes += 1
        self._path.publish(
            conversions.path_from_points(
                route.points.tolist(), route.heading_rad.tolist(), self._header
            )
        )
        x_m, y_m, _ = route.points[-1].tolist()
        self.get_logger().info(
            f'route {self._routes}: {route.length_m:.0f} m to ({x_m:.1f}, {y_m:.1f}), '
            f'{route.lane_changes} lane changes'
        )

    def _describe(self) -> Status:
        navigator = self._navigator
        if missing := self._missing():
            return Status(missing, is_warning=True, console=missing)
        fault = self._map_fault or navigator.fault
        if self._map_fault or navigator.route is None:
            return Status(fault, is_error=True, console=fault)
        goal_x_m, goal_y_m, _ = navigator.route.points[-1].tolist()
        values = {
            'routes': self._routes,
            'remaining_m': round(navigator.remaining_m, 1),
            'lane_changes': navigator.route.lane_changes,
        }
        what = 'arrived at' if navigator.arrived else 'route to'
        text = f'{what} ({goal_x_m:.1f}, {goal_y_m:.1f})'
        if fault:  # there is no next one
            text = f'{text}; {fault}'
        return Status(text, is_warning=bool(fault), values=values, console=text if fault else '')

    def _missing(self) -> str:
        """Return what is missing before a route can be planned; else empty."""
        navigator = self._navigator
        if self._map_fault:
            return ''
        if self._reader is not None:
            return f'reading the map {self._map_name!r}'
        if not navigator.knows_map:
            return f'no town yet on {topics.WORLD_INFO}: start the bridge'
        if not navigator.knows_pose:
            return f'no odometry yet on {self._odometry_topic}'
        if navigator.route is None and not navigator.fault:
            topic = topics.goal(self._params.role_name)
            return f'no goal yet on {topic}: send one, such as 2D Goal Pose of RViz'
        return ''


def reject_without_carla() -> None:
    """Check that the parser of towns is installed.

    Raises:
        MapError: the package ``carla`` is not installed; with the remedy.
    """
    if find_spec('carla') is None:
        raise MapError(WITHOUT_CARLA)


def main(args: list[str] | None = None) -> None:
    """Run the node until it is asked to end."""
    run_program(RouteNode, args=args)


if __name__ == '__main__':
    main()

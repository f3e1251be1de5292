# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Steps a CARLA ROS bridge, real or embedded, frame by frame from a plain Python program.

The client is agent, gate and synchronizer in one: it sends one command per frame, waits until the
bridge has taken it, and requests the next frame. The bridge must be synchronous and wait for
commands, and no other program may step it or command the vehicle.
"""

from __future__ import annotations

from itertools import count
import math
import os
import time
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
)
from geometry_msgs.msg import Pose
from nav_msgs.msg import Odometry, Path
import rclpy
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from td3_agent.driving.command import FULL_BRAKE
from td3_agent.driving.loop import Frame
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.vehicle import DEFAULT_WHEELBASE_M
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import (
    control_from_message,
    control_message,
    crossed_markings,
    geometry_from_info,
    image_view,
    route_from_path,
    stamp_ns,
    state_from_odometry,
    time_from_ns,
)
from td3_agent.nodes.runtime import LATCHED, RELIABLE, camera_qos, own_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry

LOOK_S = 0.1
DELIVERED_S = 0.002  # transport time within one machine
PAUSE_S = 2.5  # without a status after PAUSE: the bridge was paused already
GAP_S = 0.5  # after the frame's last message; later ones were not sent
MOST_GAPS = 20  # incomplete frames in a row
KEPT_FRAMES = 4  # incomplete ones
RELIABILITIES = ('reliable', 'best_effort')
# By domain and role: the client of this process that steps the vehicle's bridge.
_owners: WeakValueDictionary[tuple[int, str], LockstepClient] = WeakValueDictionary()
_numbers = count()


class BridgeLostError(RuntimeError):
    """The bridge did not answer in time, or its process has ended."""


class BridgeTakenError(BridgeLostError):
    """Another client of this process steps the bridge now."""


class LockstepClient:
    """Steps the bridge; leaving the context ends the node, not the bridge.

    Attributes:
        latched: newest ``info`` (vehicle_info) and ``route`` (path), as messages.
        late: commands for which the bridge did not wait (any more).
        gaps: incomplete frames.
    """

    def __init__(  # noqa: PLR0913  the bridge and its names
        self,
        *,
        role_name: str = 'ego_vehicle',
        camera_id: str = 'camera',
        camera_reliability: str = 'reliable',
        domain_id: int | None = None,
        patience_s: float = 30.0,
        alive: Callable[[], bool] = lambda: True,
    ) -> None:
        """Join the graph.

        Args:
            role_name: role name of the vehicle.
            camera_id: id of its camera.
            camera_reliability: reliable or best_effort, of the image subscription.
            domain_id: ROS domain; None takes it from the environment.
            patience_s: longest wait for any message of the bridge [s, steady].
            alive: returns whether the bridge's process still runs.

        Raises:
            ParameterError: the reliability is unknown.
        """
        if camera_reliability not in RELIABILITIES:
            raise ParameterError(
                f'camera_reliability must be {" or ".join(RELIABILITIES)}, '
                f'got {camera_reliability!r}'
            )
        self._role, self._patience_s, self._alive = role_name, patience_s, alive
        self._context = own_context(domain_id)
        self._bridge = (self._context.get_domain_id(), role_name)
        self._node = rclpy.create_node(
            f'lockstep_client_{os.getpid()}_{next(_numbers)}',  # unique in the graph
            context=self._context,
            start_parameter_services=False,  # unused, and each slows every wait
        )
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._parts: dict[int, dict[str, Any]] = {}
        self.latched: dict[str, Any] = {}
        self._running: bool | None = None
        self._number = 0  # of steps; CarlaStatus has the world's own, but no stamp
        self._events: dict[str, Any] = {}  # of the open frame
        self._newest: Frame | None = None
        self._stamp_ns = -1
        self._open = False  # whether a frame has no command yet
        self._ahead = False  # whether the bridge did not wait for the last command
        self._command = FULL_BRAKE
        self.late = self.gaps = 0
        try:
            self._connect_topics(camera_id, camera_reliability)
        except Exception:  # an invalid name
            self.close()
            raise

    def _connect_topics(self, camera_id: str, camera_reliability: str) -> None:
        role, make = self._role, self._node.create_publisher
        self._control_pub = make(CarlaEgoVehicleControl, topics.control(role), RELIABLE)
        self._step_pub = make(CarlaControl, topics.CONTROL, RELIABLE)
        self._pose_pub = make(Pose, topics.of(role, 'control/set_transform'), RELIABLE)
        images = topics.image(role, camera_id)
        listen = self._node.create_subscription
        listen(Image, images, self._part('image'), camera_qos(camera_reliability))
        listen(Odometry, topics.odometry(role), self._part('odometry'), RELIABLE)
        listen(CarlaEgoVehicleStatus, topics.vehicle_status(role), self._part('status'), RELIABLE)
        self._status_sub = listen(CarlaStatus, topics.STATUS, self._on_status, RELIABLE)
        listen(CarlaCollisionEvent, topics.collision(role), self._on_collision, RELIABLE)
        listen(CarlaLaneInvasionEvent, topics.lane_invasion(role), self._on_crossing, RELIABLE)
        listen(CarlaEgoVehicleInfo, topics.vehicle_info(role), self._on_info, LATCHED)
        listen(Path, topics.waypoints(role), self._on_path, LATCHED)

    def _part(self, name: str) -> Callable[[Any], None]:
        def take(msg: Any) -> None:  # noqa: ANN401  any message with a header
            stamp = stamp_ns(msg.header.stamp)
            if stamp > self._stamp_ns:
                self._parts.setdefault(stamp, {})[name] = msg
                for old in sorted(self._parts)[:-KEPT_FRAMES]:
                    del self._parts[old]

        return take

    def _on_info(self, msg: CarlaEgoVehicleInfo) -> None:
        self.latched['info'] = msg

    def _on_path(self, msg: Path) -> None:
        if msg.poses:  # an empty path withdraws the route
            self.latched['route'] = msg

    def _on_status(self, msg: CarlaStatus) -> None:
        self._running = msg.synchronous_mode_running

    def _on_collision(self, msg: CarlaCollisionEvent) -> None:
        self._events['collision'] = msg.other_actor_id

    def _on_crossing(self, msg: CarlaLaneInvasionEvent) -> None:
        self._events['crossed_markings'] = tuple(crossed_markings(msg))

    def connect(self, *, paused: bool = False) -> None:
        """Wait for bridge and vehicle, take the bridge, and pause it.

        Args:
            paused: the bridge is known to be paused.

        Raises:
            BridgeLostError: bridge or vehicle is not there in time.
        """
        ends = (self._control_pub, self._step_pub, self._pose_pub)
        self._wait(
            lambda: all(end.get_subscription_count() for end in ends), 'subscribe to commands'
        )
        # The last object to be spawned; a paused bridge spawns nothing.
        odometry = topics.odometry(self._role)
        self._wait(lambda: self._node.count_publishers(odometry) > 0, 'publish odometry')
        left_paused = self.take()
        if not (paused or left_paused):
            self._pause()

    def take(self) -> bool:
        """Become the client of this process that steps the bridge; calls of the others fail.

        Returns:
            Whether the previous one has left it paused.
        """
        before = _owners.get(self._bridge)
        if before is self:
            return False
        left_paused = before is not None and before.leave()
        _owners[self._bridge] = self
        self._forget()
        return left_paused

    def leave(self) -> bool:
        """Brake if the bridge waits for a command; return whether it is known to be paused."""
        if self.awaits():
            self._publish(FULL_BRAKE)
            self._listen(PAUSE_S, lambda: self._running is False)
        return self._running is False

    def awaits(self) -> bool:
        """Whether the bridge waits for the command of the frame."""
        if self._ahead:  # a surplus command counts for the next frame: no wait there
            self._listen(LOOK_S, lambda: self._running is False)
        self._take_statuses()
        return self._open and self._running is not False and self._alive()

    def _pause(self) -> None:
        """Pause the bridge, and drop earlier frames.

        A paused bridge publishes nothing; one that waits for a command publishes its status only
        after its timeout.
        """
        self._running = None
        self._say(CarlaControl.PAUSE)
        self._listen(PAUSE_S, lambda: self._running is False)
        self._forget()

    def _forget(self) -> None:
        """Drop all frames so far, also those still in transport."""
        self._listen(LOOK_S, lambda: False)
        self._skip_frame()
        self._events.clear()
        self._ahead = True  # possibly: a previous client is unknown

    def _skip_frame(self) -> None:
        self._stamp_ns = max(self._parts, default=self._stamp_ns)
        self._parts.clear()

    def start(self) -> Frame:
        """Return a first frame; vehicle and route, which are latched, are known then.

        Raises:
            BridgeLostError: there is no frame in time.
        """
        parts = self._advanced()
        self._wait(
            lambda: {'info', 'route'} <= self.latched.keys(), 'publish vehicle_info and waypoints'
        )
        return self._frame(parts)

    @property
    def newest(self) -> Frame:
        if self._newest is None:
            raise BridgeLostError('there is no frame: start() comes first')
        return self._newest

    @property
    def route(self) -> Route:
        """The route that the bridge or its waypoint publisher has published."""
        return route_from_path(self.latched['route'])

    @property
    def geometry(self) -> VehicleGeometry:
        """Wheelbase and largest wheel angle of the vehicle."""
        return geometry_from_info(self.latched['info'], DEFAULT_WHEELBASE_M)

    def height_m(self, x_m: float, y_m: float) -> float | None:
        """Height of the closest point of the route [m]; None for a route without heights."""
        places = [pose.pose.position for pose in self.latched['route'].poses]
        if not any(place.z for place in places):
            return None
        return min(places, key=lambda place: math.hypot(place.x - x_m, place.y - y_m)).z

    def advance(self) -> Frame:
        """Request the next frame and return it.

        An incomplete frame, such as one without an image, is counted and skipped with the last
        command repeated.

        Raises:
            BridgeLostError: there is no frame in time.
        """
        return self._frame(self._advanced())

    def _advanced(self) -> dict[str, Any]:
        """Request frames until one is complete; return its messages."""
        self._check_ownership()
        for _ in range(MOST_GAPS):
            parts = self._stepped()
            if parts is not None:
                self._open = True
                return parts
            self.gaps += 1
            self._pass_over()
        raise BridgeLostError(f'image, odometry or status was missing of {MOST_GAPS} frames')

    def _stepped(self) -> dict[str, Any] | None:
        """Request the next frame; return its messages, or None if one is missing."""
        self._running = None
        self._number += 1
        self._say(CarlaControl.STEP_ONCE)
        self._wait(lambda: self._complete() is not None or self._is_over(), 'publish a frame')
        self._listen(GAP_S, lambda: self._complete() is not None)
        stamp = self._complete()
        if stamp is None:
            return None
        parts, self._stamp_ns = self._parts.pop(stamp), stamp
        self._parts = {later: found for later, found in self._parts.items() if later > stamp}
        return parts

    def _is_over(self) -> bool:
        """Whether the bridge has sent the whole frame; the odometry comes last."""
        return self._running is False or any('odometry' in it for it in self._parts.values())

    def _pass_over(self) -> None:
        """Repeat the command for an incomplete frame."""
        self._skip_frame()
        self._take_statuses()
        if self._running is not False:  # else its wait has timed out, and the command persists
            self._publish(self._command)
            self._wait(lambda: self._running is False, 'acknowledge the command')

    def _frame(self, parts: dict[str, Any]) -> Frame:
        acceleration = parts['status'].acceleration.linear
        self._newest = Frame(
            number=self._number,
            image=image_view(parts['image']),
            state=state_from_odometry(parts['odometry']),
            geometry=self.geometry,
            acceleration_mps2=(acceleration.x, acceleration.y),
            applied=control_from_message(parts['status'].control),
            **self._events,
        )
        self._events.clear()
        return self._newest

    def respond(self, control: VehicleControl) -> None:
        """Send the one command of the frame, and wait until the bridge has taken it.

        Raises:
            BridgeLostError: there is no acknowledgement in time.
        """
        self._check_ownership()
        self._ahead = not self.awaits()
        self.late += self._ahead
        self._publish(control)
        if self._ahead:
            # Not acknowledged; it counts for the next step, and must arrive before it.
            self._listen(DELIVERED_S, lambda: False)
        else:
            self._wait(lambda: self._running is False, 'acknowledge the command')

    def _publish(self, control: VehicleControl) -> None:
        self._open, self._command = False, control
        self._control_pub.publish(control_message(control, time_from_ns(self._stamp_ns)))

    def _check_ownership(self) -> None:
        if _owners.get(self._bridge) is not self:
            raise BridgeTakenError('another environment has begun an episode on this bridge')

    def move(self, x_m: float, y_m: float, z_m: float, yaw_rad: float) -> None:
        """Teleport the car in the map frame; takes effect some frames later."""
        pose = Pose()
        pose.position.x, pose.position.y, pose.position.z = x_m, y_m, z_m
        pose.orientation.z, pose.orientation.w = math.sin(yaw_rad / 2.0), math.cos(yaw_rad / 2.0)
        self._pose_pub.publish(pose)

    def close(self) -> None:
        """End the node; leaves the bridge paused."""
        if not self._context.ok():
            return
        if _owners.get(self._bridge) is self:
            self.leave()
            del _owners[self._bridge]
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _listen(self, duration_s: float, enough: Callable[[], bool]) -> None:
        """Take messages for ``duration_s`` [s], or until ``enough()``."""
        end_s = time.monotonic() + duration_s
        while not enough() and (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)

    def _take_statuses(self) -> None:
        """Take the statuses that have arrived; the executor would need a millisecond."""
        queue = self._status_sub.handle
        with queue:
            while (taken := queue.take_message(CarlaStatus, False)) is not None:  # noqa: FBT003
                self._on_status(taken[0])

    def _complete(self) -> int | None:
        """Return the newest stamp with all messages."""
        whole = (stamp for stamp, parts in self._parts.items() if len(parts) == 3)
        return max(whole, default=None)

    def _say(self, command: int) -> None:
        self._step_pub.publish(CarlaControl(command=command))

    def _wait(self, condition: Callable[[], object], what: str) -> None:
        end_s = time.monotonic() + self._patience_s
        while not condition():
            if not self._alive():
                raise BridgeLostError(f'the bridge has ended; it did not {what}')
            left_s = end_s - time.monotonic()
            if left_s <= 0.0:
                raise BridgeLostError(f'the bridge did not {what} within {self._patience_s:g} s')
            self._executor.spin_once(timeout_sec=min(LOOK_S, left_s))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

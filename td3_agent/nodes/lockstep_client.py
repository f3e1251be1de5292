# SPDX-License-Identifier: Apache-2.0
"""Steps a CARLA ROS bridge, real or embedded, frame by frame from a plain Python program.

The client is agent, gate and synchronizer in one: it answers each frame with one command, waits
until the bridge has taken it, and asks for the next frame. The bridge must be synchronous, wait
for commands, and have nobody else who steps it or commands the vehicle.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
import time
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaStatus,
)
from geometry_msgs.msg import Pose
from nav_msgs.msg import Odometry, Path
import rclpy
from rclpy.duration import Duration
from rclpy.executors import SingleThreadedExecutor
from sensor_msgs.msg import Image

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import (
    control_from_message,
    control_message,
    geometry_from_info,
    image_view,
    route_from_path,
    stamp_ns,
    state_from_odometry,
    time_from_ns,
)
from td3_agent.nodes.qos import LATCHED, RELIABLE, camera
from td3_agent.nodes.runtime import own_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.observation import ImageView
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry, VehicleState

LOOK_S = 0.1
DELIVERED_S = 1.0
PAUSE_S = 2.5  # silence after PAUSE that means: was paused already
KEPT_FRAMES = 4  # of messages whose counterparts have not come yet


class BridgeLostError(RuntimeError):
    """The bridge did not answer in time, or its process has ended."""


@dataclass(frozen=True)
class Frame:
    """One frame, all of equal stamps.

    Attributes:
        stamp_ns: simulated time [ns].
        image: pixels, not copied.
        state: motion, from the odometry.
        acceleration_mps2: (x, y) in the map's axes [m/s^2].
        applied: the command that was executed in the step that led here.
        collided: whether the car has touched something since the frame before.
    """

    stamp_ns: int
    image: ImageView
    state: VehicleState
    acceleration_mps2: tuple[float, float]
    applied: VehicleControl
    collided: bool


class LockstepClient:
    """Talks to the bridge; leaving the context ends the node, not the bridge."""

    def __init__(  # noqa: PLR0913  where the bridge is and what it calls things
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
            camera_reliability: reliable or best_effort, as the bridge publishes images.
            domain_id: ROS domain; None is that of the environment.
            patience_s: longest wait for any answer of the bridge [s, steady].
            alive: whether the bridge's process still runs, as far as that is known.
        """
        self._role, self._patience_s, self._alive = role_name, patience_s, alive
        self._context = own_context(domain_id)
        self._node = rclpy.create_node('lockstep_client', context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._parts: dict[int, dict[str, Any]] = {}
        self._latched: dict[str, Any] = {}
        self._running: bool | None = None
        self._collided = False
        self._stamp_ns = -1
        self.late = 0  # commands that came after the bridge had given up waiting
        self._connect_topics(camera_id, camera_reliability)

    def _connect_topics(self, camera_id: str, camera_reliability: str) -> None:
        role, make = self._role, self._node.create_publisher
        self._control_pub = make(CarlaEgoVehicleControl, topics.control(role), RELIABLE)
        self._step_pub = make(CarlaControl, topics.CONTROL, RELIABLE)
        self._pose_pub = make(Pose, topics.of(role, 'control/set_transform'), RELIABLE)
        images = topics.image(role, camera_id)
        listen = self._node.create_subscription
        listen(Image, images, self._part('image'), camera(camera_reliability))
        listen(Odometry, topics.odometry(role), self._part('odometry'), RELIABLE)
        listen(CarlaEgoVehicleStatus, topics.vehicle_status(role), self._part('status'), RELIABLE)
        listen(CarlaStatus, topics.STATUS, self._on_status, RELIABLE)
        listen(CarlaCollisionEvent, topics.collision(role), self._on_collision, RELIABLE)
        listen(CarlaEgoVehicleInfo, topics.vehicle_info(role), self._latch('info'), LATCHED)
        listen(Path, topics.waypoints(role), self._latch('route'), LATCHED)

    def _part(self, name: str) -> Callable[[Any], None]:
        def take(msg: Any) -> None:  # noqa: ANN401  any message with a header
            stamp = stamp_ns(msg.header.stamp)
            if stamp > self._stamp_ns:
                self._parts.setdefault(stamp, {})[name] = msg
                for old in sorted(self._parts)[:-KEPT_FRAMES]:
                    del self._parts[old]

        return take

    def _latch(self, name: str) -> Callable[[Any], None]:
        return lambda msg: self._latched.update({name: msg})

    def _on_status(self, msg: CarlaStatus) -> None:
        self._running = msg.synchronous_mode_running

    def _on_collision(self, _: CarlaCollisionEvent) -> None:
        self._collided = True

    def connect(self, *, paused: bool = False) -> None:
        """Wait until bridge and vehicle are there, and pause the bridge.

        Args:
            paused: it is known to be paused.

        Raises:
            BridgeLostError: they are not, in time.
        """
        ends = (self._control_pub, self._step_pub, self._pose_pub)
        self._wait(lambda: all(end.get_subscription_count() for end in ends), 'listens')
        # The last object that is spawned, and a paused bridge spawns nothing.
        odometry = topics.odometry(self._role)
        self._wait(lambda: self._node.count_publishers(odometry) > 0, 'publishes odometry')
        if not paused:
            self._pause()

    def _pause(self) -> None:
        """Pause the bridge, and forget the frames that came before it was.

        One that was paused already says nothing; one that waits for a command answers only when it
        has given up.
        """
        self._running = None
        self._say(CarlaControl.PAUSE)
        self._listen(PAUSE_S, lambda: self._running is False)
        self._listen(LOOK_S, lambda: False)  # to what is still under way
        self._stamp_ns = max(self._parts, default=-1)
        self._parts.clear()

    def start(self) -> Frame:
        """Return a first frame, and with it what is latched: vehicle and route.

        Raises:
            BridgeLostError: there is none in time.
        """
        frame = self.advance()
        self._wait(lambda: {'info', 'route'} <= self._latched.keys(), 'vehicle_info and waypoints')
        return frame

    @property
    def route(self) -> Route:
        """The route that the bridge, or its waypoint publisher, has announced."""
        return route_from_path(self._latched['route'])

    @property
    def geometry(self) -> VehicleGeometry:
        """Wheelbase and largest wheel angle of the vehicle."""
        return geometry_from_info(self._latched['info'], default_wheelbase_m=2.87)

    def advance(self) -> Frame:
        """Ask for the next frame and return it.

        Raises:
            BridgeLostError: it does not come.
        """
        before_ns, self._running = self._stamp_ns, None
        self._say(CarlaControl.STEP_ONCE)
        self._wait(lambda: self._complete(before_ns) is not None, 'the next frame')
        stamp = self._complete(before_ns)
        assert stamp is not None  # noqa: S101  waited for
        parts, self._stamp_ns = self._parts.pop(stamp), stamp
        self._parts = {later: found for later, found in self._parts.items() if later > stamp}
        acceleration = parts['status'].acceleration.linear
        collided, self._collided = self._collided, False
        return Frame(
            stamp_ns=stamp,
            image=image_view(parts['image']),
            state=state_from_odometry(parts['odometry']),
            acceleration_mps2=(acceleration.x, acceleration.y),
            applied=control_from_message(parts['status'].control),
            collided=collided,
        )

    def answer(self, control: VehicleControl) -> None:
        """Answer the frame, once, and wait until the bridge has taken the command.

        Raises:
            BridgeLostError: it does not say so.
        """
        # It has given up waiting: the command still serves the next step, but must be there first.
        late = self._running is False
        self.late += late
        self._control_pub.publish(control_message(control, time_from_ns(self._stamp_ns)))
        if late:
            self._control_pub.wait_for_all_acked(Duration(seconds=DELIVERED_S))
        else:
            self._wait(lambda: self._running is False, 'an acknowledgement')

    def move(self, x_m: float, y_m: float, z_m: float, yaw_rad: float) -> None:
        """Put the car elsewhere in the map frame; it is there some frames later."""
        pose = Pose()
        pose.position.x, pose.position.y, pose.position.z = x_m, y_m, z_m
        pose.orientation.z, pose.orientation.w = math.sin(yaw_rad / 2.0), math.cos(yaw_rad / 2.0)
        self._pose_pub.publish(pose)
        self._pose_pub.wait_for_all_acked(Duration(seconds=DELIVERED_S))

    def close(self) -> None:
        """End the node; a bridge that waits is left paused."""
        if not self._context.ok():
            return
        self._executor.shutdown(timeout_sec=1.0)
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)

    def _listen(self, duration_s: float, enough: Callable[[], bool]) -> None:
        """Take messages for so long [s], or until it is enough."""
        end_s = time.monotonic() + duration_s
        while not enough() and (left_s := end_s - time.monotonic()) > 0.0:
            self._executor.spin_once(timeout_sec=left_s)

    def _complete(self, before_ns: int) -> int | None:
        """Return the newest stamp after ``before_ns`` of which everything has come."""
        whole = [stamp for stamp, parts in self._parts.items() if len(parts) == 3]
        return max((stamp for stamp in whole if stamp > before_ns), default=None)

    def _say(self, command: int) -> None:
        self._step_pub.publish(CarlaControl(command=command))

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        end_s = time.monotonic() + self._patience_s
        while not condition():
            if not self._alive():
                raise BridgeLostError(f'the bridge has ended; {what} was awaited')
            left_s = end_s - time.monotonic()
            if left_s <= 0.0:
                raise BridgeLostError(f'nothing of the bridge in {self._patience_s:g} s: {what}')
            self._executor.spin_once(timeout_sec=min(LOOK_S, left_s))

    def __enter__(self) -> Self:
        """Return the client itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the node."""
        self.close()

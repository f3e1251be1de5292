# SPDX-License-Identifier: Apache-2.0
"""Nodes within this process, and a vehicle that a row moves by hand: for what needs no kill.

Everything is spun by whoever waits for something, so that a row decides what comes when.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
import math
import os
from pathlib import Path
import threading
import time
from typing import TYPE_CHECKING, Any

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import PoseStamped, TwistStamped
from nav_msgs.msg import Odometry
from nav_msgs.msg import Path as PathMsg
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from td3_agent.evaluation.processes import free_domain_id
from td3_agent.faults.scene import SceneError
from td3_agent.nodes import topics
from td3_agent.nodes.conversions import facts_from_report, stamp_ns, time_from_ns
from td3_agent.nodes.runtime import LATCHED, RELIABLE, REPORTS, own_context

if TYPE_CHECKING:
    from collections.abc import Callable

    from typing_extensions import Self

ROLE, CAMERA = 'ego_vehicle', 'camera'
PATIENCE_S = 30.0
SPIN_S = 0.05
STEP_NS = 50_000_000
START_NS = 10_000_000_000
SIDE_PX = 84
PATH_POINTS = 200


@dataclass
class Inside:
    """A context in a domain of its own, its executor and its nodes; leaving ends them all."""

    domain_id: int = field(default_factory=free_domain_id)
    nodes: list[Any] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Begin."""
        self._threads: list[tuple[SingleThreadedExecutor, threading.Thread]] = []
        self.context = own_context(self.domain_id)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.peer = self.make(Node, 'peer')
        return self

    def __exit__(self, *_: object) -> None:
        """End every node, whatever happened."""
        for executor, thread in self._threads:
            executor.shutdown(timeout_sec=1.0)
            thread.join(PATIENCE_S)
        for node in reversed(self.nodes[:]):
            self.drop(node)
        self.executor.shutdown(timeout_sec=1.0)
        rclpy.shutdown(context=self.context)

    def make(self, cls: type[Any], *args: Any, **parameters: Any) -> Any:  # noqa: ANN401  a node
        """Return a node with these parameters, spun from now on."""
        node = self._new(cls, *args, **parameters)
        self.executor.add_node(node)
        return node

    def make_apart(self, cls: type[Any], **parameters: Any) -> Any:  # noqa: ANN401  a node
        """Return a node that is spun by a thread of its own: the others may sleep."""
        node = self._new(cls, **parameters)
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self._threads.append((executor, thread))
        return node

    def _new(self, cls: type[Any], *args: Any, **parameters: Any) -> Any:  # noqa: ANN401  a node
        name = parameters.pop('node_name', None)
        words = ['--ros-args', '-r', f'__node:={name}'] if name else None
        overrides = [Parameter(key, value=value) for key, value in parameters.items()]
        node = cls(*args, context=self.context, parameter_overrides=overrides, cli_args=words)
        self.nodes.append(node)
        return node

    def drop(self, node: Any) -> None:  # noqa: ANN401  a node
        """End one node as its program would."""
        if hasattr(node, 'close'):
            node.close()
        self.nodes.remove(node)
        self.executor.remove_node(node)
        node.destroy_node()

    def wait_for(
        self, condition: Callable[[], Any], what: str, patience_s: float | None = None
    ) -> float:
        """Spin until ``condition`` holds; return how long that took [s].

        Raises:
            SceneError: it did not within ``patience_s`` [s].
        """
        patience_s = PATIENCE_S if patience_s is None else patience_s
        begun_s = time.monotonic()
        while not condition():
            if time.monotonic() - begun_s > patience_s:
                raise SceneError(f'{what}: expected within {patience_s:g} s, and did not come')
            self.executor.spin_once(timeout_sec=SPIN_S)
        return time.monotonic() - begun_s

    def holds_within(self, condition: Callable[[], Any], patience_s: float) -> float | None:
        """Spin until ``condition`` holds; return how long that took [s], None if too long."""
        try:
            return self.wait_for(condition, 'it', patience_s)
        except SceneError:
            return None


class Vehicle:
    """The peer as bridge: frames by hand, and everything that is said of them."""

    def __init__(self, inside: Inside, role: str = ROLE) -> None:
        """Publish what a bridge does, vehicle_info and a straight path at once."""
        self.inside, self.role = inside, role
        publish, listen = inside.peer.create_publisher, inside.peer.create_subscription
        self.clock_pub = publish(Clock, '/clock', RELIABLE)
        self.image_pub = publish(Image, topics.image(role, CAMERA), RELIABLE)
        self.odometry_pub = publish(Odometry, topics.odometry(role), RELIABLE)
        self.info_pub = publish(CarlaEgoVehicleInfo, topics.vehicle_info(role), LATCHED)
        self.path_pub = publish(PathMsg, topics.waypoints(role), LATCHED)
        self.info_pub.publish(vehicle_info())
        self.path_pub.publish(path())
        self.commands: list[CarlaEgoVehicleControl] = []
        self.twists: list[TwistStamped] = []
        self.said: dict[str, DiagnosticStatus] = {}
        self.reports: list[dict[str, Any]] = []
        listen(CarlaEgoVehicleControl, topics.control(role), self.commands.append, RELIABLE)
        listen(TwistStamped, topics.twist_stamped(role), self.twists.append, RELIABLE)
        listen(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        listen(DiagnosticArray, topics.agent_report(role), self._on_report, REPORTS)
        self.frame = 0

    def _on_diagnostics(self, msg: DiagnosticArray) -> None:
        self.said.update({status.name: status for status in msg.status})

    def _on_report(self, msg: DiagnosticArray) -> None:
        with suppress(ValueError):  # a row may have published rubbish
            self.reports.append(facts_from_report(msg) | {'stamp_ns': stamp_ns(msg.header.stamp)})

    def give(self, **changes: dict[str, Any]) -> int:
        """Publish the next frame; ``image`` and ``odometry`` have fields changed.

        Returns:
            Its stamp [ns].
        """
        self.frame += 1
        now_ns = START_NS + self.frame * STEP_NS
        self.clock_pub.publish(Clock(clock=time_from_ns(now_ns)))
        self.image_pub.publish(changed(image(now_ns), changes.get('image', {})))
        self.odometry_pub.publish(changed(odometry(now_ns), changes.get('odometry', {})))
        return now_ns

    def answered(self, at_ns: int, patience_s: float | None = None) -> CarlaEgoVehicleControl:
        """Return the gate's command for a frame.

        Raises:
            SceneError: none in time [s].
        """
        stamp = time_from_ns(at_ns)

        def commands() -> list[CarlaEgoVehicleControl]:
            return [msg for msg in self.commands if msg.header.stamp == stamp]

        self.inside.wait_for(commands, f'command for stamp {at_ns}', patience_s)
        return commands()[0]

    def wait_until_driving(self) -> None:
        """Give frames until one is answered with a command to drive, and reports are heard.

        Raises:
            SceneError: not in time.
        """
        end_s = time.monotonic() + PATIENCE_S
        while not (self.reports and self.commands and not is_stop(self.commands[-1])):
            if time.monotonic() > end_s:
                raise SceneError('agent and gate: expected to drive, and did not')
            heard = len(self.commands)
            self.give()
            self.inside.holds_within(lambda h=heard: len(self.commands) > h, 0.5)

    def drive(self, frames: int = 3) -> list[CarlaEgoVehicleControl]:
        """Give good frames one after the other; return their commands."""
        return [self.answered(self.give()) for _ in range(frames)]

    def names(self, node: str, *words: str) -> bool:
        """Whether the newest status of a node, or of a part of it, is not OK and has the words."""
        status = self.said.get(node)
        return (
            status is not None
            and status.level != DiagnosticStatus.OK
            and all(word in status.message for word in words)
        )

    def message(self, node: str) -> str:
        """Return what a node, or a part of it, said last."""
        return self.said[node].message if node in self.said else ''

    def value(self, node: str, key: str) -> str | None:
        """Return a value of a node's newest status, or None."""
        values = self.said[node].values if node in self.said else ()
        return next((pair.value for pair in values if pair.key == key), None)


def image(at_ns: int) -> Image:
    """Return a grey image, 84 x 84 bgra8."""
    msg = Image(height=SIDE_PX, width=SIDE_PX, encoding='bgra8', step=4 * SIDE_PX)
    msg.header.frame_id = f'{ROLE}/{CAMERA}'
    msg.header.stamp = time_from_ns(at_ns)
    msg.data = bytes([100]) * (4 * SIDE_PX * SIDE_PX)
    return msg


def odometry(at_ns: int) -> Odometry:
    """Return the odometry of a car at 5 m/s along x."""
    msg = Odometry(child_frame_id=ROLE)
    msg.header.frame_id = 'map'
    msg.header.stamp = time_from_ns(at_ns)
    msg.pose.pose.orientation.w = 1.0
    msg.twist.twist.linear.x = 5.0
    return msg


def vehicle_info() -> CarlaEgoVehicleInfo:
    """Return four wheels that turn by up to 1.2 rad."""
    return CarlaEgoVehicleInfo(wheels=[CarlaEgoVehicleInfoWheel(max_steer_angle=1.2)] * 4)


def path(points: int = PATH_POINTS) -> PathMsg:
    """Return a straight path along x, a point every metre."""
    msg = PathMsg()
    msg.header.frame_id = 'map'
    for i in range(points):
        pose = PoseStamped()
        pose.pose.position.x = float(i)
        msg.poses.append(pose)
    return msg


def changed(msg: Any, fields: dict[str, Any]) -> Any:  # noqa: ANN401  a message
    """Return the message with fields set, by path such as ``header.stamp.sec``."""
    for path_, value in fields.items():
        *parents, name = path_.split('.')
        part = msg
        for parent in parents:
            part = getattr(part, parent)
        setattr(part, name, value)
    return msg


def is_stop(msg: CarlaEgoVehicleControl) -> bool:
    """Whether a command is full brake and no throttle."""
    return msg.brake == 1.0 and msg.throttle == 0.0


def is_sound(msg: CarlaEgoVehicleControl) -> bool:
    """Whether a command is finite and in range."""
    values = (msg.throttle, msg.brake, (msg.steer + 1.0) / 2.0)
    return all(math.isfinite(value) and 0.0 <= value <= 1.0 for value in values)


def resources() -> dict[str, float]:
    """Return resident memory [MB], open files and threads of this process."""
    lines = dict(
        line.split(':', 1)
        for line in Path('/proc/self/status').read_text(encoding='utf-8').splitlines()
    )
    return {
        'rss_mb': int(lines['VmRSS'].split()[0]) / 1024.0,
        'fds': len(os.listdir('/proc/self/fd')),  # noqa: PTH208  names are enough
        'threads': int(lines['Threads']),
    }

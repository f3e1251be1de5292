# SPDX-License-Identifier: Apache-2.0
"""Nodes within this process, and a bridge that a case moves by hand."""

from contextlib import suppress
import threading
import time

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from faults.watcher import is_sound, is_stop
from geometry_msgs.msg import PoseStamped, TwistStamped
from harness.ros import Ros
from nav_msgs.msg import Odometry, Path
import psutil
import pytest
from rclpy.executors import SingleThreadedExecutor
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import facts_from_report, stamp_ns, time_from_ns
from td3_agent.nodes.runtime import LATCHED, RELIABLE, REPORTS

ROLE, CAMERA = 'ego_vehicle', 'camera'
PATIENCE_S = 30.0
STEP_NS = 50_000_000
START_NS = 10_000_000_000
SIDE_PX = 84


class Nodes(Ros):
    """Nodes of a case, spun by the case itself."""

    def __init__(self, domain_id):
        super().__init__(domain_id)
        self._threads = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for executor, thread in self._threads:
            executor.shutdown(timeout_sec=1.0)
            thread.join(PATIENCE_S)
        self.close()

    def make_apart(self, cls, **parameters):
        """Return a node that a thread of its own spins: the others may sleep."""
        node = self.make(cls, **parameters)
        self.executor.remove_node(node)
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(node)
        thread = threading.Thread(target=executor.spin, daemon=True)
        thread.start()
        self._threads.append((executor, thread))
        return node

    def within(self, condition, patience_s):
        """Spin until ``condition()`` holds; return how long that took [s], None if too long."""
        begun_s = time.monotonic()
        while not condition():
            if time.monotonic() - begun_s > patience_s:
                return None
            self.executor.spin_once(timeout_sec=0.05)
        return time.monotonic() - begun_s

    def wait_for(self, condition, what, patience_s=None):
        """Spin until ``condition()`` holds; fail where it does not."""
        patience_s = patience_s or PATIENCE_S
        if self.within(condition, patience_s) is None:
            pytest.fail(f'{what}: expected within {patience_s:g} s, and did not come')


class BridgeByHand:
    """Publishes frames when told to, and keeps what agent and gate say of them."""

    def __init__(self, ros, role=ROLE):
        self.ros = ros
        publish, listen = ros.peer.create_publisher, ros.peer.create_subscription
        self.clock_pub = publish(Clock, '/clock', RELIABLE)
        self.image_pub = publish(Image, topics.image(role, CAMERA), RELIABLE)
        self.odometry_pub = publish(Odometry, topics.odometry(role), RELIABLE)
        self.info_pub = publish(CarlaEgoVehicleInfo, topics.vehicle_info(role), LATCHED)
        self.path_pub = publish(Path, topics.waypoints(role), LATCHED)
        self.publish_latched()
        self.commands, self.twists, self.reports, self.said = [], [], [], {}
        listen(CarlaEgoVehicleControl, topics.control(role), self.commands.append, RELIABLE)
        listen(TwistStamped, topics.twist_stamped(role), self.twists.append, RELIABLE)
        listen(DiagnosticArray, '/diagnostics', self._on_diagnostics, RELIABLE)
        listen(DiagnosticArray, topics.agent_report(role), self._on_report, REPORTS)
        self.frame = 0

    def _on_diagnostics(self, msg):
        self.said.update({status.name: status for status in msg.status})

    def _on_report(self, msg):
        with suppress(ValueError):  # a case may have published rubbish
            self.reports.append(facts_from_report(msg) | {'stamp_ns': stamp_ns(msg.header.stamp)})

    def publish_latched(self):
        self.info_pub.publish(vehicle_info())
        self.path_pub.publish(path())

    def give(self, **changes):
        """Publish the next frame and return its stamp [ns].

        ``image`` and ``odometry`` map paths such as ``header.stamp.sec`` to other values.
        """
        self.frame += 1
        now_ns = START_NS + self.frame * STEP_NS
        self.clock_pub.publish(Clock(clock=time_from_ns(now_ns)))
        self.image_pub.publish(changed(image(now_ns), changes.get('image', {})))
        self.odometry_pub.publish(changed(odometry(now_ns), changes.get('odometry', {})))
        return now_ns

    def answered(self, at_ns, patience_s=None):
        """Return the gate's command for a frame."""
        stamp = time_from_ns(at_ns)

        def commands():
            return [msg for msg in self.commands if msg.header.stamp == stamp]

        self.ros.wait_for(commands, f'command for stamp {at_ns}', patience_s)
        return commands()[0]

    def drives(self, patience_s=0.2):
        """Give a good frame, and return whether the newest command is to drive."""
        received = len(self.commands)
        self.give()
        self.ros.within(lambda: len(self.commands) > received, patience_s)
        return bool(self.commands) and not is_stop(self.commands[-1])

    def wait_until_driving(self):
        """Give frames until one is answered with a command to drive, and reports arrive."""
        self.ros.wait_for(lambda: self.drives(0.5) and self.reports, 'agent and gate drive')

    def drive(self, frames=3):
        """Give good frames one after the other; return their commands."""
        return [self.answered(self.give()) for _ in range(frames)]

    def names(self, node, *words):
        """Whether the newest status of a node, or of a part of it, names a fault."""
        status = self.said.get(node)
        return (
            status is not None
            and status.level != DiagnosticStatus.OK
            and all(word in status.message for word in words)
        )

    def message(self, node):
        """Return what a node, or a part of it, said last."""
        return self.said[node].message if node in self.said else ''

    def value(self, node, key):
        """Return a value of a node's newest status, or None."""
        values = self.said[node].values if node in self.said else ()
        return next((pair.value for pair in values if pair.key == key), None)

    def expect_sound(self):
        """Expect no command that is not finite or out of range."""
        assert [msg for msg in self.commands if not is_sound(msg)] == [], 'P0 commands'


def image(at_ns):
    """Return a grey image, 84 x 84 bgra8."""
    msg = Image(height=SIDE_PX, width=SIDE_PX, encoding='bgra8', step=4 * SIDE_PX)
    msg.header.frame_id = f'{ROLE}/{CAMERA}'
    msg.header.stamp = time_from_ns(at_ns)
    msg.data = bytes([100]) * (4 * SIDE_PX * SIDE_PX)
    return msg


def odometry(at_ns):
    """Return the odometry of a car at 5 m/s along x."""
    msg = Odometry(child_frame_id=ROLE)
    msg.header.frame_id = 'map'
    msg.header.stamp = time_from_ns(at_ns)
    msg.pose.pose.orientation.w = 1.0
    msg.twist.twist.linear.x = 5.0
    return msg


def vehicle_info():
    """Return four wheels that turn by up to 1.2 rad."""
    return CarlaEgoVehicleInfo(wheels=[CarlaEgoVehicleInfoWheel(max_steer_angle=1.2)] * 4)


def path(points=200):
    """Return a straight path along x, a point every metre."""
    msg = Path()
    msg.header.frame_id = 'map'
    for i in range(points):
        pose = PoseStamped()
        pose.pose.position.x = float(i)
        msg.poses.append(pose)
    return msg


def changed(msg, fields):
    """Return the message with fields set, by path such as ``header.stamp.sec``."""
    for field, value in fields.items():
        *parents, name = field.split('.')
        part = msg
        for parent in parents:
            part = getattr(part, parent)
        setattr(part, name, value)
    return msg


def resources(pid=None):
    """Return resident memory [MB], open files and threads of a process, by default of this."""
    process = psutil.Process(pid)
    return {
        'rss_mb': process.memory_info().rss / 1e6,
        'fds': process.num_fds(),
        'threads': process.num_threads(),
    }

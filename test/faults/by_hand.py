# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A bridge that a case steps frame by frame, for nodes in the same process."""

from contextlib import suppress

from carla_msgs.msg import CarlaEgoVehicleControl, CarlaEgoVehicleInfo
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import TwistStamped
from harness.messages import CAMERA, ROLE, changed, image, odometry, path, stamp_of, vehicle_info
from harness.ros import Diagnosed
from harness.watcher import is_sound, is_stop
from nav_msgs.msg import Odometry, Path
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import fields_from_report, stamp_ns, time_from_ns
from td3_agent.nodes.runtime import LATCHED, REPORTS


class BridgeByHand:
    """Publishes frames on request, and keeps the messages of agent and gate."""

    def __init__(self, ros, role=ROLE):
        self.ros = ros
        self.clock_pub = ros.talk(Clock, '/clock')
        self.image_pub = ros.talk(Image, topics.image(role, CAMERA))
        self.odometry_pub = ros.talk(Odometry, topics.odometry(role))
        self.info_pub = ros.talk(CarlaEgoVehicleInfo, topics.vehicle_info(role), LATCHED)
        self.path_pub = ros.talk(Path, topics.waypoints(role), LATCHED)
        self.publish_latched()
        self.reports, self.status = [], Diagnosed(ros)
        self.commands = ros.listen(CarlaEgoVehicleControl, topics.control(role))
        self.twists = ros.listen(TwistStamped, topics.twist_stamped(role))
        reports = topics.agent_report(role)
        ros.peer.create_subscription(DiagnosticArray, reports, self._on_report, REPORTS)
        self.frame = 0

    def _on_report(self, msg):
        with suppress(ValueError):  # a case may have published invalid reports
            self.reports.append(fields_from_report(msg) | {'stamp_ns': stamp_ns(msg.header.stamp)})

    def publish_latched(self):
        self.info_pub.publish(vehicle_info())
        self.path_pub.publish(path())

    def give(self, **changes):
        """Publish the next frame and return its stamp [ns].

        ``image`` and ``odometry`` map paths such as ``header.stamp.sec`` to other values.
        """
        self.frame += 1
        now_ns = stamp_of(self.frame)
        self.clock_pub.publish(Clock(clock=time_from_ns(now_ns)))
        self.image_pub.publish(changed(image(now_ns), **changes.get('image', {})))
        self.odometry_pub.publish(changed(odometry(now_ns), **changes.get('odometry', {})))
        return now_ns

    def answered(self, at_ns, patience_s=None):
        """Return the gate's command for a frame."""
        stamp = time_from_ns(at_ns)

        def commands():
            return [msg for msg in self.commands if msg.header.stamp == stamp]

        self.ros.spin_until(commands, f'command for stamp {at_ns}', patience_s)
        return commands()[0]

    def drives(self, patience_s=0.2):
        """Give a good frame; return whether the newest command is no stop."""
        received = len(self.commands)
        self.give()
        self.ros.within(lambda: len(self.commands) > received, patience_s)
        return bool(self.commands) and not is_stop(self.commands[-1])

    def wait_until_driving(self):
        """Give frames until the gate drives and reports arrive."""
        self.ros.spin_until(lambda: self.drives(0.5) and self.reports, 'agent and gate drive')

    def drive(self, frames=3):
        """Give good frames and return their commands."""
        return [self.answered(self.give()) for _ in range(frames)]

    def expect_sound(self):
        """Expect no command that is not finite or out of range."""
        assert [msg for msg in self.commands if not is_sound(msg)] == [], 'P0 commands'

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The embedded bridge, paused, with publishers for its inputs and lists of its outputs."""

import math

from carla_msgs.msg import (
    CarlaCollisionEvent,
    CarlaControl,
    CarlaEgoVehicleControl,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
)
from geometry_msgs.msg import Pose, Twist
from harness.messages import ROLE
from nav_msgs.msg import Odometry
from rclpy.publisher import Publisher
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float32

from td3_agent.nodes import topics
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.sim_bridge_node import SimBridgeNode

ORDER = [
    '/carla/status',
    '/clock',
    '/carla/world_info',
    f'/carla/{ROLE}/vehicle_status',
    f'/carla/{ROLE}/vehicle_info',
    f'/carla/{ROLE}/camera/camera_info',
    f'/carla/{ROLE}/camera/image',
    f'/carla/{ROLE}/speedometer',
    f'/carla/{ROLE}/odometry',
]


class Bench:
    """A paused bridge, publishers for its inputs and lists of its outputs."""

    def __init__(self, ros, **parameters):
        settings = {'map': 'oval', 'spawn_index': 0, 'parked_vehicles': 0, 'start_paused': True}
        self.ros = ros
        self.image_period = round(20.0 / parameters.get('camera_rate_hz', 20.0))  # frames
        self.status = ros.listen(CarlaStatus, topics.STATUS)
        self.clock = ros.listen(Clock, '/clock')
        self.vehicle_status = ros.listen(CarlaEgoVehicleStatus, topics.vehicle_status(ROLE))
        self.odometry = ros.listen(Odometry, topics.odometry(ROLE))
        self.images = ros.listen(Image, topics.image(ROLE, 'camera'))
        self.camera_info = ros.listen(CameraInfo, topics.camera_info(ROLE, 'camera'))
        self.speedometer = ros.listen(Float32, topics.of(ROLE, 'speedometer'))
        self.collisions = ros.listen(CarlaCollisionEvent, topics.collision(ROLE))
        self.invasions = ros.listen(CarlaLaneInvasionEvent, topics.lane_invasion(ROLE))
        self.run_state = ros.talk(CarlaControl, topics.CONTROL)
        self.control = ros.talk(CarlaEgoVehicleControl, topics.control(ROLE))
        self.manual = ros.talk(
            CarlaEgoVehicleControl, topics.of(ROLE, 'vehicle_control_cmd_manual')
        )
        self.pose = ros.talk(Pose, topics.of(ROLE, 'control/set_transform'))
        self.velocity = ros.talk(Twist, topics.of(ROLE, 'control/set_target_velocity'))
        self.bridge = ros.make(SimBridgeNode, **(settings | parameters))
        self.simulator = self.bridge.simulator
        ros.spin_until_matched()
        ros.spin_until(lambda: not self.bridge.output.is_running, 'paused')

    def order(self, *commands):
        """Send PLAY, PAUSE or STEP_ONCE."""
        for command in commands:
            self.run_state.publish(CarlaControl(command=command))

    def begin_step(self):
        """Ask for one frame, and wait until all of it has been seen."""
        frames, since, frame = len(self.odometry), len(self.status), self.simulator.frame
        self.order(CarlaControl.STEP_ONCE)
        self.ros.spin_until(
            lambda: (
                len(self.odometry) > frames
                and any(m.frame > frame for m in self.status[since:])
                and self.is_complete()
            ),
            'a frame',
        )

    def end_step(self, **control):
        """Answer the frame, and wait until the bridge has acknowledged it."""
        self.control.publish(CarlaEgoVehicleControl(**control))
        self.ros.spin_until(self.is_idle, 'acknowledged')

    def step(self, **control):
        """One clean cycle of the strict lockstep."""
        self.begin_step()
        self.end_step(**control)

    def is_idle(self):
        return bool(self.status) and not self.status[-1].synchronous_mode_running

    def is_complete(self):
        frame = stamp_ns(self.odometry[-1].header.stamp)
        each = (self.clock, self.vehicle_status, self.speedometer)
        images_due = len(self.odometry) // self.image_period
        return (
            stamp_ns(self.clock[-1].clock) == frame
            and all(len(heard) == len(self.odometry) for heard in each)
            and len(self.images) >= images_due
            and len(self.camera_info) == len(self.images)
        )

    def put(self, x_m, y_m, yaw_rad):
        """Teleport the car."""
        pose = Pose()
        pose.position.x, pose.position.y = x_m, y_m
        pose.orientation.z, pose.orientation.w = math.sin(yaw_rad / 2), math.cos(yaw_rad / 2)
        self.pose.publish(pose)
        self.ros.spin_until(lambda: self.simulator.ego.state.x_m == x_m, 'teleported')

    def push(self, speed_mps):
        """Give the car a speed."""
        twist = Twist()
        twist.linear.x = speed_mps
        self.velocity.publish(twist)
        self.ros.spin_until(lambda: self.simulator.ego.state.speed_mps == speed_mps, 'pushed')

    def flags(self, since=0):
        """Frame and running flag of each status."""
        return [(m.frame, m.synchronous_mode_running) for m in self.status[since:]]


def spied(bridge_publisher, monkeypatch):
    """Return a list of topics that grows with each message of the bridge."""
    sent = []
    for part in (bridge_publisher, *bridge_publisher.vehicles):
        for publisher in vars(part).values():
            if isinstance(publisher, Publisher):
                monkeypatch.setattr(publisher, 'publish', spy(publisher, sent))
    return sent


def spy(publisher, sent):
    publish = publisher.publish

    def noted(msg):
        sent.append(publisher.topic_name)
        publish(msg)

    return noted

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Valid messages of a bridge, for tests to change."""

from carla_msgs.msg import CarlaEgoVehicleInfo, CarlaEgoVehicleInfoWheel
from geometry_msgs.msg import PoseStamped, Twist, Vector3
from nav_msgs.msg import Odometry, Path
from sensor_msgs.msg import Image

from td3_agent.nodes.conversions import stamp_ns, time_from_ns

ROLE, CAMERA = 'ego_vehicle', 'camera'
SIDE_PX = 84
MAX_STEER_RAD, WHEELBASE_M = 1.2, 2.8
STEP_NS = 50_000_000
START_NS = 10_000_000_000


def stamp_of(frame):
    """Return the simulated time of a frame [ns]."""
    return START_NS + frame * STEP_NS


def time_of(frame):
    """Return the stamp of a frame."""
    return time_from_ns(stamp_of(frame))


def frames_of(messages):
    """Return the number of the frame of each message."""
    return [(stamp_ns(msg.header.stamp) - START_NS) / STEP_NS for msg in messages]


def image(at_ns, grey=100):
    """Return an image of one grey level, 84 x 84 bgra8."""
    msg = Image(height=SIDE_PX, width=SIDE_PX, encoding='bgra8', step=4 * SIDE_PX)
    msg.header.frame_id = f'{ROLE}/{CAMERA}'
    msg.header.stamp = time_from_ns(at_ns)
    msg.data = bytes([grey]) * (4 * SIDE_PX * SIDE_PX)
    return msg


def odometry(at_ns, x_m=0.0, y_m=0.0, speed_mps=5.0):
    """Return the odometry of a car that heads along x."""
    msg = Odometry(child_frame_id=ROLE)
    msg.header.frame_id = 'map'
    msg.header.stamp = time_from_ns(at_ns)
    msg.pose.pose.position.x, msg.pose.pose.position.y = x_m, y_m
    msg.pose.pose.orientation.w = 1.0
    msg.twist.twist.linear.x = speed_mps
    return msg


def vehicle_info():
    """Return four wheels, 2.8 m between the axles, that turn by up to 1.2 rad."""
    msg = CarlaEgoVehicleInfo()
    for i in range(4):
        place = Vector3(x=WHEELBASE_M / 2 * (1 if i < 2 else -1), y=0.8 * (-1) ** i)
        msg.wheels.append(CarlaEgoVehicleInfoWheel(max_steer_angle=MAX_STEER_RAD, position=place))
    return msg


def twist(linear_x=0.0, angular_z=0.0):
    """Return a Twist of the two components in use."""
    msg = Twist()
    msg.linear.x, msg.angular.z = linear_x, angular_z
    return msg


def path(points=200, y_m=0.0):
    """Return a straight path along x, a point every metre."""
    msg = Path()
    msg.header.frame_id = 'map'
    for i in range(points):
        pose = PoseStamped()
        pose.pose.position.x, pose.pose.position.y = float(i), y_m
        msg.poses.append(pose)
    return msg


def changed(msg, **fields):
    """Return the message with fields set, by path such as ``header.stamp.sec``."""
    for field, value in fields.items():
        *parents, name = field.split('.')
        part = msg
        for parent in parents:
            part = getattr(part, parent)
        setattr(part, name, value)
    return msg

# SPDX-License-Identifier: Apache-2.0
"""ROS messages to plain values and back; every message field is checked here, once."""

from __future__ import annotations

from contextlib import suppress
import json
from typing import TYPE_CHECKING, Any

from td3_agent.driving.command import TwistCommand, VehicleControl
from td3_agent.driving.frames import (
    NANOSECONDS_PER_SECOND,
    nanoseconds_from_stamp,
    yaw_from_quaternion,
)
from td3_agent.driving.observation import ImageView
from td3_agent.driving.route import route_from_points
from td3_agent.driving.vehicle import VehicleState, geometry_from_wheels

with suppress(ImportError):  # without ROS 2 messages can be read (of a bag), not made
    from builtin_interfaces.msg import Time
    from carla_msgs.msg import CarlaEgoVehicleControl
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from geometry_msgs.msg import Twist, TwistStamped

if TYPE_CHECKING:
    from carla_msgs.msg import CarlaEgoVehicleInfo
    from nav_msgs.msg import Odometry, Path
    from sensor_msgs.msg import Image

    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry


def stamp_ns(stamp: Time) -> int:
    """Return a message stamp as integer nanoseconds.

    Raises:
        ValueError: negative seconds, or nanoseconds beyond a second.
    """
    return nanoseconds_from_stamp(stamp.sec, stamp.nanosec)


def time_from_ns(nanoseconds: int) -> Time:
    """Return integer nanoseconds as a message stamp."""
    sec, nanosec = divmod(nanoseconds, NANOSECONDS_PER_SECOND)
    return Time(sec=sec, nanosec=nanosec)


def state_from_odometry(msg: Odometry) -> VehicleState:
    """Return the motion that an odometry message carries.

    Only ``angular.z`` of the angular velocity is meant the same in all the bridge's versions.

    Raises:
        ValueError: a field is not finite, out of range, or the orientation is zero.
    """
    position, q = msg.pose.pose.position, msg.pose.pose.orientation
    return VehicleState(
        stamp_ns=stamp_ns(msg.header.stamp),
        x_m=position.x,
        y_m=position.y,
        z_m=position.z,
        yaw_rad=yaw_from_quaternion(q.x, q.y, q.z, q.w),
        speed_mps=msg.twist.twist.linear.x,
        yaw_rate_radps=msg.twist.twist.angular.z,
    )


def image_view(msg: Image) -> ImageView:
    """Return the pixels of an image message, not copied.

    Raises:
        ImageError: encoding, size, step and data do not fit together.
    """
    return ImageView(
        data=msg.data, height=msg.height, width=msg.width, encoding=msg.encoding, step=msg.step
    )


def route_from_path(msg: Path) -> Route:
    """Return the route that a path message describes; a path that ends at its start is a lap.

    Raises:
        ValueError: too few points, or a value that is not finite.
    """
    return route_from_points([(p.pose.position.x, p.pose.position.y) for p in msg.poses])


def geometry_from_info(msg: CarlaEgoVehicleInfo, default_wheelbase_m: float) -> VehicleGeometry:
    """Return wheelbase and largest wheel angle of a vehicle_info message.

    Raises:
        ValueError: no wheels, or no usable steering angle.
    """
    if not msg.wheels:
        raise ValueError('vehicle_info.wheels must not be empty')
    places = [(wheel.position.x, wheel.position.y) for wheel in msg.wheels]
    return geometry_from_wheels(places, msg.wheels[0].max_steer_angle, default_wheelbase_m)


def command_from_twist(msg: Twist) -> TwistCommand:
    """Return the two components that drive, and whether another one is not zero."""
    others = (msg.linear.y, msg.linear.z, msg.angular.x, msg.angular.y)
    return TwistCommand(msg.linear.x, msg.angular.z, any(value != 0.0 for value in others))


def twist_message(command: TwistCommand) -> Twist:
    """Return a command as a Twist."""
    msg = Twist()
    msg.linear.x = command.linear_x
    msg.angular.z = command.angular_z
    return msg


def stamped_twist_message(command: TwistCommand, stamp: Time, frame_id: str) -> TwistStamped:
    """Return a command as a TwistStamped that answers the frame ``stamp``."""
    msg = TwistStamped(twist=twist_message(command))
    msg.header.stamp = stamp
    msg.header.frame_id = frame_id
    return msg


def control_message(control: VehicleControl, stamp: Time) -> CarlaEgoVehicleControl:
    """Return a vehicle command as the bridge's message; the bridge ignores the header."""
    msg = CarlaEgoVehicleControl(
        throttle=control.throttle,
        steer=control.steer,
        brake=control.brake,
        hand_brake=control.hand_brake,
        reverse=control.reverse,
        gear=control.gear,
        manual_gear_shift=control.manual_gear_shift,
    )
    msg.header.stamp = stamp
    return msg


def control_from_message(msg: CarlaEgoVehicleControl) -> VehicleControl:
    """Return the vehicle command of a message, float32 fields as they are."""
    return VehicleControl(
        throttle=msg.throttle,
        steer=msg.steer,
        brake=msg.brake,
        hand_brake=msg.hand_brake,
        reverse=msg.reverse,
        gear=msg.gear,
        manual_gear_shift=msg.manual_gear_shift,
    )


def report_message(stamp: Time, name: str, facts: dict[str, Any]) -> DiagnosticArray:
    """Return what a node has to say of one frame: keys and JSON values, under its stamp."""
    values = [KeyValue(key=key, value=json.dumps(value)) for key, value in facts.items()]
    msg = DiagnosticArray(status=[DiagnosticStatus(name=name, values=values)])
    msg.header.stamp = stamp
    return msg


def facts_from_report(msg: DiagnosticArray) -> dict[str, Any]:
    """Return the keys and values of a frame report.

    Raises:
        ValueError: a value is not JSON.
    """
    return {pair.key: json.loads(pair.value) for status in msg.status for pair in status.values}

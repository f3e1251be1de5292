# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""ROS messages to plain values and back; every message field is checked here, once.

An invalid message raises a ValueError that names field, value and limit, before any allocation
that a number in the message asks for. Limits of physical things are defined with their types in
:mod:`td3_agent.driving`.
"""

from __future__ import annotations

import array
from contextlib import suppress
from dataclasses import fields
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import TwistCommand, VehicleControl
from td3_agent.driving.geometry import (
    NANOSECONDS_PER_SECOND,
    nanoseconds_from_stamp,
    quaternion_from_rpy,
    yaw_from_quaternion,
)
from td3_agent.driving.observation import ImageView
from td3_agent.driving.reports import ALL_FIELDS, checked_fields, field_text
from td3_agent.driving.route import route_from_points
from td3_agent.driving.vehicle import (
    MAX_COORDINATE_M,
    MAX_SPEED_MPS,
    MAX_YAW_RATE_RADPS,
    VehicleState,
    geometry_from_wheels,
)

with suppress(ImportError):  # without ROS 2 messages of a bag can be read, but not created
    from builtin_interfaces.msg import Time
    from carla_msgs.msg import (
        CarlaActorInfo,
        CarlaActorList,
        CarlaEgoVehicleControl,
        CarlaEgoVehicleInfo,
        CarlaEgoVehicleInfoWheel,
    )
    from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
    from geometry_msgs.msg import Point, PoseStamped, Quaternion, Twist, TwistStamped, Vector3
    from nav_msgs.msg import Odometry, Path
    from sensor_msgs.msg import CameraInfo, Image
    from std_msgs.msg import Header

if TYPE_CHECKING:
    from collections.abc import Iterable

    from carla_msgs.msg import CarlaLaneInvasionEvent
    from geometry_msgs.msg import Pose
    from numpy.typing import NDArray

    from td3_agent.driving.reports import Check
    from td3_agent.driving.route import Route
    from td3_agent.driving.vehicle import VehicleGeometry
    from td3_agent.nodes.sim_bridge_params import SimBridgeParams
    from td3_agent.sim.car import Car
    from td3_agent.sim.simulator import Simulator

MAX_PLACE_M = MAX_COORDINATE_M / 10.0  # room for driving on from there
MAP_FRAMES = ('map', 'carla_map')  # the second in newer forks of the bridge
OTHER_VEHICLE = 'vehicle.generic.car'  # none of CARLA's blueprints: a box
MAX_FRAME_ID_CHARACTERS = 255
MAX_PATH_POSES = 100_000  # a pose every metre for 100 km
MAX_WHEELS = 64
MAX_CROSSED_MARKINGS = 64


def stamp_ns(stamp: Time) -> int:
    """Return a message stamp as integer nanoseconds.

    Raises:
        ValueError: negative seconds, or nanoseconds beyond a second.
    """
    return nanoseconds_from_stamp(stamp.sec, stamp.nanosec)


def header_stamp_ns(header: Header) -> int:
    """Return the stamp of a sensor message's header [ns].

    Raises:
        ValueError: the stamp is invalid, or ``frame_id`` is empty or too long.
    """
    length = len(header.frame_id)
    if not 0 < length <= MAX_FRAME_ID_CHARACTERS:
        raise ValueError(
            f'header.frame_id must have 1 to {MAX_FRAME_ID_CHARACTERS} characters, got {length}'
        )
    return stamp_ns(header.stamp)


def time_from_ns(nanoseconds: int) -> Time:
    """Return integer nanoseconds as a message stamp."""
    sec, nanosec = divmod(nanoseconds, NANOSECONDS_PER_SECOND)
    return Time(sec=sec, nanosec=nanosec)


def state_from_odometry(msg: Odometry) -> VehicleState:
    """Return the motion of an odometry message.

    Of the angular velocity only ``angular.z`` has the same meaning in all versions of the bridge.

    Raises:
        ValueError: a field is not finite, out of range, or the orientation is zero.
    """
    position, q = msg.pose.pose.position, msg.pose.pose.orientation
    return VehicleState(
        stamp_ns=header_stamp_ns(msg.header),
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
        ImageError: encoding, size, step and data do not match.
    """
    return ImageView(
        data=msg.data, height=msg.height, width=msg.width, encoding=msg.encoding, step=msg.step
    )


def route_from_path(msg: Path) -> Route:
    """Return the route of a path message; a path that ends at its start is a lap.

    Raises:
        ValueError: too few or too many points, or a point out of range.
    """
    _check_length('poses', msg.poses, MAX_PATH_POSES)
    points = [(p.pose.position.x, p.pose.position.y) for p in msg.poses]
    for i, (x_m, y_m) in enumerate(points):
        if not (abs(x_m) <= MAX_COORDINATE_M and abs(y_m) <= MAX_COORDINATE_M):  # nor NaN
            raise ValueError(
                f'position of poses[{i}] must be finite and within +-{MAX_COORDINATE_M:g} [m], '
                f'got {(x_m, y_m)}'
            )
    return route_from_points(points)


def announced_route(msg: Path) -> Route | None:
    """Return the route of a path message; None for an empty one, which withdraws the route.

    ``carla_waypoint_publisher`` publishes one when its vehicle is gone, ``route_node`` in a new
    town.

    Raises:
        ValueError: as :func:`route_from_path` does.
    """
    return route_from_path(msg) if msg.poses else None


def path_from_points(
    points: Iterable[tuple[float, float, float]], headings_rad: Iterable[float], header: Header
) -> Path:
    """Return points [m] and headings [rad] as a path."""
    path = Path(header=header)
    for (x_m, y_m, z_m), heading_rad in zip(points, headings_rad, strict=True):
        pose = PoseStamped(header=header)
        pose.pose.position = Point(x=x_m, y=y_m, z=z_m)
        pose.pose.orientation = quaternion(heading_rad)
        path.poses.append(pose)
    return path


def goal_from_pose(msg: PoseStamped) -> tuple[float, float]:
    """Return x and y of a goal message, in the map frame [m]; its heading is ignored.

    Raises:
        ValueError: another frame than the map's, or a position out of range.
    """
    frame_id = msg.header.frame_id[: MAX_FRAME_ID_CHARACTERS + 1]
    if frame_id not in MAP_FRAMES:
        raise ValueError(f'header.frame_id must be {" or ".join(MAP_FRAMES)}, got {frame_id!r}')
    place = msg.pose.position.x, msg.pose.position.y
    if not all(abs(value) <= MAX_COORDINATE_M for value in place):  # written so that NaN fails
        raise ValueError(
            f'pose.position must be finite and within +-{MAX_COORDINATE_M:g} [m], got {place}'
        )
    return place


def _check_length(name: str, items: Any, most: int) -> None:  # noqa: ANN401  any sequence
    """Limit the length of a list.

    Raises:
        ValueError: naming the field, its length and the limit.
    """
    if len(items) > most:
        raise ValueError(f'{name} must have at most {most} elements, got {len(items)}')


def geometry_from_info(msg: CarlaEgoVehicleInfo, default_wheelbase_m: float) -> VehicleGeometry:
    """Return wheelbase and largest wheel angle of a vehicle_info message.

    Raises:
        ValueError: no wheels, or no usable steering angle.
    """
    if not msg.wheels:
        raise ValueError('vehicle_info.wheels must not be empty')
    _check_length('vehicle_info.wheels', msg.wheels, MAX_WHEELS)
    places = [(wheel.position.x, wheel.position.y) for wheel in msg.wheels]
    return geometry_from_wheels(places, msg.wheels[0].max_steer_angle, default_wheelbase_m)


def command_from_twist(msg: Twist) -> TwistCommand:
    """Return the two components in use, and whether another one is not zero."""
    others = (msg.linear.y, msg.linear.z, msg.angular.x, msg.angular.y)
    return TwistCommand(msg.linear.x, msg.angular.z, any(value != 0.0 for value in others))


def twist_message(command: TwistCommand) -> Twist:
    """Return a command as a Twist."""
    msg = Twist()
    msg.linear.x = command.linear_x
    msg.angular.z = command.angular_z
    return msg


def stamped_twist_message(command: TwistCommand, stamp: Time, frame_id: str) -> TwistStamped:
    """Return a command as the TwistStamped for the frame ``stamp``."""
    msg = TwistStamped(twist=twist_message(command))
    msg.header.stamp = stamp
    msg.header.frame_id = frame_id
    return msg


def place_from_pose(msg: Pose) -> tuple[float, float, float]:
    """Return x [m], y [m] and heading [rad] of a pose to teleport a vehicle to.

    Raises:
        ValueError: the position is out of range, or the orientation is zero.
    """
    x_m, y_m, q = msg.position.x, msg.position.y, msg.orientation
    if not (abs(x_m) <= MAX_PLACE_M and abs(y_m) <= MAX_PLACE_M):  # written for NaN too
        raise ValueError(f'position must be within +-{MAX_PLACE_M:g} [m], got {(x_m, y_m)}')
    return x_m, y_m, yaw_from_quaternion(q.x, q.y, q.z, q.w)


def velocity_from_twist(msg: Twist) -> tuple[float, float, float]:
    """Return the velocity x, y [m/s] and yaw rate [rad/s] to set on a vehicle.

    Raises:
        ValueError: faster than any vehicle.
    """
    velocity = (msg.linear.x, msg.linear.y, msg.angular.z)
    limits = (MAX_SPEED_MPS, MAX_SPEED_MPS, MAX_YAW_RATE_RADPS)
    for value, limit in zip(velocity, limits, strict=True):
        if not abs(value) <= limit:  # written so that NaN fails too
            raise ValueError(
                f'target velocity must be finite and within +-{MAX_SPEED_MPS:g} [m/s], '
                f'+-{MAX_YAW_RATE_RADPS:g} [rad/s], got {velocity}'
            )
    return velocity


def control_message(control: VehicleControl, stamp: Time) -> CarlaEgoVehicleControl:
    """Return a vehicle command as the bridge's message; the bridge ignores the header."""
    msg = CarlaEgoVehicleControl(**vars(control))
    msg.header.stamp = stamp
    return msg


def control_from_message(msg: CarlaEgoVehicleControl) -> VehicleControl:
    """Return the vehicle command of a message with its float32 values."""
    return VehicleControl(
        **{spec.name: getattr(msg, spec.name) for spec in fields(VehicleControl)}
    )


def checked_control(msg: CarlaEgoVehicleControl) -> VehicleControl:
    """Return the vehicle command of a message.

    Raises:
        ValueError: throttle, steer or brake is not finite.
    """
    control = control_from_message(msg)
    if not control.is_finite:
        raise ValueError(f'throttle, steer and brake must be finite, got {control}')
    return control


def crossed_markings(msg: CarlaLaneInvasionEvent) -> list[int]:
    """Return the types of the crossed lane markings.

    Raises:
        ValueError: more than any road has.
    """
    _check_length('crossed_lane_markings', msg.crossed_lane_markings, MAX_CROSSED_MARKINGS)
    return list(msg.crossed_lane_markings)


def report_message(stamp: Time, name: str, record: dict[str, Any]) -> DiagnosticArray:
    """Return a frame report: names and plain values with the frame's stamp."""
    values = [KeyValue(key=key, value=field_text(value)) for key, value in record.items()]
    msg = DiagnosticArray(status=[DiagnosticStatus(name=name, values=values)])
    msg.header.stamp = stamp
    return msg


def fields_from_report(
    msg: DiagnosticArray, known: dict[str, Check] = ALL_FIELDS
) -> dict[str, Any]:
    """Return the keys and values of a frame report.

    Raises:
        ValueError: a key that is not ``known``, or an invalid value.
    """
    return checked_fields(
        ((pair.key, pair.value) for status in msg.status for pair in status.values), known
    )


# ---- Messages of the embedded bridge ------------------------------------------------------------


def image_message(pixels: NDArray[np.uint8], header: Header) -> Image:
    """Return pixels (H, W, 4), blue, green, red and alpha, as the bridge's image."""
    data = array.array('B')  # anything else is checked element by element
    data.frombytes(pixels.data)
    height, width, channels = pixels.shape
    return Image(
        header=header,
        height=height,
        width=width,
        encoding='bgra8',
        is_bigendian=0,
        step=width * channels,
        data=data,
    )


def odometry_message(car: Car, stamp: Time, role_name: str) -> Odometry:
    """Return the motion of a car; velocities in the vehicle frame, covariances all zero."""
    state, lateral_mps, _ = car.as_carla_has_it()
    header = Header(stamp=stamp, frame_id=MAP_FRAMES[0])
    msg = Odometry(header=header, child_frame_id=role_name)
    msg.pose.pose.position = Point(x=state.x_m, y=state.y_m, z=state.z_m)
    msg.pose.pose.orientation = quaternion(state.yaw_rad)
    msg.twist.twist.linear.x = state.speed_mps
    msg.twist.twist.linear.y = lateral_mps
    msg.twist.twist.angular.z = state.yaw_rate_radps
    return msg


def actor_list_message(simulator: Simulator, role_names: tuple[str, ...]) -> CarlaActorList:
    """Return all vehicles: driven, parked and traffic.

    CARLA also lists sensors, traffic lights and signs.
    """
    driven = [
        CarlaActorInfo(id=car.actor_id, type=car.vehicle_info.type, rolename=role)
        for car, role in zip(simulator.cars, role_names, strict=True)
    ]
    parked = [
        CarlaActorInfo(id=box.actor_id, type=OTHER_VEHICLE, rolename='parked')
        for box in simulator.parked
    ]
    traffic = [
        CarlaActorInfo(id=actor_id, type=OTHER_VEHICLE, rolename='autopilot')
        for actor_id in (simulator.traffic.actor_ids if simulator.traffic is not None else ())
    ]
    return CarlaActorList(actors=driven + parked + traffic)


def vector(xyz: tuple[float, float, float]) -> Vector3:
    """Return x, y and z as a Vector3."""
    return Vector3(x=xyz[0], y=xyz[1], z=xyz[2])


def quaternion(yaw_rad: float) -> Quaternion:
    """Return a heading on flat ground [rad] as a quaternion."""
    x, y, z, w = quaternion_from_rpy(0.0, 0.0, yaw_rad)
    return Quaternion(x=x, y=y, z=z, w=w)


def camera_info_message(params: SimBridgeParams) -> CameraInfo:
    """Return the intrinsics of the camera: no distortion, square pixels."""
    width, height = params.camera_width, params.camera_height
    focal_px = width / (2.0 * math.tan(math.radians(params.camera_fov_deg) / 2.0))
    cx, cy = width / 2.0, height / 2.0
    return CameraInfo(
        height=height,
        width=width,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[focal_px, 0.0, cx, 0.0, focal_px, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[focal_px, 0.0, cx, 0.0, 0.0, focal_px, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def vehicle_info_message(car: Car, role_name: str) -> CarlaEgoVehicleInfo:
    """Return the vehicle's physics; wheel angles in radians."""
    info = car.vehicle_info
    common = vars(info).keys() & CarlaEgoVehicleInfo.get_fields_and_field_types().keys()
    plain = {name: getattr(info, name) for name in common - {'wheels', 'center_of_mass'}}
    msg = CarlaEgoVehicleInfo(id=car.actor_id, rolename=role_name, **plain)
    msg.center_of_mass = vector(info.center_of_mass)
    for wheel in info.wheels:
        place = vector(np.float32(wheel.position).tolist())
        msg.wheels.append(CarlaEgoVehicleInfoWheel(**vars(wheel) | {'position': place}))
    return msg

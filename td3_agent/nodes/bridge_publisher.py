# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Publishes one frame of the embedded world as the CARLA ROS bridge would.

Order on the wire: status, clock, world_info (once), actor_list (if enabled), then
vehicle by vehicle: vehicle_status, vehicle_info (once), the sensors in the order of
``config/objects.json``. Odometry is last: after it the frame of its vehicle is complete.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from builtin_interfaces.msg import Time
from carla_msgs.msg import (
    CarlaActorList,
    CarlaCollisionEvent,
    CarlaEgoVehicleInfo,
    CarlaEgoVehicleStatus,
    CarlaLaneInvasionEvent,
    CarlaStatus,
    CarlaWorldInfo,
)
from nav_msgs.msg import Odometry, Path
import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, Image
from std_msgs.msg import Float32, Header

from td3_agent.driving.geometry import stamp_from_seconds
from td3_agent.nodes import conversions, topics
from td3_agent.nodes.conversions import MAP_FRAMES
from td3_agent.nodes.runtime import LATCHED, RELIABLE
from td3_agent.sim.route_planner import headings

if TYPE_CHECKING:
    from rclpy.node import Node
    from rclpy.publisher import Publisher
    from rclpy.qos import QoSProfile

    from td3_agent.nodes.sim_bridge_params import SimBridgeParams
    from td3_agent.sim.car import Car
    from td3_agent.sim.simulator import Simulator


class BridgePublisher:
    """All publishers of the embedded bridge."""

    def __init__(self, node: Node, params: SimBridgeParams, simulator: Simulator) -> None:
        """Create the publishers, and publish the latched paths."""
        self._simulator = simulator
        self._step_s = params.fixed_delta_seconds
        self.is_running = True
        self._info_is_out = False
        self._status = node.create_publisher(CarlaStatus, topics.STATUS, RELIABLE)
        self._clock = node.create_publisher(Clock, '/clock', RELIABLE)
        self._world_info = node.create_publisher(CarlaWorldInfo, topics.WORLD_INFO, LATCHED)
        self._actors = None
        if params.actor_list:
            self._actors = node.create_publisher(CarlaActorList, topics.ACTOR_LIST, RELIABLE)
        self._role_names = params.role_names
        self._node, self._params = node, params
        self.vehicles: list[VehiclePublisher] = []
        if params.spawned:
            self.spawn()

    def spawn(self) -> None:
        """Create the publishers of all vehicles, unless they exist."""
        if not self.vehicles:
            self.vehicles = [
                VehiclePublisher(self._node, self._params, self._simulator, car, role)
                for car, role in zip(self._simulator.cars, self._role_names, strict=True)
            ]

    def destroy(self) -> None:
        for vehicle in self.vehicles:
            vehicle.destroy()
        self.vehicles = []

    @property
    def spawned_roles(self) -> tuple[str, ...]:
        """Role names of the spawned vehicles."""
        return self._role_names if self.vehicles else ()

    def publish_status(self) -> None:
        """Publish frame number and running flag; this message has no header."""
        self._status.publish(
            CarlaStatus(
                frame=self._simulator.frame,
                fixed_delta_seconds=self._step_s,
                synchronous_mode=True,
                synchronous_mode_running=self.is_running,
            )
        )

    def publish_running(self, running: bool) -> None:  # noqa: FBT001  a callback's argument
        """Publish the status if the running flag changes."""
        if running != self.is_running:
            self.is_running = running
            self.publish_status()

    def publish_frame(self) -> None:
        """Publish everything of the world's newest frame, in the bridge's order."""
        sec, nanosec = stamp_from_seconds(self._simulator.elapsed_s)
        stamp = Time(sec=sec, nanosec=nanosec)
        self.publish_status()
        self._clock.publish(Clock(clock=stamp))
        if not self._info_is_out:
            town = self._simulator.map
            info = CarlaWorldInfo(map_name=town.name, opendrive=town.opendrive)
            self._world_info.publish(info)
            self._info_is_out = True
        if self._actors is not None:
            self._actors.publish(conversions.actor_list_message(self._simulator, self._role_names))
        for vehicle in self.vehicles:
            vehicle.publish_frame(stamp)


class VehiclePublisher:
    """All publishers of one vehicle."""

    def __init__(
        self, node: Node, params: SimBridgeParams, simulator: Simulator, car: Car, role: str
    ) -> None:
        """Create the publishers, and publish the latched path of ``car``'s route."""
        self._simulator, self._car, self._role = simulator, car, role
        self._camera_period_frames = params.camera_period_frames
        self._camera_frame_id = f'{role}/{params.camera_id}'
        self._camera_info_msg = conversions.camera_info_message(params)
        self._info_is_out = False
        self._node = node
        self._publishers: list[Publisher] = []

        def publish(kind: type, topic: str, qos: QoSProfile) -> Publisher:
            self._publishers.append(node.create_publisher(kind, topic, qos))
            return self._publishers[-1]

        self._status = publish(CarlaEgoVehicleStatus, topics.vehicle_status(role), RELIABLE)
        self._info = publish(CarlaEgoVehicleInfo, topics.vehicle_info(role), LATCHED)
        camera_id = params.camera_id
        self._camera_info = publish(CameraInfo, topics.camera_info(role, camera_id), RELIABLE)
        self._image = publish(Image, topics.image(role, camera_id), RELIABLE)
        self._speedometer = publish(Float32, topics.of(role, 'speedometer'), RELIABLE)
        self._collision = publish(CarlaCollisionEvent, topics.collision(role), RELIABLE)
        self._invasion = publish(CarlaLaneInvasionEvent, topics.lane_invasion(role), RELIABLE)
        self._odometry = publish(Odometry, topics.odometry(role), RELIABLE)
        if params.waypoints:
            publish(Path, topics.waypoints(role), LATCHED).publish(path_message(car))

    def destroy(self) -> None:
        for publisher in self._publishers:
            self._node.destroy_publisher(publisher)

    def publish_frame(self, stamp: Time) -> None:
        """Publish everything of the vehicle in the world's newest frame."""
        self._publish_status(stamp)
        self._publish_camera(stamp)
        self._speedometer.publish(Float32(data=self._car.state.speed_mps))
        self._publish_events(stamp)
        self._odometry.publish(conversions.odometry_message(self._car, stamp, self._role))

    def _publish_status(self, stamp: Time) -> None:
        """Publish the status; its echo of the command is the only proof of execution."""
        car = self._car
        state, _, velocity = car.as_carla_has_it()
        msg = CarlaEgoVehicleStatus(
            header=Header(stamp=stamp, frame_id=MAP_FRAMES[0]),
            velocity=math.hypot(*velocity),
            orientation=conversions.quaternion(state.yaw_rad),
            control=conversions.control_message(car.control, Time()),
        )
        msg.acceleration.linear = conversions.vector(car.acceleration)
        self._status.publish(msg)
        if not self._info_is_out:
            self._info.publish(conversions.vehicle_info_message(car, self._role))
            self._info_is_out = True

    def _publish_camera(self, stamp: Time) -> None:
        if self._simulator.frame % self._camera_period_frames:
            return
        header = Header(stamp=stamp, frame_id=self._camera_frame_id)
        self._camera_info_msg.header = header
        self._camera_info.publish(self._camera_info_msg)
        self._image.publish(conversions.image_message(self._simulator.render(self._car), header))

    def _publish_events(self, stamp: Time) -> None:
        for collision in self._car.collisions:
            self._collision.publish(
                CarlaCollisionEvent(
                    header=Header(stamp=stamp, frame_id=f'{self._role}/collision'),
                    other_actor_id=collision.other_actor_id,
                    normal_impulse=conversions.vector(collision.normal_impulse),
                )
            )
        if self._car.crossed_markings:
            self._invasion.publish(
                CarlaLaneInvasionEvent(
                    header=Header(stamp=stamp, frame_id=f'{self._role}/lane_invasion'),
                    crossed_lane_markings=self._car.crossed_markings,
                )
            )


def path_message(car: Car) -> Path:
    """Return the route as a path in the map frame, points about 1 m apart; a lap is closed."""
    points = car.route_points
    if car.route.closed:
        points = np.vstack((points, points[:1]))
    header = Header(frame_id=MAP_FRAMES[0])
    return conversions.path_from_points(points.tolist(), headings(points).tolist(), header)

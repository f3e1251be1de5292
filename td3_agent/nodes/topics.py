# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Topic names of the CARLA ROS bridge and of this package, for a role name."""

from __future__ import annotations

ACTOR_LIST = '/carla/actor_list'
CONTROL = '/carla/control'
STATUS = '/carla/status'
WORLD_INFO = '/carla/world_info'


def of(role_name: str, name: str) -> str:
    """Return ``/carla/<role_name>/<name>``."""
    return f'/carla/{role_name}/{name}'


def odometry(role_name: str) -> str:
    """nav_msgs/Odometry, from the bridge."""
    return of(role_name, 'odometry')


def image(role_name: str, camera_id: str) -> str:
    """sensor_msgs/Image, from the bridge."""
    return of(role_name, f'{camera_id}/image')


def beside(topic: str, name: str) -> str:
    """Return the topic ``name`` in the namespace of another one."""
    return f'{topic.rpartition("/")[0]}/{name}'


def camera_info(role_name: str, camera_id: str) -> str:
    """sensor_msgs/CameraInfo, from the bridge."""
    return of(role_name, f'{camera_id}/camera_info')


def vehicle_info(role_name: str) -> str:
    """carla_msgs/CarlaEgoVehicleInfo, latched, from the bridge."""
    return of(role_name, 'vehicle_info')


def vehicle_status(role_name: str) -> str:
    """carla_msgs/CarlaEgoVehicleStatus, from the bridge."""
    return of(role_name, 'vehicle_status')


def waypoints(role_name: str) -> str:
    """nav_msgs/Path, latched, from route_node or carla_waypoint_publisher."""
    return of(role_name, 'waypoints')


def goal(role_name: str) -> str:
    """geometry_msgs/PoseStamped, goal of the vehicle, for example from RViz."""
    return of(role_name, 'goal')


def collision(role_name: str) -> str:
    """carla_msgs/CarlaCollisionEvent, from the bridge."""
    return of(role_name, 'collision')


def lane_invasion(role_name: str) -> str:
    """carla_msgs/CarlaLaneInvasionEvent, from the bridge."""
    return of(role_name, 'lane_invasion')


def control(role_name: str) -> str:
    """carla_msgs/CarlaEgoVehicleControl, from the gate to the bridge."""
    return of(role_name, 'vehicle_control_cmd')


def twist(role_name: str) -> str:
    """geometry_msgs/Twist, from the agent."""
    return of(role_name, 'twist')


def twist_stamped(role_name: str) -> str:
    """geometry_msgs/TwistStamped with the observation's stamp, from the agent to the gate."""
    return of(role_name, 'twist_stamped')


def agent_report(role_name: str) -> str:
    """diagnostic_msgs/DiagnosticArray, one per frame, from the agent to the ledger."""
    return of(role_name, 'agent/frame_report')


def alive(report_topic: str) -> str:
    """diagnostic_msgs/DiagnosticArray, never published; carries the reporter's liveliness."""
    return f'{report_topic}/alive'


def agent_waits(role_name: str) -> str:
    """diagnostic_msgs/DiagnosticArray, latched: what an agent that is not ready waits for."""
    return of(role_name, 'agent/waits')


def idle(role_name: str) -> str:
    """std_msgs/Bool, latched, from the synchronizer to the gate: whether ticks are idle."""
    return of(role_name, 'gate/idle')


def step_ended(role_name: str) -> str:
    """std_msgs/Header with a frame's stamp, from the synchronizer to a gate without a report."""
    return of(role_name, 'gate/step_ended')


def gate_report(role_name: str) -> str:
    """diagnostic_msgs/DiagnosticArray, one per frame, from the gate to the ledger."""
    return of(role_name, 'gate/frame_report')

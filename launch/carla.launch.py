# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Agent, gate, synchronizer and, for drivers that need it, route_node; for CARLA's ROS bridge.

Start the bridge with ``synchronous_mode:=True`` and
``synchronous_mode_wait_for_vehicle_control_command:=True``, and the vehicle with
``config/objects.json`` of this package.
"""

from collections.abc import Iterator

from launch import LaunchDescription
from launch.action import Action

from td3_agent.fastdds import CAMERA_PROFILE
from td3_agent.launch_settings import BOOLEANS
from td3_agent.launching import (
    ASIDE,
    COMPOSED,
    DRIVER,
    INPUTS,
    PARAMS_FILE,
    ROLE_NAME,
    Argument,
    Processes,
    choices_of,
    launched,
)
from td3_agent.nodes.route_node import reject_without_carla

CAMERA = {
    'camera_id': Argument('camera', 'id of the camera in the objects file'),
    'camera_reliability': Argument(
        'reliable',
        'best_effort for forks that publish best effort',
        choices_of('camera_reliability'),
    ),
}
ARGUMENTS = {
    'role_name': ROLE_NAME,
    **CAMERA,
    **DRIVER,
    'real_time_factor': Argument('1.0', 'simulated time per wall time; 0 is as fast as possible'),
    'deadline_s': Argument('0.4', 'full brake after this time without a command [s]; <= 0.9'),
    'max_frames': Argument('0', 'frames to drive, then end; 0 is without end'),
    'ledger_path': Argument('', 'file of the ledger; empty: none'),
    **INPUTS,
    'control_topic': Argument(
        '', 'command topic of the bridge; empty: /carla/<role_name>/vehicle_control_cmd'
    ),
    'route': Argument('true', 'start route_node if the driver needs a route', tuple(BOOLEANS)),
    'goal': Argument('random', "of route_node: random, topic, 'x, y' [m], or 'spawn N'"),
    **COMPOSED,
    **PARAMS_FILE,
    **ASIDE,
}


def start(processes: Processes) -> Iterator[Action]:
    """Make the three or four nodes."""
    agent = processes.node('td3_agent_node', ('role_name', *CAMERA, *DRIVER, *INPUTS))
    control = processes.control_remapping()
    gate = ('role_name', 'twist_convention', 'odometry_topic', 'deadline_s')
    gate = processes.node('gate_node', gate, remappings=control)
    ends = 'the drive is over'
    synchronizer = processes.node(
        'synchronizer_node',
        ('odometry_topic', 'max_frames', 'real_time_factor', 'ledger_path'),
        remappings=control,
        ends=ends,
    )
    yield from processes.composed([gate, agent, synchronizer], control, ends)
    if processes.is_on('route', 'true') and processes.follows_route():
        reject_without_carla()
        yield processes.node('route_node', ('role_name', 'odometry_topic', 'goal'))
    yield from processes.recorder_and_watcher()


def generate_launch_description() -> LaunchDescription:
    """Describe the processes and what ends them."""
    return launched(ARGUMENTS, CAMERA_PROFILE, start)

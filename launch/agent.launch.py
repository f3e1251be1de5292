# SPDX-License-Identifier: Apache-2.0
"""Agent and gate alone: for a played bag, a robot, or a bridge that somebody else steps."""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory('td3_agent')) / 'config'

ARGUMENTS = {
    'role_name': ('ego_vehicle', 'role name of the vehicle'),
    'camera_id': ('camera', 'id of the camera'),
    'camera_reliability': ('best_effort', 'reliable or best_effort, as the camera publishes'),
    'mode': ('free_running', 'free_running, or lockstep where somebody steps the simulator'),
    'driver': ('td3', 'who drives: td3 or pure_pursuit'),
    'policy_path': ('', 'checkpoint folder of the td3 driver; empty: untrained'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
    'image_topic': ('', 'image topic; empty: /carla/<role_name>/<camera_id>/image'),
    'odometry_topic': ('', 'odometry topic; empty: /carla/<role_name>/odometry'),
}


def text(name: str) -> ParameterValue:
    """Return the argument as a string, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def node(executable: str, *arguments: str) -> Node:
    """Make a node of this package with its own parameter file and these launch arguments."""
    return Node(
        package='td3_agent',
        executable=executable,
        output='screen',
        parameters=[
            str(CONFIG / f'{executable}.yaml'),
            {name: text(name) for name in arguments},
        ],
    )


def generate_launch_description() -> LaunchDescription:
    """Describe the two processes and what ends them."""
    agent = node('td3_agent_node', *ARGUMENTS)
    gate = node('twist_to_control_node', 'role_name', 'mode', 'twist_convention', 'odometry_topic')
    # Without the gate nobody could stop the car, so the agent does not go on alone.
    end = OnProcessExit(target_action=gate, on_exit=[Shutdown(reason='the gate ended')])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=value, description=words)
                for name, (value, words) in ARGUMENTS.items()
            ),
            RegisterEventHandler(end),
            agent,
            gate,
        ]
    )

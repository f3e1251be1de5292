# SPDX-License-Identifier: Apache-2.0
"""Agent, gate and synchronizer for a CARLA server with its ROS bridge.

Start the bridge with ``synchronous_mode:=True`` and
``synchronous_mode_wait_for_vehicle_control_command:=True``, and the vehicle with
``config/objects.json`` of this package.
"""

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
    'camera_id': ('camera', 'id of the camera in the objects file'),
    'camera_reliability': ('reliable', 'reliable, or best_effort for forks that publish so'),
    'driver': ('td3', 'who drives: td3 or pure_pursuit'),
    'policy_path': ('', 'checkpoint folder of the td3 driver; empty: untrained'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
    'real_time_factor': ('1.0', 'simulated time per wall time; 0 is as fast as possible'),
    'max_frames': ('0', 'frames to drive, then end; 0 is without end'),
    'ledger_path': ('', 'file of the ledger; empty: none'),
    'image_topic': ('', 'image topic; empty: /carla/<role_name>/<camera_id>/image'),
    'odometry_topic': ('', 'odometry topic; empty: /carla/<role_name>/odometry'),
    'control_topic': (
        ['/carla/', LaunchConfiguration('role_name'), '/vehicle_control_cmd'],
        'topic on which the bridge takes commands',
    ),
}


def text(name: str) -> ParameterValue:
    """Return the argument as a string, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def number(name: str, kind: type) -> ParameterValue:
    """Return the argument as an int or a float."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def only(name: LaunchConfiguration) -> ParameterValue:
    """Return a list of one string; a plain list of substitutions would be joined to a string."""
    return ParameterValue(["['", name, "']"], value_type=list[str])


def node(executable: str, **overrides: object) -> Node:
    """Make a node of this package with its own parameter file."""
    commands = ['/carla/', LaunchConfiguration('role_name'), '/vehicle_control_cmd']
    return Node(
        package='td3_agent',
        executable=executable,
        output='screen',
        parameters=[str(CONFIG / f'{executable}.yaml'), overrides],
        remappings=[(commands, LaunchConfiguration('control_topic'))],
    )


def generate_launch_description() -> LaunchDescription:
    """Describe the three processes and what ends them."""
    role_name, convention = text('role_name'), text('twist_convention')
    agent = node(
        'td3_agent_node',
        role_name=role_name,
        camera_id=text('camera_id'),
        camera_reliability=text('camera_reliability'),
        driver=text('driver'),
        policy_path=text('policy_path'),
        twist_convention=convention,
        image_topic=text('image_topic'),
        odometry_topic=text('odometry_topic'),
    )
    gate = node(
        'twist_to_control_node',
        role_name=role_name,
        twist_convention=convention,
        odometry_topic=text('odometry_topic'),
    )
    synchronizer = node(
        'synchronizer_node',
        role_names=only(LaunchConfiguration('role_name')),
        max_frames=number('max_frames', int),
        real_time_factor=number('real_time_factor', float),
        ledger_path=text('ledger_path'),
    )
    # Without the gate nobody could stop the car, so the agent does not go on alone.
    ends = [
        OnProcessExit(target_action=gate, on_exit=[Shutdown(reason='the gate ended')]),
        OnProcessExit(target_action=synchronizer, on_exit=[Shutdown(reason='the drive is over')]),
    ]
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=value, description=words)
                for name, (value, words) in ARGUMENTS.items()
            ),
            *(RegisterEventHandler(end) for end in ends),
            agent,
            gate,
            synchronizer,
        ]
    )

# SPDX-License-Identifier: Apache-2.0
"""The whole loop without CARLA: embedded bridge, agent, gate and synchronizer.

Ends when the synchronizer does: after ``duration`` seconds of simulated time (0: never).
"""

from pathlib import Path

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, RegisterEventHandler, Shutdown
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

CONFIG = Path(get_package_share_directory('td3_agent')) / 'config'
FRAME_S = 0.05  # simulated time of one frame

ARGUMENTS = {
    'role_name': ('ego_vehicle', 'role name of the vehicle'),
    'driver': ('pure_pursuit', 'who drives: td3 or pure_pursuit'),
    'policy_path': ('', 'checkpoint folder of the td3 driver; empty: untrained'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
    'map': ('winding', 'built-in map, or path of an OpenDRIVE file'),
    'seed': ('0', 'seed of the simulated world'),
    'duration': ('60.0', 'simulated time to drive [s]; 0 is without end'),
    'real_time_factor': ('1.0', 'simulated time per wall time; 0 is as fast as possible'),
    'out': ('.', 'folder of the ledger'),
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
    return Node(
        package='td3_agent',
        executable=executable,
        output='screen',
        parameters=[str(CONFIG / f'{executable}.yaml'), overrides],
    )


def frames_to_drive() -> ParameterValue:
    """Convert the duration to frames."""
    frames = PythonExpression(['round(', LaunchConfiguration('duration'), f' / {FRAME_S})'])
    return ParameterValue(frames, value_type=int)


def generate_launch_description() -> LaunchDescription:
    """Describe the four processes and what ends them."""
    role_name, convention = text('role_name'), text('twist_convention')
    bridge = node(
        'sim_bridge_node',
        role_name=role_name,
        map=text('map'),
        seed=number('seed', int),
        spawn_index=0,
        start_paused=True,  # so that the first frame is the synchronizer's
    )
    agent = node(
        'td3_agent_node',
        role_name=role_name,
        driver=text('driver'),
        policy_path=text('policy_path'),
        twist_convention=convention,
    )
    gate = node('twist_to_control_node', role_name=role_name, twist_convention=convention)
    synchronizer = node(
        'synchronizer_node',
        role_names=only(LaunchConfiguration('role_name')),
        max_frames=frames_to_drive(),
        real_time_factor=number('real_time_factor', float),
        ledger_path=PathJoinSubstitution([LaunchConfiguration('out'), 'ledger.jsonl']),
    )
    end = OnProcessExit(target_action=synchronizer, on_exit=[Shutdown(reason='the drive is over')])
    return LaunchDescription(
        [
            *(
                DeclareLaunchArgument(name, default_value=value, description=words)
                for name, (value, words) in ARGUMENTS.items()
            ),
            RegisterEventHandler(end),
            bridge,
            agent,
            gate,
            synchronizer,
        ]
    )

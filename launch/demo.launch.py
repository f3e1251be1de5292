# SPDX-License-Identifier: Apache-2.0
"""The whole loop without CARLA: embedded bridge, agent, gate and synchronizer.

Ends when the synchronizer does: after ``duration`` seconds of simulated time (0: never).
"""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution, PythonExpression
from launch_ros.parameter_descriptions import ParameterValue

from td3_agent.fastdds import LOOPBACK_PROFILE
from td3_agent.launching import (
    ASIDE,
    POLICY,
    declared,
    end_all_after,
    fast_dds,
    node,
    number,
    only,
    recorder,
    text,
    watcher,
)

FRAME_S = 0.05  # simulated time of one frame

ARGUMENTS = {
    'role_name': ('ego_vehicle', 'role name of the vehicle'),
    'driver': ('td3', 'who drives: td3 or pure_pursuit'),
    'policy': POLICY,
    'inference': ('torch', 'of the td3 driver: torch, or onnx for an exported policy'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
    'map': ('winding', 'built-in map, or path of an OpenDRIVE file'),
    'seed': ('0', 'seed of the simulated world'),
    'duration': ('60.0', 'simulated time to drive [s]; 0 is without end'),
    'real_time_factor': ('1.0', 'simulated time per wall time; 0 is as fast as possible'),
    'out': ('.', 'folder of the ledger'),
}


def frames_to_drive() -> ParameterValue:
    """Convert the duration to frames."""
    frames = PythonExpression(['round(', LaunchConfiguration('duration'), f' / {FRAME_S})'])
    return ParameterValue(frames, value_type=int)


def generate_launch_description() -> LaunchDescription:
    """Describe the four processes and what ends them."""
    role, convention = {'role_name': text('role_name')}, text('twist_convention')
    bridge = node(
        'sim_bridge_node',
        {
            'role_names': only('role_name'),
            'map': text('map'),
            'seed': number('seed', int),
            'spawn_index': 0,
            'start_paused': True,  # so that the first frame is the synchronizer's
        },
    )
    agent = node(
        'td3_agent_node',
        role
        | {
            'driver': text('driver'),
            'policy': text('policy'),
            'inference': text('inference'),
            'twist_convention': convention,
        },
    )
    gate = node('twist_to_control_node', role | {'twist_convention': convention})
    synchronizer = node(
        'synchronizer_node',
        {
            'role_names': only('role_name'),
            'max_frames': frames_to_drive(),
            'real_time_factor': number('real_time_factor', float),
            'ledger_path': PathJoinSubstitution([LaunchConfiguration('out'), 'ledger.jsonl']),
        },
    )
    end = end_all_after(synchronizer, 'the drive is over')
    profile = fast_dds(LOOPBACK_PROFILE)
    nodes = (recorder(), watcher(), bridge, agent, gate, synchronizer)
    return LaunchDescription([*declared(ARGUMENTS | ASIDE), *profile, end, *nodes])

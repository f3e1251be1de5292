# SPDX-License-Identifier: Apache-2.0
"""Agent, gate and synchronizer for a CARLA server with its ROS bridge.

Start the bridge with ``synchronous_mode:=True`` and
``synchronous_mode_wait_for_vehicle_control_command:=True``, and the vehicle with
``config/objects.json`` of this package.
"""

from launch import LaunchDescription
from launch.substitutions import LaunchConfiguration

from td3_agent.fastdds import CAMERA_PROFILE
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

COMMAND_TOPIC = ['/carla/', LaunchConfiguration('role_name'), '/vehicle_control_cmd']
ARGUMENTS = {
    'role_name': ('ego_vehicle', 'role name of the vehicle'),
    'camera_id': ('camera', 'id of the camera in the objects file'),
    'camera_reliability': ('reliable', 'reliable, or best_effort for forks that publish so'),
    'driver': ('td3', 'who drives: td3 or pure_pursuit'),
    'policy': POLICY,
    'inference': ('torch', 'of the td3 driver: torch, or onnx for an exported policy'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
    'real_time_factor': ('1.0', 'simulated time per wall time; 0 is as fast as possible'),
    'max_frames': ('0', 'frames to drive, then end; 0 is without end'),
    'ledger_path': ('', 'file of the ledger; empty: none'),
    'image_topic': ('', 'image topic; empty: /carla/<role_name>/<camera_id>/image'),
    'odometry_topic': ('', 'odometry topic; empty: /carla/<role_name>/odometry'),
    'control_topic': (COMMAND_TOPIC, 'topic on which the bridge takes commands'),
}
OF_THE_AGENT = (
    'role_name',
    'camera_id',
    'camera_reliability',
    'driver',
    'policy',
    'inference',
    'twist_convention',
    'image_topic',
    'odometry_topic',
)
OF_THE_GATE = ('role_name', 'twist_convention', 'odometry_topic')


def generate_launch_description() -> LaunchDescription:
    """Describe the three processes and what ends them."""
    control = [(COMMAND_TOPIC, LaunchConfiguration('control_topic'))]
    agent = node('td3_agent_node', {name: text(name) for name in OF_THE_AGENT})
    gate = node('twist_to_control_node', {name: text(name) for name in OF_THE_GATE}, control)
    synchronizer = node(
        'synchronizer_node',
        {
            'role_names': only('role_name'),
            'odometry_topic': text('odometry_topic'),
            'max_frames': number('max_frames', int),
            'real_time_factor': number('real_time_factor', float),
            'ledger_path': text('ledger_path'),
        },
        control,
    )
    ends = [
        # Without the gate nobody could stop the car, so the agent does not go on alone.
        end_all_after(gate, 'the gate ended'),
        end_all_after(synchronizer, 'the drive is over'),
    ]
    profile = fast_dds(CAMERA_PROFILE)
    nodes = (recorder(), watcher(), agent, gate, synchronizer)
    return LaunchDescription([*declared(ARGUMENTS | ASIDE), *profile, *ends, *nodes])

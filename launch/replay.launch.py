# SPDX-License-Identifier: Apache-2.0
"""A bag and the agent alone: no bridge, no gate. Ends with the bag, unless it is looped."""

from launch import LaunchDescription
from launch.actions import ExecuteProcess
from launch.substitutions import LaunchConfiguration, PythonExpression

from td3_agent.fastdds import CAMERA_PROFILE
from td3_agent.launching import POLICY, declared, end_all_after, fast_dds, node, text, verb

ARGUMENTS = {
    'bag': (None, 'the bag: its folder, or an .mcap or .db3 file'),
    'rate': ('1.0', 'recorded time per wall time'),
    'loop': ('false', 'whether to begin anew at the end'),
    'start_offset': ('0.0', 'begin this long after the start [s]'),
    'out': ('replay', 'folder for the results'),
    'role_name': ('ego_vehicle', 'role name of the vehicle'),
    'camera_id': ('camera', 'id of the camera'),
    'driver': ('td3', 'who drives: td3 or pure_pursuit'),
    'policy': POLICY,
    'inference': ('torch', 'of the td3 driver: torch, or onnx for an exported policy'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
}
OF_THE_AGENT = ('role_name', 'camera_id', 'driver', 'policy', 'inference', 'twist_convention')
OPTIONS = {
    '--rate': 'rate',
    '--start-offset': 'start_offset',
    '--out': 'out',
    '--role-name': 'role_name',
}


def generate_launch_description() -> LaunchDescription:
    """Describe agent and player, and what ends them."""
    # Every frame is answered as it comes, so that the same stamp has the same action.
    mode = {'mode': 'lockstep', 'camera_reliability': 'reliable'}
    agent = node('td3_agent_node', mode | {name: text(name) for name in OF_THE_AGENT})
    options = {key: LaunchConfiguration(name) for key, name in OPTIONS.items()}
    wanted = ["'", LaunchConfiguration('loop'), "'.lower() == 'true'"]
    loop = PythonExpression(["'--loop' if ", *wanted, " else '--no-loop'"])
    command = [*verb('replay', options), '--live', loop, LaunchConfiguration('bag')]
    player = ExecuteProcess(cmd=command, output='screen')
    end = end_all_after(player, 'the bag is over')
    return LaunchDescription([*declared(ARGUMENTS), *fast_dds(CAMERA_PROFILE), end, agent, player])

# SPDX-License-Identifier: Apache-2.0
"""Agent and gate alone: for a played bag, a robot, or a bridge that somebody else steps."""

from launch import LaunchDescription

from td3_agent.fastdds import CAMERA_PROFILE
from td3_agent.launching import (
    ASIDE,
    POLICY,
    declared,
    end_all_after,
    fast_dds,
    node,
    recorder,
    text,
    watcher,
)

ARGUMENTS = {
    'role_name': ('ego_vehicle', 'role name of the vehicle'),
    'camera_id': ('camera', 'id of the camera'),
    'camera_reliability': ('best_effort', 'reliable or best_effort, as the camera publishes'),
    'mode': ('free_running', 'free_running, or lockstep where somebody steps the simulator'),
    'driver': ('td3', 'who drives: td3 or pure_pursuit'),
    'policy': POLICY,
    'inference': ('torch', 'of the td3 driver: torch, or onnx for an exported policy'),
    'twist_convention': ('velocity', 'how Twist is meant: velocity or carla_twist_to_control'),
    'image_topic': ('', 'image topic; empty: /carla/<role_name>/<camera_id>/image'),
    'odometry_topic': ('', 'odometry topic; empty: /carla/<role_name>/odometry'),
}
OF_THE_GATE = ('role_name', 'mode', 'twist_convention', 'odometry_topic')


def generate_launch_description() -> LaunchDescription:
    """Describe the two processes and what ends them."""
    agent = node('td3_agent_node', {name: text(name) for name in ARGUMENTS})
    gate = node('twist_to_control_node', {name: text(name) for name in OF_THE_GATE})
    # Without the gate nobody could stop the car, so the agent does not go on alone.
    end = end_all_after(gate, 'the gate ended')
    profile = fast_dds(CAMERA_PROFILE)
    return LaunchDescription(
        [*declared(ARGUMENTS | ASIDE), *profile, end, recorder(), watcher(), agent, gate]
    )

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Agent and gate alone: for a played bag, a robot, or a bridge that another program steps."""

from collections.abc import Iterator

from launch import LaunchDescription
from launch.action import Action

from td3_agent.fastdds import CAMERA_PROFILE
from td3_agent.launching import (
    ASIDE,
    DRIVER,
    INPUTS,
    PARAMS_FILE,
    ROLE_NAME,
    Argument,
    Processes,
    choices_of,
    launched,
)

# These defaults override the nodes' files in config/, which are for lockstep.
MODE, RELIABILITY = 'free_running', 'best_effort'
CAMERA = {
    'camera_id': Argument('camera', 'id of the camera'),
    'camera_reliability': Argument(
        RELIABILITY, 'of the image subscription', choices_of('camera_reliability')
    ),
    'mode': Argument(MODE, 'lockstep if another program steps the simulator', choices_of('mode')),
}
ARGUMENTS = {
    'role_name': ROLE_NAME,
    **CAMERA,
    **DRIVER,
    **INPUTS,
    **PARAMS_FILE,
    **ASIDE,
}


def start(processes: Processes) -> Iterator[Action]:
    """Make the two nodes."""
    yield processes.node(
        'td3_agent_node',
        ('role_name', *CAMERA, *DRIVER, *INPUTS),
        {'mode': MODE, 'camera_reliability': RELIABILITY},
    )
    gate = ('role_name', 'mode', 'twist_convention', 'odometry_topic')
    yield processes.node('gate_node', gate, {'mode': MODE})
    yield from processes.recorder_and_watcher()


def generate_launch_description() -> LaunchDescription:
    """Describe the two processes and what ends them."""
    return launched(ARGUMENTS, CAMERA_PROFILE, start)

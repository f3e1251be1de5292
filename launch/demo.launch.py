# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The whole loop without CARLA: embedded bridge, agent, gate and synchronizer.

Ends when the synchronizer does: after ``duration`` seconds of simulated time (0: never).
"""

from pathlib import Path

from launch import LaunchDescription
from launch.action import Action

from td3_agent.driving.parameters import expanded
from td3_agent.fastdds import LOOPBACK_PROFILE
from td3_agent.launch_settings import as_declared, reject_unwritable
from td3_agent.launching import (
    ASIDE,
    COMPOSED,
    DRIVER,
    PARAMS_FILE,
    ROLE_NAME,
    Argument,
    Processes,
    launched,
)

FRAME_S = 0.05  # simulated time of one frame
DURATION_S = 60.0

ARGUMENTS = {
    'role_name': ROLE_NAME,
    **DRIVER,
    'map': Argument('winding', 'built-in map, or path of an OpenDRIVE file'),
    'seed': Argument('0', 'seed of the simulated world'),
    'duration': Argument(str(DURATION_S), 'simulated time to drive [s]; 0 is without end'),
    'real_time_factor': Argument('1.0', 'simulated time per wall time; 0 is as fast as possible'),
    'out': Argument('.', 'folder of the ledger'),
    **COMPOSED,
    **PARAMS_FILE,
    **ASIDE,
}


def start(processes: Processes) -> list[Action]:
    """Make the four nodes."""
    given = processes.given
    asked = {}
    if 'duration' in given:
        asked['max_frames'] = frames_of(as_declared('duration', given['duration'], float, 0.0))
    if 'out' in given:
        ledger = Path(expanded(given['out'])) / 'ledger.jsonl'
        reject_unwritable('out', ledger)
        asked['ledger_path'] = str(ledger)
    ends = 'the drive is over'
    nodes = [
        processes.node('td3_agent_node', ('role_name', *DRIVER)),
        processes.node('gate_node', ('role_name', 'twist_convention')),
        processes.node(
            'synchronizer_node',
            ('real_time_factor',),
            {'max_frames': frames_of(DURATION_S), 'ledger_path': 'ledger.jsonl'},
            over=asked,
            ends=ends,
        ),
    ]
    nodes = [*processes.composed(nodes, ends=ends), *processes.recorder_and_watcher()]
    # Paused, so that the first frame is the synchronizer's.
    world = {'spawn_index': 0, 'start_paused': True}
    return [processes.node('sim_bridge_node', ('map', 'seed'), world), *nodes]


def frames_of(duration_s: float) -> int:
    """Return how many frames a drive has; a short one has one, since 0 is without end."""
    return max(round(duration_s / FRAME_S), duration_s > 0.0)


def generate_launch_description() -> LaunchDescription:
    """Describe the four processes and what ends them."""
    return launched(ARGUMENTS, LOOPBACK_PROFILE, start)

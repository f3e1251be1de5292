# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A bag and the agent alone: no bridge, no gate. Ends with the bag, unless it is looped."""

from collections.abc import Iterator
from pathlib import Path

from launch import LaunchDescription
from launch.action import Action

from td3_agent.driving.parameters import expanded
from td3_agent.fastdds import CAMERA_PROFILE
from td3_agent.launch_settings import as_declared, reject_unwritable
from td3_agent.launching import (
    DRIVER,
    PARAMS_FILE,
    ROLE_NAME,
    Argument,
    Processes,
    launched,
    switch,
)

ARGUMENTS = {
    'bag': Argument(None, 'the bag: its folder, or an .mcap or .db3 file'),
    'rate': Argument('1.0', 'recorded time per wall time'),
    'loop': switch('start over at the end'),
    'start_offset': Argument('0.0', 'skip this much of the bag [s]'),
    'out': Argument('replay', 'folder for the results'),
    'role_name': ROLE_NAME,
    'camera_id': Argument('camera', 'id of the camera'),
    **DRIVER,
    **PARAMS_FILE,
}
OPTIONS = {'rate': '--rate', 'start_offset': '--start-offset'}


def start(processes: Processes) -> Iterator[Action]:
    """Make agent and player."""
    given = processes.given
    # A response to every frame, so that the same stamp has the same action.
    every_frame = {'mode': 'lockstep', 'camera_reliability': 'reliable'}
    yield processes.node('td3_agent_node', ('role_name', 'camera_id', *DRIVER), every_frame)
    bag, out = expanded(given['bag']), expanded(given.get('out', 'replay'))
    numbers = {n: as_declared(n, given[n], float) for n in OPTIONS if n in given}
    check(bag, out, numbers)
    words = ['--live', '--out', out, '--role-name', processes.role_name()]
    words += [word for name in OPTIONS if name in given for word in (OPTIONS[name], given[name])]
    words += ['--loop'] * processes.is_on('loop')
    yield processes.subcommand('replay', [*words, bag], 'player', ends='the bag is over')


def check(bag: str, out: str, numbers: dict[str, float]) -> None:
    """Check the player's arguments; only the player reads the whole bag.

    Raises:
        ValueError: an argument is invalid.
        OSError: the bag cannot be read.
    """
    from td3_agent.bags.bag import Bag  # noqa: PLC0415  --show-args needs no bags
    from td3_agent.bags.live import LiveParams  # noqa: PLC0415

    LiveParams(rate=numbers.get('rate', 1.0), start_offset_s=numbers.get('start_offset', 0.0))
    Bag(Path(bag))
    reject_unwritable('out', Path(out) / 'summary.json')


def generate_launch_description() -> LaunchDescription:
    """Describe agent and player, and what ends them."""
    return launched(ARGUMENTS, CAMERA_PROFILE, start)

# SPDX-License-Identifier: Apache-2.0
"""What the package's launch files share; imported by them alone."""

from __future__ import annotations

import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING, Any

from ament_index_python.packages import get_package_share_directory
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    RegisterEventHandler,
    SetEnvironmentVariable,
    Shutdown,
)
from launch.conditions import IfCondition
from launch.event_handlers import OnProcessExit
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from td3_agent.fastdds import profile_variables
from td3_agent.nodes.drivers import SHIPPED_NAMES

if TYPE_CHECKING:
    from collections.abc import Mapping


def declared(arguments: Mapping[str, tuple[Any, str]]) -> list[DeclareLaunchArgument]:
    """Declare launch arguments, each given as its default and one line of text."""
    return [
        DeclareLaunchArgument(name, default_value=value, description=words)
        for name, (value, words) in arguments.items()
    ]


def fast_dds(profile: str) -> list[SetEnvironmentVariable]:
    """Give all nodes after it a Fast DDS profile of this package, unless the user named one.

    Args:
        profile: its place in the package's share, such as ``config/fastdds_camera.xml``.
    """
    path = Path(get_package_share_directory('td3_agent')) / profile
    return [
        SetEnvironmentVariable(name, value)
        for name, value in profile_variables(os.environ, path).items()
    ]


def text(name: str) -> ParameterValue:
    """Return the launch argument as a string, whatever it looks like."""
    return ParameterValue(LaunchConfiguration(name), value_type=str)


def number(name: str, kind: type) -> ParameterValue:
    """Return the launch argument as an int or a float."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def only(name: str) -> ParameterValue:
    """Return a list of one string; a plain list of substitutions would be joined to a string."""
    return ParameterValue(["['", LaunchConfiguration(name), "']"], value_type=list[str])


def node(
    executable: str,
    parameters: Mapping[str, object],
    remappings: list[tuple[Any, Any]] | None = None,
) -> Node:
    """Make a node of this package: its own parameter file, then ``parameters`` over it."""
    config = Path(get_package_share_directory('td3_agent')) / 'config' / f'{executable}.yaml'
    return Node(
        package='td3_agent',
        executable=executable,
        output='screen',
        parameters=[str(config), dict(parameters)],
        remappings=remappings or [],
    )


# The launch argument of the files that start an agent.
POLICY = ('lane', f'of the td3 driver: {SHIPPED_NAMES}, untrained, or a checkpoint folder')

# Launch arguments of the files that can record and show what they start.
ASIDE = {
    'watch': ('false', 'whether the drive can be watched in the browser'),
    'record': ('false', 'whether the loop is recorded'),
    'bag': ('bag', 'folder of the bag; must not exist'),
    'storage': ('mcap', 'of the bag: mcap or sqlite3'),
}


def recorder() -> ExecuteProcess:
    """Make the recorder, which runs with ``record:=true``; the others go on without it."""
    options = {'--out': 'bag', '--storage': 'storage', '--role-name': 'role_name'}
    command = verb('record', {key: LaunchConfiguration(name) for key, name in options.items()})
    condition = IfCondition(LaunchConfiguration('record'))
    return ExecuteProcess(cmd=command, output='screen', condition=condition)


def watcher() -> ExecuteProcess:
    """Make the live view, which runs with ``watch:=true``; the others go on without it."""
    command = verb('watch', {'--role-name': LaunchConfiguration('role_name')})
    condition = IfCondition(LaunchConfiguration('watch'))
    return ExecuteProcess(cmd=command, output='screen', condition=condition)


def verb(name: str, options: Mapping[str, object]) -> list[object]:
    """Return the command line of a verb of the package."""
    words = [word for option in options.items() for word in option]
    return [sys.executable, '-m', 'td3_agent', name, *words]


def end_all_after(process: ExecuteProcess, reason: str) -> RegisterEventHandler:
    """Shut the whole launch down when ``process`` has ended."""
    ended = OnProcessExit(target_action=process, on_exit=[Shutdown(reason=reason)])
    return RegisterEventHandler(ended)

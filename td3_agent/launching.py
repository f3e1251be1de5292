# SPDX-License-Identifier: Apache-2.0
"""What the package's launch files share; imported by them alone.

Everything that can be refused is looked at before the first process is started, and every process
is watched: one that fails ends the others, and ``ros2 launch`` ends with 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
import os
from pathlib import Path
import signal
import sys
from typing import TYPE_CHECKING, Any

from ament_index_python.packages import get_package_share_directory
from launch import LaunchDescription
from launch.actions import (
    DeclareLaunchArgument,
    ExecuteProcess,
    LogInfo,
    OpaqueFunction,
    SetEnvironmentVariable,
    Shutdown,
)
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue

from td3_agent.driving.parameters import expanded
from td3_agent.fastdds import profile_variables
from td3_agent.launch_settings import (
    BOOLEANS,
    ParamsFile,
    as_declared,
    names_of,
    node_values,
    refuse_existing,
    refuse_unknown_arguments,
    truth,
    type_of,
)
from td3_agent.nodes.drivers import SHIPPED_NAMES, DriverParams
from td3_agent.nodes.td3_agent_params import Td3AgentParams
from td3_agent.starting import PARENT_VARIABLE, SIGNALLED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from launch import LaunchContext
    from launch.action import Action
    from launch.events.process import ProcessExited


@dataclass(frozen=True)
class Argument:
    """A launch argument.

    Attributes:
        default: what holds where neither it nor a parameter file says otherwise; None: it must
            be given.
        text: what it is, one line.
        choices: the only values it takes.
    """

    default: Any
    text: str
    choices: tuple[str, ...] = ()


def choices_of(parameter: str) -> tuple[str, ...]:
    """Return the values that a parameter of the agent takes."""
    return Td3AgentParams.__dataclass_fields__[parameter].metadata['choices']


def switch(text: str) -> Argument:
    """Return an argument that is false unless it is given."""
    return Argument('false', text, tuple(BOOLEANS) + ('True', 'False'))


ROLE_NAME = Argument('ego_vehicle', 'role name of the vehicle')
# Of the files that start an agent.
DRIVER = {
    'driver': Argument('td3', 'who drives', choices_of('driver')),
    'policy': Argument('lane', f'of the td3 driver: {SHIPPED_NAMES}, untrained, or a folder'),
    'inference': Argument(
        'torch', 'of the td3 driver; onnx is for an exported policy', choices_of('inference')
    ),
    'twist_convention': Argument(
        'velocity', 'how Twist is meant', choices_of('twist_convention')
    ),
}
# Of every file.
PARAMS_FILE = {
    'params_file': Argument('', 'ROS parameter file for the nodes; arguments that are given win')
}
# Of the files that can record and show what they start.
ASIDE = {
    'watch': switch('whether the drive can be watched in the browser'),
    'record': switch('whether the loop is recorded'),
    'bag': Argument('bag', 'folder of the bag; must not exist'),
    'storage': Argument('mcap', 'format of the bag', ('mcap', 'sqlite3')),
}


@dataclass
class Processes:
    """Makes the processes of one launch, and watches them.

    Attributes:
        given: the launch arguments that were given; the defaults of the others are left out,
            so that they do not come over a parameter file.
        file: the user's own parameter file.
        profile: Fast DDS profile of all of them, in the package's share.
        failure: why the launch ends with an error; empty if it does not.
    """

    given: dict[str, str]
    file: ParamsFile
    failure: str = ''
    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def node(
        self,
        executable: str,
        takes: Iterable[str] = (),
        own: Mapping[str, Any] | None = None,
        *,
        over: Mapping[str, Any] | None = None,
        remappings: list[tuple[Any, Any]] | None = None,
        ends: str = '',
    ) -> Node:
        """Make a node of this package.

        Args:
            executable: its program.
            takes: arguments that are parameters of the same name.
            own: parameters that the launch file asks for; a parameter file comes over them.
            over: parameters that come over a parameter file.
            remappings: of its topics.
            ends: what it means that the node has ended well; empty: it must not end.

        Raises:
            ValueError: a parameter was refused.
        """
        given = {
            name: as_declared(name, self.given[name], type_of(executable, name))
            for name in takes
            if name in self.given
        }
        if 'role_name' in self.given and 'role_names' in names_of(executable):
            given['role_names'] = (self.given['role_name'],)
        values = node_values(executable, self.file, own or {}, given | (over or {}))
        self.values[executable] = values
        return Node(
            package='td3_agent',
            executable=executable,
            output='screen',
            parameters=[{name: parameter(value) for name, value in values.items()}],
            remappings=remappings or [],
            **self._watched(executable, ends=ends),
        )

    def verb(self, name: str, words: list[str], *, title: str, ends: str = '', aside: bool = False) -> ExecuteProcess:
        """Make a process of a verb of the package.

        Args:
            name: the verb.
            words: its arguments.
            title: what it is called in the output.
            ends: what it means that it has ended well; empty: it must not end.
            aside: the others go on without it; that it failed is said when they end.
        """
        command = [sys.executable, '-m', 'td3_agent', name, *words]
        watched = self._watched(title, ends=ends, aside=aside)
        return ExecuteProcess(cmd=command, name=title, output='screen', **watched)

    def recorder_and_watcher(self) -> list[ExecuteProcess]:
        """Make the recorder and the live view, as far as they are asked for.

        Raises:
            ValueError: the folder of the bag, or Rerun, cannot be used.
        """
        processes = []
        role = ['--role-name', self.role_name()]
        if self.is_on('record'):
            bag = expanded(self.given.get('bag', 'bag'))
            refuse_existing('bag', Path(bag))
            words = ['--out', bag, '--storage', self.given.get('storage', 'mcap'), *role]
            processes.append(self.verb('record', words, title='recorder', aside=True))
        if self.is_on('watch'):
            import_module('td3_agent.bags.watch').refuse_without_rerun()
            processes.append(self.verb('watch', role, title='watch', aside=True))
        return processes

    def is_on(self, name: str) -> bool:
        """Whether a switch is given and true."""
        return truth(name, self.given.get(name, 'false'))

    def role_name(self) -> str:
        """Return the role name of the vehicle, as the agent has it."""
        default = Td3AgentParams().role_name
        return self.values['td3_agent_node'].get('role_name', default)

    def _watched(self, name: str, *, ends: str, aside: bool = False) -> dict[str, Any]:
        """Return the arguments with which a process is watched and watches over its parent."""
        return {
            'on_exit': partial(self._ended, name, ends, aside),
            'additional_env': {PARENT_VARIABLE: str(os.getpid())},
        }

    def _ended(
        self, name: str, ends: str, aside: bool, event: ProcessExited, context: LaunchContext
    ) -> list[Action] | None:
        """Take note of a process that has ended; end the launch if it cannot go on.

        Raises:
            RuntimeError: it failed; launch ends the others, and with 1.
        """
        fault = failure_of(name, event.returncode, ending=context.is_shutdown, is_done=bool(ends or aside))
        if fault and aside and not context.is_shutdown:
            self.failure = fault
            return [LogInfo(msg=f'{fault}; the others go on')]
        if not context.is_shutdown:
            fault = fault or self.failure
        ...


def failure_of(name: str, status: int, *, ending: bool, may_end: bool) -> str:
    ...

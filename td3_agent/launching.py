# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Shared code of the package's launch files.

All settings are checked before the first process starts. A process that fails ends the others,
and ``ros2 launch`` ends with 1.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import partial
from importlib import import_module
import os
from pathlib import Path
import shutil
import subprocess
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
from rclpy.exceptions import InvalidTopicNameException
from rclpy.validate_full_topic_name import validate_full_topic_name

from td3_agent.doctor.machine_checks import missing_module
from td3_agent.driving.parameters import expanded
from td3_agent.fastdds import profile_variables
from td3_agent.launch_settings import (
    BOOLEANS,
    PROGRAMS,
    ParamsFile,
    as_declared,
    failure_of,
    names_of,
    node_values,
    reject_existing,
    reject_other_choice,
    reject_unknown_arguments,
    type_of,
)
from td3_agent.nodes.drivers import DriverParams, needs_route
from td3_agent.nodes.parameters import Td3AgentParams
from td3_agent.policy.policy_file import SHIPPED_NAMES
from td3_agent.processes import parameter_words
from td3_agent.starting import PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from launch import LaunchContext
    from launch.action import Action
    from launch.events.process import ProcessExited


@dataclass(frozen=True)
class Argument:
    """A launch argument.

    Attributes:
        default: without the argument and a parameter file; None: required.
        text: one line of help.
        choices: the valid values; empty: any.
    """

    default: Any
    text: str
    choices: tuple[str, ...] = ()


def choices_of(parameter: str) -> tuple[str, ...]:
    """Return the valid values of a parameter of the agent."""
    return Td3AgentParams.__dataclass_fields__[parameter].metadata['choices']


def switch(text: str) -> Argument:
    """Return a boolean argument with default false."""
    return Argument('false', text, (*BOOLEANS, 'True', 'False'))


ROLE_NAME = Argument('ego_vehicle', 'role name of the vehicle')
# Arguments of launch files that start an agent.
DRIVER = {
    'driver': Argument('td3', 'TD3 policy or pure pursuit', choices_of('driver')),
    'policy': Argument('lane', f'of the td3 driver: {SHIPPED_NAMES}, untrained, or a file'),
    'inference': Argument(
        'auto', 'of the td3 driver: what computes the policy', choices_of('inference')
    ),
    'twist_convention': Argument(
        'velocity', 'meaning of the Twist', choices_of('twist_convention')
    ),
}
# Arguments of launch files whose inputs may come from another source than CARLA's bridge.
INPUTS = {
    'image_topic': Argument('', 'image topic; empty: /carla/<role_name>/<camera_id>/image'),
    'odometry_topic': Argument('', 'odometry topic; empty: /carla/<role_name>/odometry'),
}
# Arguments of launch files that start agent, gate and synchronizer.
COMPOSED = {'composed': switch('run agent, gate and synchronizer in one process: not isolated')}
# Arguments of every launch file.
PARAMS_FILE = {
    'params_file': Argument('', 'ROS parameter file for the nodes; arguments take precedence')
}
# Arguments of launch files that can record and show the drive.
ASIDE = {
    'watch': switch('show the drive in the browser'),
    'record': switch('record a bag'),
    'bag': Argument('bag', 'folder of the bag; must not exist'),
    'storage': Argument('mcap', 'format of the bag', ('mcap', 'sqlite3')),
}


@dataclass
class Processes:
    """Makes the processes of one launch, and watches them.

    Attributes:
        given: the launch arguments that were given, without defaults, which must not override
            a parameter file.
        file: the user's parameter file.
        prefix: of their command lines, as launch takes it.
        failure: why the launch ends with an error; empty: it does not.
        is_reported: whether that was printed.
        values: parameters of the nodes made so far, by program.
    """

    given: dict[str, str]
    file: ParamsFile
    prefix: dict[str, str] = field(default_factory=dict)
    failure: str = ''
    is_reported: bool = False
    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def node(  # noqa: PLR0913  the ways in which nodes of a launch differ
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
            own: parameters set by the launch file; a parameter file overrides them.
            over: parameters that override a parameter file.
            remappings: of its topics.
            ends: reason of the shutdown when the node ends with 0; empty: it must not end.

        Raises:
            ValueError: a parameter is invalid.
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
        parameters = [{name: parameter(value) for name, value in values.items()}]
        return self._process(executable, remappings, ends, parameters=parameters)

    def composed(
        self, nodes: list[Node], remappings: list[tuple[Any, Any]] | None = None, ends: str = ''
    ) -> list[Node]:
        """Return the nodes, or one process with all of them where ``composed`` is true.

        Args:
            nodes: agent, gate and synchronizer, as :meth:`node` made them.
            remappings: of all their topics.
            ends: as for :meth:`node`.
        """
        if not self.is_on('composed'):
            return nodes
        words = [
            word
            for name in ('td3_agent_node', 'gate_node', 'synchronizer_node')
            for word in parameter_words(self.values[name], PROGRAMS[name].node)
        ]
        return [self._process('composed_node', remappings, ends, ros_arguments=words)]

    def _process(
        self,
        executable: str,
        remappings: list[tuple[Any, Any]] | None,
        ends: str,
        **more: Any,  # noqa: ANN401  what Node takes
    ) -> Node:
        return Node(
            package='td3_agent',
            executable=executable,
            output='screen',
            remappings=remappings or [],
            exec_name=executable,
            additional_env=watching_parent(),
            on_exit=partial(self._ended, executable, ends),
            **more,
            **self.prefix,
        )

    def subcommand(
        self, name: str, words: list[str], title: str, ends: str | None
    ) -> ExecuteProcess:
        """Make a process of a subcommand of the package.

        Args:
            name: the subcommand.
            words: its arguments.
            title: its name in the output.
            ends: as for :meth:`node`; None: the others go on without it.
        """
        ended = partial(self._optional_ended, title)
        if ends is not None:
            ended = partial(self._ended, title, ends)
        return ExecuteProcess(
            cmd=[sys.executable, '-m', 'td3_agent', name, *words],
            name=title,
            output='screen',
            additional_env=watching_parent(),
            on_exit=ended,
            **self.prefix,
        )

    def recorder_and_watcher(self) -> list[ExecuteProcess]:
        """Make the recorder and the live view if their arguments are true.

        Raises:
            ValueError: the folder of the bag exists, or Rerun is not installed.
        """
        processes = []
        role = ['--role-name', self.role_name()]
        if self.is_on('record'):
            bag = expanded(self.given.get('bag', 'bag'))
            reject_existing('bag', Path(bag))
            words = ['--out', bag, '--storage', self.given.get('storage', 'mcap'), *role]
            processes.append(self.subcommand('record', words, 'recorder', ends=''))
        if self.is_on('watch'):
            from td3_agent.bags.watch import require_rerun  # noqa: PLC0415  an extra

            require_rerun()
            processes.append(self.subcommand('watch', role, 'watch', ends=None))
        return processes

    def is_on(self, name: str, default: str = 'false') -> bool:
        return as_declared(name, self.given.get(name, default), bool)

    def follows_route(self) -> bool:
        """Whether the agent's driver needs a route."""
        values = self.values['td3_agent_node']
        known = {spec.name for spec in fields(DriverParams)}
        return needs_route(DriverParams(**{k: v for k, v in values.items() if k in known}))

    def role_name(self) -> str:
        """Return the role name of the agent."""
        default = Td3AgentParams().role_name
        return self.values['td3_agent_node'].get('role_name', default)

    def control_remapping(self) -> list[tuple[str, str]]:
        """Return the remapping of the bridge's command topic; empty without ``control_topic``."""
        usual = f'/carla/{self.role_name()}/vehicle_control_cmd'
        return [(usual, self.given['control_topic'])] if 'control_topic' in self.given else []

    def _ended(
        self, name: str, ends: str, event: ProcessExited, context: LaunchContext
    ) -> list[Action] | None:
        """Shut the launch down after a process that had to go on has ended.

        Raises:
            RuntimeError: a process failed; launch ends the others and exits with 1.
        """
        ending = context.is_shutdown
        fault = failure_of(name, event.returncode, ending=ending, may_end=bool(ends))
        self.failure = self.failure or fault
        if self.failure and not self.is_reported:
            self.is_reported = True
            raise RuntimeError(f'{self.failure}: see its last output')
        return None if ending else [Shutdown(reason=ends)]

    def _optional_ended(
        self, name: str, event: ProcessExited, context: LaunchContext
    ) -> list[Action] | None:
        """Go on without an optional process; its failure sets the exit status of the launch."""
        if context.is_shutdown:
            return self._ended(name, name, event, context)
        fault = failure_of(name, event.returncode, ending=False, may_end=True)
        self.failure = self.failure or fault
        return [LogInfo(msg=f'{fault}; the others go on')] if fault else None


def prefix(configurations: Mapping[str, str]) -> dict[str, str]:
    """Return a prefix that starts processes with SIGINT blocked until they install a handler.

    Otherwise a SIGINT during the start of Python ends in a traceback. The user's own
    ``launch-prefix`` stays; an ``env`` without ``--block-signal`` gives none.
    """
    if 'launch-prefix' in configurations or not (env := shutil.which('env')):
        return {}
    command = [env, '--block-signal=INT']
    done = subprocess.run([*command, 'true'], capture_output=True, check=False)  # noqa: S603  ours
    return {'prefix': ' '.join(command)} if done.returncode == 0 else {}


def watching_parent() -> dict[str, str]:
    """Return the environment that makes a process end with this one."""
    return {PARENT_VARIABLE: str(os.getpid())}


def reject_bad_topics(given: Mapping[str, str]) -> None:
    """Reject arguments that make no valid topic name.

    Raises:
        ValueError: naming the argument, its value and the reason.
    """
    for name, value in given.items():
        if name in {'role_name', 'camera_id'}:
            topic = f'/carla/{value}/x'
        elif name.endswith('_topic'):
            topic = f'/{value.removeprefix("~").removeprefix("/")}'
        else:
            continue
        try:
            validate_full_topic_name(topic)
        except InvalidTopicNameException as error:
            why = str(error).partition('\n')[0].removesuffix(':')
            raise ValueError(f'{name} must make a topic name, got {value!r}: {why}') from error


def launched(
    arguments: Mapping[str, Argument],
    profile: str,
    start: Callable[[Processes], Iterable[Action]],
) -> LaunchDescription:
    """Describe a launch that starts no process before all settings are checked.

    Args:
        arguments: of the launch file, by name.
        profile: Fast DDS profile of all processes unless the user has set one; its path in the
            package's share folder.
        start: makes the processes.
    """
    given: dict[str, str] = {}

    def note(context: LaunchContext) -> None:
        """Keep the given arguments before the declarations add their defaults."""
        words = dict(word.split(':=', 1) for word in context.argv if ':=' in word)
        # If another launch file includes this one, the command line belongs to that file.
        if words.keys() == context.launch_configurations.keys():
            reject_unknown_arguments(words, arguments)
        found = context.launch_configurations.items()
        given.update({name: value for name, value in found if name in arguments and value})
        for name, value in given.items():  # launch's own error takes two lines
            reject_other_choice(name, value, arguments[name].choices)

    def begin(context: LaunchContext) -> list[Action]:
        namespace = context.launch_configurations.get('ros_namespace', '')
        try:
            import_module('carla_msgs.msg')
            reject_bad_topics(given)
            file = ParamsFile.read(given.get('params_file', ''), namespace)
            processes = Processes(given, file, prefix(context.launch_configurations))
            actions = list(start(processes))
        except ModuleNotFoundError as error:
            raise RuntimeError(missing_module(error)) from error
        file.check(processes.values)
        return actions

    return LaunchDescription(
        [
            OpaqueFunction(function=note),
            *declared(arguments),
            *fast_dds(profile),
            OpaqueFunction(function=begin),
        ]
    )


def declared(arguments: Mapping[str, Argument]) -> list[DeclareLaunchArgument]:
    """Return the declarations for launch."""
    return [
        DeclareLaunchArgument(
            name,
            default_value=argument.default,
            description=argument.text,
            **({'choices': list(argument.choices)} if argument.choices else {}),
        )
        for name, argument in arguments.items()
    ]


def fast_dds(profile: str) -> list[SetEnvironmentVariable]:
    """Set the package's Fast DDS profile for all processes unless the user has set one."""
    path = Path(get_package_share_directory('td3_agent')) / profile
    return [
        SetEnvironmentVariable(name, value)
        for name, value in profile_variables(os.environ, path).items()
    ]


def parameter(value: Any) -> ParameterValue:  # noqa: ANN401  any parameter type
    """Return a parameter with its type; launch would guess the type of a string."""
    if isinstance(value, (list, tuple)):
        kind = type(value[0]) if value else str
        return ParameterValue(list(value), value_type=list[kind])
    return ParameterValue(value, value_type=type(value))

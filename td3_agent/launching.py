# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the package's launch files share; imported by them alone.

Everything that can be refused is looked at before the first process is started, and every process
is watched: one that fails ends the others, and ``ros2 launch`` ends with 1.
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
    ParamsFile,
    as_declared,
    failure_of,
    names_of,
    node_values,
    refuse_existing,
    refuse_other_choice,
    refuse_unknown_arguments,
    type_of,
)
from td3_agent.nodes.drivers import DriverParams, needs_route
from td3_agent.nodes.parameters import Td3AgentParams
from td3_agent.policy.policy_file import SHIPPED_NAMES
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
    return Argument('false', text, (*BOOLEANS, 'True', 'False'))


ROLE_NAME = Argument('ego_vehicle', 'role name of the vehicle')
# Of the files that start an agent.
DRIVER = {
    'driver': Argument('td3', 'who drives', choices_of('driver')),
    'policy': Argument('lane', f'of the td3 driver: {SHIPPED_NAMES}, untrained, or a file'),
    'inference': Argument(
        'auto', 'of the td3 driver: what computes the policy', choices_of('inference')
    ),
    'twist_convention': Argument('velocity', 'how Twist is meant', choices_of('twist_convention')),
}
# Of the files whose agent can listen to something else than CARLA's bridge.
INPUTS = {
    'image_topic': Argument('', 'image topic; empty: /carla/<role_name>/<camera_id>/image'),
    'odometry_topic': Argument('', 'odometry topic; empty: /carla/<role_name>/odometry'),
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
        prefix: of their command lines, as launch takes it.
        failure: why the launch ends with an error; empty if it does not.
        is_told: whether that was said.
        values: parameters of the nodes made so far, by program.
    """

    given: dict[str, str]
    file: ParamsFile
    prefix: dict[str, str] = field(default_factory=dict)
    failure: str = ''
    is_told: bool = False
    values: dict[str, dict[str, Any]] = field(default_factory=dict)

    def node(  # noqa: PLR0913  what makes one node of a launch differ from others
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
            exec_name=executable,
            additional_env=watching_parent(),
            on_exit=partial(self._ended, executable, ends),
            **self.prefix,
        )

    def subcommand(
        self, name: str, words: list[str], title: str, ends: str | None
    ) -> ExecuteProcess:
        """Make a process of a subcommand of the package.

        Args:
            name: the subcommand.
            words: its arguments.
            title: what it is called in the output.
            ends: what it means that it has ended well; empty: it must not end; None: the others
                go on without it.
        """
        ended = partial(self._aside_ended, title)
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
            processes.append(self.subcommand('record', words, 'recorder', ends=''))
        if self.is_on('watch'):
            import_module('td3_agent.bags.watch').refuse_without_rerun()
            processes.append(self.subcommand('watch', role, 'watch', ends=None))
        return processes

    def is_on(self, name: str, default: str = 'false') -> bool:
        """Whether a switch is true."""
        return as_declared(name, self.given.get(name, default), bool)

    def follows_route(self) -> bool:
        """Whether the driver of the agent that was made follows a route."""
        values = self.values['td3_agent_node']
        known = {spec.name for spec in fields(DriverParams)}
        return needs_route(DriverParams(**{k: v for k, v in values.items() if k in known}))

    def role_name(self) -> str:
        """Return the role name of the vehicle, as the agent has it."""
        default = Td3AgentParams().role_name
        return self.values['td3_agent_node'].get('role_name', default)

    def control_remapping(self) -> list[tuple[str, str]]:
        """Return the remapping of the topic on which the bridge takes commands, if it has one."""
        usual = f'/carla/{self.role_name()}/vehicle_control_cmd'
        return [(usual, self.given['control_topic'])] if 'control_topic' in self.given else []

    def _ended(
        self, name: str, ends: str, event: ProcessExited, context: LaunchContext
    ) -> list[Action] | None:
        """End the launch with a process that has ended.

        Raises:
            RuntimeError: it failed, or one aside had: launch ends the others, and with 1.
        """
        ending = context.is_shutdown
        fault = failure_of(name, event.returncode, ending=ending, may_end=bool(ends))
        self.failure = self.failure or fault
        if self.failure and not self.is_told:
            self.is_told = True
            raise RuntimeError(f'{self.failure}: see what it said last')
        return None if ending else [Shutdown(reason=ends)]

    def _aside_ended(
        self, name: str, event: ProcessExited, context: LaunchContext
    ) -> list[Action] | None:
        """Let the others go on without a process; that it failed counts when they end."""
        if context.is_shutdown:
            return self._ended(name, name, event, context)
        fault = failure_of(name, event.returncode, ending=False, may_end=True)
        self.failure = self.failure or fault
        return [LogInfo(msg=f'{fault}; the others go on')] if fault else None


def prefix(configurations: Mapping[str, str]) -> dict[str, str]:
    """Return what has processes start with SIGINT blocked, until they can take it.

    Python would answer one that comes while it starts itself with a traceback. A prefix of the
    user's own stays, and an old ``env`` does without.
    """
    if 'launch-prefix' in configurations or not (env := shutil.which('env')):
        return {}
    command = [env, '--block-signal=INT']
    done = subprocess.run([*command, 'true'], capture_output=True, check=False)  # noqa: S603  ours
    return {'prefix': ' '.join(command)} if done.returncode == 0 else {}


def watching_parent() -> dict[str, str]:
    """Return the environment in which a process ends with this one, however this one ends."""
    return {PARENT_VARIABLE: str(os.getpid())}


def refuse_bad_topics(given: Mapping[str, str]) -> None:
    """Refuse arguments of which no topic name can be made.

    Raises:
        ValueError: naming the argument, its value and what is wrong with it.
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
    """Describe a launch whose processes are made when all of them are known to be startable.

    Args:
        arguments: of the launch file, by name.
        profile: Fast DDS profile of all processes, unless the user named one; its place in the
            package's share.
        start: makes the processes.
    """
    given: dict[str, str] = {}

    def note(context: LaunchContext) -> None:
        """Note what was given, before the declarations add their defaults."""
        words = dict(word.split(':=', 1) for word in context.argv if ':=' in word)
        # Where another launch file includes ours, the command line is for that one.
        if words.keys() == context.launch_configurations.keys():
            refuse_unknown_arguments(words, arguments)
        found = context.launch_configurations.items()
        given.update({name: value for name, value in found if name in arguments and value})
        for name, value in given.items():  # launch would do so too, in two lines
            refuse_other_choice(name, value, arguments[name].choices)

    def begin(context: LaunchContext) -> list[Action]:
        namespace = context.launch_configurations.get('ros_namespace', '')
        try:
            import_module('carla_msgs.msg')
            refuse_bad_topics(given)
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
    """Declare launch arguments."""
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
    """Give all processes a Fast DDS profile of this package, unless the user named one."""
    path = Path(get_package_share_directory('td3_agent')) / profile
    return [
        SetEnvironmentVariable(name, value)
        for name, value in profile_variables(os.environ, path).items()
    ]


def parameter(value: Any) -> ParameterValue:  # noqa: ANN401  any parameter type
    """Return a parameter with its type; launch would guess that of a text from its looks."""
    if isinstance(value, (list, tuple)):
        kind = type(value[0]) if value else str
        return ParameterValue(list(value), value_type=list[kind])
    return ParameterValue(value, value_type=type(value))

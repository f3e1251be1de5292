# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The parameters of each node from launch arguments and parameter files, checked before start.

Precedence, the strongest first: launch arguments that are given; the user's parameter file;
values of the launch file itself; the node's file in ``config/``. Does not import ``launch``.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from importlib import import_module
import math
from pathlib import Path
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any, get_type_hints

import yaml

from td3_agent.driving.parameters import (
    ParameterError,
    Params,
    did_you_mean,
    expanded,
    reject_unknown,
)
from td3_agent.files import shared_path
from td3_agent.starting import SIGNALLED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

BOOLEANS = {'true': True, '1': True, 'false': False, '0': False}
LARGEST = sys.float_info.max
# By type: the wording of errors, the least and the largest value.
RANGES = {
    bool: ('true or false', 0, 1),
    int: ('a whole number of at most 64 bits', -(1 << 63), (1 << 63) - 1),
    float: ('a finite number', -LARGEST, LARGEST),
}
SECTION = 'ros__parameters'
EVERY_NODE = '/**'
# Launch arguments of launch and launch_ros.
LAUNCH_OWN = (
    'emulate_tty',
    'launch-prefix',
    'launch-prefix-filter',
    'ros_namespace',
    'sigkill_timeout',
    'sigterm_timeout',
)
# Parameters that rclpy declares in every node.
RCLPY_OWN = re.compile(r'use_sim_time|start_type_description_service|qos_overrides\.')


@dataclass(frozen=True)
class Program:
    """A node program: the name of its node, and the class of its parameters."""

    node: str
    module: str
    params: str

    def load(self) -> type[Params]:
        """Return the class of its parameters.

        Raises:
            ModuleNotFoundError: a dependency of the node is not installed.
        """
        return getattr(import_module(f'td3_agent.nodes.{self.module}'), self.params)


PROGRAMS = {
    'route_node': Program('route', 'route_node', 'RouteNodeParams'),
    'sim_bridge_node': Program('carla_ros_bridge', 'sim_bridge_params', 'SimBridgeParams'),
    'synchronizer_node': Program('synchronizer', 'synchronizer_node', 'SynchronizerParams'),
    'td3_agent_node': Program('td3_agent', 'parameters', 'Td3AgentParams'),
    'gate_node': Program('gate', 'parameters', 'GateParams'),
}


def as_declared(
    name: str,
    text: str,
    kind: Any,  # noqa: ANN401  the type of a field
    low: float = -math.inf,
) -> Any:  # noqa: ANN401  as above
    """Return a launch argument as the declared type of its parameter.

    Raises:
        ValueError: naming the argument; its text has another type, or a number below ``low``.
    """
    if kind is str:
        return text
    if kind == tuple[str, ...]:
        return (text,)
    try:
        value = BOOLEANS[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        value = math.nan
    wanted, least, most = RANGES[kind]
    if not max(least, low) <= value <= most:  # written so that NaN fails too
        bound = f' >= {low:g}' if math.isfinite(low) else ''
        raise ValueError(f'{name} must be {wanted}{bound}, got {text!r}')
    return value


def reject_unknown_arguments(given: Iterable[str], known: Iterable[str]) -> None:
    """Reject unknown launch arguments and suggest the nearest known ones.

    Raises:
        ValueError: naming all of them.
    """
    known = list(known)
    unknown = [name for name in given if name not in known and name not in LAUNCH_OWN]
    if unknown:
        hints = [f'{name!r}{did_you_mean(name, known)}' for name in unknown]
        raise ValueError(f'unknown launch argument {"; ".join(hints)}; --show-args lists all')


def reject_other_choice(name: str, value: str, choices: Collection[str]) -> None:
    """Reject a value that is not among the choices; without choices every value is valid.

    Raises:
        ValueError: naming the argument, the value and the choices.
    """
    if choices and value not in choices:
        raise ValueError(
            f'{name} must be one of {", ".join(choices)}, got {value!r}'
            f'{did_you_mean(value, choices)}'
        )


class _Loader(yaml.SafeLoader):
    """Reads numbers as ROS does: in YAML 1.1 1e-1 is text."""


_Loader.add_implicit_resolver(
    'tag:yaml.org,2002:float',
    re.compile(r'[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$'),
    list('-+0123456789.'),
)


def read_params_file(path: Path) -> dict[str, dict[str, Any]]:
    """Return the parameters of each node that a ROS parameter file names.

    Raises:
        ParameterError: it cannot be read, or is no parameter file.
    """
    try:
        content = yaml.load(path.read_text(encoding='utf-8'), Loader=_Loader)  # noqa: S506  safe
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        why = ' '.join(str(error).split())
        raise ParameterError(f'params_file {str(path)!r} must be YAML: {why}') from error
    except OSError as error:
        raise ParameterError(
            f'params_file must be a file, got {str(path)!r}: {error.strerror}'
        ) from error
    if not isinstance(content, dict) or not content:
        raise ParameterError(f'params_file {str(path)!r} must name nodes, {SECTION} below them')
    return dict(_sections(content, '', str(path)))


def _sections(
    content: dict[str, Any], name: str, path: str
) -> Iterable[tuple[str, dict[str, Any]]]:
    """Yield each node's name, without the leading slash, and its parameters."""
    for key, value in content.items():
        if key == SECTION:
            yield name.strip('/'), dict(_flat(value, ''))
        elif isinstance(value, dict):
            yield from _sections(value, f'{name}/{str(key).strip("/")}', path)
        else:
            raise ParameterError(f'{path}: {key!r} must be below a node and its {SECTION}')


def _flat(content: Any, prefix: str) -> Iterable[tuple[str, Any]]:  # noqa: ANN401
    """Yield parameters by their full names; nested names are joined by dots."""
    for key, value in content.items() if isinstance(content, dict) else ():
        if isinstance(value, dict):
            yield from _flat(value, f'{prefix}{key}.')
        else:
            yield f'{prefix}{key}', value


@dataclass
class ParamsFile:
    """The user's parameter file, for all nodes of a launch.

    Attributes:
        path: of the file; None: no file.
        namespace: of the nodes.
        sections: parameters by node name.
    """

    path: Path | None
    namespace: str = ''
    sections: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str, namespace: str = '') -> ParamsFile:
        """Read a file; an empty path means no file.

        Raises:
            ParameterError: it cannot be read, or is no parameter file.
        """
        if not path:
            return cls(None)
        file = Path(expanded(path))
        return cls(file, namespace.strip('/'), read_params_file(file))

    def of(self, node: str, known: Iterable[str]) -> dict[str, Any]:
        """Return the parameters of a node: its own, and those of ``/**`` that it has."""
        everywhere = self.sections.get('**', {})
        shared = {name: value for name, value in everywhere.items() if name in set(known)}
        return shared | self.sections.get(node, {}) | self.sections.get(self._full(node), {})

    def check(self, executables: Iterable[str]) -> None:
        """Reject sections and parameters that no node of the launch reads.

        Args:
            executables: the node programs of the launch.

        Raises:
            ParameterError: a misspelt node name, or a parameter that no node has.
        """
        if self.path is None:
            return
        every = {program.node for program in PROGRAMS.values()}
        for name in self.sections:
            _reject_near_miss(name, {*every, *map(self._full, every)}, str(self.path))
        here = {PROGRAMS[name].node for name in executables}
        known = {parameter for name in executables for parameter in names_of(name)}
        if not self.sections.keys() & {'**', *here, *map(self._full, here)}:
            raise ParameterError(
                f'params_file {str(self.path)!r} must name one of {", ".join(sorted(here))} '
                f'or {EVERY_NODE}, got {", ".join(self.sections)}'
            )
        for name in self.sections.get('**', {}):
            if name not in known and not RCLPY_OWN.match(name):
                hint = did_you_mean(name, known)
                raise ParameterError(f'{self.path}: no node has a parameter {name!r}{hint}')

    def _full(self, node: str) -> str:
        return f'{self.namespace}/{node}'.strip('/')


def _reject_near_miss(name: str, nodes: set[str], path: str) -> None:
    """Reject a misspelt name of one of our nodes; a file may also name other nodes."""
    programs = {executable: program.node for executable, program in PROGRAMS.items()}
    hint = f', did you mean {programs[name]!r}?' if name in programs else ''
    if name not in {*nodes, '**'} and (hint := hint or did_you_mean(name, nodes)):
        raise ParameterError(f'{path}: no node is called {name!r}{hint}')


def node_values(
    executable: str,
    file: ParamsFile,
    own: Mapping[str, Any],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all parameters of a node that are not left to its defaults, checked by its class.

    Args:
        executable: the node program.
        file: the user's parameter file.
        own: values of the launch file.
        given: launch arguments, by parameter.

    Raises:
        ParameterError: naming each invalid parameter.
        ModuleNotFoundError: a dependency of the node is not installed.
    """
    program = PROGRAMS[executable]
    cls = program.load()
    config = read_params_file(shared_path(f'config/{executable}.yaml'))
    of_user = file.of(program.node, names_of(executable))
    values = {**config.get('**', {}), **own, **of_user, **given}
    checked = {name: value for name, value in values.items() if not RCLPY_OWN.match(name)}
    reject_unknown(checked, cls, program.node)
    reject_unusable(cls(**checked))
    return values


def names_of(executable: str) -> list[str]:
    """Names of a node's parameters."""
    return [spec.name for spec in fields(PROGRAMS[executable].load())]


def type_of(executable: str, parameter: str) -> Any:  # noqa: ANN401  a type
    """Declared type of a parameter."""
    return get_type_hints(PROGRAMS[executable].load())[parameter]


def reject_unusable(params: Params) -> None:
    """Reject a policy, map or ledger path that is missing, unreadable or not writable.

    Raises:
        ValueError: naming it.
        OSError: it cannot be read or written.
    """
    if hasattr(params, 'policy') and params.driver == 'td3':
        from td3_agent.policy.policy_file import reject_missing_policy  # noqa: PLC0415

        reject_missing_policy(params.policy)
    if hasattr(params, 'map'):
        from td3_agent.sim.maps import load_map  # noqa: PLC0415  only for a simulated world

        load_map(params.map, params.map_seed)
    if getattr(params, 'ledger_path', ''):
        reject_unwritable('ledger_path', Path(params.ledger_path))


def reject_unwritable(name: str, path: Path) -> None:
    """Reject a path that is not writable; creates its folder.

    Raises:
        ValueError: naming the argument, the path and the reason.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            with path.open('ab'):
                pass
    except OSError as error:
        raise ValueError(
            f'{name} must be writable, got {str(path)!r}: {error.strerror}'
        ) from error


def reject_existing(name: str, folder: Path) -> None:
    """Reject a folder that exists already or cannot be created.

    Raises:
        ValueError: naming the argument and the path.
    """
    if folder.exists() or folder.is_symlink():
        raise ValueError(f'{name} must be a new folder, got {str(folder)!r}, which exists already')
    reject_unwritable(name, folder)


def failure_of(name: str, status: int, *, ending: bool, may_end: bool) -> str:
    """Return how a process that has ended has failed; empty if it has not.

    Args:
        name: of the process.
        status: its exit status, negative after a signal.
        ending: whether the launch is shutting down.
        may_end: whether it may end by itself.
    """
    by_signal = status < 0 or status > SIGNALLED
    if (ending and by_signal) or (status == 0 and (ending or may_end)):
        return ''
    if status == 0:
        return f'{name} ended, but was still needed'
    if by_signal:
        number = -status if status < 0 else status - SIGNALLED
        return f'{name} was ended by signal {number}'
    return f'{name} ended with exit status {status}'

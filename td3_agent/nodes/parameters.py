# SPDX-License-Identifier: Apache-2.0
"""The one helper between a parameter dataclass and ROS."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

from rcl_interfaces.msg import ParameterDescriptor

from td3_agent.driving.parameters import ParameterError, Params, expected, refuse_unknown

if TYPE_CHECKING:
    from rclpy.node import Node

ParamsT = TypeVar('ParamsT', bound=Params)

# What rclpy itself declares from overrides.
RCLPY_OWN = ('use_sim_time', 'start_type_description_service')
RCLPY_OWN_PREFIXES = ('qos_overrides.', 'diagnostic_updater.')


def declare(node: Node, cls: type[ParamsT]) -> ParamsT:
    """Declare one read-only parameter per field of ``cls`` and build it from their values.

    The node must have been made with ``automatically_declare_parameters_from_overrides=True``:
    that is how a misspelt name is seen, which plain rclpy ignores in silence.

    Raises:
        ParameterError: an unknown name, or values that ``cls`` refused; all are named.
    """
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix('').items()
        if name not in RCLPY_OWN and not name.startswith(RCLPY_OWN_PREFIXES)
    }
    for name in RCLPY_OWN:
        if node.has_parameter(name) and not isinstance(node.get_parameter(name).value, bool):
            raise ParameterError(f'{name} must be bool, got {node.get_parameter(name).value!r}')
    refuse_unknown(given, cls, node.get_name())
    params = cls(**given)
    for spec in dataclasses.fields(cls):
        if spec.name in given:  # declared by rclpy without description, and writable
            node.undeclare_parameter(spec.name)
        value = getattr(params, spec.name)
        node.declare_parameter(
            spec.name,
            list(value) if isinstance(value, tuple) else value,
            ParameterDescriptor(
                description=spec.metadata['text'],
                additional_constraints=_constraints(spec.metadata),
                read_only=True,
            ),
            ignore_override=True,
        )
    return params


def _constraints(metadata: dict) -> str:
    """Describe allowed values for ``ros2 param describe``."""
    if metadata['choices']:
        return 'one of ' + ', '.join(metadata['choices'])
    return expected(metadata)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Declares parameter dataclasses as ROS parameters; the parameters of agent and gate."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, TypeVar

from rcl_interfaces.msg import ParameterDescriptor

from td3_agent.driving.parameters import (
    ParameterError,
    Params,
    expected,
    param,
    param_of,
    reject_unknown,
)
from td3_agent.driving.velocity_control import VelocityControlParams
from td3_agent.nodes.drivers import DriverParams

if TYPE_CHECKING:
    from rclpy.node import Node

ParamsT = TypeVar('ParamsT', bound=Params)

# Parameters that rclpy itself declares.
RCLPY_OWN = ('use_sim_time', 'start_type_description_service')
RCLPY_OWN_PREFIXES = ('qos_overrides.', 'diagnostic_updater.')
DEADLINE_SHARE = 0.9  # of the bridge's wait; the rest is transport time


def declare(node: Node, cls: type[ParamsT]) -> ParamsT:
    """Declare one read-only parameter per field of ``cls`` and build it from their values.

    The node must have been created with ``automatically_declare_parameters_from_overrides=True``,
    which makes misspelt names visible; rclpy ignores them otherwise.

    Raises:
        ParameterError: naming each unknown parameter or invalid value.
    """
    given = {
        name: parameter.value
        for name, parameter in node.get_parameters_by_prefix('').items()
        if name not in RCLPY_OWN and not name.startswith(RCLPY_OWN_PREFIXES)
    }
    for name in RCLPY_OWN:
        if node.has_parameter(name) and not isinstance(node.get_parameter(name).value, bool):
            raise ParameterError(f'{name} must be bool, got {node.get_parameter(name).value!r}')
    reject_unknown(given, cls, node.get_name())
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Td3AgentParams(DriverParams):
    """Parameters of td3_agent_node."""

    role_name: str = param('ego_vehicle', 'role name of the vehicle')
    camera_id: str = param('camera', 'id of the camera in the objects file')
    mode: str = param(
        'lockstep',
        'one command per frame, or at a fixed rate from the newest frame',
        choices=('lockstep', 'free_running'),
    )
    twist_convention: str = param(
        'velocity',
        'meaning of linear.x and angular.z',
        choices=('velocity', 'carla_twist_to_control'),
    )
    camera_reliability: str = param(
        'reliable',
        'reliable loses no large frame; best_effort matches every known publisher',
        choices=('reliable', 'best_effort'),
    )
    image_topic: str = param('', 'image topic; empty: /carla/<role_name>/<camera_id>/image')
    odometry_topic: str = param('', 'odometry topic; empty: /carla/<role_name>/odometry')
    rate_hz: float = param(20.0, 'command rate when free-running', unit='Hz', low=0.1, high=1000.0)
    max_frame_age_s: float = param(
        0.4,
        'free-running: stop the car when the newest frame arrived longer ago (steady clock)',
        unit='s',
        low=0.01,
        high=60.0,
    )
    default_wheelbase_m: float = param(
        2.87, 'wheelbase when vehicle_info has none', unit='m', low=1.0, high=10.0
    )
    autostart: bool = param(True, 'configure and activate at start, without a lifecycle manager')


@dataclasses.dataclass(frozen=True, kw_only=True)
class GateParams(VelocityControlParams):
    """Parameters of gate_node."""

    role_name: str = param_of(Td3AgentParams, 'role_name')
    mode: str = param(
        'lockstep',
        'one response per frame, or newest command with a watchdog',
        choices=('lockstep', 'free_running'),
    )
    twist_convention: str = param_of(Td3AgentParams, 'twist_convention')
    input: str = param(
        'twist_stamped',
        'topic of the commands; a plain twist is the response to the open frame',
        choices=('twist_stamped', 'twist'),
    )
    deadline_s: float = param(
        0.4,
        'full brake when no command arrives for this long (steady clock); at most 0.9 of '
        'bridge_wait_s',
        unit='s',
        low=0.02,
        high=600.0,
    )
    silence_s: float = param(
        0.4,
        'lockstep: full brake when no frame arrives for this long (steady clock), or for four '
        'typical frame periods if that is longer',
        unit='s',
        low=0.02,
        high=600.0,
    )
    bridge_wait_s: float = param(
        1.0, 'how long the bridge waits for a command; 1.0 upstream', unit='s', low=0.1
    )
    default_wheelbase_m: float = param_of(Td3AgentParams, 'default_wheelbase_m')
    odometry_topic: str = param_of(Td3AgentParams, 'odometry_topic')

    def __post_init__(self) -> None:
        """Reject a deadline that the bridge would not wait for.

        Raises:
            ParameterError: naming each field and value.
        """
        super().__post_init__()
        longest_s = DEADLINE_SHARE * self.bridge_wait_s
        if self.deadline_s > longest_s:
            raise ParameterError(
                f'deadline_s must be <= {DEADLINE_SHARE} * bridge_wait_s = {longest_s:g} [s], '
                f'got {self.deadline_s}'
            )

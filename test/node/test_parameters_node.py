# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters as ROS sees them: rejected at the edge, read-only, described, and in the files."""

import dataclasses
import importlib
from pathlib import Path
import subprocess
import sys

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
import yaml

from td3_agent.driving.parameters import ParameterError, Params, param
from td3_agent.files import shared_path
from td3_agent.nodes.parameters import declare

ROOT = Path(__file__).parents[2]
NODES = {
    'route_node': ('RouteNode', 'RouteNodeParams'),
    'sim_bridge_node': ('SimBridgeNode', 'SimBridgeParams'),
    'synchronizer_node': ('SynchronizerNode', 'SynchronizerParams'),
    'td3_agent_node': ('Td3AgentNode', 'Td3AgentParams'),
    'gate_node': ('GateNode', 'GateParams'),
}
each_node = pytest.mark.parametrize('name', NODES)


@dataclasses.dataclass(frozen=True, kw_only=True)
class CarParams(Params):
    """One parameter of each type."""

    role_name: str = param('hero', 'who it is')
    mode: str = param('slow', 'how it goes', choices=('slow', 'fast'))
    top_speed: float = param(8.0, 'how fast it goes', unit='m/s', low=0.5, high=60.0)
    wheels: int = param(4, 'what it goes on', low=1)
    loud: bool = param(default=False, text='whether it is heard')
    friends: tuple[str, ...] = param(('a', 'b'), 'who else is there')


class CarNode(Node):
    """A node with CarParams."""

    def __init__(self, **kwargs):
        super().__init__('car', automatically_declare_parameters_from_overrides=True, **kwargs)
        try:
            self.params = declare(self, CarParams)
        except ParameterError:
            self.destroy_node()
            raise


def node_class(name):
    """Class of a node program."""
    return getattr(importlib.import_module(f'td3_agent.nodes.{name}'), NODES[name][0])


def params_class(name):
    """Parameter class of a node program."""
    return getattr(importlib.import_module(f'td3_agent.nodes.{name}'), NODES[name][1])


def values_in_file(name):
    """Parameters of the node's configuration file."""
    return yaml.safe_load(shared_path(f'config/{name}.yaml').read_text('utf-8'))['/**'][
        'ros__parameters'
    ]


class TestDeclare:
    def test_defaults(self, ros):
        assert ros.make(CarNode).params == CarParams()

    def test_given_values(self, ros):
        given = {'mode': 'fast', 'top_speed': 2.5, 'loud': True, 'friends': ['c']}
        node = ros.make(CarNode, **given)
        assert node.params == CarParams(**given)
        assert node.params.friends == ('c',)
        assert node.get_parameter('friends').value == ['c']
        assert node.get_parameter('top_speed').value == 2.5

    def test_an_integer_serves_as_a_float(self, ros):
        node = ros.make(CarNode, top_speed=2)
        assert node.params.top_speed == 2.0
        assert node.get_parameter('top_speed').type_ == Parameter.Type.DOUBLE

    def test_misspelt_name(self, ros):
        with pytest.raises(ParameterError, match=r"no parameter 'top_sped'.*'top_speed'"):
            ros.make(CarNode, top_sped=2.0)

    @pytest.mark.parametrize('given', [{}, {'top_speed': 3.0, 'mode': 'fast'}])
    def test_read_only_afterwards(self, ros, given):
        node = ros.make(CarNode, **given)
        for changed in (
            Parameter('top_speed', value=9.0),
            Parameter('mode', value='slow'),
            Parameter('friends', value=['z']),
        ):
            before = node.get_parameter(changed.name).value
            (result,) = node.set_parameters([changed])
            assert not result.successful
            assert 'read-only' in result.reason
            assert node.get_parameter(changed.name).value == before

    @pytest.mark.parametrize('given', [{}, {'top_speed': 3.0, 'mode': 'fast'}])
    def test_described_to_ros(self, ros, given):
        node = ros.make(CarNode, **given)
        speed = node.describe_parameter('top_speed')
        assert speed.description == 'how fast it goes'
        assert speed.additional_constraints == 'in [0.5, 60] [m/s]'
        assert speed.read_only
        assert node.describe_parameter('mode').additional_constraints == 'one of slow, fast'

    def test_use_sim_time_is_rclpys_own(self, ros):
        node = ros.make(CarNode, use_sim_time=True)
        assert node.get_parameter('use_sim_time').value is True


class TestNodes:
    @each_node
    def test_unknown_parameter_is_rejected_by_every_node(self, ros, name):
        field = dataclasses.fields(params_class(name))[0].name
        with pytest.raises(ParameterError, match=f'{field}x.*did you mean {field!r}'):
            ros.make(node_class(name), **{f'{field}x': 'a'})

    @each_node
    def test_configuration_file_equals_the_defaults(self, name):
        assert params_class(name)(**values_in_file(name)) == params_class(name)()

    @each_node
    def test_configuration_file_names_every_parameter(self, name):
        fields = [field.name for field in dataclasses.fields(params_class(name))]
        assert list(values_in_file(name)) == fields

    @each_node
    def test_configuration_file_is_loadable(self, ros, name):
        values = values_in_file(name)
        if name == 'td3_agent_node':
            values['autostart'] = False  # no need to build a network here
        if name == 'sim_bridge_node':
            values['start_paused'] = True
        node = ros.make(node_class(name), **values)
        for key, value in values.items():
            assert node.get_parameter(key).value == value
            assert node.describe_parameter(key).read_only


class TestRejectedStart:
    @pytest.mark.parametrize(
        ('name', 'argument', 'named'),
        [
            ('synchronizer_node', 'ledger_path:=/dev/null/ledger.jsonl', '/dev/null'),
            ('sim_bridge_node', 'map:=/dev/null/town.xodr', '/dev/null/town.xodr'),
            ('gate_node', 'deadline_s:=0.0', 'deadline_s must be in [0.02, 600] [s]'),
            ('gate_node', 'deadline_s:=7.0', 'deadline_s must be <= 0.9 * bridge'),
        ],
    )
    def test_program_ends_with_one_sentence(self, name, argument, named):
        command = [sys.executable, '-m', f'td3_agent.nodes.{name}', '--ros-args', '-p', argument]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60.0, check=False)
        assert ended.returncode == 2
        assert len(ended.stderr.splitlines()) == 1
        assert named in ended.stderr

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Launch arguments and parameter files are checked, and come over each other as documented."""

import pytest

from td3_agent.driving.parameters import ParameterError
from td3_agent.launch_settings import (
    PROGRAMS,
    ParamsFile,
    as_declared,
    failure_of,
    names_of,
    read_params_file,
    reject_existing,
    reject_other_choice,
    reject_unknown_arguments,
    reject_unwritable,
    type_of,
)

pytest.importorskip('rclpy', reason='nodes need ROS 2')
pytest.importorskip('carla_msgs', reason='nodes need carla_msgs')


def node_values(executable, file=None, own=(), given=()):
    from td3_agent.launch_settings import node_values

    return node_values(executable, file or ParamsFile(None), dict(own), dict(given))


@pytest.fixture
def params_file(tmp_path):
    def written(text, namespace=''):
        path = tmp_path / 'params.yaml'
        path.write_text(text, 'utf-8')
        return ParamsFile.read(str(path), namespace)

    return written


class TestArguments:
    @pytest.mark.parametrize(
        ('text', 'kind', 'value'),
        [
            ('07', str, '07'),
            ('hero', tuple[str, ...], ('hero',)),
            ('True', bool, True),
            ('0', bool, False),
            ('-12', int, -12),
            ('1e-1', float, 0.1),
            ('2', float, 2.0),
        ],
    )
    def test_are_read_as_the_parameter_is_declared(self, text, kind, value):
        assert as_declared('x', text, kind) == value
        assert type(as_declared('x', text, kind)) is type(value)

    @pytest.mark.parametrize('text', ['x', '', ' ', '1.5', 'nan', '1e3', '0x10', str(2**63)])
    def test_that_are_no_whole_number(self, text):
        with pytest.raises(ValueError, match=r'^seed must be a whole number .*, got '):
            as_declared('seed', text, int)

    @pytest.mark.parametrize('text', ['x', '', ' ', 'nan', 'inf', '-inf', '1e400', '1,5', '1 s'])
    def test_that_are_no_number(self, text):
        with pytest.raises(ValueError, match=r'^duration must be a finite number, got '):
            as_declared('duration', text, float)

    def test_that_are_too_small(self):
        assert as_declared('duration', '0', float, 0.0) == 0.0
        with pytest.raises(ValueError, match=r"^duration must be a finite number >= 0, got '-3'$"):
            as_declared('duration', '-3', float, 0.0)

    def test_that_are_neither_true_nor_false(self):
        with pytest.raises(ValueError, match=r"^loop must be true or false, got 'maybe'$"):
            as_declared('loop', 'maybe', bool)

    def test_that_are_none_of_the_choices(self):
        reject_other_choice('policy', 'whatever', ())
        reject_other_choice('driver', 'td3', ('td3', 'pure_pursuit'))
        with pytest.raises(ValueError, match=r"^driver must be one of td3, .*mean 'td3'\?$"):
            reject_other_choice('driver', 'td4', ('td3', 'pure_pursuit'))

    def test_that_nothing_reads(self):
        reject_unknown_arguments(['policy', 'launch-prefix', 'sigterm_timeout'], ['policy'])
        with pytest.raises(
            ValueError, match=r"argument 'polcy', did you mean 'policy'\?; 'q7'; --show-args"
        ):
            reject_unknown_arguments(['polcy', 'policy', 'q7'], ['policy', 'seed'])


class TestPrecedence:
    def test_argument_then_file_then_launch_file_then_config(self, params_file):
        file = params_file('td3_agent: {ros__parameters: {mode: lockstep, policy: route}}')
        own = {'mode': 'free_running', 'camera_reliability': 'best_effort', 'policy': 'route'}
        values = node_values('td3_agent_node', file, own, {'policy': 'untrained'})
        assert values['policy'] == 'untrained'
        assert values['mode'] == 'lockstep'
        assert values['camera_reliability'] == 'best_effort'
        assert values['driver'] == 'td3'

    def test_node_comes_over_every_node(self, params_file):
        file = params_file(
            'td3_agent: {ros__parameters: {role_name: hero}}\n'
            '/**: {ros__parameters: {role_name: ego, max_speed_mps: 2, use_sim_time: true}}'
        )
        assert node_values('td3_agent_node', file)['role_name'] == 'hero'
        gate = node_values('gate_node', file)
        assert (gate['role_name'], gate['max_speed_mps']) == ('ego', 2)
        file.check(['td3_agent_node', 'gate_node'])

    def test_namespace(self, params_file):
        text = 'a: {td3_agent: {ros__parameters: {policy: route}}}'
        assert node_values('td3_agent_node', params_file(text, '/a'))['policy'] == 'route'
        assert node_values('td3_agent_node', params_file(text, '/b'))['policy'] == 'lane'

    def test_numbers_are_read_as_ros_does(self, params_file):
        text = '/gate: {ros__parameters: {deadline_s: 2e-1, silence_s: .5}}'
        values = node_values('gate_node', params_file(text))
        assert (values['deadline_s'], values['silence_s']) == (0.2, 0.5)

    def test_nested_parameters_have_dots(self, params_file):
        file = params_file('td3_agent: {ros__parameters: {qos_overrides: {/x: {depth: 3}}}}')
        assert node_values('td3_agent_node', file)['qos_overrides./x.depth'] == 3


class TestParamsFile:
    def test_none(self):
        file = ParamsFile.read('')
        file.check(['td3_agent_node'])
        assert file.of('td3_agent', ['policy']) == {}

    @pytest.mark.parametrize(
        ('text', 'told'),
        [
            ('', 'must name nodes'),
            ('- 1', 'must name nodes'),
            ('a: [', 'must be YAML'),
            ('policy: lane', "'policy' must be below a node and its ros__parameters"),
            ('td3_agent: {policy: lane}', "'policy' must be below a node"),
        ],
    )
    def test_that_is_no_parameter_file(self, text, told, params_file):
        with pytest.raises(ParameterError, match=told):
            params_file(text)

    def test_that_cannot_be_read(self, tmp_path):
        (tmp_path / 'bytes.yaml').write_bytes(b'\xff\xfe\x00')
        for path in (tmp_path, tmp_path / 'none.yaml', tmp_path / 'bytes.yaml'):
            with pytest.raises(ParameterError, match=r'^params_file .*must be'):
                read_params_file(path)

    @pytest.mark.parametrize(
        ('text', 'told'),
        [
            (
                'td3_agent_node: {ros__parameters: {}}',
                "'td3_agent_node', did you mean 'td3_agent'",
            ),
            ('syncronizer: {ros__parameters: {}}', "'syncronizer', did you mean 'synchronizer'"),
            ('lidar: {ros__parameters: {}}', r'must name one of td3_agent or /\*\*, got lidar'),
            ('/**: {ros__parameters: {polcy: x}}', "parameter 'polcy', did you mean 'policy'"),
        ],
    )
    def test_with_what_no_node_reads(self, text, told, params_file):
        with pytest.raises(ParameterError, match=told):
            params_file(text).check(['td3_agent_node'])

    def test_with_other_nodes_too(self, params_file):
        text = 'lidar: {ros__parameters: {x: 1}}\ntd3_agent: {ros__parameters: {policy: lane}}'
        params_file(text).check(['td3_agent_node'])

    def test_with_a_misspelt_parameter(self, params_file):
        file = params_file('td3_agent: {ros__parameters: {polcy: lane}}')
        with pytest.raises(ParameterError, match="'polcy', did you mean 'policy'"):
            node_values('td3_agent_node', file)


class TestWhatANodeCouldNotUse:
    def test_value(self):
        with pytest.raises(ParameterError, match=r'real_time_factor must be in .*, got -1'):
            node_values('synchronizer_node', given={'real_time_factor': -1.0})

    def test_policy(self, tmp_path):
        for policy in ('lan', str(tmp_path / 'none')):
            with pytest.raises(ValueError, match=r'^policy must be one of lane, .*, got '):
                node_values('td3_agent_node', given={'policy': policy})
        node_values('td3_agent_node', given={'policy': 'nothing', 'driver': 'pure_pursuit'})

    def test_map(self):
        pytest.importorskip('carla', reason='the embedded simulator needs carla')
        with pytest.raises(ValueError, match=r"^map must be one of .*, got 'nowhere'"):
            node_values('sim_bridge_node', given={'map': 'nowhere'})

    def test_ledger(self, tmp_path):
        (tmp_path / 'file').touch()
        with pytest.raises(ValueError, match=r'^ledger_path must be writable, got .*/file/x'):
            node_values('synchronizer_node', given={'ledger_path': str(tmp_path / 'file' / 'x')})

    def test_folder_in_place_of_a_file(self, tmp_path):
        with pytest.raises(ValueError, match=r'^out must be writable, got .*directory'):
            reject_unwritable('out', tmp_path)

    def test_nothing_is_left_by_the_look(self, tmp_path):
        reject_unwritable('out', tmp_path / 'new' / 'file')
        assert not list((tmp_path / 'new').iterdir())

    def test_folder_that_exists(self, tmp_path):
        reject_existing('bag', tmp_path / 'new')
        with pytest.raises(ValueError, match=r'^bag must be a new folder, got .*exists already$'):
            reject_existing('bag', tmp_path)


@pytest.mark.parametrize('executable', PROGRAMS)
def test_configuration_that_ships_is_good(executable):
    pytest.importorskip('carla', reason='the embedded simulator needs carla')
    assert set(node_values(executable)) <= set(names_of(executable))
    for name in names_of(executable):
        type_of(executable, name)


@pytest.mark.parametrize(
    ('status', 'ending', 'may_end', 'told'),
    [
        (0, False, True, ''),
        (0, True, False, ''),
        (0, False, False, 'x ended, but was still needed'),
        (2, False, True, 'x ended with exit status 2'),
        (1, True, True, 'x ended with exit status 1'),
        (-9, False, True, 'x was ended by signal 9'),
        (130, False, True, 'x was ended by signal 2'),
        (-2, True, False, ''),
        (130, True, False, ''),
        (143, True, False, ''),
    ],
)
def test_how_a_process_has_failed(status, ending, may_end, told):
    assert failure_of('x', status, ending=ending, may_end=may_end) == told

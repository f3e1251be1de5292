# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files name nodes, parameters and files that exist."""

import dataclasses
import importlib
import inspect
import os
from pathlib import Path
import re
import runpy
import sys
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest

from td3_agent.__main__ import parser
from td3_agent.fastdds import FAST_DDS_2, FAST_DDS_3, PROFILE_VARIABLES

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / 'launch').glob('*.launch.py'))
NODES_OF = {
    'demo.launch.py': {
        'sim_bridge_node',
        'synchronizer_node',
        'td3_agent_node',
        'gate_node',
    },
    'carla.launch.py': {'synchronizer_node', 'td3_agent_node', 'gate_node'},
    'agent.launch.py': {'td3_agent_node', 'gate_node'},
    'replay.launch.py': {'td3_agent_node'},
}
STOOD_IN = (
    'ament_index_python',
    'ament_index_python.packages',
    'launch',
    'launch.action',
    'launch.actions',
    'launch_ros',
    'launch_ros.actions',
    'launch_ros.parameter_descriptions',
)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """What is looked at for being writable is not in the checkout."""
    monkeypatch.chdir(tmp_path)


each_file = pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)


@pytest.fixture
def nodes(path, monkeypatch):
    """Arguments of each ``Node`` that a launch file makes, with stand-ins for launch."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return started(path, monkeypatch)


def described(path, monkeypatch):
    """Functions that the launch file would have launch call: before the arguments, and behind."""
    for name in STOOD_IN:
        monkeypatch.setitem(sys.modules, name, MagicMock(name=name))
    monkeypatch.delitem(sys.modules, 'td3_agent.launching', raising=False)
    share = sys.modules['ament_index_python.packages'].get_package_share_directory
    share.return_value = str(ROOT)
    values = sys.modules['launch_ros.parameter_descriptions'].ParameterValue
    values.side_effect = lambda value, **_: value
    runpy.run_path(str(path))['generate_launch_description']()
    sys.modules.pop('td3_agent.launching', None)  # for good: nothing else gets the stand-ins
    calls = sys.modules['launch.actions'].OpaqueFunction.call_args_list
    return [call.kwargs['function'] for call in calls]


def started(path, monkeypatch, argv=()):
    """Arguments of each ``Node`` by its program, of a launch with these arguments."""
    pytest.importorskip('rclpy', reason='nodes need ROS 2')
    pytest.importorskip('carla_msgs', reason='nodes need carla_msgs')
    if path.name == 'demo.launch.py':
        pytest.importorskip('carla', reason='the embedded simulator needs carla')
    if path.name == 'replay.launch.py':
        argv = [f'bag:={ROOT}/test/bags/oval', *argv]
    given = dict(word.split(':=', 1) for word in argv)
    context = SimpleNamespace(argv=list(argv), launch_configurations=given)
    note, begin = described(path, monkeypatch)
    note(context)
    begin(context)
    calls = sys.modules['launch_ros.actions'].Node.call_args_list
    return {call.kwargs['executable']: call.kwargs for call in calls}


def declared_parameters(executable):
    """Names of all parameters that the node behind an executable knows."""
    pytest.importorskip('rclpy', reason='nodes need ROS 2')
    pytest.importorskip('carla_msgs', reason='nodes need carla_msgs')
    module = importlib.import_module(f'td3_agent.nodes.{executable}')
    classes = [
        cls
        for name, cls in inspect.getmembers(module, dataclasses.is_dataclass)
        if name.endswith('Params')
    ]
    return {field.name for cls in classes for field in dataclasses.fields(cls)}


def test_the_launch_files_are_known():
    assert {path.name for path in FILES} == set(NODES_OF)


@each_file
def test_compiles(path):
    compile(path.read_text('utf-8'), str(path), 'exec')


@pytest.mark.parametrize('name', ['demo.launch.py', 'carla.launch.py'])
def test_composed_is_one_process_with_the_parameters_of_each_node(name, monkeypatch):
    argv = ['composed:=true', 'role_name:=hero', 'twist_convention:=carla_twist_to_control']
    nodes = started(ROOT / 'launch' / name, monkeypatch, argv)
    words = nodes['composed_node']['ros_arguments']
    assert set(words[::2]) == {'-p'}
    given = dict(word.split(':=') for word in words[1::2])
    assert given['td3_agent:role_name'] == given['gate:role_name'] == "'hero'"
    assert given['synchronizer:role_names'] == "['hero']"
    assert given['td3_agent:twist_convention'] == given['gate:twist_convention']
    for executable, node in (('td3_agent_node', 'td3_agent'), ('gate_node', 'gate')):
        own = {key.partition(':')[2] for key in given if key.startswith(f'{node}:')}
        assert own <= declared_parameters(executable)


@each_file
def test_starts_the_right_nodes(path, nodes):
    assert set(nodes) == NODES_OF[path.name]
    assert {call['package'] for call in nodes.values()} == {'td3_agent'}


@pytest.mark.parametrize(
    ('argv', 'starts'),
    [
        (['policy:=route'], True),
        (['driver:=pure_pursuit'], True),
        (['policy:=lane'], False),
        (['policy:=untrained'], False),
        (['policy:=route', 'route:=false'], False),
    ],
)
def test_route_is_planned_for_drivers_that_follow_one(argv, starts, monkeypatch):
    words = [*argv, 'goal:=12.5, -3', 'role_name:=hero']
    nodes = started(ROOT / 'launch' / 'carla.launch.py', monkeypatch, words)
    assert ('route_node' in nodes) == starts
    if starts:
        (values,) = nodes['route_node']['parameters']
        assert (values['goal'], values['role_name']) == ('12.5, -3', 'hero')


def test_route_follows_the_parameter_file(tmp_path, monkeypatch):
    file = tmp_path / 'params.yaml'
    file.write_text(
        '/**: {ros__parameters: {driver: pure_pursuit}}\nroute: {ros__parameters: {seed: 7}}\n'
    )
    path = ROOT / 'launch' / 'carla.launch.py'
    (values,) = started(path, monkeypatch, [f'params_file:={file}'])['route_node']['parameters']
    assert values['seed'] == 7


def test_route_without_the_wheel_is_rejected_before_any_process_is_made(monkeypatch):
    route_node = importlib.import_module('td3_agent.nodes.route_node')
    monkeypatch.setattr(route_node, 'find_spec', lambda _: None)
    path = ROOT / 'launch' / 'carla.launch.py'
    with pytest.raises(ValueError, match='route:=false'):
        started(path, monkeypatch, ['policy:=route'])


@each_file
def test_sets_only_parameters_that_the_nodes_have(nodes):
    for executable, call in nodes.items():
        (values,) = call['parameters']
        assert set(values) <= declared_parameters(executable)
        assert values, 'the configuration file is not read'


@each_file
def test_every_process_is_watched_and_watches_its_parent(nodes):
    for call in nodes.values():
        assert call['additional_env'] == {'TD3_AGENT_PARENT': str(os.getpid())}
        assert callable(call['on_exit'])


@each_file
def test_defaults_shown_are_those_that_hold(path, nodes):
    """Of an argument that is a parameter; one of several words is not compared."""
    shown = declared_arguments()
    for executable, call in nodes.items():
        (values,) = call['parameters']
        for name in shown.keys() & values.keys():
            value, default = values[name], shown[name]['default_value']
            assert type(value)(default) == value, (executable, name)
        assert path.name != 'agent.launch.py' or values['mode'] == 'free_running'


@each_file
def test_arguments_that_are_not_given_leave_a_parameter_file_alone(path, tmp_path, monkeypatch):
    file = tmp_path / 'params.yaml'
    file.write_text('/**: {ros__parameters: {twist_convention: carla_twist_to_control}}\n')
    argv = [f'params_file:={file}', 'policy:=route', 'role_name:=hero']
    for executable, call in started(path, monkeypatch, argv).items():
        (values,) = call['parameters']
        assert values.get('twist_convention', 'carla_twist_to_control') == 'carla_twist_to_control'
        assert values.get('policy', 'route') == 'route'
        assert values.get('role_name', 'hero') == 'hero', executable
        assert tuple(values.get('role_names', ['hero'])) == ('hero',)


@each_file
@pytest.mark.parametrize(
    ('argv', 'told'),
    [
        (['polcy:=route'], "unknown launch argument 'polcy', did you mean 'policy'"),
        (['driver:=foo'], "driver must be one of td3, pure_pursuit, got 'foo'"),
        (['inference:=tensorrt'], "inference must be one of auto, onnx, torch, got 'tensorrt'"),
        (['policy:=nonexist'], "policy must be one of lane, .*, got 'nonexist'"),
        (['role_name:=a b'], "role_name must make a topic name, got 'a b': .*topic name must not"),
        (['params_file:=/none.yaml'], "params_file must be a file, got '/none.yaml'"),
    ],
)
def test_bad_argument_is_rejected_before_any_process_is_made(path, argv, told, monkeypatch):
    with pytest.raises(ValueError, match=told):
        started(path, monkeypatch, argv)


@pytest.mark.parametrize(
    ('name', 'argv', 'told'),
    [
        ('demo', ['duration:=nan'], 'duration must be a finite number >= 0'),
        ('demo', ['seed:=-1'], 'seed must be >= 0, got -1'),
        ('demo', ['out:=/proc/nowhere'], "out must be writable, got '/proc/nowhere/"),
        ('demo', ['record:=1', 'bag:=.'], r'bag must be a new folder, got .*exists already'),
        ('carla', ['goal:=there', 'policy:=route'], "goal must be random, topic, 'x, y'"),
        ('carla', ['route:=maybe'], 'route must be one of true, 1, false, 0'),
        ('carla', ['max_frames:=1.5'], "max_frames must be a whole number .*, got '1.5'"),
        ('carla', ['odometry_topic:=a//b'], "odometry_topic must make a topic name, got 'a//b'"),
        ('replay', ['bag:=/nowhere'], '/nowhere: there is no bag'),
        ('replay', ['rate:=x'], "rate must be a finite number, got 'x'"),
        ('replay', ['rate:=0'], 'rate must be in'),
    ],
)
def test_bad_argument_of_one_file(name, argv, told, monkeypatch):
    with pytest.raises(ValueError, match=told):
        started(ROOT / 'launch' / f'{name}.launch.py', monkeypatch, argv)


def test_arguments_of_a_launch_file_around_ours_are_not_looked_at(monkeypatch):
    path = ROOT / 'launch' / 'carla.launch.py'
    note, _ = described(path, monkeypatch)
    note(SimpleNamespace(argv=['foo:=1'], launch_configurations={'foo': '1', 'policy': 'route'}))


class Exited:
    """Says of processes of a launch that they have ended."""

    def __init__(self, monkeypatch, argv=()):
        nodes = started(ROOT / 'launch' / 'demo.launch.py', monkeypatch, argv)
        asides = sys.modules['launch.actions'].ExecuteProcess.call_args_list
        self._processes = nodes | {call.kwargs['name']: call.kwargs for call in asides}
        self.shutdown = sys.modules['launch.actions'].Shutdown

    def __call__(self, name, status, *, ending=False):
        event = SimpleNamespace(returncode=status)
        on_exit = self._processes[name]['on_exit']
        return on_exit(event, SimpleNamespace(is_shutdown=ending))


def test_good_drive_ends_the_launch_well(monkeypatch):
    ended = Exited(monkeypatch)
    assert ended('synchronizer_node', 0) == [ended.shutdown(reason='the drive is over')]
    assert ended('td3_agent_node', 0, ending=True) is None
    assert ended('sim_bridge_node', 130, ending=True) is None


@pytest.mark.parametrize(
    ('name', 'status'), [('td3_agent_node', -9), ('sim_bridge_node', 0), ('synchronizer_node', 1)]
)
def test_process_that_fails_ends_the_launch_with_one_error(name, status, monkeypatch):
    ended = Exited(monkeypatch)
    with pytest.raises(RuntimeError, match=f'^{name} '):
        ended(name, status)
    assert ended('gate_node', 1, ending=True) is None


def test_drive_without_its_recording_ends_with_an_error(monkeypatch):
    ended = Exited(monkeypatch, ['record:=true'])
    with pytest.raises(RuntimeError, match=r'^recorder was ended by signal 9'):
        ended('recorder', -9)


def test_drive_without_its_live_view_goes_on_and_ends_with_an_error(monkeypatch):
    monkeypatch.setattr('td3_agent.bags.watch.require_rerun', lambda: None)
    ended = Exited(monkeypatch, ['watch:=true'])
    assert ended('watch', 2)
    with pytest.raises(RuntimeError, match=r'^watch ended with exit status 2'):
        ended('synchronizer_node', 0)


def test_incomplete_recording_is_reported_when_interrupted(monkeypatch):
    ended = Exited(monkeypatch, ['record:=true'])
    assert ended('synchronizer_node', 0, ending=True) is None
    with pytest.raises(RuntimeError, match=r'^recorder ended with exit status 1'):
        ended('recorder', 1, ending=True)


def declared_arguments():
    """What the launch file described last declares, by name."""
    calls = sys.modules['launch.actions'].DeclareLaunchArgument.call_args_list
    return {call.args[0]: call.kwargs for call in calls}


def test_page_for_carla_names_all_arguments(monkeypatch):
    described(ROOT / 'launch' / 'carla.launch.py', monkeypatch)
    declared = {name: kwargs['default_value'] for name, kwargs in declared_arguments().items()}
    page = (ROOT / 'docs' / 'carla.md').read_text('utf-8')
    section = page.split('## Arguments of `carla.launch.py`')[1].split('\n## ')[0]
    told = {}
    for names, defaults in re.findall(r'^\| (`.*?) \| *(.*?) *\|', section, re.MULTILINE):
        listed = re.findall('`([^`]*)`', names)
        values = re.findall('`([^`]*)`', defaults) or [''] * len(listed)
        told |= dict(zip(listed, values, strict=True))
    assert told == declared


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)
def test_programs_beside_the_nodes_take_their_arguments(path, monkeypatch):
    pytest.importorskip('rosbags', reason='recorder and player need rosbags')
    is_replay = path.name == 'replay.launch.py'
    argv = ['rate:=2', 'loop:=True'] if is_replay else ['record:=true', 'watch:=true']
    monkeypatch.setattr('td3_agent.bags.watch.require_rerun', lambda: None)
    started(path, monkeypatch, argv)
    found = []
    for call in sys.modules['launch.actions'].ExecuteProcess.call_args_list:
        command = call.kwargs['cmd']
        assert command[:3] == [sys.executable, '-m', 'td3_agent']
        args = parser(command[3]).parse_args(command[3:])
        assert args.role_name == 'ego_vehicle'
        found.append(call.kwargs['name'])
    assert found == (['player'] if is_replay else ['recorder', 'watch'])


def environment_set():
    """Variables that the launch file described last would set for its nodes."""
    calls = sys.modules['launch.actions'].SetEnvironmentVariable.call_args_list
    return dict(call.args for call in calls)


@each_file
@pytest.mark.parametrize(
    ('distro', 'variable'), [('humble', FAST_DDS_2), ('jazzy', FAST_DDS_2), ('kilted', FAST_DDS_3)]
)
def test_nodes_get_a_profile_for_large_images(path, distro, variable, monkeypatch):
    for each in PROFILE_VARIABLES:
        monkeypatch.delenv(each, raising=False)
    monkeypatch.setenv('ROS_DISTRO', distro)
    described(path, monkeypatch)
    name = 'fastdds_loopback.xml' if path.name == 'demo.launch.py' else 'fastdds_camera.xml'
    profile = ROOT / 'config' / name
    assert profile.is_file()
    assert environment_set() == {variable: str(profile)}


@each_file
@pytest.mark.parametrize('variable', PROFILE_VARIABLES)
def test_profile_that_the_user_named_stays(path, variable, monkeypatch):
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, '/of/the/user.xml')
    described(path, monkeypatch)
    assert environment_set() == {}


@each_file
def test_launch_can_load_it(path):
    """The real thing, where it is installed: it is not among the wheels."""
    pytest.importorskip('launch_ros', reason='launch_ros is not installed (no wheels of it)')
    launch = pytest.importorskip('launch')
    sources = importlib.import_module('launch.launch_description_sources')
    description = sources.PythonLaunchDescriptionSource(str(path)).get_launch_description(
        launch.LaunchContext()
    )
    arguments = {argument.name for argument in description.get_launch_arguments()}
    assert {'role_name', 'driver', 'policy', 'twist_convention'} <= arguments

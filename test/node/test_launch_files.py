# SPDX-License-Identifier: Apache-2.0
"""The launch files name nodes, parameters and files that exist."""

import dataclasses
import importlib
import inspect
from pathlib import Path
import re
import runpy
import sys
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
        'twist_to_control_node',
    },
    'carla.launch.py': {'synchronizer_node', 'td3_agent_node', 'twist_to_control_node'},
    'agent.launch.py': {'td3_agent_node', 'twist_to_control_node'},
    'replay.launch.py': {'td3_agent_node'},
}
STOOD_IN = (
    'ament_index_python',
    'ament_index_python.packages',
    'launch',
    'launch.actions',
    'launch.conditions',
    'launch.event_handlers',
    'launch.substitutions',
    'launch_ros',
    'launch_ros.actions',
    'launch_ros.parameter_descriptions',
)

each_file = pytest.mark.parametrize('path', FILES, ids=lambda path: path.name)


@pytest.fixture
def nodes(path, monkeypatch):
    """Arguments of each ``Node`` that a launch file makes, with stand-ins for launch."""
    for name in PROFILE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return described(path, monkeypatch)


def described(path, monkeypatch):
    for name in STOOD_IN:
        monkeypatch.setitem(sys.modules, name, MagicMock(name=name))
    monkeypatch.delitem(sys.modules, 'td3_agent.launching', raising=False)
    share = sys.modules['ament_index_python.packages'].get_package_share_directory
    share.return_value = str(ROOT)
    runpy.run_path(str(path))['generate_launch_description']()
    sys.modules.pop('td3_agent.launching', None)  # for good: nobody else gets the stand-ins
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


@each_file
def test_starts_the_right_nodes(path, nodes):
    assert set(nodes) == NODES_OF[path.name]
    assert {call['package'] for call in nodes.values()} == {'td3_agent'}


@each_file
def test_loads_parameter_files_that_exist(nodes):
    for call in nodes.values():
        assert Path(call['parameters'][0]).is_file()


@each_file
def test_sets_only_parameters_that_the_nodes_have(nodes):
    for executable, call in nodes.items():
        assert set(call['parameters'][1]) <= declared_parameters(executable)


def commands_run(path, monkeypatch):
    """Command lines of the programs that are no nodes, and what they depend on."""
    described(path, monkeypatch)
    calls = sys.modules['launch.actions'].ExecuteProcess.call_args_list
    return [(call.kwargs['cmd'], call.kwargs.get('condition')) for call in calls]


def test_page_for_carla_names_all_arguments(monkeypatch):
    described(ROOT / 'launch' / 'carla.launch.py', monkeypatch)
    declared = {
        call.args[0]: call.kwargs['default_value']
        for call in sys.modules['launch.actions'].DeclareLaunchArgument.call_args_list
    }
    page = (ROOT / 'docs' / 'carla.md').read_text('utf-8')
    section = page.split('## Arguments of `carla.launch.py`')[1].split('\n## ')[0]
    told = {}
    for names, defaults in re.findall(r'^\| (`.*?) \| *(.*?) *\|', section, re.MULTILINE):
        listed = re.findall('`([^`]*)`', names)
        values = re.findall('`([^`]*)`', defaults) or [''] * len(listed)
        told |= dict(zip(listed, values, strict=True))
    assert told.pop('control_topic') == '/carla/<role_name>/vehicle_control_cmd'
    del declared['control_topic']  # made of substitutions
    assert told == declared


@each_file
def test_programs_beside_the_nodes_take_their_arguments(path, monkeypatch):
    wanted = ['replay'] if path.name == 'replay.launch.py' else ['record', 'watch']
    found = []
    for command, condition in commands_run(path, monkeypatch):
        assert command[:3] == [sys.executable, '-m', 'td3_agent']
        verb, *words = [word if isinstance(word, str) else 'no' for word in command[3:]]
        assert (condition is not None) == (verb != 'replay')
        words = ['--no-loop' if words[i - 1] == '--live' else w for i, w in enumerate(words)]
        values = {'--storage': 'mcap', '--rate': '1.0', '--start-offset': '0.0'}
        words = [values.get(words[i - 1], word) for i, word in enumerate(words)]
        assert parser(verb).parse_args([verb, *words]).verb == verb
        found.append(verb)
    assert found == wanted


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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The package describes itself correctly, and the same everywhere."""

import ast
import configparser
import json
import os
from pathlib import Path
import re
import runpy
import shutil
import subprocess
import sys
import warnings
from xml.etree import ElementTree as ET

import pytest

import td3_agent
from td3_agent.__main__ import main
from td3_agent.files import shared_path
from td3_agent.policy.policy_file import SHIPPED, policy_file

ROOT = Path(__file__).parents[2]
MANIFEST = ET.parse(ROOT / 'package.xml').getroot()
DISTROS_AS_WHEELS = ('jazzy', 'kilted')
# Imported packages whose rosdep key has another name.
ROSDEP_KEYS = {'numpy': 'python3-numpy', 'torch': 'python3-torch', 'yaml': 'python3-yaml'}
OPTIONAL = {  # no rosdep key, or only for the embedded simulator and its programs
    'backports',
    'compression',
    'lz4',
    'rerun',
    'rerun_cli',
    'rosbags',
    'carla',
    'cv2',
    'gymnasium',
    'matplotlib',
    'msgspec',
    'onnx',
    'onnxruntime',
    'ray',
    'safetensors',
    'scenariogeneration',
    'scipy',
    'stable_baselines3',
    'tqdm',
    'typing_extensions',  # for type checkers only
    'vehiclemodels',
}


@pytest.fixture(scope='module')
def setup_arguments():
    """What setup.py gives to setuptools."""
    program = (
        'import json, runpy, setuptools\n'
        'setuptools.setup = lambda **arguments: print(json.dumps(arguments))\n'
        'runpy.run_path("setup.py")\n'
    )
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(done.stdout)


@pytest.fixture(scope='module')
def console_scripts(setup_arguments):
    lines = setup_arguments['entry_points']['console_scripts']
    return dict(line.split(' = ') for line in lines)


def manifest_keys(tag):
    return [element.text for element in MANIFEST.findall(tag)]


def top_level_imports():
    """Packages that any file of td3_agent imports."""
    names = set()
    for path in (ROOT / 'td3_agent').rglob('*.py'):
        for node in ast.walk(ast.parse(path.read_text('utf-8'))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition('.')[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition('.')[0])
    return names - set(sys.stdlib_module_names) - {'td3_agent'}


def test_ros_accepts_the_manifest():
    catkin_pkg = pytest.importorskip('catkin_pkg.package')
    manifest_warnings = []
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of docutils inside catkin_pkg
        package = catkin_pkg.parse_package(str(ROOT / 'package.xml'), warnings=manifest_warnings)
    package.validate(warnings=manifest_warnings)
    assert manifest_warnings == []
    assert package.package_format == 3
    assert package.get_build_type() == 'ament_python'


def test_name_version_and_licence_agree(setup_arguments):
    assert setup_arguments['name'] == MANIFEST.findtext('name') == 'td3_agent'
    version = MANIFEST.findtext('version')
    assert setup_arguments['version'] == version == td3_agent.__version__
    assert setup_arguments['license'] == MANIFEST.findtext('license') == 'Apache-2.0'
    email = MANIFEST.find('maintainer').get('email')
    assert setup_arguments['maintainer_email'] == email


def test_manifest_names_every_imported_package():
    imported = {ROSDEP_KEYS.get(name, name) for name in top_level_imports() - OPTIONAL}
    assert imported <= set(manifest_keys('exec_depend'))


def test_no_dependency_is_named_twice():
    keys = manifest_keys('exec_depend')
    assert sorted(set(keys)) == keys


def test_gymnasium_before_1_finds_the_environments(setup_arguments):
    assert setup_arguments['entry_points']['gymnasium.envs'] == [
        'td3_agent = td3_agent.envs:register'
    ]


def test_console_scripts_exist(console_scripts):
    assert set(console_scripts) == {
        'td3_agent',
        'td3_agent_node',
        'gate_node',
        'composed_node',
        'synchronizer_node',
        'sim_bridge_node',
        'route_node',
    }
    for target in console_scripts.values():
        module, function = target.split(':')
        path = ROOT.joinpath(*module.split('.')).with_suffix('.py')
        defined = [
            node.name
            for node in ast.parse(path.read_text('utf-8')).body
            if isinstance(node, ast.FunctionDef)
        ]
        assert function in defined, target


@pytest.mark.parametrize(
    ('module', 'fix'),
    [
        ('imageio', 'pip install imageio'),
        ('cv2', 'pip install opencv-python-headless'),
        ('rerun.blueprint', 'pip install rerun-sdk'),
        ('carla_msgs.msg', 'source the ROS 2 or the workspace that has it'),
    ],
)
def test_missing_module_is_named_with_its_remedy(module, fix, monkeypatch, capsys):
    def run(_):
        raise ModuleNotFoundError(f'No module named {module!r}', name=module)

    monkeypatch.setattr('td3_agent.doctor.command.run', run)
    with pytest.raises(SystemExit, match='2'):
        main(['doctor'])
    said = capsys.readouterr().err
    assert said.startswith(f'td3_agent doctor: {module} is needed and not installed: {fix}')
    assert said.count('\n') == 1


def test_executables_go_where_ros_looks_for_them():
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    assert config['develop']['script_dir'] == '$base/lib/td3_agent'
    assert config['install']['install_scripts'] == '$base/lib/td3_agent'


def test_every_shared_file_is_installed(setup_arguments):
    installed = {name for _, names in setup_arguments['data_files'] for name in names}
    shared = [*(ROOT / 'config').iterdir(), *(ROOT / 'launch').glob('*.launch.py')]
    assert {str(path.relative_to(ROOT)) for path in shared} <= installed
    assert {'package.xml', 'resource/td3_agent'} <= installed


def test_shipped_policies_are_package_data(setup_arguments):
    folder = ROOT / 'td3_agent'
    patterns = setup_arguments['package_data']['td3_agent']
    found = {path for pattern in patterns for path in folder.glob(pattern)}
    assert {policy_file(name) for name in SHIPPED} <= found


def test_odometry_is_the_last_object():
    """So that its message ends a frame, and nothing of the frame follows it."""
    vehicle = json.loads((ROOT / 'config' / 'objects.json').read_text('utf-8'))['objects'][0]
    assert vehicle['id'] == 'ego_vehicle'
    assert vehicle['sensors'][-1] == {'type': 'sensor.pseudo.odom', 'id': 'odometry'}
    assert not any('sensor_tick' in sensor for sensor in vehicle['sensors'])


@pytest.mark.parametrize('distro', DISTROS_AS_WHEELS)
def test_lock_pins_every_package_exactly(distro):
    lines = (ROOT / 'requirements' / f'lock_{distro}.txt').read_text('utf-8').splitlines()
    pins = [line for line in lines if line and not line.startswith('#')]
    assert all(re.match(r'[a-z0-9.-]+==[\w.]+( ;|$)', pin) for pin in pins)
    names = [pin.partition('==')[0] for pin in pins]
    assert not [name for name in names if name.startswith(('nvidia', 'cuda', 'triton'))]


@pytest.mark.parametrize('distro', DISTROS_AS_WHEELS)
def test_lock_knows_every_required_package(distro):
    pinned = {
        line.partition('==')[0]
        for line in (ROOT / 'requirements' / f'lock_{distro}.txt').read_text('utf-8').splitlines()
    }
    others = [f'ros_{name}.in' for name in DISTROS_AS_WHEELS if name != distro]
    not_locked = {
        ROOT / 'requirements' / name for name in ('bench.in', 'deploy.in', 'docs.in', *others)
    }
    if distro != 'jazzy':
        not_locked.add(ROOT / 'requirements' / 'ros_runtime.in')
    for path in set((ROOT / 'requirements').glob('*.in')) - not_locked:
        for line in path.read_text('utf-8').splitlines():
            name = re.split(r'[\[<=]', line)[0].strip().lower()
            if name and not name.startswith('#') and name != 'torch':
                assert name in pinned, f'{name} of {path.name}'


# ---- set-up ------------------------------------------------------------------------------------

BASIC_TOOLS = (
    *('bash', 'cat', 'cut', 'date', 'dirname', 'find', 'flock', 'grep', 'mkdir'),
    *('sed', 'sha256sum', 'sort', 'uname', 'xargs'),
)
EXPORT = """set_target_properties(std_msgs::std_msgs__rosidl_generator_py PROPERTIES
  INTERFACE_INCLUDE_DIRECTORIES "/opt/py/include/python3.11;/opt/py/numpy/_core/include;/kept"
"""


@pytest.fixture
def bare_checkout(tmp_path):
    """A copy of what set-up reads, and a PATH that has a shell but no compiler."""
    for name in ('scripts', 'requirements', 'interfaces', 'config', 'resource'):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in ('setup.py', 'setup.cfg', 'package.xml'):
        shutil.copy(ROOT / name, tmp_path)
    tools = tmp_path / 'bin'
    tools.mkdir()
    for name in BASIC_TOOLS:
        if shutil.which(name):
            (tools / name).symlink_to(shutil.which(name))
    return tmp_path


def refusal(checkout, python, **variables):
    """What set-up says when it has to give up."""
    environment = {'PATH': str(checkout / 'bin'), 'PYTHON': str(python), 'HOME': str(checkout)}
    environment |= variables
    done = subprocess.run(
        ['bash', str(checkout / 'scripts' / 'setup.sh')],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert len(done.stderr.splitlines()) == 1
    assert not (checkout / '.venv').exists()
    return done.stderr


@pytest.mark.parametrize('version', ['2.7', '3.9', '3.13'])
def test_setup_refuses_other_pythons(bare_checkout, version):
    python = bare_checkout / 'python'
    python.write_text(
        f'#!{shutil.which("sh")}\ncase "$2" in *version*) echo {version} ;; *) echo "$0" ;; esac\n'
    )
    python.chmod(0o755)
    said = refusal(bare_checkout, python)
    assert f'Python 3.10, 3.11 or 3.12 is needed, but {python} is {version}' in said
    assert 'make setup' in said


def test_setup_refuses_what_is_no_python(bare_checkout):
    assert '/nonexistent/python does not run' in refusal(bare_checkout, '/nonexistent/python')


def test_setup_refuses_a_ros_without_wheels(bare_checkout):
    said = refusal(bare_checkout, sys.executable, ROS='foxy')
    assert 'ROS must be jazzy or kilted, the ones there are wheels of, got foxy' in said


def test_setup_refuses_another_ros_than_is_sourced(bare_checkout):
    (bare_checkout / 'bin' / 'ros2').symlink_to(shutil.which('true'))
    said = refusal(bare_checkout, sys.executable, ROS='kilted', ROS_DISTRO='humble')
    assert 'ROS=kilted was asked for and humble is sourced' in said


def test_setup_names_the_missing_compiler(bare_checkout):
    said = refusal(bare_checkout, os.path.realpath(sys.executable))
    assert 'compiler' in said or 'venv module' in said or 'headers' in said
    assert 'apt install' in said


def test_exports_are_repaired_once(tmp_path):
    pytest.importorskip('numpy')
    script = runpy.run_path(str(ROOT / 'scripts' / 'repair_cmake_exports.py'))
    path = tmp_path / 'share' / 'std_msgs' / 'cmake' / 'std_msgsExport.cmake'
    path.parent.mkdir(parents=True)
    path.write_text(EXPORT)
    assert script['repair'](tmp_path, '/py/include/python3.12', '/np/numpy/_core/include') == 1
    assert '"/py/include/python3.12;/np/numpy/_core/include;/kept"' in path.read_text()
    assert script['repair'](tmp_path, '/py/include/python3.12', '/np/numpy/_core/include') == 0


def test_shipped_files_are_found_where_no_ros_is_sourced(monkeypatch):
    monkeypatch.delenv('AMENT_PREFIX_PATH', raising=False)
    assert shared_path('config/objects.json') == ROOT / 'config' / 'objects.json'


@pytest.mark.parametrize('name', ['env.sh', 'scripts/setup.sh', 'scripts/lock.sh', '.ci/run'])
def test_shell_scripts_parse(name):
    subprocess.run(['bash', '-n', str(ROOT / name)], check=True)

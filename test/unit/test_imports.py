# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The house rules on imports: which parts know ROS, and which way parts know each other."""

import ast
from pathlib import Path
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / 'td3_agent'
PURE = ('driving', 'policy', 'td3', 'sim')
PARTS = {path.parent.name for path in PACKAGE.glob('*/__init__.py')}

# What each part may import of the others.
ALLOWED = {
    'driving': set(),
    'policy': {'driving'},
    'sim': {'driving'},
    'td3': {'driving', 'policy'},
    'training': {'driving', 'policy', 'td3'},
    'nodes': {'driving', 'policy', 'sim'},
    'doctor': {'driving', 'nodes', 'sim'},
    'evaluation': {'driving', 'nodes', 'policy', 'sim', 'td3', 'training'},
    'bags': {'driving', 'evaluation', 'nodes', 'policy', 'sim'},
}
NOT_FOR_DRIVING = {'torch', 'carla', 'cv2', 'gymnasium'}
ROS = {
    'ament_index_python',
    'builtin_interfaces',
    'carla_msgs',
    'diagnostic_msgs',
    'geometry_msgs',
    'launch',
    'launch_ros',
    'lifecycle_msgs',
    'nav_msgs',
    'rcl_interfaces',
    'rclpy',
    'rosgraph_msgs',
    'sensor_msgs',
    'std_msgs',
    'std_srvs',
}

IMPORT_WITHOUT_ROS = """
import importlib, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition('.')[0] in {ros!r}:
            raise ImportError(name + ' is for nodes only')

sys.meta_path.insert(0, Refuse())
for name in {modules!r}:
    importlib.import_module(name)
"""


def files_of(part):
    return sorted((PACKAGE / part).rglob('*.py'))


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


def imports_of(path):
    """Full names of all modules that a file imports, wherever in the file."""
    for node in ast.walk(ast.parse(path.read_text('utf-8'), str(path))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ''
            if node.level:
                package = module_name(path).split('.')
                drop = node.level - (path.name == '__init__.py')
                base = '.'.join([*package[: len(package) - drop], *filter(None, [base])])
            yield base
            yield from (f'{base}.{alias.name}' for alias in node.names)


def parts_imported(path):
    """Parts of this package that a file imports."""
    names = [name.split('.') for name in imports_of(path)]
    parts = {name[1] for name in names if name[0] == 'td3_agent' and len(name) > 1}
    return {part for part in parts if (PACKAGE / part).is_dir()}


@pytest.mark.slow
@pytest.mark.parametrize('part', PURE)
def test_every_pure_module_imports_without_ros(part):
    pytest.importorskip('torch' if part in {'policy', 'td3'} else 'numpy')
    if part == 'sim':
        pytest.importorskip('carla')
    modules = [module_name(path) for path in files_of(part)]
    program = IMPORT_WITHOUT_ROS.format(ros=ROS, modules=modules)
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('part', PURE)
def test_pure_parts_name_no_ros_package(part):
    for path in files_of(part):
        assert not {name.partition('.')[0] for name in imports_of(path)} & ROS, path


def test_driving_needs_no_heavy_library():
    for path in files_of('driving'):
        assert not {name.partition('.')[0] for name in imports_of(path)} & NOT_FOR_DRIVING, path


@pytest.mark.parametrize('part', ALLOWED)
def test_imports_point_one_way(part):
    for path in files_of(part):
        assert parts_imported(path) <= ALLOWED[part] | {part}, path


def test_every_part_is_known_and_comes_after_those_it_may_import():
    assert set(ALLOWED) == PARTS
    known = list(ALLOWED)
    for place, part in enumerate(known):
        assert ALLOWED[part] <= set(known[:place])


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('import td3_agent.sim.simulator', {'sim'}),
        ('from td3_agent import sim', {'sim'}),
        ('from ..sim import simulator', {'sim'}),
        ('from . import gate', {'driving'}),
        ('def f():\n    from td3_agent.policy.policy import Policy', {'policy'}),
    ],
)
def test_every_way_to_import_is_seen(text, expected, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), 'ROOT', tmp_path)
    monkeypatch.setitem(globals(), 'PACKAGE', tmp_path / 'td3_agent')
    for part in ('driving', 'sim', 'policy'):
        (tmp_path / 'td3_agent' / part).mkdir(parents=True)
    path = tmp_path / 'td3_agent' / 'driving' / 'module.py'
    path.write_text(text, 'utf-8')
    assert parts_imported(path) == expected

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""No call that Humble does not have, but behind a guard; documents agree about versions."""

import ast
from pathlib import Path
import re

import pytest
import yaml

from td3_agent.doctor.facts import (
    PYTHON_OF_DISTRO,
    PYTHONS_OF_CARLA,
    distros_for_carla,
    version_text,
)

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs' / 'distros.md'
ROW = re.compile(
    r'\| `([\w.]+)` \| (call|argument|module)(?: of `(\w+)`)? '
    r'\| [^|]+ \|[ ]*`?([^`|\n]*?)`?[ ]*\|'
)
DEFINED = re.compile(r'^\s*(?:async def|def|class) (\w+)', re.MULTILINE)
NEWER = ROW.findall(PAGE.read_text('utf-8'))
FOLDERS = ('td3_agent', 'launch', 'docker', 'test')
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob('*.py'))
GUARDS = {
    'runtime.py': r'suppress\(ImportError\):\s+from rclpy\.experimental',
    'liveliness.py': r'try:\s+from rclpy\.event_handler .*\s+except ImportError',
}


def uses(tree, name, kind, of):
    """Lines on which a file uses a name of the table."""
    for node in ast.walk(tree):
        if kind == 'module':
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ''] if isinstance(node, ast.ImportFrom) else []
            found = any(f'{module}.'.startswith(f'{name}.') for module in names)
        elif kind == 'argument':
            called = node.func if isinstance(node, ast.Call) else None
            called = getattr(called, 'attr', getattr(called, 'id', None))
            found = (
                isinstance(node, ast.Call)
                and (not of or called == of)
                and any(word.arg == name for word in node.keywords)
            )
        else:
            found = (isinstance(node, ast.Attribute) and node.attr == name) or (
                isinstance(node, ast.alias) and node.name == name
            )
        if found:
            yield node


@pytest.fixture(scope='module')
def texts():
    return {path: path.read_text('utf-8') for path in FILES}


@pytest.fixture(scope='module')
def own(texts):
    """Functions and classes that are ours: a name of rclpy's may be one of them."""
    return {name for text in texts.values() for name in DEFINED.findall(text)}


def test_table_is_read():
    assert len(NEWER) > 25
    assert {kind for _, kind, _, _ in NEWER} == {'call', 'argument', 'module'}


@pytest.mark.parametrize('row', NEWER, ids=lambda row: row[0])
def test_newer_names_stay_behind_their_guard(texts, own, row):
    name, kind, of, where = row
    if name in own:
        pytest.skip('a function of our own has the same name')
    found = {
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if name.rpartition('.')[2] in text and [*uses(ast.parse(text), name, kind, of)]
    }
    assert found == ({where} if where else set())


@pytest.mark.parametrize('name', GUARDS)
def test_the_guard_is_there(texts, name):
    tree = ast.parse(texts[ROOT / 'td3_agent' / 'nodes' / name])
    assert re.search(GUARDS[name], ast.unparse(tree))


def test_every_exception_has_its_guard():
    assert {Path(where).name for *_, where in NEWER if where} == {*GUARDS}


@pytest.mark.parametrize(
    ('code', 'kind', 'of', 'name'),
    [
        ('node.create_timer(1.0, f, autostart=False)', 'argument', 'create_timer', 'autostart'),
        ('from rclpy.type_hash import TypeHash', 'module', '', 'rclpy.type_hash'),
        ('import rclpy.type_hash', 'module', '', 'rclpy.type_hash'),
        ('from rclpy.timer import TimerInfo', 'call', '', 'TimerInfo'),
        ('sub.get_publisher_count()', 'call', '', 'get_publisher_count'),
    ],
)
def test_every_way_to_use_one_is_seen(code, kind, of, name):
    assert [*uses(ast.parse(code), name, kind, of)]


@pytest.mark.parametrize('code', ['start(autostart=True)', 'import rclpy.type', 'x = autostart'])
def test_what_only_looks_like_one_is_not(code):
    assert not [*uses(ast.parse(code), 'autostart', 'argument', 'create_timer')]
    assert not [*uses(ast.parse(code), 'rclpy.type_hash', 'module', '')]


def test_doctor_page_has_the_matrix_of_the_doctor():
    page = (ROOT / 'docs' / 'doctor.md').read_text('utf-8')
    rows = dict(re.findall(r'\| (0\.9\.\d+) \| [^|]+ \| ([^|]+) \|', page))
    assert rows.keys() == PYTHONS_OF_CARLA.keys()
    for version, names in rows.items():
        for name in names.split(','):
            assert name.strip().lower() in distros_for_carla(version)


def test_workflow_runs_what_the_page_says():
    workflow = yaml.safe_load((ROOT / '.github' / 'workflows' / 'tests.yaml').read_text('utf-8'))
    jobs = workflow['jobs']
    assert jobs['ros']['strategy']['matrix']['distro'] == ['humble', 'jazzy']
    wheels = jobs['wheels']['strategy']['matrix']
    assert wheels['python'] == ['3.10', '3.11', '3.12']
    assert wheels['include'] == [{'python': '3.12', 'ros': 'kilted'}]
    for name in ('ros', 'wheels'):
        assert any('make test' in step.get('run', '') for step in jobs[name]['steps'])
    page = PAGE.read_text('utf-8')
    for distro in ('humble', 'jazzy'):
        assert f'| {distro.capitalize()} | ' in page
        assert version_text(PYTHON_OF_DISTRO[distro]) in page

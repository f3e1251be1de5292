# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Wheel and sdist hold what the package needs: policies, shared files, dependencies."""

import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ('config', 'launch', 'requirements', 'resource', 'security', 'td3_agent')
FILES = ('CHANGELOG.rst', 'LICENSE', 'MANIFEST.in', 'README.md', 'package.xml', 'setup.cfg')

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def built(tmp_path_factory):
    """A folder with the sdist and the wheel that is built from it."""
    source = tmp_path_factory.mktemp('source')
    for name in PARTS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in (*FILES, 'setup.py'):
        shutil.copy(ROOT / name, source)
    out = tmp_path_factory.mktemp('dist')
    run(sys.executable, 'setup.py', '-q', 'sdist', '--dist-dir', out, cwd=source)
    (sdist,) = out.glob('*.tar.gz')
    pip = ('-m', 'pip', 'wheel', '-q', '--no-deps', '--no-build-isolation', '-w', out, sdist)
    run(sys.executable, *pip, cwd=out)
    return out


def run(*command, cwd, **variables):
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_sdist_holds_what_the_build_reads(built):
    (sdist,) = built.glob('*.tar.gz')
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    assert {*FILES, 'requirements/runtime.in', 'config/objects.json'} <= names


def test_wheel_names_licence_and_dependencies(built):
    (wheel,) = built.glob('*.whl')
    with zipfile.ZipFile(wheel) as archive:
        (path,) = (name for name in archive.namelist() if name.endswith('/METADATA'))
        metadata = archive.read(path).decode()
        assert any(name.endswith('LICENSE') for name in archive.namelist())
    wanted = [f'Requires-Dist: {name}' for name in ('torch==2.13.0', 'numpy', 'msgspec')]
    assert all(line in metadata for line in ['License: Apache-2.0', *wanted])


def test_wheel_evaluates_a_shipped_policy_without_the_checkout(built, tmp_path):
    pytest.importorskip('carla')
    (wheel,) = built.glob('*.whl')
    site, out = tmp_path / 'site', tmp_path / 'evaluation'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    arguments = ('--episodes', '1', '--route-length', '40', '--no-references', '--out', out)
    command = (sys.executable, '-m', 'td3_agent', 'evaluate', '--policy', 'lane', *arguments)
    run(*command, cwd=tmp_path, PYTHONPATH=str(site))
    assert (out / 'summary.json').is_file()


PROBE = """
import carla_msgs
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.files import shared_path
make_driver(DriverParams(policy='lane'))
print(carla_msgs.VERSION, shared_path('config'))
"""


@pytest.mark.nightly
@pytest.mark.parametrize('option', ['', '--symlink-install', '--merge-install'])
def test_workspace_uses_its_own_carla_msgs(option, tmp_path):
    """Of two carla_msgs the one in ``src``, not the one that lies within this package."""
    pytest.importorskip('colcon_ros')
    source = tmp_path / 'src'
    for name in (*PARTS, 'interfaces'):
        shutil.copytree(ROOT / name, source / 'td3_agent' / name)
    for name in (*FILES, 'setup.py'):
        shutil.copy(ROOT / name, source / 'td3_agent')
    own = source / 'carla_msgs'
    (own / 'carla_msgs').mkdir(parents=True)
    (own / 'carla_msgs' / '__init__.py').write_text("VERSION = 'own'")
    (own / 'setup.py').write_text(
        'from setuptools import setup\nsetup(name="carla_msgs", packages=["carla_msgs"])\n'
    )
    manifest = (ROOT / 'package.xml').read_text('utf-8').replace('>td3_agent<', '>carla_msgs<')
    (own / 'package.xml').write_text(re.sub(r'\s*<\w+_depend>.*', '', manifest))
    run(*(sys.executable, '-m', 'colcon', 'build', *filter(None, [option])), cwd=tmp_path)
    (program,) = (tmp_path / 'install').glob('**/lib/td3_agent/td3_agent')
    done = run(
        *('bash', '-c', 'source install/setup.bash; "$0" --version; "$1" -c "$2"'),
        *(program, sys.executable, PROBE),
        cwd=tmp_path,
    )
    version, config = done.splitlines()[-1].split()
    assert version == 'own'
    assert (Path(config) / 'objects.json').is_file()

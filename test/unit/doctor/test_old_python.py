# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A Python that is too old gets one line, although it cannot parse the package."""

import ast
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[3]
MAIN = ROOT / 'td3_agent' / '__main__.py'
OLD = ('3.6', '3.7', '3.8', '3.9')


def output(*command):
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    except OSError:
        return ''
    return done.stdout.strip()


def interpreter(version):
    """An interpreter of this version on the PATH, or of pyenv; empty where there is none."""
    candidates = [shutil.which(f'python{version}')]
    if shutil.which('pyenv'):
        root = Path(output('pyenv', 'root'), 'versions')
        candidates += sorted(root.glob(f'{version}.*/bin/python3'))
    # What stands on the PATH may be a stand-in that starts nothing.
    says = 'import sys; print("%d.%d" % sys.version_info[:2])'
    return next((str(c) for c in candidates if c and output(c, '-c', says) == version), '')


@pytest.mark.parametrize('version', OLD)
def test_old_interpreter_gets_one_line(version):
    python = interpreter(version)
    if not python:
        pytest.skip(f'no Python {version} on the PATH, and none of pyenv')
    done = subprocess.run(
        [python, '-B', '-m', 'td3_agent', 'doctor'],
        cwd=ROOT,
        env={'PATH': '/usr/bin:/bin'},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ''
    (line,) = done.stderr.splitlines()
    assert line.startswith(f'error   python     Python {version} (')
    assert 'is not supported; fix: use Python 3.10, 3.11 or 3.12' in line


def test_version_alone_decides():
    program = 'import sys; sys.version_info = (3, 8, 0); import td3_agent.__main__'
    done = subprocess.run(
        [sys.executable, '-c', program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith('error   python     Python 3.8 (')


@pytest.mark.parametrize('path', [MAIN, MAIN.with_name('__init__.py')], ids=lambda p: p.name)
def test_first_files_are_python_3_6(path):
    tree = ast.parse(path.read_text('utf-8'), feature_version=(3, 6))
    # Of all versions that parse it, 3.6 alone has no such feature.
    futures = [
        n for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module == '__future__'
    ]
    assert not futures


def test_check_stands_before_every_import_but_sys():
    first, second, third, *_ = ast.parse(MAIN.read_text('utf-8')).body
    assert isinstance(first, ast.Expr)
    assert ast.unparse(second) == 'import sys'
    assert ast.unparse(third).startswith('if sys.version_info < (3, 10):')

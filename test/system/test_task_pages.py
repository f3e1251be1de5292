# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The pages for tasks work: their bash and Python blocks are run in order.

A Python block whose first line is a file name is saved under that name. Blocks of another language
are not run: they take hours, or need CARLA or a robot.
"""

from pathlib import Path
import re
import subprocess
import sys

import pytest

ROOT = Path(__file__).parents[2]
BLOCK = re.compile(r'^```(bash|python)\n(.*?)^```$', re.DOTALL | re.MULTILINE)
PAGES = ('demo', 'train', 'fine_tune', 'robot', 'driver', 'environments', 'regression')
LIMIT_S = 280.0

pytestmark = [pytest.mark.slow, pytest.mark.system]


@pytest.fixture
def folder(tmp_path):
    """A folder with what the pages take from the checkout."""
    for name in ('config', 'test'):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


def command_of(language, text, folder):
    """Return what runs a block, None for one that is only saved; env.sh is sourced already."""
    if language == 'bash':
        return ['bash', '-euo', 'pipefail', '-c', text.replace('source env.sh\n', '')]
    named = re.match(r'# (\w+\.py)\n', text)
    is_test = re.search(r'^def test_', text, re.MULTILINE)
    name = named[1] if named else 'test_block.py' if is_test else 'block.py'
    (folder / name).write_text(text, 'utf-8')
    if is_test:
        return [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', name]
    return None if named else [sys.executable, name]


@pytest.mark.parametrize('page', PAGES)
def test_page_can_be_followed(page, folder):
    pytest.importorskip('carla')
    blocks = BLOCK.findall((ROOT / 'docs' / f'{page}.md').read_text('utf-8'))
    assert blocks
    for language, text in blocks:
        command = command_of(language, text, folder)
        if command is None:
            continue
        done = subprocess.run(
            command,
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, f'{text}\n{done.stdout}\n{done.stderr}'

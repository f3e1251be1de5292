# SPDX-License-Identifier: Apache-2.0
"""Each page that tells how to do something is done: its bash and Python blocks, in order.

Blocks of another language are shown only: they take hours, or need CARLA or a robot.
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


def commands(language, text):
    """What runs a block; the test has sourced env.sh already."""
    if language == 'bash':
        return ['bash', '-euo', 'pipefail', '-c', text.replace('source env.sh\n', '')]
    if re.search(r'^def test_', text, re.MULTILINE):
        return [sys.executable, '-m', 'pytest', '-q', '-p', 'no:cacheprovider', 'test_block.py']
    return [sys.executable, 'block.py']


@pytest.mark.parametrize('page', PAGES)
def test_page_can_be_followed(page, folder):
    pytest.importorskip('carla')
    blocks = BLOCK.findall((ROOT / 'docs' / f'{page}.md').read_text('utf-8'))
    assert blocks
    for language, text in blocks:
        (folder / 'block.py').write_text(text, 'utf-8')
        (folder / 'test_block.py').write_text(text, 'utf-8')
        done = subprocess.run(
            commands(language, text),
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT_S,
        )
        assert done.returncode == 0, f'{text}\n{done.stdout}\n{done.stderr}'

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The site holds every page, and names modules that exist."""

from pathlib import Path
import re

ROOT = Path(__file__).parents[2]
DOCS = ROOT / 'docs'


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / 'index.md').read_text('utf-8')
    trees = '\n'.join(re.findall(r'```{toctree}(.*?)```', index, re.DOTALL))
    listed = set(re.findall(r'^(\w+)$', trees, re.MULTILINE))
    assert listed == {path.stem for path in DOCS.glob('*.md')} - {'index'} | {'api'}


def test_modules_of_the_api_exist():
    names = re.findall(
        r'^   (td3_agent[\w.]+)$', (DOCS / 'api.rst').read_text('utf-8'), re.MULTILINE
    )
    assert len(names) > 5
    for name in names:
        path = ROOT.joinpath(*name.split('.'))
        assert path.is_dir() or path.with_suffix('.py').is_file(), name


def test_readme_links_each_page():
    readme = (ROOT / 'README.md').read_text('utf-8')
    for path in DOCS.glob('*.md'):
        assert path.stem == 'index' or f'(docs/{path.name}' in readme, path.name

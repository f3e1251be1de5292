# SPDX-License-Identifier: Apache-2.0
"""The page on performance says what the result files say, and names files that exist."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'performance.md').read_text('utf-8')


@pytest.fixture(scope='module')
def script():
    spec = spec_from_file_location('performance_tables', ROOT / 'scripts/performance_tables.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_are_those_of_the_results(script):
    assert script.with_tables(PAGE) == PAGE, 'run scripts/performance_tables.py'


def test_missing_markers_are_named(script):
    with pytest.raises(
        ValueError, match=f'must have markers for bench {next(iter(script.TABLES))}'
    ):
        script.with_tables('# Performance')


def test_files_that_it_names_exist():
    names = re.findall(r'`((?:benchmarks|config|scripts|td3_agent|docs)/[\w/.]+)`', PAGE)
    assert len(names) > 5
    assert [name for name in names if not (ROOT / name).exists()] == []

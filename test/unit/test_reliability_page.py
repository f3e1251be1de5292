# SPDX-License-Identifier: Apache-2.0
"""The page on reliability says what the result file says, and names what there is."""

from importlib.util import module_from_spec, spec_from_file_location
import json
from pathlib import Path
import re

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'reliability.md').read_text('utf-8')


@pytest.fixture(scope='module')
def script():
    path = ROOT / 'scripts' / 'reliability_tables.py'
    spec = spec_from_file_location('reliability_tables', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def report(script):
    return json.loads(script.RESULTS.read_text('utf-8'))


def test_table_is_that_of_the_results(script, report):
    assert script.with_table(PAGE, report) == PAGE, 'run scripts/reliability_tables.py'


def test_every_row_has_passed(report):
    assert [row['name'] for row in report['rows'] if not row['passed']] == []


def test_missing_markers_are_named(script, report):
    with pytest.raises(ValueError, match='must have markers for faults'):
        script.with_table('# Reliability', report)


def test_soak_is_drawn(script, tmp_path):
    process = {'rss_bytes': [10**8] * 5, 'fds': [20] * 5, 'threads': [9] * 5}
    path = tmp_path / 'soak.png'
    script.draw({'soak_s': 60.0, 'frames': 100, 'processes': {'agent': process}}, path)
    assert path.read_bytes().startswith(b'\x89PNG')


def test_files_that_it_names_exist():
    names = re.findall(r'`((?:config|scripts|td3_agent|test|docs)/[\w/.]+)`', PAGE)
    assert len(names) > 2
    assert [name for name in names if not (ROOT / name).exists()] == []
    pictures = re.findall(r'\]\((images/[\w/.]+)\)', PAGE)
    assert [name for name in pictures if not (ROOT / 'docs' / name).exists()] == []

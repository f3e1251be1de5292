# SPDX-License-Identifier: Apache-2.0
"""The page on reliability says what the result file says, and names what there is."""

import json
from pathlib import Path
import re

import pytest

pytest.importorskip('matplotlib')

import reliability_tables

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'reliability.md').read_text('utf-8')


@pytest.fixture(scope='module')
def reports():
    return [json.loads(path.read_text('utf-8')) for path in reliability_tables.RESULTS]


def test_table_is_that_of_the_results(reports):
    assert reliability_tables.with_table(PAGE, reports) == PAGE, (
        'run scripts/reliability_tables.py'
    )


def test_every_row_has_passed(reports):
    rows = [row for report in reports for row in report['rows']]
    assert [row['name'] for row in rows if not row['passed']] == []


def test_missing_markers_are_named(reports):
    with pytest.raises(ValueError, match='one block <!-- faults -->'):
        reliability_tables.with_table('# Reliability', reports)


def test_soak_is_drawn(tmp_path):
    process = {'rss_bytes': [10**8] * 5, 'fds': [20] * 5, 'threads': [9] * 5}
    path = tmp_path / 'soak.png'
    reliability_tables.draw({'soak_s': 60.0, 'frames': 100, 'processes': {'agent': process}}, path)
    assert path.read_bytes().startswith(b'\x89PNG')


def test_files_that_it_names_exist():
    names = re.findall(r'`((?:config|scripts|td3_agent|test|docs)/[\w/.]+)`', PAGE)
    assert len(names) > 2
    assert [name for name in names if not (ROOT / name).exists()] == []
    pictures = re.findall(r'\]\((images/[\w/.]+)\)', PAGE)
    assert [name for name in pictures if not (ROOT / 'docs' / name).exists()] == []

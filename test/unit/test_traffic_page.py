# SPDX-License-Identifier: Apache-2.0
"""The page on traffic says what the result files say, and names files that exist."""

from pathlib import Path
import re

import pytest
import traffic_tables

from td3_agent.evaluation.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'traffic.md').read_text('utf-8')


def test_tables_are_those_of_the_results():
    assert traffic_tables.with_tables(PAGE) == PAGE, 'run scripts/traffic_tables.py'


def test_every_scenario_has_a_reference_row():
    for name in SCENARIOS:
        assert f'| `{name}` | pure pursuit idm (direct) |' in PAGE


def test_files_that_it_names_exist():
    names = re.findall(r'`((?:config|scripts|td3_agent|docs)/[\w/.]+)`', PAGE)
    assert len(names) > 4
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_folder_without_a_scenario_is_refused(tmp_path):
    (tmp_path / 'summary.json').write_text('{"scenario": ""}')
    with pytest.raises(ValueError, match='must hold an evaluation of a scenario, found none'):
        traffic_tables.keep(tmp_path)

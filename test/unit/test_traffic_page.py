# SPDX-License-Identifier: Apache-2.0
"""Pages on driving and traffic say what the result files say, and name files that exist."""

from pathlib import Path
import re

import pytest
import traffic_tables

from td3_agent.evaluation.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'traffic.md').read_text('utf-8')


@pytest.mark.parametrize('name', ['carla.md', 'driving.md', 'traffic.md'])
def test_tables_are_those_of_the_results(name):
    page = (ROOT / 'docs' / name).read_text('utf-8')
    assert traffic_tables.with_tables(name) == page, 'run scripts/traffic_tables.py'


def test_every_scenario_has_a_reference_row():
    for name in SCENARIOS:
        assert f'| `{name}` | pure pursuit idm (direct) |' in PAGE


def test_files_that_it_names_exist():
    names = re.findall(r'`((?:config|scripts|td3_agent|docs)/[\w/.]+)`', PAGE)
    assert len(names) > 4
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_folder_without_an_evaluation_of_a_policy_is_refused(tmp_path):
    (tmp_path / 'summary.json').write_text('{"scenario": ""}')
    with pytest.raises(ValueError, match='must hold an evaluation of a policy, found none'):
        traffic_tables.keep(tmp_path)

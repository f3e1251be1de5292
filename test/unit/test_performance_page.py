# SPDX-License-Identifier: Apache-2.0
"""The page on performance says what the result files say, and names files that exist."""

from pathlib import Path
import re

import performance_tables
import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / 'docs' / 'performance.md').read_text('utf-8')


def test_tables_are_those_of_the_results():
    assert performance_tables.with_tables(PAGE) == PAGE, 'run scripts/performance_tables.py'


def test_missing_markers_are_named():
    with pytest.raises(ValueError, match=f'bench {next(iter(performance_tables.TABLES))}'):
        performance_tables.with_tables('# Performance')


def test_files_that_it_names_exist():
    names = re.findall(r'`((?:benchmarks|config|scripts|td3_agent|docs)/[\w/.]+)`', PAGE)
    assert len(names) > 5
    assert [name for name in names if not (ROOT / name).exists()] == []


def test_pictures_show_every_ratio_largest_first(tmp_path):
    pytest.importorskip('matplotlib')
    from performance_pictures import draw_frame, draw_ratios, ratio_rows

    reports = performance_tables.results()
    rows = ratio_rows(reports)
    ratios = [ratio for _, ratio in rows]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == reports['command']['ratio']
    assert {row['ratio'] for row in reports['latency']['cases'].values()} <= set(ratios)
    for draw in (draw_ratios, draw_frame):
        draw(tmp_path / f'{draw.__name__}.png', reports)
        assert (tmp_path / f'{draw.__name__}.png').stat().st_size > 10_000

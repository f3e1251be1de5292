# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""``td3_agent doctor --map`` lists everything that is wrong with a map."""

import re

import pytest

from td3_agent.__main__ import main
from td3_agent.sim.maps import built_in_opendrive


@pytest.fixture
def diagnosed(tmp_path, capsys):
    def diagnose(text, *options):
        path = tmp_path / 'my.xodr'
        path.write_text(text)
        with pytest.raises(SystemExit) as ended:
            main(['doctor', '--map', str(path), *options])
        return ended.value.code, capsys.readouterr().out.splitlines()

    return diagnose


def test_sound_map_has_its_size_and_no_fault(diagnosed):
    status, lines = diagnosed(built_in_opendrive('winding', 0), '--strict')
    assert status == 0
    assert lines[0].startswith('ok      map        my: ')
    assert 'driving lanes' in lines[0]
    assert lines[1].startswith('1 ok, 0 note, 0 warning, 0 error')


def test_all_errors_are_listed_and_end_with_1(diagnosed):
    text = built_in_opendrive('winding', 0).replace('a="3.5"', 'a="w"')
    status, lines = diagnosed(text)
    assert status == 1
    assert len(lines) - 1 == text.count('a="w"') > 10
    place = 'error   map        road 1, section s=0, lane 1, width: '
    assert f"{place}a must be a number, got 'w'" in lines


def test_break_between_roads_is_a_warning(diagnosed):
    text = built_in_opendrive('winding', 0)
    start = text.index('<geometry', text.index('<road', text.index('</road>')))
    moved = text[:start] + text[start:].replace(' y="', ' y="1', 1)
    status, lines = diagnosed(moved)
    assert status == 0
    breaks = [line for line in lines if line.startswith('warning map')]
    assert any('m from where road 2, section s=0, lane -1 begins' in line for line in breaks)
    assert diagnosed(moved, '--strict')[0] == 1


def test_moved_map_says_from_where(diagnosed):
    def far(found):
        return f' x="{float(found[1]) + 5e5}"'

    status, lines = diagnosed(re.sub(' x="([^"]+)"', far, built_in_opendrive('winding', 0)))
    assert status == 0
    assert any('moved to a local origin, x 500' in line for line in lines)


def test_file_that_is_no_map_is_one_error(diagnosed):
    status, lines = diagnosed('<html/>')
    assert status == 1
    assert "root element is 'html'" in lines[0]
    assert lines[1].startswith('0 ok, 0 note, 0 warning, 1 error')

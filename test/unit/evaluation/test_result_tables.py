# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Tables show the figures that they were given, with interval and unit."""

import csv

import pytest

from td3_agent.evaluation.result_tables import (
    EPISODE_COLUMNS,
    FIGURE_ROWS,
    agreement_table,
    ending_text,
    episode_csv,
    episode_table,
    figure_markdown,
    figure_table,
    with_interval,
)


def figures(value=0.5, interval=(0.25, 0.75)):
    names = [row[0] for row in FIGURE_ROWS]
    return dict.fromkeys(names, value) | {f'{name}_ci95': interval for name in names}


def summary():
    lines = {'transport': 'direct', **figures(None, None)}
    references = {
        'untrained': {**lines, 'is_the_driver': True},
        'pure_pursuit': {**lines, 'is_the_driver': False},
    }
    return {'title': 'TD3 best', 'transport': 'ros', **figures(), 'references': references}


def episode(**changes):
    columns = dict.fromkeys([name for name, *_ in EPISODE_COLUMNS], 1.0)
    return {'episode': 7, 'ending': 'goal', 'success': True, **columns, **changes}


def test_figure_has_its_interval_and_its_scale():
    got = with_interval(figures(), 'success_rate', 100.0, 1)
    assert got == '50.0 [25.0, 75.0]'
    assert with_interval(figures(0.5, None), 'success_rate', 1.0, 2) == '0.50'
    assert with_interval(figures(None, None), 'success_rate', 1.0, 2) == '-'


def test_terminal_table_has_a_line_per_figure_and_a_column_per_driver():
    lines = figure_table(summary()).splitlines()
    assert len(lines) == 1 + len(FIGURE_ROWS)
    assert lines[0].split('  ')[-1] == 'pure pursuit (direct)'
    assert 'TD3 best (ros)' in lines[0]
    assert lines[1].split() == ['success', '[%]', '50.0', '[25.0,', '75.0]', '-']


def test_markdown_table_has_equal_columns_everywhere():
    lines = figure_markdown(summary()).splitlines()
    assert len(lines) == 2 + len(FIGURE_ROWS)
    assert {line.count('|') for line in lines} == {4}
    assert lines[2] == '| success [%] | 50.0 [25.0, 75.0] | - |'


def test_summary_without_references_has_one_column():
    lone = summary()
    del lone['references']
    assert {line.count('|') for line in figure_markdown(lone).splitlines()} == {3}


def test_episode_table_and_csv_have_a_row_per_episode():
    episodes = [episode(), episode(episode=8, ending='off_route', success=False)]
    lines = episode_table(episodes).splitlines()
    assert [line.split()[0] for line in lines] == ['episode', '7', '8']
    assert 'off route' in lines[2]
    rows = list(csv.DictReader(episode_csv(episodes).splitlines()))
    assert [row['episode'] for row in rows] == ['7', '8']
    assert set(rows[0]) == set(episodes[0])


@pytest.mark.parametrize(
    ('ending', 'success', 'text'),
    [('goal', True, 'goal'), ('goal', False, 'goal, infraction'), ('stalled', False, 'stalled')],
)
def test_goal_with_an_infraction_is_said_so(ending, success, text):
    assert ending_text({'ending': ending, 'success': success}) == text


def test_disagreement_is_loud():
    row = {
        'episode': 0,
        'frames_direct': 10,
        'frames_ros': 9,
        'observation_hashes_different': 1,
        'action_hashes_different': 2,
        'same_ending_frame': False,
    }
    assert agreement_table([row]).splitlines()[1].split() == ['0', '10', '9', '1', '2', 'NO']

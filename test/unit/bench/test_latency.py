# SPDX-License-Identifier: Apache-2.0
"""The latency bench: its figures, and what it refuses."""

import json
import math
from types import SimpleNamespace

from hypothesis import given
from hypothesis import strategies as st
import pytest

pytest.importorskip('tqdm')

from td3_agent.__main__ import main
from td3_agent.bench import latency
from td3_agent.bench.latency import CASES, LOST_S, SIDES, compare, figures_of, shortfalls, table

LATENCIES_MS = st.floats(0.1, 1e3)


def answer(latency_ms, linear_x=0.0, angular_z=0.0):
    return SimpleNamespace(latency_ms=latency_ms, linear_x=linear_x, angular_z=angular_z)


def blocks(*rows):
    return [[None if value is None else answer(value) for value in row] for row in rows]


def figures(**changed):
    one = {'p50_ms': 1.0, 'p99_ms': 2.0, 'lost': 0}
    plain = {f'plain_{name}': value for name, value in one.items()}
    return one | plain | {'ratio': 3.0, 'difference': 0.0} | changed


def report(statuses=None, **cases):
    return {'cases': cases, 'exit_statuses': statuses or {'plain_node': 0}}


def ended(*arguments):
    with pytest.raises(SystemExit) as end:
        main(['bench', 'latency', *arguments])
    return end.value.code


def test_ratio_is_of_neighbours():
    """The machine slows down by half after the first block; the ratio does not."""
    found = figures_of(
        {
            'ours': blocks([1.0, 2.0, 9.0], [4.0] * 3, [4.0] * 3),
            'plain': blocks([6.0] * 3, [12.0] * 3, [12.0] * 3),
        }
    )
    assert found['ratio'] == 3.0
    assert (found['p50_ms'], found['plain_p50_ms']) == (4.0, 12.0)


def test_percentiles_are_of_all_frames():
    found = figures_of(
        {'ours': blocks(range(50), range(50, 101)), 'plain': blocks([1] * 50, [1] * 51)}
    )
    assert (found['p50_ms'], found['p99_ms']) == (50.0, 99.0)


def test_lost_frame_counts_as_long_as_it_was_waited_for():
    found = figures_of({'ours': blocks([1.0, 1.0, 1.0]), 'plain': blocks([1.0, None, None])})
    assert (found['lost'], found['plain_lost']) == (0, 2)
    assert found['plain_p50_ms'] == found['ratio'] == LOST_S * 1e3


@given(st.lists(st.tuples(LATENCIES_MS, LATENCIES_MS), min_size=1), st.floats(0.5, 2.0))
def test_slower_machine_changes_times_and_no_ratio(pairs, factor):
    ours, plain = zip(*pairs, strict=True)
    before = figures_of({'ours': blocks(ours), 'plain': blocks(plain)})
    slower = figures_of(
        {
            'ours': blocks([factor * value for value in ours]),
            'plain': blocks([factor * value for value in plain]),
        }
    )
    assert math.isclose(slower['ratio'], before['ratio'])
    assert math.isclose(slower['p99_ms'], factor * before['p99_ms'])


def test_difference_is_a_share_of_the_range():
    """Shares 0.1 (yaw rate, -1 to 1), 0.2 (speed, 0 to 8.33) and 0; the lost one has none."""
    found = figures_of(
        {
            'ours': [[answer(1.0, 8.33, 0.1), None], [answer(1.0, 5.0), answer(1.0, 5.0)]],
            'plain': [
                [answer(1.0, 8.33, -0.1), answer(1.0)],
                [answer(1.0, 6.666), answer(1.0, 5)],
            ],
        }
    )
    assert math.isclose(found['difference'], 0.1)


def test_nothing_heard_differs_in_nothing():
    assert figures_of({'ours': blocks([None]), 'plain': blocks([1.0])})['difference'] == 0.0


class Asked:
    def __init__(self, name, log):
        self.name, self.log = name, log

    def send(self, case, frames):
        self.log.append((self.name, case, frames))
        return [answer(float(len(self.log)))] * frames


def test_sides_take_turns_and_the_first_block_warms_up():
    log = []
    heard = compare({name: Asked(name, log) for name in SIDES}, CASES['84x84'], 2, 2)
    assert [name for name, _, _ in log] == ['plain', 'ours', 'ours', 'plain', 'plain', 'ours']
    assert {(case, frames) for _, case, frames in log} == {(CASES['84x84'], 2)}
    assert [[a.latency_ms for a in block] for block in heard['ours']] == [[3.0] * 2, [6.0] * 2]


@pytest.mark.parametrize(
    ('name', 'changed', 'text'),
    [
        ('160x120', {'p50_ms': 3.01}, '160x120 takes 3.01 ms (p50), expected <= 3'),
        ('800x600', {'ratio': 2.49}, '800x600 is 2.49 times as fast, expected >= 2.5'),
        (
            '84x84',
            {'difference': 0.2},
            '84x84: commands differ by 0.200 of their range, expected <= 0.1',
        ),
    ],
)
def test_shortfalls_are_sentences(name, changed, text):
    assert shortfalls(report(**{name: figures(**changed)})) == [text]


def test_what_is_enough_falls_short_of_nothing():
    enough = {
        '160x120': figures(p50_ms=3.0, ratio=0.5),
        '800x600': figures(p50_ms=50.0, ratio=2.5),
    }
    assert shortfalls(report(**enough)) == []


def test_process_that_ended_badly_is_named():
    found = shortfalls(report({'plain_node': 0, 'td3_agent_node': -9}))
    assert found == ['td3_agent_node ended with status -9, expected 0']


def test_table_has_a_row_per_size():
    lines = table(report(**{'84x84': figures(), '800x600': figures(ratio=4.5)})).splitlines()
    assert lines[2].split() == ['84x84', '1.00', '2.00', '0', '1.00', '2.00', '0', '3.00']
    assert lines[3].split()[-1] == '4.50'
    assert len({len(line) for line in lines[1:]}) == 1


@pytest.mark.parametrize('name', ['blocks', 'frames'])
def test_counts_are_positive(name, capsys):
    assert ended(f'--{name}', '0') == 2
    assert f'{name} must be >= 1, got 0' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('module', 'advice'), [('cv2', 'pip install opencv-python-headless'), ('rclpy', 'env.sh')]
)
def test_what_is_missing_is_one_sentence(module, advice, monkeypatch, capsys):
    monkeypatch.setattr(latency, 'find_spec', lambda name: None if name == module else name)
    assert ended() == 2
    said = capsys.readouterr().err
    assert advice in said
    assert said.count('\n') == 1


def test_figures_are_json():
    found = figures_of({'ours': blocks([1.0]), 'plain': blocks([None])})
    assert json.loads(json.dumps(found, allow_nan=False)) == found

# SPDX-License-Identifier: Apache-2.0
"""The latency bench with its real processes, a few frames only."""

import json
import sys

import pytest

pytest.importorskip('cv2')
pytest.importorskip('torch')
pytest.importorskip('tqdm')

from td3_agent.__main__ import main
from td3_agent.bench import latency

pytestmark = [pytest.mark.system, pytest.mark.nightly]


def ended(*arguments):
    with pytest.raises(SystemExit) as end:
        main(['bench', 'latency', '--case', '84x84', *arguments])
    return end.value.code


def test_both_nodes_answer_and_all_processes_end(capsys):
    assert ended('--blocks', '2', '--frames', '4', '--json') == 0
    report = json.loads(capsys.readouterr().out)
    figures = report['cases']['84x84']
    assert report['frames'] == 8
    assert figures['lost'] == figures['plain_lost'] == 0
    assert 0.0 < figures['p50_ms'] <= figures['p99_ms'] < latency.LOST_S * 1e3
    assert figures['ratio'] > 0.0
    names = {'td3_agent_node', 'plain_node', 'sender of ours', 'sender of plain'}
    assert report['exit_statuses'] == dict.fromkeys(names, 0)


def test_images_of_another_size_are_a_drive_of_their_own(capsys):
    """Within a drive the agent refuses them."""
    ended('--case', '160x120', '--blocks', '1', '--frames', '4', '--json')
    cases = json.loads(capsys.readouterr().out)['cases']
    assert {size: row['lost'] for size, row in cases.items()} == {'84x84': 0, '160x120': 0}


def test_node_that_ends_early_is_named_with_its_last_words(monkeypatch, capsys):
    def start_broken(name, group):
        return group.run(name, [sys.executable, '-c', 'raise SystemExit("out of fuel")'])

    monkeypatch.setattr(latency, 'start_node', start_broken)
    assert ended() == 2
    assert 'ours ended early: out of fuel' in capsys.readouterr().err

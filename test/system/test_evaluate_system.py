# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""td3_agent evaluate: what it writes, that both transports agree, and that it says so if not."""

import csv
import json
import os
import signal

from harness.ledgers import check_ledger
from harness.programs import wait_until
import pytest

from td3_agent.__main__ import parser
from td3_agent.driving.ledger import read_ledger
from td3_agent.evaluation import evaluate, ros_episodes
from td3_agent.evaluation.direct_episodes import (
    DirectJob,
    drive_job,
    drive_jobs,
)
from td3_agent.evaluation.episode_result import EpisodeResult
from td3_agent.evaluation.episodes import EpisodePlan, EvaluationError, write_ledger
from td3_agent.evaluation.ros_episodes import LedgerTail
from td3_agent.nodes.bridge_publisher import path_message
from td3_agent.nodes.conversions import route_from_path
from td3_agent.sim.embedded import route_on_the_wire

pytestmark = pytest.mark.system

SHORT = ('--route-length', '40', '--map', 'oval', '--no-references')
FIGURES = (
    'success_rate',
    'route_completion',
    'driving_score',
    'collisions_per_km',
    'lane_invasions_per_km',
    'mean_speed_mps',
)


def run_here(out, *arguments):
    """Run the subcommand in this process; return exit status and summary."""
    args = parser('evaluate').parse_args(['evaluate', '--out', str(out), *arguments])
    status = args.run(args)
    path = out / 'summary.json'
    return status, json.loads(path.read_text('utf-8')) if path.exists() else None


def ledger_of(path):
    return list(read_ledger(path))


@pytest.fixture
def over_ros(monkeypatch):
    """Drive on the direct path instead of ROS, and let the test change the ledger."""

    def replace(change):
        def drive(plan, episode, driver, ledger_path):
            job = DirectJob(
                plan=plan,
                episode=episode,
                drivers={'ros': driver},
                ledgers={'ros': ledger_path},
            )
            result = drive_job(job)['ros']
            records = ledger_of(ledger_path)
            change(records)
            write_ledger(ledger_path, records)
            return result

        monkeypatch.setattr(ros_episodes, 'drive_over_ros', drive)

    return replace


def test_both_transports_agree(tmp_path):
    """The one with real processes: camera policy, two roads, every hash."""
    status, summary = run_here(
        tmp_path, *SHORT, '--episodes', '2', '--transport', 'ros', '--compare'
    )
    assert status == 0
    assert len(summary['comparison']) == 2
    for row in summary['comparison']:
        assert row['equal']
        assert row['frames_direct'] == row['frames_ros'] > 50
        assert row['observation_hashes_different'] == row['action_hashes_different'] == 0
    for number in range(2):
        folder = tmp_path / f'episode_{number:03d}'
        ros, direct = ledger_of(folder / 'ledger.jsonl'), ledger_of(folder / 'ledger_direct.jsonl')
        assert check_ledger(ros) == []
        assert [r['applied'] for r in ros] == [r['applied'] for r in direct]
        assert len({r['observation_sha256'] for r in ros}) > 50
    assert {episode['transport'] for episode in summary['episodes']} == {'ros'}


@pytest.mark.parametrize(
    ('change', 'equal'),
    [
        (lambda _: None, True),
        (lambda records: records[10].update(observation_sha256='0' * 64), False),
        (list.pop, False),
    ],
)
def test_any_difference_fails(tmp_path, over_ros, change, equal, capsys):
    over_ros(change)
    status, summary = run_here(
        tmp_path, *SHORT, '--driver', 'pure_pursuit', '--episodes', '1', '--compare'
    )
    assert status == int(not equal)
    assert summary['comparison'][0]['equal'] == equal
    assert 'hashes different' in capsys.readouterr().out


def test_results_hold_together_and_do_not_depend_on_the_number_of_processes(tmp_path, capsys):
    arguments = ('--driver', 'pure_pursuit', '--episodes', '3', '--map', 'oval')
    arguments += ('--route-length', '60')
    status, summary = run_here(tmp_path / 'one', *arguments, '--jobs', '1')
    assert status == 0
    printed, told = capsys.readouterr()
    assert told.startswith('evaluating: 1 of 3 episodes, ')
    assert told.count('\n') == 3
    for name in FIGURES:
        low, high = summary[f'{name}_ci95']
        assert low <= summary[name] <= high
    assert set(summary['references']) == {'untrained', 'pure_pursuit'}
    assert summary['references']['pure_pursuit']['mean_speed_mps'] == summary['mean_speed_mps']
    assert summary['references']['untrained']['success_rate'] < summary['success_rate'] == 1.0
    assert len(summary['episodes']) == 3
    assert printed.count('goal') >= 3
    check_files(tmp_path / 'one', summary)
    _, again = run_here(tmp_path / 'two', *arguments, '--jobs', '2')
    assert again == summary


def check_files(out, summary):
    """All files agree on the episodes."""
    assert (out / 'trajectories.png').read_bytes().startswith(b'\x89PNG')
    rows = list(csv.DictReader((out / 'episodes.csv').read_text('utf-8').splitlines()))
    frames = [episode['frames'] for episode in summary['episodes']]
    assert [int(row['frames']) for row in rows] == frames
    joined = ledger_of(out / 'ledger.jsonl')
    for number, count in enumerate(frames):
        own = ledger_of(out / f'episode_{number:03d}' / 'ledger.jsonl')
        assert check_ledger(own) == []
        assert len(own) == count
        assert [r for r in joined if r['episode'] == number] == [
            {'episode': number, **record} for record in own
        ]


def test_unanswered_frame_fails(tmp_path, over_ros, monkeypatch):
    over_ros(lambda _: None)
    monkeypatch.setattr(evaluate, 'totals', lambda _: {'violations': 0, 'frames_not_ok': 1})
    monkeypatch.setattr(evaluate, 'report', lambda *_: '')
    status, _ = run_here(tmp_path, *SHORT, '--driver', 'pure_pursuit', '--episodes', '1')
    assert status == 1


def test_process_that_fails_ends_the_evaluation_with_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ros_episodes, 'GATE_DEADLINE_S', -1.0)  # the gate will reject it
    (tmp_path / 'summary.json').write_text('{}', 'utf-8')
    status, summary = run_here(
        tmp_path, *SHORT, '--driver', 'pure_pursuit', '--episodes', '1', '--transport', 'ros'
    )
    assert (status, summary) == (1, None)
    assert 'gate_node ended with' in capsys.readouterr().err


class TestAttempts:
    """An episode whose lockstep was broken is driven again, and never in silence."""

    def drive(self, tmp_path, monkeypatch, faults):
        """Drive one episode whose attempts have these numbers of unanswered frames."""
        left = iter(faults)

        def once(_plan, _episode, _driver, ledger_path):
            write_ledger(ledger_path, [])
            return EpisodeResult(figures={'violations': 0, 'frames_not_ok': next(left)}, view=None)

        monkeypatch.setattr(ros_episodes, 'drive_once', once)
        plan, path = EpisodePlan(), tmp_path / 'ledger.jsonl'
        result = ros_episodes.drive_over_ros(plan, plan.episode(0), None, path)
        assert list(left) == []
        return result.figures, sorted(path.name for path in tmp_path.iterdir())

    def test_sound_episode_is_driven_once(self, tmp_path, monkeypatch, capsys):
        figures, files = self.drive(tmp_path, monkeypatch, [0])
        assert (figures['attempts'], files) == (1, ['ledger.jsonl'])
        assert not capsys.readouterr().err

    def test_broken_attempt_is_reported_and_kept(self, tmp_path, monkeypatch, capsys):
        figures, files = self.drive(tmp_path, monkeypatch, [5, 0])
        assert (figures['attempts'], figures['frames_not_ok']) == (2, 0)
        assert files == ['ledger.jsonl', 'ledger_attempt_1.jsonl']
        assert 'episode 0: lockstep broken, 5 frames not ok' in capsys.readouterr().err

    def test_last_attempt_counts_as_it_is(self, tmp_path, monkeypatch):
        figures, files = self.drive(tmp_path, monkeypatch, [5, 3, 2])
        assert (figures['attempts'], figures['frames_not_ok']) == (3, 2)
        assert len(files) == 3


@pytest.mark.parametrize(('name', 'closed'), [('oval', True), ('winding', False)])
def test_route_on_the_direct_path_is_the_one_that_the_node_reads(name, closed):
    world = EpisodePlan(map=name, route_length_m=1000.0).episode(0).simulator()
    read, told = route_from_path(path_message(world.ego)), route_on_the_wire(world.ego)
    assert read.closed is told.closed is closed
    assert (read.points_xy == told.points_xy).all()


def test_worker_that_dies_is_an_error(capfd):
    class Deadly:
        def __reduce__(self):
            return os._exit, (3,)

    with pytest.raises(EvaluationError, match='worker process died'):
        list(drive_jobs([Deadly(), Deadly()], 2))
    capfd.readouterr()


def test_ledger_is_read_while_it_is_written(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    tail = LedgerTail(path)
    assert tail.read() == []
    with path.open('w', encoding='utf-8') as file:
        for text, new in (('{"sche', 0), ('ma": 1}\n{"frame": 2}\n{"fra', 1), ('me": 3}\n', 1)):
            file.write(text)
            file.flush()
            assert len(tail.read()) == new
    assert tail.records == [{'frame': 2}, {'frame': 3}]


@pytest.mark.parametrize(
    ('arguments', 'texts'),
    [
        (('--episodes', '0'), ('episodes', '0')),
        (('--jobs', '0'), ('--jobs', '0')),
        (('--map', 'nowhere'), ('map', 'nowhere')),
        (('--map', 'missing.xodr'), ('missing.xodr',)),
        (('--policy', 'no/such/folder'), ('no/such/folder',)),
        (('--driver', 'pure_pursuit', '--policy', 'x'), ('--policy', 'pure_pursuit')),
        (('--route-length', 'nan'), ('route_length_m', 'nan')),
    ],
)
def test_bad_arguments_are_rejected_in_one_sentence(tmp_path, arguments, texts):
    args = parser('evaluate').parse_args(['evaluate', '--out', str(tmp_path), *arguments])
    with pytest.raises((ValueError, OSError)) as error:
        args.run(args)
    assert '\n' not in str(error.value)
    for text in texts:
        assert text in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('arguments', 'sign', 'number'),
    [
        (('--jobs', '2'), 'episode_000/ledger.jsonl', signal.SIGINT),
        (('--transport', 'ros'), 'episode_000/synchronizer.jsonl', signal.SIGTERM),
    ],
)
def test_interrupted_leaves_no_process_and_no_summary(program, tmp_path, arguments, sign, number):
    words = (*SHORT, '--driver', 'pure_pursuit', '--episodes', '200', *arguments)
    started = program('td3_agent', 'evaluate', '--out', tmp_path, *words)
    started.wait_until((tmp_path / sign).exists, sign)
    status, _, errors = started.end(number)
    assert status == 130
    assert errors.strip().endswith('no summary written')
    wait_until(lambda: not started.alive(), 'the end of those whose parent has just gone')
    assert not (tmp_path / 'summary.json').exists()

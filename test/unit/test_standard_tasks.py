# SPDX-License-Identifier: Apache-2.0
"""What docs/td3.md claims is what the records say, and the records hold what is asked."""

import pytest

pytest.importorskip('matplotlib')

import standard_tasks


def test_tables_are_those_of_the_records():
    text = standard_tasks.DOCUMENT.read_text('utf-8')
    assert standard_tasks.with_tables(text) == text


def test_pendulum_is_swung_up_by_every_seed():
    runs = standard_tasks.runs_of('Pendulum-v1')
    assert [seed for seed, _ in runs] == [0, 1, 2, 3, 4]
    for _, rows in runs:
        assert rows[-1]['step'] == 20_000
        assert rows[-1]['episodes'] >= 20
        assert rows[-1]['return_mean'] >= -180.0


def test_inverted_pendulum_is_balanced_by_every_seed():
    runs = standard_tasks.runs_of('InvertedPendulum-v5')
    assert len(runs) == 3
    for _, rows in runs:
        assert max(row['return_mean'] for row in rows if row['step'] <= 60_000) == 1000.0


def test_logs_of_a_run_are_kept_small(tmp_path, monkeypatch):
    run = tmp_path / 'run'
    (run / 'snapshots').mkdir(parents=True)
    (run / 'config.json').write_text('{"env": ["Some-v0"], "train": {"seed": 7}}')
    (run / 'eval.csv').write_text('step,return_mean\n')
    monkeypatch.setattr(standard_tasks, 'RESULTS', tmp_path / 'results')
    standard_tasks.keep(run)
    kept = sorted(path.name for path in (tmp_path / 'results' / 'Some-v0' / 'seed_7').iterdir())
    assert kept == ['config.json', 'eval.csv']

# SPDX-License-Identifier: Apache-2.0
"""Learning curves: which runs make one, where it goes, and what its band is."""

import csv
import json

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('matplotlib')

from td3_agent.__main__ import main
from td3_agent.evaluation.curves import curve_of, curves_of, draw_curves, read_run, run_folders

T_3 = 4.302652729911275  # 0.975 quantile of Student's t for three runs


def make_run(folder, rows, column='return_mean', **settings):
    """Write what the comparison reads of a training."""
    config = {'env': ['Task-v0'], 'td3': {'tau': 0.005}, 'train': {'seed': 0, 'steps': 100}}
    config['versions'] = {'commit': 'abc'}
    for name, value in settings.items():
        config['train' if name in {'seed', 'steps'} else 'td3'][name] = value
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps(config))
    lines = [f'step,{column}', *(f'{step},{value}' for step, value in rows)]
    (folder / 'eval.csv').write_text('\n'.join(lines) + '\n')
    return folder


def test_seeds_make_a_curve_and_settings_another(tmp_path):
    for tau in (0.1, 0.2):
        for seed in (0, 1, 2):
            rows = [(0, 0.0), (10, 10.0 * tau + seed)]
            make_run(tmp_path / f'tau={tau},seed={seed}', rows, tau=tau, seed=seed)
    curves = curves_of([read_run(folder) for folder in run_folders([tmp_path])])
    assert [(curve.name, curve.runs) for curve in curves] == [('tau=0.1', 3), ('tau=0.2', 3)]
    first, last = curves[0].points
    assert first == (0.0, 0.0, [0.0, 0.0])
    assert (last.step, last.mean) == (10.0, 2.0)
    assert last.interval == pytest.approx([2.0 - T_3 / np.sqrt(3.0), 2.0 + T_3 / np.sqrt(3.0)])
    assert curves[1].best[0] == 3.0


def test_a_run_alone_has_a_name_and_no_band(tmp_path):
    (curve,) = curves_of([read_run(make_run(tmp_path / 'run', [(0, 1.0), (5, 4.0), (9, 3.0)]))])
    assert curve.name == 'Task-v0'
    assert [point.interval for point in curve.points] == [None] * 3
    assert curve.best == (4.0, None)


def test_longer_runs_and_fewer_logs_are_the_same_setting(tmp_path):
    runs = [
        make_run(tmp_path / 'short', [(0, 0.0), (10, 1.0)], steps=10),
        make_run(tmp_path / 'long', [(0, 0.0), (10, 1.0), (20, 9.0)], steps=20, seed=1),
    ]
    (curve,) = curves_of([read_run(run) for run in runs])
    assert [point.step for point in curve.points] == [0.0, 10.0]  # as far as both have come


def test_between_evaluations_a_run_is_a_straight_line(tmp_path):
    """Workers of Ray bring steps in fragments, so no two runs are evaluated at the same."""
    runs = [
        make_run(tmp_path / 'a', [(0, 0.0), (10, 10.0), (20, 20.0)]),
        make_run(tmp_path / 'b', [(0, 0.0), (16, 32.0), (20, 40.0)], seed=1),
    ]
    curve = curve_of('both', [read_run(run) for run in runs])
    assert [tuple(point[:2]) for point in curve.points] == [(0, 0), (10, 15), (16, 24), (20, 30)]


@settings(max_examples=20)
@given(st.lists(st.floats(-1e3, 1e3), min_size=2, max_size=6), st.floats(0.1, 10.0))
def test_band_holds_the_mean_and_scales(tmp_path_factory, values, factor):
    folder = tmp_path_factory.mktemp('runs')
    widths = []
    for scale in (1.0, factor):
        runs = [
            read_run(make_run(folder / f'{scale}_{seed}', [(0, scale * value)], seed=seed))
            for seed, value in enumerate(values)
        ]
        if factor == 1.0 and widths:
            return
        (point,) = curve_of('', runs).points
        low, high = point.interval
        assert low <= point.mean <= high
        widths.append(high - low)
    assert widths[1] == pytest.approx(factor * widths[0], abs=1e-6)


def test_verb_writes_table_and_picture(tmp_path, capsys):
    for seed in (0, 1):
        make_run(tmp_path / 'sweep' / str(seed), [(0, 0.0), (10, seed)], 'success_rate', seed=seed)
    out = tmp_path / 'out'
    words = [str(tmp_path / 'sweep'), '--column=success_rate', f'--out={out}']
    with pytest.raises(SystemExit) as ended:
        main(['compare', *words])
    assert ended.value.code == 0
    assert 'Task-v0     2        10' in capsys.readouterr().out
    rows = list(csv.DictReader((out / 'compare.csv').read_text().splitlines()))
    assert [(row['step'], row['mean']) for row in rows] == [('0.0', '0.0'), ('10.0', '0.5')]
    assert (out / 'compare.png').read_bytes().startswith(b'\x89PNG')


def test_picture_takes_more_curves_than_there_are_colours(tmp_path):
    runs = [
        read_run(make_run(tmp_path / str(tau), [(0, 0.0), (10, tau)], tau=tau))
        for tau in range(11)
    ]
    draw_curves(tmp_path / 'compare.png', curves_of(runs), 'return_mean')
    assert (tmp_path / 'compare.png').stat().st_size > 10_000


@pytest.mark.parametrize(
    ('rows', 'words', 'said'),
    [
        ([], [], 'has no evaluations'),
        ([(0, 1.0)], ['--column=height'], "has no column 'height', but step, return_mean"),
    ],
)
def test_what_cannot_be_compared_is_named(tmp_path, capsys, rows, words, said):
    make_run(tmp_path / 'run', rows)
    with pytest.raises(SystemExit) as ended:
        main(['compare', str(tmp_path / 'run'), *words, f'--out={tmp_path / "out"}'])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_folder_without_a_training_is_named(tmp_path):
    with pytest.raises(ValueError, match='holds no training'):
        run_folders([tmp_path])

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Learning curves: which runs make one, where it goes, and what its band is."""

import csv
import json
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest

pytest.importorskip('matplotlib')

from td3_agent.__main__ import main
from td3_agent.evaluation.curves import (
    LABEL_CHARACTERS,
    curve_label,
    curve_of,
    curves_of,
    draw_curves,
    read_run,
    run_folders,
)

RESULTS = Path(__file__).parents[3] / 'docs' / 'results'
T_3 = 4.302652729911275  # 0.975 quantile of Student's t for three runs


def make_run(folder, rows, column='return_mean', ray=None, commit='abc', **settings):
    """Write what the comparison reads of a training."""
    config = {'env': ['Task-v0'], 'td3': {'tau': 0.005}, 'train': {'seed': 0, 'steps': 100}}
    config['versions'] = {'commit': commit} if commit else {}
    config |= {'ray': ray} if ray else {}
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
    *_, line, _, _ = capsys.readouterr().out.splitlines()
    assert line.split()[:4] == ['Task-v0', '2', '10', '0.50']
    rows = list(csv.DictReader((out / 'compare.csv').read_text().splitlines()))
    assert [(row['step'], row['mean']) for row in rows] == [('0.0', '0.0'), ('10.0', '0.5')]
    assert (out / 'compare.png').read_bytes().startswith(b'\x89PNG')


def test_curves_are_named_after_ray_and_its_settings_where_it_is(tmp_path):
    two, four = ({'workers': workers, 'fragment_steps': 64} for workers in (2, 4))
    rows = [(0, 0.0), (10, 1.0)]

    def names(*rays):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        runs = [read_run(make_run(folder / str(i), rows, ray=ray)) for i, ray in enumerate(rays)]
        return [curve.name for curve in curves_of(runs)]

    assert names(None, two) == ['ray=no', 'ray=yes']
    assert names(None, two, four) == ['ray=no', 'ray=yes, workers=2', 'ray=yes, workers=4']
    assert names(two, four) == ['workers=2', 'workers=4']


def test_commits_are_short_and_may_be_unknown(tmp_path):
    commits = ('a' * 40, 'b' * 40 + '-dirty', None, 'b' * 41)
    runs = [
        read_run(make_run(tmp_path / str(number), [(0, 0.0)], commit=commit))
        for number, commit in enumerate(commits)
    ]
    names = [curve.name for curve in curves_of(runs)]
    assert names == [
        'commit=aaaaaaa',
        'commit=bbbbbbb-dirty',
        'commit=unknown',
        'commit=bbbbbbb',
    ]


def test_long_names_are_wrapped(tmp_path):
    run = read_run(make_run(tmp_path / 'run', [(0, 0.0), (1, 1.0)]))
    name = ', '.join(f'setting_{number}=module:some_package/Task-v0' for number in range(9))
    curve = curve_of(name, [run])
    lines = curve_label(curve).splitlines()
    assert max(map(len, lines)) <= LABEL_CHARACTERS
    assert ' '.join(lines) == f'{name} (1 run)'
    heights = []
    for count in (1, 12):
        draw_curves(tmp_path / 'compare.png', [curve] * count, 'return_mean')
        heights.append(int.from_bytes((tmp_path / 'compare.png').read_bytes()[20:24], 'big'))
    assert heights[1] > 1.5 * heights[0]  # room for the legend


@pytest.mark.parametrize(
    'cut_off', ['20', '20,', '20,5', '20,5\n30\n', '20,5\n,7\n', '20,5\n30,\n']
)
def test_rows_that_are_not_whole_are_left_out(tmp_path, cut_off):
    folder = make_run(tmp_path / 'run', [(0, 1.0), (10, 2.0)])
    with (folder / 'eval.csv').open('a') as file:
        file.write(cut_off)
    whole = [0.0, 10.0, 20.0] if cut_off.startswith('20,5\n') else [0.0, 10.0]
    assert read_run(folder).steps.tolist() == whole


@pytest.mark.parametrize(
    ('name', 'text', 'said'),
    [
        ('eval.csv', 'step,return_mean\n0,high\n', 'could not convert'),
        ('eval.csv', 'step,return_mean\n0,\n', 'has no evaluations'),
        ('config.json', '{"env": [', 'cannot be read'),
        ('config.json', '[]', 'must hold mappings of settings: td3, train, ray, versions'),
        ('config.json', '{"td3": {}}', 'must hold a list of tasks as env, got None'),
        ('config.json', '{"env": "a"}', "must hold a list of tasks as env, got 'a'"),
        ('config.json', '{"env": ["a"], "td3": 3}', 'must hold mappings of settings'),
    ],
)
def test_files_that_are_damaged_are_named(tmp_path, name, text, said):
    folder = make_run(tmp_path / 'run', [(0, 1.0)])
    (folder / name).write_text(text)
    with pytest.raises(ValueError, match=said) as refused:
        read_run(folder)
    assert str(folder / name) in str(refused.value)


@pytest.mark.parametrize('name', ['Pendulum-v1', 'InvertedPendulum-v5', 'driving'])
def test_runs_that_ship_can_be_compared(name):
    runs = [read_run(folder) for folder in run_folders([RESULTS / name])]
    assert sum(curve.runs for curve in curves_of(runs)) == len(runs) > 1


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

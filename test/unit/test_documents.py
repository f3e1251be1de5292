# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The documents say what records and code say, and name files that exist."""

import json
from pathlib import Path
import re

import pytest

pytest.importorskip('rclpy')
pytest.importorskip('matplotlib')

import bench_tables
import pictures
import tables

from td3_agent.evaluation.scenarios import SCENARIOS

ROOT = Path(__file__).parents[2]
PAGES = {name: (ROOT / 'docs' / f'{name}.md').read_text('utf-8') for name in ('scale', 'traffic')}
FOLDERS = '(?:benchmarks|config|deploy|docs|scripts|td3_agent|test)'


def test_every_table_is_that_of_records_and_code():
    wanted = tables.wanted_files()
    stale = [str(path) for path, text in wanted.items() if path.read_text('utf-8') != text]
    assert not stale, 'run scripts/tables.py'


def test_every_record_and_node_has_a_block():
    """And a table that no record makes any more would stay in its document for ever."""
    held = ''.join(path.read_text('utf-8') for path in tables.wanted_files())
    named = set(re.findall(r'^<!-- (.+) -->$', held, flags=re.MULTILINE))
    made = {name for name in tables.blocks() if not name.startswith('evaluation')}  # in rows, too
    assert made <= named
    unmade = {n for n in named - set(tables.blocks()) if not n.startswith(('evaluation', 'named'))}
    assert unmade <= {'end', 'topics', 'demo output'}


def test_missing_and_double_markers_are_refused():
    block = '<!-- bench ray -->\nold\n<!-- end -->\n'
    assert tables.renewed(block, 'bench ray', 'new') == block.replace('old', 'new')
    for document in ('# Scale', 2 * block):
        with pytest.raises(ValueError, match='one block <!-- bench ray -->'):
            tables.renewed(document, 'bench ray', 'new')


@pytest.mark.parametrize('page', sorted(p.stem for p in (ROOT / 'docs').glob('*.md')))
def test_files_that_a_page_names_exist(page):
    text = (ROOT / 'docs' / f'{page}.md').read_text('utf-8')
    names = re.findall(rf'[`(]({FOLDERS}/[\w/.-]+\.(?:py|yaml|xml|md|json|csv|sh))\b', text)
    assert [name for name in names if not (ROOT / name).exists()] == []
    shown = re.findall(r'\]\((images/[\w/.]+)\)', text)
    assert [name for name in shown if not (ROOT / 'docs' / name).exists()] == []


def test_empty_cells_and_alignment():
    text = bench_tables.table(('a', '', 'c'), [('x', '', ''), (1, 2, 3)], left=2)
    assert text.splitlines() == ['| a | | c |', '|---|---|---:|', '| x | | |', '| 1 | 2 | 3 |']


# ---- what the records must hold ----------------------------------------------------------------


def test_standard_tasks_are_learned_by_every_seed():
    pendulum, inverted = (tables.runs_of(t) for t in ('Pendulum-v1', 'InvertedPendulum-v5'))
    assert [seed for seed, _ in pendulum] == [0, 1, 2, 3, 4]
    for _, rows in pendulum:
        assert (rows[-1]['step'], rows[-1]['episodes'] >= 20) == (20_000, True)
        assert rows[-1]['return_mean'] >= -180.0
    assert len(inverted) == 3
    for _, rows in inverted:
        assert max(row['return_mean'] for row in rows if row['step'] <= 60_000) == 1000.0


def test_every_fault_has_passed():
    reports = [tables.read(path) for path in tables.RESULTS.glob('faults*.json')]
    cases = [case for report in reports for case in report['cases']]
    assert [case['name'] for case in cases if not case['passed']] == []


def test_every_measured_scenario_has_a_reference_row():
    measured = [record['scenario'] for record in tables.driven() if record['scenario']]
    assert set(measured) <= set(SCENARIOS)
    for name in measured:
        assert f'| `{name}` | pure pursuit idm (direct) |' in PAGES['traffic']


def test_records_name_no_place_of_the_machine_that_made_them():
    records = sorted((ROOT / 'docs' / 'results' / 'evaluations').glob('*.json'))
    assert records
    for path in records:
        plan = tables.read(path).get('plan', {})
        assert '/' not in plan.get('map', ''), path.name


# ---- what is kept ------------------------------------------------------------------------------


@pytest.fixture
def results(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, 'RESULTS', tmp_path / 'results')
    monkeypatch.setattr(tables, 'EVALUATIONS', tmp_path / 'results' / 'evaluations')
    monkeypatch.setattr(tables, 'IMAGES', tmp_path)
    return tmp_path / 'results'


def test_logs_of_a_run_are_kept_small(tmp_path, results):
    run = tmp_path / 'run'
    (run / 'snapshots').mkdir(parents=True)
    (run / 'config.json').write_text('{"env": ["Some-v0"], "train": {"seed": 7}}')
    (run / 'eval.csv').write_text('step,return_mean\n')
    assert tables.keep(run) == results / 'Some-v0' / 'seed_7'
    kept = sorted(path.name for path in (results / 'Some-v0' / 'seed_7').iterdir())
    assert kept == ['config.json', 'eval.csv']


def evaluation(**more):
    """The summary of an evaluation of one driver."""
    plan = {'episodes': 2, 'map': 'winding', 'family': 'test', 'seed': 3, 'route_length_m': 400.0}
    return {'plan': plan, 'episodes': [{}] * 2, 'driver': 'TD3 lane', 'figures': {}, **more}


def test_evaluations_are_kept_and_renew_their_blocks(tmp_path, results):
    (tmp_path / 'summary.json').write_text(json.dumps(evaluation(scenario=None)))
    with pytest.raises(ValueError, match='the evaluation of a driver without a policy'):
        tables.keep(tmp_path)
    rows = [{'frames_ros': 100, 'equal': True}, {'frames_ros': 50, 'equal': False}]
    for summary, name in (
        (evaluation(policy='lane', scenario=None, comparison=rows), 'lane_compare_winding'),
        (evaluation(policy='build/route', scenario='traffic-20'), 'route_traffic-20_winding'),
    ):
        (tmp_path / 'summary.json').write_text(json.dumps(summary))
        assert tables.keep(tmp_path) == results / 'evaluations' / f'{name}.json'
    assert 'episodes' not in tables.read(results / 'evaluations' / f'{name}.json')
    on_a_file = evaluation(policy='route', scenario=None)
    on_a_file['plan']['map'] = '/some/where/My.xodr'
    (tmp_path / 'summary.json').write_text(json.dumps(on_a_file))
    assert tables.read(tables.keep(tmp_path))['plan']['map'] == 'My.xodr'
    page = tables.with_tables('<!-- evaluation lane_compare_winding -->\nold\n<!-- end -->\n')
    assert '1 of 2 episodes are equal in every observation and action hash, 150 frames' in page


def test_demo_is_kept_with_its_pictures(tmp_path, results):
    demo = tmp_path / 'demo'
    demo.mkdir()
    (demo / 'summary.json').write_text('{"frames": 3, "findings": []}')
    for name in ('trajectory.png', 'camera.png'):
        (demo / name).touch()
    assert tables.keep(demo) == results / 'demo.json'
    assert (tmp_path / 'camera.png').exists()
    assert 'frames' in tables.with_tables('<!-- demo output -->\n<!-- end -->\n')


# ---- projection and pictures -------------------------------------------------------------------


def made(**parts):
    """A report of round figures."""
    given = {
        'worker_steps_per_s': 100.0,
        'updates_per_s': 50.0,
        'stored_steps_per_s': 10_000.0,
        'bytes_per_step': 1000.0,
        'policy_bytes': 1_000_000,
    }
    ray = {'fragment_steps': 100, 'broadcast_every': 50}
    return {'parts': given | parts, 'ray': ray, 'updates_per_step': 0.5}


def test_limits_are_arithmetic():
    many, one = (bench_tables.limits_per_s(made(), workers) for workers in (1000, 1))
    assert bench_tables.asked_per_s(made(), 1000) == 100_000.0
    # A step costs the learner half an update of 20 ms, and 0.1 ms to store.
    assert many['learner'] == pytest.approx(1.0 / 0.0101)
    assert many['steps in, 1 Gbit/s'] == pytest.approx(125_000.0)
    # Many workers: a policy of 1 MB with each fragment of 100 steps.
    assert many['policies out, 1 Gbit/s'] == pytest.approx(12_500.0)
    # One worker: a policy after 50 updates, which are 100 steps; with 8 steps per update, 400.
    assert one['policies out, 1 Gbit/s'] == pytest.approx(12_500.0)
    slow = bench_tables.limits_per_s(made() | {'updates_per_step': 0.125}, 1)
    assert slow['policies out, 1 Gbit/s'] == pytest.approx(50_000.0)


@pytest.mark.parametrize(
    ('parts', 'said'),
    [
        ({}, 'The learner saturates first'),
        ({'updates_per_s': 1e6, 'stored_steps_per_s': 1e6}, 'The network saturates first'),
        (
            {'updates_per_s': 1e6, 'stored_steps_per_s': 1e6, 'bytes_per_step': 1e6},
            r'\*steps in, 1 Gbit/s\* at 125 steps/s',
        ),
    ],
)
def test_what_saturates_first_is_named(parts, said):
    assert re.search(said, bench_tables.projection_text(made(**parts)))


@pytest.mark.slow
@pytest.mark.parametrize('draw', pictures.FROM_RECORDS, ids=lambda draw: draw.__name__)
def test_pictures_are_drawn(draw, tmp_path):
    pictures.save(draw(), tmp_path / 'picture.png')
    assert (tmp_path / 'picture.png').stat().st_size > 10_000

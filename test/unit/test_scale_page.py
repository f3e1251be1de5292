# SPDX-License-Identifier: Apache-2.0
"""The page on scale says what the result file says, and its projection is plain arithmetic."""

import json
from pathlib import Path
import re

import pytest
import scale_tables
from scale_tables import Projection

ROOT = Path(__file__).parents[2]
PAGE = scale_tables.PAGE.read_text('utf-8')


@pytest.fixture(scope='module')
def report():
    return json.loads(scale_tables.RESULTS.read_text('utf-8'))


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


def test_tables_are_those_of_the_results(report):
    assert scale_tables.with_tables(PAGE, report) == PAGE, 'run scripts/scale_tables.py'


def test_limits_are_arithmetic():
    projection = Projection(made())
    assert projection.asked_per_s(1000) == 100_000.0
    # A step costs the learner half an update of 20 ms, and 0.1 ms to store.
    assert projection.learner_per_s() == pytest.approx(1.0 / 0.0101)
    assert projection.steps_in_per_s(1.0) == pytest.approx(125_000.0)
    # Many workers: a policy of 1 MB with each fragment of 100 steps.
    assert projection.policies_out_per_s(1.0, 1000) == pytest.approx(12_500.0)
    # One worker: a policy after 50 updates, which are 100 steps; with 2 steps per update, 400.
    assert projection.policies_out_per_s(1.0, 1) == pytest.approx(12_500.0)
    slow = Projection(made() | {'updates_per_step': 0.125})
    assert slow.policies_out_per_s(1.0, 1) == pytest.approx(50_000.0)
    assert slow.policies_out_per_s(1.0, 1000) == pytest.approx(12_500.0)


@pytest.mark.parametrize(
    ('parts', 'first', 'said'),
    [
        ({}, 'learner', 'The learner saturates first'),
        ({'updates_per_s': 1e6, 'stored_steps_per_s': 1e6}, 'policies out, 1 Gbit/s', 'network'),
        (
            {'updates_per_s': 1e6, 'stored_steps_per_s': 1e6, 'bytes_per_step': 1e6},
            'steps in, 1 Gbit/s',
            r'\*steps in, 1 Gbit/s\* at 125 steps/s',
        ),
    ],
)
def test_what_saturates_first_is_named(parts, first, said):
    report = made(**parts)
    assert Projection(report).first(1000) == first
    assert re.search(said, scale_tables.projection_text(report))


def test_missing_markers_are_named(report):
    with pytest.raises(ValueError, match='one block <!-- bench ray -->'):
        scale_tables.with_tables('# Scale', report)


def test_picture_is_drawn(report, tmp_path):
    pytest.importorskip('matplotlib')
    scale_tables.draw(report, tmp_path / 'scale.png')
    assert (tmp_path / 'scale.png').stat().st_size > 10_000


def test_files_that_it_names_exist():
    names = re.findall(r'`?((?:config|deploy|scripts|td3_agent|docs)/[\w/.-]+\.\w+)', PAGE)
    assert len(names) > 3
    assert [name for name in names if not (ROOT / name).exists()] == []
    pictures = re.findall(r'\]\((images/[\w/.]+)\)', PAGE)
    assert [name for name in pictures if not (ROOT / 'docs' / name).exists()] == []

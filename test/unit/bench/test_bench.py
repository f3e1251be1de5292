# SPDX-License-Identifier: Apache-2.0
"""The bench verb: what it refuses, how it compares, and that its work is real work."""

from functools import partial
import json
import types

import pytest

pytest.importorskip('gymnasium')
pytest.importorskip('tqdm')

from td3_agent.__main__ import main
from td3_agent.bench import learner, ray, verb
from td3_agent.bench.learner import CASES, Case, Worker, compare, ours
from td3_agent.td3.replay import ObservationShape
from td3_agent.training.params import RayParams

TINY = Case(
    shape=ObservationShape(state_size=3),
    actions=1,
    batch=4,
    stored=10,
    updates=2,
    policy='MlpPolicy',
    settings={'hidden_units': 8},
)


def ended(*arguments):
    with pytest.raises(SystemExit) as end:
        main(['bench', *arguments])
    return end.value.code


def test_missing_rival_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(learner, 'find_spec', lambda _: None)
    assert ended('learner') == 2
    assert capsys.readouterr().err == (
        'td3_agent bench: stable-baselines3 is what this compares with, and it is not installed: '
        'pip install stable-baselines3\n'
    )


@pytest.mark.parametrize('name', ['turns', 'run-steps', 'runs'])
def test_counts_are_positive(name, capsys):
    assert ended('learner', f'--{name}', '0') == 2
    assert f'{name.replace("-", "_")} must be >= 1, got 0' in capsys.readouterr().err


def test_help_and_names(capsys):
    assert ended('--help') == 0
    assert 'Stable-Baselines3' in capsys.readouterr().out
    assert ended('learner', '--help') == 0
    assert '--turns' in capsys.readouterr().out
    assert ended('nothing') == 2


class Rated:
    def __init__(self, *rates):
        self.rates, self.asked = list(rates), []

    def rate(self, count):
        self.asked.append(count)
        return self.rates.pop(0)


def test_ratio_is_of_neighbours():
    """The machine slows down by half after the first turn; the ratio does not."""
    figures = compare(Rated(40.0, 20.0, 20.0), Rated(20.0, 10.0, 10.0), 7, 3, 'updates_per_s')
    assert figures == {'updates_per_s': 20.0, 'sb3_updates_per_s': 10.0, 'ratio': 2.0}


@pytest.mark.slow
def test_work_is_done_in_a_process():
    worker = Worker(partial(ours, TINY))
    try:
        assert worker.rate(2) > 0.0
    finally:
        worker.close()


@pytest.mark.parametrize('case', CASES)
def test_cases_fit_our_learner(case, monkeypatch):
    monkeypatch.setattr(learner, 'keep_freed_memory', lambda: None)
    whole = CASES[case]
    fields = {name: getattr(whole, name) for name in ('shape', 'actions', 'policy', 'settings')}
    ours(Case(**fields, batch=2, stored=8, updates=1))(2)


@pytest.mark.parametrize(('ratio', 'status'), [(1.49, 1), (1.5, 0)])
def test_report_and_status(ratio, status, monkeypatch, capsys):
    figures = {'updates_per_s': 3.0, 'sb3_updates_per_s': 2.0, 'ratio': ratio}
    monkeypatch.setattr(learner, 'measure', lambda _: {'cases': {'vector': figures}})
    args = types.SimpleNamespace(benchmark='learner', arguments=['--json'])
    assert verb.run(args) == status
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report['cases']['vector'] == figures
    assert {'cpu', 'cores', 'load_before', 'load_after'} <= set(report['machine'])
    assert ('expected >= 1.5' in said.err) == (status == 1)
    args.arguments = []
    verb.run(args)
    assert capsys.readouterr().out.splitlines()[1].split() == [
        'vector',
        '3.0',
        '2.0',
        f'{ratio}'.ljust(4, '0'),
    ]


# ---- Ray: the parts, which need no Ray ---------------------------------------------------------


def test_parts_of_a_distributed_training_are_measured():
    task = 'td3_agent.training.tasks:td3_agent/Spot-v0'
    settings = {'env': [task], 'batch_size': 4, 'hidden_units': 8, 'buffer_capacity': 1000}
    settings |= {'encoder': 'small_images', 'features': 4}
    found = ray.parts(settings, RayParams(fragment_steps=20), fragments=2, updates=2)
    assert all(value > 0.0 for value in found.values())
    # A frame of 12 x 12 bytes once, two floats, action, reward; the rest is the way it is packed.
    assert 144 + 16 < found['bytes_per_step'] < 3 * (144 + 16)
    assert found['policy_bytes'] % 4 == 0


def test_table_of_ray_has_a_row_for_each_number_of_workers():
    rates = {'steps_per_s': 10.0, 'updates_per_s': 5.0}
    runs = {str(workers): {'store': rates, 'train': rates} for workers in (1, 4)}
    lines = ray.table({'runs': runs, 'parts': {'policy_bytes': 4}}).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ['1', '4']
    assert ray.shortfalls({}) == []


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (('--seconds', '0'), '--seconds must be > 0'),
        (('--workers', '0'), '--workers must be >= 1'),
    ],
)
def test_ray_refuses_nothing_to_measure(words, said, capsys):
    assert ended('ray', *words) == 2
    assert said in capsys.readouterr().err


def test_missing_ray_is_one_sentence(monkeypatch, capsys):
    monkeypatch.setattr(ray, 'find_spec', lambda _: None)
    assert ended('ray') == 2
    assert 'Ray is not installed: pip install -r requirements/ray.in' in capsys.readouterr().err

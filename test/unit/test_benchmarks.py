# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: their figures in closed form, what they refuse, and that their work is real."""

from dataclasses import replace
from functools import partial
import json
import sys

from hypothesis import given
from hypothesis import strategies as st
import pytest

pytest.importorskip('gymnasium')
pytest.importorskip('tqdm')

from benchmarks import __main__ as command_line
from benchmarks import learner, ray
from benchmarks.harness import (
    PERIOD_NS,
    BenchError,
    Limit,
    Program,
    SilentError,
    in_turns,
    missed_ticks,
    rate_figures,
)
from benchmarks.learner import CASES, ratios
from td3_agent.training.params import RayParams

START_NS = 1_763_000_000_123_456_789  # a system clock's
COUNT = 200
ECHO = """
import json, sys
print('from the middleware', flush=True)
for line in sys.stdin:
    if line == 'end\\n':
        sys.exit(3)
    print(json.dumps([line.strip(), sys.argv[1:]]), flush=True)
"""


def on_time(count=COUNT):
    return [START_NS + k * PERIOD_NS for k in range(count)]


class TestFigures:
    def test_perfect_pace(self):
        figures = rate_figures(on_time())
        assert figures['rate_hz'] == pytest.approx(20.0, abs=1e-9)
        assert figures['sigma_ms'] == pytest.approx(0.0, abs=1e-9)
        assert (figures['commands'], figures['missed'], figures['max_ms']) == (COUNT, 0, 50.0)

    def test_jitter_to_and_fro(self):
        """Every other one late by j: periods are 50 - j and 50 + j, sigma is j, none is missed."""
        figures = rate_figures([t + 3_000_000 * (k % 2) for k, t in enumerate(on_time(201))])
        assert figures['sigma_ms'] == pytest.approx(3.0)
        assert figures['missed'] == 0

    def test_one_is_no_period(self):
        with pytest.raises(ValueError, match='two commands make a period, got 1'):
            rate_figures([START_NS])

    @given(gone=st.sets(st.integers(1, COUNT - 2), max_size=50))
    def test_every_missing_command_is_a_missed_tick(self, gone):
        assert missed_ticks([t for k, t in enumerate(on_time()) if k not in gone]) == len(gone)

    @given(
        late_ns=st.lists(st.integers(0, PERIOD_NS // 5), min_size=COUNT, max_size=COUNT),
        phase_ns=st.integers(0, PERIOD_NS),
    )
    def test_jitter_below_a_fifth_misses_nothing(self, late_ns, phase_ns):
        times = [t + phase_ns + late for t, late in zip(on_time(), late_ns, strict=True)]
        assert missed_ticks(times) == 0

    @pytest.mark.parametrize('percent', [1, 2])
    def test_slow_pace_misses_what_it_lacks(self, percent):
        """N periods of 50 ms times (1 + p) span N p ticks more than there are commands."""
        times = [START_NS + k * PERIOD_NS * (100 + percent) // 100 for k in range(1001)]
        assert missed_ticks(times) == pytest.approx(1000 * percent / 100, abs=1)

    @pytest.mark.parametrize(
        ('limit', 'text'),
        [
            (Limit('p50', 3.0, 'ms', most=3.0), ''),
            (Limit('p50', 3.01, 'ms', most=3.0), 'p50: 3.01 ms, expected <= 3'),
            (Limit('ratio', 1.49, least=1.5), 'ratio: 1.49, expected >= 1.5'),
            (Limit('rate', float('nan'), 'Hz', most=1.0), 'rate: nan Hz, expected <= 1'),
        ],
    )
    def test_limits(self, limit, text):
        assert limit.missed() == text


def test_sides_take_turns():
    log = []
    given = in_turns(3, *(partial(lambda side: log.append(side) or side, side) for side in 'ab'))
    assert ''.join(log) == 'abbaab'
    assert given == [['a'] * 3, ['b'] * 3]


class TestProgram:
    @pytest.fixture
    def environment(self, tmp_path):
        (tmp_path / 'echoing.py').write_text(ECHO, 'utf-8')
        return {'PYTHONPATH': str(tmp_path)}

    def test_answers_and_ends_with_its_input(self, environment, capsys):
        with Program('echoing', 'loudly', environment=environment) as program:
            assert program.ask('hello', 30.0) == ['hello', ['loudly']]
            assert program.ask('again', 30.0) == ['again', ['loudly']]
            assert program.end() == 0
        assert capsys.readouterr().err == 'from the middleware\n'

    def test_silence_and_end_are_named(self, environment):
        with Program('echoing', environment=environment) as program:
            with pytest.raises(SilentError, match=r'echoing must answer within 0\.01 s'):
                program.hear(0.01)
            with pytest.raises(BenchError, match='echoing has ended'):
                program.ask('end', 30.0)
            assert program.end() == 3


class TestCommandLine:
    def test_help_and_names(self, capsys):
        for words, status, said in (
            (['--help'], 0, 'Stable-Baselines3'),
            (['learner', '--help'], 0, '--turns'),
            (['nothing'], 2, 'invalid choice'),
        ):
            with pytest.raises(SystemExit) as ended:
                command_line.main(words)
            assert ended.value.code == status
            assert said in ''.join(capsys.readouterr())

    @pytest.mark.parametrize(
        ('words', 'said'),
        [
            (['learner', '--turns', '0'], '--turns must be >= 1, got 0'),
            (['ray', '--seconds', 'nan'], '--seconds must be >= 0.001, got nan'),
            (['ray', '--workers', '0'], '--workers must be >= 1, got 0'),
        ],
    )
    def test_numbers_that_make_no_sense_are_refused(self, words, said, capsys):
        assert command_line.main(words) == 2
        assert capsys.readouterr().err == f'{words[0]}: {said}\n'

    @pytest.mark.parametrize(
        ('module', 'said'),
        [(learner, 'stable-baselines3 is not installed'), (ray, 'Ray is not installed')],
    )
    def test_what_is_missing_is_one_sentence(self, module, said, monkeypatch, capsys):
        monkeypatch.setattr(module, 'find_spec', lambda _: None)
        assert command_line.main([module.__name__.rpartition('.')[2]]) == 2
        err = capsys.readouterr().err
        assert said in err
        assert err.count('\n') == 1

    @pytest.mark.parametrize(('ratio', 'status'), [(1.49, 1), (1.5, 0)])
    def test_report_and_status(self, ratio, status, monkeypatch, capsys, tmp_path):
        figures = {'updates_per_s': 3.0, 'sb3_updates_per_s': 2.0, 'ratio': ratio}
        report = {'cases': {'vector': figures}, 'versions': {'torch': '2'}}
        monkeypatch.setattr(learner, 'measure', lambda _: report)
        assert command_line.main(['learner', '--out', str(tmp_path / 'record.json')]) == status
        said = capsys.readouterr()
        assert f'| vector | 3.0 updates/s | 2.0 updates/s | **{ratio:.2f}** | - | - |' in said.out
        assert ('expected >= 1.5' in said.err) == (status == 1)
        record = json.loads((tmp_path / 'record.json').read_text())
        assert record['cases']['vector'] == figures
        assert {'cpu', 'cores', 'load_before', 'load_after'} <= set(record['machine'])

    def test_interruption_has_no_figures(self, monkeypatch, capsys):
        def measure(_):
            raise KeyboardInterrupt

        monkeypatch.setattr(learner, 'measure', measure)
        assert command_line.main(['learner']) == 130
        assert capsys.readouterr() == ('', 'learner: interrupted, no figures\n')


class TestLearner:
    def test_ratio_is_of_neighbours(self):
        """The machine slows down by half after the first turn; the ratio does not."""
        figures = ratios([(40.0, 20.0), (20.0, 10.0), (20.0, 10.0)], 'updates_per_s')
        assert figures == {'updates_per_s': 20.0, 'sb3_updates_per_s': 10.0, 'ratio': 2.0}
        of_three = ratios([(40.0, 20.0, 10.0), (20.0, 10.0, 5.0)], 'updates_per_s')
        assert (of_three['sbx_updates_per_s'], of_three['sbx_ratio']) == (7.5, 4.0)

    @pytest.mark.parametrize('case', CASES)
    def test_cases_fit_our_learner(self, case, monkeypatch):
        monkeypatch.setattr(learner, 'keep_freed_memory', lambda: None)
        learner.ours(replace(CASES[case], batch=2, stored=8, updates=1))(2)


def test_parts_of_a_distributed_training_are_measured():
    task = 'td3_agent.training.tasks:td3_agent/Spot-v0'
    settings = {'env': [task], 'batch_size': 4, 'hidden_units': 8, 'buffer_capacity': 1000}
    settings |= {'encoder': 'small_images', 'features': 4}
    found = ray.parts(settings, RayParams(fragment_steps=20), fragments=2, updates=2)
    assert all(value > 0.0 for value in found.values())
    # A frame of 12 x 12 bytes once, two floats, action, reward; the rest is the way it is packed.
    assert 144 + 16 < found['bytes_per_step'] < 3 * (144 + 16)
    assert found['policy_bytes'] % 4 == 0


def test_no_benchmark_is_forgotten():
    """Each has a table, and each module that measures is one."""
    import bench_tables

    assert set(bench_tables.TABLES) == set(command_line.BENCHMARKS)
    folder = command_line.SCRIPTS.parent / 'benchmarks'
    measuring = {p.stem for p in folder.glob('*.py') if 'def measure(' in p.read_text('utf-8')}
    assert measuring == set(command_line.BENCHMARKS)
    assert 'benchmarks' in sys.modules

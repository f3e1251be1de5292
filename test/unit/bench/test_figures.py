# SPDX-License-Identifier: Apache-2.0
"""What benchmarks make of times: closed forms, and what holds for any times."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.bench.figures import PERIOD_NS, missed_ticks, rate_figures, spread_ms

START_NS = 1_763_000_000_123_456_789  # a system clock's
COUNT = 200


def on_time(count=COUNT):
    return [START_NS + k * PERIOD_NS for k in range(count)]


def test_spread():
    times_ms = range(101)  # percentiles of 0 ... 100 are themselves
    spread = spread_ms([k * 1_000_000 for k in times_ms])
    assert spread == pytest.approx({'p50_ms': 50.0, 'p99_ms': 99.0, 'max_ms': 100.0})


def test_perfect_pace():
    figures = rate_figures(on_time())
    assert figures['rate_hz'] == pytest.approx(20.0, abs=1e-9)
    assert figures['sigma_ms'] == pytest.approx(0.0, abs=1e-9)
    assert figures['p99_ms'] == figures['max_ms'] == 50.0
    assert (figures['commands'], figures['missed']) == (COUNT, 0)


def test_jitter_to_and_fro():
    """Every other one late by j: periods are 50 - j and 50 + j, sigma is j, none is missed."""
    late_ns = 3_000_000
    times = [t + late_ns * (k % 2) for k, t in enumerate(on_time(201))]
    figures = rate_figures(times)
    assert figures['rate_hz'] == pytest.approx(20.0)
    assert figures['sigma_ms'] == pytest.approx(3.0)
    assert figures['missed'] == 0


def test_one_is_no_period():
    with pytest.raises(ValueError, match='two commands make a period, got 1'):
        rate_figures([START_NS])


@given(gone=st.sets(st.integers(1, COUNT - 2), max_size=50))
def test_every_missing_command_is_a_missed_tick(gone):
    times = [t for k, t in enumerate(on_time()) if k not in gone]
    assert missed_ticks(times) == len(gone)


@given(
    late_ns=st.lists(st.integers(0, PERIOD_NS // 5), min_size=COUNT, max_size=COUNT),
    phase_ns=st.integers(0, PERIOD_NS),
)
def test_jitter_below_a_fifth_misses_nothing(late_ns, phase_ns):
    times = [t + phase_ns + late for t, late in zip(on_time(), late_ns, strict=True)]
    assert missed_ticks(times) == 0


@pytest.mark.parametrize(('late_share', 'missed'), [(0.4, 0), (0.6, 1), (1.0, 1)])
def test_late_beyond_half_a_period_is_missed(late_share, missed):
    times = on_time()
    times[100] += round(late_share * PERIOD_NS)
    assert missed_ticks(times) == missed


@pytest.mark.parametrize('percent', [1, 2])
def test_slow_pace_misses_what_it_lacks(percent):
    """N periods of 50 ms times (1 + p) span N p ticks more than there are commands."""
    times = [START_NS + k * PERIOD_NS * (100 + percent) // 100 for k in range(1001)]
    assert missed_ticks(times) == pytest.approx(1000 * percent / 100, abs=1)


def test_twice_as_fast_misses_nothing():
    assert missed_ticks([START_NS + k * PERIOD_NS // 2 for k in range(COUNT)]) == 0

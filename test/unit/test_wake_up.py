# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A deadline that is put off with every frame: it comes in time, and costs few settings."""

from types import SimpleNamespace

import pytest

pytest.importorskip('rclpy', reason='nodes need ROS 2')

from td3_agent.nodes import runtime

MS = 1_000_000


class Clock:
    """A steady clock and the one timer on it, which fires as time passes."""

    def __init__(self, monkeypatch):
        self.now_ns, self.settings, self._fires_ns = 0, 0, None
        self.timer = SimpleNamespace(cancel=self._cancel, reset=self._reset, timer_period_ns=0)
        monkeypatch.setattr(runtime, 'steady_ns', lambda: self.now_ns)
        monkeypatch.setattr(runtime, 'steady_timer', self._make)

    def _make(self, _node, _period_s, callback):
        self._callback = callback
        return self.timer

    def _cancel(self):
        self._fires_ns = None

    def _reset(self):
        self.settings += 1
        self._fires_ns = self.now_ns + self.timer.timer_period_ns

    def pass_until(self, now_ns):
        while self._fires_ns is not None and self._fires_ns <= now_ns:
            self.now_ns = self._fires_ns
            self._callback()
        self.now_ns = now_ns


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


@pytest.fixture
def woken():
    return []


@pytest.fixture
def wake(clock, woken):
    return runtime.WakeUp(None, lambda: woken.append(clock.now_ns))


def test_it_wakes_once_at_its_time(clock, wake, woken):
    wake.at(5 * MS)
    clock.pass_until(4 * MS)
    assert woken == []
    clock.pass_until(100 * MS)
    assert woken == [5 * MS]


def test_the_newest_time_counts_whether_earlier_or_later(clock, wake, woken):
    for due_ms in (50, 20, 30, 10, 40):
        wake.at(due_ms * MS)
    clock.pass_until(100 * MS)
    assert woken == [40 * MS]


def test_none_cancels_and_a_time_that_has_passed_is_now(clock, wake, woken):
    wake.at(5 * MS)
    wake.at(None)
    clock.pass_until(50 * MS)
    wake.at(20 * MS)
    clock.pass_until(51 * MS)
    assert woken == [pytest.approx(50 * MS, abs=runtime.MIN_TIMER_NS)]


def test_the_callback_may_set_the_next_time(clock):
    times = []
    wake = runtime.WakeUp(None, lambda: (times.append(clock.now_ns), wake.at(clock.now_ns + MS)))
    wake.at(MS)
    clock.pass_until(3 * MS)
    assert times == [MS, 2 * MS, 3 * MS]


def test_a_deadline_that_is_always_put_off_sets_the_timer_seldom(clock, wake, woken):
    for frame in range(1000):
        clock.pass_until(frame * 3 * MS)
        wake.at(clock.now_ns + 400 * MS)
        wake.at(None)
    assert woken == []
    assert clock.settings < 10

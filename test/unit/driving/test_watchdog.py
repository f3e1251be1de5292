# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The watch over silence: in time, not too early for slow simulators, and until a frame comes."""

from hypothesis import given
from hypothesis import strategies as st

from td3_agent.driving.watchdog import SILENT_FRAMES, IdleStopTimer

LIMIT_NS, REPEAT_NS = 400_000_000, 1_000_000_000
PERIOD_NS = 50_000_000


def driven(timer, frames, period_ns=PERIOD_NS, *, stopped=False):
    """Answer so many frames at once; return when the last one was."""
    now_ns = 0
    for frame in range(frames):
        now_ns = frame * period_ns
        timer.frame_begun(now_ns)
        timer.answered(now_ns, stopped=stopped)
    return now_ns


def test_nothing_before_the_first_answer():
    timer = IdleStopTimer(LIMIT_NS)
    assert timer.due_ns is None
    timer.frame_begun(0)
    assert timer.due_ns is None  # the frame's own deadline is in charge
    assert not timer.on_time(10**12)


def test_silence_is_a_stop_and_stays_one():
    timer = IdleStopTimer(LIMIT_NS, REPEAT_NS)
    last_ns = driven(timer, 20)
    assert timer.due_ns == last_ns + LIMIT_NS
    assert not timer.on_time(last_ns + LIMIT_NS - 1)
    assert timer.on_time(last_ns + LIMIT_NS)
    assert timer.is_stopping
    assert timer.due_ns == last_ns + LIMIT_NS + REPEAT_NS
    assert timer.on_time(timer.due_ns)
    assert timer.count == 1  # one silence, however long


def test_a_frame_ends_it():
    timer = IdleStopTimer(LIMIT_NS)
    last_ns = driven(timer, 20)
    timer.on_time(last_ns + LIMIT_NS)
    timer.frame_begun(last_ns + 10 * LIMIT_NS)
    assert (timer.is_stopping, timer.due_ns) == (False, None)


def test_after_a_stop_there_is_nothing_to_hold():
    timer = IdleStopTimer(LIMIT_NS)
    driven(timer, 20, stopped=True)
    assert timer.due_ns is None


@given(period_ns=st.integers(1, 10**10), frames=st.integers(8, 30))
def test_no_stop_at_an_even_pace(period_ns, frames):
    """However slow a simulator is: its own pace is no silence, once it is known."""
    timer = IdleStopTimer(LIMIT_NS)
    last_ns = driven(timer, frames, period_ns)
    assert timer.limit_ns == max(LIMIT_NS, SILENT_FRAMES * period_ns)
    assert not timer.on_time(last_ns + period_ns)


def test_one_long_frame_does_not_change_the_limit():
    timer = IdleStopTimer(LIMIT_NS)
    last_ns = driven(timer, 20)
    timer.frame_begun(last_ns + 10**10)
    timer.answered(last_ns + 10**10, stopped=False)
    assert timer.limit_ns == LIMIT_NS

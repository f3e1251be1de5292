# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of the lockstep: who has answered, and when a step is due."""

from harness.stage import MS, STEP_NS, S
from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.driving.stepping import (
    Pacer,
    StepBarrier,
    Verdict,
)


class TestStepBarrier:
    def test_nobody_is_missing_before_the_first_instant(self):
        barrier = StepBarrier(['a', 'b'])
        assert barrier.missing == frozenset()
        assert barrier.stamp_ns == -1

    def test_instant_waits_for_every_member(self):
        barrier = StepBarrier(['a', 'b'])
        barrier.open(100)
        assert barrier.missing == {'a', 'b'}
        assert barrier.answer('a', 100) is Verdict.ACCEPTED
        assert barrier.missing == {'b'}
        assert barrier.answer('b', 100) is Verdict.ACCEPTED
        assert not barrier.missing

    def test_answering_twice_counts_once(self):
        barrier = StepBarrier(['a', 'b'])
        barrier.open(100)
        barrier.answer('a', 100)
        assert barrier.answer('a', 100) is Verdict.REPEATED
        assert barrier.missing == {'b'}

    def test_stranger_does_not_count(self):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        assert barrier.answer('stranger', 100) is Verdict.REPEATED
        assert barrier.missing == {'a'}

    def test_late_answer_does_not_release_a_later_instant(self):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        barrier.open(200)
        assert barrier.answer('a', 100) is Verdict.STALE
        assert barrier.missing == {'a'}

    def test_early_answer_is_kept_for_its_own_instant_only(self):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        assert barrier.answer('a', 300) is Verdict.EARLY
        barrier.open(200)
        assert barrier.missing == {'a'}
        barrier.open(300)
        assert not barrier.missing

    def test_early_answers_to_instants_that_were_jumped_over_are_forgotten(self):
        barrier = StepBarrier(['a'])
        for stamp_ns in range(1, 100):
            barrier.answer('a', stamp_ns)
        barrier.open(200)
        assert barrier.missing == {'a'}
        assert not barrier._early

    @pytest.mark.parametrize('stamp_ns', [100, 99, 0])
    def test_time_must_grow(self, stamp_ns):
        barrier = StepBarrier(['a'])
        barrier.open(100)
        with pytest.raises(ValueError, match=f'went from 100 to {stamp_ns} ns'):
            barrier.open(stamp_ns)

    @given(st.lists(st.tuples(st.sampled_from('abx'), st.integers(1, 5)), max_size=40), st.data())
    def test_whatever_order_each_instant_wants_exactly_its_own_answers(self, answers, data):
        barrier, given_ = StepBarrier('ab'), set()
        opened = 0
        for member, stamp_ns in answers:
            while opened < 5 and data.draw(st.booleans()):
                opened += 1
                barrier.open(opened)
            verdict = barrier.answer(member, stamp_ns)
            assert (verdict is Verdict.STALE) == (stamp_ns < opened)
            given_.add((member, stamp_ns))
            if opened:
                assert barrier.missing == {m for m in 'ab' if (m, opened) not in given_}


class TestPacer:
    @pytest.mark.parametrize('period_ns', [STEP_NS, 33_333_333])
    def test_jittered_calls_do_not_make_it_drift(self, period_ns):
        pacer, start_ns = Pacer(period_ns), 7 * S
        now_ns = start_ns
        for step in range(10_000):
            assert pacer.due_ns(now_ns) == start_ns + step * period_ns
            now_ns = pacer.due_ns(now_ns) + (step * 7919) % (period_ns // 2)  # always late
            pacer.stepped(now_ns)

    def test_stall_is_given_up_and_not_caught_up(self):
        pacer = Pacer(STEP_NS)
        pacer.stepped(0)
        stalled_ns = 10 * S
        steps = 0
        while pacer.due_ns(stalled_ns) <= stalled_ns:
            pacer.stepped(stalled_ns)
            steps += 1
        assert steps == 1
        assert pacer.due_ns(stalled_ns) == stalled_ns + STEP_NS

    def test_small_lag_is_caught_up(self):
        pacer = Pacer(STEP_NS)
        pacer.stepped(0)
        pacer.stepped(STEP_NS + Pacer.LARGEST_LAG_STEPS * STEP_NS)
        assert pacer.due_ns(0) == 2 * STEP_NS

    def test_no_burst_is_longer_than_the_largest_lag(self):
        pacer = Pacer(STEP_NS)
        pacer.stepped(0)
        for lag_ns in range(0, S, 13 * MS):
            now_ns = pacer.due_ns(0) + lag_ns
            steps = 0
            while pacer.due_ns(now_ns) <= now_ns:
                pacer.stepped(now_ns)
                steps += 1
            assert steps <= Pacer.LARGEST_LAG_STEPS + 1

    def test_period_of_zero_is_as_fast_as_possible(self):
        pacer = Pacer(0)
        for now_ns in (0, 5, 5, 6, 10 * S):
            assert pacer.due_ns(now_ns) == now_ns
            pacer.stepped(now_ns)

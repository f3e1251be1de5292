# SPDX-License-Identifier: Apache-2.0
"""Rules on messages: closed forms for each kind, and what holds for any messages and seeds."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.faults.rules import KINDS, Line, Rule

MESSAGES = [bytes([n]) * 4 for n in range(10)]
messages = st.lists(st.binary(min_size=1, max_size=8), max_size=60)
seeds = st.integers(0, 10**6).map(str)
SAFE = sorted(set(KINDS) - {'set', 'shift'})  # the others need a type


def sent(line, data):
    """What leaves a line, in order of its being due, for messages 10 ns apart."""
    parcels = [parcel for n, msg in enumerate(data) for parcel in line.take(msg, 10 * n)]
    return [parcel.data for parcel in sorted(parcels, key=lambda parcel: parcel.due_ns)]


def through(*rules, data=MESSAGES, seed='0', **options):
    line = Line([Rule(**rule) for rule in rules], seed, **options)
    return sent(line, data), line.counts


def numbers(data):
    return [msg[0] for msg in data]


class TestClosedForms:
    def test_drop(self):
        out, counts = through({'kind': 'drop', 'skip': 2, 'most': 3})
        assert numbers(out) == [0, 1, 5, 6, 7, 8, 9]
        assert counts == {'heard': 10, 'sent': 7, 'dropped': 3}

    def test_duplicate(self):
        out, counts = through({'kind': 'duplicate', 'times': 3, 'most': 1})
        assert numbers(out) == [0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
        assert counts['duplicated'] == 1

    def test_delay(self):
        line = Line([Rule(kind='delay', delay_s=1.5e-8)], '0')
        (parcel,) = line.take(b'x', 100)
        assert (parcel.due_ns, parcel.data) == (115, b'x')

    def test_delay_lets_the_next_ones_pass(self):
        out, _ = through({'kind': 'delay', 'delay_s': 2.5e-8, 'most': 1})
        assert numbers(out) == [1, 2, 0, 3, 4, 5, 6, 7, 8, 9]

    def test_reorder_swaps_neighbours(self):
        out, counts = through({'kind': 'reorder'})
        assert numbers(out) == [1, 0, 3, 2, 5, 4, 7, 6, 9, 8]
        assert counts['reordered'] == 5

    def test_echo_repeats_after_the_next(self):
        out, counts = through({'kind': 'echo', 'skip': 1, 'most': 2})
        assert numbers(out) == [0, 1, 2, 1, 3, 2, 4, 5, 6, 7, 8, 9]
        assert counts['echoed'] == 2

    def test_freeze_shows_the_first_again_and_again(self):
        out, _ = through({'kind': 'freeze', 'skip': 3})
        assert numbers(out) == [0, 1, 2, 3, 3, 3, 3, 3, 3, 3]

    def test_corrupt_changes_so_many_bytes(self):
        out, _ = through({'kind': 'corrupt', 'times': 2}, data=[bytes(16)] * 5)
        assert all(len(msg) == 16 and sum(map(bool, msg)) == 2 for msg in out)

    def test_edits_get_values_and_shift(self):
        asked = []

        def edit(data, values, shift_ns):
            asked.append((dict(values), shift_ns))
            return data.upper()

        out, counts = through(
            {'kind': 'set', 'values': {'a.b': 1.0}},
            {'kind': 'shift', 'shift_s': -0.001, 'values': {'stamp': 'clock'}},
            data=[b'abc'],
            edit=edit,
        )
        assert out == [b'ABC']
        assert asked == [({'a.b': 1.0}, 0), ({'stamp': 'clock'}, -1_000_000)]
        assert (counts['edited'], counts['shifted']) == (1, 1)

    def test_rules_work_one_after_another(self):
        out, counts = through({'kind': 'duplicate', 'times': 2}, {'kind': 'drop', 'skip': 1})
        assert numbers(out) == [0]
        assert counts == {'heard': 10, 'sent': 1, 'duplicated': 10, 'dropped': 19}


class TestForAnything:
    @given(data=messages, seed=seeds)
    def test_no_rule_is_the_identity(self, data, seed):
        out, counts = through(data=data, seed=seed)
        assert out == data
        assert counts == {'heard': len(data), 'sent': len(data)}

    @given(data=messages, seed=seeds, kind=st.sampled_from(SAFE))
    def test_a_share_of_nothing_is_the_identity(self, data, seed, kind):
        assert through({'kind': kind, 'share': 0.0}, data=data, seed=seed)[0] == data

    @given(data=messages, seed=seeds, share=st.floats(0.0, 1.0))
    def test_what_is_dropped_is_counted(self, data, seed, share):
        out, counts = through({'kind': 'drop', 'share': share}, data=data, seed=seed)
        assert len(out) == counts['sent'] == counts['heard'] - counts['dropped']

    @given(
        data=messages,
        seed=seeds,
        share=st.floats(0.0, 1.0),
        kinds=st.lists(st.sampled_from(SAFE), max_size=4),
    )
    def test_the_same_seed_does_the_same(self, data, seed, share, kinds):
        rules = [{'kind': kind, 'share': share} for kind in kinds]
        assert through(*rules, data=data, seed=seed) == through(*rules, data=data, seed=seed)

    @given(data=messages, seed=seeds, share=st.floats(0.0, 1.0), times=st.integers(1, 10))
    def test_duplicates_add_up(self, data, seed, share, times):
        rule = {'kind': 'duplicate', 'share': share, 'times': times}
        out, counts = through(rule, data=data, seed=seed)
        assert len(out) == len(data) + (times - 1) * counts['duplicated']
        assert set(out) == set(data)

    @given(data=messages, seed=seeds, share=st.floats(0.0, 1.0))
    def test_reordering_loses_at_most_the_one_that_waits(self, data, seed, share):
        out, _ = through({'kind': 'reorder', 'share': share}, data=data, seed=seed)
        lost = Counter(data) - Counter(out)
        assert lost.total() <= 1
        assert not Counter(out) - Counter(data)

    @given(
        data=messages,
        seed=seeds,
        skip=st.integers(0, 70),
        most=st.one_of(st.none(), st.integers(0, 70)),
    )
    def test_only_the_window_is_touched(self, data, seed, skip, most):
        _, counts = through({'kind': 'drop', 'skip': skip, 'most': most}, data=data, seed=seed)
        left = max(len(data) - skip, 0)
        assert counts['dropped'] == (left if most is None else min(left, most))

    @given(data=st.binary(min_size=1, max_size=64), seed=seeds, times=st.integers(1, 100))
    def test_corruption_always_changes_something(self, data, seed, times):
        (out,), _ = through({'kind': 'corrupt', 'times': times}, data=[data], seed=seed)
        assert len(out) == len(data)
        changed = sum(a != b for a, b in zip(out, data, strict=True))
        assert changed == min(times, len(data))


class TestRefusals:
    @pytest.mark.parametrize(
        ('words', 'text'),
        [
            ({'kind': 'burn'}, 'kind must be one of drop, '),
            ({'kind': 'drop', 'share': float('nan')}, 'share must be in'),
            ({'kind': 'drop', 'share': 1.5}, 'share must be in'),
            ({'kind': 'drop', 'skip': -1}, 'skip and most must be >= 0'),
            ({'kind': 'duplicate', 'times': 0}, 'times must be >= 1, got 0'),
            ({'kind': 'delay', 'delay_s': float('inf')}, 'delay_s must be in'),
            ({'kind': 'drop', 'chance': 0.1}, 'rule has no chance; it has delay_s, kind'),
        ],
    )
    def test_bad_rule_is_named(self, words, text):
        with pytest.raises(ValueError, match=text):
            Rule.from_json(words)

    def test_fields_of_an_unknown_type(self):
        with pytest.raises(ValueError, match='cannot set'):
            through({'kind': 'set', 'values': {'x': 1}})

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Rules that drop, delay or change the messages of a topic: pure logic, seeded, no clock."""

from dataclasses import dataclass
import random

KINDS = {
    'drop': 'dropped',
    'duplicate': 'duplicated',  # sent `times` times
    'delay': 'delayed',  # sent delay_s later
    'reorder': 'reordered',  # sent after the next one
    'echo': 'echoed',  # sent, and once more after the next one
    'shift': 'shifted',  # shift_s added to the stamp
    'freeze': 'frozen',  # replaced by the first one that was
}


@dataclass(frozen=True)
class Rule:
    """Changes some of the messages of a topic.

    Attributes:
        kind: one of :data:`KINDS`.
        share: probability that a message is touched, in [0, 1].
        skip: number of messages that pass first.
        most: number of messages touched at most; None: no limit.
        times: how often a duplicate is sent in all.
        delay_s: how much later it is sent [s].
        shift_s: added to the stamp [s].
    """

    kind: str
    share: float = 1.0
    skip: int = 0
    most: int | None = None
    times: int = 2
    delay_s: float = 0.0
    shift_s: float = 0.0


class Channel:
    """One topic: each message that goes in comes out as (due [ns, steady], message) pairs.

    Rules apply in order, each to the output of the previous one.
    """

    def __init__(self, rules, seed, shifted=None):
        """Draw from ``seed``; ``shifted(message, shift_ns)`` shifts the stamp of a message."""
        self.counts = {'received': 0, 'sent': 0}
        self._stages = [
            _Stage(rule, random.Random(f'{seed}:{index}'), shifted, self.counts)
            for index, rule in enumerate(rules)
        ]

    def take(self, message, now_ns):
        self.counts['received'] += 1
        due = [(now_ns, message)]
        for stage in self._stages:
            due = [out for each in due for out in stage.apply(*each)]
        self.counts['sent'] += len(due)
        return due


class _Stage:
    def __init__(self, rule, draw, shifted, counts):
        self._rule, self._draw, self._shifted, self._counts = rule, draw, shifted, counts
        self._seen = self._touched = 0
        self._kept = None  # waits for the next message, or is the frozen one
        counts.setdefault(KINDS[rule.kind], 0)

    def apply(self, due_ns, message):
        touched = self._is_touched()
        if self._rule.kind == 'reorder' and self._kept is not None:
            touched = False  # one swap at a time: the next one may wait again
        self._counts[KINDS[self._rule.kind]] += touched
        if self._rule.kind in {'reorder', 'echo'}:
            return self._out_of_order(due_ns, message, touched=touched)
        return self._changed(due_ns, message) if touched else [(due_ns, message)]

    def _is_touched(self):
        rule = self._rule
        self._seen += 1
        drawn = self._draw.random()  # always, so that limits do not shift later draws
        if self._seen <= rule.skip or (rule.most is not None and self._touched >= rule.most):
            return False
        touched = drawn < rule.share
        self._touched += touched
        return touched

    def _out_of_order(self, due_ns, message, *, touched):
        kept, self._kept = self._kept, None
        late = [] if kept is None else [(due_ns, kept)]
        if not touched:
            return [(due_ns, message), *late]
        self._kept = message
        return [(due_ns, message), *late] if self._rule.kind == 'echo' else []

    def _changed(self, due_ns, message):
        rule = self._rule
        if rule.kind == 'drop':
            return []
        if rule.kind == 'duplicate':
            return [(due_ns, message)] * rule.times
        if rule.kind == 'delay':
            return [(due_ns + round(rule.delay_s * 1e9), message)]
        if rule.kind == 'freeze':
            self._kept = self._kept or message
            return [(due_ns, self._kept)]
        return [(due_ns, self._shifted(message, round(rule.shift_s * 1e9)))]

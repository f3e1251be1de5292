# SPDX-License-Identifier: Apache-2.0
"""What is done to the messages of a topic on their way: pure logic, seeded, without a clock.

A :class:`Line` is one topic. Every message that is put in comes out as parcels: what is to be
sent, and when [ns, steady]. Rules work one after another, each on what the one before let
through. Without rules a line is the identity.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
import random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    # A message, fields to set and a shift of its stamp [ns] give a message.
    Edit = Callable[[bytes, Mapping[str, Any], int], bytes]

NANOSECONDS_PER_SECOND = 1_000_000_000
KINDS = {
    'drop': 'dropped',
    'duplicate': 'duplicated',  # sent `times` times
    'delay': 'delayed',  # sent delay_s later
    'reorder': 'reordered',  # sent after the next one
    'echo': 'echoed',  # sent, and once more after the next one
    'corrupt': 'corrupted',  # `times` bytes changed
    'set': 'edited',  # `values` put into fields
    'shift': 'shifted',  # shift_s added to the stamp that `values` names: {'stamp': PATH}
    'freeze': 'frozen',  # replaced by the first one that was
}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What happens to some of the messages of a topic.

    Attributes:
        kind: one of :data:`KINDS`.
        share: probability that a message is touched, in [0, 1].
        skip: so many messages are let through first.
        most: so many are touched at most; None is without end.
        times: how often a duplicate is sent in all, or how many bytes are changed.
        delay_s: how much later it is sent [s].
        shift_s: added to a stamp [s].
        values: fields to set, by path such as ``header.stamp.sec``.
    """

    kind: str
    share: float = 1.0
    skip: int = 0
    most: int | None = None
    times: int = 2
    delay_s: float = 0.0
    shift_s: float = 0.0
    values: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what cannot be done.

        Raises:
            ValueError: naming field and value.
        """
        if self.kind not in KINDS:
            raise ValueError(f'kind must be one of {", ".join(KINDS)}, got {self.kind!r}')
        if not 0.0 <= self.share <= 1.0:  # written so that NaN fails too
            raise ValueError(f'share must be in [0, 1], got {self.share}')
        if self.skip < 0 or (self.most is not None and self.most < 0):
            raise ValueError(f'skip and most must be >= 0, got {self.skip} and {self.most}')
        if self.times < 1:
            raise ValueError(f'times must be >= 1, got {self.times}')
        if not 0.0 <= self.delay_s <= 3600.0:
            raise ValueError(f'delay_s must be in [0, 3600] [s], got {self.delay_s}')

    @classmethod
    def from_json(cls, words: Mapping[str, Any]) -> Rule:
        """Return the rule that a JSON object describes.

        Raises:
            ValueError: a name or a value that is not known.
        """
        known = {spec.name for spec in fields(cls)}
        if unknown := sorted(set(words) - known):
            raise ValueError(
                f'rule has no {", ".join(unknown)}; it has {", ".join(sorted(known))}'
            )
        return cls(**words)


@dataclass(frozen=True)
class Parcel:
    """One message to be sent.

    Attributes:
        data: serialised.
        due_ns: when [ns, steady]; that of its arrival means at once.
    """

    data: bytes
    due_ns: int


def no_edit(data: bytes, values: Mapping[str, Any], shift_ns: int) -> bytes:
    """Refuse: this line does not know the type of its messages.

    Raises:
        ValueError: always.
    """
    raise ValueError(f'cannot set {dict(values)} (shift {shift_ns} ns) in {len(data)} bytes')


class Line:
    """One topic with its rules; the same messages and seed give the same parcels.

    Attributes:
        counts: messages ``heard`` and ``sent``, and how many were touched, by what happened.
    """

    def __init__(self, rules: Iterable[Rule], seed: str, edit: Edit = no_edit) -> None:
        """Apply ``rules`` in order.

        Args:
            rules: what happens.
            seed: of every draw.
            edit: gives a message with fields set, and its stamp shifted [ns].
        """
        self.counts: dict[str, int] = {'heard': 0, 'sent': 0}
        self._workers = [
            _Worker(rule, random.Random(f'{seed}:{index}'), edit, self.counts)  # noqa: S311
            for index, rule in enumerate(rules)
        ]

    def take(self, data: bytes, now_ns: int) -> list[Parcel]:
        """Return what becomes of one message."""
        self.counts['heard'] += 1
        parcels = [Parcel(data, now_ns)]
        for worker in self._workers:
            parcels = [out for parcel in parcels for out in worker.work(parcel)]
        self.counts['sent'] += len(parcels)
        return parcels


class _Worker:
    """One rule at work."""

    def __init__(
        self, rule: Rule, draw: random.Random, edit: Edit, counts: dict[str, int]
    ) -> None:
        self._rule = rule
        self._draw = draw
        self._edit = edit
        self._counts = counts
        self._seen = self._touched = 0
        self._kept: Parcel | None = None  # waits for the next message, or is the frozen one
        counts.setdefault(KINDS[rule.kind], 0)

    def work(self, parcel: Parcel) -> list[Parcel]:
        """Return what this rule makes of a parcel."""
        touched = self._is_touched()
        if self._rule.kind == 'reorder' and self._kept is not None:
            touched = False  # one swap at a time: the next one may wait again
        if touched:
            self._counts[KINDS[self._rule.kind]] += 1
        if self._rule.kind in {'reorder', 'echo'}:
            return self._out_of_order(parcel, touched=touched)
        return self._changed(parcel) if touched else [parcel]

    def _is_touched(self) -> bool:
        """Whether the next message is one of those that something happens to."""
        rule = self._rule
        self._seen += 1
        drawn = self._draw.random()  # always, so that one limit does not shift all draws
        if self._seen <= rule.skip or (rule.most is not None and self._touched >= rule.most):
            return False
        touched = drawn < rule.share
        self._touched += touched
        return touched

    def _out_of_order(self, parcel: Parcel, *, touched: bool) -> list[Parcel]:
        """Return this parcel and then the one kept before; keep this one if it is touched."""
        kept, self._kept = self._kept, None
        late = [] if kept is None else [Parcel(kept.data, parcel.due_ns)]
        if not touched:
            return [parcel, *late]
        self._kept = parcel
        return [parcel, *late] if self._rule.kind == 'echo' else []

    def _changed(self, parcel: Parcel) -> list[Parcel]:
        """Return what becomes of a parcel that is touched."""
        rule = self._rule
        if rule.kind == 'drop':
            return []
        if rule.kind == 'duplicate':
            return [parcel] * rule.times
        if rule.kind == 'delay':
            delay_ns = round(rule.delay_s * NANOSECONDS_PER_SECOND)
            return [Parcel(parcel.data, parcel.due_ns + delay_ns)]
        if rule.kind == 'corrupt':
            return [Parcel(self._corrupted(parcel.data), parcel.due_ns)]
        if rule.kind == 'freeze':
            self._kept = self._kept or parcel
            return [Parcel(self._kept.data, parcel.due_ns)]
        shift_ns = round(rule.shift_s * NANOSECONDS_PER_SECOND)
        return [Parcel(self._edit(parcel.data, rule.values, shift_ns), parcel.due_ns)]

    def _corrupted(self, data: bytes) -> bytes:
        """Return the message with some bytes changed, never to what they were."""
        changed = bytearray(data)
        for place in self._draw.sample(range(len(data)), min(self._rule.times, len(data))):
            changed[place] ^= self._draw.randrange(1, 256)
        return bytes(changed)

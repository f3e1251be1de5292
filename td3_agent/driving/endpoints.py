# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The endpoints of topics, and what is wrong with them.

Pure logic: the graph goes in, findings with a remedy come out. The graph shows a killed process
until its lease ends (20 s with Fast DDS), so an endpoint does not prove a living process;
:class:`LastSeen` keeps heartbeats, and :class:`Duplicates` is the exclusive-publisher check during
a drive.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Heartbeats come at 1 Hz; a node without one for this long is dead.
SILENCE_NS = 2_500_000_000


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One endpoint of a topic, as the graph shows it.

    Attributes:
        node: full name of its node; empty for a moment after a node has started or ended.
        type: name of the message type.
        reliable: offered or requested reliability; False is best effort.
        latched: offered or requested durability transient local; False is volatile.
    """

    node: str
    type: str
    reliable: bool = True
    latched: bool = False


@dataclass(frozen=True, kw_only=True)
class ExpectedEndpoint:
    """An endpoint of a node, and what the node expects of the others.

    Attributes:
        topic: full name.
        end: its own end.
        writes: whether it publishes; else it subscribes.
        exclusive: more than one publisher is a fault.
        advice: remedy when the other end is missing; empty if it need not exist.
    """

    topic: str
    end: Endpoint
    writes: bool
    exclusive: bool = False
    advice: str = ''


@dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
        text: a sentence: the fault, its cause and a remedy.
        is_error: whether the node cannot work.
        key: identifies the cause, without the figures in the sentence.
    """

    text: str
    is_error: bool
    key: str = field(default='', compare=False)


@dataclass
class LastSeen:
    """When heartbeats of nodes were last seen, on the steady clock.

    Attributes:
        instance: id of the node that listens; its own heartbeats do not count.
    """

    instance: str
    _last: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)

    def note(self, name: str, instance: str, now_ns: int, *, active: bool = True) -> None:
        """Note a heartbeat of a node, and whether the node is active."""
        if instance != self.instance:
            self._last[name, instance] = (now_ns, active)

    def is_alive(self, name: str, now_ns: int) -> bool:
        """Whether another process of this name sent a heartbeat lately."""
        return any(now_ns - at_ns <= SILENCE_NS for at_ns, _ in self._of(name))

    def is_at_work(self, name: str, now_ns: int) -> bool:
        """Whether another process of this name lately said that it is active."""
        return any(now_ns - at_ns <= SILENCE_NS and active for at_ns, active in self._of(name))

    def _of(self, name: str) -> list[tuple[int, bool]]:
        return [seen for (node, _), seen in self._last.items() if node == name]


def findings(
    expected: ExpectedEndpoint,
    writers: Iterable[Endpoint],
    readers: Iterable[Endpoint],
    *,
    duplicate_is_alive: bool = False,
) -> list[Finding]:
    """Return everything that is wrong with a topic.

    Args:
        expected: our endpoint.
        writers: its publishers, ours included.
        readers: its subscriptions, ours included.
        duplicate_is_alive: another process with our name sent a heartbeat lately.
    """
    writers, readers = list(writers), list(readers)
    others = readers if expected.writes else writers
    found = _mismatches(expected, others)
    if expected.exclusive:
        found += _duplicate_publishers(expected, writers, duplicate_is_alive=duplicate_is_alive)
    if not others and expected.advice:
        missing = 'subscriber' if expected.writes else 'publisher'
        text = f'no {missing} on {expected.topic}: {expected.advice}'
        found.append(Finding(text, is_error=False))
    return found


def other_publishers(expected: ExpectedEndpoint, writers: Iterable[Endpoint]) -> list[str]:
    """Return the names of all other publishers; our own name is that of a duplicate.

    Publishers without a name are left out: they are starting or ending.
    """
    names = Counter(writer.node for writer in writers if writer.node)
    if expected.writes and names[expected.end.node]:
        names[expected.end.node] -= 1
    return sorted(names.elements())


def _mismatches(expected: ExpectedEndpoint, others: list[Endpoint]) -> list[Finding]:
    """Name endpoints whose type or QoS does not match ours."""
    mine, found = expected.end, []
    for other in others:
        offered, wanted = (mine, other) if expected.writes else (other, mine)
        if other.type != mine.type:
            text = f'type is {other.type} at {other.node}, {mine.type} here: rename one topic'
        elif wanted.reliable > offered.reliable or wanted.latched > offered.latched:
            has, wants = (
                ('best effort', 'reliable')
                if wanted.reliable > offered.reliable
                else ('volatile', 'transient local')
            )
            text = (
                f'{offered.node} publishes {has}, {wanted.node} requests {wants}: '
                'nothing arrives until one of them is changed'
            )
        else:
            continue
        found.append(Finding(f'{expected.topic}: {text}', is_error=True))
    return list(dict.fromkeys(found))


def _duplicate_publishers(
    expected: ExpectedEndpoint, writers: list[Endpoint], *, duplicate_is_alive: bool
) -> list[Finding]:
    """Name the publishers of an exclusive topic if there are several."""
    foreign = other_publishers(expected, writers)
    if not expected.writes:
        foreign = foreign if len(foreign) > 1 else []
    if not foreign:
        return []
    names = sorted({writer.node for writer in writers if writer.node})
    if len(names) > 1:
        text = f'{expected.topic} has publishers {" and ".join(names)}: end all but one'
        return [Finding(text, is_error=True)]
    count = sum(writer.node == names[0] for writer in writers)
    text = f'{expected.topic} has {count} publishers named {names[0]}'
    if duplicate_is_alive:
        return [Finding(f'{text}: end all but one', is_error=True)]
    hint = 'the remains of a killed process vanish within 20 s, else end all but one'
    return [Finding(f'{text}: {hint}', is_error=False)]


# The graph shows a killed process for 20 s (Fast DDS's lease) and a little more.
LEASE_NS = 25_000_000_000
# A bridge started after a killed one may run freely for a moment; a longer series of breaks has
# another cause.
BURST_NS = 5_000_000_000
# After this long without duplicates, the next ones count as another occurrence.
AGAIN_NS = 2_000_000_000


@dataclass(frozen=True)
class Breaks:
    """What broke the series of frames so far.

    Attributes:
        violations: frames skipped, and commands duplicate or misapplied.
        restarts: how often another bridge, or another time, began.
    """

    violations: int = 0
    restarts: int = 0

    @property
    def total(self) -> int:
        return self.violations + self.restarts


@dataclass
class Duplicates:
    """The exclusive-publisher check during a drive.

    A killed process stays in the graph until its lease ends, beside its successor. The successor
    of a killed bridge breaks the series of frames once; two living bridges break it all the time.
    """

    domain_id: int
    _alone: dict[str, Breaks] = field(default_factory=dict)  # when there was one at most
    _seen: dict[str, list[_Several]] = field(default_factory=dict)
    _strangers: dict[str, list[_Several]] = field(default_factory=dict)

    def note(self, kind: str, publishers: Iterable[str], now_ns: int, breaks: Breaks) -> None:
        """Note all publishers of a topic that are of its kind.

        Args:
            kind: in the singular, such as ``bridge`` or ``gate of ego_vehicle``.
            publishers: full names of their nodes.
            now_ns: steady time [ns].
            breaks: so far.
        """
        counts = Counter(publishers)
        if counts.total() < 2:
            self._alone[kind] = breaks
            return
        # A message of the second one may arrive before the graph shows it.
        start = self._alone.get(kind, breaks)
        seen = _Several(0, '', now_ns, now_ns, kind in self._alone, start, start)
        _noted(self._seen, kind, seen, counts, breaks)

    def note_stranger(self, topic: str, name: str, now_ns: int, breaks: Breaks) -> None:
        """Note another program, ``name``, that also publishes ``topic``."""
        key = f'{name} also publishes {topic}'
        seen = _Several(0, '', now_ns, now_ns, has_come=False, start=breaks, newest=breaks)
        _noted(self._strangers, key, seen, Counter([name]), breaks)

    def findings(self, now_ns: int) -> list[Finding]:
        """Return the duplicates seen until the steady time ``now_ns`` [ns]."""
        found = []
        for kind, seen in _flat(self._seen):
            where, lasted = f'in ROS domain {self.domain_id}', f' for {seen.lasted_ns / 1e9:.1f} s'
            if seen.is_error:
                text = f'two {_plural(kind)} {where}{{}}: {seen.names}; end one, or give it '
                found.append(_growing(f'{text}another ROS_DOMAIN_ID', lasted, is_error=True))
            elif now_ns - seen.last_ns <= LEASE_NS:
                text = f'{kind}: {seen.names} {where}{{}}; the remains of a killed process vanish '
                found.append(_growing(f'{text}within 20 s, else end one', lasted, is_error=False))
        for what, seen in _flat(self._strangers):
            if seen.grown or now_ns - seen.last_ns <= LEASE_NS:
                text = f'{what}{{}}: what it sends there breaks the lockstep; end it'
                lasted = f', {seen.lasted_ns / 1e9:.1f} s so far'
                found.append(_growing(text, lasted, is_error=seen.grown > 0))
        return found


@dataclass
class _Several:
    """Publishers of one topic, from first to last sight.

    Attributes:
        count: at most.
        names: of their nodes.
        first_ns: when they were first seen [ns, steady].
        last_ns: when they were last seen.
        has_come: whether one of them appeared while the other was there.
        start: breaks before.
        newest: breaks until now.
        broke_ns: when frames first and last broke in this time; empty if never.
    """

    count: int
    names: str
    first_ns: int
    last_ns: int
    has_come: bool
    start: Breaks
    newest: Breaks
    broke_ns: list[int] = field(default_factory=list)

    def note(self, counts: Counter[str], now_ns: int, breaks: Breaks) -> None:
        self.names, self.last_ns = _named(counts), now_ns
        self.count = max(self.count, counts.total())
        if breaks.total > self.newest.total:
            self.broke_ns = [*self.broke_ns[:1], now_ns]
        self.newest = breaks

    @property
    def lasted_ns(self) -> int:
        return self.last_ns - self.first_ns

    @property
    def grown(self) -> int:
        """Breaks while several were there."""
        return self.newest.total - self.start.total

    @property
    def is_error(self) -> bool:
        """Whether one of them cannot be the remains of a killed process."""
        if self.lasted_ns > LEASE_NS or (self.grown > 1 and not self.has_come):
            return True
        # Each successor of a bridge makes time run back once.
        runs_back = self.newest.restarts - self.start.restarts
        return runs_back > self.count - 1 or (
            bool(self.broke_ns) and self.broke_ns[-1] - self.broke_ns[0] > BURST_NS
        )


def _noted(
    seen: dict[str, list[_Several]],
    key: str,
    new: _Several,
    counts: Counter[str],
    breaks: Breaks,
) -> None:
    """Note a look: continue the newest entry of ``key``, or begin another with ``new``."""
    times = seen.setdefault(key, [])
    if not times or new.last_ns - times[-1].last_ns > AGAIN_NS:
        times.append(new)
    times[-1].note(counts, new.last_ns, breaks)


def _flat(seen: dict[str, list[_Several]]) -> list[tuple[str, _Several]]:
    return [(key, one) for key, times in seen.items() for one in times]


def _named(counts: Counter[str]) -> str:
    return ' and '.join(
        name if count == 1 else f'{name} {"twice" if count == 2 else f"{count} times"}'
        for name, count in sorted(counts.items())
    )


def _plural(kind: str) -> str:
    noun, of, role = kind.partition(' of ')
    return f'{noun}s{of}{role}'


def _growing(text: str, time: str, *, is_error: bool) -> Finding:
    """Return a finding with a time at the braces of its sentence; its key has none."""
    return Finding(text.format(time), is_error, text.format(''))

# SPDX-License-Identifier: Apache-2.0
"""Who is at the ends of a topic, and what is wrong with that.

Pure logic: what the middleware knows of a topic goes in, sentences come out, each with what to
do. A process that was killed stays in the middleware's books until its lease is over (20 s with
Fast DDS), so an end is not proof of a living process; :class:`Heard` keeps what is.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

# Nodes speak at 1 Hz; one that was not heard for this long does not live any more.
SILENCE_NS = 2_500_000_000


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One end of a topic, as the middleware tells it.

    Attributes:
        node: full name of its node; empty where the middleware does not know any, as for a moment
            after a node has come or gone.
        type: name of the message type.
        reliable: offered or wanted reliability; False is best effort.
        latched: offered or wanted durability transient local; False is volatile.
    """

    node: str
    type: str
    reliable: bool = True
    latched: bool = False


@dataclass(frozen=True, kw_only=True)
class Interest:
    """What a node wants of a topic.

    Attributes:
        topic: full name.
        end: its own end.
        writes: whether it publishes; else it subscribes.
        one_writer: more than one publisher is a fault.
        advice: what to do when nobody is at the other end; empty where nobody is needed.
    """

    topic: str
    end: Endpoint
    writes: bool
    one_writer: bool = False
    advice: str = ''


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong.

    Attributes:
        text: a sentence: what it is, its cause and what to do.
        is_error: whether the work stops by it.
        key: names the cause, the same whatever the figures in the sentence are.
    """

    text: str
    is_error: bool
    key: str = field(default='', compare=False)


@dataclass
class Heard:
    """Which nodes of which names have been heard of lately, on the steady clock.

    Attributes:
        instance: of the node that listens; what it says itself is no news.
    """

    instance: str
    _last: dict[tuple[str, str], tuple[int, bool]] = field(default_factory=dict)

    def note(self, name: str, instance: str, now_ns: int, *, active: bool = True) -> None:
        """Take note of a sign of life of a node and whether it is at work."""
        if instance != self.instance:
            self._last[name, instance] = (now_ns, active)

    def is_alive(self, name: str, now_ns: int) -> bool:
        """Whether another process of this name has spoken lately."""
        return any(now_ns - at_ns <= SILENCE_NS for at_ns, _ in self._of(name))

    def is_at_work(self, name: str, now_ns: int) -> bool:
        """Whether another process of this name has said lately that it is at work."""
        return any(now_ns - at_ns <= SILENCE_NS and active for at_ns, active in self._of(name))

    def _of(self, name: str) -> list[tuple[int, bool]]:
        return [said for (who, _), said in self._last.items() if who == name]


def findings(
    interest: Interest,
    writers: Iterable[Endpoint],
    readers: Iterable[Endpoint],
    *,
    living_twin: bool = False,
) -> list[Finding]:
    """Return everything that is wrong with a topic.

    Args:
        interest: what we want of it.
        writers: its publishers, our own among them.
        readers: its subscriptions, our own among them.
        living_twin: another process with our name has spoken lately.
    """
    writers, readers = list(writers), list(readers)
    others = readers if interest.writes else writers
    found = _mismatches(interest, others)
    if interest.one_writer:
        found += _rivals(interest, writers, living_twin=living_twin)
    if not others and interest.advice:
        verb = 'subscribes to' if interest.writes else 'publishes'
        found.append(Finding(f'nobody {verb} {interest.topic}: {interest.advice}', is_error=False))
    return found


def foreign_writers(interest: Interest, writers: Iterable[Endpoint]) -> list[str]:
    """Return the names of all publishers but our own; our own name is that of a twin.

    Those without a name are left out: they are coming or going.
    """
    names = Counter(writer.node for writer in writers if writer.node)
    if interest.writes and names[interest.end.node]:
        names[interest.end.node] -= 1
    return sorted(names.elements())


def _mismatches(interest: Interest, others: list[Endpoint]) -> list[Finding]:
    """Name ends that do not understand ours."""
    mine, found = interest.end, []
    for other in others:
        offered, wanted = (mine, other) if interest.writes else (other, mine)
        if other.type != mine.type:
            text = f'type is {other.type} at {other.node}, {mine.type} here: rename one topic'
        elif wanted.reliable and not offered.reliable:
            text = (
                f'{offered.node} publishes best effort, {wanted.node} wants reliable: '
                'nothing arrives until one of them is changed'
            )
        elif wanted.latched and not offered.latched:
            text = (
                f'{offered.node} publishes volatile, {wanted.node} wants transient local: '
                'nothing arrives until one of them is changed'
            )
        else:
            continue
        found.append(Finding(f'{interest.topic}: {text}', is_error=True))
    return list(dict.fromkeys(found))


def _rivals(interest: Interest, writers: list[Endpoint], *, living_twin: bool) -> list[Finding]:
    """Name publishers beside the one that there may be."""
    foreign = foreign_writers(interest, writers)
    if not interest.writes:
        foreign = foreign if len(foreign) > 1 else []
    if not foreign:
        return []
    names = sorted({writer.node for writer in writers if writer.node})
    if len(names) > 1:
        text = f'{interest.topic} has publishers {" and ".join(names)}: end all but one'
        return [Finding(text, is_error=True)]
    count = sum(writer.node == names[0] for writer in writers)
    text = f'{interest.topic} has {count} publishers named {names[0]}'
    if living_twin:
        return [Finding(f'{text}: end all but one', is_error=True)]
    hint = 'what a killed process left goes within 20 s, else end all but one'
    return [Finding(f'{text}: {hint}', is_error=False)]

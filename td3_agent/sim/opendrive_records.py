# SPDX-License-Identifier: Apache-2.0
"""Cubic records of OpenDRIVE: elevation, superelevation, lane offset, lane width and border.

A record ``(s, a, b, c, d)`` holds from its start to that of the next one:
``a + b ds + c ds^2 + d ds^3`` with ``ds`` from its start.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from collections.abc import Sequence

START_OF = {
    'elevation': 's',
    'superelevation': 's',
    'laneOffset': 's',
    'width': 'sOffset',
    'border': 'sOffset',
}
ROUNDING_M = 1e-3  # starts that are nearer to each other than this are one


class Cubic(NamedTuple):
    """One record, from ``s_m`` on."""

    s_m: float
    a: float = 0.0
    b: float = 0.0
    c: float = 0.0
    d: float = 0.0

    def at(self, s_m: float) -> float:
        """Return its value at a station [m]."""
        ds = s_m - self.s_m
        return self.a + ds * (self.b + ds * (self.c + ds * self.d))

    def begun_at(self, s_m: float) -> Cubic:
        """Return the same polynomial as a record that starts elsewhere."""
        ds = s_m - self.s_m
        return Cubic(
            s_m,
            self.at(s_m),
            self.b + ds * (2.0 * self.c + 3.0 * ds * self.d),
            self.c + 3.0 * ds * self.d,
            self.d,
        )


ZERO = Cubic(0.0)


def read_records(parent: ET.Element, tag: str) -> list[Cubic]:
    """Return the records of a kind below an element, in the order of the file."""
    key = START_OF[tag]
    return [
        Cubic(*(float(record.get(name, '0')) for name in (key, 'a', 'b', 'c', 'd')))
        for record in parent.findall(tag)
    ]


def write_records(parent: ET.Element, tag: str, records: Sequence[Cubic]) -> None:
    """Replace the records of a kind below an element, where they change."""
    before = parent.findall(tag)
    if list(records) == read_records(parent, tag) or not (before or records):
        return
    index = list(parent).index(before[0]) if before else 0
    for element in before:
        parent.remove(element)
    for place, record in enumerate(records):
        attributes = zip((START_OF[tag], 'a', 'b', 'c', 'd'), map(repr, record), strict=True)
        parent.insert(index + place, ET.Element(tag, dict(attributes)))


def in_order(records: Sequence[Cubic]) -> list[Cubic]:
    """Return records sorted, the first at 0, and 0 before the first.

    Of those that start at one place, the last one holds.
    """
    ordered = sorted(records, key=lambda record: record.s_m)
    kept = [
        one for one, following in pairwise(ordered) if following.s_m - one.s_m > ROUNDING_M
    ] + ordered[-1:]
    begun = [record for record in kept if record.s_m <= ROUNDING_M]
    later = [record for record in kept if record.s_m > ROUNDING_M]
    if not begun:
        return [ZERO, *later] if later else []
    first = begun[-1]
    return [first if first.s_m == 0.0 else first.begun_at(0.0), *later]


def value_at(records: Sequence[Cubic], s_m: float) -> float:
    """Return the value of ordered records at a station [m]; 0 where there are none."""
    begun = [record for record in records if record.s_m <= s_m]
    return begun[-1].at(s_m) if begun else 0.0


def added(one: Sequence[Cubic], other: Sequence[Cubic], factor: float = 1.0) -> list[Cubic]:
    """Return ``one + factor * other``, both ordered from 0."""
    starts = sorted({record.s_m for record in (*one, *other)})
    total = []
    for s_m in starts:
        mine, theirs = _part_at(one, s_m), _part_at(other, s_m)
        total.append(
            Cubic(s_m, *(a + factor * b for a, b in zip(mine[1:], theirs[1:], strict=True)))
        )
    return total


def _part_at(records: Sequence[Cubic], s_m: float) -> Cubic:
    begun = [record for record in records if record.s_m <= s_m]
    return begun[-1].begun_at(s_m) if begun else Cubic(s_m)


def steps(records: Sequence[Cubic]) -> list[tuple[float, float]]:
    """Return where ordered records are not continuous: station and change of value [m]."""
    return [
        (following.s_m, following.a - one.at(following.s_m))
        for one, following in pairwise(records)
    ]

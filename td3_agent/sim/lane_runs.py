# SPDX-License-Identifier: Apache-2.0
"""Runs of lanes: lanes that follow each other without a choice."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def runs_of(
    followers: Sequence[Sequence[int]], may_join: Callable[[int, int], bool]
) -> list[list[int]]:
    """Join lanes into runs; every lane is in exactly one.

    A lane joins the one before it when each is the other's only neighbour there and
    ``may_join(before, after)`` is true. A circuit becomes one run that begins anywhere.

    Args:
        followers: numbers of the lanes that go on from each lane.
        may_join: whether two lanes that follow each other belong to one run.
    """
    leaders: list[list[int]] = [[] for _ in followers]
    for number, ways in enumerate(followers):
        for way in ways:
            leaders[way].append(number)

    def joined(number: int) -> int | None:
        """Return the lane that can only be reached from this one, and is all that can."""
        ways = followers[number]
        if len(ways) != 1 or leaders[ways[0]] != [number] or ways[0] == number:
            return None
        return ways[0] if may_join(number, ways[0]) else None

    continued = {after for n in range(len(followers)) if (after := joined(n)) is not None}
    heads = [number for number in range(len(followers)) if number not in continued]
    runs, seen = [], set[int]()
    # Heads first; what is left then are circuits, which begin anywhere.
    for head in [*heads, *range(len(followers))]:
        if head in seen:
            continue
        run = [head]
        while (after := joined(run[-1])) is not None and after != head:
            run.append(after)
        seen.update(run)
        runs.append(run)
    return runs

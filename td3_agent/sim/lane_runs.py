# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Which lanes go on into which: streets from junction to junction, and paths through junctions."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from td3_agent.sim.road import LaneGeometry, RoadMap

    Followers: TypeAlias = tuple[tuple[int, ...], ...]

SEEN_GAP_M = 0.25  # reported: a car drives over less without a jerk
BREAK_M = 5.0  # a wider gap ends the road
MOST_CHAINS = 4  # by the number of paths: of more, each path stays by itself


def streets_and_paths(
    lanes: Sequence[LaneGeometry], followers: Followers
) -> tuple[list[list[int]], Followers]:
    """Join lanes that follow each other without a choice; return runs, and runs after runs.

    Args:
        lanes: of a map.
        followers: numbers of the lanes that go on from each.
    """
    followers = _connected(lanes, followers)

    def may_join(before: int, after: int) -> bool:
        return lanes[before].span.in_junction == lanes[after].span.in_junction

    runs = runs_of(followers, may_join)
    run_of = {run[0]: number for number, run in enumerate(runs)}
    return runs, tuple(tuple(run_of[way] for way in followers[run[-1]]) for run in runs)


def _connected(lanes: Sequence[LaneGeometry], followers: Followers) -> Followers:
    """Leave out followers that begin elsewhere, or lead back: there the road is broken."""

    def connected(before: int, after: int) -> bool:
        end, start = lanes[before], lanes[after]
        turned = float(start.heading_rad[0] - end.heading_rad[-1])
        return math.dist(end.centre[-1, :2], start.centre[0, :2]) < BREAK_M and (
            math.cos(turned) > 0.0
        )

    return tuple(
        tuple(after for after in ways if connected(before, after))
        for before, ways in enumerate(followers)
    )


def over_short_streets(
    runs: Sequence[list[int]], followers: Followers, is_path: Sequence[bool], short: set[int]
) -> tuple[list[list[int]], Followers, list[bool]]:
    """Join paths through junctions over the streets that are too short to wait on.

    A vehicle that waits there would stand in the junction behind it.

    Args:
        runs: lanes of streets and paths.
        followers: of each.
        is_path: of each, whether it lies in a junction.
        short: streets that a vehicle may be too long for.

    Returns:
        The same, with a path for every way through neighbouring junctions.
    """
    leaders: list[list[int]] = [[] for _ in runs]
    for run, ways in enumerate(followers):
        for way in ways:
            leaders[way].append(run)
    joining = {
        street
        for street in short
        if not is_path[street]
        and all(beside and all(is_path[n] for n in beside)
                for beside in (leaders[street], followers[street]))
    }  # fmt: skip
    paths = [run for run in range(len(runs)) if is_path[run]]
    first = [path for path in paths if not leaders[path] or set(leaders[path]) - joining]
    chains = [chain for path in first for chain in _chains([path], followers, joining)]
    if not joining or len(chains) > MOST_CHAINS * len(paths):
        return list(runs), followers, list(is_path)
    streets = [run for run in range(len(runs)) if not is_path[run] and run not in joining]
    old = [[street] for street in streets] + chains
    new: dict[int, list[int]] = {}
    for number, chain in enumerate(old):
        new.setdefault(chain[0], []).append(number)
    return (
        [[lane for run in chain for lane in runs[run]] for chain in old],
        tuple(
            tuple(number for way in followers[chain[-1]] for number in new.get(way, []))
            for chain in old
        ),
        [is_path[chain[0]] for chain in old],
    )


def _chains(chain: list[int], followers: Followers, joining: set[int]) -> Iterator[list[int]]:
    """Yield a chain of runs as it goes on over short streets, none of them twice."""
    ways = followers[chain[-1]]
    if not set(ways) & joining:
        yield chain
        return
    for way in ways:
        if way in joining and way not in chain:
            for path in followers[way]:
                yield from _chains([*chain, way, path], followers, joining)


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


def breaks_of(road_map: RoadMap) -> list[str]:
    """Return where lanes do not meet those that follow them, one sentence each."""
    lanes = road_map.driving_lanes
    found = []
    for before, ways in zip(lanes, road_map.lane_followers, strict=True):
        for after in (lanes[way] for way in ways):
            gap_m = math.dist(before.centre[-1, :2], after.centre[0, :2])
            if gap_m > SEEN_GAP_M:
                found.append(
                    f'{_name(before)}: ends {gap_m:.2f} m from where {_name(after)} begins'
                )
    return found


def _name(lane: LaneGeometry) -> str:
    span = lane.span
    return f'road {span.road_id}, section s={span.s_start_m:g}, lane {span.lane_id}'

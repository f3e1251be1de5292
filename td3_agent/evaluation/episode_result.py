# SPDX-License-Identifier: Apache-2.0
"""From the ledger of an episode to its figures and to what is drawn of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.evaluation.metrics import episode_figures, track_of
from td3_agent.evaluation.summary import starts_anew

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.task import Task
    from td3_agent.evaluation.episodes import Episode
    from td3_agent.sim.world import World

EVENTS = ('collision', 'lane_invasion')
SURROUNDINGS_M = 40.0  # road farther than this from the route is not drawn


@dataclass(frozen=True, kw_only=True)
class EpisodeView:
    """What is drawn of an episode; positions in the map frame [m].

    Attributes:
        driven: (N, 2) positions.
        speed_mps: (N,) speed at each of them.
        route: (M, 2) the line to follow.
        road: outlines of the lanes near the route, (K, 2) each.
        events: x, y, what happened there.
    """

    driven: NDArray[np.float64]
    speed_mps: NDArray[np.float64]
    route: NDArray[np.float64]
    road: list[NDArray[np.float64]]
    events: list[tuple[float, float, str]]


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """One episode driven by one driver.

    Attributes:
        figures: its row of the results.
        view: what is drawn of it.
        findings: what was wrong with the drive.
    """

    figures: dict[str, Any]
    view: EpisodeView
    findings: tuple[Finding, ...] = ()


def result_of(
    episode: Episode,
    world: World,
    records: Sequence[dict[str, Any]],
    task: Task,
    *,
    transport: str,
) -> EpisodeResult:
    """Return figures and view of an episode from its records up to the ending.

    Args:
        episode: the episode.
        world: lends its map and route; where its car is by now does not matter.
        records: ledger records up to the ending.
        task: has taken them all.
        transport: how the frames travelled, ``'direct'`` or ``'ros'``.
    """
    track = track_of(records, world.ego.route, world.map)
    figures = {
        'episode': episode.number,
        'transport': transport,
        'attempts': 1,
        **episode.settings,
        'route_m': world.ego.route.length_m,
        **episode_figures(records, track, task.ending, task.route_completion),
    }
    view = EpisodeView(
        driven=track.places,
        speed_mps=track.speed_mps,
        route=world.ego.route.points_xy,
        road=road_around(world),
        events=events([record for record in records if 'x_m' in record]),
    )
    return EpisodeResult(figures=figures, view=view)


def road_around(world: World) -> list[NDArray[np.float64]]:
    """Return the outlines of the lanes that come near the route, (K, 2) [m] each."""
    points = world.ego.route.points_xy
    low, high = points.min(axis=0) - SURROUNDINGS_M, points.max(axis=0) + SURROUNDINGS_M
    outlines = [np.vstack((lane.left, lane.right[::-1])) for lane in world.map.lanes]
    return [
        outline
        for outline in outlines
        if (outline.max(axis=0) >= low).all() and (outline.min(axis=0) <= high).all()
    ]


def events(driven: Sequence[dict[str, Any]]) -> list[tuple[float, float, str]]:
    """Return where something happened: x [m], y [m], what."""
    return [
        (record['x_m'], record['y_m'], name.replace('_', ' '))
        for name in EVENTS
        for record, begins in zip(driven, starts_anew(driven, name), strict=True)
        if begins
    ]

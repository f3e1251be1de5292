# SPDX-License-Identifier: Apache-2.0
"""Everything that is wrong with one OpenDRIVE map, by road, section and lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from td3_agent.doctor.findings import Finding, Level

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from td3_agent.sim.opendrive import PreparedMap
    from td3_agent.sim.road import RoadMap


def map_findings(path: Path) -> list[Finding]:
    """Return all faults of a map file, what was cured, and what the map is like.

    The simulator is imported here: no other check needs it.
    """
    from td3_agent.sim.opendrive import MapError, prepared, read_opendrive  # noqa: PLC0415

    try:
        found = prepared(read_opendrive(path))
    except MapError as error:
        return [_finding(Level.ERROR, str(error))]
    faults = [
        _finding(Level.ERROR if fault.error else Level.WARNING, str(fault))
        for fault in found.faults
    ]
    faults += [_finding(Level.NOTE, cure) for cure in found.cures]
    return faults if found.errors else [*faults, *_loaded_findings(path, found)]


def _loaded_findings(path: Path, found: PreparedMap) -> Iterator[Finding]:
    """Load the map and look at what ``carla.Map`` makes of it."""
    from td3_agent.sim.lane_network import breaks_of  # noqa: PLC0415
    from td3_agent.sim.maps import loaded  # noqa: PLC0415
    from td3_agent.sim.opendrive import MapError  # noqa: PLC0415

    if found.origin_m != (0.0, 0.0):
        x_m, y_m = found.origin_m
        yield _finding(
            Level.NOTE,
            f'moved to a local origin, x {x_m:.0f} m, y {y_m:.0f} m of the file: positions are '
            'published from there',
        )
    try:
        road_map = loaded(path.stem, found)
    except MapError as error:
        yield _finding(Level.ERROR, str(error))
        return
    yield from (_finding(Level.WARNING, text) for text in breaks_of(road_map))
    yield _finding(Level.OK, _size(road_map))


def _size(road_map: RoadMap) -> str:
    lanes = road_map.driving_lanes
    roads = len({lane.span.road_id for lane in lanes})
    x0, y0, x1, y1 = road_map.bounds_m
    return (
        f'{road_map.name}: {roads} roads, {len(lanes)} driving lanes, '
        f'{len(road_map.spawn_points)} spawn points, {x1 - x0:.0f} x {y1 - y0:.0f} m'
    )


def _finding(level: Level, text: str) -> Finding:
    return Finding(level, 'map', text)

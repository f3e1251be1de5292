# SPDX-License-Identifier: Apache-2.0
"""Judges what was heard of a running graph. Pure: facts in, findings out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from td3_agent.doctor.findings import Finding, Level
from td3_agent.nodes import topics

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.doctor.facts import Graph

LEAST_FRAMES = 6  # stopped frames take 0.4 s each: few fit into a look of seconds
LEVELS = {1: Level.WARNING, 2: Level.ERROR, 3: Level.ERROR}  # of diagnostic_msgs


def check_frames(graph: Graph) -> Iterator[Finding]:
    """Images and odometry come, and make frames."""
    traffic = graph.traffic
    if not graph.topic(topics.odometry(graph.role_name)).publishers or not traffic.seconds:
        return  # nobody drives; the other checks tell who is missing
    if not traffic.motions_ns:
        said = f'no odometry came in {traffic.seconds:g} s: the simulator is paused, or waits'
        fix = 'see what synchronizer and gate say; look longer (--seconds 10)'
        yield Finding(Level.WARNING, 'frames', said, fix)
        return
    if not traffic.images_ns:
        said = f'{len(traffic.motions_ns)} odometry messages came in {traffic.seconds:g} s, '
        said += f'and no image on {topics.image(graph.role_name, graph.camera_id)}'
        yield Finding(Level.ERROR, 'frames', said, 'name the camera with --camera-id')
        return
    # The doctor starts where nothing is installed; where frames were heard, NumPy is.
    from td3_agent.driving.loop_check import rate_hz, stamp_findings  # noqa: PLC0415

    found = stamp_findings(traffic.images_ns, traffic.motions_ns, LEAST_FRAMES)
    for one in found:
        level = Level.ERROR if one.is_error else Level.WARNING
        yield Finding(level, 'frames', *_split(one.text))
    if not found:
        rate = rate_hz(sorted(traffic.motions_ns))
        counts = f'{len(traffic.images_ns)} images, {len(traffic.motions_ns)} odometry messages'
        at = '' if rate is None else f', {rate:.3g} Hz of simulated time'
        yield Finding(Level.OK, 'frames', f'{counts}{at}')


def check_said(graph: Graph) -> Iterator[Finding]:
    """No node of ours warns."""
    told: set[str] = set()
    for one in sorted(graph.traffic.said, key=lambda said: said.name):
        level = LEVELS.get(one.level)
        if level is None or one.message in told:
            continue
        told.add(one.message)
        said, fix = _split(one.message)
        yield Finding(level, 'reports', f'{one.name}: {said}', fix)
    if graph.traffic.said and not told:
        names = ', '.join(sorted(one.name for one in graph.traffic.said if ':' not in one.name))
        yield Finding(Level.OK, 'reports', f'nothing is wrong, say {names}')


def _split(text: str) -> tuple[str, str]:
    """Return what is wrong, and what to do about it."""
    for mark in ('; ', ': '):
        said, found, fix = text.partition(mark)
        if found:
            return said, fix
    return text, 'see the log of the node'

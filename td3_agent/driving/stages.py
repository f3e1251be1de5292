# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The latency breakdown of a frame: the stages between its step and its end, and their sum.

All timestamps are of one steady clock (CLOCK_MONOTONIC), which the processes of one machine
share. Each stage ends where the next one begins, so none is counted twice and none is left out;
the whole, from ``step_sent_ns`` to ``frame_closed_ns``, is measured by the synchronizer alone.

===========  ===============================================================================
stage        ends when
===========  ===============================================================================
tick         the synchronizer receives the CarlaStatus with the new frame number
receive      the agent's callback has the first half of the frame, image or odometry
pair         the agent's callback has the second half
preprocess   the observation is built; preprocessing before the second half counts here
inference    the driver has returned
publish      the Twist is handed over
gate         the vehicle command is handed over
acknowledge  the bridge's acknowledgement and the gate's report are with the synchronizer
===========  ===============================================================================

``tick`` begins with STEP_ONCE. A message is handed over when publishing has returned, or when its
receiver has it, whichever is first: the sender may lose the processor in between.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

AGENT_STAGES = ('pair', 'preprocess', 'inference', 'publish')
STAGES = ('tick', 'receive', *AGENT_STAGES, 'gate', 'acknowledge')
END_TO_END = 'end_to_end'
WINDOW_FRAMES = 200  # ten seconds at 20 Hz
PERCENTILES = {'p50': 50.0, 'p99': 99.0}
NANOSECONDS_PER_MILLISECOND = 1e6


def stage_durations_ns(record: Mapping[str, Any]) -> dict[str, int] | None:
    """Return how long each stage of a frame took [ns], from the timestamps in its record.

    None where a timestamp is not known (no agent, no answer in time, an in-process drive), and
    where they are out of order: its own answer has not closed the frame.
    """
    timestamps = timestamps_ns(record)
    return None if timestamps is None else durations_ns(STAGES, timestamps)


def timestamps_ns(record: Mapping[str, Any]) -> tuple[int, ...] | None:
    """Return the timestamps between the stages [ns, steady], one more than there are stages."""
    try:
        agent_ns = _agent_timestamps_ns(record)
        return (
            record['step_sent_ns'],
            min(record['announced_ns'], agent_ns[0]),
            *agent_ns,
            min(record['twist_published_ns'], record['twist_received_ns']),
            record['gate_published_ns'],
            record['frame_closed_ns'],
        )
    except KeyError:
        return None


def agent_durations_ns(fields: Mapping[str, Any]) -> dict[str, int] | None:
    """Return the stages that the agent measures itself [ns]; None as above."""
    try:
        timestamps = (*_agent_timestamps_ns(fields), fields['twist_published_ns'])
    except KeyError:
        return None
    return durations_ns(AGENT_STAGES, timestamps)


def durations_ns(names: Sequence[str], timestamps: Sequence[int]) -> dict[str, int] | None:
    """Return the durations between timestamps by name [ns]; None when one would be negative."""
    durations = [end - start for start, end in pairwise(timestamps)]
    return dict(zip(names, durations, strict=True)) if min(durations) >= 0 else None


def end_to_end_ns(record: Mapping[str, Any]) -> int | None:
    """Return the time from a frame's STEP_ONCE to its end [ns], as the synchronizer saw it."""
    if 'step_sent_ns' not in record or 'frame_closed_ns' not in record:
        return None
    return int(record['frame_closed_ns'] - record['step_sent_ns'])


def percentiles_ms(frames: Iterable[Mapping[str, int]]) -> dict[str, dict[str, float]]:
    """Return ``p50`` and ``p99`` [ms] of each stage and of their sum; empty without frames.

    Args:
        frames: durations of each frame [ns], all with the same stages.
    """
    rows = list(frames)
    if not rows:
        return {}
    columns = np.array([[*row.values(), sum(row.values())] for row in rows], dtype=np.float64)
    found = np.percentile(columns, list(PERCENTILES.values()), axis=0)
    found /= NANOSECONDS_PER_MILLISECOND
    return {
        name: dict(zip(PERCENTILES, column, strict=True))
        for name, column in zip([*rows[0], END_TO_END], found.T.tolist(), strict=True)
    }


class StageWindow:
    """The stages of the newest frames."""

    def __init__(self, frames: int = WINDOW_FRAMES) -> None:
        self._frames: deque[Mapping[str, int]] = deque(maxlen=frames)

    def add(self, durations: Mapping[str, int] | None) -> None:
        """Add the durations of a frame [ns]; None is a frame whose stages are not known."""
        if durations is not None:
            self._frames.append(durations)

    def figures(self) -> dict[str, float]:
        """Return ``<stage>_p50_ms`` and ``<stage>_p99_ms`` of each stage and of their sum."""
        return {
            f'{stage}_{name}_ms': round(value, 3)
            for stage, row in percentiles_ms(self._frames).items()
            for name, value in row.items()
        }


def _agent_timestamps_ns(record: Mapping[str, Any]) -> tuple[int, ...]:
    """Return when the agent's stages begin, and when the last but one ends [ns].

    An image that comes before the odometry is prepared in the meantime; that counts as if it were
    done after the odometry has come, so that what is left of the wait is ``pair``.
    """
    image_ns, odometry_ns = record['image_received_ns'], record['odometry_received_ns']
    early_ns = record['image_prepared_ns'] - image_ns if image_ns < odometry_ns else 0
    return (
        min(image_ns, odometry_ns),
        max(image_ns, odometry_ns) - early_ns,
        record['observed_ns'],
        record['decided_ns'],
    )

# SPDX-License-Identifier: Apache-2.0
"""Figures made of times: how they spread, and how well they keep a pace."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

PERIOD_NS = 50_000_000  # of 20 Hz


def spread_ms(times_ns: Sequence[int]) -> dict[str, float]:
    """Return median, 99th percentile and maximum [ms] of times [ns]."""
    times_ms = np.asarray(times_ns, float) / 1e6
    p50_ms, p99_ms = np.percentile(times_ms, (50, 99))
    return {'p50_ms': float(p50_ms), 'p99_ms': float(p99_ms), 'max_ms': float(times_ms.max())}


def rate_figures(times_ns: Sequence[int]) -> dict[str, float]:
    """Return how well times [ns], in order, keep to 20 Hz.

    Raises:
        ValueError: there are fewer than two.
    """
    if len(times_ns) < 2:
        raise ValueError(f'two commands make a period, got {len(times_ns)}')
    periods_ms = np.diff(np.asarray(times_ns, np.int64)) / 1e6
    return {
        'commands': len(times_ns),
        'rate_hz': 1e3 / float(periods_ms.mean()),
        'sigma_ms': float(periods_ms.std()),
        'p50_ms': float(np.median(periods_ms)),
        'p99_ms': float(np.percentile(periods_ms, 99)),
        'p999_ms': float(np.percentile(periods_ms, 99.9)),
        'max_ms': float(periods_ms.max()),
        'missed': missed_ticks(times_ns),
    }


def missed_ticks(times_ns: Sequence[int]) -> int:
    """Return how many ticks of the 20 Hz grid had no command within half a period.

    The grid lies as most of the times do: at their circular mean modulo a period.
    """
    since_ns = np.asarray(times_ns, np.int64) - times_ns[0]
    angle = np.angle(np.exp(2j * np.pi * (since_ns % PERIOD_NS) / PERIOD_NS).mean())
    ticks = np.round(since_ns / PERIOD_NS - angle / (2.0 * np.pi)).astype(np.int64)
    return int(ticks[-1] - ticks[0] + 1 - np.unique(ticks).size)

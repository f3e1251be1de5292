# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the episodes of a driver add up to, each figure with its 95 % confidence interval.

Intervals say how far the figure could move if other roads of the same kind were drawn:
bootstrap over episodes (percentile method, Efron 1979) with a fixed seed, Wilson's score
interval for the success rate, and the exact Poisson bound where an event was never seen, of
which a bootstrap knows nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy import stats

from td3_agent.evaluation.episode_result import METRES_PER_KM

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

Interval = list[float] | None

CONFIDENCE = 0.95
NEVER_SEEN = -math.log((1.0 - CONFIDENCE) / 2.0)  # exact Poisson bound for a count of zero
RESAMPLES = 10_000
BOOTSTRAP_SEED = 20_180_226

# Figures whose value is the mean over the episodes.
MEANS = (
    'route_completion',
    'driving_score',
    'infraction_penalty',
    'lateral_error_rms_m',
    'lateral_error_p95_m',
    'heading_error_rms_rad',
    'longitudinal_jerk_rms_mps3',
    'lateral_jerk_rms_mps3',
    'jerk_rms_mps3',
    'lateral_acceleration_rms_mps2',
)
# Events per kilometre of all episodes together.
RATES = {'collisions_per_km': 'collisions', 'lane_invasions_per_km': 'lane_invasions'}
# Means over the whole distance or time of all episodes: a short episode weighs little.
WEIGHTED = {
    'off_road_share': 'distance_m',
    'outside_lanes_share': 'distance_m',
    'mean_speed_mps': 'duration_s',
}
SUMS = (
    'frames',
    'distance_m',
    'collisions',
    'lane_invasions',
    'frames_not_ok',
    'violations',
    'attempts',
)


def totals(episodes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return every figure over all episodes, followed by its interval as ``<name>_ci95``.

    A figure that no episode has is None; so is an interval that one episode cannot give.
    """
    successes = sum(episode['success'] for episode in episodes)
    figures: dict[str, Any] = {
        'success_rate': successes / len(episodes) if episodes else None,
        'success_rate_ci95': wilson_interval(successes, len(episodes)),
    }
    for name in MEANS[:2]:
        _put(figures, name, *_mean(episodes, name))
    for name, events in RATES.items():
        _put(figures, name, *_rate(episodes, events))
    for name, weight in WEIGHTED.items():
        _put(figures, name, *_weighted(episodes, name, weight))
    for name in MEANS[2:]:
        _put(figures, name, *_mean(episodes, name))
    highest = [e['lateral_acceleration_max_mps2'] for e in episodes]
    figures['lateral_acceleration_max_mps2'] = max(
        (value for value in highest if value is not None), default=None
    )
    figures |= {name: sum(episode[name] for episode in episodes) for name in SUMS}
    return figures


def _put(figures: dict[str, Any], name: str, value: float | None, interval: Interval) -> None:
    figures[name] = value
    figures[f'{name}_ci95'] = interval


def _mean(episodes: Sequence[dict[str, Any]], name: str) -> tuple[float | None, Interval]:
    values = [episode[name] for episode in episodes if episode[name] is not None]
    return ratio_with_interval(values, [1.0] * len(values))


def _weighted(
    episodes: Sequence[dict[str, Any]], name: str, weight: str
) -> tuple[float | None, Interval]:
    known = [episode for episode in episodes if episode[name] is not None]
    return ratio_with_interval(
        [episode[name] * episode[weight] for episode in known],
        [episode[weight] for episode in known],
    )


def _rate(episodes: Sequence[dict[str, Any]], events: str) -> tuple[float | None, Interval]:
    """Return events per kilometre; never seen, the exact bound takes the bootstrap's place."""
    counts = [episode[events] for episode in episodes]
    ways_km = [episode['distance_m'] / METRES_PER_KM for episode in episodes]
    if sum(counts) == 0 and sum(ways_km) > 0.0:
        return 0.0, [0.0, NEVER_SEEN / sum(ways_km)]
    return ratio_with_interval(counts, ways_km)


def ratio_with_interval(
    numerators: ArrayLike, denominators: ArrayLike, *, resamples: int = RESAMPLES
) -> tuple[float | None, Interval]:
    """Return a ratio of sums over episodes and its bootstrap interval.

    Args:
        numerators: (N,) one per episode.
        denominators: (N,) one per episode, >= 0; all ones make the ratio a mean.
        resamples: how many times the episodes are drawn again.

    Returns:
        The ratio (None if the denominators sum to nothing) and its interval (None if there are
        fewer than two episodes).
    """
    over = np.asarray(numerators, dtype=np.float64)
    under = np.asarray(denominators, dtype=np.float64)
    if not under.sum() > 0.0:
        return None, None
    value = float(over.sum() / under.sum())
    if len(under) < 2:
        return value, None
    rng = np.random.default_rng(BOOTSTRAP_SEED)
    drawn = rng.integers(len(under), size=(resamples, len(under)))
    whole = under[drawn].sum(axis=1)
    ratios = over[drawn].sum(axis=1)[whole > 0.0] / whole[whole > 0.0]
    tail = 50.0 * (1.0 - CONFIDENCE)
    low, high = np.percentile(ratios, [tail, 100.0 - tail])
    return value, [float(low), float(high)]


def mean_with_t_interval(values: ArrayLike) -> tuple[float, Interval]:
    """Return a mean and its interval by Student's t, for a handful of runs.

    A bootstrap of so few knows too little of how far they spread.

    Args:
        values: (N,), N >= 1.

    Returns:
        The mean and its interval (None if there are fewer than two values).
    """
    given = np.asarray(values, dtype=np.float64)
    mean = float(given.mean())
    if len(given) < 2:
        return mean, None
    quantile = float(stats.t.ppf((1.0 + CONFIDENCE) / 2.0, len(given) - 1))
    half = quantile * float(given.std(ddof=1)) / math.sqrt(len(given))
    return mean, [mean - half, mean + half]


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return the score interval of a fraction (Wilson 1927, JASA 22:209), None without trials."""
    if trials == 0:
        return None
    bounds = stats.binomtest(successes, trials).proportion_ci(CONFIDENCE, 'wilson')
    return [float(bounds.low), float(bounds.high)]

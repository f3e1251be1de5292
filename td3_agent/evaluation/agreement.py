# SPDX-License-Identifier: Apache-2.0
"""Whether two drives of one episode, over ROS and without, are the same frame by frame."""

from __future__ import annotations

import hashlib
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence


def action_sha256(record: dict[str, Any]) -> str | None:
    """Return the hash of an action's float32 values, or None if there was no action."""
    if 'action' not in record:
        return None
    return hashlib.sha256(np.array(record['action'], dtype='<f4').tobytes()).hexdigest()


def observation_sha256(record: dict[str, Any]) -> str | None:
    """Return the hash of what the driver saw, or None if it saw nothing."""
    return record.get('observation_sha256')


def agreement(direct: Sequence[dict[str, Any]], ros: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Compare two ledgers of one episode, each up to its ending.

    A frame that only one of them has, or in which either has no hash, counts as different.
    """
    observations = actions = 0
    nothing: dict[str, Any] = {}
    for one, other in zip_longest(direct, ros, fillvalue=nothing):
        observations += _differ(observation_sha256(one), observation_sha256(other))
        actions += _differ(action_sha256(one), action_sha256(other))
    same_ending = bool(direct and ros) and direct[-1]['frame'] == ros[-1]['frame']
    return {
        'frames_direct': len(direct),
        'frames_ros': len(ros),
        'observation_hashes_different': observations,
        'action_hashes_different': actions,
        'same_ending_frame': same_ending,
        'equal': same_ending and observations == actions == 0,
    }


def _differ(one: str | None, other: str | None) -> bool:
    return one is None or one != other

# SPDX-License-Identifier: Apache-2.0
"""Whether two drives of one episode, over ROS and without, are the same frame by frame."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from td3_agent.driving.agent import action_sha256

if TYPE_CHECKING:
    from collections.abc import Sequence


# What a drive is made of, as against when it happened: equal in two drives of one episode.
DRIVEN = (
    'frame',
    'stamp_ns',
    'outcome',
    'observation_sha256',
    'action',
    'twist',
    'commands',
    'sent',
    'applied',
    'x_m',
    'y_m',
    'z_m',
    'yaw_rad',
    'speed_mps',
    'yaw_rate_radps',
    'collision',
    'lane_invasion',
)


def action_hash(record: dict[str, Any]) -> str | None:
    """Return the hash of an action's float32 values, or None if there was no action."""
    return action_sha256(record['action']) if 'action' in record else None


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
        actions += _differ(action_hash(one), action_hash(other))
    same_ending = bool(direct and ros) and direct[-1]['frame'] == ros[-1]['frame']
    return {
        'frames_direct': len(direct),
        'frames_ros': len(ros),
        'observation_hashes_different': observations,
        'action_hashes_different': actions,
        'same_ending_frame': same_ending,
        'equal': same_ending and observations == actions == 0,
    }


def first_difference(
    one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """Return frame, field and both values where two ledgers first differ; None if nowhere.

    Instants on the machine's clock are left out: no two drives have them in common.
    """
    for here, there in zip_longest(one, other):
        if here is None or there is None:
            frame = (here or there)['frame']
            return {'frame': frame, 'field': 'frame', 'values': [_frame(here), _frame(there)]}
        for name in DRIVEN:
            if here.get(name) != there.get(name):
                values = [here.get(name), there.get(name)]
                return {'frame': here['frame'], 'field': name, 'values': values}
    return None


def _frame(record: dict[str, Any] | None) -> int | None:
    return None if record is None else record['frame']


def _differ(one: str | None, other: str | None) -> bool:
    return one is None or one != other

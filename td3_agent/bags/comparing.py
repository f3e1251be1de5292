# SPDX-License-Identifier: Apache-2.0
"""What a replay adds up to, and where it differs: from the recording, a ledger, another policy."""

from __future__ import annotations

from dataclasses import asdict
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.agent import action_sha256

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from td3_agent.bags.offline import Replay

Record = dict[str, Any]
COMPARED = ('observation_sha256', 'action_sha256', 'twist')
NANOSECONDS = 1e9


def simulated_s(records: Sequence[Record]) -> float:
    """Return how much simulated time the frames span [s]; jumps back count as nothing."""
    stamps = np.array([record['stamp_ns'] for record in records], dtype=np.int64)
    steps = np.diff(stamps)
    usual = float(np.median(steps)) if len(steps) else 0.0
    forward = steps[(steps > 0) & (steps < NANOSECONDS)]
    return (float(forward.sum()) + usual) / NANOSECONDS


def summarize(replay: Replay) -> dict[str, Any]:
    """Return the figures of one replay; units are part of the names."""
    records = replay.records
    compared = [r for r in records if 'action' in r and 'action' in r['recorded']]
    differences = np.array([np.subtract(r['action'], r['recorded']['action']) for r in compared])
    span_s = simulated_s(records)
    return {
        'driver': replay.title,
        'frames': len(records),
        'simulated_s': span_s,
        'wall_s': replay.wall_s,
        'times_real_time': span_s / replay.wall_s if replay.wall_s else None,
        'frames_compared': len(compared),
        'observations_equal': _equal(records, 'observation_sha256'),
        'actions_equal': _equal(records, 'action_sha256'),
        'twists_equal': sum(r['published_twist'] == r['recorded'].get('twist') for r in records),
        'speed_action_difference': _size(differences, 0),
        'yaw_action_difference': _size(differences, 1),
        'pairing': replay.pairing,
        'refused': {
            topic: {'messages': n, 'first': why} for topic, (n, why) in replay.refused.items()
        },
        'torn': replay.torn,
        'findings': [asdict(finding) for finding in replay.findings],
    }


def _equal(records: Iterable[Record], name: str) -> int:
    return sum(name in r and r[name] == r['recorded'].get(name) for r in records)


def _size(differences: NDArray[np.float64], column: int) -> dict[str, float] | None:
    """Return how large one action's differences are [1, full scale is 1]."""
    if not len(differences):
        return None
    sizes = np.abs(differences[:, column])
    return {'mean': float(sizes.mean()), 'max': float(sizes.max())}


def first_difference(expected: Iterable[Record], records: Iterable[Record]) -> str:
    """Return where a replay first is not what a ledger says; empty if nowhere.

    Frames of the ledger that the agent did not answer are left out, and so are frames of the
    replay that the ledger has no frame for: idle ticks, in which the agent infers but the car
    must not drive.
    """
    expected = list(expected)
    wanted = [record for record in expected if 'action' in record]
    if not wanted:
        return 'the expected ledger has no frame with an action'
    idle = list(_gaps(expected))
    answered = (
        record
        for record in records
        if 'action' in record and not any(a < record['stamp_ns'] < b for a, b in idle)
    )
    for number, (there, here) in enumerate(zip_longest(wanted, answered)):
        if there is None:
            return f'frame {number} (stamp {here["stamp_ns"]} ns) is not in the expected ledger'
        if difference := _difference(there, here):
            frame = (
                f'frame {number} (stamp {there["stamp_ns"]} ns, {there["frame"]} in the ledger)'
            )
            return f'{frame}: {difference}'
    return ''


def _gaps(expected: Iterable[Record]) -> Iterator[tuple[int, int]]:
    """Yield the stamps between which frame numbers of a ledger are missing [ns]."""
    frame, stamp = -1, -1
    for record in expected:
        if record['frame'] > frame + 1 and 'stamp_ns' in record:
            yield stamp, record['stamp_ns']
        frame, stamp = record['frame'], record.get('stamp_ns', stamp)


def _difference(there: Record, here: Record | None) -> str:
    """Return how a frame is not what the ledger says; empty if it is."""
    if here is None:
        return 'missing in the replay'
    if here['stamp_ns'] != there['stamp_ns']:
        return f'the replay has stamp {here["stamp_ns"]} ns'
    for name in COMPARED:
        if name in there or name == 'action_sha256':
            want, have = _value(there, name), _value(here, name)
            if want != have:
                return f'{name} must be {want}, got {have}'
    return ''


def _value(record: Record, name: str) -> Any:  # noqa: ANN401  a value of JSON
    """Return a field; the hash of an action is computed from it."""
    return action_sha256(record['action']) if name == 'action_sha256' else record.get(name)


def comparison_rows(replays: dict[str, Replay]) -> list[list[str]]:
    """Return a table: each driver, and the recording, against the first driver."""
    (first, base), *others = replays.items()
    rows = [
        ['against ' + first, 'frames', 'equal', 'speed mean', 'speed max', 'yaw mean', 'yaw max']
    ]
    recorded = [record['recorded'].get('action') for record in base.records]
    columns = {'recorded': recorded} | {
        name: [record.get('action') for record in replay.records] for name, replay in others
    }
    mine = [record.get('action') for record in base.records]
    for name, actions in columns.items():
        pairs = [(a, b) for a, b in zip(mine, actions, strict=False) if a and b]
        if not pairs:
            rows.append([name, '0', *['-'] * 5])
            continue
        sizes = np.abs(np.array([np.subtract(a, b) for a, b in pairs]))
        figures = [sizes[:, 0].mean(), sizes[:, 0].max(), sizes[:, 1].mean(), sizes[:, 1].max()]
        equal = sum(a == b for a, b in pairs)
        rows.append([name, str(len(pairs)), str(equal), *(f'{x:.4f}' for x in figures)])
    return rows


def plot_actions(path: Path, replays: dict[str, Replay], title: str) -> None:
    """Draw both actions of every driver, and the recorded ones, over simulated time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415  slow to import
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(11.0, 6.0), layout='constrained')
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 1, sharex=True)
    base = next(iter(replays.values())).records
    start_ns = base[0]['stamp_ns'] if base else 0
    for column, (axis, label) in enumerate(
        zip(axes, ('speed action [1]', 'yaw action [1], left positive'), strict=True)
    ):
        lines = [('recorded', [(r['stamp_ns'], r['recorded'].get('action')) for r in base])]
        lines += [
            (name, [(r['stamp_ns'], r.get('action')) for r in replay.records])
            for name, replay in replays.items()
        ]
        for name, points in lines:
            known = [
                ((stamp - start_ns) / NANOSECONDS, action) for stamp, action in points if action
            ]
            style = (
                {'color': '#9aa0a6', 'linewidth': 4.0}
                if name == 'recorded'
                else {'linewidth': 1.3}
            )
            times = [t for t, _ in known]
            axis.plot(times, [a[column] for _, a in known], label=name, **style)
        axis.set_ylabel(label)
        axis.set_ylim(-1.08, 1.08)
        axis.grid(color='#e3e6e8')
        axis.spines[['top', 'right']].set_visible(False)
    axes[-1].set_xlabel('simulated time [s]')
    axes[0].legend(frameon=False, ncols=4, loc='lower right', bbox_to_anchor=(1.0, 1.0))
    axes[0].set_title(title, loc='left')
    figure.savefig(path, dpi=130)

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Settings of a training run besides those of the algorithm, and their file."""

from __future__ import annotations

from dataclasses import asdict, dataclass
import json
from typing import TYPE_CHECKING, Any

from td3_agent.driving.parameters import Params, param
from td3_agent.policy.manifest import LONGEST_SMOOTHING_S, SMOOTHING

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from pathlib import Path

    from td3_agent.td3.params import Td3Params

DEVICES = ('auto', 'cpu', 'cuda')
LOCAL = 'local'  # a Ray that starts and ends with the program
GROUPS = ('td3', 'train', 'ray')  # of the settings that a run keeps
CONFIG = 'config.json'
# Settings that a resumed run may change.
MAY_CHANGE = (
    'steps',
    'keep',
    *SMOOTHING,
    'processes',
    'device',
    'threads',
    'fragment_steps',
    'broadcast_every',
)


@dataclass(frozen=True, kw_only=True)
class TrainParams(Params):
    """Settings of a run: length, device, intervals."""

    steps: int = param(20_000, 'environment steps, of all environments together', low=1)
    seed: int = param(0, 'seed of everything random', low=0)
    start_policy: str = param(
        '',
        'policy for a warm start, its name or file; empty: fresh weights, random actions first',
        path=True,
    )
    eval_env: str = param('', 'Gymnasium id to evaluate on; empty: those that are trained on')
    eval_every: int = param(2000, 'steps between evaluations; 0 has none', low=0)
    eval_episodes: int = param(10, 'episodes of an evaluation, always the same', low=1, high=1000)
    eval_steps: int = param(10_000, 'steps after which an evaluation episode is cut', low=1)
    log_every: int = param(500, 'steps between rows of progress.csv', low=1)
    snapshot_every: int = param(10_000, 'steps between snapshots; 0 has none', low=0)
    keep: int = param(2, 'last snapshots and policies that are kept', low=1, high=1000)
    speed_smoothing_s: float = param(
        0.0,
        'lag of the low-pass that saved driving policies have on a rising target speed, less on '
        'a falling one, against jerk; training does without it',
        unit='s',
        low=0.0,
        high=LONGEST_SMOOTHING_S,
    )
    yaw_rate_smoothing_s: float = param(
        0.0,
        'lag of the low-pass that saved driving policies have on the yaw rate',
        unit='s',
        low=0.0,
        high=LONGEST_SMOOTHING_S,
    )
    device: str = param('auto', 'what computes; auto takes a GPU if there is one', choices=DEVICES)
    threads: int = param(1, 'threads of torch; resuming is exact with one', low=1, high=256)
    processes: bool = param(
        False,
        'run each environment in its own process, beside the learner; Ray always does',
    )
    frame_stack: int = param(
        0, 'frames in an image; 0 asks the environment, which may not know: then 1', low=0, high=32
    )


@dataclass(frozen=True, kw_only=True)
class RayParams(Params):
    """Settings of Ray's workers, for ``--ray`` only."""

    workers: int = param(2, 'rollout workers, each with an environment', low=1, high=10_000)
    fragment_steps: int = param(64, 'steps of a rollout fragment', low=1, high=100_000)
    broadcast_every: int = param(
        50, 'least updates between two policies sent to the workers', low=1
    )


def add_ray_argument(parser: argparse.ArgumentParser, about: str) -> None:
    """Declare ``--ray``; the value is None without it, :data:`LOCAL` without an address.

    Args:
        parser: of the subcommand.
        about: what Ray does for it.
    """
    parser.add_argument(
        '--ray',
        nargs='?',
        const=LOCAL,
        metavar='ADDRESS',
        help=f'{about}; ADDRESS is that of a cluster that this machine belongs to ("auto" finds '
        'it), without one a Ray of its own is started and ended',
    )


def read_config(path: Path) -> dict[str, Any]:
    """Return the configuration of a run: ``env``, groups of settings, and versions.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read or holds something else.
    """
    try:
        config = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} cannot be read: {error}') from error
    names = (*GROUPS, 'versions')
    groups = [config.get(name, {}) for name in names] if isinstance(config, dict) else [None]
    if not all(isinstance(group, dict) for group in groups):
        raise ValueError(f'{path} must hold mappings of settings: {", ".join(names)}')
    if not (isinstance(config.get('env'), list) and config['env']):
        raise ValueError(f'{path} must hold a list of tasks as env, got {config.get("env")!r}')
    return dict(config)


def saved_config(out: Path) -> dict[str, Any]:
    """Return the configuration of the run in a folder.

    Raises:
        ValueError: it is missing or cannot be read.
    """
    try:
        return read_config(out / CONFIG)
    except FileNotFoundError:
        raise ValueError(f'{out} holds no run to resume') from None


def saved_settings(out: Path) -> dict[str, Any]:
    """Return the settings of the run in a folder, by name.

    Raises:
        ValueError: they are missing or cannot be read.
    """
    config = saved_config(out)
    settings = {name: value for group in GROUPS for name, value in config.get(group, {}).items()}
    return {'env': config['env'], **settings}


def grouped(
    env_ids: tuple[str, ...], td3: Td3Params, train: TrainParams, ray: RayParams | None
) -> dict[str, Any]:
    groups = zip(GROUPS, (td3, train, ray), strict=True)
    settings = {name: asdict(group) for name, group in groups if group is not None}
    return {'env': list(env_ids), **settings}


def changes(saved: Mapping[str, Any], mine: Mapping[str, Any]) -> list[str]:
    """Return how a run's settings differ from the saved ones, where they must not."""
    same = saved.get('env') == mine['env']
    found = [] if same else [f'env was {saved.get("env")}']
    if ('ray' in saved) != ('ray' in mine):
        found.append(f'it was trained {"with" if "ray" in saved else "without"} --ray')
    for group in GROUPS:
        before = saved.get(group, {})
        for name, value in mine.get(group, {}).items():
            if before.get(name) != value and name not in MAY_CHANGE:
                found.append(f'{name} was {before.get(name)}, now {value}')
    return found

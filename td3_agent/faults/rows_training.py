# SPDX-License-Identifier: Apache-2.0
"""Rows about training: killed anywhere and resumed, and simulators that die under it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.faults.row import Outcome, row
from td3_agent.faults.scene import SceneError
from td3_agent.faults.training_envs import SERVER_STEPS
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.policy_file import CheckpointError
from td3_agent.td3.params import Td3Params
from td3_agent.td3.snapshot import SnapshotError, load_snapshot, snapshots
from td3_agent.training.params import TrainParams
from td3_agent.training.trainer import Trainer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from td3_agent.faults.scene import Scene

MARKED = 'td3_agent.faults.training_envs:td3_agent_faults/Marked-v0'
DYING = 'td3_agent.faults.training_envs:td3_agent_faults/Dying-v0'
TINY: dict[str, Any] = {
    'batch_size': 16,
    'start_steps': 10,
    'buffer_capacity': 2000,
    'hidden_units': 16,
    'hidden_layers': 1,
}
PROGRAM = 'td3_agent'
SNAPSHOT_EVERY = 20
STEPS = 400
PATIENCE_S = 120.0
LOOK_S = 0.005
END_STEPS = 80  # from there on it may have ended before the signal is with it


@row('F23', 'training killed at random steps, and resumed')
def killed(scene: Scene) -> Outcome:
    """The resumed run is the uninterrupted one bit by bit; nothing half-written is ever seen."""
    outcome = Outcome()
    kills = scene.count or (2 if scene.quick else 20)
    steps = STEPS if not scene.quick else STEPS // 2
    draw = random.Random(scene.seed)  # noqa: S311  no secret
    whole, cut = scene.folder / 'whole', scene.folder / 'cut'
    _train(scene, whole, steps).wait(PATIENCE_S)
    whole_snapshot, done = _newest(whole), 0
    # Steps at which it is killed, anywhere; each run goes on from the last snapshot.
    targets = sorted(draw.sample(range(1, steps - END_STEPS), kills))
    half_written: list[str] = []
    for target in targets:
        process = _train(scene, cut, steps, resume=(cut / 'config.json').exists())
        _wait_for_step(process, cut, target)
        process.send_signal(signal.SIGKILL)
        done += process.wait() == -signal.SIGKILL
        half_written += _unreadable(cut)
    process = _train(scene, cut, steps, resume=True)
    outcome.equal('exit status of the last run', process.wait(PATIENCE_S), 0)
    outcome.none('checkpoints that were half written', half_written)
    outcome.equal('processes killed', done, kills)
    summary = json.loads((cut / 'summary.json').read_text(encoding='utf-8'))
    outcome.equal('the run calls itself exact', summary['exact'], wanted=True)
    outcome.equal('the last snapshot, bit by bit', _newest(cut), whole_snapshot)
    for name in ('progress.csv', 'eval.csv'):
        outcome.equal(name, _without_speed(cut / name), _without_speed(whole / name))
    outcome.figures |= {'kills': done, 'steps': steps}
    return outcome


def _train(
    scene: Scene, out: Path, steps: int, *, resume: bool = False
) -> subprocess.Popen[bytes]:
    """Start a training of so many steps."""
    settings = TINY | {'steps': steps, 'snapshot_every': SNAPSHOT_EVERY, 'log_every': 1}
    settings |= {'device': 'cpu', 'eval_every': 50, 'eval_episodes': 1, 'seed': scene.seed}
    words = [f'--{name.replace("_", "-")}={value}' for name, value in settings.items()]
    command = [sys.executable, '-m', PROGRAM, 'train', '--env', MARKED, '--out', str(out)]
    with (scene.folder / f'{out.name}.log').open('ab') as log:
        return subprocess.Popen(  # noqa: S603  our own program; no shell
            [*command, *words, *(['--resume'] if resume else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=dict(os.environ, **scene.environment),
            start_new_session=True,
        )


def _wait_for_step(process: subprocess.Popen[bytes], out: Path, step: int) -> None:
    """Wait until a run has logged a step.

    Raises:
        SceneError: it ended, or took too long.
    """
    end_s = time.monotonic() + PATIENCE_S
    table = out / 'progress.csv'
    while _logged(table) < step:
        if process.poll() is not None or time.monotonic() > end_s:
            raise SceneError(f'step {step} of a training: expected, and did not come')
        time.sleep(LOOK_S)


def _logged(table: Path) -> int:
    """Return the last step of a table of progress; 0 while there is none."""
    lines = table.read_bytes().splitlines()[1:] if table.exists() else []
    first = lines[-1].split(b',')[0] if lines else b''
    return int(first) if first.isdigit() else 0


def _unreadable(out: Path) -> list[str]:
    """Return what stands there as a snapshot or a policy and cannot be loaded."""
    policies = [
        path
        for path in (*(out / 'policies').glob('[!.]*'), out / 'best.safetensors')
        if path.exists()
    ]
    looks = [
        *((load_snapshot, path) for path in snapshots(out / 'snapshots')),
        *((load_checkpoint, path) for path in policies),
    ]
    return [fault for look, path in looks if (fault := _fault_of(look, path))]


def _fault_of(look: Callable[[Path], object], path: Path) -> str:
    """Return why something cannot be loaded; empty if it can."""
    try:
        look(path)
    except (SnapshotError, CheckpointError) as error:
        return str(error)
    return ''


def _newest(out: Path) -> tuple[str, str]:
    """Return name of the newest snapshot and the hash of every number in it."""
    path = snapshots(out / 'snapshots')[-1]
    tensors, facts = load_snapshot(path)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + np.ascontiguousarray(tensors[name].numpy()).tobytes())
    return path.name, digest.hexdigest()


def _without_speed(table: Path) -> list[str]:
    """Return the rows of a table without what depends on the clock."""
    lines = [line.split(',') for line in table.read_text(encoding='utf-8').splitlines()]
    drop = lines[0].index('steps_per_s') if 'steps_per_s' in lines[0] else None
    return [','.join(c for i, c in enumerate(line) if i != drop) for line in lines]


@row('F24', 'a simulator that dies every 50 steps of a training')
def dying(scene: Scene) -> Outcome:
    """Training goes on, the episode ends there, and no transition spans a death."""
    outcome = Outcome()
    steps = 600 if scene.quick else 3000
    train = TrainParams(steps=steps, eval_every=0, snapshot_every=0, device='cpu')
    trainer = Trainer((DYING,), Td3Params(**TINY), train, scene.folder / 'run')
    summary = trainer.run()
    outcome.equal('steps', summary['step'], steps)
    outcome.equal('failures', summary['failures'], steps // SERVER_STEPS)
    lost = steps - trainer.buffer.transitions if steps <= TINY['buffer_capacity'] // 2 else None
    if lost is not None:
        outcome.equal('steps that are not in the buffer', lost, steps // SERVER_STEPS)
    sample = trainer.buffer.sample(4000)
    same = sample.state[:, 0] == sample.next_state[:, 0]
    follow = sample.state[:, 1] + 1.0 == sample.next_state[:, 1]
    outcome.equal('transitions between two episodes', int((~same).sum()), 0)
    outcome.equal('transitions that leave out a step', int((~follow).sum()), 0)
    outcome.figures |= {'deaths': summary['failures'], 'transitions_looked_at': len(same)}
    return outcome

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases about training: killed anywhere and resumed, and simulators that die under it."""

import hashlib
import json
import os
from pathlib import Path
import random
import signal

from faults import training_envs
from harness.programs import wait_until
import numpy as np
import pytest

from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.td3.params import Td3Params
from td3_agent.td3.snapshot import load_snapshot, snapshots
from td3_agent.training.params import TrainParams
from td3_agent.training.trainer import Trainer

MODULE = training_envs.__name__
TINY = {
    'batch_size': 16,
    'start_steps': 10,
    'buffer_capacity': 2000,
    'hidden_units': 16,
    'hidden_layers': 1,
}
TEST = str(Path(__file__).parents[1])
STEPS = 400
PATIENCE_S = 120.0
END_STEPS = 80  # from there on it may have ended before the signal reaches it


@pytest.mark.nightly
@pytest.mark.case('F23', 'training killed at random steps, and resumed')
def test_training_killed(rig):
    """The resumed run is the uninterrupted one bit by bit; nothing half-written is ever seen."""
    kills = rig.count or (2 if rig.quick else 20)
    steps = STEPS // 2 if rig.quick else STEPS
    whole, cut = rig.folder / 'whole', rig.folder / 'cut'
    train(rig, whole, steps).wait(PATIENCE_S)
    # Steps at which it is killed, anywhere; each run goes on from the last snapshot.
    targets = random.Random(rig.seed).sample(range(1, steps - END_STEPS), kills)
    for target in sorted(targets):
        process = train(rig, cut, steps, resume=(cut / 'config.json').exists())
        kill_at(process, cut / 'progress.csv', target)
        expect_all_readable(cut)
    assert train(rig, cut, steps, resume=True).wait(PATIENCE_S) == 0
    assert json.loads((cut / 'summary.json').read_text(encoding='utf-8'))['exact']
    assert newest(cut) == newest(whole), 'the last snapshot, bit by bit'
    for name in ('progress.csv', 'eval.csv'):
        assert without_speed(cut / name) == without_speed(whole / name)
    rig.figures |= {'kills': kills, 'steps': steps}


def train(rig, out, steps, *, resume=False):
    """Start a training run."""
    settings = TINY | {'steps': steps, 'snapshot_every': 20, 'log_every': 1}
    settings |= {'device': 'cpu', 'eval_every': 50, 'eval_episodes': 1, 'seed': rig.seed}
    words = [f'--{name.replace("_", "-")}={value}' for name, value in settings.items()]
    task = f'{MODULE}:{training_envs.MARKED}'
    command = [*rig.python, 'td3_agent.__main__', 'train', '--env', task, '--out', str(out)]
    rig.environment['PYTHONPATH'] = os.pathsep.join([TEST, os.environ.get('PYTHONPATH', '')])
    command += [*words, *(['--resume'] if resume else [])]
    return rig.start(out.name, command, (0, -signal.SIGKILL)).process


def logged(table):
    """Return the last step of a table of progress; 0 while there is none."""
    lines = table.read_bytes().splitlines()[1:] if table.exists() else []
    first = lines[-1].split(b',')[0] if lines else b''
    return int(first) if first.isdigit() else 0


def kill_at(process, table, step):
    """Kill a run that has logged a step."""
    wait_until(lambda: process.poll() is not None or logged(table) >= step, f'step {step}')
    process.kill()
    assert process.wait() == -signal.SIGKILL, f'step {step} of a training'


def expect_all_readable(out):
    """Load every snapshot and policy; half-written ones raise."""
    for path in snapshots(out / 'snapshots'):
        load_snapshot(path)
    for path in (*(out / 'policies').glob('[!.]*'), out / 'best.safetensors'):
        if path.exists():
            load_checkpoint(path)


def newest(out):
    """Return name of the newest snapshot and the hash of every number in it."""
    path = snapshots(out / 'snapshots')[-1]
    tensors, facts = load_snapshot(path)
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for name in sorted(tensors):
        digest.update(name.encode() + np.ascontiguousarray(tensors[name].numpy()).tobytes())
    return path.name, digest.hexdigest()


def without_speed(table):
    """Return the rows of a table without what depends on the clock."""
    lines = [line.split(',') for line in table.read_text(encoding='utf-8').splitlines()]
    drop = lines[0].index('steps_per_s') if 'steps_per_s' in lines[0] else None
    return [[cell for i, cell in enumerate(line) if i != drop] for line in lines]


@pytest.mark.case('F24', 'a simulator that dies every 50 steps of a training')
def test_simulator_dies(rig):
    """Training goes on, the episode ends there, and no transition spans a death."""
    steps = 600 if rig.quick else 3000
    params = TrainParams(steps=steps, eval_every=0, snapshot_every=0, device='cpu')
    tasks = (f'{MODULE}:{training_envs.DYING}',)
    training_envs.Dying.steps = 0
    trainer = Trainer(tasks, Td3Params(**TINY), params, rig.folder / 'run')
    summary = trainer.run()
    deaths = steps // training_envs.SERVER_STEPS
    assert (summary['step'], summary['failures']) == (steps, deaths)
    if steps <= TINY['buffer_capacity'] // 2:
        assert trainer.buffer.transitions == steps - deaths
    sample = trainer.buffer.sample(4000)
    assert (sample.state[:, 0] == sample.next_state[:, 0]).all(), 'within an episode'
    assert (sample.state[:, 1] + 1.0 == sample.next_state[:, 1]).all(), 'one step each'
    rig.figures |= {'deaths': deaths, 'transitions_looked_at': len(sample.state)}

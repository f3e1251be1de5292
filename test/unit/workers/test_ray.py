# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Training and evaluation by real workers of Ray, one of which is killed."""

from contextlib import ExitStack, contextmanager, nullcontext
import csv
from dataclasses import replace
from itertools import pairwise
import json
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

ray = pytest.importorskip('ray', reason='needs Ray: pip install -r requirements/ray.in')
pytest.importorskip('gymnasium')

from ray._private import ray_constants  # noqa: E402
from ray_runs import TD3, trainer_of, unclosed_files_ignored  # noqa: E402

from td3_agent.__main__ import main  # noqa: E402
from td3_agent.driving.ledger import read_ledger  # noqa: E402
from td3_agent.evaluation.direct_episodes import (  # noqa: E402
    DirectDriverParams,
    DirectJob,
    drive_job,
    drive_jobs,
)
from td3_agent.evaluation.episodes import EpisodePlan  # noqa: E402
from td3_agent.td3.params import Td3Params  # noqa: E402
from td3_agent.td3.snapshot import snapshots  # noqa: E402
from td3_agent.td3.transitions import ReplayError  # noqa: E402
from td3_agent.training.envs import EnvFailureError  # noqa: E402
from td3_agent.training.params import (  # noqa: E402
    LOCAL,
    RayParams,
    TrainParams,
)
from td3_agent.training.ray_session import _join, _start, ray_session  # noqa: E402
from td3_agent.training.trainer import Trainer  # noqa: E402

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PATIENCE_S = 180.0
IDENTITY = 'td3_agent.training.tasks:td3_agent/Identity-v0'


@pytest.fixture(scope='module')
def shared_folder(tmp_path_factory):
    return tmp_path_factory.mktemp('envs')


@pytest.fixture(scope='module', autouse=True)
def session(shared_folder):
    """A Ray that the tests of this module share; its processes get what is needed to import."""
    with pytest.MonkeyPatch.context() as patch, ExitStack() as stack:
        patch.setenv('PYTHONPATH', str(Path(__file__).parent), prepend=os.pathsep)
        patch.setenv('SCALE_ENVS_FOLDER', str(shared_folder))
        with unclosed_files_ignored():
            stack.enter_context(ray_session(LOCAL, 2))
        yield
        with unclosed_files_ignored():
            stack.close()


def kill_who_waits(folder):
    """Kill the process that tells its number, once there is one."""
    number = int((folder / 'process').read_text())
    (folder / 'died').touch()
    os.kill(number, signal.SIGKILL)


def test_killed_worker_loses_the_end_of_its_episode_alone(shared_folder, tmp_path, caplog):
    for name in ('process', 'never', 'succeeded'):
        os.mkfifo(shared_folder / name)
    killer = threading.Thread(target=kill_who_waits, args=(shared_folder,), daemon=True)
    killer.start()
    trainer = trainer_of(tmp_path / 'run', 100, 'Doomed', 'Waiting')
    summary = trainer.run()
    killer.join(PATIENCE_S)
    assert (summary['workers_lost'], summary['failures']) == (1, 1)
    assert not summary['exact']  # the machine has decided on the order of steps
    assert 'worker 0 is lost, its episode is cut' in caplog.text
    assert trainer.buffer.transitions == trainer.step == summary['step'] >= 100
    assert trainer.learner.updates == (trainer.step - TD3['start_steps']) // 2
    shown = trainer.buffer.states()
    # Every episode is there from its first step on, without a gap.
    follows = [(a[:2] == b[:2]).all() and a[2] + 1 == b[2] for a, b in pairwise(shown)]
    assert all(follows | (shown[1:, 2] == 0.0))
    lengths = [int((shown[:, 1] == seed).sum()) for seed in dict.fromkeys(shown[:, 1])]
    assert lengths[:3] == [12, 12, 1]  # of 29 steps, fragments of 5 had brought 25
    assert (shown[:, 0] == 1.0).sum() > 25  # and the successor has gone on
    sample = trainer.buffer.sample(1000)
    assert (sample.state[:, :2] == sample.next_state[:, :2]).all()
    assert (sample.state[:, 2] + 1 == sample.next_state[:, 2]).all()


def processes_with(mark):
    """Processes that have inherited a variable of the environment."""
    return [path for path in Path('/proc').glob('[0-9]*') if mark.encode() in environment_of(path)]


def environment_of(process):
    """Environment of a process; that of one that has ended, or is not ours, is empty."""
    try:
        return (process / 'environ').read_bytes()
    except OSError:
        return b''


def wait_until(condition, what):
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        os.sched_yield()


@contextmanager
def started(*words):
    """A program in a process of its own, whose end leaves none behind."""
    mark = f'td3_agent_test_{uuid.uuid4().hex}'
    process = subprocess.Popen(
        [sys.executable, '-m', 'td3_agent', *words, f'--env={IDENTITY}', '--device=cpu'],
        env=os.environ | {'MARK': mark, 'PYTHONPATH': os.pathsep.join([str(ROOT), *sys.path])},
        stderr=subprocess.PIPE,
        text=True,
    )
    process.mark = mark
    try:
        yield process
        wait_until(lambda: not processes_with(mark), 'processes that go on')
    finally:
        process.kill()


def interrupted(process, number, condition, what):
    """Send a signal once a condition holds; return what was said before the end."""
    wait_until(lambda: condition() or process.poll() is not None, what)
    assert len(processes_with(process.mark)) > 3  # itself, Ray, and the workers
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130, errors
    return errors


needs_proc = pytest.mark.skipif(not Path('/proc/self/environ').exists(), reason='needs /proc')


@needs_proc
def test_interrupted_run_leaves_no_process_and_goes_on(tmp_path):
    """Ctrl-C in the middle of a run from the command line, which has a Ray of its own."""
    out = tmp_path / 'run'
    words = [f'--{name.replace("_", "-")}={value}' for name, value in TD3.items()]
    words += ['--snapshot-every=40', '--eval-every=0', '--workers=1', '--fragment-steps=5']
    with started('train', *words, f'--out={out}', '--ray', '--steps=1000000') as process:
        errors = interrupted(
            process,
            signal.SIGINT,
            lambda: len(snapshots(out / 'snapshots')) == 2,
            'snapshots',
        )
    assert errors.endswith(f'interrupted; --resume --out {out} continues\n')
    step = int(snapshots(out / 'snapshots')[-1].name.removeprefix('step_'))
    train = {'snapshot_every': 40, 'eval_every': 0, 'device': 'cpu'}
    trainer = Trainer(
        (IDENTITY,),
        Td3Params(**TD3),
        TrainParams(steps=step + 30, **train),
        out,
        RayParams(workers=1, fragment_steps=5),
    )
    summary = trainer.run(resume=True)
    assert not summary['exact']  # nobody can bring workers back to where they were
    assert trainer.buffer.transitions == trainer.step >= step + 30
    assert trainer.learner.updates == (trainer.step - TD3['start_steps']) // 2


@needs_proc
@pytest.mark.nightly
def test_interrupted_sweep_says_how_to_go_on(tmp_path):
    """SIGTERM, as the system sends it, while Tune has two runs under way."""
    out = tmp_path / 'sweep'
    words = ['--seeds', '0', '1', '--steps=1000000000', '--eval-every=0']
    with started('sweep', *words, f'--out={out}') as process:
        errors = interrupted(
            process, signal.SIGTERM, lambda: len(list(out.glob('*/config.json'))) == 2, 'runs'
        )
    assert errors.endswith(f'interrupted; --resume --out {out} continues\n')


def test_what_is_started_here_stays_on_this_machine():
    assert {node['NodeManagerAddress'] for node in ray.nodes()} == {'127.0.0.1'}


def test_end_that_is_asked_for_is_no_abort():
    with pytest.raises(SystemExit) as ended:
        signal.raise_signal(signal.SIGTERM)
    assert ended.value.code == 128 + signal.SIGTERM


@pytest.mark.parametrize('failures', [2, 3])
def test_start_on_a_busy_machine_is_tried_again(tmp_path, monkeypatch, failures):
    late = [Exception('The current node timed out during startup. This could')] * failures

    def start(**_):
        if late:
            raise late.pop()

    monkeypatch.setattr(ray, 'init', start)
    monkeypatch.setenv(ray_constants.ENABLE_RAY_CLUSTERS_ENV_VAR, '0')
    monkeypatch.setattr(ray_constants, 'ENABLE_RAY_CLUSTER', False)
    with pytest.raises(TimeoutError, match='3 times') if failures == 3 else nullcontext():
        _start(2, str(tmp_path))
    assert not late


def test_address_where_nobody_is_is_rejected():
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))  # and nobody listens
        address = f'127.0.0.1:{taken.getsockname()[1]}'
        with pytest.raises(ConnectionError, match=f'--ray {address}: no cluster answers there'):
            _join(address, 2)


def test_episodes_by_ray_are_those_without(tmp_path):
    summaries, ledgers = [], []
    for name, words in (('here', []), ('ray', ['--ray'])):
        out = tmp_path / name
        words += ['--driver=pure_pursuit', '--map=oval', '--route-length=40', '--episodes=2']
        with pytest.raises(SystemExit) as ended:
            main(['evaluate', '--no-references', f'--out={out}', *words])
        assert ended.value.code == 0
        summaries.append(json.loads((out / 'summary.json').read_text()))
        ledgers.append([r['applied'] for r in read_ledger(out / 'ledger.jsonl')])
    assert summaries[0] == summaries[1]
    assert ledgers[0] == ledgers[1]


def test_episode_whose_process_dies_is_driven_again(shared_folder):
    from deadly_episode import DeadlyEpisode

    plan = EpisodePlan(map='oval', route_length_m=40.0)
    drivers = {'driver': DirectDriverParams(driver='pure_pursuit')}
    whole = [
        DirectJob(plan=plan, episode=plan.episode(number), drivers=drivers, ledgers={})
        for number in range(2)
    ]
    first = whole[0].episode
    deadly = DeadlyEpisode(number=first.number, bridge=first.bridge, folder=shared_folder)
    driven = list(drive_jobs([replace(whole[0], episode=deadly), whole[1]], 2, LOCAL))
    assert (shared_folder / 'killed').exists()
    assert [one['driver'].figures for one in driven] == [
        drive_job(job)['driver'].figures for job in whole
    ]


def test_run_of_a_sweep_is_that_of_train(tmp_path):
    pytest.importorskip('pandas')
    pytest.importorskip('pyarrow')
    short = ['--steps=40', '--eval-every=20', '--eval-episodes=1', '--device=cpu']
    short += [f'--{name.replace("_", "-")}={value}' for name, value in TD3.items()]
    for words in (
        ['sweep', '--set=tau=0.1', '--seeds', '3', f'--out={tmp_path / "sweep"}'],
        ['train', '--tau=0.1', '--seed=3', f'--out={tmp_path / "train"}'],
    ):
        with pytest.raises(SystemExit) as ended, unclosed_files_ignored():
            main([*words, f'--env={IDENTITY}', *short])
        assert ended.value.code == 0
    run = tmp_path / 'sweep' / 'tau=0.1,seed=3'
    assert (run / 'eval.csv').read_text() == (tmp_path / 'train' / 'eval.csv').read_text()
    (row,) = csv.DictReader((tmp_path / 'sweep' / 'sweep.csv').read_text().splitlines())
    assert (row['seed'], row['step'], row['error']) == ('3', '40', '')
    summary = json.loads((run / 'summary.json').read_text())
    assert float(row['last_return']) == summary['last_return']


def test_run_of_a_sweep_that_cannot_be_is_one_line(tmp_path, capfd):
    pytest.importorskip('pandas')
    pytest.importorskip('pyarrow')
    with pytest.raises(SystemExit) as ended, unclosed_files_ignored():
        main(['sweep', '--env=Nope-v0', '--seeds', '0', f'--out={tmp_path}'])
    assert ended.value.code == 1
    first, last = capfd.readouterr().err.splitlines()
    said = "ValueError: Gymnasium: Environment `Nope` doesn't exist"
    assert first.startswith(f'{tmp_path}/seed=0: {said}')
    assert last == f'--resume --out {tmp_path} tries these again'


def test_mistakes_of_a_task_end_the_run(tmp_path):
    trainer = trainer_of(tmp_path / 'run', 100, 'Wrong')
    with pytest.raises(ReplayError, match=r'^action and reward must be finite'):
        trainer.run()


def test_simulator_that_is_gone_for_good_ends_the_run_with_a_snapshot(shared_folder, tmp_path):
    trainer = trainer_of(tmp_path / 'run', 1000, 'Ruined')
    try:
        with pytest.raises(EnvFailureError, match=r'^ConnectionError: server is gone$'):
            trainer.run()
    finally:
        (shared_folder / 'gone').unlink()
    (snapshot,) = snapshots(tmp_path / 'run' / 'snapshots')
    again = trainer_of(tmp_path / 'run', 1000, 'Ruined')
    again.begin(resume=True)
    again.close()
    assert again.buffer.transitions == again.step == 25  # of 29, sent five by five
    assert snapshot.name == 'step_0000000025'


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        (['--workers=2'], 'workers: only with --ray'),
        (['--ray', '--workers=1', f'--env={IDENTITY}'], '--workers must be >= 2'),
        (
            ['--ray', '--buffer-capacity=64'],
            '--buffer-capacity must be >= 258 for 2 --workers with --fragment-steps 64, got 64',
        ),
    ],
)
def test_contradictions_are_rejected(tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as ended:
        main(['train', f'--env={IDENTITY}', f'--out={tmp_path / "run"}', *words])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases with a full disk, another middleware or full shared memory."""

from importlib.util import find_spec
import json
import os
from pathlib import Path
import re
import shutil
import signal
import subprocess
import sys
import time

from faults.mounts import FULL_SHM, joining, may_mount, on_small_disk, unshared
from harness.programs import shared_memory
from harness.rig import AGENT, BRIDGE, GATE, SYNCHRONIZER, audited
import numpy as np
import pytest

from td3_agent.driving.ledger import read_ledger
from td3_agent.evaluation.ledger_command import first_difference
from td3_agent.fastdds import LOOPBACK_PROFILE, profile_variable, udp_variables
from td3_agent.files import shared_path

LEDGER_DISK_BYTES = 160 * 1024
CHECKPOINT_DISK_BYTES = 3 * 1024 * 1024
PATIENCE_S = 60.0
MOST_SLOWER_MS = 5.0
STRETCHES = 12
RMWS = ('rmw_fastrtps_cpp', 'rmw_cyclonedds_cpp', 'rmw_zenoh_cpp', 'rmw_connextdds')
DISCOVERY_S = 2


@pytest.mark.case('F16', 'the disk is full: ledger')
def test_disk_full_of_ledger(rig):
    """The drive goes on, one error is reported, and earlier records stay intact."""
    disk = rig.folder / 'disk'
    disk.mkdir()
    path = disk / 'ledger.jsonl'
    settings = {'real_time_factor': 4.0, 'ledger_path': str(path)}
    drive = rig.drive(start=(BRIDGE, GATE, AGENT), parameters={SYNCHRONIZER: settings})
    rig.prefix = on_small_disk(disk, LEDGER_DISK_BYTES)
    node = drive.start(SYNCHRONIZER)
    rig.prefix = []
    rig.wait_good()
    watcher, begun_ns, error = rig.watcher, time.monotonic_ns(), 'the ledger has ended'
    named = rig.wait_for(lambda: watcher.named(begun_ns, 'synchronizer', error), error)
    expect_same_pace(rig, begun_ns, named.at_ns)
    copy = rig.folder / 'ledger_copy.jsonl'
    shutil.copyfile(as_seen_by(node, path), copy)
    rig.expect_single_steps()
    assert set(watcher.outcomes(begun_ns)) == {'ok'}
    rig.p0(begun_ns)
    assert node.log_path.read_text(encoding='utf-8').count(error) == 1
    assert len(audited(copy).records) >= 50
    rig.figures['disk'] = 'tmpfs' if may_mount() else 'limit of file sizes'


@pytest.mark.case('F16', 'the disk is full: checkpoint and snapshot')
def test_disk_full_of_checkpoint(rig):
    """A failed write is reported, and leaves the old file."""
    disk = rig.folder / 'checkpoints'
    disk.mkdir()
    program = [sys.executable, str(Path(__file__).with_name('disk_writer.py')), str(disk)]
    done = subprocess.run(
        [*on_small_disk(disk, CHECKPOINT_DISK_BYTES), *program],
        env=rig.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-300:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found['rejected']) == 2
    for text in found['rejected']:
        assert 'No space left' in text or 'too large' in text
    assert found['checkpoint_kept']
    assert found['snapshot_kept']
    assert found['leftovers'] == []


def expect_same_pace(rig, begun_ns, full_ns):
    """Expect that frames after ``full_ns`` are answered no later than those before.

    By their 99th percentiles. A machine that is busy with something else for a while is not
    what is measured: the best of some stretches counts.
    """
    before = response_ms(rig, begun_ns, full_ns)
    slower_ms, since_ns = [], full_ns
    while len(slower_ms) < STRETCHES and not min(slower_ms, default=np.inf) <= MOST_SLOWER_MS:
        rig.wait_good(rig.count or (100 if rig.quick else 400))
        now_ns = time.monotonic_ns()
        after = response_ms(rig, since_ns, now_ns)
        slower_ms.append(float(np.percentile(after, 99) - np.percentile(before, 99)))
        since_ns = now_ns
    rig.figures |= {'frames_before': len(before), 'p99_slower_ms': min(slower_ms)}
    assert min(slower_ms) <= MOST_SLOWER_MS, f'p99 from clock to command [ms]: {slower_ms} more'


def response_ms(rig, since_ns, before_ns):
    """Return the times from /clock to the command of each frame in a span [ms]."""
    clocks = {
        (clock.what.clock.sec, clock.what.clock.nanosec): clock.at_ns
        for clock in tuple(rig.watcher.clocks)
        if since_ns <= clock.at_ns < before_ns
    }
    commands = [(c.at_ns, c.what.header.stamp) for c in tuple(rig.watcher.commands)]
    keyed = [(at_ns, (stamp.sec, stamp.nanosec)) for at_ns, stamp in commands]
    return [(at_ns - clocks[key]) / 1e6 for at_ns, key in keyed if key in clocks]


def as_seen_by(node, path):
    """Return a path as a process sees it, which may have mounted something there."""
    inside = Path(f'/proc/{node.process.pid}/root{path}')
    return inside if inside.exists() else path


@pytest.mark.alone
@pytest.mark.case('F19', 'another middleware, no shared memory, late discovery')
def test_other_middleware(rig):
    """The drive is the same, hash by hash, and every node starts."""
    frames = rig.count or 60
    installed = [name for name in RMWS if is_installed(name)]
    missing = [name for name in RMWS if name not in installed]
    rig.figures |= {'rmw': ' '.join(installed), 'not_installed': ' '.join(missing)}
    for name in installed if len(installed) > 1 else ():
        expect_same_drive(rig, name, frames, {'RMW_IMPLEMENTATION': name})
    if may_mount():
        keeper = rig.start(
            'full_shm', [*unshared(), 'sh', '-c', FULL_SHM], (0, -signal.SIGINT, -signal.SIGTERM)
        )
        rig.wait_for(lambda: 'ready' in keeper.last_output(), 'a full /dev/shm')
        rig.prefix = joining(keeper.process.pid)
        expect_same_drive(rig, 'shm full', frames)
        rig.prefix = []
        keeper.process.terminate()
    else:
        rig.figures['shm_full'] = 'not allowed to mount'
    udp = udp_variables(rig.environment, shared_path('config'))
    assert expect_same_drive(rig, 'without shared memory', frames, udp) == 0, 'sharing memory'
    late = {profile_variable(rig.environment): str(late_discovery(rig.folder))}
    expect_same_drive(rig, 'late discovery', frames, late)
    rig.p0()


def is_installed(rmw):
    """Whether a middleware is there, as a ROS package of a prefix or of the environment."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    index = 'share/ament_index/resource_index/packages'
    places = [Path(prefix) / index / rmw for prefix in prefixes if prefix]
    return any(place.exists() for place in places) or bool(find_spec(rmw))


def expect_same_drive(rig, label, frames, variables=()):
    """Drive with other settings, and compare with the drive without ROS.

    Returns the number of processes that share memory with others.
    """
    usual = dict(rig.environment)
    rig.environment.update(variables)
    settings = {'max_frames': frames, 'real_time_factor': 0.0, 'idle_period_s': 0.0}
    settings['ledger_path'] = str(rig.folder / f'ledger_{label.replace(" ", "_")}.jsonl')
    started_ns = time.monotonic_ns()
    drive = rig.drive(parameters={SYNCHRONIZER: settings})
    drive.wait_until_over()
    rig.figures[f'{label} duration_s'] = (time.monotonic_ns() - started_ns) / 1e9
    sharing = sum(bool(shared_memory(node.process.pid)) for node in drive.nodes.values())
    rig.figures[f'{label} sharing_memory'] = sharing
    for node in drive.nodes.values():  # the next drive has a domain to itself
        if node.process.poll() is None:
            rig.signal(node, signal.SIGTERM, 0)
        node.process.wait(PATIENCE_S)
    records = list(read_ledger(drive.ledger_paths[-1]))
    assert first_difference(records, drive.direct_ledger(frames)) is None, label
    assert [record['outcome'] for record in records] == ['ok'] * frames, label
    rig.environment.clear()
    rig.environment.update(usual)
    return sharing


def late_discovery(folder):
    """Write a profile with which processes find each other only with their regular word."""
    text = shared_path(LOOPBACK_PROFILE).read_text(encoding='utf-8')
    first = '<initialAnnouncements><count>0</count></initialAnnouncements>'
    text = text.replace('<discovery_config>', f'<discovery_config>{first}')
    period = f'<leaseAnnouncement><sec>{DISCOVERY_S}</sec></leaseAnnouncement>'
    text = re.sub(r'<leaseAnnouncement>.*?</leaseAnnouncement>', period, text, flags=re.DOTALL)
    path = folder / 'late_discovery.xml'
    path.write_text(text, encoding='utf-8')
    return path

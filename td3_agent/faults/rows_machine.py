# SPDX-License-Identifier: Apache-2.0
"""Rows in which the machine runs out of something, or the middleware is another."""

from __future__ import annotations

from contextlib import suppress
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
from typing import TYPE_CHECKING

import numpy as np

from td3_agent.driving.ledger import read_ledger
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.evaluation.agreement import first_difference
from td3_agent.fastdds import LOOPBACK_PROFILE, profile_variable, udp_variables
from td3_agent.faults.namespaces import FULL_SHM, joining, may_mount, on_small_disk, unshared
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.rows_messages import direct_ledger, steps_are_single
from td3_agent.faults.scene import CONTIGUOUS, NODE_NAMES, SYNCHRONIZER, Drive, SceneError
from td3_agent.nodes.share import shared_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from td3_agent.evaluation.processes import NodeProcess
    from td3_agent.faults.scene import Scene

FAST = 4.0  # times real time
LEDGER_DISK_BYTES = 160 * 1024
CHECKPOINT_DISK_BYTES = 3 * 1024 * 1024
PATIENCE_S = 60.0
MOST_SLOWER_MS = 5.0
STRETCHES = 12
RMWS = ('rmw_fastrtps_cpp', 'rmw_cyclonedds_cpp', 'rmw_zenoh_cpp', 'rmw_connextdds')
DISCOVERY_S = 2


@row('F16', 'the disk is full: ledger and checkpoint')
def full_disk(scene: Scene) -> Outcome:
    """The drive goes on, one error is told, and what was written before stays whole."""
    outcome = Outcome()
    outcome.figures['disk'] = 'tmpfs' if may_mount() else 'limit of file sizes'
    full_ledger(scene, outcome)
    full_checkpoint(scene, outcome)
    return outcome


def full_ledger(scene: Scene, outcome: Outcome) -> None:
    """Let the synchronizer's disk fill up while it drives."""
    disk = scene.folder / 'disk'
    disk.mkdir()
    path = disk / 'ledger.jsonl'
    fast = {'real_time_factor': FAST, 'ledger_path': str(path)}
    drive = scene.drive(start=False, parameters={SYNCHRONIZER: fast})
    for name in ('sim_bridge_node', 'twist_to_control_node', 'td3_agent_node'):
        drive.start(name)
    scene.prefix = on_small_disk(disk, LEDGER_DISK_BYTES)
    node = drive.start(SYNCHRONIZER)
    scene.prefix = []
    scene.wait_good()
    watcher, begun_ns = scene.watcher, time.monotonic_ns()
    named = scene.wait_for(
        lambda: watcher.named(begun_ns, NODE_NAMES[SYNCHRONIZER], 'the ledger has ended'),
        'the ledger to end',
    )
    slower_ms = slower_after(scene, outcome, begun_ns, named.at_ns)
    seen = seen_path(node.process.pid, path)
    copy = scene.folder / 'ledger_copy.jsonl'
    shutil.copyfile(seen, copy)
    outcome.most('p99 from clock to command, more than before', slower_ms, MOST_SLOWER_MS, 'ms')
    outcome.figures['p99_slower_ms'] = slower_ms
    steps_are_single(scene, outcome)
    outcome.equal('outcomes', set(watcher.outcomes(begun_ns)), {'ok'})
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    told = node.log_path.read_text(encoding='utf-8').count('the ledger has ended')
    outcome.equal('errors in the log', told, 1)
    audit = audit_ledger(copy)
    for name in CONTIGUOUS:
        outcome.none(f'P0 ledger {name}', audit.findings[name].faults)
    outcome.least('records that stay', len(audit.records), 50)


def slower_after(scene: Scene, outcome: Outcome, begun_ns: int, full_ns: int) -> float:
    """Return by how much the frames after ``full_ns`` are answered later than those before [ms].

    By their 99th percentiles. A machine that is busy with something else for a while is not
    what is measured: the best of some stretches counts.
    """
    before = response_ms(scene, begun_ns, full_ns)
    outcome.figures['frames_before'] = len(before)
    least_ms, since_ns = float('inf'), full_ns
    for stretch in range(STRETCHES):
        scene.wait_good(scene.count or (100 if scene.quick else 400))
        now_ns = time.monotonic_ns()
        after = response_ms(scene, since_ns, now_ns)
        least_ms = min(least_ms, float(np.percentile(after, 99) - np.percentile(before, 99)))
        outcome.figures['frames_after'] = len(after) * (stretch + 1)
        if least_ms <= MOST_SLOWER_MS:
            break
        since_ns = now_ns
    return least_ms


def seen_path(pid: int, path: Path) -> Path:
    """Return a path as a process sees it, which may have mounted something there."""
    inside = Path(f'/proc/{pid}/root{path}')
    return inside if inside.exists() else path


def response_ms(scene: Scene, since_ns: int, before_ns: int) -> list[float]:
    """Return the times from /clock to the command of each frame in a span [ms]."""
    clocks = {
        (h.what.clock.sec, h.what.clock.nanosec): h.at_ns
        for h in tuple(scene.watcher.clocks)
        if since_ns <= h.at_ns < before_ns
    }
    times = []
    for heard in tuple(scene.watcher.commands):
        stamp = heard.what.header.stamp
        if (clock_ns := clocks.get((stamp.sec, stamp.nanosec))) is not None:
            times.append((heard.at_ns - clock_ns) / 1e6)
    return times


def full_checkpoint(scene: Scene, outcome: Outcome) -> None:
    """Save a checkpoint and a snapshot on a full disk."""
    disk = scene.folder / 'checkpoints'
    disk.mkdir()
    words = [sys.executable, '-m', 'td3_agent.faults.disk_writer', str(disk)]
    done = subprocess.run(  # noqa: S603  our own program; no shell
        [*on_small_disk(disk, CHECKPOINT_DISK_BYTES), *words],
        env=scene.environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    if done.returncode:
        raise SceneError(f'disk_writer ended with {done.returncode}: {done.stderr[-300:]}')
    found = json.loads(done.stdout.splitlines()[-1])
    for kind in ('checkpoint', 'snapshot'):
        text = found[f'{kind}_refused']
        full = 'No space left' in text or 'too large' in text
        outcome.check(f'{kind} refused', full, text or 'it was not', 'no space left')
        outcome.equal(f'older {kind} kept', found[f'{kind}_kept'], wanted=True)
    outcome.none('leftovers on the full disk', found['leftovers'])


@row('F19', 'another middleware, no shared memory, late discovery', quick=False)
def middleware(scene: Scene) -> Outcome:
    """The drive is the same, hash by hash, and nobody waits for ever at the start."""
    outcome = Outcome()
    frames = scene.count or 60
    installed = [name for name in RMWS if is_installed(name)]
    outcome.figures['rmw'] = ' '.join(installed)
    outcome.figures['not_installed'] = ' '.join(name for name in RMWS if name not in installed)
    for name in installed:
        if name != os.environ.get('RMW_IMPLEMENTATION', RMWS[0]) or len(installed) > 1:
            scene.environment['RMW_IMPLEMENTATION'] = name
            plain_drive(scene, outcome, name, frames)
    if len(installed) > 1:
        scene.environment['RMW_IMPLEMENTATION'] = installed[0]
    if may_mount():
        with_full_shm(scene, outcome, frames)
    else:
        outcome.figures['shm_full'] = 'not allowed to mount'
    udp = udp_variables(scene.environment, shared_path('config'))
    changed_environment(scene, outcome, 'without shared memory', udp, frames)
    sharing = outcome.figures['without_shared_memory_sharing_memory']
    outcome.equal('processes that share memory, without it', sharing, 0)
    changed_environment(scene, outcome, 'late discovery', late_discovery(scene), frames)
    scene.p0(outcome)
    return outcome


def is_installed(rmw: str) -> bool:
    """Whether a middleware is there, as a ROS package of a prefix or of the environment."""
    prefixes = os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep)
    index = 'share/ament_index/resource_index/packages'
    return any((Path(prefix) / index / rmw).exists() for prefix in prefixes if prefix) or bool(
        find_spec(rmw)
    )


def plain_drive(scene: Scene, outcome: Outcome, label: str, frames: int) -> None:
    """Drive without anybody who watches, and compare with the drive without ROS."""
    part, started_ns = Outcome(), time.monotonic_ns()
    settings = {'max_frames': frames, 'real_time_factor': 0.0, 'idle_period_s': 0.0}
    drive = scene.drive(
        watched=False,
        parameters={SYNCHRONIZER: settings},
        ledger=f'ledger_{label.replace(" ", "_")}.jsonl',
    )
    node = drive.nodes[SYNCHRONIZER]
    scene.wait_for(lambda: node.process.poll() is not None, f'{label}: the end', PATIENCE_S)
    part.figures['duration_s'] = (time.monotonic_ns() - started_ns) / 1e9
    part.figures['sharing_memory'] = sum(map(shares_memory, drive.nodes.values()))
    for other in drive.nodes.values():  # the next drive has a domain to itself
        if other.process.poll() is None:
            scene.signal(other, signal.SIGTERM, 0)
    for other in drive.nodes.values():
        other.process.wait(PATIENCE_S)
    part.equal('frames', compare(drive, frames, part), frames)
    outcome.add(part, label)


def compare(drive: Drive, frames: int, part: Outcome) -> int:
    """Compare a ledger with that of the drive without ROS; return how many frames it has."""
    records = list(read_ledger(drive.ledger_path))
    part.equal('first difference', first_difference(records, direct_ledger(drive, frames)), None)
    part.equal('outcomes', {record['outcome'] for record in records}, {'ok'})
    return len(records)


def with_full_shm(scene: Scene, outcome: Outcome, frames: int) -> None:
    """Drive where /dev/shm has not a byte left."""
    keeper = scene.start_command(
        'full_shm', [*unshared(), 'sh', '-c', FULL_SHM], (0, -signal.SIGINT, -signal.SIGTERM)
    )
    scene.wait_for(lambda: 'ready' in keeper.last_words(), 'a full /dev/shm')
    scene.prefix = joining(keeper.process.pid)
    try:
        plain_drive(scene, outcome, 'shm full', frames)
    finally:
        scene.prefix = []
    keeper.process.terminate()


def changed_environment(
    scene: Scene, outcome: Outcome, label: str, variables: Mapping[str, str], frames: int
) -> None:
    """Drive with other settings of the middleware than those that ship."""
    usual = {name: scene.environment.get(name, '') for name in variables}
    scene.environment |= variables
    plain_drive(scene, outcome, label, frames)
    scene.environment |= usual


def late_discovery(scene: Scene) -> dict[str, str]:
    """Return settings with which processes find each other only with their regular word."""
    text = shared_path(LOOPBACK_PROFILE).read_text(encoding='utf-8')
    first = '<initialAnnouncements><count>0</count></initialAnnouncements>'
    text = text.replace('<discovery_config>', f'<discovery_config>{first}')
    period = f'<leaseAnnouncement><sec>{DISCOVERY_S}</sec></leaseAnnouncement>'
    text = re.sub(r'<leaseAnnouncement>.*?</leaseAnnouncement>', period, text, flags=re.DOTALL)
    path = scene.folder / 'late_discovery.xml'
    path.write_text(text, encoding='utf-8')
    return {profile_variable(scene.environment): str(path)}


def shares_memory(node: NodeProcess) -> bool:
    """Whether a process has memory of Fast DDS in common with others."""
    with suppress(OSError):  # ended
        maps = Path(f'/proc/{node.process.pid}/maps').read_text(encoding='utf-8')
        return re.search('/fast(rtps|dds)_[0-9a-f]{16}', maps) is not None
    return False

# SPDX-License-Identifier: Apache-2.0
"""The row in which the recorder dies, or has no room left; the loop must not notice."""

from __future__ import annotations

import random
import sys
import time
from typing import TYPE_CHECKING

from td3_agent.bags.bag import STORAGES, Bag
from td3_agent.bags.record import FLUSH_S
from td3_agent.bags.storage import BagError
from td3_agent.driving.frames import NANOSECONDS_PER_SECOND
from td3_agent.faults.namespaces import on_small_disk
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.rows_machine import MOST_SLOWER_MS, seen_path, slower_after
from td3_agent.faults.rows_messages import steps_are_single

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from td3_agent.evaluation.processes import NodeProcess
    from td3_agent.faults.scene import Scene

PROGRAM = 'td3_agent'
IMAGES_BYTES = 1_000_000  # more than there is without images
RECORDED_FRAMES = 40
# The last flush is up to a second old, and writing it takes its time as well.
MOST_LOST_S = FLUSH_S + 0.5
LEAST_FRAMES = 10
EDGE_FRAMES = 2  # heard by the watcher a moment before or after
MOST_STOPPED_FRAMES = 2  # starting a recorder takes a core for a second
# Fast DDS waits so long for the lock of a killed reader's shared memory.
MOST_STANDING_S = 3.5
CUTS = 20
DISK_BYTES = 4 * 1024 * 1024
TOO_MUCH_MB = 1e12


@row('F17', 'recorder: kill -9, files cut anywhere, a full disk')
def lost_recorder(scene: Scene) -> Outcome:
    """The bag holds all but the last second, and the drive goes on."""
    outcome = Outcome()
    killed_recorder(scene, outcome)
    with scene.apart('disk') as other:
        full_bag(other, outcome)
    return outcome


def killed_recorder(scene: Scene, outcome: Outcome) -> None:
    """Kill recorders of both formats beside a drive."""
    drive = scene.drive()
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    for storage in ('mcap', 'sqlite3'):
        kill_one(scene, outcome, storage)
    scene.wait_good()
    ended_ns = time.monotonic_ns()
    steps_are_single(scene, outcome)
    standing_s = scene.watcher.longest_without_good_s(begun_ns, ended_ns)
    outcome.most('longest stop of the car', standing_s, MOST_STANDING_S, 's')
    scene.p0(outcome, silence=(begun_ns, ended_ns))
    drive.audit(outcome)


def kill_one(scene: Scene, outcome: Outcome, storage: str) -> None:
    """Record for a while, kill, and read what is there."""
    bag = scene.folder / storage
    begun_ns = time.monotonic_ns()
    recorder = start_recorder(scene, bag, '--storage', storage)
    # Who follows a killed reader hears the bridge seconds late: frames count from the first image.
    scene.wait_for(lambda: written_bytes(bag) > IMAGES_BYTES, f'images in {storage}')
    scene.wait_good(RECORDED_FRAMES)
    if storage == 'mcap':  # the first: nobody was killed yet
        stopped = sum(word != 'ok' for word in scene.watcher.outcomes())
        outcome.most('frames stopped beside a recorder', stopped, MOST_STOPPED_FRAMES)
    killed_ns = time.time_ns()
    scene.kill(recorder)
    contents = Bag(bag).contents()
    lost_s = (killed_ns - contents.last_ns) / NANOSECONDS_PER_SECOND
    outcome.most(f'{storage}: lost at the end', lost_s, MOST_LOST_S, 's')
    wall_ns = time.time_ns() - time.monotonic_ns()
    times_ns = [message.received_ns - wall_ns for message in Bag(bag).messages(['/clock'])]
    recorded, span = len(times_ns), (min(times_ns, default=begun_ns), max(times_ns, default=0))
    heard = sum(span[0] <= h.at_ns <= span[1] for h in tuple(scene.watcher.clocks))
    outcome.least(
        f'{storage}: frames in the bag', recorded, max(heard - EDGE_FRAMES, LEAST_FRAMES)
    )
    outcome.figures |= {
        f'{storage}_lost_s': lost_s,
        f'{storage}_messages': contents.counts.total(),
        f'{storage}_frames': recorded,
        f'{storage}_frames_heard': heard,
        f'{storage}_first_frame_s': (span[0] - begun_ns) / NANOSECONDS_PER_SECOND,
    }
    if storage == 'mcap':
        outcome.none('cut anywhere', cut_anywhere(bag, scene))


def cut_anywhere(bag: Path, scene: Scene) -> list[str]:
    """Cut copies of a bag's file as a power cut does; return what cannot be read then."""
    (path,) = bag.glob('*.mcap')
    whole, rng = path.read_bytes(), random.Random(scene.seed)  # noqa: S311  no secret
    faults, before = [], 0
    for number, size in enumerate(sorted(rng.randrange(1, len(whole)) for _ in range(CUTS))):
        cut = scene.folder / f'cut_{number}.mcap'
        cut.write_bytes(whole[:size])
        try:
            count = Bag(cut).contents().counts.total()
        except BagError as error:
            if before:  # a file that ends before its first chunk holds nothing to read
                faults.append(f'{size} of {len(whole)} bytes: {error}')
            continue
        if count < before:
            faults.append(f'{size} of {len(whole)} bytes: {count} messages, {before} in fewer')
        before = count
        cut.unlink()
    return faults if before else ['no cut left anything']


def full_bag(scene: Scene, outcome: Outcome) -> None:
    """Let the recorder's disk fill up beside a drive; then ask for more room than there is."""
    drive = scene.drive()
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    disk = scene.folder / 'bags'
    disk.mkdir()
    scene.prefix = on_small_disk(disk, DISK_BYTES)
    recorder = start_recorder(scene, disk / 'full', '--min-free-space', '0', statuses=(1,))
    scene.prefix = []
    copies: list[bytes] = []

    def ended() -> bool:
        bag = seen_path(recorder.process.pid, disk / 'full')  # its disk is seen by it alone
        newest = [path.read_bytes() for path in bag.glob('*.mcap')]
        copies[:] = newest or copies
        return recorder.process.poll() is not None

    scene.wait_for(ended, 'the recorder to end')
    full_ns = time.monotonic_ns()
    outcome.equal('exit status of the recorder', recorder.process.returncode, 1)
    told = recorder.log_path.read_text(encoding='utf-8').count('cannot be written')
    outcome.equal('errors of the recorder', told, 1)
    copy = scene.folder / 'full.mcap'
    copy.write_bytes(copies[0] if copies else b'')
    outcome.least('frames in the bag', Bag(copy).contents().counts['/clock'], 10)
    slower_ms = slower_after(scene, outcome, begun_ns, full_ns)
    outcome.most('p99 from clock to command, more than before', slower_ms, MOST_SLOWER_MS, 'ms')
    refused = start_recorder(
        scene, scene.folder / 'none', '--min-free-space', str(TOO_MUCH_MB), statuses=(1, 2)
    )
    scene.wait_for(lambda: refused.process.poll() is not None, 'the recorder to refuse')
    outcome.check(
        'too little space', 'must stay free' in refused.last_words(), refused.last_words(), 'said'
    )
    steps_are_single(scene, outcome)
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    drive.audit(outcome)


def start_recorder(
    scene: Scene, bag: Path, *words: str, statuses: Sequence[int] = (0,)
) -> NodeProcess:
    """Start ``td3_agent record``; ``statuses`` are those with which it may end."""
    command = [sys.executable, '-m', PROGRAM, 'record', '--out', str(bag), *words]
    return scene.start_command('recorder', command, statuses)


def written_bytes(bag: Path) -> int:
    """Return how large the files of a bag are by now, without a journal that comes and goes."""
    if not bag.is_dir():
        return 0
    return sum(path.stat().st_size for path in bag.iterdir() if path.suffix in STORAGES)

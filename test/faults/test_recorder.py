# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases in which the recorder dies or its disk is full; the drive must go on."""

import random
import time

from faults.mounts import on_small_disk
from faults.test_machine import as_seen_by, expect_same_pace
import pytest

from td3_agent.bags.bag import STORAGES, Bag
from td3_agent.bags.record import FLUSH_S
from td3_agent.bags.storage import BagError

IMAGES_BYTES = 1_000_000  # more than there is without images
RECORDED_FRAMES = 40
# The last flush is up to a second old, and writing it takes its time as well.
MOST_LOST_S = FLUSH_S + 0.5
LEAST_FRAMES = 10
EDGE_FRAMES = 2  # received by the watcher a moment before or after
MOST_STOPPED_FRAMES = 2  # starting a recorder takes a core for a second
# Fast DDS waits so long for the lock of a killed reader's shared memory.
MOST_STANDING_S = 3.5
CUTS = 20
DISK_BYTES = 4 * 1024 * 1024
TOO_MUCH_MB = 1e12


@pytest.mark.nightly
@pytest.mark.case('F17', 'recorder: kill -9, files cut anywhere')
def test_recorder_killed(rig):
    """The bag holds all but the last second, and the drive goes on."""
    drive = rig.drive()
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    for storage in ('mcap', 'sqlite3'):
        kill_recorder(rig, storage)
    expect_readable_when_cut(rig, rig.folder / 'mcap')
    rig.wait_good()
    rig.expect_single_steps()
    standing_s = rig.watcher.longest_without_ok_s(begun_ns, time.monotonic_ns())
    rig.in_time('longest stop of the car', standing_s, MOST_STANDING_S)
    drive.finish(since_ns=begun_ns)


def kill_recorder(rig, storage):
    """Record for a while, kill, and read what is there."""
    bag, watcher = rig.folder / storage, rig.watcher
    begun_ns = time.monotonic_ns()
    recorder = start_recorder(rig, bag, '--storage', storage)
    # The successor of a killed reader hears the bridge seconds late: frames count from there.
    rig.wait_for(lambda: written_bytes(bag) > IMAGES_BYTES, f'images in {storage}')
    rig.wait_good(RECORDED_FRAMES)
    if storage == 'mcap':  # the first: no reader was killed yet
        stopped = sum(outcome != 'ok' for outcome in watcher.outcomes())
        assert stopped <= MOST_STOPPED_FRAMES, 'frames stopped beside a recorder'
    killed_ns = time.time_ns()
    rig.kill(recorder)
    contents = Bag(bag).contents()
    lost_s = (killed_ns - contents.last_ns) / 1e9
    rig.in_time(f'{storage}: lost at the end', lost_s, MOST_LOST_S)
    wall_ns = time.time_ns() - time.monotonic_ns()
    times_ns = [message.received_ns - wall_ns for message in Bag(bag).messages(['/clock'])]
    first_ns, last_ns = min(times_ns, default=begun_ns), max(times_ns, default=0)
    sent = sum(first_ns <= clock.at_ns <= last_ns for clock in tuple(watcher.clocks))
    assert len(times_ns) >= max(sent - EDGE_FRAMES, LEAST_FRAMES), f'{storage}: frames in the bag'
    rig.figures |= {
        f'{storage}_lost_s': lost_s,
        f'{storage}_messages': contents.counts.total(),
        f'{storage}_frames': len(times_ns),
        f'{storage}_first_frame_s': (first_ns - begun_ns) / 1e9,
    }


def expect_readable_when_cut(rig, bag):
    """Cut a bag's file as a power cut does: the longer the rest, the more can be read."""
    (path,) = bag.glob('*.mcap')
    whole, draw, counts = path.read_bytes(), random.Random(rig.seed), [0]
    cut = rig.folder / 'cut.mcap'
    for size in sorted(draw.randrange(1, len(whole)) for _ in range(CUTS)):
        cut.write_bytes(whole[:size])
        try:
            counts.append(Bag(cut).contents().counts.total())
        except BagError:  # a file that ends before its first chunk holds nothing to read
            assert counts[-1] == 0, f'cut to {size} of {len(whole)} bytes'
    assert counts == sorted(counts)
    assert counts[-1] > 0


@pytest.mark.nightly
@pytest.mark.case('F17', 'recorder: a full disk, and one that is too small')
def test_recorder_on_full_disk(rig):
    """The recorder ends with one error, its bag can be read, and the drive goes on."""
    drive = rig.drive()
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    disk = rig.folder / 'bags'
    disk.mkdir()
    rig.prefix = on_small_disk(disk, DISK_BYTES)
    recorder = start_recorder(rig, disk / 'full', '--min-free-space', '0', statuses=(1,))
    rig.prefix = []
    copy = rig.folder / 'full.mcap'

    def ended():
        for path in as_seen_by(recorder, disk / 'full').glob('*.mcap'):  # gone with the process
            copy.write_bytes(path.read_bytes())
        return recorder.process.poll() is not None

    rig.wait_for(ended, 'the recorder to end')
    full_ns = time.monotonic_ns()
    assert recorder.process.returncode == 1
    assert recorder.log_path.read_text(encoding='utf-8').count('cannot be written') == 1
    assert Bag(copy).contents().counts['/clock'] >= LEAST_FRAMES
    expect_same_pace(rig, begun_ns, full_ns)
    too_much = ('--min-free-space', str(TOO_MUCH_MB))
    rejecting = start_recorder(rig, rig.folder / 'none', *too_much, statuses=(1, 2))
    rig.wait_for(lambda: rejecting.process.poll() is not None, 'the recorder to end')
    assert 'must stay free' in rejecting.last_output()
    rig.expect_single_steps()
    drive.finish(since_ns=begun_ns)


def start_recorder(rig, bag, *words, statuses=(0,)):
    """Start ``td3_agent record``; ``statuses`` are those with which it may end."""
    command = [*rig.python, 'td3_agent.__main__', 'record', '--out', str(bag), *words]
    return rig.start('recorder', command, statuses)


def written_bytes(bag):
    """Return how large the files of a bag are by now, without a journal that comes and goes."""
    files = bag.iterdir() if bag.is_dir() else ()
    return sum(path.stat().st_size for path in files if path.suffix in STORAGES)

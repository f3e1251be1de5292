# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases of load: long, at a rate, and with large images."""

from collections import defaultdict
from contextlib import suppress
from functools import partial
import json
import os
from pathlib import Path
from statistics import median
import sys
import time

from faults.injector import IMAGE
from geometry_msgs.msg import TwistStamped
from harness.messages import ROLE
from harness.programs import resources
from harness.rig import (
    AGENT,
    ANSWERED,
    BRIDGE,
    FREE_RUNNING,
    GATE,
    SYNCHRONIZER,
    load_per_core,
)
import psutil
import pytest
from rclpy.node import Node

from benchmarks.harness import rate_figures
from td3_agent.nodes import topics
from td3_agent.nodes.runtime import REPORTS
from td3_agent.processes import busy_processes

SOAK_FRAMES, QUICK_SOAK_FRAMES = 10_000, 600
SAMPLE_S = 1.0
SERIES = 'soak.json'  # of memory, files and threads, for a plot
SLOWEST_FRAME_S = 1.0
WARM_UP_SHARE = 0.4  # of a soak: buffers fill, and caches
MOST_GROWTH = 0.01  # of the resident memory, over the rest of the soak
MOST_STOPPED = 0.001
PERIOD_MS = 50.0
MOST_CROWDED = 0.5  # load of other programs per core; above it no rate is even
READING_S = 0.3  # of one image: six frames pass by
LARGE = {'camera_width': 1920, 'camera_height': 1080}
PATIENCE_S = 120.0


@pytest.mark.alone
@pytest.mark.case('L1', 'lockstep soak, 800x600')
def test_lockstep_soak(rig):
    """No step lost or duplicate; memory, files and threads of every process stay constant."""
    frames = rig.count or (QUICK_SOAK_FRAMES if rig.quick else SOAK_FRAMES)
    parameters = {
        BRIDGE: {'camera_width': 800, 'camera_height': 600},
        GATE: {'deadline_s': 0.9, 'silence_s': 0.9},  # the bridge itself waits 1.0 s
        AGENT: {'driver': 'td3', 'policy': 'lane'},
        SYNCHRONIZER: {'real_time_factor': 0.0, 'max_frames': frames},
    }
    drive = rig.drive(parameters=parameters)
    process = drive.nodes[SYNCHRONIZER].process
    series = {name: defaultdict(list) for name in drive.nodes}
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    end_s = time.monotonic() + 60.0 + frames * SLOWEST_FRAME_S
    while process.poll() is None and time.monotonic() < end_s:
        for name, node in drive.nodes.items():
            sample(node.process.pid, series[name])
        rig.pause(SAMPLE_S)
    span_s = (time.monotonic_ns() - begun_ns) / 1e9
    assert process.poll() == 0, 'the end'
    rig.expect_single_steps()
    last_ns = rig.watcher.commands[-1].at_ns
    audit = drive.finish(*ANSWERED, since_ns=begun_ns, before_ns=last_ns)
    assert len(audit.records) == frames
    stopped = frames - audit.counts.outcomes.get('ok', 0)
    # A process that gets no processor time for a second has lost no step.
    assert stopped <= frames * MOST_STOPPED
    rig.figures |= {'frames_stopped': stopped, 'frames': frames}
    rig.figures |= {'frames_per_s': frames / span_s, 'soak_s': span_s}
    text = json.dumps({'frames': frames, 'soak_s': span_s, 'processes': series})
    (rig.folder / SERIES).write_text(text + '\n', encoding='utf-8')
    for name, values in series.items():
        expect_flat(rig, name, values)


def sample(pid, series):
    """Add memory, files and threads of a process; nothing if it has just ended."""
    with suppress(psutil.Error):
        found = resources(pid)
        found['rss_bytes'] = round(found.pop('rss_mb') * 1e6)
        for kind, value in found.items():
            series[kind].append(value)


def expect_flat(rig, name, series):
    """Expect that after the warm-up memory has hardly grown, and nothing else has.

    The last sample may be of a process that ends.
    """
    begin = int(len(series['fds']) * WARM_UP_SHARE)
    rss, fds, threads = (series[kind][begin:-1] for kind in ('rss_bytes', 'fds', 'threads'))
    third = max(len(rss) // 3, 1)
    growth = median(rss[-third:]) / median(rss[:third]) - 1.0
    rig.figures |= {f'{name}_rss_mb': rss[-1] / 1e6, f'{name}_growth_pct': growth * 100.0}
    rig.figures |= {f'{name}_fds': fds[-1], f'{name}_threads': threads[-1]}
    assert growth <= MOST_GROWTH, f'{name}: growth of memory'
    assert (len(set(fds)), len(set(threads))) == (1, 1), f'{name}: files and threads'


@pytest.mark.alone
@pytest.mark.case('L2', 'free-running at 20 Hz, idle and with every core busy')
def test_free_running_rate(rig):
    """The rate that nav2's controllers keep; every miss is counted.

    How even it is can only be judged where no other work uses the machine; the figures tell.
    """
    duration_s, elsewhere, sent_ns = float(rig.count or 60), load_per_core(), []

    def on_twist(_, info):
        sent_ns.append(info['source_timestamp'])

    # Not with the watcher: rclpy's events executor fails on callbacks with message info.
    reader = rig.nodes(rig.domain_id).make_apart(partial(Node, 'reader'))
    reader.create_subscription(TwistStamped, topics.twist_stamped(ROLE), on_twist, REPORTS)
    parameters = FREE_RUNNING | {AGENT: FREE_RUNNING[AGENT] | {'driver': 'td3', 'policy': 'lane'}}
    rig.drive(start=(BRIDGE, GATE, AGENT), parameters=parameters)
    rig.wait_good(60)
    found = {}
    for name, busy in (('idle', 0), ('loaded', os.cpu_count() or 1)):
        with busy_processes(busy):
            sent_ns.clear()
            rig.pause(duration_s)
            found[name] = rate_figures(sent_ns.copy())
        for key in ('rate_hz', 'sigma_ms', 'p99_ms', 'missed'):
            rig.figures[f'{name}_{key}'] = found[name][key]
        ticks = found[name]['commands'] + found[name]['missed']
        assert abs(ticks - 20.0 * duration_s) <= 2, f'{name}: ticks lost'
        assert abs(found[name]['rate_hz'] - 20.0) <= 2.0, f'{name}: rate off 20 Hz'
    rig.p0()
    rig.figures['judged'] = 'crowded' if elsewhere > MOST_CROWDED else 'idle'
    if elsewhere <= MOST_CROWDED:
        idle, loaded = found['idle'], found['loaded']
        assert abs(idle['rate_hz'] - 20.0) <= 0.1, 'idle: rate off 20 Hz, alone'
        assert idle['sigma_ms'] <= 1.0
        assert idle['p999_ms'] <= PERIOD_MS + 5.0
        assert loaded['p99_ms'] <= 1.25 * PERIOD_MS


@pytest.mark.alone
@pytest.mark.case('L3', 'images of 1920x1080 and a slow second reader')
def test_slow_reader(rig):
    """The pace stays, and the slow reader misses only older images."""
    drive = rig.drive(parameters={BRIDGE: LARGE})
    rig.wait_good(40, PATIENCE_S)
    frames = rig.count or (60 if rig.quick else 200)
    rig.figures['alone_hz'] = alone_hz = pace_hz(rig, frames)
    begun_ns, program = time.monotonic_ns(), str(Path(__file__).with_name('slow_reader.py'))
    for reliability in ('reliable', 'best_effort'):
        words = (IMAGE, reliability, str(READING_S))
        reader = rig.start('slow_reader', [sys.executable, program, *words])
        rig.wait_for(lambda r=reader: counts(r)[0] >= 2, f'a {reliability} slow reader')
        beside_hz = pace_hz(rig, frames)
        read, missed = counts(reader)
        rig.figures |= {
            f'{reliability}_hz': beside_hz,
            f'{reliability}_read': read,
            f'{reliability}_missed': missed,
        }
        assert beside_hz / alone_hz >= 0.95, f'pace beside a {reliability} reader'
        assert missed >= frames // 4, f'images that passed by a {reliability} reader'
        reader.process.terminate()
        reader.process.wait(PATIENCE_S)
    assert set(rig.watcher.outcomes(begun_ns)) == {'ok'}
    rig.expect_single_steps()
    drive.finish(since_ns=begun_ns)


def counts(reader):
    """Return how many images a slow reader has read, and how many it has missed."""
    last = reader.last_output(1).split()
    return tuple(map(int, last)) if len(last) == 2 and all(map(str.isdigit, last)) else (0, 0)


def pace_hz(rig, frames):
    """Return the rate of steps over ``frames`` frames [Hz]."""
    clocks, first = rig.watcher.clocks, len(rig.watcher.clocks)
    rig.wait_for(lambda: len(clocks) > first + frames, f'{frames} frames', PATIENCE_S)
    return frames / ((clocks[first + frames].at_ns - clocks[first].at_ns) / 1e9)

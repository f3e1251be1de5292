# SPDX-License-Identifier: Apache-2.0
"""Rows of load: long, at a rate, and with large images."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, field
import json
import os
from statistics import median
import time
from typing import TYPE_CHECKING

from benchmarks import rate
from benchmarks.harness import Program
from td3_agent.faults.injector import IMAGE
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.rows_messages import ANSWERED, steps_are_single
from td3_agent.faults.scene import AGENT, BRIDGE, GATE, SYNCHRONIZER, memory_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.faults.scene import Scene

SOAK_FRAMES, QUICK_SOAK_FRAMES = 10_000, 600
SAMPLE_S = 1.0
SERIES = 'soak.json'  # of memory, files and threads, for a plot
SLOWEST_FRAME_S = 1.0
WARM_UP_SHARE = 0.4  # of a soak: buffers fill, and caches
MOST_GROWTH = 0.01  # of the resident memory, over the rest of the soak
MOST_STOPPED = 0.001
PERIOD_MS = 50.0
MOST_CROWDED = 0.5  # load from elsewhere for each core; beyond that nothing is even
SLOW_READER = 'td3_agent.faults.slow_reader'
READING_S = 0.3  # of one image: six frames pass by
LARGE = {'camera_width': 1920, 'camera_height': 1080}
PATIENCE_S = 120.0


@row('L1', 'lockstep soak, 800x600', quick=False)
def soak(scene: Scene) -> Outcome:
    """No step lost or doubled; memory, files and threads of every process stay as they are."""
    outcome = Outcome()
    frames = scene.count or (QUICK_SOAK_FRAMES if scene.quick else SOAK_FRAMES)
    drive = scene.drive(
        parameters={
            BRIDGE: {'camera_width': 800, 'camera_height': 600},
            GATE: {'deadline_s': 0.9, 'silence_s': 0.9},  # the bridge itself waits 1.0 s
            AGENT: {'driver': 'td3', 'policy': 'lane'},
            SYNCHRONIZER: {'real_time_factor': 0.0, 'max_frames': frames},
        }
    )
    node, samples = drive.nodes[SYNCHRONIZER], {}
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    # Bounded by the slowest machine that anybody would wait for.
    end_s = time.monotonic() + 60.0 + frames * SLOWEST_FRAME_S
    while node.process.poll() is None and time.monotonic() < end_s:
        for name, process in drive.nodes.items():
            if process.process.poll() is None:
                samples.setdefault(name, Samples()).take(process.process.pid)
        scene.pause(SAMPLE_S)
    span_s = (time.monotonic_ns() - begun_ns) / 1e9
    outcome.check('the end', node.process.poll() == 0, node.process.poll(), 0)
    steps_are_single(scene, outcome)
    scene.p0(outcome, silence=(begun_ns, scene.watcher.commands[-1].at_ns))
    audit = drive.audit(outcome, *ANSWERED)
    if audit is not None:
        outcome.equal('frames', len(audit.records), frames)
        stopped = frames - audit.counts.outcomes.get('ok', 0)
        # A machine that gives a process nothing for a second is no lost step.
        outcome.most('frames stopped', stopped, frames * MOST_STOPPED)
        outcome.figures['frames_stopped'] = stopped
    outcome.figures |= {'frames': frames, 'frames_per_s': frames / span_s, 'soak_s': span_s}
    for name, found in samples.items():
        found.judge(outcome, name, span_s)
    series = {name: asdict(found) for name, found in samples.items()}
    text = json.dumps({'frames': frames, 'soak_s': span_s, 'processes': series})
    (scene.folder / SERIES).write_text(text + '\n', encoding='utf-8')
    return outcome


@dataclass
class Samples:
    """Memory, files and threads of one process over time, one value per sample."""

    rss_bytes: list[int] = field(default_factory=list)
    fds: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)

    def take(self, pid: int) -> None:
        """Add what a process has now; nothing if it has just ended."""
        try:
            found = memory_of(pid)
        except (OSError, KeyError):
            return
        for name, value in found.items():
            getattr(self, name).append(value)

    def judge(self, outcome: Outcome, name: str, span_s: float) -> None:
        """Add to ``outcome`` whether they were flat after the warm-up."""
        rss = self.after_warm_up(self.rss_bytes)
        if not rss:
            outcome.check(f'{name}: samples', passed=False, found='none', wanted='some')
            return
        growth = growth_share(rss)
        # In a short soak one more block of the allocator is more than a share of an hour.
        outcome.most(f'{name}: growth of memory', growth * 100.0, MOST_GROWTH * 100.0, '%')
        for kind in ('fds', 'threads'):
            values = self.after_warm_up(getattr(self, kind))
            outcome.check(
                f'{name}: {kind}', len(set(values)) == 1, sorted(set(values)), 'always the same'
            )
        hours = span_s * (1.0 - WARM_UP_SHARE) / 3600.0
        outcome.figures |= {
            f'{name}_rss_mb': rss[-1] / 1e6,
            f'{name}_growth_pct': growth * 100.0,
            f'{name}_growth_pct_per_h': growth * 100.0 / hours,
            f'{name}_fds': self.fds[-1],
            f'{name}_threads': self.threads[-1],
        }

    @staticmethod
    def after_warm_up(values: Sequence[int]) -> Sequence[int]:
        """Return the values after the warm-up; the last one may be of a process that ends."""
        return values[int(len(values) * WARM_UP_SHARE) : -1] or values[:1]


def growth_share(values: Sequence[int]) -> float:
    """Return by what share values have grown from their first third to their last."""
    third = max(len(values) // 3, 1)
    return median(values[-third:]) / median(values[:third]) - 1.0


@row('L2', 'free-running at 20 Hz, idle and with every core busy', quick=False)
def free_running(scene: Scene) -> Outcome:
    """The rate that nav2's controllers keep; every miss is counted.

    How even it is can only be judged where nobody else uses the machine; the figures tell.
    """
    outcome = Outcome()
    duration_s, cores = float(scene.count or 60), os.cpu_count() or 1
    elsewhere = os.getloadavg()[0] / cores
    report = rate.measure(argparse.Namespace(duration=duration_s, load=cores, policy='lane'))
    idle, loaded = (report['runs'][name][rate.SENT] for name in (rate.IDLE, rate.LOADED))
    for name, found in ((rate.IDLE, idle), (rate.LOADED, loaded)):
        ticks = found['commands'] + found['missed']
        outcome.most(f'{name}: ticks lost', abs(ticks - 20.0 * duration_s), 2)
        outcome.most(f'{name}: rate off 20 Hz', abs(found['rate_hz'] - 20.0), 2.0, 'Hz')
        outcome.figures |= {
            f'{name}_{key}': found[key] for key in ('rate_hz', 'sigma_ms', 'p99_ms', 'missed')
        }
    outcome.figures |= {
        'load_from_elsewhere_per_core': elsewhere,
        'judged': 'crowded' if elsewhere > MOST_CROWDED else 'idle',
        'idle_sigma_of_bare_timer_ms': report['runs'][rate.IDLE][rate.BARE]['sigma_ms'],
    }
    if elsewhere <= MOST_CROWDED:
        outcome.most('idle: rate off 20 Hz, alone', abs(idle['rate_hz'] - 20.0), 0.1, 'Hz')
        outcome.most('idle: sigma', idle['sigma_ms'], 1.0, 'ms')
        outcome.most('idle: p99.9 of periods', idle['p999_ms'], PERIOD_MS + 5.0, 'ms')
        outcome.most('loaded: p99 of periods', loaded['p99_ms'], 1.25 * PERIOD_MS, 'ms')
    return outcome


@row('L3', 'images of 1920x1080 and a slow second reader', quick=False)
def slow_reader(scene: Scene) -> Outcome:
    """The pace stays, and what the slow one misses are older images."""
    outcome = Outcome()
    scene.drive(parameters={BRIDGE: LARGE})
    scene.wait_good(40, PATIENCE_S)
    frames = scene.count or (60 if scene.quick else 200)
    alone_hz = pace_hz(scene, frames)
    outcome.figures['alone_hz'] = alone_hz
    begun_ns = time.monotonic_ns()
    for reliability in ('reliable', 'best_effort'):
        words = (IMAGE, reliability, str(READING_S))
        with Program(SLOW_READER, *words, environment=scene.environment) as reader:
            scene.wait_for(
                lambda reader=reader: reader.ask('', PATIENCE_S)['read'] >= 2,
                f'a {reliability} slow reader',
            )
            beside_hz = pace_hz(scene, frames)
            found = reader.ask('', PATIENCE_S)
        label = f'{reliability} reader'
        outcome.least(f'pace beside a {label}', beside_hz / alone_hz, 0.95)
        outcome.least(f'images that passed by a {label}', found['missed'], frames // 4)
        outcome.figures |= {
            f'{reliability}_hz': beside_hz,
            f'{reliability}_read': found['read'],
            f'{reliability}_missed': found['missed'],
        }
    outcome.equal('outcomes', set(scene.watcher.outcomes(begun_ns)), {'ok'})
    steps_are_single(scene, outcome)
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    return outcome


def pace_hz(scene: Scene, frames: int) -> float:
    """Return how many frames a second are stepped over so many frames [Hz]."""
    clocks, first = scene.watcher.clocks, len(scene.watcher.clocks)
    scene.wait_for(lambda: len(clocks) > first + frames, f'{frames} frames', PATIENCE_S)
    return frames / ((clocks[first + frames].at_ns - clocks[first].at_ns) / 1e9)

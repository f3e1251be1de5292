#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What it costs to time the stages of each frame, and to write the ledger of it.

Each part is measured with the instants of the stages and without them; the difference is what
timing costs. Parts run in the processes of agent, gate and synchronizer; their sum is what a
frame would pay if nothing ran side by side. Prints a table; with ``--json`` the same as JSON.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import platform
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.serialization import deserialize_message, serialize_message

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.ledger import UNWRITTEN_FRAMES, FrameLog, LedgerWriter
from td3_agent.driving.stages import StageWindow, agent_spans_ns
from td3_agent.nodes.conversions import facts_from_report, report_message, time_from_ns
from td3_agent.nodes.runtime import steady_ns

if TYPE_CHECKING:
    from collections.abc import Callable

PERIOD_US = 50_000.0
DIAGNOSTICS_PERIOD_FRAMES = 20  # once a second
ROUNDS = 7
FLUSHES = (1, 20, 100)  # records between two flushes of the ledger
AGENT = ('image_received', 'odometry_received', 'observed', 'decided', 'twist_published')
GATE = ('twist_received', 'gate_published')
SYNCHRONIZER = ('step_sent', 'announced', 'frame_closed')
DECISION = {
    'observation_sha256': '0c6530115c71964b4b421dbc40dcaddca892d312a1b953f46ecf28ad1946cf6c',
    'action': [0.5292143225669861, 0.048219650983810425],
    'action_sha256': 'd1f9034da58743c8166273e473dfd37e81e183697694b9a40992da5127d7aed2',
    'twist': [6.369177653491497, 0.048219650983810425],
}
MOTION = {
    'x_m': 9.001050191033965,
    'y_m': -1.7499686696927483,
    'z_m': 0.0,
    'yaw_rad': 2.2015048550816377e-05,
    'speed_mps': 0.039762174768491566,
    'yaw_rate_radps': 0.0011585375330154554,
}


def instants(names: tuple[str, ...], *, timed: bool) -> dict[str, int]:
    """Return an instant for each name, all on the steady clock; none when nothing is timed."""
    return {f'{name}_ns': steady_ns() for name in names} if timed else {}


def median_us(work: Callable[[int], None], frames: int) -> float:
    """Return the median over rounds of the time that ``work`` takes for one frame [us]."""
    spans = []
    for _ in range(ROUNDS):
        start_ns = time.process_time_ns()
        work(frames)
        spans.append((time.process_time_ns() - start_ns) / 1e3 / frames)
    return statistics.median(spans)


def sent_and_read(name: str, facts: dict[str, Any]) -> None:
    """Make a report, put it on the wire, take it off, and read it."""
    wire = serialize_message(report_message(time_from_ns(1), name, facts))
    facts_from_report(deserialize_message(wire, DiagnosticArray))


def agent_us(frames: int, *, timed: bool) -> float:
    """Return the time of the agent's report [us], its stages kept for diagnostics."""
    window = StageWindow()

    def work(count: int) -> None:
        for _ in range(count):
            facts = DECISION | instants(AGENT, timed=timed)
            sent_and_read('td3_agent', facts)
            if timed:
                window.add(agent_spans_ns(facts))

    return median_us(work, frames)


def gate_us(frames: int, *, timed: bool) -> float:
    """Return the time of the gate's report [us]."""

    def work(count: int) -> None:
        for _ in range(count):
            sent_and_read('gate', {'outcome': 'ok'} | instants(GATE, timed=timed))

    return median_us(work, frames)


def ledger_us(frames: int, folder: Path, *, timed: bool, flush_every: int = 1) -> float:
    """Return the time of a frame in the ledger [us], from its facts to the flushed line."""
    control, window = VehicleControl(throttle=0.4), StageWindow()

    def work(count: int) -> None:
        log = FrameLog('ego_vehicle')
        with LedgerWriter(folder / 'ledger.jsonl', flush_every) as writer:
            for i in range(1, count + 1):
                stamp_ns = i * 50_000_000
                times = instants((*SYNCHRONIZER[:2], *AGENT, *GATE), timed=timed)
                log.note(stamp_ns, outcome='ok', **DECISION, **MOTION, **times)
                log.note_command(stamp_ns, control, heard_ns=stamp_ns)
                log.note_status(stamp_ns, control)
                log.note(stamp_ns, **instants(SYNCHRONIZER[2:], timed=timed))
                for record in log.close_frame(i, stamp_ns):
                    window.add(record.get('stages_ns'))
                    writer.write(record)

    return median_us(work, frames)


def diagnostics_us(frames: int) -> float:
    """Return the time of the percentiles of a full window [us], for each frame of a second."""
    window = StageWindow()
    facts = instants(AGENT, timed=True)
    for _ in range(1000):
        window.add(agent_spans_ns(facts))

    def work(count: int) -> None:
        for _ in range(max(count // DIAGNOSTICS_PERIOD_FRAMES, 1)):
            window.figures()

    return median_us(work, frames)


def measure(frames: int) -> dict[str, Any]:
    """Return all figures: each part with timing and without [us of processor per frame]."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "agent's report": (agent_us(frames, timed=True), agent_us(frames, timed=False)),
            "gate's report": (gate_us(frames, timed=True), gate_us(frames, timed=False)),
            'ledger': (
                ledger_us(frames, folder, timed=True),
                ledger_us(frames, folder, timed=False),
            ),
            'diagnostics': (2.0 * diagnostics_us(frames), 0.0),  # of agent and synchronizer
        }
        flushes = {
            str(UNWRITTEN_FRAMES + n): ledger_us(frames, folder, timed=True, flush_every=n)
            for n in FLUSHES
        }
    timing_us = sum(timed - untimed for timed, untimed in parts.values())
    return {
        'parts_us': {part: {'timed': a, 'untimed': b} for part, (a, b) in parts.items()},
        'timing_us': timing_us,
        'timing_share_of_period': timing_us / PERIOD_US,
        'ledger_us_by_flush_frames': flushes,
    }


def table(figures: dict[str, Any]) -> str:
    """Return the figures as lines for a terminal."""
    lines = [f'{"[us per frame]":<16}{"timed":>9}{"untimed":>9}{"timing":>9}']
    for part, row in figures['parts_us'].items():
        timing_us = row['timed'] - row['untimed']
        lines.append(f'{part:<16}{row["timed"]:>9.1f}{row["untimed"]:>9.1f}{timing_us:>9.1f}')
    share = figures['timing_share_of_period']
    lines.append(f'{"sum":<34}{figures["timing_us"]:>9.1f}')
    lines.append(f'timing takes {share:.2%} of the {PERIOD_US / 1e3:g} ms of a frame')
    for frames, us in figures['ledger_us_by_flush_frames'].items():
        lines.append(f'ledger_flush_frames {frames}: {us:.1f} us for the ledger of a frame')
    return '\n'.join(lines)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('--frames', type=int, default=2000, help='frames per round')
    arguments.add_argument('--json', action='store_true', help='print JSON')
    args = arguments.parse_args()
    load = os.getloadavg()[0]
    figures = measure(args.frames)
    if args.json:
        machine = {'python': platform.python_version(), 'load_before': load}
        print(json.dumps({'machine': machine, **figures}))
        return
    print(table(figures))


if __name__ == '__main__':
    main()

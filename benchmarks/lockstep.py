# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Lockstep as fast as it goes: frames/s over ROS beside the same drive without it.

The shipped policy drives the embedded simulator, over ROS with each of rclpy's executors, composed
(agent, gate and synchronizer in one process), and on the direct path, in turns; a ratio is the
median over the turns.
Says where the time of a frame goes: by stage, and by processor time of each process.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
import statistics
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks.harness import (
    BenchError,
    Limit,
    check_alive,
    check_least,
    in_turns,
    node_group,
    processor_s,
)
from td3_agent.driving.agent import Agent
from td3_agent.driving.command import TwistConvention, VehicleControl
from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import LogCounts
from td3_agent.driving.loop import ledger_records, respond
from td3_agent.driving.stages import percentiles_ms
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.evaluation.ros_episodes import FourNodes, LedgerTail
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.nodes.runtime import EXECUTOR_VARIABLE, executors
from td3_agent.processes import ProcessGroup, free_domain_id, ros_environment
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.embedded import frame_of
from td3_agent.sim.simulator import Simulator, SimulatorConfig

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Mapping, Sequence

    from td3_agent.driving.loop import Step

LEAST_FRAMES_PER_S, LEAST_COMPOSED_PER_S = 300.0, 400.0
COMPOSED = 'composed'
WARM_UP_FRAMES = 50
STEP_S = 0.05
CAMERA_PX = (160, 120)  # width and height
PATIENCE_S = 120.0
POLL_S = 0.02


@dataclass(frozen=True)
class Lap:
    """One drive over ROS.

    Attributes:
        frames_per_s: after the first frames.
        stages_ms: p50 and p99 of every stage, over the frames of all vehicles.
        cpu_ms: processor time per frame, by node program.
        violations: of the lockstep.
        not_ok: frames that had another answer than the agent's.
    """

    frames_per_s: float
    stages_ms: dict[str, Any]
    cpu_ms: dict[str, float]
    violations: int
    not_ok: int = 0


def drive_over_ros(  # noqa: PLR0913  what one drive is
    executor: str,
    frames: int,
    width: int,
    height: int,
    vehicles: int = 1,
    *,
    composed: bool = False,
) -> Lap:
    """Drive with a process for each node, or composed, as fast as they can.

    Raises:
        ValueError: a process ended early, or the frames did not come in time.
    """
    environment = {**ros_environment(free_domain_id()), EXECUTOR_VARIABLE: executor}
    camera = {'camera_width': width, 'camera_height': height}
    with tempfile.TemporaryDirectory() as folder, node_group(environment) as group:
        path = Path(folder) / 'ledger.jsonl'
        nodes = FourNodes(
            role_names=roles(vehicles),
            bridge={'map': 'winding', 'spawn_index': 0, **camera},
            synchronizer={'real_time_factor': 0.0, 'ledger_path': str(path)},
            composed=composed,
        )
        tail = LedgerTail(path)
        nodes.start(group)
        wait_for(tail, WARM_UP_FRAMES * vehicles, group)
        before, first = cpu_s(group), len(tail.records)
        wait_for(tail, first + frames * vehicles, group)
        after, last = cpu_s(group), len(tail.records)
    return lap(tail.records[first:last], before, after)


def roles(vehicles: int) -> tuple[str, ...]:
    """Return the role names of so many vehicles."""
    return ('ego_vehicle', *(f'car_{number}' for number in range(2, vehicles + 1)))


def lap(
    records: Sequence[Mapping[str, Any]], before: Mapping[str, float], after: Mapping[str, float]
) -> Lap:
    """Return the figures of a stretch of a ledger.

    Args:
        records: of the stretch, one for each frame and vehicle.
        before: processor time of each node program at its begin [s].
        after: at its end.
    """
    counts = LogCounts()
    for record in records:
        counts.add(dict(record))
    closed_ns = sorted({r['frame_closed_ns'] for r in records if 'frame_closed_ns' in r})
    frames = len(closed_ns)
    return Lap(
        frames_per_s=(frames - 1) / ((closed_ns[-1] - closed_ns[0]) / 1e9),
        stages_ms=percentiles_ms([r['stages_ns'] for r in records if 'stages_ns' in r]),
        cpu_ms={node: (after[node] - before[node]) / frames * 1e3 for node in before},
        violations=counts.violations,
        not_ok=len(records) - counts.outcomes.get(Outcome.OK.value, 0),
    )


def wait_for(tail: LedgerTail, records: int, group: ProcessGroup) -> None:
    """Read the ledger until it has so many records."""
    deadline_s = time.monotonic() + PATIENCE_S
    tail.read()
    while len(tail.records) < records:
        check_alive(group)
        if time.monotonic() > deadline_s:
            raise BenchError(f'{len(tail.records)} of {records} records in {PATIENCE_S:g} s')
        time.sleep(POLL_S)
        tail.read()


def cpu_s(group: ProcessGroup) -> dict[str, float]:
    """Return the processor time that the processes of each node program have used so far [s]."""
    used: dict[str, float] = {}
    for node in group.nodes:
        program = node.name.partition('.')[0]  # what follows is the vehicle
        used[program] = used.get(program, 0.0) + processor_s(node.process.pid)
    return used


def drive_directly(frames: int, width: int, height: int, vehicles: int = 1) -> float:
    """Return the frames/s of the same drive in this process, ledger included."""
    camera = CameraConfig(width=width, height=height)
    steps = steps_of(
        SimulatorConfig(map='winding', spawn_index=0, camera=camera, vehicles=vehicles)
    )
    for _ in islice(steps, WARM_UP_FRAMES):
        pass
    start_s = time.perf_counter()
    for of_one_car in zip(*islice(steps, frames), strict=True):
        for _ in ledger_records(of_one_car):
            pass
    return frames / (time.perf_counter() - start_s)


def steps_of(config: SimulatorConfig) -> Iterator[list[Step]]:
    """Yield the steps of all cars of a world, frame by frame, each with a driver of its own."""
    world = Simulator(config)
    drivers = [make_driver(DriverParams()) for _ in world.cars]
    halves = [(Agent(d.driver, d.spec), TwistConverter(TwistConvention.VELOCITY)) for d in drivers]
    controls = [VehicleControl()] * len(halves)
    while True:
        world.tick(*controls)
        frames = [frame_of(world, car) for car in world.cars]
        steps = [respond(*half, frame) for half, frame in zip(halves, frames, strict=True)]
        controls = [step.control for step in steps]
        yield steps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--turns', type=int, default=5, help='drives of each kind')
    parser.add_argument('--frames', type=int, default=1000, help='frames of a drive')


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Return all figures; ValueError if a drive failed."""
    check_least(args, turns=1, frames=2)
    drive, names = (args.frames, *CAMERA_PX), list(executors())
    cases = {name: partial(drive_over_ros, name, *drive) for name in names}
    cases[COMPOSED] = partial(drive_over_ros, names[0], *drive, composed=True)
    direct, *laps = in_turns(args.turns, partial(drive_directly, *drive), *cases.values())
    return {
        'camera': CAMERA_PX,
        'frames': args.frames,
        'direct_frames_per_s': statistics.median(direct),
        'cases': {name: case(driven, direct) for name, driven in zip(cases, laps, strict=True)},
    }


def case(laps: Sequence[Lap], direct: Sequence[float]) -> dict[str, Any]:
    """Return the figures of one case: medians over its drives."""
    rate = statistics.median(lap.frames_per_s for lap in laps)
    pairs = zip(laps, direct, strict=True)
    middle = sorted(laps, key=lambda lap: lap.frames_per_s)[len(laps) // 2]
    return {
        'frames_per_s': rate,
        'times_real_time': rate * STEP_S,
        'ratio': statistics.median(lap.frames_per_s / beside for lap, beside in pairs),
        'stages_ms': middle.stages_ms,
        'cpu_ms': middle.cpu_ms,
        'violations': sum(lap.violations for lap in laps),
        'not_ok': sum(lap.not_ok for lap in laps),
    }


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return what the figures must be."""
    cases = report['cases']
    best = max(found['frames_per_s'] for name, found in cases.items() if name != COMPOSED)
    composed = cases[COMPOSED]['frames_per_s']
    violations = sum(found['violations'] for found in cases.values())
    return [
        Limit('frames/s of the best executor', best, least=LEAST_FRAMES_PER_S),
        Limit('frames/s composed', composed, least=LEAST_COMPOSED_PER_S),
        Limit('violations of the lockstep', violations, most=0),
    ]

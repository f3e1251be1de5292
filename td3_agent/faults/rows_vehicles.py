# SPDX-License-Identifier: Apache-2.0
"""Rows with several vehicles in one world."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from td3_agent.driving.gate import Outcome as Answered
from td3_agent.driving.ledger import read_ledger
from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.faults.injector import ROLE
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.rows_processes import expect_stop
from td3_agent.faults.scene import AGENT, BRIDGE, CONTIGUOUS, GATE, SYNCHRONIZER

if TYPE_CHECKING:
    from pathlib import Path

    from td3_agent.faults.scene import Scene

ROLES = (ROLE, 'car_2', 'car_3')
SETTLING_FRAMES = 10  # each of the first ones waits for the agent until it is known to be gone
PACE_FRAMES = 40
STEP_S = 0.05
LONGEST_FRAME_S = 1.25 * STEP_S  # on average, while a vehicle has no agent
MOST_HELD_FRAMES = 5
GOING_ON = {Answered.OK.value, Answered.SILENCE.value, Answered.IN_ADVANCE.value}
STANDSTILL_MPS = 0.1
LONGEST_REJOIN_S = 5.0


@row('L4', 'three vehicles, one synchronizer: kill -9 of one agent')
def three_vehicles(scene: Scene) -> Outcome:
    """Every frame waits for all; the car without agent is stopped, the others go on."""
    outcome = Outcome()
    watcher, ledger_path = scene.watcher, scene.folder / 'ledger.jsonl'
    start_all(scene, ledger_path)
    scene.wait_good(frames=60)
    begun_ns = time.monotonic_ns()
    victim = next(node for node in scene.group.nodes if node.name == f'{AGENT}.{ROLE}')
    killed_ns = scene.kill(victim)
    expect_stop(scene, outcome, killed_ns, GATE, 'stopped_no_command', ROLE)
    named_s = scene.wait_named(killed_ns, 'synchronizer', 'the gate brakes', ROLE)
    outcome.check('others go on', named_s is not None, named_s, 'the synchronizer says so')
    begin = len(watcher.clocks) + SETTLING_FRAMES
    scene.wait_for(lambda: len(watcher.clocks) >= begin, 'frames without the agent')
    first, first_ns = len(watcher.clocks), time.monotonic_ns()
    scene.wait_for(lambda: len(watcher.clocks) >= first + PACE_FRAMES, 'frames of the others')
    pace_s = (time.monotonic_ns() - first_ns) / 1e9 / PACE_FRAMES
    outcome.most('time per frame without the agent', pace_s, LONGEST_FRAME_S, 's')
    restarted_ns = time.monotonic_ns()
    start_one(scene, AGENT, ROLE)
    scene.wait_for(lambda: 'ok' in watcher.outcomes(restarted_ns), 'the first good frame')
    rejoined_s = (time.monotonic_ns() - restarted_ns) / 1e9
    outcome.most('good frame after the restart', rejoined_s, LONGEST_REJOIN_S, 's')
    outcome.figures |= {'s_per_frame_without': pace_s, 'rejoin_s': rejoined_s}
    scene.wait_good(frames=10)
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    look_at_ledger(outcome, ledger_path)
    return outcome


def start_all(scene: Scene, ledger_path: Path) -> None:
    """Start bridge and synchronizer, and a gate and an agent for each role."""
    bridge = {'role_names': list(ROLES), 'start_paused': True, 'spawn_index': 0, 'map': 'winding'}
    scene.start(BRIDGE, bridge)
    for role in ROLES:
        start_one(scene, GATE, role)
        start_one(scene, AGENT, role)
    synchronizer = {'pause_timeout_s': 1.1, 'ledger_path': str(ledger_path)}
    scene.start(SYNCHRONIZER, {'role_names': list(ROLES), **synchronizer})


def start_one(scene: Scene, program: str, role: str) -> None:
    """Start a gate or an agent in a namespace of its role."""
    driver = {'driver': 'pure_pursuit'} if program == AGENT else {}
    command = scene.command_of(program, {'role_name': role, **driver})
    scene.start_command(f'{program}.{role}', [*command, '-r', f'__ns:=/{role}'])


def look_at_ledger(outcome: Outcome, path: Path) -> None:
    """Expect ledgers without gaps, the others' frames all answered, and a car that stood."""
    audit = audit_ledger(path)
    for name in CONTIGUOUS:
        outcome.none(f'P0 ledger {name}', audit.findings[name].faults)
    records = list(read_ledger(path))
    for role in ROLES[1:]:
        found = {r['outcome'] for r in records if r['role_name'] == role}
        # The others' gates hold their cars while a frame waits for the dead agent's.
        outcome.none(f'outcomes of {role}', found - GOING_ON)
        held = sum(r['role_name'] == role and r['outcome'] != Answered.OK.value for r in records)
        outcome.most(f'frames after which {role} was held', held, MOST_HELD_FRAMES)
    mine = [r for r in records if r['role_name'] == ROLE]
    stopped = [r for r in mine if r['outcome'] != 'ok']
    found = {r['outcome'] for r in stopped}
    outcome.equal('outcomes without the agent', found, {Answered.NO_COMMAND.value})
    slowest = min((r['speed_mps'] for r in stopped), default=None)
    outcome.most('speed without the agent', slowest, STANDSTILL_MPS, 'm/s')
    outcome.figures['frames_without'] = len(stopped)

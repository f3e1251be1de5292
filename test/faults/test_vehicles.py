# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The case with several vehicles in one world."""

import time

from harness.rig import AGENT, BRIDGE, GATE, SYNCHRONIZER, audited
import pytest

from td3_agent.driving.gate import Outcome

ROLES = ('ego_vehicle', 'car_2', 'car_3')
SETTLING_FRAMES = 10  # each of the first ones waits for the agent until it is known to be gone
PACE_FRAMES = 40
LONGEST_FRAME_S = 1.25 * 0.05  # on average, while a vehicle has no agent
MOST_HELD_FRAMES = 5
# The others' gates hold their cars while a frame waits for the dead agent's.
GOING_ON = {Outcome.OK.value, Outcome.SILENCE.value, Outcome.IN_ADVANCE.value}
STANDSTILL_MPS = 0.1
LONGEST_REJOIN_S = 5.0


@pytest.mark.nightly
@pytest.mark.case('L4', 'three vehicles, one synchronizer: kill -9 of one agent')
def test_one_of_three_agents_killed(rig):
    """Every frame waits for all; the car without agent is stopped, the others go on."""
    watcher, ledger_path, role = rig.watcher, rig.folder / 'ledger.jsonl', ROLES[0]
    world = {'start_paused': True, 'spawn_index': 0, 'map': 'winding'}
    rig.start_node(BRIDGE, {'role_names': list(ROLES), **world})
    gates_and_agents = {each: [start(rig, GATE, each), start(rig, AGENT, each)] for each in ROLES}
    settings = {'pause_timeout_s': 1.1, 'ledger_path': str(ledger_path)}
    settings |= {'role_names': list(ROLES)}
    rig.start_node(SYNCHRONIZER, settings)
    rig.wait_good(60)
    begun_ns = time.monotonic_ns()
    killed_ns = rig.kill(gates_and_agents[role][1])
    rig.expect_stop(killed_ns)
    rig.expect_named(killed_ns, f'{role}/gate', 'stopped_no_command')
    assert rig.wait_named(killed_ns, SYNCHRONIZER, 'the gate brakes', role) is not None
    begin = len(watcher.clocks) + SETTLING_FRAMES
    rig.wait_for(lambda: len(watcher.clocks) >= begin, 'frames without the agent')
    first, first_ns = len(watcher.clocks), time.monotonic_ns()
    rig.wait_for(lambda: len(watcher.clocks) >= first + PACE_FRAMES, 'frames of the others')
    pace_s = (time.monotonic_ns() - first_ns) / 1e9 / PACE_FRAMES
    rig.in_time('time per frame without the agent', pace_s, LONGEST_FRAME_S)
    restarted_ns = time.monotonic_ns()
    start(rig, AGENT, role)
    rig.wait_for(lambda: 'ok' in watcher.outcomes(restarted_ns), 'the first good frame')
    rejoined_s = (time.monotonic_ns() - restarted_ns) / 1e9
    rig.in_time('good frame after the restart', rejoined_s, LONGEST_REJOIN_S)
    rig.figures |= {'s_per_frame_without': pace_s, 'rejoin_s': rejoined_s}
    rig.wait_good(10)
    rig.p0(begun_ns)
    rig.figures['frames_without'] = expect_outcomes(audited(ledger_path).records)


def start(rig, program, role):
    """Start a gate or an agent in a namespace of its role."""
    driver = {'driver': 'pure_pursuit'} if program == AGENT else {}
    return rig.start_node(program, {'role_name': role, **driver}, role)


def expect_outcomes(records):
    """Expect responses to all frames of the others, and a car that stood; return its stops."""
    for role in ROLES[1:]:
        outcomes = [r['outcome'] for r in records if r['role_name'] == role]
        assert set(outcomes) <= GOING_ON
        assert len(outcomes) - outcomes.count('ok') <= MOST_HELD_FRAMES, f'{role} was held'
    stopped = [r for r in records if r['role_name'] == ROLES[0] and r['outcome'] != 'ok']
    assert {record['outcome'] for record in stopped} == {Outcome.NO_COMMAND.value}
    assert min(record['speed_mps'] for record in stopped) <= STANDSTILL_MPS
    return len(stopped)

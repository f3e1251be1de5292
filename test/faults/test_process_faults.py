# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases in which processes die, are suspended, or are asked to end."""

import hashlib
import signal
import time

from harness.rig import (
    AGENT,
    BRIDGE,
    CONTIGUOUS,
    FREE_RUNNING,
    GATE,
    LONGEST_STOP_S,
    NODES,
    REPORT_S,
    SYNCHRONIZER,
    WHOLE,
    audited,
    load_per_core,
)
from harness.watcher import is_stop
import pytest

from td3_agent.driving.ledger import IDLE
from td3_agent.driving.stepping import Cause
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.policy.policy_file import policy_file

LONGEST_REJOIN_S = 5.0
LONGEST_END_S = 2.0
STOPPED_S = 3.0
PAUSED_S = 1.0
PATIENCE_S = 20.0


@pytest.mark.case('F1', 'kill -9 of the agent while it drives')
def test_agent_killed(rig):
    """The gate stops the car, stepping pauses, and a new agent joins at the next frame."""
    weights = policy_file('lane')
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    drive = rig.drive(parameters={AGENT: {'driver': 'td3', 'policy': 'lane'}})
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    killed_ns = drive.kill(AGENT)
    rig.expect_stop(killed_ns)
    rig.expect_named(killed_ns, GATE, 'stopped_no_command')
    expect_pause(rig, killed_ns, f'agent of {drive.role}')
    expect_rejoin(rig, drive, AGENT)
    assert hashlib.sha256(weights.read_bytes()).hexdigest() == before
    drive.finish(*WHOLE, since_ns=begun_ns)


@pytest.mark.case('F2', 'kill -9 of the synchronizer')
def test_synchronizer_killed(rig):
    """The bridge stays paused, the gate keeps the car stopped; a new one steps each frame once."""
    drive = rig.drive()
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    killed_ns = drive.kill(SYNCHRONIZER)
    rig.expect_stop(killed_ns)
    rig.expect_named(killed_ns, GATE, 'no frame for')
    watcher = rig.watcher
    frame = watcher.frames()[-1]
    rig.wait_for(
        lambda: watcher.outcomes(killed_ns).count('stopped_silence') >= 2,
        'the stop to be repeated',
        REPORT_S,
    )
    assert watcher.frames()[-1] == frame, 'nothing steps the bridge'
    restarted_ns = time.monotonic_ns()
    expect_rejoin(rig, drive, SYNCHRONIZER)
    expect_a_step_per_frame(rig, restarted_ns, frame)
    drive.finish(*CONTIGUOUS, 'outcomes', since_ns=begun_ns)
    audited(drive.ledger_paths[0])


@pytest.mark.alone
@pytest.mark.case('F3', 'kill -9 of the bridge; a new one counts from 0')
def test_bridge_killed(rig):
    """All nodes start over with it and use no earlier data."""
    drive = rig.drive()
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    killed_ns = drive.kill(BRIDGE)
    rig.expect_stop(killed_ns)
    rig.expect_named(killed_ns, SYNCHRONIZER, 'does not answer')
    restarted_ns, clocks = time.monotonic_ns(), len(rig.watcher.clocks)
    expect_rejoin(rig, drive, BRIDGE, limit_s=None)
    expect_resets(rig, 1)
    new = {stamp_ns(clock.what.clock) for clock in tuple(rig.watcher.clocks)[clocks:]}
    driven = driven_stamps(rig, restarted_ns)
    assert [stamp for stamp in driven if stamp not in new] == [], 'from before the restart'
    expect_events(drive.finish(*WHOLE, since_ns=begun_ns), 'bridge_restarted')


@pytest.mark.alone
@pytest.mark.case('F4', 'SIGSTOP for 3 s, then SIGCONT, each process')
def test_process_suspended(rig):
    """As if it were killed, and without a burst of old commands when it wakes."""
    drive = rig.drive()
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    for name in NODES:
        watcher = rig.watcher
        stopped_ns = rig.signal(drive.nodes[name], signal.SIGSTOP)
        if name == GATE:  # no other node commands the car: it must not be stepped
            frame = watcher.frames()[-1]
            rig.pause(STOPPED_S)
            assert watcher.frames()[-1] - frame <= 2, 'frames without a gate'
            rig.expect_named(stopped_ns, SYNCHRONIZER, what=f'{name}_named')
        else:
            rig.expect_stop(stopped_ns, f'{name}_stop')
            rig.expect_named(stopped_ns, *SUSPENDED[name], what=f'{name}_named')
            rig.pause(max(STOPPED_S - (time.monotonic_ns() - stopped_ns) / 1e9, 0.0))
        woken_ns = rig.signal(drive.nodes[name], signal.SIGCONT)
        rig.wait_good(5, PATIENCE_S)
        rig.figures[f'{name}_recovered_s'] = (time.monotonic_ns() - woken_ns) / 1e9
        stamps = [stamp_ns(each.what.header.stamp) for each in watcher.responses(woken_ns)]
        assert stamps == sorted(set(stamps)), f'{name}: one command per frame, in order'
    drive.finish(*CONTIGUOUS, 'outcomes', since_ns=begun_ns, longest_silence_s=STOPPED_S)


SUSPENDED = {  # by process: which node says what
    AGENT: (GATE, 'stopped_no_command'),
    SYNCHRONIZER: (GATE, 'no frame for'),
    BRIDGE: (SYNCHRONIZER, 'does not answer'),
}


@pytest.mark.alone
@pytest.mark.case('F4', 'SIGSTOP for 3 s, then SIGCONT, a free-running gate')
def test_free_running_gate_suspended(rig):
    """Queued commands are not executed afterwards."""
    drive = rig.drive(start=(BRIDGE, GATE, AGENT), parameters=FREE_RUNNING)
    rig.wait_good()
    rig.signal(drive.nodes[GATE], signal.SIGSTOP)
    rig.pause(STOPPED_S)
    clock_ns = stamp_ns(rig.watcher.clocks[-1].what.clock)
    woken_ns = rig.signal(drive.nodes[GATE], signal.SIGCONT)
    rig.wait_good(5, PATIENCE_S)
    oldest_s = (clock_ns - min(driven_stamps(rig, woken_ns))) / 1e9
    rig.in_time('age of the oldest command after waking', oldest_s, LONGEST_STOP_S)
    rig.figures['oldest_command_s'] = oldest_s
    rig.p0()


@pytest.mark.case('F5', 'SIGTERM and SIGINT to every process')
def test_asked_to_end(rig):
    """The last command is a stop, and all processes end soon."""
    for number in (signal.SIGTERM, signal.SIGINT):
        drive = rig.drive()
        rig.wait_good()
        asked_ns = {n: rig.signal(node, number, 0) for n, node in drive.nodes.items()}
        ended_s = []
        for name, node in drive.nodes.items():
            node.process.wait(PATIENCE_S)
            ended_s.append((time.monotonic_ns() - asked_ns[name]) / 1e9)
        what = f'{signal.Signals(number).name}_slowest_end'
        rig.in_time(what, max(ended_s), LONGEST_END_S)
        rig.figures[f'{what}_s'] = max(ended_s)
        rig.pause(0.1)
        assert is_stop(rig.watcher.commands[-1].what), 'the last command'
        audited(drive.ledger_paths[-1])
    rig.p0()


def expect_pause(rig, since_ns, who):
    """Expect that stepping pauses because a node is silent."""
    assert rig.wait_named(since_ns, SYNCHRONIZER, 'no step while', who) is not None, who
    watcher = rig.watcher
    rig.pause(PAUSED_S / 2.0)  # the step that was under way ends with a stop
    before = watcher.steps_sent(), watcher.frames()[-1]
    rig.pause(PAUSED_S)
    assert (watcher.steps_sent(), watcher.frames()[-1]) == before, 'stepping pauses'


def expect_rejoin(rig, drive, name, limit_s=LONGEST_REJOIN_S):
    """Start a process again, and expect responses to frames soon."""
    restarted_ns = time.monotonic_ns()
    drive.start(name)
    rig.wait_for(
        lambda: 'ok' in rig.watcher.outcomes(restarted_ns), 'the first good frame', PATIENCE_S
    )
    rejoined_s = (time.monotonic_ns() - restarted_ns) / 1e9
    if limit_s is not None:
        # Most of it is the start of an interpreter, which other work holds up.
        busy = max(load_per_core(), 1.0)
        rig.in_time('good frame after the restart', rejoined_s, limit_s * busy)
    rig.figures['rejoin_s'] = rejoined_s
    rig.wait_good(10, PATIENCE_S)


def expect_a_step_per_frame(rig, since_ns, frame_before):
    """Expect one STEP_ONCE for each frame, no frame left out."""
    frames = [n for n in rig.watcher.frames() if n > frame_before]
    assert frames == list(range(frame_before + 1, frames[-1] + 1)), 'frames in order'
    more = rig.watcher.steps_sent(since_ns) - len(frames)
    assert abs(more) <= 1, f'{more} more steps than frames'  # one may be under way


def expect_events(audit, *wanted):
    """Expect these events in a ledger, idle ticks aside.

    A bridge that plays from its start is paused once it listens: what ran freely until then may
    be an event of its own, after the restart.
    """
    events = [event['event'] for event in audit.events if event['event'] != IDLE]
    while events[-2:] == [Cause.RESTARTED.value, Cause.FREE_RUNNING.value]:
        events.pop()
    assert events == list(wanted), 'events in the ledger'


def expect_resets(rig, wanted):
    """Expect that gate, agent and synchronizer have each started over so often."""
    for name, key in (('gate', 'resets'), ('td3_agent', 'resets'), RESTARTS):
        rig.watcher.wait_for(lambda n=name, k=key: reset_count(rig, n, k) == wanted, 5.0)
        assert reset_count(rig, name, key) == wanted, f'{key} of {name}'


RESTARTS = ('synchronizer', 'restarts')


def reset_count(rig, name, key):
    return int(rig.watcher.value(name, key) or 0)


def driven_stamps(rig, since_ns):
    """Return the stamps [ns] of the commands other than stops since a time [ns, steady]."""
    return [
        stamp_ns(command.what.header.stamp)
        for command in tuple(rig.watcher.commands)
        if command.at_ns >= since_ns and not is_stop(command.what)
    ]

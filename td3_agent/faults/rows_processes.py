# SPDX-License-Identifier: Apache-2.0
"""Rows in which processes die, stand still, or are asked to end."""

from __future__ import annotations

import hashlib
import os
import signal
import time
from typing import TYPE_CHECKING

from td3_agent.driving.ledger import IDLE
from td3_agent.driving.stepping import Cause
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.scene import (
    AGENT,
    BRIDGE,
    CONTIGUOUS,
    FREE_RUNNING,
    GATE,
    LONGEST_NAMING_S,
    LONGEST_STOP_S,
    NODE_NAMES,
    NODES,
    SYNCHRONIZER,
    WHOLE,
    Scene,
)
from td3_agent.faults.watcher import is_stop
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.policy.policy_file import policy_file

if TYPE_CHECKING:
    from td3_agent.driving.ledger_audit import Audit
    from td3_agent.evaluation.processes import NodeProcess
    from td3_agent.faults.scene import Drive

LONGEST_REJOIN_S = 5.0
LONGEST_END_S = 2.0
STOPPED_S = 3.0
PAUSED_S = 1.0
PATIENCE_S = 20.0
TOO_LATE_S = 4.0  # for what must come within a second


@row('F1', 'kill -9 of the agent while it drives', case='agent_killed_report')
def killed_agent(scene: Scene) -> Outcome:
    """The gate stops the car, stepping pauses, and a new agent joins at the next frame."""
    outcome = Outcome()
    weights = policy_file('lane')
    before = hashlib.sha256(weights.read_bytes()).hexdigest()
    drive = scene.drive(parameters={AGENT: {'driver': 'td3', 'policy': 'lane'}})
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    killed_ns = drive.kill(AGENT)
    expect_stop(scene, outcome, killed_ns, GATE, 'stopped_no_command')
    expect_pause(scene, outcome, killed_ns, f'agent of {drive.role}')
    expect_rejoin(scene, outcome, drive, AGENT)
    after = hashlib.sha256(weights.read_bytes()).hexdigest()
    outcome.equal('hash of the checkpoint', after, before)
    finish(scene, outcome, drive, begun_ns)
    drive.audit(outcome, *WHOLE)
    return outcome


@row('F2', 'kill -9 of the synchronizer')
def killed_synchronizer(scene: Scene) -> Outcome:
    """The bridge stays paused, the gate holds a stop; a new one steps each frame once."""
    outcome = Outcome()
    drive = scene.drive()
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    killed_ns = drive.kill(SYNCHRONIZER)
    expect_stop(scene, outcome, killed_ns, GATE, 'no frame for')
    watcher = scene.watcher
    frame = watcher.frames()[-1]
    scene.wait_for(
        lambda: watcher.outcomes(killed_ns).count('stopped_silence') >= 2,
        'the stop to be said again',
        TOO_LATE_S,
    )
    outcome.equal('frame of the bridge while nobody steps', watcher.frames()[-1], frame)
    restarted_ns = time.monotonic_ns()
    expect_rejoin(scene, outcome, drive, SYNCHRONIZER)
    scene.wait_good(frames=10)
    expect_single_steps(scene, outcome, restarted_ns, frame)
    finish(scene, outcome, drive, begun_ns)
    drive.audit(outcome, *CONTIGUOUS, number=0)
    return outcome


@row('F3', 'kill -9 of the bridge; a new one counts from 0', quick=False)
def killed_bridge(scene: Scene) -> Outcome:
    """Everybody starts anew with it; nothing is computed from before."""
    outcome = Outcome()
    drive = scene.drive()
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    killed_ns = drive.kill(BRIDGE)
    expect_stop(scene, outcome, killed_ns, SYNCHRONIZER, 'does not answer')
    restarted_ns = time.monotonic_ns()
    clocks = len(scene.watcher.clocks)
    expect_rejoin(scene, outcome, drive, BRIDGE, limit_s=None)
    scene.wait_good(frames=10)
    expect_resets(scene, outcome, 1)
    expect_only_new_frames(scene, outcome, restarted_ns, clocks)
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    expect_events(outcome, drive.audit(outcome, *WHOLE), 'bridge_restarted')
    return outcome


@row('F4', 'SIGSTOP for 3 s, then SIGCONT, each process', quick=False)
def stopped_processes(scene: Scene) -> Outcome:
    """As if it were killed, and without a burst of old commands when it wakes."""
    outcome = Outcome()
    drive = scene.drive()
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    words = {
        AGENT: (GATE, 'stopped_no_command'),
        SYNCHRONIZER: (GATE, 'no frame for'),
        BRIDGE: (SYNCHRONIZER, 'does not answer'),
        GATE: (SYNCHRONIZER, ''),
    }
    for name in NODES:
        stop_and_go(scene, outcome, drive.nodes[name], words[name])
    finish(scene, outcome, drive, begun_ns, longest_silence_s=STOPPED_S)
    if not scene.quick:
        outcome.add(woken_gate(scene.apart('free_running')), 'free-running')
    return outcome


def woken_gate(scene: Scene) -> Outcome:
    """Wake a free-running gate: what has piled up meanwhile must not be driven after."""
    outcome = Outcome()
    with scene:
        drive = scene.drive(start=False, parameters=FREE_RUNNING)
        drive.start_all((BRIDGE, GATE, AGENT))
        scene.wait_good()
        watcher = scene.watcher
        scene.signal(drive.nodes[GATE], signal.SIGSTOP)
        scene.pause(STOPPED_S)
        clock_ns = stamp_ns(watcher.clocks[-1].what.clock)
        woken_ns = scene.signal(drive.nodes[GATE], signal.SIGCONT)
        scene.wait_good(5, PATIENCE_S)
        stamps = [
            stamp_ns(heard.what.header.stamp)
            for heard in tuple(watcher.commands)
            if heard.at_ns >= woken_ns and not is_stop(heard.what)
        ]
        oldest_s = (clock_ns - min(stamps)) / 1e9
        outcome.most('age of the oldest command after waking', oldest_s, LONGEST_STOP_S, 's')
        outcome.figures['oldest_command_s'] = oldest_s
        scene.p0(outcome)
    return outcome


def stop_and_go(scene: Scene, outcome: Outcome, node: NodeProcess, words: tuple[str, str]) -> None:
    """Stop one process for a while and let it go on."""
    watcher, part = scene.watcher, Outcome()
    stopped_ns = scene.signal(node, signal.SIGSTOP)
    if node.name == GATE:  # nobody is left to speak to the car: it must not be stepped
        frame = watcher.frames()[-1]
        scene.pause(STOPPED_S)
        part.most('frames without a gate', watcher.frames()[-1] - frame, 2)
        named_s = scene.wait_named(stopped_ns, NODE_NAMES[SYNCHRONIZER], patience_s=0.0)
        part.most('named after', named_s, LONGEST_NAMING_S, 's')
    else:
        expect_stop(scene, part, stopped_ns, *words)
        scene.pause(max(STOPPED_S - (time.monotonic_ns() - stopped_ns) / 1e9, 0.0))
    woken_ns = scene.signal(node, signal.SIGCONT)
    scene.wait_good(frames=5, patience_s=PATIENCE_S)
    part.figures['recovered_s'] = (time.monotonic_ns() - woken_ns) / 1e9
    stamps = [stamp_ns(heard.what.header.stamp) for heard in watcher.answers(woken_ns)]
    part.none('frames with a second command', {s for s in stamps if stamps.count(s) > 1})
    part.equal('commands are in order', stamps, sorted(stamps))
    outcome.add(part, node.name)


@row('F5', 'SIGTERM and SIGINT to every process')
def asked_to_end(scene: Scene) -> Outcome:
    """The last command is a stop, and everybody is gone soon."""
    outcome = Outcome()
    for number in (signal.SIGTERM, signal.SIGINT)[: 1 if scene.quick else 2]:
        part = Outcome()
        drive = scene.drive()
        scene.wait_good()
        asked_ns = {n: scene.signal(node, number, 0) for n, node in drive.nodes.items()}
        ended_s = {}
        for name, node in drive.nodes.items():
            node.process.wait(PATIENCE_S)
            ended_s[name] = (time.monotonic_ns() - asked_ns[name]) / 1e9
        part.most('slowest end', max(ended_s.values()), LONGEST_END_S, 's')
        part.figures['slowest_end_s'] = max(ended_s.values())
        scene.pause(0.1)
        last = scene.watcher.commands[-1].what
        part.check('last command', is_stop(last), f'brake {last.brake}', 'full brake')
        outcome.add(part, signal.Signals(number).name)
        drive.audit_now(outcome)
    scene.p0(outcome)
    return outcome


# What the rows above have in common


def expect_stop(  # noqa: PLR0913  who must say what
    scene: Scene, outcome: Outcome, since_ns: int, node: str, words: str, namespace: str = ''
) -> None:
    """Expect a stop in time, and that a node names the fault in time."""
    name = f'{namespace}/{NODE_NAMES[node]}'.lstrip('/')
    watcher = scene.watcher
    scene.watcher.wait_for(
        lambda: watcher.stop_delay_s(since_ns) is not None, TOO_LATE_S, lambda: None
    )
    delay_s = watcher.stop_delay_s(since_ns)
    outcome.most('stop after', delay_s, LONGEST_STOP_S, 's')
    named_s = scene.wait_named(since_ns, name, words)
    outcome.most(f'{name} says "{words}" after', named_s, LONGEST_NAMING_S, 's')
    outcome.figures |= {'stop_s': delay_s or -1.0, 'named_s': named_s or -1.0}


def expect_pause(scene: Scene, outcome: Outcome, since_ns: int, who: str) -> None:
    """Expect that stepping pauses because somebody is silent."""
    named_s = scene.wait_named(since_ns, NODE_NAMES[SYNCHRONIZER], 'no step while', who)
    outcome.check('stepping pauses', named_s is not None, named_s, f'"{who}" is named')
    watcher = scene.watcher
    scene.pause(PAUSED_S / 2.0)  # the step that was under way ends with a stop
    steps, frame = watcher.steps_sent(), watcher.frames()[-1]
    scene.pause(PAUSED_S)
    outcome.equal('steps while paused', watcher.steps_sent() - steps, 0)
    outcome.equal('frames while paused', watcher.frames()[-1] - frame, 0)


def expect_rejoin(
    scene: Scene,
    outcome: Outcome,
    drive: Drive,
    name: str,
    limit_s: float | None = LONGEST_REJOIN_S,
) -> None:
    """Start a process again, and expect that frames are answered soon."""
    restarted_ns = time.monotonic_ns()
    drive.start(name)
    scene.wait_for(
        lambda: 'ok' in scene.watcher.outcomes(restarted_ns), 'the first good frame', PATIENCE_S
    )
    rejoined_s = (time.monotonic_ns() - restarted_ns) / 1e9
    if limit_s is not None:
        # Most of it is the start of an interpreter, which others on the machine hold up.
        busy = max(os.getloadavg()[0] / (os.cpu_count() or 1), 1.0)
        outcome.most('good frame after the restart', rejoined_s, limit_s * busy, 's')
    outcome.figures['rejoin_s'] = rejoined_s
    scene.wait_good(frames=10, patience_s=PATIENCE_S)


def expect_single_steps(scene: Scene, outcome: Outcome, since_ns: int, frame_before: int) -> None:
    """Expect one STEP_ONCE for each frame, no frame left out."""
    frames = [n for n in scene.watcher.frames() if n > frame_before]
    steps = scene.watcher.steps_sent(since_ns)
    outcome.equal('frames in order', frames, list(range(frame_before + 1, frames[-1] + 1)))
    under_way = steps - len(frames)  # one may be at either end
    outcome.check('steps for each frame', abs(under_way) <= 1, f'{under_way} more', 'as many')


def expect_events(outcome: Outcome, audit: Audit | None, *wanted: str) -> None:
    """Expect these events in a ledger, idle ticks aside.

    A bridge that plays from its start is paused once it listens: what ran freely until then may
    be an event of its own, after the restart.
    """
    if audit is not None:
        events = [event['event'] for event in audit.events if event['event'] != IDLE]
        while events[-2:] == [Cause.RESTARTED.value, Cause.FREE_RUNNING.value]:
            events.pop()
        outcome.equal('events in the ledger', events, list(wanted))


def expect_resets(scene: Scene, outcome: Outcome, wanted: int) -> None:
    """Expect that gate, agent and synchronizer have each begun anew so often."""
    found = {}
    for name, key in ((GATE, 'resets'), (AGENT, 'resets'), (SYNCHRONIZER, 'restarts')):
        node = NODE_NAMES[name]
        scene.watcher.wait_for(
            lambda node=node, key=key: scene.watcher.value(node, key) == str(wanted),
            5.0,
            lambda: None,
        )
        found[node] = scene.watcher.value(node, key)
    outcome.equal('resets', found, dict.fromkeys(found, str(wanted)))


def expect_only_new_frames(
    scene: Scene, outcome: Outcome, since_ns: int, clocks_before: int
) -> None:
    """Expect that since a restart only frames were answered that came after it."""
    watcher = scene.watcher
    new = {stamp_ns(h.what.clock) for h in tuple(watcher.clocks)[clocks_before:]}
    old = [
        heard
        for heard in tuple(watcher.commands)
        if heard.at_ns >= since_ns
        and not is_stop(heard.what)
        and stamp_ns(heard.what.header.stamp) not in new
    ]
    outcome.none('commands from before the restart', (h.what for h in old))


def finish(
    scene: Scene,
    outcome: Outcome,
    drive: Drive,
    begun_ns: int,
    longest_silence_s: float = 2.0,
) -> None:
    """Look at P0, and at the newest ledger: every frame one command, and executed."""
    span = (begun_ns, time.monotonic_ns())
    scene.p0(outcome, silence=span, longest_silence_s=longest_silence_s)
    drive.audit(outcome, *CONTIGUOUS, 'outcomes')

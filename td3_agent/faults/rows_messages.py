# SPDX-License-Identifier: Apache-2.0
"""Rows in which messages are lost, doubled, late, out of order, or from another time."""

from __future__ import annotations

from itertools import islice, pairwise
import math
import time
from typing import TYPE_CHECKING, Any

from td3_agent.driving.gate import Outcome as Answered
from td3_agent.driving.loop import ledger_records
from td3_agent.evaluation.agreement import first_difference
from td3_agent.evaluation.direct_episodes import direct_drive
from td3_agent.faults.injector import CLOCK, IMAGE, ODOMETRY, STATUS, STEP, VEHICLE_STATUS
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
    SYNCHRONIZER,
    Scene,
)
from td3_agent.nodes.conversions import stamp_ns
from td3_agent.nodes.drivers import DriverParams, make_driver
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, make_world

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from td3_agent.faults.scene import Drive

FAST = 4.0  # times real time: 80 frames/s
PATIENCE_S = 20.0
TOO_LATE_S = 4.0  # for what must come within a second
ANSWERED = (*CONTIGUOUS, 'outcomes', 'commands', 'applied')
# What every frame's halves are; vehicle_status only tells what was executed.
OF_A_FRAME = (ODOMETRY, IMAGE, CLOCK, VEHICLE_STATUS)


def steps_are_single(scene: Scene, outcome: Outcome) -> None:
    """Expect that the bridge ticked when it was asked to, and at no other time."""
    for key in ('uninvited', 'skipped'):
        found = scene.watcher.value(NODE_NAMES[SYNCHRONIZER], key)
        outcome.equal(f'{key} frames', found, '0')


def settled(scene: Scene, frames: int = 8) -> None:
    """Let some frames pass without a fault: reports lag behind."""
    scene.wait_good(frames, PATIENCE_S)


# F6

STEADY = {  # by topic: what is counted for each message that is lost
    IMAGE: 'stopped_no_command',
    ODOMETRY: 'stopped_no_command',
    CLOCK: 'no_clock',
    STEP: 'resent',
    STATUS: 'lost_acknowledgements',
}
NAMED = {  # by topic: who says what when all are lost
    IMAGE: (AGENT, 'no image'),
    ODOMETRY: (AGENT, 'no odometry'),
    CLOCK: (SYNCHRONIZER, 'no /clock'),
    STEP: (SYNCHRONIZER, 'does not answer'),
    STATUS: (SYNCHRONIZER, 'does not answer'),
}


@row('F6', '1 %, 10 % and all of a topic lost')
def dropped(scene: Scene) -> Outcome:
    """Each loss is counted, no step is doubled, and when all is lost the car stops."""
    outcome = Outcome()
    drive = scene.drive(
        tuple(STEADY),
        parameters={SYNCHRONIZER: {'real_time_factor': FAST, 'step_timeout_s': 1.1}},
    )
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    frames = scene.count or 100
    for topic in () if scene.quick else STEADY:
        for share in (0.01, 0.1):
            some_lost(scene, outcome, topic, share, frames)
    for topic in (IMAGE, CLOCK) if scene.quick else STEADY:
        all_lost(scene, outcome, topic)
    steps_are_single(scene, outcome)
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    audit = drive.audit(outcome, *ANSWERED)
    if audit is not None:
        outcome.none('frames that the bridge ended before their command', early(audit.records))
    return outcome


def early(records: Sequence[Mapping[str, Any]]) -> list[int]:
    """Return the frames that were acknowledged before the agent had answered them.

    Then the bridge counts the commands wrongly, and the next step may overtake one.
    """
    return [
        record['frame']
        for record in records
        if record['outcome'] == Answered.OK.value
        and record.get('acknowledged_ns', math.inf) < record.get('twist_received_ns', 0)
    ]


def some_lost(scene: Scene, outcome: Outcome, topic: str, share: float, frames: int) -> None:
    """Lose a share of a topic for some frames; as many must be counted as were lost."""
    key, watcher = STEADY[topic], scene.watcher
    node = NODE_NAMES[SYNCHRONIZER]
    before, since_ns = int(watcher.value(node, key) or 0), time.monotonic_ns()
    scene.injector.rule(topic, {'kind': 'drop', 'share': share})
    scene.wait_good(frames, 60.0)
    lost = scene.injector.rule(topic)[topic].get('dropped', 0)
    settled(scene)
    label = f'{topic} {share:.0%}'
    outcome.figures[f'{label} lost'] = lost
    if topic in {IMAGE, ODOMETRY}:
        found = watcher.outcomes(since_ns).count(key)
        outcome.equal(f'{label}: frames {key}', found, lost)
        return
    # Of three statuses per frame only the last is an acknowledgement.
    wanted = (lambda n: n <= lost) if topic == STATUS else (lambda n: n == lost)
    watcher.wait_for(
        lambda: wanted(int(watcher.value(node, key) or 0) - before), 3.0, lambda: None
    )
    found = int(watcher.value(node, key) or 0) - before
    told = f'at most {lost}' if topic == STATUS else lost
    outcome.check(f'{label}: {key}', wanted(found), found, told)


def all_lost(scene: Scene, outcome: Outcome, topic: str) -> None:
    """Lose all of a topic: the car must stop, somebody must say why, and it must go on again."""
    watcher = scene.watcher
    since_ns = time.monotonic_ns()
    scene.injector.rule(topic, {'kind': 'drop'})
    watcher.wait_for(lambda: watcher.stop_delay_s(since_ns), TOO_LATE_S, lambda: None)
    delay_s = watcher.stop_delay_s(since_ns)
    outcome.most(f'{topic} all: stop after', delay_s, LONGEST_STOP_S, 's')
    name, words = NAMED[topic]
    named_s = scene.wait_named(since_ns, NODE_NAMES[name], words)
    outcome.most(f'{topic} all: "{words}" after', named_s, LONGEST_NAMING_S, 's')
    scene.injector.rule(topic)
    begun_ns = time.monotonic_ns()
    settled(scene, 5)
    outcome.figures[f'{topic}_stop_s'] = delay_s or -1.0
    outcome.figures[f'{topic}_recovered_s'] = (time.monotonic_ns() - begun_ns) / 1e9


@row('F7', 'every message twice, then ten times')
def duplicated(scene: Scene) -> Outcome:
    """Exactly one action and one step per frame, however often messages come."""
    outcome = Outcome()
    through = (ODOMETRY, IMAGE, CLOCK, STATUS)
    drive = scene.drive(through, parameters={SYNCHRONIZER: {'real_time_factor': FAST}})
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    outcome.figures['doubled_messages'] = 0
    for times in (2, 10):
        scene.injector.rules({topic: [{'kind': 'duplicate', 'times': times}] for topic in through})
        scene.wait_good(frames=40)
        counts = scene.injector.rules({topic: [] for topic in through})
        outcome.figures['doubled_messages'] += sum(c['duplicated'] for c in counts.values())
    settled(scene)
    steps_are_single(scene, outcome)
    # Before the nodes are ended: the gate may be the last of them.
    outcome.equal('outcomes', set(scene.watcher.outcomes(begun_ns)), {'ok'})
    outcome.none('errors in diagnostics', said_errors(scene, begun_ns))
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    audit = drive.audit(outcome, *ANSWERED)
    if audit is not None:
        node = NODE_NAMES[SYNCHRONIZER]
        others = sum(int(scene.watcher.value(node, key) or 0) for key in ('idle', 'resent'))
        steps = scene.watcher.steps_sent() - others - len(audit.records)
        outcome.check('steps for each frame', steps in {0, 1}, f'{steps} more', '0 or 1 more')
        outcome.figures['frames'] = len(audit.records)
    return outcome


def said_errors(scene: Scene, since_ns: int, before_ns: int | None = None) -> list[str]:
    """Return what nodes have reported as an error within a span [ns, steady]."""
    heard = scene.watcher.errors(since_ns, before_ns)
    return [f'{h.what.name}: {h.what.message}' for h in heard]


# F8


@row('F8', 'images 20 ms, 60 ms, 500 ms and 2 s late')
def late(scene: Scene) -> Outcome:
    """Short delays are waited for; a long one stops the car, and no image meets another frame."""
    outcome = Outcome()
    drive = scene.drive((IMAGE,))
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    watcher = scene.watcher
    for delay_s in (0.02, 0.06):
        since_ns = time.monotonic_ns()
        scene.injector.rule(IMAGE, {'kind': 'delay', 'delay_s': delay_s})
        scene.wait_good(15)
        outcome.equal(f'outcomes at {delay_s} s', set(watcher.outcomes(since_ns)), {'ok'})
    outcome.none('errors in diagnostics', said_errors(scene, begun_ns))
    most = 3
    for delay_s in (0.5, 2.0):
        since_ns = time.monotonic_ns()
        rule = {'kind': 'delay', 'delay_s': delay_s, 'most': most}
        scene.injector.rule(IMAGE, rule)
        settled(scene, 10)
        stopped = watcher.outcomes(since_ns).count('stopped_no_command')
        outcome.equal(f'frames stopped at {delay_s} s', stopped, most)
        delay = watcher.stop_delay_s(since_ns)
        outcome.most(f'stop at {delay_s} s after', delay, LONGEST_STOP_S, 's')
        named_s = scene.wait_named(since_ns, NODE_NAMES[AGENT], 'no image', patience_s=0.0)
        outcome.most(f'"no image" at {delay_s} s after', named_s, LONGEST_NAMING_S, 's')
    scene.pause(1.0)  # the last of the late ones arrives
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    audit = drive.audit(outcome, *ANSWERED)
    if audit is not None:
        late_by_ms = halves_apart_ms(audit.records)
        outcome.figures |= {
            'late_images': len(late_by_ms),
            'least_late_ms': min(late_by_ms, default=0),
        }
        outcome.none(
            'images with the odometry of another frame', (ms for ms in late_by_ms if ms < 450.0)
        )
    return outcome


def halves_apart_ms(records: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return how much later than its odometry the image of each stopped frame came [ms].

    With the odometry of another frame it would be that frame's time, 0.4 s less or more.
    """
    return [
        (record['image_received_ns'] - record['odometry_received_ns']) / 1e6
        for record in records
        if record['outcome'] == 'stopped_no_command' and 'image_received_ns' in record
    ]


# F9


@row('F9', 'messages out of order')
def out_of_order(scene: Scene) -> Outcome:
    """Older stamps are ignored, and the drive is the clean one, hash by hash."""
    outcome = Outcome()
    frames = scene.count or 60
    through = (ODOMETRY, IMAGE, CLOCK, STATUS)
    drive = scene.drive(
        through,
        start=False,
        parameters={
            SYNCHRONIZER: {
                'max_frames': frames,
                'real_time_factor': FAST,
                'idle_period_s': 0.0,
            }
        },
    )
    # In lockstep frame n + 1 comes only after the answer to n: a message of frame n can be
    # late by a frame only as a second copy. Within a frame the topics are turned around.
    scene.injector.rules(
        {
            ODOMETRY: [{'kind': 'echo', 'share': 0.5}],
            IMAGE: [
                {'kind': 'echo', 'share': 0.5},
                {'kind': 'delay', 'delay_s': 0.01, 'share': 0.5},
            ],
            CLOCK: [
                {'kind': 'echo', 'share': 0.5},
                {'kind': 'delay', 'delay_s': 0.02, 'share': 0.5},
            ],
            STATUS: [{'kind': 'echo', 'share': 0.2}],
        }
    )
    drive.start_all()
    node = drive.nodes[SYNCHRONIZER]
    scene.wait_for(lambda: node.process.poll() is not None, 'the end of the drive')
    counts = scene.injector.counts()
    scene.p0(outcome)
    audit = drive.audit(outcome, *ANSWERED)
    if audit is not None:
        different = first_difference(audit.records, direct_ledger(drive, frames))
        outcome.equal('first difference to the drive without ROS', different, None)
    told = scene.watcher.value(NODE_NAMES[AGENT], 'stale')
    outcome.least('older halves that the agent ignored', int(told or 0), frames // 4)
    driven_ns = scene.watcher.clocks[-1].at_ns
    outcome.none('errors in diagnostics', said_errors(scene, 0, driven_ns))
    outcome.figures['echoed'] = sum(c['echoed'] for c in counts.values())
    outcome.figures['delayed'] = sum(c.get('delayed', 0) for c in counts.values())
    outcome.figures['ignored_by_agent'] = int(told or 0)
    if not scene.quick:
        outcome.add(swapped(scene.apart('free_running')), 'free-running')
    return outcome


def swapped(scene: Scene) -> Outcome:
    """Swap neighbours for good, which needs a bridge that waits for nobody."""
    outcome = Outcome()
    with scene:
        drive = scene.drive((ODOMETRY, IMAGE), start=False, parameters=FREE_RUNNING)
        drive.start_all((BRIDGE, GATE, AGENT))
        scene.wait_good()
        begun_ns, watcher = time.monotonic_ns(), scene.watcher
        rule = {'kind': 'reorder', 'share': 0.3}
        scene.injector.rules({ODOMETRY: [rule], IMAGE: [rule]})
        scene.wait_good(60)
        counts = scene.injector.rules({ODOMETRY: [], IMAGE: []})
        scene.pause(1.0)  # diagnostics lag behind
        stamps = [
            stamp_ns(h.what.header.stamp) for h in tuple(watcher.commands) if h.at_ns >= begun_ns
        ]
        outcome.equal('commands are in order', stamps, sorted(stamps))
        told = int(watcher.value(NODE_NAMES[AGENT], 'stale') or 0)
        outcome.least('older halves that the agent ignored', told, 5)
        outcome.none('errors in diagnostics', said_errors(scene, begun_ns))
        scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
        outcome.figures |= {
            'swapped': sum(found['reordered'] for found in counts.values()),
            'ignored_by_agent': told,
        }
    return outcome


def direct_ledger(drive: Drive, frames: int) -> list[dict[str, Any]]:
    """Return the ledger of the same drive in one process, without ROS."""
    settings = {key: drive.parameters(BRIDGE)[key] for key in ('spawn_index', 'map')}
    world = make_world(SimBridgeParams(**settings))
    words = {k: v for k, v in drive.parameters(AGENT).items() if k in {'driver', 'policy'}}
    steps = direct_drive(world, make_driver(DriverParams(**words)))
    return list(ledger_records(islice(steps, frames)))


@row('F11', 'the clock jumps back, forward, and stands still', quick=False)
def clock_jumps(scene: Scene) -> Outcome:
    """One reset for each jump back, one action for each frame, and a stop when time stands."""
    outcome = Outcome()
    # The rules count messages: an idle tick would be one of them.
    drive = scene.drive(OF_A_FRAME, start=False, parameters={SYNCHRONIZER: {'idle_period_s': 0.0}})
    scene.injector.rules({topic: jumps(topic) for topic in OF_A_FRAME})
    drive.start_all()
    watcher = scene.watcher
    scene.wait_good(JUMPS[-1][0] + 20)
    begun_ns = watcher.clocks[0].at_ns
    jumped_ns = time.monotonic_ns()
    found = {}
    for name, key in ((GATE, 'resets'), (AGENT, 'resets'), (SYNCHRONIZER, 'restarts')):
        node = NODE_NAMES[name]
        watcher.wait_for(
            lambda node=node, key=key: watcher.value(node, key) == '2', 3.0, lambda: None
        )
        found[node] = watcher.value(node, key)
    outcome.equal('resets', found, dict.fromkeys(found, '2'))
    named = watcher.named(begun_ns, NODE_NAMES[SYNCHRONIZER], 'time ran back')
    outcome.check('named', named is not None, named and named.what.message, 'time ran back')
    clocks = len(watcher.clocks)
    answers = watcher.answers()
    outcome.check(
        'actions for frames', abs(len(answers) - clocks) <= 1, len(answers), f'{clocks}, or 1 off'
    )
    total_s = ROOM_S + sum(shift_s for _, shift_s in JUMPS)
    shift = {'kind': 'shift', 'shift_s': total_s, 'values': {'stamp': 'clock'}}
    scene.injector.rule(CLOCK, shift, {'kind': 'freeze'})
    frozen_ns = scene.wait_for(lambda: repeated_since(scene, clocks), 'a frozen clock', 5.0)
    watcher.wait_for(lambda: watcher.stop_delay_s(frozen_ns), TOO_LATE_S, lambda: None)
    outcome.most('frozen: stop after', watcher.stop_delay_s(frozen_ns), LONGEST_STOP_S, 's')
    named_s = scene.wait_named(frozen_ns, NODE_NAMES[SYNCHRONIZER], 'no /clock')
    outcome.most('frozen: named after', named_s, LONGEST_NAMING_S, 's')
    outcome.figures |= {'frames': clocks, 'frozen_stop_s': watcher.stop_delay_s(frozen_ns) or -1.0}
    scene.p0(outcome, silence=(begun_ns, jumped_ns))
    audit = drive.audit(outcome, 'file', 'chain', 'frames')
    if audit is not None:
        told = audit.findings['stamps'].faults + audit.events
        outcome.check('jumps in the ledger', len(told) == len(JUMPS), told, f'{len(JUMPS)} jumps')
    return outcome


def repeated_since(scene: Scene, clocks: int) -> int | None:
    """Return when /clock first said again what it had said [ns, steady], or None."""
    heard = scene.watcher.clocks[clocks - 1 :]
    return next((b.at_ns for a, b in pairwise(heard) if a.what.clock == b.what.clock), None)


# After so many messages, by so many seconds; the first one makes room to go back.
JUMPS = ((30, -0.001), (50, -10.0), (70, 100.0), (90, -189.0))
ROOM_S = 100.0


def jumps(topic: str) -> list[dict[str, Any]]:
    """Return the rules that make the stamps of a topic jump, all topics in the same frames."""
    stamp = {'stamp': 'clock' if topic == CLOCK else 'header.stamp'}
    shifts = [(0, ROOM_S), *JUMPS]
    return [{'kind': 'shift', 'skip': n, 'shift_s': s, 'values': stamp} for n, s in shifts]

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Cases with messages that are lost, duplicate, late, out of order or from another time."""

from itertools import pairwise
import math
import time

from faults.injector import CLOCK, IMAGE, ODOMETRY, STATUS, STEP, VEHICLE_STATUS, relay
from faults.rules import Rule
from faults.test_process_faults import expect_resets
from harness.rig import (
    AGENT,
    ANSWERED,
    BRIDGE,
    FREE_RUNNING,
    GATE,
    LONGEST_NAMING_S,
    SYNCHRONIZER,
)
import pytest

from td3_agent.evaluation.ledger_command import first_difference
from td3_agent.nodes.conversions import stamp_ns

FAST = {'real_time_factor': 4.0}  # 80 frames/s
PATIENCE_S = 20.0
FROM_BRIDGE = (ODOMETRY, IMAGE, CLOCK, STATUS)
COUNTED = {  # by topic: what is counted for each message that is lost
    IMAGE: 'stopped_no_command',
    ODOMETRY: 'stopped_no_command',
    CLOCK: 'no_clock',
    STEP: 'resent',
    STATUS: 'lost_acknowledgements',
}
NAMED = {  # by topic: which node says what when all are lost
    IMAGE: (AGENT, 'no image'),
    ODOMETRY: (AGENT, 'no odometry'),
    CLOCK: (SYNCHRONIZER, 'no /clock'),
    STEP: (SYNCHRONIZER, 'does not answer'),
    STATUS: (SYNCHRONIZER, 'does not answer'),
}


@pytest.mark.case('F6', '1 %, 10 % and all of a topic lost')
def test_messages_lost(rig):
    """Each loss is counted, no step is duplicate, and the car stops when all messages are lost."""
    settings = FAST | {'step_timeout_s': 1.1}
    injector = relay(rig, COUNTED)
    drive = rig.drive(parameters={SYNCHRONIZER: settings})
    rig.wait_good()
    begun_ns = time.monotonic_ns()
    for topic in () if rig.quick else COUNTED:
        for share in (0.01, 0.1):
            lose_some(rig, injector, topic, share)
    for topic in (IMAGE, CLOCK) if rig.quick else COUNTED:
        since_ns = time.monotonic_ns()
        injector.rule(topic, Rule('drop'))
        rig.expect_stop(since_ns, f'{topic} all: stop')
        rig.expect_named(since_ns, *NAMED[topic], what=f'{topic} all: named')
        injector.rule(topic)
        rig.wait_good(5, PATIENCE_S)
    rig.expect_single_steps()
    audit = drive.finish(*ANSWERED, since_ns=begun_ns)
    # Else the bridge counts the commands wrongly, and the next step may overtake one.
    early = [
        record['frame']
        for record in audit.records
        if record['outcome'] == 'ok'
        and record.get('acknowledged_ns', math.inf) < record.get('twist_received_ns', 0)
    ]
    assert early == [], 'frames that the bridge ended before their command'


def lose_some(rig, injector, topic, share):
    """Lose a share of a topic for some frames; as many must be counted as were lost."""
    key, watcher, since_ns = COUNTED[topic], rig.watcher, time.monotonic_ns()

    def counted():
        return int(watcher.value('synchronizer', key) or 0)

    before = counted()
    injector.rule(topic, Rule('drop', share=share))
    rig.wait_good(rig.count or 100)
    lost = injector.rule(topic)[topic]['dropped']
    rig.wait_good(8, PATIENCE_S)  # reports lag behind
    rig.figures[f'{topic} {share:.0%} lost'] = lost
    if topic in {IMAGE, ODOMETRY}:
        assert watcher.outcomes(since_ns).count(key) == lost, topic
    elif topic == STATUS:  # of three per frame only the last is an acknowledgement
        assert counted() - before <= lost, topic
    else:
        watcher.wait_for(lambda: counted() - before == lost, 3.0)
        assert counted() - before == lost, topic


@pytest.mark.case('F7', 'every message twice, then ten times')
def test_messages_duplicated(rig):
    """Exactly one action and one step per frame, with any number of duplicates."""
    injector = relay(rig, FROM_BRIDGE)
    drive = rig.drive(parameters={SYNCHRONIZER: FAST})
    rig.wait_good()
    begun_ns, watcher = time.monotonic_ns(), rig.watcher
    rig.figures['duplicate_messages'] = 0
    for times in (2, 10):
        injector.rules({topic: [Rule('duplicate', times=times)] for topic in FROM_BRIDGE})
        rig.wait_good(40)
        counts = injector.rules({topic: [] for topic in FROM_BRIDGE})
        rig.figures['duplicate_messages'] += sum(c['duplicated'] for c in counts.values())
    rig.wait_good(8, PATIENCE_S)
    rig.expect_single_steps()
    # Before the nodes are ended: the gate may be the last of them.
    assert set(watcher.outcomes(begun_ns)) == {'ok'}
    assert watcher.errors(begun_ns) == []
    audit = drive.finish(*ANSWERED, since_ns=begun_ns)
    others = sum(int(watcher.value('synchronizer', key) or 0) for key in ('idle', 'resent'))
    more = watcher.steps_sent() - others - len(audit.records)
    assert more in {0, 1}, f'{more} more steps than frames'
    rig.figures['frames'] = len(audit.records)


@pytest.mark.case('F8', 'images 20 ms, 60 ms, 500 ms and 2 s late')
def test_images_late(rig):
    """Short delays are waited for; a long one stops the car, and no image meets another frame."""
    injector = relay(rig, (IMAGE,))
    drive = rig.drive()
    rig.wait_good()
    begun_ns, watcher, most = time.monotonic_ns(), rig.watcher, 3
    for delay_s in (0.02, 0.06):
        since_ns = time.monotonic_ns()
        injector.rule(IMAGE, Rule('delay', delay_s=delay_s))
        rig.wait_good(15)
        assert set(watcher.outcomes(since_ns)) == {'ok'}, f'images {delay_s} s late'
    assert watcher.errors(begun_ns) == []
    for delay_s in (0.5, 2.0):
        since_ns = time.monotonic_ns()
        injector.rule(IMAGE, Rule('delay', delay_s=delay_s, most=most))
        rig.wait_good(10, PATIENCE_S)
        stopped = watcher.outcomes(since_ns).count('stopped_no_command')
        assert stopped == most, f'frames stopped at {delay_s} s'
        rig.expect_stop(since_ns, f'{delay_s} s late: stop')
        named_s = rig.wait_named(since_ns, AGENT, 'no image', patience_s=0.0)
        rig.in_time(f'"no image" at {delay_s} s after', named_s, LONGEST_NAMING_S)
    rig.pause(1.0)  # the last of the late ones arrives
    audit = drive.finish(*ANSWERED, since_ns=begun_ns)
    # With the odometry of another frame it would be that frame's time, 0.4 s less or more.
    late_by_ms = [
        (record['image_received_ns'] - record['odometry_received_ns']) / 1e6
        for record in audit.records
        if record['outcome'] == 'stopped_no_command' and 'image_received_ns' in record
    ]
    assert [ms for ms in late_by_ms if ms < 450.0] == [], 'odometry of another frame'
    rig.figures |= {'late_images': len(late_by_ms), 'least_late_ms': min(late_by_ms, default=0)}


@pytest.mark.case('F9', 'messages out of order')
def test_messages_out_of_order(rig):
    """Older stamps are ignored, and the drive is the clean one, hash by hash.

    In lockstep frame n + 1 comes only after the answer to n: a message of frame n can be late by a
    frame only as a second copy. Within a frame the topics are turned around.
    """
    frames = rig.count or 60
    settings = FAST | {'max_frames': frames, 'idle_period_s': 0.0}
    injector = relay(rig, FROM_BRIDGE)
    drive = rig.drive(start=(), parameters={SYNCHRONIZER: settings})
    echo = Rule('echo', share=0.5)
    rules = {
        ODOMETRY: [echo],
        IMAGE: [echo, Rule('delay', delay_s=0.01, share=0.5)],
        CLOCK: [echo, Rule('delay', delay_s=0.02, share=0.5)],
        STATUS: [Rule('echo', share=0.2)],
    }
    injector.rules(rules)
    for name in (BRIDGE, GATE, AGENT, SYNCHRONIZER):
        drive.start(name)
    drive.wait_until_over()
    counts, watcher = injector.counts(), rig.watcher
    audit = drive.finish(*ANSWERED)
    assert first_difference(audit.records, drive.direct_ledger(frames)) is None
    ignored = int(watcher.value('td3_agent', 'stale') or 0)
    assert ignored >= frames // 4, 'older halves that the agent ignored'
    assert watcher.errors(0, watcher.clocks[-1].at_ns) == []
    rig.figures |= {
        'echoed': sum(c['echoed'] for c in counts.values()),
        'delayed': sum(c.get('delayed', 0) for c in counts.values()),
        'ignored_by_agent': ignored,
    }


@pytest.mark.alone
@pytest.mark.case('F9', 'neighbours swapped, free-running')
def test_neighbours_swapped(rig):
    """Without lockstep a message can arrive after the next one of its topic."""
    injector = relay(rig, (ODOMETRY, IMAGE))
    rig.drive(start=(BRIDGE, GATE, AGENT), parameters=FREE_RUNNING)
    rig.wait_good()
    begun_ns, watcher = time.monotonic_ns(), rig.watcher
    injector.rules({topic: [Rule('reorder', share=0.3)] for topic in (ODOMETRY, IMAGE)})
    rig.wait_good(60)
    counts = injector.rules({ODOMETRY: [], IMAGE: []})
    rig.pause(1.0)  # diagnostics lag behind
    commands = [c.what for c in tuple(watcher.commands) if c.at_ns >= begun_ns]
    stamps = [stamp_ns(command.header.stamp) for command in commands]
    assert stamps == sorted(stamps), 'commands in order'
    ignored = int(watcher.value('td3_agent', 'stale') or 0)
    assert ignored >= 5, 'older halves that the agent ignored'
    assert watcher.errors(begun_ns) == []
    rig.p0(begun_ns)
    swapped = sum(found['reordered'] for found in counts.values())
    rig.figures |= {'swapped': swapped, 'ignored_by_agent': ignored}


# What a frame consists of; vehicle_status only tells what was executed.
OF_A_FRAME = (ODOMETRY, IMAGE, CLOCK, VEHICLE_STATUS)
# After so many messages, by so many seconds; the first one makes room to go back.
ROOM_S = 100.0
JUMPS = ((30, -0.001), (50, -10.0), (70, 100.0), (90, -189.0))


@pytest.mark.alone
@pytest.mark.case('F11', 'the clock jumps back, forward, and stands still')
def test_clock_jumps(rig):
    """One reset per jump back, one action per frame, and a stop when time stands still."""
    # The rules count messages: an idle tick would be one of them.
    injector = relay(rig, OF_A_FRAME)
    drive = rig.drive(start=(), parameters={SYNCHRONIZER: {'idle_period_s': 0.0}})
    jumps = [Rule('shift', skip=n, shift_s=shift_s) for n, shift_s in ((0, ROOM_S), *JUMPS)]
    injector.rules(dict.fromkeys(OF_A_FRAME, jumps))
    for name in (BRIDGE, GATE, AGENT, SYNCHRONIZER):
        drive.start(name)
    watcher = rig.watcher
    rig.wait_good(JUMPS[-1][0] + 20)
    begun_ns, jumped_ns = watcher.clocks[0].at_ns, time.monotonic_ns()
    expect_resets(rig, 2)
    assert watcher.named(begun_ns, 'synchronizer', 'time ran back')
    clocks = len(watcher.clocks)
    assert abs(len(watcher.responses()) - clocks) <= 1, 'actions for frames'
    total = Rule('shift', shift_s=ROOM_S + sum(shift_s for _, shift_s in JUMPS))
    injector.rule(CLOCK, total, Rule('freeze'))

    def repeated_ns():
        pairs = pairwise(watcher.clocks[clocks - 1 :])
        return next((b.at_ns for a, b in pairs if a.what.clock == b.what.clock), None)

    frozen_ns = rig.wait_for(repeated_ns, 'a frozen clock', 5.0)
    rig.expect_stop(frozen_ns, 'frozen_stop')
    rig.expect_named(frozen_ns, SYNCHRONIZER, 'no /clock', what='frozen_named')
    rig.figures['frames'] = clocks
    audit = drive.finish('file', 'chain', 'frames', since_ns=begun_ns, before_ns=jumped_ns)
    told = audit.checks['stamps'].faults + audit.events
    assert len(told) == len(JUMPS), f'jumps in the ledger: {told}'

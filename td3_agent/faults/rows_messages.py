# SPDX-License-Identifier: Apache-2.0
"""Rows in which messages are lost, doubled, late, out of order, or from another time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from td3_agent.faults.injector import CLOCK, CONTROL, IMAGE, ODOMETRY, STATUS, STEP
from td3_agent.faults.row import Outcome, row
from td3_agent.faults.scene import GATE, SYNCHRONIZER

if TYPE_CHECKING:
    from td3_agent.faults.scene import Scene

STEP_ROLES = {SYNCHRONIZER: {'real_time_factor': 2.0}, GATE: {}}


@row('F7', 'every message twice, then ten times')
def duplicated(scene: Scene) -> Outcome:
    """Exactly one action and one step per frame, however often messages come."""
    outcome = Outcome()
    through = (ODOMETRY, IMAGE, CLOCK, STATUS)
    drive = scene.drive(through, parameters=STEP_ROLES)
    scene.wait_good()
    begun_ns = time.monotonic_ns()
    for times in (2, 10):
        scene.injector.rules({topic: [{'kind': 'duplicate', 'times': times}] for topic in through})
        scene.wait_good(frames=40)
    counts = scene.injector.counts()
    outcome.figures |= {'messages_doubled': sum(c['duplicated'] for c in counts.values())}
    scene.p0(outcome, silence=(begun_ns, time.monotonic_ns()))
    audit = drive.audit(outcome, 'file', 'chain', 'frames', 'stamps', 'commands', 'applied')
    watcher = scene.watcher
    outcome.equal('steps sent for each frame', watcher.steps_sent() - len(audit.records), 0)
    outcome.figures |= {'frames': len(audit.records)}
    return outcome

# SPDX-License-Identifier: Apache-2.0
"""The row in which bytes come that no publisher sends."""

from __future__ import annotations

import os
import struct
import time
from typing import TYPE_CHECKING

from benchmarks.harness import BenchError, Program
from td3_agent.faults.fuzz import PLACE
from td3_agent.faults.row import Outcome, row

if TYPE_CHECKING:
    from td3_agent.faults.scene import Scene

MODULE = 'td3_agent.faults.fuzz'
BATCH = 20_000
BATCH_PATIENCE_S = 300.0
QUICK_CASES, ALL_CASES = 3_000, 1_000_000
QUICK_WIRED, ALL_WIRED = 300, 5_000  # published on the topics, not only handed to the readers


@row('F22', 'random bytes to every reader of every node')
def fuzzed(scene: Scene) -> Outcome:
    """Nothing but refusals comes of them, and the same nodes drive on afterwards."""
    outcome = Outcome()
    cases = scene.count or (QUICK_CASES if scene.quick else ALL_CASES)
    place = scene.folder / 'case'
    place.write_bytes(bytes(8))
    environment = dict(os.environ, **scene.environment) | {PLACE: str(place)}
    found: dict[str, int | list[str]] = {}
    begun_s = time.monotonic()
    try:
        with Program(MODULE, str(scene.seed), environment=environment) as program:
            for done in range(0, cases, BATCH):
                found = program.ask(str(min(BATCH, cases - done)), BATCH_PATIENCE_S)
                if found['broken_by']:
                    break
            took_s = time.monotonic() - begun_s
            wired = QUICK_WIRED if scene.quick else ALL_WIRED
            found = program.ask(f'wire {wired}', BATCH_PATIENCE_S)
            drives = program.ask('drive', BATCH_PATIENCE_S)['drives']
    except BenchError as error:
        (number,) = struct.unpack('<Q', place.read_bytes())
        text = f'{error}; case {number} of seed {scene.seed} was at work'
        outcome.check('P0 the nodes live', passed=False, found=text, wanted='alive')
        return outcome
    outcome.none('P0 exceptions', found['broken_by'])
    outcome.equal('cases', found['cases'], cases)
    outcome.least('published on topics', found['on the wire'], wired / 2)
    outcome.equal('P0 commands out of range', found['unsound commands'], 0)
    outcome.equal('P0 loops broken', found['loops broken'], 0)
    outcome.equal('the same nodes drive afterwards', drives, wanted=True)
    outcome.figures |= {
        'cases': cases,
        'per_s': round(cases / took_s),
        'published': found['on the wire'],
        'deserialised': found['handled'],
        'refused': found['refused'],
        'commands': found['commands'],
    }
    return outcome

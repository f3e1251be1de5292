# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Random bytes, and the messages that once broke a node.

``test/corpus/messages.json`` holds for each the reader (node and topic), the message in CDR as
hexadecimal digits, and what it did. A case that the fuzzer finds is added there.
"""

import json
import os
from pathlib import Path
import struct
import subprocess
import time

from faults.fuzz import Fuzzer
from harness.ros import Ros
import pytest
from rclpy.serialization import deserialize_message

from td3_agent.processes import free_domain_id

TEST = Path(__file__).parents[1]
CASES = json.loads((TEST / 'corpus' / 'messages.json').read_text('utf-8'))
QUICK_CASES, ALL_CASES = 3_000, 1_000_000
QUICK_WIRED, ALL_WIRED = 300, 5_000  # published on the topics, not only handed to the readers
LONGEST_S = 1200.0


@pytest.mark.case('F22', 'random bytes to every reader of every node')
def test_random_bytes(rig):
    """They are rejected, and the same nodes drive on afterwards."""
    cases = rig.count or (QUICK_CASES if rig.quick else ALL_CASES)
    wired = QUICK_WIRED if rig.quick else ALL_WIRED
    place = rig.folder / 'case'
    place.write_bytes(bytes(8))
    paths = os.pathsep.join([rig.environment['PYTHONPATH'], str(TEST)])
    begun_s = time.monotonic()
    done = subprocess.run(
        [*rig.python, 'faults.fuzz', *map(str, (rig.seed, cases, wired, place))],
        env=rig.environment | {'PYTHONPATH': paths},
        stdout=subprocess.PIPE,
        timeout=LONGEST_S,
        check=False,
    )
    (number,) = struct.unpack('<Q', place.read_bytes())
    assert done.returncode == 0, f'P0 the nodes live: case {number} of seed {rig.seed} was at work'
    found = json.loads(done.stdout.splitlines()[-1])
    assert found['broken by'] == [], 'P0 exceptions'
    assert number == cases - 1
    assert found['published'] >= wired / 2
    assert found['handled'] > cases / 5
    assert found['not deserialised'] > cases / 10
    assert found['unsound commands'] == found['loops broken'] == 0
    rig.figures |= {'cases': cases, 's': time.monotonic() - begun_s}
    rig.figures |= {name: found[name] for name in ('published', 'handled', 'rejected', 'commands')}


@pytest.fixture(scope='module')
def fuzzer():
    with Ros(free_domain_id()) as ros:
        yield Fuzzer(ros, 0)


@pytest.mark.parametrize('case', CASES, ids=lambda case: case['did'].replace(' ', '_')[:60])
def test_what_broke_a_node_is_survived(fuzzer, case):
    subscription = fuzzer.readers[case['reader']]
    msg = deserialize_message(bytes.fromhex(case['cdr']), subscription.msg_type)
    fuzzer.give(case['did'], subscription, msg)
    fuzzer.settle()
    assert fuzzer.broken == []
    assert fuzzer.counts['loops broken'] == fuzzer.counts['unsound commands'] == 0

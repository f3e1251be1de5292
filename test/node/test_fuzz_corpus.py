# SPDX-License-Identifier: Apache-2.0
"""What once broke a node, as bytes on the wire: it does not any more.

``test/corpus/messages.json`` holds for each case the reader (node and topic), the message in CDR
as hexadecimal digits, and what it did. A case that the fuzzer finds (row F22) is added there.
"""

import json
from pathlib import Path

import pytest
from rclpy.serialization import deserialize_message

from td3_agent.faults.fuzz import Fuzzer
from td3_agent.faults.inside import Inside

CASES = json.loads((Path(__file__).parents[1] / 'corpus' / 'messages.json').read_text('utf-8'))


@pytest.fixture(scope='module')
def fuzzer():
    with Inside() as inside:
        yield Fuzzer(inside, '0', lambda _: None)


@pytest.mark.parametrize('case', CASES, ids=lambda case: case['did'].replace(' ', '_')[:60])
def test_what_broke_a_node_is_survived(fuzzer, case):
    readers = dict(fuzzer._targets.readers)
    subscription = readers[case['reader']]
    msg = deserialize_message(bytes.fromhex(case['cdr']), subscription.msg_type)
    fuzzer.give(case['did'], subscription, msg)
    fuzzer._settle()
    assert fuzzer.broken == []
    assert fuzzer.counts['loops broken'] == 0
    assert fuzzer.counts['unsound commands'] == 0


def test_a_few_random_cases_break_nothing(fuzzer):
    fuzzer.run(500)
    assert fuzzer.broken == []
    assert fuzzer.counts['handled'] > 100
    assert fuzzer.counts['not deserialised'] > 50


def test_the_same_nodes_drive_on(fuzzer):
    assert fuzzer.still_drives()

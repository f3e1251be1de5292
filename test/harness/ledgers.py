# SPDX-License-Identifier: Apache-2.0
"""What records of a ledger must be, without the file and the hashes around them."""

from td3_agent.driving.ledger import EVENT, SKIPPED, has_slipped, neighbours
from td3_agent.driving.ledger_audit import order_faults, slip_text


def check_ledger(records):
    """Return every fault of the records as a sentence."""
    records = list(records)
    faults = [fault for record in records if EVENT not in record for fault in faults_of(record)]
    for before, record in neighbours(records):
        faults += order_faults(before, record)
    return faults


def faults_of(record):
    """Return what is wrong with a frame by itself."""
    if record['outcome'] == SKIPPED:
        return [f'frame {record["frame"]}: skipped']
    if has_slipped(record):
        return [slip_text(record)]
    if record['commands'] > 1:
        return [f'frame {record["frame"]}: {record["commands"]} commands']
    return []

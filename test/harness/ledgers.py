# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Records of a clean drive, and a check of records without a file."""

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.ledger import (
    EVENT,
    SKIPPED,
    FrameLog,
    is_misapplied,
    neighbours,
)
from td3_agent.driving.ledger_audit import misapplied_text, order_faults

STEP_NS = 50_000_000
START_NS = 10 * 10**9
FRAME_ZERO = 100  # the bridge counts from any number
ROLE = 'ego_vehicle'


def stamp(i):
    return START_NS + i * STEP_NS


def command(i):
    """Return a command that is unique to frame i."""
    return VehicleControl(throttle=i / 1024.0)


def facts_of(i):
    """Return the notes of frame i, each as (method, arguments, fields)."""
    return [
        ('note_command', (stamp(i), command(i)), {'received_ns': 1000 + i}),
        ('note_status', (stamp(i), command(i - 1)), {}),
        ('note', (stamp(i),), {'outcome': 'ok'}),
        ('note', (stamp(i),), {'x_m': float(i)}),
    ]


def tell(log, fields):
    method, args, kwargs = fields
    getattr(log, method)(*args, **kwargs)


def clean_drive(frames, log=None):
    """Return the log and all records of a drive in order."""
    log, records = log or FrameLog(ROLE), []
    for i in range(1, frames + 1):
        for fields in facts_of(i):
            tell(log, fields)
        records += log.close_frame(FRAME_ZERO + i, stamp(i))
    return log, records + log.flush()


def check_ledger(records):
    """Return every fault of the records as a sentence."""
    records = list(records)
    faults = [fault for record in records if EVENT not in record for fault in faults_of(record)]
    for before, record in neighbours(records):
        faults += order_faults(before, record)
    return faults


def faults_of(record):
    """Return the faults of one frame."""
    if record['outcome'] == SKIPPED:
        return [f'frame {record["frame"]}: skipped']
    if is_misapplied(record):
        return [misapplied_text(record)]
    if record['commands'] > 1:
        return [f'frame {record["frame"]}: {record["commands"]} commands']
    return []

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the ledger of a drive says of it at its end."""

from __future__ import annotations

import pytest

from td3_agent.driving.command import FULL_BRAKE
from td3_agent.driving.endpoints import Finding
from td3_agent.driving.ledger import read_findings, read_ledger
from td3_agent.driving.stepping import EndedFrame
from td3_agent.driving.synchronizer import DriveLedger

STEP_NS = 50_000_000
BRIDGES = Finding('two bridges in ROS domain 7', is_error=True)
CAMERA = Finding('td3_agent: every second frame has no image', is_error=False)


def driven(path, roles=('ego_vehicle',), frames=60, stopped=lambda _role, frame: frame % 2):
    ledger = DriveLedger(roles, str(path), 6, pytest.fail)
    for frame in range(1, frames + 1):
        for role in roles:
            outcome = 'stopped_no_command' if stopped(role, frame) else 'ok'
            ledger.logs[role].note_command(frame * STEP_NS, FULL_BRAKE, 0)
            ledger.logs[role].note(frame * STEP_NS, outcome=outcome)
        ledger.close_ended([EndedFrame(frame, frame * STEP_NS)], {})
    return ledger


def test_stopped_frames_fail_the_drive_and_their_cause_stands_in_the_ledger(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    ledger = driven(path)
    (now,) = ledger.findings()
    assert now.text.startswith('every second frame is without the command of the driver')
    error, cause = ledger.close([CAMERA])
    assert error.is_error
    assert error.text.startswith('30 of 60 frames without the command of the driver')
    assert cause == CAMERA
    assert read_findings(path) == [error, cause]
    assert len(list(read_ledger(path))) == 60


def test_a_good_drive_has_no_findings_and_a_disturbed_one_has_its_reason(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    good = driven(path, stopped=lambda _role, frame: frame == 7)
    assert good.findings() == good.close() == read_findings(path) == []
    assert driven(path, stopped=lambda *_: False).close([CAMERA, BRIDGES]) == [BRIDGES, CAMERA]
    assert read_findings(path) == [BRIDGES, CAMERA]


def test_the_vehicle_is_named_where_there_are_several(tmp_path):
    ledger = driven(tmp_path / 'l', ('a', 'b'), stopped=lambda role, _frame: role == 'b')
    assert [finding.text[:3] for finding in ledger.findings()] == ['b: ']
    (found,) = ledger.close()
    assert found.text.startswith('b: 60 of 60 frames')


def test_a_ledger_that_was_cut_off_says_nothing(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    driven(path).close()
    path.write_bytes(path.read_bytes()[:-9])
    assert read_findings(path) == []
    path.write_bytes(b'')
    assert read_findings(path) == []

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a ledger file: every guarantee of the lockstep, from the file alone.

The chain of line hashes shows lines that were lost, changed or moved; it is no signature, since a
user who rewrites the whole file can recompute it. Observation hashes can only be compared (images
are not recorded); action hashes and Twists are recomputed.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
import math
import re
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.agent import action_sha256
from td3_agent.driving.command import ACTION_SIZE, twist_from_action
from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import (
    CHAIN_TAIL,
    EVENT,
    EVENTS,
    FREE_RUNNING,
    IDLE,
    NO_COMMAND,
    RESTARTED,
    SKIPPED,
    UNREPORTED,
    LedgerError,
    LogCounts,
    chained,
    is_end,
    is_misapplied,
    neighbours,
    parse_line,
    read_header,
)
from td3_agent.driving.stages import end_to_end_ns, stage_durations_ns, timestamps_ns

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

ANSWERED = frozenset(outcome.value for outcome in Outcome)
UNANSWERED = frozenset({NO_COMMAND, UNREPORTED, SKIPPED})
SHA256 = re.compile(r'[0-9a-f]{64}')
NEEDED = {'frame': int, 'role_name': str, 'outcome': str}
NEEDED_UNLESS_SKIPPED = {'stamp_ns': int, 'commands': int}
MAY_BE_NULL_UNLESS_SKIPPED = ('sent', 'applied')
NEEDED_BY_EVENTS = {EVENT: str, 'role_name': str, 'frames': int}
EVENT_TEXTS = {
    IDLE: '{} idle ticks',
    RESTARTED: 'the bridge was started again, or its time ran back, {} times',
    FREE_RUNNING: '{} frames without a step',
}
# CARLA truncates stamps of floating-point seconds; a frame is at least 1 ms.
STEP_TOLERANCE_NS = 1_000
SUM_TOLERANCE = 0.05  # of the end-to-end time

Record = dict[str, Any]


@dataclass(frozen=True)
class CheckResult:
    """The result of one check.

    Attributes:
        note: what was checked, in a few words.
        faults: one sentence each.
    """

    note: str
    faults: list[str] = field(default_factory=list)

    @property
    def holds(self) -> bool:
        return not self.faults


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The audit of a ledger file.

    Attributes:
        records: its readable frames.
        events: between frames, see :data:`td3_agent.driving.ledger.EVENTS`.
        counts: totals.
        torn_bytes: length of an incomplete last line [bytes]; 0 if there is none.
        ended: whether its writer closed it; otherwise it was killed, or still writes.
        checks: what each check found.
    """

    records: list[Record]
    events: list[Record]
    counts: LogCounts
    torn_bytes: int
    ended: bool
    checks: dict[str, CheckResult]

    @property
    def holds(self) -> bool:
        """Whether every check holds; a torn last line is no fault."""
        return all(check.holds for check in self.checks.values())


@dataclass
class _Lines:
    """The lines of a file, and their faults."""

    records: list[Record] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    chain_faults: list[str] = field(default_factory=list)
    end: Record | None = None
    torn_bytes: int = 0


def audit_ledger(path: Path) -> Audit:
    """Check the ledger file ``path``.

    Raises:
        LedgerError: the file is no ledger, or has an unknown schema.
        OSError: it cannot be read.
    """
    lines = _read(path)
    readable = [record for record in lines.records if not _lacks(record)]
    records = [record for record in readable if EVENT not in record]
    events = [record for record in readable if EVENT in record]
    counts = LogCounts()
    for record in records:
        counts.add(record)
    return Audit(
        records=records,
        events=events,
        counts=counts,
        torn_bytes=lines.torn_bytes,
        ended=lines.end is not None,
        checks={
            'file': _check_file(lines),
            'chain': _check_chain(lines),
            'frames': _check_frames(records, readable),
            'events': _check_events(events),
            'stamps': _check_stamps(readable),
            'outcomes': _check_outcomes(records, counts),
            'commands': _check_commands(records),
            'applied': _check_applied(records, readable),
            'hashes': _check_hashes(records, readable),
            'stages': _check_stages(records),
        },
    )


def _read(path: Path) -> _Lines:
    """Read a whole file; an invalid line is a fault, a torn last one is not."""
    with path.open('rb') as file:
        first = next(file, b'')
        read_header(path, first)
        lines = _Lines()
        chain = _follow_chain(lines, 1, '', first)
        for number, line in enumerate(file, start=2):
            if not line.endswith(b'\n'):
                lines.torn_bytes = len(line)
                break
            chain = _follow_chain(lines, number, chain, line)
            _take_line(lines, path, number, line)
    return lines


def _take_line(lines: _Lines, path: Path, number: int, line: bytes) -> None:
    if lines.end is not None:
        lines.faults.append(f'line {number} comes after the end')
    try:
        record = parse_line(path, number, line)
    except LedgerError as error:
        lines.faults.append(str(error))
        return
    if is_end(record):
        lines.end = record
        return
    if lack := _lacks(record):
        lines.faults.append(f'line {number}: {lack}')
    lines.records.append(record)


def _lacks(record: Record) -> str:
    """Return the missing fields of a record, as a sentence; empty if none is missing."""
    if EVENT in record:
        return ', '.join(_of_another_type(record, NEEDED_BY_EVENTS))
    skipped = record.get('outcome') == SKIPPED
    timestamps = {name: int for name in record if name.endswith('_ns') and name != 'stages_ns'}
    needed = NEEDED | timestamps | ({} if skipped else NEEDED_UNLESS_SKIPPED)
    faults = _of_another_type(record, needed)
    there = () if skipped else MAY_BE_NULL_UNLESS_SKIPPED
    return ', '.join(faults + [f'{name} must be there' for name in there if name not in record])


def _of_another_type(record: Record, needed: Mapping[str, type]) -> list[str]:
    return [
        f'{name} must be {kind.__name__}, got {record.get(name)!r}'
        for name, kind in needed.items()
        if type(record.get(name)) is not kind
    ]


def _follow_chain(lines: _Lines, number: int, before: str, line: bytes) -> str:
    """Check the hash of a line; return the one that the next line continues."""
    tail = CHAIN_TAIL.search(line)
    if tail is None:
        lines.chain_faults.append(f'line {number} has no hash')
        return before
    recorded = tail[1].decode()
    if chained(before, line[: tail.start()] + b'}') != recorded:
        lines.chain_faults.append(f'line {number} is not the one that was written after the last')
    return recorded  # so that one change is one fault


def _check_file(lines: _Lines) -> CheckResult:
    """Every line is a record, and the last one is the end."""
    faults = list(lines.faults)
    if lines.end is not None and lines.end.get('records') != len(lines.records):
        written = lines.end.get('records')
        faults.append(f'{written} records were written, {len(lines.records)} are here')
    if lines.torn_bytes:
        note = f'torn: the last {lines.torn_bytes} bytes are half a line, its writer was killed'
    elif lines.end is not None:
        note = 'ended'
    else:
        note = 'no end: its writer was killed, or is still at work'
    return CheckResult(f'{len(lines.records)} records, {note}', faults)


def _check_chain(lines: _Lines) -> CheckResult:
    """Every line follows the line before it."""
    return CheckResult('every line follows the one before', lines.chain_faults)


def _check_frames(records: Sequence[Record], readable: Sequence[Record]) -> CheckResult:
    """Frame numbers are without a gap, and no frame was skipped."""
    faults = [f'frame {r["frame"]}: skipped' for r in records if r['outcome'] == SKIPPED]
    for before, record in neighbours(readable):
        faults += order_faults(_without_stamp(before), _without_stamp(record))
    numbers = [record['frame'] for record in records]
    note = f'{min(numbers)} to {max(numbers)}' if numbers else 'none'
    return CheckResult(note, faults if records else ['there are no records'])


def _without_stamp(record: Record) -> Record:
    return {name: record[name] for name in ('frame', 'idle') if name in record}


def misapplied_text(record: Record) -> str:
    return f'frame {record["frame"]}: applied {record["applied"]}, sent {record["sent"]}'


def order_faults(before: Record, record: Record) -> list[str]:
    """Return how a record does not follow the one before it, in frame number or time."""
    frame, idle = record['frame'], before.get('idle', 0)
    faults = []
    if frame != before['frame'] + idle + 1:
        between = f' and {idle} idle ticks' if idle else ''
        faults.append(f'frame {frame} follows frame {before["frame"]}{between}')
    if 'stamp_ns' in record and record['stamp_ns'] <= before.get('stamp_ns', -1):
        faults.append(
            f'frame {frame}: time went from {before["stamp_ns"]} to {record["stamp_ns"]}'
        )
    return faults


def _check_events(events: Sequence[Record]) -> CheckResult:
    """Every event is known."""
    faults = [f'unknown event {event[EVENT]!r}' for event in events if event[EVENT] not in EVENTS]
    faults += [f'{e[EVENT]} of {e["frames"]} frames' for e in events if e['frames'] < 0]
    counted: Counter[tuple[str, str]] = Counter()
    for event in events:
        times = 1 if event[EVENT] == RESTARTED else event['frames']
        counted[event['role_name'], event[EVENT]] += times
    notes = [
        text.format(most)
        for name, text in EVENT_TEXTS.items()
        if (most := max((n for (_, kind), n in counted.items() if kind == name), default=0))
    ]
    return CheckResult(', '.join(notes) or 'none', faults)


def _check_stamps(records: Sequence[Record]) -> CheckResult:
    """Simulated time grows by the same step from frame to frame."""
    pairs = [
        (before, record)
        for before, record in neighbours(r for r in records if EVENT in r or 'stamp_ns' in r)
        if record['frame'] > before['frame']
    ]
    if not pairs:
        return CheckResult('fewer than two frames')
    steps = [
        (r['stamp_ns'] - before['stamp_ns']) / (r['frame'] - before['frame'])
        for before, r in pairs
    ]
    usual_ns = median(steps)
    faults = [
        f'frame {record["frame"]}: {step_ns / 1e6:g} ms after the frame before, '
        f'expected {usual_ns / 1e6:g} ms'
        for (_, record), step_ns in zip(pairs, steps, strict=True)
        if step_ns <= 0 or abs(step_ns - usual_ns) > STEP_TOLERANCE_NS
    ]
    return CheckResult(f'rising by {usual_ns / 1e6:g} ms', faults)


def _check_outcomes(records: Sequence[Record], counts: LogCounts) -> CheckResult:
    """Every outcome is known."""
    faults = [
        f'frame {record["frame"]}: unknown outcome {record["outcome"]!r}'
        for record in records
        if record['outcome'] not in ANSWERED | UNANSWERED
    ]
    return CheckResult(', '.join(f'{name} {n}' for name, n in counts.outcomes.items()), faults)


def _check_commands(records: Sequence[Record]) -> CheckResult:
    """Every frame got exactly one command, and the gate reported it."""
    faults = []
    for record in records:
        outcome = record['outcome']
        if outcome == SKIPPED:
            continue
        if record['commands'] != 1 or not isinstance(record.get('sent'), dict):
            faults.append(f'frame {record["frame"]}: {record["commands"]} commands, {outcome}')
        elif outcome in UNANSWERED:
            faults.append(f'frame {record["frame"]}: {outcome}')
    return CheckResult('one for each frame', faults)


def _check_applied(records: Sequence[Record], readable: Sequence[Record]) -> CheckResult:
    """The vehicle executed what was sent; only the last frame of a drive is not confirmed."""
    faults = [misapplied_text(r) for r in records if r['outcome'] != SKIPPED and is_misapplied(r)]
    faults += [
        f'frame {before["frame"]}: no vehicle_status confirms the command'
        for before, record in neighbours(readable)
        if before.get('sent') is not None
        and before.get('applied') is None
        and record['outcome'] != SKIPPED
        and record['frame'] == before['frame'] + 1
        and not _is_vehicle_gone(record)
    ]
    confirmed = sum(record.get('applied') is not None for record in records)
    return CheckResult(f'as sent in {confirmed} of {len(records)} frames', faults)


def _is_vehicle_gone(record: Record) -> bool:
    """Whether the vehicle may have been destroyed in the tick of a frame."""
    return record['outcome'] != Outcome.OK.value and record.get('applied') is None


def _check_hashes(records: Sequence[Record], readable: Sequence[Record]) -> CheckResult:
    """Answered frames have well-formed hashes; those of actions, and the Twists, are right.

    An agent that ends or is killed may leave its last frame without a report.
    """
    faults: list[str] = []
    counted: Counter[str] = Counter()
    last_words = {
        (before['role_name'], before['frame'])
        for before, record in neighbours(readable)
        if record['outcome'] == Outcome.NO_COMMAND.value
    }
    last_words |= set({r['role_name']: r['frame'] for r in records}.items())
    for record in records:
        if (record['role_name'], record['frame']) in last_words and 'action' not in record:
            continue
        faults += [f'frame {record["frame"]}: {text}' for text in _hash_faults(record, counted)]
    note = f'{counted["seen"]} observations; {counted["acted"]} actions computed again'
    return CheckResult(note, faults)


def _hash_faults(record: Record, counted: Counter[str]) -> Iterator[str]:
    seen, action = record.get('observation_sha256'), _action(record)
    if seen is None and 'action' not in record:
        if record['outcome'] == Outcome.OK.value:
            why = record.get('agent_error', 'the agent has reported nothing')
            yield f'no observation hash: {why}'
        return
    counted['seen'] += 1
    if not isinstance(seen, str) or not SHA256.fullmatch(seen):
        yield f'observation_sha256 must be 64 hexadecimal digits, got {seen!r}'
    if action is None:
        yield f'action must be two finite numbers, got {record.get("action")!r}'
        return
    counted['acted'] += 1
    if 'action_sha256' in record and record['action_sha256'] != action_sha256(action):
        yield f'action_sha256 is not that of action {action}'
    twist = twist_from_action(np.array(action, dtype=np.float32))
    if 'twist' in record and record['twist'] != [twist.linear_x, twist.angular_z]:
        yield f'twist {record["twist"]} does not come from action {action}'


def _action(record: Record) -> list[float] | None:
    """Return the action of a frame, or None if it is not two finite numbers."""
    action = record.get('action')
    if not isinstance(action, list) or len(action) != ACTION_SIZE:
        return None
    return action if all(type(a) is float and math.isfinite(a) for a in action) else None


def _check_stages(records: Sequence[Record]) -> CheckResult:
    """Stages agree with the timestamps and add up to the end-to-end time."""
    timed, faults, largest = 0, [], 0.0
    for record in records:
        if timestamps_ns(record) is None or record['outcome'] != Outcome.OK.value:
            continue
        timed += 1
        stages, whole_ns = record.get('stages_ns'), end_to_end_ns(record) or 0
        if stages is None or stages != stage_durations_ns(record):
            faults.append(f'frame {record["frame"]}: stages_ns is not what the timestamps say')
            continue
        fraction = abs(sum(stages.values()) - whole_ns) / max(whole_ns, 1)
        largest = max(largest, fraction)
        if fraction > SUM_TOLERANCE:
            faults.append(
                f'frame {record["frame"]}: stages take {sum(stages.values()) / 1e6:.3f} ms, '
                f'the whole {whole_ns / 1e6:.3f} ms'
            )
    if not timed:
        return CheckResult('not timed')
    return CheckResult(f'add up in {timed} frames, within {largest:.2%}', faults)

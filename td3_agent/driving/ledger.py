# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The ledger: every frame of a drive with its outcome, one JSON object per line, no gaps.

Idle ticks and restarts of the bridge are *events* between frames, with their own records.

:class:`FrameLog` collects the fields of a frame from several topics, in any order, and returns
them as one record; :class:`LedgerWriter` writes records to disk.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
import hashlib
import json
import re
import time
from typing import TYPE_CHECKING, Any

from td3_agent.driving.command import FULL_BRAKE
from td3_agent.driving.endpoints import Finding
from td3_agent.driving.gate import Outcome
from td3_agent.driving.stages import stage_durations_ns
from td3_agent.driving.stepping import MOST_SKIPPED, Break, Cause, EndedFrame

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Self

    from td3_agent.driving.command import VehicleControl

SCHEMA_VERSION = 3
KIND = 'td3_agent ledger'
CHAIN = 'chain_sha256'
CHAIN_TAIL = re.compile(rb',"chain_sha256":"([0-9a-f]{64})"\}\n\Z')
NO_COMMAND = 'no_command'  # the frame got no command
IN_ADVANCE = Outcome.IN_ADVANCE.value
UNREPORTED = 'unreported'  # a command was seen, but no report of the gate
SKIPPED = 'skipped'  # the bridge ticked without a step of ours
EVENT = 'event'  # field that names the kind of an event
IDLE = 'idle'  # event: ticks with full brake while something is missing
RESTARTED, FREE_RUNNING = Cause.RESTARTED.value, Cause.FREE_RUNNING.value
EVENTS = (IDLE, RESTARTED, FREE_RUNNING)
# Reports of a frame arrive within a frame or two of its end; later ones are dropped.
LAG_FRAMES = 4
# Frames not yet written: those, and the one that ended last.
UNWRITTEN_FRAMES = LAG_FRAMES + 1
PARTS_KEPT = 64


def control_record(control: VehicleControl) -> dict[str, Any]:
    """Return the fields of a command that are compared and recorded."""
    return {
        'throttle': control.throttle,
        'steer': control.steer,
        'brake': control.brake,
        'reverse': control.reverse,
        'hand_brake': control.hand_brake,
    }


@dataclass
class LogCounts:
    """Totals over the records of a ledger.

    Attributes:
        frames: records without skipped frames.
        outcomes: number of each outcome.
        skipped: frames without a step of ours.
        duplicate: frames with more than one command.
        misapplied: frames after which the vehicle executed another command than the one sent.
    """

    frames: int = 0
    outcomes: dict[str, int] = field(default_factory=dict)
    skipped: int = 0
    duplicate: int = 0
    misapplied: int = 0

    @property
    def violations(self) -> int:
        """Frames skipped, plus duplicate and misapplied commands."""
        return self.skipped + self.duplicate + self.misapplied

    def add(self, record: dict[str, Any]) -> None:
        outcome = record['outcome']
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1
        if outcome == SKIPPED:
            self.skipped += 1
            return
        self.frames += 1
        self.duplicate += record['commands'] > 1
        self.misapplied += is_misapplied(record)


def is_misapplied(record: dict[str, Any]) -> bool:
    """Whether the vehicle executed another command than the one sent for the frame.

    It may also execute the idle stop after the frame.
    """
    sent = (None, record['sent'], record.get('idle_stop', record['sent']))
    return record['sent'] is not None and record['applied'] not in sent


class FrameLog:
    """Collects one role's frames and returns their records in order.

    :meth:`close_frame` closes a frame; other fields may come before, or within the next frames.
    ``vehicle_status`` of the following frame confirms the command.
    """

    def __init__(self, role_name: str) -> None:
        self._role_name = role_name
        self._parts: dict[int, dict[str, Any]] = {}  # by stamp [ns]
        self._closed: list[_Closed] = []  # not yet returned
        self._last_frame: int | None = None
        self._idle_stop: dict[str, Any] | None = None  # the newest one
        self.counts = LogCounts()

    def note(self, stamp_ns: int, **fields: Any) -> None:  # noqa: ANN401  JSON values
        """Add fields to the record of frame ``stamp_ns`` [ns]."""
        self._part(stamp_ns).update(fields)

    def note_command(self, stamp_ns: int, control: VehicleControl, received_ns: int) -> None:
        """Add a command seen for a frame; a second one is a duplicate."""
        part = self._part(stamp_ns)
        part['commands'] = part.get('commands', 0) + 1
        if 'sent' not in part:
            part['sent'] = control_record(control)
            part['command_received_ns'] = received_ns

    def note_idle_stop(self, stamp_ns: int) -> None:
        """Add an idle stop that the gate has reported.

        Its command has the stamp of the frame, and is seen before or after this.
        """
        part = self._part(stamp_ns)
        part['idle_stops'] = part.get('idle_stops', 0) + 1
        self._idle_stop = part['idle_stop'] = control_record(FULL_BRAKE)

    def note_status(self, stamp_ns: int, control: VehicleControl) -> None:
        """Add the command that vehicle_status of a frame reports as executed during its step."""
        self._part(stamp_ns)['echo'] = control_record(control)

    def close(self, ended: EndedFrame | Break) -> list[dict[str, Any]]:
        """End a frame, or note a break; return the records that are complete."""
        if isinstance(ended, Break):
            return self._close_break(ended)
        if ended.is_idle:
            return self._close_idle(ended)
        return self.close_frame(ended.frame, ended.stamp_ns)

    def close_frame(self, frame: int, stamp_ns: int) -> list[dict[str, Any]]:
        """End a frame; return the records that are complete, oldest first."""
        self._closed.append(_Closed(frame, stamp_ns))
        return self._release(LAG_FRAMES)

    def _close_break(self, found: Break) -> list[dict[str, Any]]:
        """Note a break; a restart drops what came before."""
        event = self._event(found.cause.value, frames=found.frames)
        self._closed.append(_Closed(event=event))
        if found.cause is not Cause.RESTARTED:
            return self._release(LAG_FRAMES)
        parts, old = self._parts, {closed.stamp_ns for closed in self._closed}
        records = self.flush()
        self._last_frame = None
        newest_ns = 0 if found.stamp_ns is None else found.stamp_ns
        self._parts = {at: p for at, p in parts.items() if at <= newest_ns and at not in old}
        return records

    def _close_idle(self, ended: EndedFrame) -> list[dict[str, Any]]:
        """Count an idle tick; consecutive ones are one event."""
        last = self._closed[-1] if self._closed else None
        if last is None or last.event.get(EVENT) != IDLE or last.frame != ended.frame - 1:
            event = self._event(IDLE, frames=0, last_frame=ended.frame)
            last = _Closed(ended.frame, event=event)
            self._closed.append(last)
        last.frame = last.event['last_frame'] = ended.frame
        last.event['frames'] += 1
        if last.event['frames'] <= LAG_FRAMES:
            return []
        records = self._release(1)
        self._parts = {at: p for at, p in self._parts.items() if at > ended.stamp_ns}
        return records

    def _event(self, name: str, **fields: int) -> dict[str, Any]:
        return {EVENT: name, 'role_name': self._role_name, **fields}

    def flush(self) -> list[dict[str, Any]]:
        """Return the remaining records; the last frame's command stays unconfirmed."""
        return self._release(0)

    def _part(self, stamp_ns: int) -> dict[str, Any]:
        """Return the known fields of a frame; frames that were never closed are dropped."""
        if stamp_ns not in self._parts and len(self._parts) >= PARTS_KEPT:
            closed = {one.stamp_ns for one in self._closed}
            del self._parts[min(self._parts.keys() - closed)]
        return self._parts.setdefault(stamp_ns, {})

    def _release(self, keep: int) -> list[dict[str, Any]]:
        """Return all but the newest ``keep`` closed frames and events as records."""
        records: list[dict[str, Any]] = []
        while len(self._closed) > keep:
            closed = self._closed.pop(0)
            if closed.event:
                records += self._skipped_before(closed.frame, closed.event['frames'])
                records.append(closed.event)
                continue
            following_ns = self._closed[0].stamp_ns if self._closed else None
            records += self._skipped_before(closed.frame)
            records.append(self._record(closed.frame, closed.stamp_ns, following_ns))
            self._parts = {at: part for at, part in self._parts.items() if at > closed.stamp_ns}
        return records

    def _skipped_before(self, frame: int, frames: int = 1) -> list[dict[str, Any]]:
        """Return records for the frames between the last one and this one.

        Args:
            frame: number of this one, or of the last of ``frames`` idle ticks; -1 is no frame.
            frames: number that end here.
        """
        if frame < 0:
            return []
        last, self._last_frame = self._last_frame, frame
        if last is None or frame - last > MOST_SKIPPED:
            return []
        missed = range(last + 1, frame - frames + 1)
        records = [
            {'frame': number, 'role_name': self._role_name, 'outcome': SKIPPED}
            for number in missed
        ]
        for record in records:
            self.counts.add(record)
        return records

    def _record(self, frame: int, stamp_ns: int, next_stamp_ns: int | None) -> dict[str, Any]:
        part = self._parts.get(stamp_ns, {})
        part.pop('echo', None)
        if idle_stops := part.pop('idle_stops', 0):
            part['commands'] = max(part.get('commands', 0) - idle_stops, 0)
            if not part['commands']:  # only idle stops were seen
                part.pop('sent', None)
        if part.get('outcome') == IN_ADVANCE and self._idle_stop is not None:
            part['commands'] = part.get('commands', 0) + 1
            part.setdefault('sent', self._idle_stop)
        following = self._parts.get(next_stamp_ns, {}) if next_stamp_ns is not None else {}
        record = {
            'frame': frame,
            'stamp_ns': stamp_ns,
            'role_name': self._role_name,
            'outcome': UNREPORTED if 'sent' in part else NO_COMMAND,
            'commands': 0,
            'sent': None,
            'applied': following.get('echo'),
            **part,
        }
        durations = stage_durations_ns(record)
        if durations is not None:
            record['stages_ns'] = durations
        self.counts.add(record)
        return record


@dataclass
class _Closed:
    """A frame that has ended, or an event.

    Attributes:
        frame: its number; for an event the last one, -1 without any.
        stamp_ns: simulated time of a frame [ns].
        event: record of the event; empty for a frame.
    """

    frame: int = -1
    stamp_ns: int = -1
    event: dict[str, Any] = field(default_factory=dict)


class LedgerWriter:
    """Appends records to a JSON-lines file; a kill loses less than ``flush_every`` of them.

    Flushed lines survive the process, but not a crash of the machine. Each line carries the hash
    of itself and all lines before it, and the end record the number of records, so that a reader
    can detect a kill and an edited ledger.

    Attributes:
        slowest_ns: longest call of :meth:`write` so far [ns].
    """

    def __init__(self, path: Path, flush_every: int = 20, kind: str = KIND) -> None:
        """Create ``path`` and its folder; it replaces an older ledger.

        Raises:
            OSError: the file cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open('wb')
        self._flush_every = flush_every
        self._unflushed = self._records = 0
        self.slowest_ns = 0
        self._chain = ''
        self._append({'schema_version': SCHEMA_VERSION, 'kind': kind})
        self._file.flush()  # a file without its header is no ledger

    def write(self, record: dict[str, Any]) -> None:
        start_ns = time.monotonic_ns()
        self._append(record)
        self._records += 1
        self._unflushed += 1
        if self._unflushed >= self._flush_every:
            self._file.flush()
            self._unflushed = 0
        self.slowest_ns = max(self.slowest_ns, time.monotonic_ns() - start_ns)

    def close(self, findings: Iterable[Finding] = ()) -> None:
        """Write the rest and the end record with the findings, and close the file."""
        if not self._file.closed:
            end: dict[str, Any] = {'end': True, 'records': self._records}
            rows = [{'text': one.text, 'is_error': one.is_error} for one in findings]
            if rows:
                end['findings'] = rows
            self._append(end)
            self._file.close()

    def abandon(self) -> None:
        """Close the file without an end record, whatever the disk still takes."""
        with suppress(OSError):
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error: object, *_: object) -> None:
        """Close the file; after an error it has no end record."""
        if error is None:
            self.close()
        self._file.close()

    def _append(self, record: dict[str, Any]) -> None:
        """Write one line with the hash of all lines up to it."""
        body = json.dumps(record, separators=(',', ':')).encode()
        self._chain = chained(self._chain, body)
        self._file.write(b'%b,"%b":"%b"}\n' % (body[:-1], CHAIN.encode(), self._chain.encode()))


def chained(before: str, body: bytes) -> str:
    """Return the hash of a line, given that of the line before; '' before the first."""
    return hashlib.sha256(before.encode() + body).hexdigest()


class LedgerError(ValueError):
    """A ledger cannot be read; the text names file, line and fault."""


def read_ledger(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the frames of a ledger, without header, events, line hashes and end.

    Raises:
        LedgerError: not a ledger, another schema, or a line that is not a JSON object. A last
            line cut short by a kill ends the ledger without an error.
    """
    with path.open('rb') as lines:
        read_header(path, next(lines, b''))
        for number, line in enumerate(lines, start=2):
            if not line.endswith(b'\n'):
                return
            record = parse_line(path, number, line)
            if not (is_end(record) or EVENT in record):
                yield record


def read_findings(path: Path) -> list[Finding]:
    """Return the findings in the end record of a ledger; none without that record.

    Raises:
        LedgerError: the last line is no JSON object.
    """
    with path.open('rb') as lines:
        last = next(iter(deque(lines, maxlen=1)), b'')
    rows = parse_line(path, -1, last).get('findings', []) if last.endswith(b'\n') else []
    return [
        Finding(str(one['text']), is_error=bool(one['is_error']))
        for one in rows
        if isinstance(one, dict) and one.keys() >= {'text', 'is_error'}
    ]


def read_header(path: Path, line: bytes) -> dict[str, Any]:
    """Return the header of a ledger from the first line of ``path``.

    Raises:
        LedgerError: not a ledger, or another schema.
    """
    header = parse_line(path, 1, line)
    if header.get('schema_version') != SCHEMA_VERSION:
        raise LedgerError(f'{path}: schema_version must be {SCHEMA_VERSION}, got {header}')
    return header


def is_end(record: dict[str, Any]) -> bool:
    """Whether a line is the end record that a writer adds on closing."""
    return record.get('end') is True


def parse_line(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """Return line ``number`` of ``path`` as a record without its hash.

    Raises:
        LedgerError: not a JSON object.
    """
    try:
        record = json.loads(line)
    except ValueError as error:  # not JSON, or not even text
        raise LedgerError(f'{path}:{number}: not JSON: {error}') from error
    if not isinstance(record, dict):
        raise LedgerError(f'{path}:{number}: must be a JSON object, got {line[:40]!r}')
    record.pop(CHAIN, None)
    return record


def neighbours(records: Iterable[dict[str, Any]]) -> Iterator[tuple[Any, Any]]:
    """Yield each frame with the one before it of the same drive and role.

    Idle ticks between the two count as frames of the drive; a restart of the bridge separates
    frames.
    """
    last: dict[tuple[Any, str], dict[str, Any]] = {}
    for record in records:
        drive = (record.get('episode'), record['role_name'])
        if record.get(EVENT) == RESTARTED:
            last.pop(drive, None)
        elif record.get(EVENT) == IDLE:
            if drive in last:
                last[drive] = {
                    **last[drive],
                    'idle': last[drive].get('idle', 0) + record['frames'],
                }
        elif EVENT not in record:
            if drive in last:
                yield last[drive], record
            last[drive] = record

# SPDX-License-Identifier: Apache-2.0
"""The ledger of a drive that is under way: a log for each vehicle, one file, the stages.

A disk that takes no more ends the ledger and not the drive.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from td3_agent.driving.ledger import SKIPPED, UNWRITTEN_FRAMES, FrameLog, LedgerWriter
from td3_agent.driving.loop_check import OutcomeWindow, drive_findings
from td3_agent.driving.stages import StageWindow
from td3_agent.driving.stepping import EndedFrame

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.stepping import Break


class DriveLedger:
    """What is written down of a drive.

    Attributes:
        logs: frames of each vehicle, by role name.
        writer: of the file; None where there is none, or it has ended.
        fault: why the file has ended; empty while it has not.
    """

    def __init__(
        self,
        role_names: Iterable[str],
        path: str,
        flush_frames: int,
        on_fault: Callable[[str], None],
    ) -> None:
        """Log the vehicles; write to ``path`` unless that is empty.

        Args:
            role_names: of the vehicles.
            path: of the file.
            flush_frames: a kill loses at most so many of the newest frames.
            on_fault: is told why the file has ended.

        Raises:
            OSError: the file cannot be written.
        """
        self.logs = {role: FrameLog(role) for role in role_names}
        # The newest frames are not written yet, but wait for late reports: they are lost as well.
        every = flush_frames - UNWRITTEN_FRAMES
        self.writer = LedgerWriter(Path(path), every) if path else None
        self.fault = ''
        self._path = path
        self._on_fault = on_fault
        self._stages = StageWindow()
        self._windows = {role: OutcomeWindow() for role in self.logs}

    @property
    def violations(self) -> int:
        """Frames skipped, doubled or slipped."""
        return sum(log.counts.violations for log in self.logs.values())

    def close_ended(self, ended: Iterable[EndedFrame | Break], facts: Mapping[str, int]) -> None:
        """Enter what has ended, a frame with the facts of its step."""
        for one in ended:
            for log in self.logs.values():
                if isinstance(one, EndedFrame) and not one.is_idle:
                    log.note(one.stamp_ns, **facts)
                self._write(log.close(one))

    def close(self, others: Iterable[Finding] = ()) -> list[Finding]:
        """Write what is left, and the end; return what was wrong with the drive, errors first.

        Args:
            others: what was found besides the outcomes of the frames.
        """
        for log in self.logs.values():
            self._write(log.flush())
        found = list(others)
        for role, log in self.logs.items():
            found += self._of(role, drive_findings(log.counts.outcomes))
        found.sort(key=lambda finding: not finding.is_error)
        if self.writer is not None:
            try:
                self.writer.close(found)
            except OSError as error:
                self._end(error)
        return found

    def findings(self) -> list[Finding]:
        """Return what is wrong with the newest frames."""
        return [
            finding
            for role, window in self._windows.items()
            for finding in self._of(role, window.findings())
        ]

    def _of(self, role: str, found: list[Finding]) -> list[Finding]:
        """Name the vehicle where there are several."""
        if len(self.logs) == 1:
            return found
        return [replace(one, text=f'{role}: {one.text}') for one in found]

    def figures(self) -> dict[str, float]:
        """Return where the time goes: in frames, and to the disk."""
        return self._stages.figures() | self.disk_figures()

    def disk_figures(self) -> dict[str, float]:
        """Return how long the disk has kept the drive waiting at most."""
        if self.writer is None:
            return {}
        return {'ledger_slowest_write_ms': round(self.writer.slowest_ns / 1e6, 3)}

    def _write(self, records: Iterable[dict[str, Any]]) -> None:
        for record in records:
            self._stages.add(record.get('stages_ns'))
            if record.get('outcome', SKIPPED) != SKIPPED:
                self._windows[record['role_name']].add(record['outcome'])
            if self.writer is not None:
                try:
                    self.writer.write(record)
                except OSError as error:
                    self._end(error)

    def _end(self, error: OSError) -> None:
        """Give the file up: what was written stays."""
        if self.writer is not None:
            self.writer.abandon()
        self.writer = None
        self.fault = f'{self._path}: {error.strerror}'
        self._on_fault(f'the ledger has ended: {self.fault}')

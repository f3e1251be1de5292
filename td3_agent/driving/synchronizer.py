# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The synchronizer without ROS: events go in, orders come out.

Joins :class:`Lockstep` (when the bridge may step), :class:`StepReadiness` (what a step needs) and
:class:`DriveLedger` (when a frame is closed). Every call takes the steady time [ns]. A full disk
ends the ledger but not the drive.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from td3_agent.driving.endpoints import Breaks
from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import SKIPPED, UNWRITTEN_FRAMES, FrameLog, LedgerWriter
from td3_agent.driving.lockstep import Lockstep, Phase
from td3_agent.driving.loop_check import OutcomeWindow, drive_findings
from td3_agent.driving.parameters import ParameterError, param
from td3_agent.driving.readiness import BRIDGE, StepReadiness
from td3_agent.driving.reports import Status, loop_status
from td3_agent.driving.stages import StageWindow
from td3_agent.driving.stepping import BridgeRequest, EndedFrame, LockstepParams

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence

    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.endpoints import Finding
    from td3_agent.driving.stepping import Break
    from td3_agent.driving.vehicle import VehicleState


class DriveLedger:
    """The ledger of a running drive: a log for each vehicle, one file, the stages.

    Attributes:
        logs: frames of each vehicle, by role name.
        writer: of the file; None without a file, or after its end.
        fault: why the file has ended early; empty if it has not.
    """

    def __init__(
        self,
        role_names: Iterable[str],
        path: str,
        flush_frames: int,
        on_fault: Callable[[str], None],
    ) -> None:
        """Open the file.

        Args:
            role_names: of the vehicles.
            path: of the file; empty for none.
            flush_frames: a kill loses at most this many of the newest frames.
            on_fault: called with the reason when the file ends early.

        Raises:
            OSError: the file cannot be written.
        """
        self.logs = {role: FrameLog(role) for role in role_names}
        # The newest frames still wait for late reports: a kill loses them too.
        every = flush_frames - UNWRITTEN_FRAMES
        self.writer = LedgerWriter(Path(path), every) if path else None
        self.fault = ''
        self._path = path
        self._on_fault = on_fault
        self._stages = StageWindow()
        self._windows = {role: OutcomeWindow() for role in self.logs}

    @property
    def violations(self) -> int:
        return sum(log.counts.violations for log in self.logs.values())

    def close_ended(self, ended: Iterable[EndedFrame | Break], fields: Mapping[str, int]) -> None:
        """Enter frames and breaks; each frame gets the fields of its step."""
        for one in ended:
            for log in self.logs.values():
                if isinstance(one, EndedFrame) and not one.is_idle:
                    log.note(one.stamp_ns, **fields)
                self._write(log.close(one))

    def close(self, others: Iterable[Finding] = ()) -> list[Finding]:
        """Write the rest and the end record; return the findings of the drive, errors first.

        Args:
            others: findings besides the outcomes of the frames.
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
        """Return the latency breakdown of frames and the slowest write."""
        return self._stages.figures() | self.disk_figures()

    def disk_figures(self) -> dict[str, float]:
        """Return the slowest write to the disk so far."""
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
        """Stop writing the file; what was written stays."""
        if self.writer is not None:
            self.writer.abandon()
        self.writer = None
        self.fault = f'{self._path}: {error.strerror}'
        self._on_fault(f'the ledger has ended: {self.fault}')


STEP_TOLERANCE_S = 1e-6  # the bridge sends its step as float32


@dataclass(frozen=True, kw_only=True)
class SynchronizerParams(LockstepParams):
    """Parameters of synchronizer_node."""

    fixed_delta_seconds: float = param(
        0.05, "the bridge's step, checked against CarlaStatus", unit='s', low=0.001, high=0.1
    )
    wait_for_agent: bool = param(
        True,
        'start when every role has an active agent as well as a gate, pause while no role has one',
    )
    odometry_topic: str = param(
        '', 'odometry topic of the only vehicle; empty: /carla/<role_name>/odometry'
    )
    ledger_path: str = param('', 'where the ledger is written; empty: nowhere', path=True)
    ledger_flush_frames: int = param(
        UNWRITTEN_FRAMES + 1,
        'a kill of this process loses at most this many of the newest frames',
        low=UNWRITTEN_FRAMES + 1,
        high=100000,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.odometry_topic and len(self.role_names) > 1:
            raise ParameterError(
                f'odometry_topic must be empty for {len(self.role_names)} role_names, '
                f'got {self.odometry_topic!r}'
            )


@dataclass(frozen=True)
class Orders:
    """Messages to send now, in this order.

    Attributes:
        is_idle: for the gates, whether ticks are idle from now on; None if that is unchanged.
        request: for the bridge.
        ended: roles whose gates must learn that the step of the newest frame has ended.
    """

    is_idle: bool | None = None
    request: BridgeRequest | None = None
    ended: frozenset[str] = frozenset()


class Synchronizer:
    """The decisions of one drive.

    Attributes:
        lockstep: when the bridge steps.
        readiness: what a step still needs.
        ledger: the record of the drive.
        is_driving: whether a step of the drive has been ordered.
    """

    def __init__(self, params: SynchronizerParams, on_ledger_fault: Callable[[str], None]) -> None:
        """Open the ledger.

        Raises:
            OSError: it cannot be written.
        """
        self._step_s = params.fixed_delta_seconds
        self.lockstep = Lockstep(params, round(self._step_s * 1e9))
        self.readiness = StepReadiness(
            params.role_names,
            wait_for_agent=params.wait_for_agent,
            idle_ticks=params.idle_period_s > 0.0,
        )
        self.ledger = DriveLedger(
            params.role_names, params.ledger_path, params.ledger_flush_frames, on_ledger_fault
        )
        self.is_driving = False
        self._wrong_step_s: float | None = None  # of the bridge
        self._restarts_seen = 0
        self._is_idle: bool | None = None  # as last sent to the gates
        self._stopped: set[str] = set()  # roles with an idle stop and no command since
        self._told_ended: set[str] = set()  # of those, roles that know the newest step has ended
        self._times: dict[str, int] = {}  # of the step in flight [ns, steady]
        self._ended_times: dict[str, int] = {}  # of the step whose frame may be closed
        self._drive_failed = False

    # Events

    def on_bridges(self, publishers: Iterable[Hashable]) -> None:
        """Take the publishers of the bridge's status; restart with a new bridge.

        A frame number that ran back has restarted the lockstep already.
        """
        restarts = self.lockstep.counts.restarts
        if self.readiness.is_another_bridge(publishers) and restarts == self._restarts_seen:
            self.lockstep.restart()
        self._restarts_seen = self.lockstep.counts.restarts

    def on_status(self, frame: int, *, running: bool, step_s: float, now_ns: int) -> None:
        """Take a CarlaStatus: frame number, synchronous_mode_running, fixed_delta_seconds."""
        frame_before = self.lockstep.frame
        self.lockstep.on_status(frame, running=running, now_ns=now_ns)
        if self.lockstep.frame != frame_before:
            self._times['announced_ns'] = now_ns
        if abs(step_s - self._step_s) > STEP_TOLERANCE_S:
            self._wrong_step_s = step_s
        if not running:
            self._times['acknowledged_ns'] = now_ns

    def on_motion(self, role: str, state: VehicleState) -> None:
        fields = dict(vars(state))  # asdict copies deeply and takes 20 times as long
        stamp_ns = fields.pop('stamp_ns')
        self.ledger.logs[role].note(stamp_ns, **fields)
        self.readiness.moved(role, stamp_ns)
        self.lockstep.on_motion(stamp_ns)

    def on_command(self, role: str, stamp_ns: int, control: VehicleControl, now_ns: int) -> None:
        """Take a command on its way to the bridge; its report says when it is out."""
        self.ledger.logs[role].note_command(stamp_ns, control, now_ns)

    def on_gate_report(self, role: str, stamp_ns: int, fields: dict[str, Any]) -> None:
        """Take a report of the gate: its command is out.

        The command itself may arrive here before it reaches the bridge; the gate reports after
        publishing has returned, so a step sent now cannot overtake the command.
        """
        self.ledger.logs[role].note(stamp_ns, **fields)
        outcome = fields.get('outcome')
        if outcome == Outcome.SILENCE.value:  # an idle stop, no new answer
            self.ledger.logs[role].note_idle_stop(stamp_ns)
            self._stopped.add(role)
            return
        self.lockstep.on_command(role, stamp_ns)
        if outcome != Outcome.IN_ADVANCE.value:
            self._stopped.discard(role)

    # Decisions

    def advance(self, now_ns: int) -> Orders:
        """Return what to send now; call :meth:`write_ended` when it is out."""
        readiness, lockstep = self.readiness, self.lockstep
        readiness.follow(lockstep.counts.restarts, lockstep.stamp_ns)
        is_idle = readiness.needs_ticks
        is_news, self._is_idle = is_idle != self._is_idle, is_idle
        request = lockstep.poll(
            now_ns,
            vehicles_present=readiness.vehicles_present,
            gates_present=not readiness.absent,
            needs_ticks=is_idle,
        )
        self._ended_times = self._times
        if request is not None:
            self._times = {'step_sent_ns': now_ns}
            self.is_driving |= request is BridgeRequest.STEP_ONCE and not is_idle
            self._told_ended.clear()
        return Orders(is_idle if is_news else None, request, self._newly_ended())

    def _newly_ended(self) -> frozenset[str]:
        """Return the roles in doubt that have not answered a frame whose step has ended."""
        if self.lockstep.phase is not Phase.WAITING or self.lockstep.stamp_ns is None:
            return frozenset()
        ended = (self._stopped & self.lockstep.missing) - self._told_ended
        self._told_ended |= ended
        return frozenset(ended)

    def write_ended(self, now_ns: int) -> None:
        """Enter the ended frames into the ledger while the simulator works."""
        self.ledger.close_ended(
            self.lockstep.take_ended(), self._ended_times | {'frame_closed_ns': now_ns}
        )

    def wake_ns(self, now_ns: int) -> int | None:
        """Return the steady time [ns] of the next due :meth:`advance`."""
        return None if self.readiness.absent else self.lockstep.wake_ns(now_ns)

    @property
    def has_bridge(self) -> bool:
        return BRIDGE not in self.readiness.absent

    # The end

    def close(self, others: Sequence[Finding]) -> list[Finding]:
        """End the drive and its ledger; return its findings, errors first.

        Args:
            others: findings besides the outcomes of the frames.
        """
        self.lockstep.stop()
        self.ledger.close_ended(self.lockstep.take_ended(), {})
        found = self.ledger.close(others)
        self._drive_failed = any(finding.is_error for finding in found)
        return found

    @property
    def has_failed(self) -> bool:
        """Whether the drive failed, or its ledger ended early."""
        return bool(self.ledger.violations or self.ledger.fault or self._drive_failed)

    # Diagnostics

    @property
    def breaks(self) -> Breaks:
        return Breaks(self.ledger.violations, self.lockstep.counts.restarts)

    def describe(self, now_ns: int, duplicates: Sequence[Finding], rejected: int) -> Status:
        """Return the status of the drive.

        Args:
            now_ns: steady time [ns].
            duplicates: findings of the exclusive-publisher check.
            rejected: number of rejected messages.
        """
        values: dict[str, object] = asdict(self.lockstep.counts)
        values |= {'phase': self.lockstep.phase.value, 'frame': self.lockstep.frame}
        values |= {'violations': self.ledger.violations, 'rejected': rejected}
        causes = [finding for finding in duplicates if finding.is_error]
        waiting = self.readiness.describe() or self.lockstep.interruption(now_ns)
        # The key lacks the growing time: one line of the log is enough.
        console = '; '.join(filter(None, [*(cause.key for cause in causes), waiting]))
        faults = (*((cause.text, True) for cause in causes), *self._faults(now_ns))
        for text, is_error in faults:
            return Status(
                text, is_error=is_error, is_warning=not is_error, values=values, console=console
            )
        if found := [*duplicates, *self.ledger.findings()]:
            return replace(loop_status(found), values=values)
        return Status(self.lockstep.phase.value, values=values)

    def loop_status(self, duplicates: Sequence[Finding]) -> Status:
        return loop_status([*duplicates, *self.ledger.findings()])

    def _faults(self, now_ns: int) -> Iterator[tuple[str, bool]]:
        """Yield what is wrong, the worst first, and whether it is an error."""
        if self._wrong_step_s is not None:
            text = f'fixed_delta_seconds is {self._wrong_step_s:.6g} s at the bridge'
            yield f'{text}, {self._step_s:.6g} s here', True
        if self.ledger.fault:
            yield f'the ledger has ended, the drive goes on: {self.ledger.fault}', True
        if awaited := self.readiness.describe():
            yield awaited, False
        if fault := self.lockstep.fault(now_ns):
            yield fault, True
        if interruption := self.lockstep.interruption(now_ns):
            yield interruption, False
        if braked := self.readiness.braked:
            yield f'silent or missing, the gate brakes its car: {", ".join(braked)}', True
        if self.ledger.violations:
            yield 'lockstep violations', True

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Drives over ROS: a process for each node, in lockstep, watched through their ledger."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
import sys
import time
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from td3_agent.driving.ledger import UNWRITTEN_FRAMES, parse_line, read_findings
from td3_agent.driving.task import Ending
from td3_agent.evaluation.episode_result import EpisodeResult, result_of
from td3_agent.evaluation.episodes import (
    EvaluationError,
    begun,
    frames_to_drive,
    take,
    up_to_the_ending,
    write_ledger,
)
from td3_agent.nodes.runtime import EXIT_BROKEN
from td3_agent.processes import ProcessGroup, composed_command, free_domain_id, ros_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from td3_agent.evaluation.episodes import Episode, EpisodePlan
    from td3_agent.nodes.drivers import DriverParams
    from td3_agent.processes import NodeProcess

ROS = 'ros'
POLL_S = 0.05
ATTEMPTS = 3
START_PATIENCE_S = 60.0
SLOW_FRAME_S = 1.0  # far beyond the mean of a busy machine
# In lockstep simulated time waits; how a busy machine delays frames is not what is measured.
# The gate gives up first, then the bridge, then the synchronizer.
GATE_DEADLINE_S, BRIDGE_WAIT_S, SYNCHRONIZER_WAIT_S = 20.0, 25.0, 30.0


@dataclass(frozen=True, kw_only=True)
class FourNodes:
    """Parameters of the four kinds of node; what is not named keeps its default.

    With one vehicle there are four processes: bridge and synchronizer, and of each vehicle a gate
    and an agent.

    Attributes:
        role_names: role names of the vehicles.
        bridge: of sim_bridge_node.
        gate: of gate_node, the same for every role.
        agent: of td3_agent_node, the same for every role.
        synchronizer: of synchronizer_node.
        composed: whether agent, gate and synchronizer of the only vehicle share a process.
    """

    role_names: tuple[str, ...] = ('ego_vehicle',)
    bridge: Mapping[str, Any] = field(default_factory=dict)
    gate: Mapping[str, Any] = field(default_factory=dict)
    agent: Mapping[str, Any] = field(default_factory=dict)
    synchronizer: Mapping[str, Any] = field(default_factory=dict)
    composed: bool = False

    def start(self, group: ProcessGroup) -> NodeProcess:
        """Start all in ``group``; return the synchronizer.

        Of several vehicles, the nodes of each are in a namespace of its role name.
        """
        roles = {'role_names': list(self.role_names)}
        # Paused, so that the first frame is the synchronizer's.
        group.start('sim_bridge_node', {**roles, 'start_paused': True, **self.bridge})
        # The bridge needs no tick before the first frame, and drives are compared by frame number.
        synchronizer = {**roles, 'idle_period_s': 0.0, **self.synchronizer}
        if self.composed:
            of_role = {'role_name': self.role_names[0]}
            gate, agent = {**of_role, **self.gate}, {**of_role, **self.agent}
            parameters = {'gate': gate, 'td3_agent': agent, 'synchronizer': synchronizer}
            return group.run('composed_node', composed_command(parameters))
        several = len(self.role_names) > 1
        for role in self.role_names:
            of_role, namespace = {'role_name': role}, role if several else ''
            group.start('gate_node', {**of_role, **self.gate}, namespace)
            group.start('td3_agent_node', {**of_role, **self.agent}, namespace)
        return group.start('synchronizer_node', synchronizer)


class LedgerTail:
    """Reads a ledger while it is being written.

    Attributes:
        records: all that was read so far, header left out.
    """

    def __init__(self, path: Path) -> None:
        """Watch ``path``, which need not exist yet."""
        self.records: list[dict[str, Any]] = []
        self._path = path
        self._offset = 0
        self._lines_read = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the records that are new; a line still being written waits for its end."""
        if not self._path.exists():
            return []
        with self._path.open('rb') as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b'\n')
        self._offset += len(whole) + len(newline)
        start = self._lines_read + 1
        lines = whole.splitlines()
        self._lines_read += len(lines)
        parsed = [parse_line(self._path, n, line) for n, line in enumerate(lines, start)]
        new = [record for record in parsed if 'frame' in record]  # no header, no end
        self.records += new
        return new


def follow(
    group: ProcessGroup,
    synchronizer: NodeProcess,
    tail: LedgerTail,
    longest_s: float,
    is_enough: Callable[[list[dict[str, Any]]], bool],
) -> str:
    """Read a ledger as it grows, until the synchronizer has ended or ``is_enough`` returns True.

    Args:
        group: all processes; any other than the synchronizer that ends with an error ends the
            drive.
        synchronizer: writes the ledger, which says why it ended.
        tail: reads the ledger.
        longest_s: limit of the drive, without the start of the processes [s].
        is_enough: called with the new records, of which there may be none.

    Returns:
        Why the drive ended early; empty if it did not.
    """
    deadline_s = time.monotonic() + START_PATIENCE_S + longest_s
    while synchronizer.process.poll() is None:
        if is_enough(tail.read()):
            return ''
        if (dead := group.ended_early()) and dead is not synchronizer:
            return f'{dead.name} ended with {dead.process.returncode}: {dead.last_output()}'
        if time.monotonic() > deadline_s:
            return f'not finished in time: {len(tail.records)} frames'
        time.sleep(POLL_S)
    is_enough(tail.read())
    return ''


def drive_over_ros(
    plan: EpisodePlan, episode: Episode, driver: DriverParams, ledger_path: Path
) -> EpisodeResult:
    """Drive one episode with four processes; what they say is written beside its ledger.

    A drive whose lockstep was broken, as when a process got no processor for long, measures
    the machine and not the driver: the episode is driven again, at most ``ATTEMPTS`` times in
    all. The ledger of each attempt is kept, and the result says which attempt it is.

    Raises:
        EvaluationError: a process ended early or badly, or the episode had no ending.
    """
    attempt = 1
    result = drive_once(plan, episode, driver, ledger_path)
    while not lockstep_held(result) and attempt < ATTEMPTS:
        ledger_path.replace(ledger_path.with_name(f'{ledger_path.stem}_attempt_{attempt}.jsonl'))
        text = f'episode {episode.number}: lockstep broken, {fault(result)}; once more'
        tqdm.write(text, file=sys.stderr)
        attempt += 1
        result = drive_once(plan, episode, driver, ledger_path)
    result.figures['attempts'] = attempt
    return result


def lockstep_held(result: EpisodeResult) -> bool:
    """Whether every frame has its command, applied as sent, and nothing disturbed the drive."""
    figures, found = result.figures, result.findings
    broken = figures['violations'] or figures['frames_not_ok']
    return not broken and not any(finding.is_error for finding in found)


def fault(result: EpisodeResult) -> str:
    """Return how often the lockstep was broken, and why."""
    figures = result.figures
    text = f'{figures["frames_not_ok"]} frames not ok, {figures["violations"]} violations'
    return '; '.join([text, *(finding.text for finding in result.findings)])


def drive_once(
    plan: EpisodePlan, episode: Episode, driver: DriverParams, ledger_path: Path
) -> EpisodeResult:
    """Drive one episode with four processes of its own, up to its ending.

    Frames that were driven between the ending and the end of the processes are dropped.

    Raises:
        EvaluationError: a process ended early or badly, or the episode had no ending.
    """
    folder = ledger_path.parent
    folder.mkdir(parents=True, exist_ok=True)
    simulator = episode.simulator()
    rules, route = plan.task(simulator.ego.route), simulator.ego.route
    start = (simulator.ego.state.x_m, simulator.ego.state.y_m)
    raw_path = folder / 'synchronizer.jsonl'
    raw_path.unlink(missing_ok=True)
    nodes = four_nodes(episode, driver, raw_path, frames_to_drive(rules))
    tail, watched = LedgerTail(raw_path), begun(rules, route, start)
    with ProcessGroup(folder, ros_environment(free_domain_id())) as group:
        fault = follow(
            group,
            nodes.start(group),
            tail,
            frames_to_drive(rules) * SLOW_FRAME_S,
            lambda new: any(take(watched, record) is not Ending.NONE for record in new),
        )
        if fault:
            raise EvaluationError(f'episode {episode.number}: {fault}')
        statuses = group.end()
    tail.read()
    task = begun(rules, route, start)
    records = up_to_the_ending(tail.records, task)
    # The ledger tells of a broken drive, which may be driven again: this status is no failure.
    allowed = {'synchronizer_node': (0, EXIT_BROKEN)}
    bad = {name: code for name, code in statuses.items() if code not in allowed.get(name, (0,))}
    if bad:
        raise EvaluationError(f'episode {episode.number}: exit statuses {bad}, see {folder}')
    if task.ending is Ending.NONE:
        raise EvaluationError(
            f'episode {episode.number}: no ending within {len(records)} frames, see {folder}'
        )
    write_ledger(ledger_path, records)
    found = read_findings(raw_path)
    raw_path.unlink()
    return replace(
        result_of(episode, simulator, records, task, transport=ROS), findings=tuple(found)
    )


def four_nodes(
    episode: Episode, driver: DriverParams, ledger_path: Path, max_frames: int
) -> FourNodes:
    """Return the parameters of the four processes."""
    return FourNodes(
        role_names=episode.bridge.role_names,
        bridge={**episode.settings, 'command_wait_s': BRIDGE_WAIT_S},
        gate={
            'deadline_s': GATE_DEADLINE_S,
            'bridge_wait_s': BRIDGE_WAIT_S,
            'silence_s': GATE_DEADLINE_S,
        },
        agent={'driver': driver.driver, 'policy': driver.policy},
        synchronizer={
            'real_time_factor': 0.0,
            'max_frames': max_frames,
            'ledger_path': str(ledger_path),
            'command_timeout_s': SYNCHRONIZER_WAIT_S,
            'step_timeout_s': SYNCHRONIZER_WAIT_S,
            'ledger_flush_frames': UNWRITTEN_FRAMES + 1,  # the ending is seen as soon as can be
        },
    )

# SPDX-License-Identifier: Apache-2.0
"""What the function of a row is given: a domain, processes, an injector, a watcher, P0.

P0 is what every row must hold: no uncaught exception, no hang > 2 s, no command that is not
finite or out of range, and a ledger without gaps. That diagnostics name the fault in time and
that things recover, a row says itself: only it knows the words and the moment.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
import os
from pathlib import Path
import re
import signal
import time
from typing import TYPE_CHECKING, Any

from td3_agent.driving.ledger_audit import audit_ledger
from td3_agent.evaluation.processes import (
    ProcessGroup,
    free_domain_id,
    node_command,
    ros_environment,
)
from td3_agent.evaluation.ros_episodes import LedgerTail
from td3_agent.faults.injector import ROLE, Injector, remappings
from td3_agent.faults.watcher import Watcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from typing_extensions import Self

    from td3_agent.driving.ledger_audit import Audit
    from td3_agent.evaluation.processes import NodeProcess
    from td3_agent.faults.row import Outcome

BRIDGE, GATE = 'sim_bridge_node', 'twist_to_control_node'
AGENT, SYNCHRONIZER = 'td3_agent_node', 'synchronizer_node'
NODES = (BRIDGE, GATE, AGENT, SYNCHRONIZER)
NODE_NAMES = {  # as diagnostics call them
    BRIDGE: 'carla_ros_bridge',
    GATE: 'twist_to_control',
    AGENT: 'td3_agent',
    SYNCHRONIZER: 'synchronizer',
}
PATIENCE_S = 60.0
POLL_S = 0.02
LONGEST_SILENCE_S = 2.0
LONGEST_STOP_S = 0.5
LONGEST_NAMING_S = 1.0
EXIT_PATIENCE_S = 10.0
GOOD_FRAMES = 20
CONTIGUOUS = ('file', 'chain', 'frames', 'stamps')  # of an audit
WHOLE = (*CONTIGUOUS, 'events', 'outcomes', 'commands', 'applied', 'hashes', 'stages')
UNCAUGHT = re.compile(r'^Traceback \(most recent call last\)|^Fatal Python error', re.MULTILINE)


# Nobody steps: the bridge plays in real time, and waits for no command.
FREE_RUNNING: dict[str, dict[str, object]] = {
    BRIDGE: {
        'start_paused': False,
        'synchronous_mode_wait_for_vehicle_control_command': False,
    },
    GATE: {'mode': 'free_running'},
    AGENT: {'mode': 'free_running'},
}


class SceneError(ValueError):
    """What a row was waiting for did not come; the row fails."""


@dataclass
class Scene:
    """Where a row happens; leaving the context ends every process.

    Attributes:
        folder: for logs, ledgers and whatever the row needs.
        seed: of every draw.
        count: how many frames, cases or cycles, where the row can do more or fewer; None is the
            row's own choice.
        quick: whether the shortest version that still checks everything is wanted.
        command_of: gives the command line of a node program with these parameters.
        domain_id: of everybody.
        group: the processes.
        environment: of every process that is started from now on.
        prefix: words before every command line from now on.
    """

    folder: Path
    seed: int = 0
    count: int | None = None
    quick: bool = False
    command_of: Callable[[str, Mapping[str, object]], list[str]] = node_command
    domain_id: int = field(default_factory=free_domain_id)
    environment: dict[str, str] = field(init=False)
    group: ProcessGroup = field(init=False)
    injector: Injector | None = field(init=False, default=None)
    begun_ns: int = field(init=False, default=0)
    prefix: list[str] = field(init=False, default_factory=list)
    _stack: ExitStack = field(init=False, default_factory=ExitStack)
    _watcher: Watcher | None = field(init=False, default=None)
    _expected: dict[int, set[int]] = field(init=False, default_factory=dict)
    _statuses: dict[str, int] | None = field(init=False, default=None)

    def __enter__(self) -> Self:
        """Make folder and group."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.environment = ros_environment(self.domain_id)
        os.environ.update(self.environment)  # the watcher's context goes by it too
        self.group = self._stack.enter_context(ProcessGroup(self.folder, self.environment))
        self.begun_ns = time.monotonic_ns()
        return self

    def __exit__(self, *exception: object) -> None:
        """End everything, whatever happened."""
        for node in self.group.nodes:  # a stopped process cannot end
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGCONT)
        self._stack.__exit__(*exception)

    def apart(self, name: str) -> Scene:
        """Return a scene like this one, with a folder and a domain of its own."""
        return Scene(
            self.folder / name,
            seed=self.seed,
            count=self.count,
            quick=self.quick,
            command_of=self.command_of,
        )

    # Who is there

    @property
    def watcher(self) -> Watcher:
        """Hears everything, from the first use on."""
        if self._watcher is None:
            self._watcher = self._stack.enter_context(Watcher(self.domain_id))
        return self._watcher

    def start(
        self,
        name: str,
        parameters: Mapping[str, object] | None = None,
        words: Sequence[str] = (),
    ) -> NodeProcess:
        """Start a node program; ``words`` come at the end of its command line."""
        return self.start_command(name, [*self.command_of(name, parameters or {}), *words])

    def start_command(
        self, name: str, command: Sequence[str], statuses: Iterable[int] = ()
    ) -> NodeProcess:
        """Start a program with a log of its own; a second one of a name gets a number.

        Args:
            name: of the process and its log.
            command: its command line.
            statuses: with which it may end; none: the usual ones.
        """
        taken = {node.name for node in self.group.nodes}
        numbered = (f'{name}_{number}' for number in range(2, 10_000))
        free = name if name not in taken else next(n for n in numbered if n not in taken)
        node = self.group.run(free, [*self.prefix, *command])
        if statuses:
            self._expected[node.process.pid] = set(statuses)
        return node

    def start_injector(self, *names: str) -> Injector:
        """Start the injector for topics of these names; the bridge must be remapped to it."""
        self.injector = self._stack.enter_context(Injector(names, self.seed, self.environment))
        return self.injector

    def drive(
        self,
        relayed: Sequence[str] = (),
        *,
        start: bool = True,
        watched: bool = True,
        ledger: str = '',
        parameters: Mapping[str, Mapping[str, object]] | None = None,
    ) -> Drive:
        """Return the four nodes of a lockstep drive.

        Args:
            relayed: topics that go through the injector, which is started.
            start: whether they are started here, or by the row.
            watched: whether there is a watcher; without, only the ledger tells.
            ledger: file name of the ledger; empty: numbered.
            parameters: on top of the usual ones, by program.
        """
        if relayed:
            self.start_injector(*relayed)
        drive = Drive(self, tuple(relayed), parameters or {}, ledger)
        if watched:
            _ = self.watcher  # before the nodes: nothing of theirs is missed
        if start:
            drive.start_all()
        return drive

    # Waiting

    def wait_for(
        self,
        condition: Callable[[], Any],
        what: str,
        patience_s: float = PATIENCE_S,
    ) -> Any:  # noqa: ANN401  what the condition gives
        """Return what ``condition`` gives once that is true.

        Raises:
            SceneError: it was not in time [s], or a process ended that nobody has ended.
        """
        if self._watcher is not None:
            found = self._watcher.wait_for(condition, patience_s, self._look_for_dead)
        else:
            found = polled(condition, patience_s, self._look_for_dead)
        if not found:
            raise SceneError(f'{what}: expected within {patience_s:g} s, and did not come')
        return found

    def wait_named(
        self, after_ns: int, node: str, *words: str, patience_s: float = 4.0
    ) -> float | None:
        """Return how long after a time [ns] a node has named a fault [s]; None if it did not."""
        heard = self.watcher.wait_for(
            lambda: self.watcher.named(after_ns, node, *words), patience_s, self._look_for_dead
        )
        return (heard.at_ns - after_ns) / 1e9 if heard else None

    def pause(self, duration_s: float) -> None:
        """Let things happen for a while [s], watching that no process ends."""
        end_s = time.monotonic() + duration_s
        self.watcher.wait_for(
            lambda: time.monotonic() >= end_s, duration_s + 1.0, self._look_for_dead
        )

    def wait_good(self, frames: int = GOOD_FRAMES, patience_s: float = PATIENCE_S) -> None:
        """Wait until so many frames from now on were answered by the agent.

        Raises:
            SceneError: they were not in time [s].
        """
        watcher, since_ns = self.watcher, time.monotonic_ns()
        self.wait_for(
            lambda: watcher.outcomes(since_ns).count('ok') >= frames,
            f'{frames} frames answered by the agent',
            patience_s,
        )

    # Ending

    def signal(self, node: NodeProcess, number: int, *statuses: int) -> int:
        """Send a signal; return when [ns, steady].

        Args:
            node: gets it.
            number: of the signal.
            statuses: with which it may end because of it; none: it must not end.
        """
        if statuses:
            self._expected[node.process.pid] = set(statuses)
        now_ns = time.monotonic_ns()
        node.process.send_signal(number)
        return now_ns

    def kill(self, node: NodeProcess) -> int:
        """Kill a process as if its machine had lost it; return when [ns, steady]."""
        now_ns = self.signal(node, signal.SIGKILL, -signal.SIGKILL)
        node.process.wait()
        return now_ns

    def end(self) -> dict[str, int]:
        """End all processes; return the exit statuses that nobody expects, by name."""
        if self._statuses is None:
            for node in self.group.nodes:
                if node.process.poll() is None:
                    node.process.send_signal(signal.SIGCONT)
            self.group.end()
            self._statuses = {
                node.name: node.process.returncode
                for node in self.group.nodes
                if node.process.returncode not in self._may_end_with(node)
            }
        return self._statuses

    def _may_end_with(self, node: NodeProcess) -> set[int]:
        """Return exit statuses; a violation, which the ledger tells of, gives 1."""
        usual = {0, 1} if node.name.startswith(SYNCHRONIZER) else {0}
        return self._expected.get(node.process.pid, usual)

    def _look_for_dead(self) -> None:
        for node in self.group.nodes:
            status = node.process.poll()
            if status is not None and status not in self._may_end_with(node):
                raise SceneError(f'{node.name} ended with {status}: {node.last_words()}')

    # P0

    def p0(
        self,
        outcome: Outcome,
        *,
        silence: tuple[int, int] | None = None,
        longest_silence_s: float = LONGEST_SILENCE_S,
    ) -> None:
        """End everything, and add what every row must hold to ``outcome``.

        Args:
            outcome: of the row.
            silence: the span [ns, steady] in which nobody may be silent for long; None where the
                row looks for hangs in another way.
            longest_silence_s: how long that is [s].
        """
        statuses = self.end()
        outcome.none('P0 exit statuses', (f'{name} {s}' for name, s in statuses.items()))
        outcome.none('P0 uncaught exceptions', self.uncaught())
        if self._watcher is not None:
            outcome.none('P0 commands out of range', self._watcher.bad_commands())
            if silence is not None:
                found_s = self._watcher.longest_silence_s(*silence)
                outcome.most('P0 longest silence', found_s, longest_silence_s, 's')

    def uncaught(self) -> list[str]:
        """Return the logs in which a program has reported an exception that nobody caught."""
        return [
            f'{path.name}: {found[-1].strip()[:120] if found else ""}'
            for path in sorted(self.folder.glob('*.log'))
            if UNCAUGHT.search(text := path.read_text(encoding='utf-8', errors='replace'))
            for found in [text.splitlines()]
        ]


def polled(condition: Callable[[], Any], patience_s: float, alive: Callable[[], None]) -> Any:  # noqa: ANN401
    """Return what ``condition`` gives once that is true, or after ``patience_s`` [s]."""
    end_s = time.monotonic() + patience_s
    while not (found := condition()) and time.monotonic() < end_s:
        alive()
        time.sleep(POLL_S)
    return found


@dataclass
class Drive:
    """The four nodes of a lockstep drive, each startable again under the same parameters.

    Attributes:
        scene: where they run.
        relayed: topics of the bridge that go through the injector.
        extra: parameters on top of the usual ones, by program.
        ledger: file name of the ledger; empty: numbered.
        role: role name of the vehicle.
        nodes: the newest process of each program.
        ledger_path: of the newest synchronizer.
    """

    scene: Scene
    relayed: tuple[str, ...]
    extra: Mapping[str, Mapping[str, object]]
    ledger: str = ''
    role: str = ROLE
    nodes: dict[str, NodeProcess] = field(default_factory=dict)
    ledger_paths: list[Path] = field(default_factory=list)

    @property
    def ledger_path(self) -> Path:
        """Ledger of the newest synchronizer."""
        return self.ledger_paths[-1]

    def parameters(self, name: str) -> dict[str, object]:
        """Return the parameters of a program."""
        role = {'role_name': ROLE}
        usual: dict[str, dict[str, object]] = {
            BRIDGE: {'role_names': [ROLE], 'start_paused': True, 'spawn_index': 0, 'map': 'oval'},
            GATE: role,
            AGENT: {**role, 'driver': 'pure_pursuit'},
            SYNCHRONIZER: {'role_names': [ROLE], 'pause_timeout_s': 1.1},
        }
        return {**usual[name], **self.extra.get(name, {})}

    def start_all(self, order: Sequence[str] = NODES) -> None:
        """Start all four."""
        for name in order:
            self.start(name)

    def start(self, name: str, **more: object) -> NodeProcess:
        """Start one, for the first time or again; a synchronizer gets a ledger of its own."""
        parameters = {**self.parameters(name), **more}
        if name == SYNCHRONIZER and 'ledger_path' not in parameters:
            number = len(self.ledger_paths)
            file_name = self.ledger or f'ledger_{number}.jsonl'
            self.ledger_paths.append(self.scene.folder / file_name)
            parameters['ledger_path'] = str(self.ledger_paths[-1])
        words = remappings(self.relayed) if name == BRIDGE else ()
        self.nodes[name] = self.scene.start(name, parameters, words)
        return self.nodes[name]

    def tail(self) -> LedgerTail:
        """Return a reader of the newest ledger."""
        return LedgerTail(self.ledger_path)

    def kill(self, name: str) -> int:
        """Kill one; return when [ns, steady]."""
        return self.scene.kill(self.nodes[name])

    def audit_now(self, outcome: Outcome) -> None:
        """Check the newest ledger, whose writer has ended."""
        self._audit(outcome, CONTIGUOUS, -1)

    def audit(self, outcome: Outcome, *findings: str, number: int = -1) -> Audit | None:
        """Check a ledger after :meth:`Scene.end`; add it to ``outcome``.

        Args:
            outcome: of the row.
            findings: of the audit that must hold; none: those of a ledger without gaps.
            number: of the ledger; the newest by default.
        """
        self.scene.end()
        return self._audit(outcome, findings or CONTIGUOUS, number)

    def _audit(self, outcome: Outcome, findings: Sequence[str], number: int) -> Audit | None:
        try:
            audit = audit_ledger(self.ledger_paths[number])
        except (OSError, ValueError) as error:
            outcome.check('P0 ledger', passed=False, found=error, wanted='a ledger')
            return None
        for name in findings:
            outcome.none(f'P0 ledger {name}', audit.findings[name].faults)
        return audit


def memory_of(pid: int) -> dict[str, int]:
    """Return resident memory [bytes], open files and threads of a process."""
    text = Path(f'/proc/{pid}/status').read_text(encoding='utf-8')
    lines = dict(line.split(':', 1) for line in text.splitlines())
    return {
        'rss_bytes': int(lines['VmRSS'].split()[0]) * 1024,
        'threads': int(lines['Threads']),
        'fds': sum(1 for _ in Path(f'/proc/{pid}/fd').iterdir()),
    }

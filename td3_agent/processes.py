# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Starts node programs as child processes, watches them and ends them; free ROS domains."""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager, suppress
from dataclasses import dataclass
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, ClassVar

from td3_agent.fastdds import (
    DISCOVERY_RANGE,
    LOCALHOST_ONLY,
    LOOPBACK_PROFILE,
    profile_variables,
)
from td3_agent.files import shared_path
from td3_agent.ros_domain import (
    LAST_SAFE_DOMAIN,
    PORT_BASE,
    PORT_DOMAIN_GAIN,
    PORT_PARTICIPANT_GAIN,
    PORT_UNICAST,
)
from td3_agent.starting import PARENT_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from typing_extensions import Self

DOMAIN_IDS = range(1, LAST_SAFE_DOMAIN + 1)
PARTICIPANTS = 16  # ports probed per domain
LOCK_S = 15.0  # longer than a process takes from its start to its first participant
DOMAIN_WAIT_S = 2.0 * LOCK_S
DOMAIN_LOOK_S = 0.25
# An abstract socket: visible wherever the ports are shared, released when the process ends.
LOCK_ADDRESS = '\0td3_agent_domain_'
_locks: deque[tuple[float, int]] = deque()  # time of locking and socket, the oldest first
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ends once its parent has ended.
BUSY = 'import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10_000))'
ENDING = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))


def free_domain_id() -> int:
    """Return a ROS domain id that is not in use on this machine, and lock it for a while.

    The lock holds until the first participant is visible. If all domains are in use or locked,
    this waits for one.

    Raises:
        RuntimeError: all of them stay in use.
    """
    end_s = time.monotonic() + DOMAIN_WAIT_S
    while True:
        _release_old_locks()
        for domain_id in random.SystemRandom().sample(DOMAIN_IDS, len(DOMAIN_IDS)):
            if not _is_in_use(domain_id) and _lock_domain(domain_id):
                return domain_id
        if time.monotonic() > end_s:
            raise RuntimeError('all ROS domain ids from 1 to 101 are in use on this machine')
        time.sleep(DOMAIN_LOOK_S)


def _is_in_use(domain_id: int) -> bool:
    """Whether a participant has a port of the domain; not only the first: it may have ended."""
    first_port = PORT_BASE + PORT_DOMAIN_GAIN * domain_id + PORT_UNICAST
    for participant in range(PARTICIPANTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', first_port + PORT_PARTICIPANT_GAIN * participant))
            except OSError:
                return True
    return False


def _lock_domain(domain_id: int) -> bool:
    """Lock a domain for :data:`LOCK_S`; False if another program or call holds the lock."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f'{LOCK_ADDRESS}{domain_id}')
    except OSError:
        lock.close()
        return False
    _locks.append((time.monotonic(), lock.detach()))
    return True


def _release_old_locks() -> None:
    """Release the domains that are in use by now, or never will be."""
    while _locks and time.monotonic() - _locks[0][0] > LOCK_S:
        os.close(_locks.popleft()[1])


def ros_environment(domain_id: int) -> dict[str, str]:
    """Return an environment in which ROS traffic stays on this machine and in one domain.

    Fast DDS gets the package's profile, unless the environment selects another one.
    """
    environment = dict(os.environ, ROS_DOMAIN_ID=str(domain_id))
    environment |= profile_variables(environment, shared_path(LOOPBACK_PROFILE))
    if environment.get('ROS_DISTRO') == 'humble':
        environment[LOCALHOST_ONLY] = '1'
    else:
        environment[DISCOVERY_RANGE] = 'LOCALHOST'
    return environment


def node_command(name: str, parameters: Mapping[str, object], namespace: str = '') -> list[str]:
    """Return the command line of the node program ``name`` with its configuration file."""
    command = [sys.executable, '-m', f'td3_agent.nodes.{name}', '--ros-args']
    command += ['--params-file', str(shared_path(f'config/{name}.yaml'))]
    command += parameter_words(parameters)
    if namespace:
        command += ['-r', f'__ns:=/{namespace}']
    return command


def composed_command(parameters: Mapping[str, Mapping[str, object]]) -> list[str]:
    """Return the command line of ``composed_node`` with the parameters of each node, by name."""
    command = [sys.executable, '-m', 'td3_agent.nodes.composed_node', '--ros-args']
    for node, given in parameters.items():
        command += parameter_words(given, node)
    return command


def parameter_words(parameters: Mapping[str, object], node: str = '') -> list[str]:
    """Return ROS arguments that set parameters, of one node if it is named."""
    prefix = f'{node}:' if node else ''
    pairs = [f'{prefix}{key}:={_yaml(value)}' for key, value in parameters.items()]
    return [word for pair in pairs for word in ('-p', pair)]


def _yaml(value: object) -> str:
    """Write a parameter value as YAML of the same type."""
    if isinstance(value, tuple):
        return repr(list(value))
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


@dataclass
class NodeProcess:
    """One running node program.

    Attributes:
        name: program name.
        process: the process.
        log_path: its output.
        optional: the others go on when it ends.
    """

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path
    optional: bool = False

    def last_output(self, lines: int = 5) -> str:
        text = self.log_path.read_text(encoding='utf-8', errors='replace')
        return '\n'.join(text.splitlines()[-lines:])


class ProcessGroup:
    """Node processes that are started together; leaving the context ends every one.

    They run in their own sessions: Ctrl-C reaches this process alone, which then ends them in
    order, each with time to stop its car. Programs of this package also end once this process
    is gone.
    """

    popen: ClassVar[Callable[..., subprocess.Popen[bytes]]] = subprocess.Popen

    def __init__(self, log_folder: Path, environment: Mapping[str, str]) -> None:
        """Write the output of each process to a file in ``log_folder``."""
        self._log_folder = log_folder
        self._environment = environment
        self.nodes: list[NodeProcess] = []

    def start(
        self, program: str, parameters: Mapping[str, object], namespace: str = ''
    ) -> NodeProcess:
        """Start a node program; in a namespace its process is called PROGRAM.NAMESPACE."""
        name = f'{program}.{namespace}' if namespace else program
        return self.run(name, node_command(program, parameters, namespace))

    def run(self, name: str, command: Sequence[str], *, optional: bool = False) -> NodeProcess:
        """Start a command line under a unique name; see :attr:`NodeProcess.optional`."""
        log_path = self._log_folder / f'{name}.log'
        with log_path.open('wb') as log, _interruptions_held_back():
            process = self.popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**self._environment, PARENT_VARIABLE: str(os.getpid())},
                start_new_session=True,
            )
            node = NodeProcess(name, process, log_path, optional)
            self.nodes.append(node)
        return node

    def ended_early(self) -> NodeProcess | None:
        """Return a process that has failed, or None."""
        needed = (node for node in self.nodes if not node.optional)
        return next((node for node in needed if node.process.poll() not in (None, 0)), None)

    def end(self) -> dict[str, int]:
        """End all processes, the newest first; return their exit statuses by name."""
        with _interruptions_held_back(for_good=True):  # a second Ctrl-C must not orphan them
            for node in reversed(self.nodes):
                _end(node.process)
        return {node.name: node.process.returncode for node in self.nodes}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@dataclass
class Interruption:
    """Whether the user has asked this program to end."""

    happened: bool = False

    def check(self) -> None:
        if self.happened:
            raise KeyboardInterrupt


@contextmanager
def interruptions_noted(
    *, raising: bool = False, patient: bool = False, numbers: Sequence[int] = INTERRUPTIONS
) -> Iterator[Interruption]:
    """Record Ctrl-C and similar signals; the block checks where it can end cleanly.

    A KeyboardInterrupt alone may be raised inside a destructor or a callback, and is lost there.

    Args:
        raising: also raise KeyboardInterrupt, for blocks that rarely check.
        patient: raise it only from the second signal on.
        numbers: signals; none arrives outside of the main thread.
    """
    noted = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(*_: object) -> None:
        again, noted.happened = noted.happened, True
        if raising and (again or not patient):
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, note) for number in _not_ignored(numbers)}
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _not_ignored(numbers: Sequence[int]) -> list[int]:
    """Return the signals without SIGHUP if nohup has set it to be ignored."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in numbers if not (ignored and number == signal.SIGHUP)]


@contextmanager
def _interruptions_held_back(*, for_good: bool = False) -> Iterator[None]:
    """Delay a Ctrl-C until the block is done; drop it with ``for_good``.

    It is not ignored: child processes would inherit that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals do not interrupt other threads
        return
    held: list[int] = []
    previous = {n: signal.signal(n, lambda n, _: held.append(n)) for n in INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        for again in held if not for_good else ():
            signal.raise_signal(again)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process: SIGINT, then SIGTERM, then SIGKILL."""
    for number, patience_s in ENDING:
        if process.poll() is not None:
            return
        process.send_signal(number)
        deadline_s = time.monotonic() + patience_s
        with suppress(subprocess.TimeoutExpired):
            process.wait(deadline_s - time.monotonic())


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run ``count`` busy processes at normal priority within the block."""
    started = [
        subprocess.Popen([sys.executable, '-c', BUSY], start_new_session=True)  # noqa: S603  ours
        for _ in range(count)
    ]
    try:
        yield started
    finally:
        for process in started:
            process.terminate()
        for process in started:
            process.wait()

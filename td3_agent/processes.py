# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Starts node programs as processes of their own and ends every one of them."""

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
from td3_agent.nodes.share import shared_path
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
PARTICIPANTS = 16  # that are looked for
LOCK_S = 15.0  # longer than the first process needs to be seen
DOMAIN_WAIT_S = 2.0 * LOCK_S
DOMAIN_LOOK_S = 0.25
# Seen by every user and container that shares the ports, and gone with the process.
LOCK_ADDRESS = '\0td3_agent_domain_'
_locks: deque[tuple[float, int]] = deque()  # when taken, and the open socket; the oldest first
INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Ends with its parent, however that ends.
BUSY = 'import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    sum(range(10_000))'
ENDING = ((signal.SIGINT, 5.0), (signal.SIGTERM, 3.0), (signal.SIGKILL, 3.0))


def free_domain_id() -> int:
    """Return a ROS domain id that nobody on this machine uses, and that nobody else is given.

    It takes a moment until the first participant can be seen; a lock keeps the domain until then.
    Where many were given away lately, one is waited for.

    Raises:
        RuntimeError: all of them stay in use.
    """
    end_s = time.monotonic() + DOMAIN_WAIT_S
    while True:
        _let_go_of_old_locks()
        for domain_id in random.SystemRandom().sample(DOMAIN_IDS, len(DOMAIN_IDS)):
            if not _is_in_use(domain_id) and _lock_domain(domain_id):
                return domain_id
        if time.monotonic() > end_s:
            raise RuntimeError('all ROS domain ids from 1 to 101 are in use on this machine')
        time.sleep(DOMAIN_LOOK_S)


def _is_in_use(domain_id: int) -> bool:
    """Whether a participant listens in a domain; the first ones may have ended before others."""
    first_port = PORT_BASE + PORT_DOMAIN_GAIN * domain_id + PORT_UNICAST
    for participant in range(PARTICIPANTS):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.bind(('', first_port + PORT_PARTICIPANT_GAIN * participant))
            except OSError:
                return True
    return False


def _lock_domain(domain_id: int) -> bool:
    """Take the lock of a domain for :data:`LOCK_S`, unless another program or call holds it."""
    lock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        lock.bind(f'{LOCK_ADDRESS}{domain_id}')
    except OSError:
        lock.close()
        return False
    _locks.append((time.monotonic(), lock.detach()))
    return True


def _let_go_of_old_locks() -> None:
    """Release the domains that are in use by now, or never will be."""
    while _locks and time.monotonic() - _locks[0][0] > LOCK_S:
        os.close(_locks.popleft()[1])


def ros_environment(domain_id: int) -> dict[str, str]:
    """Return an environment in which ROS traffic stays on this machine and in one domain.

    Fast DDS gets the package's profile, unless another one is named already.
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
    for key, value in parameters.items():
        command += ['-p', f'{key}:={_yaml(value)}']
    if namespace:
        command += ['-r', f'__ns:=/{namespace}']
    return command


def _yaml(value: object) -> str:
    """Write a parameter value so that YAML reads the same type again."""
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
        log_path: where its output goes.
        aside: whether the others can go on without it.
    """

    name: str
    process: subprocess.Popen[bytes]
    log_path: Path
    aside: bool = False

    def last_words(self, lines: int = 5) -> str:
        """Return the end of its output."""
        text = self.log_path.read_text(encoding='utf-8', errors='replace')
        return '\n'.join(text.splitlines()[-lines:])


class ProcessGroup:
    """Node processes that are started together; leaving the context ends every one.

    They run in sessions of their own: Ctrl-C reaches this process alone, which then ends them
    in order, each with the time to say its last word. Programs of this package also end when
    this process is gone.
    """

    popen: ClassVar[Callable[..., subprocess.Popen[bytes]]] = subprocess.Popen

    def __init__(self, log_folder: Path, environment: Mapping[str, str]) -> None:
        """Write outputs to ``log_folder``, one file per process."""
        self._log_folder = log_folder
        self._environment = environment
        self.nodes: list[NodeProcess] = []

    def start(
        self, program: str, parameters: Mapping[str, object], namespace: str = ''
    ) -> NodeProcess:
        """Start a node program; in a namespace, its process is called PROGRAM.NAMESPACE."""
        name = f'{program}.{namespace}' if namespace else program
        return self.run(name, node_command(program, parameters, namespace))

    def run(self, name: str, command: Sequence[str], *, aside: bool = False) -> NodeProcess:
        """Start a program by its command line, under a name of its own in this group.

        One that runs ``aside`` may end early: the others go on without it.
        """
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
            node = NodeProcess(name, process, log_path, aside)
            self.nodes.append(node)
        return node

    def ended_early(self) -> NodeProcess | None:
        """Return a process that has ended with an error, if there is one."""
        needed = (node for node in self.nodes if not node.aside)
        return next((node for node in needed if node.process.poll() not in (None, 0)), None)

    def end(self) -> dict[str, int]:
        """End all processes, the last started first; return their exit statuses by name."""
        with _interruptions_held_back(for_good=True):  # a second Ctrl-C leaves nobody behind
            for node in reversed(self.nodes):
                _end(node.process)
        return {node.name: node.process.returncode for node in self.nodes}

    def __enter__(self) -> Self:
        """Return the group itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End everything, whatever happened."""
        self.end()


@dataclass
class Interruption:
    """Whether this program was asked to end."""

    happened: bool = False

    def check(self) -> None:
        """Raise KeyboardInterrupt if it was."""
        if self.happened:
            raise KeyboardInterrupt


@contextmanager
def interruptions_noted(
    *, raising: bool = False, patient: bool = False, numbers: Sequence[int] = INTERRUPTIONS
) -> Iterator[Interruption]:
    """Note a Ctrl-C and its like, for the block to look at where it can end cleanly.

    As an exception alone it may come up inside a destructor or a callback, and is lost there.

    Args:
        raising: raise it too, for blocks that are long between two looks.
        patient: raise it from the second one on only.
        numbers: signals; outside of the main thread none of them comes.
    """
    noted = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield noted
        return

    def note(*_: object) -> None:
        again, noted.happened = noted.happened, True
        if raising and (again or not patient):
            raise KeyboardInterrupt

    previous = {number: signal.signal(number, note) for number in _heard(numbers)}
    try:
        yield noted
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _heard(numbers: Sequence[int]) -> list[int]:
    """Return signals without a hang-up that nohup had this program ignore."""
    ignored = signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    return [number for number in numbers if not (ignored and number == signal.SIGHUP)]


@contextmanager
def _interruptions_held_back(*, for_good: bool = False) -> Iterator[None]:
    """Let a Ctrl-C wait until the block is done, or be forgotten.

    Held back, not ignored: a process inherits what is ignored when it is started.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals never interrupt this one
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
    """Ask a process to end, then insist."""
    for number, patience_s in ENDING:
        if process.poll() is not None:
            return
        process.send_signal(number)
        deadline_s = time.monotonic() + patience_s
        with suppress(subprocess.TimeoutExpired):
            process.wait(deadline_s - time.monotonic())


@contextmanager
def busy_processes(count: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Keep so many processes computing at normal priority within the block."""
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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Reads this machine and, in a probe, the graph for the doctor's checks. Needs no ROS 2.

Imports that may crash or hang run in a separate process, a probe. It answers in lines of JSON, on
a descriptor that nothing else writes to.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
import errno
from importlib import import_module
from itertools import takewhile
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from td3_agent.doctor.facts import (
    NOT_IN_TIME,
    NOT_TRIED,
    Copy,
    Import,
    Machine,
    Participant,
    Torch,
    judged,
)
from td3_agent.fastdds import read_profile
from td3_agent.files import shared_path
from td3_agent.ros_domain import (
    LAST_SAFE_DOMAIN,
    PORT_BASE,
    PORT_DOMAIN_GAIN,
    PORT_PARTICIPANT_GAIN,
    PORT_UNICAST,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from typing_extensions import Self

# Torch last: it takes longest, and its libraries may break others.
MODULES = (
    'numpy',
    'yaml',
    'rclpy',
    'geometry_msgs.msg',
    'carla_msgs.msg',
    'google.protobuf',
    'cv2',
    'carla',
    'torch',
)
# On standard error, from an import that continued.
HALF_BROKEN = ('_ARRAY_API', 'compiled using NumPy')
WATCHED_VARIABLES = re.compile(r'HOME$|ROS_|RMW_|FASTRTPS_|FASTDDS_|CYCLONEDDS_|AMENT_')
# Distributions whose second copy or wrong version is known to break something.
WATCHED_COPIES = re.compile(
    r'(numpy|scipy|protobuf|carla|torch|rclpy|carla-msgs|pyyaml|opencv-.*)'
)
MOST_PARTICIPANTS = 60
SHARED_MEMORY = Path('/dev/shm')  # noqa: S108  where Fast DDS keeps its segments
NVIDIA_DRIVER = Path('/proc/driver/nvidia/version')
# With this program's sys.path, wherever it was started.
PROGRAM = f'import json, sys; sys.path[:] = json.loads(sys.argv[1]); import {__name__} as d; d.'


class Probe:
    """A child process; the end of the block kills it if it still runs."""

    def __init__(self, program: Callable[[], None], *words: str, patience_s: float) -> None:
        """Start it.

        Args:
            program: a function of this module.
            words: its arguments, from ``sys.argv[2]`` on.
            patience_s: time limit from now on [s].
        """
        self.patience_s = patience_s
        self._end_s = time.monotonic() + patience_s
        # In memory: a grandchild could hold a pipe open, and a disk may be full.
        self._said = os.fdopen(os.memfd_create('answers'), 'rb')
        code = f'{PROGRAM}{program.__name__}()'
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, '-c', code, json.dumps(sys.path), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        self._said.close()

    def wait(self) -> str:
        """Return how it ended; NOT_IN_TIME at the time limit."""
        try:
            status = self._process.wait(timeout=max(self._end_s - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return NOT_IN_TIME
        by_signal = f'was ended by signal {-status}'
        return by_signal if status < 0 else f'ended the program with {status}'

    def answers(self) -> list[dict[str, Any]]:
        """Return the answers so far, whole lines only."""
        self._said.seek(0)
        return [json.loads(line) for line in self._said.read().split(b'\n')[:-1]]


def _answering() -> Callable[[dict[str, Any]], None]:
    """Return a function that writes an answer of this probe, unbuffered: the next step may crash.

    All other output is dropped from here on.
    """
    out = os.fdopen(os.dup(1), 'w', encoding='utf-8', buffering=1)
    with open(os.devnull, 'wb') as nowhere:  # noqa: PTH123  a device
        os.dup2(nowhere.fileno(), 1)
    return lambda row: print(json.dumps(row), file=out)


def read_graph() -> None:
    """Answer with the findings of the running graph, or with why it cannot be read.

    A program of :class:`Probe`; its arguments are a duration [s], role name and camera id.
    """
    answer = _answering()
    seconds, role_name, camera_id = sys.argv[2:]
    try:
        from td3_agent.doctor.gather_graph import gather_graph  # noqa: PLC0415  needs rclpy
        from td3_agent.doctor.graph_checks import GRAPH_CHECKS  # noqa: PLC0415

        hashes = message_hashes(os.environ.get('AMENT_PREFIX_PATH', '').split(':'))
        graph = gather_graph(float(seconds), role_name, camera_id, message_hashes=hashes)
        graph = replace(graph, participants=tuple(participants(udp_table(), os.getppid())))
        answer({'findings': [asdict(finding) for finding in judged(GRAPH_CHECKS, graph)]})
    except Exception as error:  # noqa: BLE001  whatever it is, it is the answer
        answer({'error': f'{type(error).__name__}: {error}'})
    os._exit(0)  # a crash at exit is no finding


def import_all() -> None:
    """Answer with the result of each import, one after the other.

    A program of :class:`Probe`; its arguments are the names of the modules.
    """
    answer = _answering()
    for name in sys.argv[2:]:
        answer({'name': name, **_tried(name)})
    os._exit(0)  # a crash at exit is no finding


def _tried(name: str) -> dict[str, Any]:
    """Import one module; its standard error is read, not shown."""
    with os.fdopen(os.memfd_create('stderr'), 'rb') as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            found = _imported(name)
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        lines = said.read().decode(errors='replace').splitlines()
    broken = [line.strip() for line in lines if any(sign in line for sign in HALF_BROKEN)]
    return {'error': broken[0]} | found if broken else found


def _imported(name: str) -> dict[str, Any]:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name is not None and f'{name}.'.startswith(f'{error.name}.')
        return {'missing': missing, 'error': str(error)}
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the answer
        return {'error': f'{type(error).__name__}: {error}'.splitlines()[0][:300]}
    paths = [getattr(module, '__file__', None), *getattr(module, '__path__', [])]
    found: dict[str, Any] = {
        'version': str(getattr(module, '__version__', '')),
        'path': next((path for path in paths if path), ''),
    }
    if name == 'torch':
        cuda = getattr(module, 'cuda', None)
        found['torch'] = {
            'cuda_build': getattr(getattr(module, 'version', None), 'cuda', None) or '',
            'cuda_runs': bool(cuda and cuda.is_available()),
        }
    return found


def gather_imports(
    modules: Sequence[str], patience_s: float
) -> tuple[dict[str, Import], Torch | None]:
    """Return the result of each import, and the facts of torch.

    All are imported in one process, as in the programs. If one ends the process, another process
    continues with the rest; if one hangs, the rest are not tried. Failed imports are tried again
    alone, which tells a clash from a broken module.
    """
    end_s = time.monotonic() + patience_s
    answers = _answers(modules, end_s)
    torch = answers.get('torch', {}).pop('torch', None)
    found = {name: Import(**answer) for name, answer in answers.items()}
    suspects = [name for name, it in found.items() if it.failed and not it.missing]
    with ThreadPoolExecutor(max_workers=2) as pool:
        again = pool.map(lambda name: _probe([name], end_s)[name], suspects)
    for name, answer in zip(suspects, again, strict=True):
        if answer.get('error') != NOT_IN_TIME:
            found[name] = replace(found[name], alone='error' not in answer)
    return found, Torch(**torch) if torch else None


def _answers(modules: Sequence[str], end_s: float) -> dict[str, dict[str, Any]]:
    """Import all, in as many processes as needed."""
    answers: dict[str, dict[str, Any]] = {}
    left = list(modules)
    while left:
        answers |= _probe(left, end_s)
        last = next(reversed(answers))
        left = left[left.index(last) + 1 :]
        if answers[last].get('error') == NOT_IN_TIME:
            return answers | {name: {'error': NOT_TRIED} for name in left}
    return answers


def _probe(names: Sequence[str], end_s: float) -> dict[str, dict[str, Any]]:
    """Import in one process; if that ends early, the last answer says how."""
    with Probe(import_all, *names, patience_s=end_s - time.monotonic()) as probe:
        ended = probe.wait()
        answers = {answer.pop('name'): answer for answer in probe.answers()}
    if len(answers) < len(names):
        why = ended if ended == NOT_IN_TIME else f'the import {ended}'
        answers[names[len(answers)]] = {'error': why}
    return answers


def gather_machine(*, camera_px: tuple[int, int], out_folder: Path, patience_s: float) -> Machine:
    """Return the facts of this machine.

    Args:
        camera_px: width and height of the camera's images [px].
        out_folder: folder for results.
        patience_s: time limit of all imports together [s].
    """
    imports, torch = gather_imports(MODULES, patience_s)
    environment = {k: v for k, v in os.environ.items() if WATCHED_VARIABLES.match(k)}
    prefixes = tuple(filter(None, environment.get('AMENT_PREFIX_PATH', '').split(':')))
    shm = shutil.disk_usage(SHARED_MEMORY) if SHARED_MEMORY.exists() else None
    checkout, config = package_folders()
    table = udp_table()
    return Machine(
        python=(sys.version_info[0], sys.version_info[1]),
        executable=sys.executable,
        environment=environment,
        imports=imports,
        copies=tuple(installed_copies(sys.path)),
        ros_prefixes=prefixes,
        rmw_installed=tuple(sorted(rmw_names(prefixes))),
        message_hashes=message_hashes(prefixes),
        message_prefixes=message_prefixes(prefixes),
        torch=torch,
        nvidia_driver=NVIDIA_DRIVER.exists(),
        profile=read_profile(environment),
        shm_total_bytes=shm.total if shm else 0,
        shm_free_bytes=shm.free if shm else 0,
        **disk_facts(out_folder),
        checkout=checkout,
        config=config,
        udp_ports=tuple(port for port, _, _ in table),
        camera_px=camera_px,
        user=os.getuid(),
        participants=tuple(participants(table)),
    )


def package_folders() -> tuple[str, str]:
    """Return the folder of our sources, empty without them, and that of our profiles."""
    root = Path(__file__).resolve().parents[2]
    if (root / 'env.sh').exists():
        return str(root), str(root / 'config')
    with suppress(OSError):  # no ROS 2 is sourced
        return '', str(shared_path('config'))
    return '', 'config'


def disk_facts(folder: Path) -> dict[str, Any]:
    """Return the fields of :class:`Machine` about the disk of results."""
    free_bytes, error = 0, ''
    try:
        folder = folder.absolute()
        free_bytes = shutil.disk_usage(_writable(folder)).free
    except OSError as reason:
        error = reason.strerror or str(reason)
    return {'disk_folder': str(folder), 'disk_free_bytes': free_bytes, 'disk_error': error}


def _writable(folder: Path) -> Path:
    """Return the nearest existing parent of a folder, or itself.

    Raises:
        OSError: it is no folder, or not writable.
    """
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, f'{there} is not a folder')
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, f'{there} is not writable')
    return there


def installed_copies(path: Sequence[str]) -> Iterator[Copy]:
    """Yield the watched distributions in each folder of ``sys.path``, in its order."""
    seen: set[Path] = set()
    for entry in path:
        folder = Path(entry or '.').resolve()
        if folder in seen or not os.access(folder, os.R_OK):
            continue
        seen.add(folder)
        for found in sorted([*folder.glob('*.dist-info'), *folder.glob('*.egg-info')]):
            name, _, rest = found.stem.partition('-')
            name = name.lower().replace('_', '-').replace('.', '-')
            if WATCHED_COPIES.fullmatch(name):
                yield Copy(name, rest.partition('-py')[0], str(folder))


def rmw_names(prefixes: Sequence[str]) -> set[str]:
    """Return the middleware implementations that ROS 2 prefixes hold."""
    index = 'share/ament_index/resource_index/rmw_typesupport'
    return {entry.name for prefix in prefixes for entry in Path(prefix, index).glob('rmw_*')}


def message_prefixes(prefixes: Sequence[str]) -> tuple[str, ...]:
    """Return the prefixes that hold a carla_msgs."""
    marker = 'share/ament_index/resource_index/packages/carla_msgs'
    return tuple(dict.fromkeys(prefix for prefix in prefixes if Path(prefix, marker).exists()))


def message_hashes(prefixes: Sequence[str]) -> dict[str, str]:
    """Return the type hashes of the carla_msgs in use, by type name."""
    hashes: dict[str, str] = {}
    for prefix in message_prefixes(prefixes)[:1]:
        for path in Path(prefix, 'share/carla_msgs/msg').glob('*.json'):
            with suppress(OSError, ValueError, KeyError):
                for row in json.loads(path.read_text(encoding='utf-8'))['type_hashes']:
                    hashes[row['type_name']] = row['hash_string']
    return hashes


def udp_table(text: str | None = None) -> list[tuple[int, int, str]]:
    """Return port, user id and inode of each UDP socket of this network namespace.

    Args:
        text: content of /proc/net/udp; None reads it.
    """
    if text is None:
        with suppress(OSError):
            text = Path('/proc/net/udp').read_text(encoding='ascii')
    rows = [line.split() for line in (text or '').splitlines()[1:]]
    return [(int(row[1].rpartition(':')[2], 16), int(row[7]), row[9]) for row in rows]


def participants(
    table: Sequence[tuple[int, int, str]], doctor: int | None = None
) -> Iterator[Participant]:
    """Yield the DDS participants of this machine without the doctor's probes.

    Args:
        table: UDP sockets; discovery ports belong to participants.
        doctor: process id of the doctor; None: this process.
    """
    by_domain = [(domain_of(port), user, inode) for port, user, inode in table]
    inodes = {inode for domain, _, inode in by_domain if domain is not None}
    programs = _programs(inodes, os.getpid() if doctor is None else doctor)
    for domain, user, inode in by_domain:
        program = programs.get(inode, '')
        if domain is not None and program is not None:
            yield Participant(domain, user, program)


def domain_of(port: int) -> int | None:
    """Return the domain of a participant's discovery port; None for any other port."""
    domain_id, offset = divmod(port - PORT_BASE, PORT_DOMAIN_GAIN)
    number, odd = divmod(offset - PORT_UNICAST, PORT_PARTICIPANT_GAIN)
    if 0 <= domain_id <= LAST_SAFE_DOMAIN and 0 <= number < MOST_PARTICIPANTS and not odd:
        return domain_id
    return None


def _programs(inodes: set[str], doctor: int) -> dict[str, str | None]:
    """Return the program of each socket, as far as permitted; None for the doctor's."""
    wanted = {f'socket:[{inode}]': inode for inode in inodes}
    names: dict[str, str | None] = {}
    for folder in Path('/proc').glob('[0-9]*') if wanted else ():
        with suppress(OSError):  # ended, or another user's
            with os.scandir(folder / 'fd') as entries:
                held = {os.readlink(entry.path) for entry in entries}  # noqa: PTH115  fast
            words = (folder / 'cmdline').read_text(errors='replace').split('\0')
            parent = (folder / 'stat').read_text(errors='replace').rpartition(')')[2].split()[1]
            name = None if int(parent) == doctor else _program_name(words)
            names |= dict.fromkeys((wanted[target] for target in held & wanted.keys()), name)
    return names


def _program_name(words: Sequence[str]) -> str:
    """Return the program, script or module that a command line runs."""
    options = list(takewhile(lambda word: word.startswith('-'), words[1:]))
    rest = [word for word in words[1 + len(options) :] if word]
    name = Path(words[0]).name
    if name.startswith('python') and '-c' in options:
        return f'{name} -c'
    if not name.startswith('python') or not rest:
        return name
    return rest[0].rpartition('.')[2] if '-m' in options else Path(rest[0]).name

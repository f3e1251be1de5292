# SPDX-License-Identifier: Apache-2.0
"""Reads this machine for the doctor's checks. Needs no ROS 2."""

from __future__ import annotations

from contextlib import suppress
import errno
from itertools import takewhile
import json
import os
from pathlib import Path
import re
import shutil
import sys
from typing import TYPE_CHECKING, Any

from td3_agent.doctor.facts import LAST_SAFE_DOMAIN, Copy, Machine, Participant
from td3_agent.doctor.gather_imports import MODULES, gather_imports
from td3_agent.doctor.gather_profile import read_profile
from td3_agent.nodes.share import shared_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WATCHED_VARIABLES = re.compile(r'HOME$|ROS_|RMW_|FASTRTPS_|FASTDDS_|CYCLONEDDS_|AMENT_')
# Distributions whose second copy, or wrong version, has been seen to break something.
WATCHED_COPIES = re.compile(
    r'(numpy|scipy|protobuf|carla|torch|rclpy|carla-msgs|pyyaml|opencv-.*)'
)
# RTPS 2.2, 9.6.1.1: unicast discovery port of participant k of a domain.
PORT_BASE, PORT_DOMAIN_GAIN, PORT_UNICAST, PORT_PARTICIPANT_GAIN = 7400, 250, 10, 2
MOST_PARTICIPANTS = 60
SHARED_MEMORY = Path('/dev/shm')  # noqa: S108  where Fast DDS keeps its segments
NVIDIA_DRIVER = Path('/proc/driver/nvidia/version')


def gather_machine(
    *,
    camera_px: tuple[int, int],
    out_folder: Path,
    patience_s: float,
    modules: Sequence[str] = MODULES,
) -> Machine:
    """Return what the checks need to know.

    Args:
        camera_px: width and height of the camera's images [px].
        out_folder: where results will go.
        patience_s: longest time for all imports together [s].
        modules: what to import.
    """
    imports, torch = gather_imports(modules, patience_s)
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
    """Return the folder of our sources, empty where there are none, and that of our profiles."""
    root = Path(__file__).resolve().parents[2]
    if (root / 'env.sh').exists():
        return str(root), str(root / 'config')
    with suppress(OSError):  # no ROS 2 sourced: then nobody knows
        return '', str(shared_path('config'))
    return '', 'config'


def disk_facts(folder: Path) -> dict[str, Any]:
    """Return what :class:`Machine` says of the disk that results go to."""
    free_bytes, error = 0, ''
    try:
        folder = folder.absolute()
        free_bytes = shutil.disk_usage(_writable(folder)).free
    except OSError as reason:
        error = reason.strerror or str(reason)
    return {'disk_folder': str(folder), 'disk_free_bytes': free_bytes, 'disk_error': error}


def _writable(folder: Path) -> Path:
    """Return the folder that exists of one that is, or will be, written to.

    Raises:
        OSError: it cannot be made, or nothing can be written there.
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


def participants(table: Sequence[tuple[int, int, str]]) -> Iterator[Participant]:
    """Yield the DDS participants of this machine, by their discovery ports in a UDP table."""
    by_domain = [(domain_of(port), user, inode) for port, user, inode in table]
    programs = _programs({inode for domain, _, inode in by_domain if domain is not None})
    for domain, user, inode in by_domain:
        program = programs.get(inode, '')
        if domain is not None and program is not None:
            yield Participant(domain, user, program)


def domain_of(port: int) -> int | None:
    """Return the domain that a UDP port is a participant's discovery port of, if it is one."""
    domain_id, offset = divmod(port - PORT_BASE, PORT_DOMAIN_GAIN)
    number, odd = divmod(offset - PORT_UNICAST, PORT_PARTICIPANT_GAIN)
    if 0 <= domain_id <= LAST_SAFE_DOMAIN and 0 <= number < MOST_PARTICIPANTS and not odd:
        return domain_id
    return None


def _programs(inodes: set[str]) -> dict[str, str | None]:
    """Return the programs that hold sockets, as far as we may see them; None for the doctor's."""
    wanted = {f'socket:[{inode}]': inode for inode in inodes}
    names: dict[str, str | None] = {}
    for folder in Path('/proc').glob('[0-9]*') if wanted else ():
        with suppress(OSError):  # ended, or somebody else's
            with os.scandir(folder / 'fd') as entries:
                held = {os.readlink(entry.path) for entry in entries}  # noqa: PTH115  fast
            words = (folder / 'cmdline').read_text(errors='replace').split('\0')
            parent = (folder / 'stat').read_text(errors='replace').rpartition(')')[2].split()[1]
            name = None if int(parent) == os.getpid() else _program_name(words)
            names |= dict.fromkeys((wanted[target] for target in held & wanted.keys()), name)
    return names


def _program_name(words: Sequence[str]) -> str:
    """Return what a command line runs, as people call it."""
    options = list(takewhile(lambda word: word.startswith('-'), words[1:]))
    rest = [word for word in words[1 + len(options) :] if word]
    name = Path(words[0]).name
    if name.startswith('python') and '-c' in options:
        return f'{name} -c'
    if not name.startswith('python') or not rest:
        return name
    return rest[0].rpartition('.')[2] if '-m' in options else Path(rest[0]).name

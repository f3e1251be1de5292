# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Facts of a machine, and the findings of checks. Plain values, no library."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TypeVar

from td3_agent.fastdds import Profile

# Why the result of an import is unknown.
NOT_IN_TIME, NOT_TRIED = 'not imported in time', 'not tried: an import before it hung'
APT_FOLDERS = ('/usr/lib/python3/dist-packages', '/opt/ros')
DEFAULT_RMW = 'rmw_fastrtps_cpp'
FAST_DDS_RMWS = (DEFAULT_RMW, 'rmw_fastrtps_dynamic_cpp')
MEGABYTE = 1_000_000
Version = tuple[int, int]

# Of the apt packages; PyPI has wheels of rclpy for several Pythons.
PYTHON_OF_DISTRO: dict[str, Version] = {
    'foxy': (3, 8),
    'galactic': (3, 8),
    'humble': (3, 10),
    'iron': (3, 10),
    'jazzy': (3, 12),
    'kilted': (3, 12),
}
ENDED_DISTROS = ('foxy', 'galactic', 'iron')
PYTHONS_OF_ROS_WHEELS: tuple[Version, ...] = ((3, 10), (3, 11), (3, 12))  # and of this package
NUMPY_OF_ROS = 1  # major version that the apt packages of all distributions are compiled against
PYTHONS_OF_CARLA: dict[str, tuple[Version, ...]] = {
    '0.9.13': ((3, 6), (3, 7), (3, 8)),
    '0.9.14': ((3, 7), (3, 8)),
    '0.9.15': ((3, 7), (3, 8), (3, 9), (3, 10)),
    '0.9.16': ((3, 10), (3, 11), (3, 12)),
}
SIM_CARLA = '0.9.16'  # which the embedded simulator is tested with

# Type hashes (REP 2011) of the messages of carla_msgs 1.3.0 that this package uses.
CARLA_MSGS_HASHES = {
    f'carla_msgs/msg/Carla{name}': f'RIHS01_{digest}'
    for name, digest in (
        ('CollisionEvent', 'd77acb472c5effb98998bfb2e176ae3ffac0a84ce33a79f90e999544e3fcfeff'),
        ('Control', '7053e4e9ec21223b8f3a67944cc19fac0e419791a87e59438a56ba9efce2a9ac'),
        ('EgoVehicleControl', '4f251fa2a554e8ed996f77eb1d5b65515af1369eceb04d5122cb5761f7801be3'),
        ('EgoVehicleInfo', 'b8dc3866014924ce7fe57e0cff05a5448ec18f27156656b3b1b69f4da558e956'),
        ('EgoVehicleStatus', '3565cc74470f5c37eb316a36426effd811ac1baf835df3fc2bb7a88574bb3e07'),
        ('LaneInvasionEvent', 'ec4d0e28a97c4a7952a100d47a801996d0463ad7fe0e08a96049de4b19656508'),
        ('Status', 'a3f7fb6fc4b673840e0c092c3c9e52a8120885ba603e0125a23f58ac279c0c13'),
        ('WorldInfo', 'b7093c2a34078b682bef09c0e60c76b06542f8ab4ea69756f9505ca06655e9ab'),
    )
}


class Level(IntEnum):
    """Severity of a finding; an error keeps the vehicle from driving."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


OK, NOTE, WARNING, ERROR = Level


@dataclass(frozen=True)
class Diagnosis:
    """Result of a check: what was found, and what to do about it, if anything."""

    level: Level
    check: str
    text: str
    fix: str = ''

    def line(self) -> str:
        fix = f'; fix: {self.fix}' if self.fix else ''
        return f'{self.level.name.lower():<8}{self.check:<11}{self.text}{fix}'.replace('\n', ' ')


T = TypeVar('T')
Fault = tuple[Level, str, str]  # severity, text, fix
# A check yields its faults, and returns the text for a subject without any.
Faults = Generator[Fault, None, str]
Checks = Mapping[str, Callable[[T], Faults]]


def judged(checks: Checks[T], subject: T) -> list[Diagnosis]:
    """Return the findings of every check, in order."""
    return [
        Diagnosis(level, name, text, fix)
        for name, check in checks.items()
        for level, text, fix in _faults(check(subject))
    ]


def _faults(faults: Faults) -> list[Fault]:
    found: list[Fault] = []
    while True:
        try:
            found.append(next(faults))
        except StopIteration as end:  # noqa: PERF203  the only access to a generator's return value
            return found or [(OK, end.value, '')] * bool(end.value)


def version_text(version: Version) -> str:
    return f'{version[0]}.{version[1]}'


def distros_for_carla(version: str) -> list[str]:
    """Return the distributions whose Python has a wheel of this CARLA."""
    pythons = PYTHONS_OF_CARLA.get(version, ())
    return [distro for distro, python in PYTHON_OF_DISTRO.items() if python in pythons]


def megabytes(size_bytes: int) -> str:
    return f'{size_bytes / MEGABYTE:.1f} MB'


@dataclass(frozen=True)
class Import:
    """Result of importing a module in a separate process."""

    version: str = ''  # its __version__, if any
    path: str = ''  # file or folder; empty if the import failed
    error: str = ''  # why it failed
    missing: bool = False  # no such module exists
    alone: bool | None = None  # whether the import works alone; None: not tried

    @property
    def failed(self) -> bool:
        """Whether the import ended, with an error."""
        return bool(self.error) and self.error not in {NOT_IN_TIME, NOT_TRIED}


@dataclass(frozen=True)
class Copy:
    """An installed distribution and its folder."""

    name: str
    version: str
    folder: str


@dataclass(frozen=True)
class Participant:
    """A DDS participant of this machine."""

    domain_id: int
    user: int  # id
    program: str = ''  # empty if another user's


@dataclass(frozen=True)
class Torch:
    """The CUDA that PyTorch was built for (empty: none), and whether it works here."""

    cuda_build: str = ''
    cuda_runs: bool = False


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Facts of a machine, without the ROS graph."""

    python: Version
    executable: str
    environment: dict[str, str] = field(default_factory=dict)  # of ROS 2, DDS and HOME
    imports: dict[str, Import] = field(default_factory=dict)  # in the order of importing
    copies: tuple[Copy, ...] = ()  # in the order of sys.path
    ros_prefixes: tuple[str, ...] = ()  # of AMENT_PREFIX_PATH
    rmw_installed: tuple[str, ...] = ()  # in these prefixes
    message_hashes: dict[str, str] = field(default_factory=dict)  # of the carla_msgs in use
    message_prefixes: tuple[str, ...] = ()  # that hold a carla_msgs, the one in use first
    torch: Torch | None = None  # None if it cannot be imported
    nvidia_driver: bool = False
    profile: Profile = field(default_factory=Profile)
    shm_total_bytes: int = 0  # of /dev/shm; 0 without one
    shm_free_bytes: int = 0
    disk_free_bytes: int = 0  # where results go
    disk_folder: str = ''
    disk_error: str = ''  # why nothing can be written there
    checkout: str = ''  # folder of this package's sources; empty without them
    config: str = 'config'  # folder of the shipped profiles
    udp_ports: tuple[int, ...] = ()  # open in this network namespace
    camera_px: tuple[int, int] = (320, 240)  # width and height
    user: int = 0  # our id
    participants: tuple[Participant, ...] = ()

    def shipped(self, name: str) -> str:
        """Return the path of a shipped file, such as ``config/fastdds_camera.xml``."""
        return f'{self.config}/{name.rpartition("/")[2]}'

    @property
    def distro(self) -> str:
        """The distribution that is sourced; empty where none is."""
        return self.environment.get('ROS_DISTRO', '')

    @property
    def is_apt(self) -> bool:
        """Whether rclpy is that of the distribution, not a wheel."""
        rclpy = self.imports.get('rclpy')
        if rclpy is not None and rclpy.path:
            return rclpy.path.startswith(APT_FOLDERS)
        return any(prefix.startswith('/opt/ros/') for prefix in self.ros_prefixes)

    @property
    def uses_fast_dds(self) -> bool:
        """Whether the middleware is Fast DDS, the default."""
        return (self.environment.get('RMW_IMPLEMENTATION') or DEFAULT_RMW) in FAST_DDS_RMWS

    @property
    def lacks_rmw(self) -> bool:
        """Whether the chosen middleware is not installed, which ends rclpy's import."""
        wanted = self.environment.get('RMW_IMPLEMENTATION', '')
        return bool(wanted) and wanted not in self.rmw_installed

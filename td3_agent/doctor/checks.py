# SPDX-License-Identifier: Apache-2.0
"""Judges a machine. Pure: facts in, findings out.

Each check yields what is wrong, and where nothing is, one line that says what was found.
"""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from td3_agent.doctor.discovery_checks import check_discovery, check_rmw
from td3_agent.doctor.domain_checks import check_domain
from td3_agent.doctor.findings import MEGABYTE, Finding, Level, megabytes
from td3_agent.doctor.fixes import build_messages, make_setup
from td3_agent.doctor.package_checks import (
    check_copies,
    check_imports,
    check_numpy,
    check_opencv,
    check_protobuf,
)
from td3_agent.doctor.shm_checks import check_shared_memory
from td3_agent.doctor.versions import (
    CARLA_MSGS_HASHES,
    ENDED_DISTROS,
    PYTHON_OF_DISTRO,
    PYTHONS_OF_ROS_WHEELS,
    SIM_CARLA,
    carla_pythons,
    distros_for_carla,
    text,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from td3_agent.doctor.facts import Machine

LEAST_DISK_BYTES, ENOUGH_DISK_BYTES = 100 * MEGABYTE, 1000 * MEGABYTE


def all_findings(machine: Machine) -> list[Finding]:
    """Return the findings of every check, in order."""
    found: list[Finding] = []
    for check in CHECKS:
        found += check(machine)
    return found


def check_python(machine: Machine) -> Iterator[Finding]:
    """This package's Python, and the distribution's."""
    python, distro = machine.python, machine.distro
    found = f'Python {text(python)} ({machine.executable})'
    if python not in PYTHONS_OF_ROS_WHEELS:
        fix = f'use Python 3.10, 3.11 or 3.12 ({make_setup(machine)} PYTHON=/path/to/it)'
        yield Finding(Level.ERROR, 'python', f'{found} is not supported', fix)
        return
    native = PYTHON_OF_DISTRO.get(distro)
    if native and native != python and machine.is_apt:
        yield Finding(
            Level.ERROR,
            'python',
            f'{found}, but ROS 2 {distro} from apt is built for Python {text(native)}',
            f'start with /usr/bin/python{text(native)}, or use the PyPI wheels: '
            f'{make_setup(machine)}',
        )
        return
    yield Finding(Level.OK, 'python', found)


def check_distro(machine: Machine) -> Iterator[Finding]:
    """One distribution, a living one, and the one that was sourced."""
    distro = machine.distro
    sourced = {
        PurePath(prefix).parts[3]
        for prefix in machine.ros_prefixes
        if prefix.startswith('/opt/ros/') and len(PurePath(prefix).parts) > 3
    }
    if not distro:
        ours = f'source {machine.checkout}/env.sh, or ' if machine.checkout else 'source '
        fix = f'{ours}/opt/ros/*/setup.bash'
        yield Finding(Level.WARNING, 'distro', 'no ROS 2 is sourced', fix)
    elif sourced - {distro}:
        names = ', '.join(sorted(sourced | {distro}))
        fix = 'open a new shell and source one of them only'
        yield Finding(Level.ERROR, 'distro', f'several distributions at once: {names}', fix)
    elif distro in ENDED_DISTROS:
        fix = f'move to one that CARLA {SIM_CARLA} shares a Python with: humble, jazzy or later'
        yield Finding(Level.WARNING, 'distro', f'ROS 2 {distro} is no longer supported', fix)
    else:
        source = 'apt' if machine.is_apt else 'PyPI wheels'
        yield Finding(Level.OK, 'distro', f'ROS 2 {distro} from {source}')


def check_carla(machine: Machine) -> Iterator[Finding]:
    """The CARLA wheel, its Python, and the distributions that share it."""
    carla = machine.imports.get('carla')
    version = next((copy.version for copy in machine.copies if copy.name == 'carla'), '')
    if carla is None or (carla.missing and not version):
        yield Finding(
            Level.NOTE,
            'carla',
            'no CARLA wheel: the embedded simulator and the bridge need one, the agent does not',
            f'pip install carla=={SIM_CARLA}',
        )
        return
    pythons = carla_pythons(version)
    if carla.failed and pythons and machine.python not in pythons:
        distros = ' or '.join(distros_for_carla(version)) or 'no distribution in use'
        yield Finding(
            Level.ERROR,
            'carla',
            f'carla {version} has wheels for Python {", ".join(map(text, pythons))} only, this is '
            f'{text(machine.python)}',
            f'pip install carla=={SIM_CARLA}; from apt, {distros} shares a Python with {version}',
        )
    elif not carla.error and version and version != SIM_CARLA:
        fix = f'pip install carla=={SIM_CARLA}, or keep it and use it with its own server alone'
        text_ = f'carla {version}; the embedded simulator is tested with {SIM_CARLA}'
        yield Finding(Level.WARNING, 'carla', text_, fix)
    elif not carla.error:
        yield Finding(Level.OK, 'carla', f'carla {version} from {carla.path}')


def check_torch(machine: Machine) -> Iterator[Finding]:
    """PyTorch and the GPU fit each other."""
    if machine.torch is None:
        return
    build = f'CUDA {machine.torch.cuda_build}' if machine.torch.cuda_build else 'CPU only'
    if machine.torch.cuda_runs:  # whatever the rest looks like: on WSL no driver is in /proc
        yield Finding(Level.OK, 'torch', 'GPU in use')
    elif machine.torch.cuda_build and machine.nvidia_driver:
        fix = 'update the NVIDIA driver, or in a container start it with --gpus all'
        said = f'PyTorch is built for {build}, but cannot use the GPU'
        yield Finding(Level.WARNING, 'torch', said, fix)
    elif machine.torch.cuda_build:
        fix = 'install the CPU build from the CPU index of PyTorch; it is several GB smaller'
        said = f'PyTorch is built for {build}, but there is no NVIDIA driver: it uses the CPU'
        yield Finding(Level.NOTE, 'torch', said, fix)
    elif machine.nvidia_driver:
        fix = 'for training on the GPU, install a CUDA build of the same PyTorch'
        said = 'PyTorch is built for the CPU only, but there is an NVIDIA driver'
        yield Finding(Level.NOTE, 'torch', said, fix)
    else:
        yield Finding(Level.OK, 'torch', build)


def check_messages(machine: Machine) -> Iterator[Finding]:
    """carla_msgs has the definitions that bridge and agent share."""
    if len(machine.message_prefixes) > 1:
        first, *others = machine.message_prefixes
        said = f'carla_msgs in {first} hides the one in {", ".join(others)}'
        fix = 'source the workspace of one of them only'
        yield Finding(Level.WARNING, 'messages', said, fix)
    other = sorted(
        name
        for name, wanted in CARLA_MSGS_HASHES.items()
        if machine.message_hashes.get(name, wanted) != wanted
    )
    if other:
        names = ', '.join(name.rpartition('/')[2] for name in other)
        said = f'carla_msgs is not 1.3.0, other definitions of {names}: the bridge is not heard'
        yield Finding(Level.ERROR, 'messages', said, build_messages(machine))
    elif machine.message_hashes and len(machine.message_prefixes) == 1:
        said = f'carla_msgs 1.3.0 by type hashes, in {machine.message_prefixes[0]}'
        yield Finding(Level.OK, 'messages', said)
    elif machine.message_prefixes and not machine.message_hashes:
        said = 'this ROS 2 has no type hashes: definitions of carla_msgs were not compared'
        yield Finding(Level.NOTE, 'messages', said)


def check_disk(machine: Machine) -> Iterator[Finding]:
    """There is room for ledgers, bags and checkpoints."""
    said = f'{megabytes(machine.disk_free_bytes)} free in {machine.disk_folder}'
    fix = 'make room, or point --out at another disk'
    if machine.disk_error:
        said = f'no results can be written to {machine.disk_folder}: {machine.disk_error}'
        yield Finding(Level.ERROR, 'disk', said, 'point --out at a folder of yours')
    elif machine.disk_free_bytes < LEAST_DISK_BYTES:
        yield Finding(Level.ERROR, 'disk', said, fix)
    elif machine.disk_free_bytes < ENOUGH_DISK_BYTES:
        yield Finding(Level.WARNING, 'disk', said, fix)
    else:
        yield Finding(Level.OK, 'disk', said)


CHECKS: tuple[Callable[[Machine], Iterator[Finding]], ...] = (
    check_python,
    check_distro,
    check_carla,
    check_imports,
    check_copies,
    check_opencv,
    check_numpy,
    check_protobuf,
    check_torch,
    check_rmw,
    check_shared_memory,
    check_discovery,
    check_domain,
    check_messages,
    check_disk,
)

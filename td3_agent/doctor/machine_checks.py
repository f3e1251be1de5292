# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checks of a machine, and the commands that mend it. Pure: facts in, faults out."""

from __future__ import annotations

from collections import defaultdict
from pathlib import PurePath
import re
from typing import TYPE_CHECKING

from td3_agent.doctor.facts import (
    APT_FOLDERS,
    CARLA_MSGS_HASHES,
    ENDED_DISTROS,
    ERROR,
    MEGABYTE,
    NOT_IN_TIME,
    NOT_TRIED,
    NOTE,
    NUMPY_OF_ROS,
    OK,
    PYTHON_OF_DISTRO,
    PYTHONS_OF_CARLA,
    PYTHONS_OF_ROS_WHEELS,
    SIM_CARLA,
    WARNING,
    distros_for_carla,
    megabytes,
    version_text,
)
from td3_agent.doctor.network_checks import NETWORK_CHECKS

if TYPE_CHECKING:
    from td3_agent.doctor.facts import Checks, Copy, Fault, Faults, Import, Machine

LEAST_DISK_BYTES, ENOUGH_DISK_BYTES = 100 * MEGABYTE, 1000 * MEGABYTE
NEEDED = ('rclpy', 'geometry_msgs.msg', 'carla_msgs.msg', 'numpy', 'yaml', 'torch')
SLOW = ('torch',)  # on a busy machine it takes long
JUDGED_ELSEWHERE = ('carla', 'google.protobuf')
ROS_PACKAGES = ('rclpy', 'carla-msgs')
# In errors of an extension built for another NumPy, C++ library or Python.
ABI_SIGNS = (
    '_ARRAY_API',
    'numpy.core.multiarray failed',
    'compiled using NumPy',
    'numpy.dtype size changed',
    'undefined symbol',
    'GLIBCXX',
    'version `GLIBC',
)
SIGNAL_SIGN = 'ended by signal'
NO_LIBRARY = re.compile(r'(lib[\w.+-]+): cannot open shared object file')
NO_MODULE = re.compile(r"No module named '([\w.]+)'")
APT_OF_LIBRARY = {
    'libGL.so.1': 'libgl1',
    'libglib-2.0.so.0': 'libglib2.0-0',
    'libgthread-2.0.so.0': 'libglib2.0-0',
}
OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
# Packages whose names differ from their modules'; modules not in the second one are not in apt.
PIP_PACKAGES = {
    'cv2': 'opencv-python-headless',
    'google': 'protobuf',
    'rerun': 'rerun-sdk',
    'vehiclemodels': 'commonroad-vehicle-models',
    'yaml': 'pyyaml',
}
APT_PACKAGES = {
    'cv2': 'python3-opencv',
    'google': 'python3-protobuf',
    'numpy': 'python3-numpy',
    'yaml': 'python3-yaml',
}
# These come with ROS 2 or a workspace: pip has none, or another distribution's.
ROS_MODULES = ('rclpy', 'geometry_msgs', 'carla_msgs')
ROS_PREFIXES = ('rosidl_', 'rpyutils', 'ament_', 'rcl_', 'builtin_interfaces', 'unique_identifier')
PYTORCH_INDEX = 'https://download.pytorch.org/whl'
UPSTREAM_MESSAGES = 'https://github.com/carla-simulator/ros-carla-msgs'


def check_python(machine: Machine) -> Faults:
    """This package and the distribution support this Python."""
    python, distro = machine.python, machine.distro
    found = f'Python {version_text(python)} ({machine.executable})'
    native = PYTHON_OF_DISTRO.get(distro)
    if python not in PYTHONS_OF_ROS_WHEELS:
        fix = f'use Python 3.10, 3.11 or 3.12 ({make_setup(machine)} PYTHON=/path/to/it)'
        yield ERROR, f'{found} is not supported', fix
    elif native and native != python and machine.is_apt:
        theirs = version_text(native)
        said = f'{found}, but ROS 2 {distro} from apt is built for Python {theirs}'
        fix = f'start with /usr/bin/python{theirs}, or use the PyPI wheels: {make_setup(machine)}'
        yield ERROR, said, fix
    return found


def check_distro(machine: Machine) -> Faults:
    """One ROS 2 distribution is sourced, and it is still supported."""
    distro = machine.distro
    prefixes = [PurePath(prefix).parts for prefix in machine.ros_prefixes]
    sourced = {parts[3] for parts in prefixes if parts[:3] == ('/', 'opt', 'ros') and parts[3:]}
    if not distro:
        ours = f'source {machine.checkout}/env.sh, or ' if machine.checkout else 'source '
        yield WARNING, 'no ROS 2 is sourced', f'{ours}/opt/ros/*/setup.bash'
    elif sourced - {distro}:
        names = ', '.join(sorted(sourced | {distro}))
        fix = 'open a new shell and source one of them only'
        yield ERROR, f'several distributions at once: {names}', fix
    elif distro in ENDED_DISTROS:
        fix = f'move to one that CARLA {SIM_CARLA} shares a Python with: humble, jazzy or later'
        yield WARNING, f'ROS 2 {distro} is no longer supported', fix
    return f'ROS 2 {distro} from {"apt" if machine.is_apt else "PyPI wheels"}'


def check_carla(machine: Machine) -> Faults:
    """The CARLA wheel fits this Python, and is the tested version."""
    carla = machine.imports.get('carla')
    version = next((copy.version for copy in machine.copies if copy.name == 'carla'), '')
    ours = f'pip install carla=={SIM_CARLA}'
    if carla is None or (carla.missing and not version):
        said = 'no CARLA wheel: the embedded simulator and the bridge need one, the agent does not'
        yield NOTE, said, ours
        return ''
    pythons = PYTHONS_OF_CARLA.get(version, ())
    if carla.failed and pythons and machine.python not in pythons:
        distros = ' or '.join(distros_for_carla(version)) or 'no distribution in use'
        wheels = ', '.join(map(version_text, pythons))
        said = f'carla {version} has wheels for Python {wheels} only, '
        fix = f'{ours}; from apt, {distros} shares a Python with {version}'
        yield ERROR, f'{said}this is {version_text(machine.python)}', fix
    elif not carla.error and version and version != SIM_CARLA:
        fix = f'{ours}, or keep it and use it with its own server alone'
        said = f'carla {version}; the embedded simulator is tested with {SIM_CARLA}'
        yield WARNING, said, fix
    return '' if carla.error else f'carla {version} from {carla.path}'


def check_imports(machine: Machine) -> Faults:
    """Every module can be imported in one process with all others."""
    not_tried = [name for name, result in machine.imports.items() if result.error == NOT_TRIED]
    if not_tried:
        fix = 'mend that one, or try with --patience 60'
        yield NOTE, f'{", ".join(not_tried)}: {NOT_TRIED}', fix
    for name, result in machine.imports.items():
        if name in not_tried or (result.missing and name in JUDGED_ELSEWHERE):
            continue
        if result.error:
            # Without its middleware rclpy ends every program; the check `rmw` reports that.
            if not (name == 'rclpy' and machine.lacks_rmw and not result.missing):
                yield _failed_import(machine, name, result)
        elif name != 'carla':  # which has its own check
            version = f' {result.version}' if result.version else ''
            yield OK, f'{name}{version} from {result.path}', ''
    return ''


def _failed_import(machine: Machine, name: str, result: Import) -> Fault:
    needed = name in NEEDED
    if result.missing:
        fix = install(machine, name.partition('.')[0]) if needed else ''
        return ERROR if needed else NOTE, f'{name} is not installed', fix
    if result.error == NOT_IN_TIME:
        level = ERROR if needed and name not in SLOW else WARNING
        fix = 'run it again (files are cached now), or with --patience 60'
        return level, f'{name}: {result.error}', fix
    return ERROR, *_cause(machine, name, result)


def _cause(machine: Machine, name: str, result: Import) -> tuple[str, str]:
    """Return why an import failed, and the fix."""
    module, error = name.partition('.')[0], result.error
    if result.alone:
        said = f'{name} cannot be imported together with the others: {error}'
        return said, f'{reinstall(machine, module)}, in the environment that the others are in'
    if SIGNAL_SIGN in error:
        return f'{name}: {error}', _signal_fix(machine, module)
    said = f'{name} cannot be imported: {error}'
    if library := NO_LIBRARY.search(error):
        return said, _library_fix(module, library[1])
    if lacking := NO_MODULE.search(error):
        return said, _module_fix(machine, module, lacking[1].partition('.')[0])
    if any(sign in error for sign in ABI_SIGNS):
        return f'{name}, ABI clash: {error}', fit_together(machine, module)
    return said, reinstall(machine, module)


def _signal_fix(machine: Machine, module: str) -> str:
    """Return the fix of a crash: one cause is known, another is common."""
    if module == 'carla' and 'HOME' not in machine.environment:
        return 'export HOME=~ (or any folder): CARLA reads it, and crashes if it is unset'
    return (
        f'often, but not always, two builds of one library: {fit_together(machine, module)}; '
        f'python3 -X faulthandler -c "import {module}" shows where'
    )


def _library_fix(module: str, library: str) -> str:
    if module in ROS_MODULES:
        return f'source the setup file of its ROS 2 or workspace: {library} lies there'
    if package := APT_OF_LIBRARY.get(library):
        return f'apt install {package}'
    return f'install what holds {library} (apt-file search {library})'


def _module_fix(machine: Machine, module: str, lacking: str) -> str:
    if lacking == module:  # its own compiled part has the name of another Python
        return reinstall(machine, module)
    present = machine.imports.get(lacking)
    if present and not present.error:  # in another version
        return fit_together(machine, module)
    return install(machine, lacking)


def check_copies(machine: Machine) -> Faults:
    """No package is installed twice, by apt and pip or in two folders."""
    by_name: dict[str, list[Copy]] = defaultdict(list)
    for copy in machine.copies:
        by_name[copy.name].append(copy)
    for name, (first, *others) in by_name.items():
        if others:
            hidden = ', '.join(f'{copy.version} in {copy.folder}' for copy in others)
            same = all(copy.version == first.version for copy in others)
            said = f'{name} {first.version} in {first.folder} hides {hidden}'
            yield NOTE if same else WARNING, said, _one_copy(first)
    return f'{len(by_name)} packages, none of them twice'


def _one_copy(first: Copy) -> str:
    if first.name in ROS_PACKAGES:
        return 'open a new shell and source one ROS 2, or workspace, only'
    if first.folder.startswith(APT_FOLDERS):  # which pip cannot uninstall
        return 'use a separate virtual environment'
    return f'keep one: pip uninstall {first.name}, or use a separate virtual environment'


def check_opencv(machine: Machine) -> Faults:
    """One OpenCV is installed: all its pip packages write the same folder ``cv2``."""
    installed = sorted({copy.name for copy in machine.copies if copy.name in OPENCV})
    cv2 = machine.imports.get('cv2')
    if len(installed) > 1:
        fix = f'pip uninstall -y {" ".join(installed)} && pip install opencv-python-headless'
        yield ERROR, f'{" and ".join(installed)} overwrite each other', fix
    elif installed and cv2 and cv2.path.startswith(APT_FOLDERS):
        said = f'{installed[0]} is installed, but cv2 comes from {cv2.path}'
        fix = f'pip uninstall {installed[0]}, or put its folder before that one in sys.path'
        yield WARNING, said, fix
    return installed[0] if installed else 'none from pip'


def check_numpy(machine: Machine) -> Faults:
    """NumPy has the major version that the distribution's packages were compiled against."""
    numpy = machine.imports.get('numpy')
    if numpy is None or numpy.error:
        return ''
    major = re.match(r'\d+', numpy.version)  # a build from sources may have no number
    if _built_for_numpy(machine) and major and int(major[0]) != NUMPY_OF_ROS:
        said = f'NumPy {numpy.version} from {numpy.path}, but ROS 2 from apt was compiled against '
        fix = f"pip uninstall numpy, or pip install 'numpy<{NUMPY_OF_ROS + 1}'"
        yield ERROR, f'{said}NumPy {NUMPY_OF_ROS}', fix
    return f'NumPy {numpy.version}'


def _built_for_numpy(machine: Machine) -> bool:
    """Whether ROS 2 comes from apt, compiled against a known NumPy."""
    return machine.is_apt and machine.distro in PYTHON_OF_DISTRO


def check_protobuf(machine: Machine) -> Faults:
    """The path holds one major version of protobuf."""
    versions = [copy.version for copy in machine.copies if copy.name == 'protobuf']
    if len({version.partition('.')[0] for version in versions}) > 1:
        fix = 'pip uninstall protobuf in one of the folders, '
        said = f'protobuf {" and ".join(versions)} are both on the path'
        yield ERROR, said, f'{fix}or use an environment for each'
    return versions[0] if versions else 'not installed, not needed'


def check_torch(machine: Machine) -> Faults:
    """PyTorch can use the GPU, if there is one."""
    torch = machine.torch
    if torch is None:
        return ''
    if torch.cuda_runs:  # checked first: on WSL no driver is in /proc
        return 'GPU in use'
    built = f'PyTorch is built for CUDA {torch.cuda_build}'
    if torch.cuda_build and machine.nvidia_driver:
        fix = 'update the NVIDIA driver, or in a container start it with --gpus all'
        yield WARNING, f'{built}, but cannot use the GPU', fix
    elif torch.cuda_build:
        fix = 'install the CPU build from the CPU index of PyTorch; it is several GB smaller'
        yield NOTE, f'{built}, but there is no NVIDIA driver: it uses the CPU', fix
    elif machine.nvidia_driver:
        fix = 'for training on the GPU, install a CUDA build of the same PyTorch'
        yield NOTE, 'PyTorch is built for the CPU only, but there is an NVIDIA driver', fix
    return 'CPU only'


def check_messages(machine: Machine) -> Faults:
    """carla_msgs is 1.3.0, and only one is sourced."""
    prefixes, hashes = machine.message_prefixes, machine.message_hashes
    if len(prefixes) > 1:
        said = f'carla_msgs in {prefixes[0]} hides the one in {", ".join(prefixes[1:])}'
        yield WARNING, said, 'source the workspace of one of them only'
    wrong = [n for n, wanted in CARLA_MSGS_HASHES.items() if hashes.get(n, wanted) != wanted]
    if wrong:
        names = ', '.join(name.rpartition('/')[2] for name in sorted(wrong))
        said = f'carla_msgs is not 1.3.0, its {names} differ: no message of the bridge arrives'
        yield ERROR, said, build_messages(machine)
    elif prefixes and not hashes:
        said = 'this ROS 2 has no type hashes: carla_msgs was not compared with 1.3.0'
        yield NOTE, said, ''
    return f'carla_msgs 1.3.0 by type hashes, in {prefixes[0]}' if prefixes and hashes else ''


def check_disk(machine: Machine) -> Faults:
    """There is room for ledgers, bags and checkpoints."""
    said = f'{megabytes(machine.disk_free_bytes)} free in {machine.disk_folder}'
    fix = 'make room, or point --out at another disk'
    if machine.disk_error:
        said = f'cannot write results to {machine.disk_folder}: {machine.disk_error}'
        yield ERROR, said, 'give a writable folder with --out'
    elif machine.disk_free_bytes < ENOUGH_DISK_BYTES:
        yield ERROR if machine.disk_free_bytes < LEAST_DISK_BYTES else WARNING, said, fix
    return said


# Shell commands that install what is missing or broken.


def make_setup(machine: Machine) -> str:
    """Return the command that makes this package's own environment."""
    return f'make -C {machine.checkout} setup' if machine.checkout else 'make setup'


def set_up(machine: Machine) -> str:
    """Return how to make and enter that environment."""
    return f'{make_setup(machine)}, then source {machine.checkout}/env.sh'


def build_messages(machine: Machine) -> str:
    if not machine.checkout:
        return f'build {UPSTREAM_MESSAGES} in your workspace, then source its install/setup.bash'
    folder = f'{machine.checkout}/interfaces/carla_msgs'
    return f'build them: colcon build --paths {folder}, then source install/setup.bash'


def install(machine: Machine, module: str) -> str:
    if module == 'carla_msgs':
        return build_messages(machine)
    if _is_ros(module):
        fix = 'source the ROS 2 that was built for this Python'
        return f'{fix}, or {set_up(machine)}' if machine.checkout else fix
    fix = f'pip install {_pip(module)}'
    return f'{set_up(machine)}; or {fix}' if machine.checkout else fix


def missing_module(error: ModuleNotFoundError) -> str:
    """Return the message of a failed import, for a machine that was not examined."""
    module = (error.name or '').partition('.')[0]
    fix = f'pip install {_pip(module)}'
    if _is_ros(module):
        fix = 'source the ROS 2 or the workspace that has it (env.sh of td3_agent, say)'
    return f'{error.name} is needed and not installed: {fix}'


def reinstall(machine: Machine, module: str) -> str:
    """Return how to reinstall the package of a module, in the same version."""
    if _is_ros(module):
        return install(machine, module)
    copy = _copy(machine, module)
    from_apt = copy.folder.startswith(APT_FOLDERS) if copy else machine.is_apt
    if from_apt and module in APT_PACKAGES:
        return f'apt install --reinstall {APT_PACKAGES[module]}'
    wanted = f'{copy.name}=={copy.version}{_index(copy)}' if copy else _pip(module)
    return f'pip install --force-reinstall --no-deps {wanted}'


def fit_together(machine: Machine, module: str) -> str:
    """Return how to install a module and a NumPy that were built for each other."""
    if module == 'numpy' or _is_ros(module):
        return reinstall(machine, module)
    copy = _copy(machine, module)
    name, index = copy.name if copy else _pip(module), ''
    if copy and module != 'cv2':  # any version of it will do; the others are pinned for a reason
        name, index = f'{name}=={copy.version}', _index(copy)
    numpy = f"'numpy<{NUMPY_OF_ROS + 1}'" if _built_for_numpy(machine) else 'numpy'
    return f'pip install --force-reinstall {name} {numpy}{index}'


def _copy(machine: Machine, module: str) -> Copy | None:
    names = OPENCV if module == 'cv2' else (_pip(module),)
    return next((copy for copy in machine.copies if copy.name in names), None)


def _index(copy: Copy) -> str:
    """Return the option for the index of a PyTorch build; PyPI has another build."""
    build = copy.version.partition('+')[2]
    return f' --extra-index-url {PYTORCH_INDEX}/{build}' if build else ''


def _is_ros(module: str) -> bool:
    return module in ROS_MODULES or module.startswith(ROS_PREFIXES) or module.endswith('_msgs')


def _pip(module: str) -> str:
    return PIP_PACKAGES.get(module, module)


MACHINE_CHECKS: Checks[Machine] = {
    'python': check_python,
    'distro': check_distro,
    'carla': check_carla,
    'imports': check_imports,
    'copies': check_copies,
    'opencv': check_opencv,
    'numpy': check_numpy,
    'protobuf': check_protobuf,
    'torch': check_torch,
    **NETWORK_CHECKS,
    'messages': check_messages,
    'disk': check_disk,
}

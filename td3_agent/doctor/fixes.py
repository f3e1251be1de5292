# SPDX-License-Identifier: Apache-2.0
"""How what is missing or broken is installed here, in words that can be pasted into a shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from td3_agent.doctor.facts import APT_FOLDERS
from td3_agent.doctor.versions import NUMPY_OF_DISTRO

if TYPE_CHECKING:
    from td3_agent.doctor.facts import Copy, Machine


class Package(NamedTuple):
    """What a module belongs to, in pip and in apt; empty where apt has none."""

    pip: str
    apt: str = ''


OPENCV = (
    'opencv-python',
    'opencv-python-headless',
    'opencv-contrib-python',
    'opencv-contrib-python-headless',
)
# A module's name need not be its package's.
PACKAGES = {
    'cv2': Package('opencv-python-headless', 'python3-opencv'),
    'google': Package('protobuf', 'python3-protobuf'),
    'numpy': Package('numpy', 'python3-numpy'),
    'rerun': Package('rerun-sdk'),
    'vehiclemodels': Package('commonroad-vehicle-models'),
    'yaml': Package('pyyaml', 'python3-yaml'),
}
# They come with a ROS 2 or a workspace: pip has them not at all, or another distribution's.
ROS_MODULES = ('rclpy', 'geometry_msgs', 'carla_msgs')
ROS_PREFIXES = ('rosidl_', 'rpyutils', 'ament_', 'rcl_', 'builtin_interfaces', 'unique_identifier')
PYTORCH_INDEX = 'https://download.pytorch.org/whl'
UPSTREAM_MESSAGES = 'https://github.com/carla-simulator/ros-carla-msgs'


def make_setup(machine: Machine) -> str:
    """Return the command that makes this package's own environment."""
    return f'make -C {machine.checkout} setup' if machine.checkout else 'make setup'


def set_up(machine: Machine) -> str:
    """Return how that environment is made and entered."""
    return f'{make_setup(machine)}, then source {machine.checkout}/env.sh'


def source_ros(machine: Machine) -> str:
    """Return how to come by a ROS 2 for this Python."""
    fix = 'source the ROS 2 that was built for this Python'
    return f'{fix}, or {set_up(machine)}' if machine.checkout else fix


def build_messages(machine: Machine) -> str:
    """Return how to come by carla_msgs."""
    if not machine.checkout:
        return f'build {UPSTREAM_MESSAGES} in your workspace, then source its install/setup.bash'
    folder = f'{machine.checkout}/interfaces/carla_msgs'
    return f'build them: colcon build --paths {folder}, then source install/setup.bash'


def install(machine: Machine, module: str) -> str:
    """Return how to install what a module belongs to."""
    if module == 'carla_msgs':
        return build_messages(machine)
    if _is_ros(module):
        return source_ros(machine)
    fix = f'pip install {_package(module).pip}'
    return f'{set_up(machine)}; or {fix}' if machine.checkout else fix


def install_anywhere(module: str) -> str:
    """Return how to install what a module belongs to, on a machine that was not looked at."""
    if _is_ros(module):
        return 'source the ROS 2 or the workspace that has it (env.sh of td3_agent, say)'
    return f'pip install {_package(module).pip}'


def missing_module(error: ModuleNotFoundError) -> str:
    """Return what a user is told of an import that failed, with its remedy."""
    fix = install_anywhere((error.name or '').partition('.')[0])
    return f'{error.name} is needed and not installed: {fix}'


def reinstall(machine: Machine, module: str) -> str:
    """Return how to install again what a module belongs to, in the version that is here."""
    if _is_ros(module):
        return install(machine, module)
    package, copy = _package(module), _copy(machine, module)
    from_apt = copy.folder.startswith(APT_FOLDERS) if copy else machine.is_apt
    if from_apt and package.apt:
        return f'apt install --reinstall {package.apt}'
    version = f'=={copy.version}{_index(copy)}' if copy else ''
    return f'pip install --force-reinstall --no-deps {copy.name if copy else package.pip}{version}'


def fit_together(machine: Machine, module: str) -> str:
    """Return how to come by a module and a NumPy that were built for each other."""
    if module == 'numpy' or _is_ros(module):
        return reinstall(machine, module)
    copy = _copy(machine, module)
    name, index = copy.name if copy else _package(module).pip, ''
    if copy and module != 'cv2':  # of which any version will do; the others are here for a reason
        name, index = f'{name}=={copy.version}', _index(copy)
    built = NUMPY_OF_DISTRO.get(machine.distro) if machine.is_apt else None
    numpy = f"'numpy<{built + 1}'" if built else 'numpy'
    return f'pip install --force-reinstall {name} {numpy}{index}'


def _copy(machine: Machine, module: str) -> Copy | None:
    names = OPENCV if module == 'cv2' else (_package(module).pip,)
    return next((copy for copy in machine.copies if copy.name in names), None)


def _index(copy: Copy) -> str:
    """Return where a build of PyTorch comes from: PyPI has another one."""
    build = copy.version.partition('+')[2]
    return f' --extra-index-url {PYTORCH_INDEX}/{build}' if build else ''


def _is_ros(module: str) -> bool:
    return module in ROS_MODULES or module.startswith(ROS_PREFIXES) or module.endswith('_msgs')


def _package(module: str) -> Package:
    return PACKAGES.get(module, Package(module))

# SPDX-License-Identifier: Apache-2.0
"""What each layer of the containers installs.

A layer is a requirements file. Which packages it brings, and how many bytes, is read from the
installed packages of this Python (``make setup`` has installed them all), files by files: the
figures are those of a real installation, made with another tool than Docker. What is not installed
here (base images, apt packages, CUDA) is an estimate, and marked so.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from benchmarks.harness import ROOT, Limit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

LIMIT_MB = 1300.0
MEGABYTE = 1e6
CODE = ('config', 'interfaces', 'launch', 'resource', 'scripts', 'td3_agent', 'weights')
# Removed again in the layer that installs them.
REMOVED = ('torch/test/', 'torch/include/')
# Not to be measured without Docker: from what the images and packages say of themselves.
PYTHON_SLIM_MB = 125.0
ROS_BASE_MB = 900.0
BRIDGE_APT_MB = 650.0
BRIDGE_BUILT_MB = 30.0
COMPILERS_MB = 350.0
CUDA_MB = 5500.0
# What requirements files bring: in the layers of agent.Dockerfile, and by "make setup" in the
# merged image, whose base has some of it.
AGENT_FILES = {
    'ros_runtime.in': 'ROS 2 wheels (rclpy, Fast DDS, messages)',
    'runtime.in': 'PyTorch for the CPU, NumPy, safetensors, PyYAML',
    'sim.in': 'simulator: carla wheel, OpenCV, Matplotlib, Gymnasium',
    'ray.in': 'Ray, and what its sweeps need',
}
WORKSPACE_FILES = {
    'runtime.in': 'PyTorch for the CPU, safetensors',
    'sim.in': 'simulator: OpenCV, Matplotlib, Gymnasium',
    'dev.in': 'tests and linters, TensorBoard',
    'onnx.in': 'ONNX and its runtime',
    'ray.in': 'Ray, and what its sweeps need',
    'watch.in': 'Rerun, the live view',
}
WORKSPACE_BASE = {'carla', 'numpy', 'pyyaml'}


@dataclass(frozen=True)
class Layer:
    """One layer of an image.

    Attributes:
        name: what it is.
        size_mb: what it installs [MB].
        packages: how many Python packages; 0 where it installs none.
        measured: whether the size is measured; an estimate otherwise.
    """

    name: str
    size_mb: float
    packages: int = 0
    measured: bool = True


@dataclass(frozen=True)
class Image:
    """An image.

    Attributes:
        layers: the first at the bottom.
        rebuilt: how many of the last ones a change of the code makes anew.
        noted: what the reference design had [GB].
    """

    layers: list[Layer]
    rebuilt: int = 1
    noted: str = ''


def requirements(name: str) -> list[str]:
    """Return the lines of a requirements file that name something."""
    lines = (ROOT / 'requirements' / name).read_text(encoding='utf-8').splitlines()
    return [line for line in lines if line and not line.startswith('#')]


def closure(lines: Iterable[str], known: set[str]) -> dict[str, Distribution]:
    """Return the installed packages that requirements bring along, without those known already.

    Raises:
        PackageNotFoundError: one that is required is not installed here.
    """
    found: dict[str, Distribution] = {}
    left = [Requirement(line) for line in lines]
    while left:
        wanted = left.pop()
        name = wanted.name.lower().replace('_', '-').replace('.', '-')
        extras = wanted.extras or {''}
        if wanted.marker and not any(wanted.marker.evaluate({'extra': extra}) for extra in extras):
            continue
        if name in found or (name in known and not wanted.extras):
            continue
        found[name] = package = distribution(wanted.name)
        for line in package.requires or []:
            needed = Requirement(line)
            if needed.marker is None or any(
                needed.marker.evaluate({'extra': extra}) for extra in extras
            ):
                left.append(Requirement(line.partition(';')[0]))
    return {name: package for name, package in found.items() if name not in known}


def size_mb(package: Distribution, *, removed: bool = False) -> float:
    """Return what a package's files take [MB], compiled Python included.

    Args:
        package: the package.
        removed: count what the image removes again instead of what it keeps.
    """
    files = [path for path in package.files or [] if str(path).startswith(REMOVED) == removed]
    places = [Path(str(path.locate())) for path in files]
    return sum(place.stat().st_size for place in places if place.is_file()) / MEGABYTE


def folder_mb(folders: Iterable[Path]) -> float:
    """Return what the files in folders take [MB]."""
    files = (path for folder in folders for path in folder.rglob('*'))
    sizes = (p.stat().st_size for p in files if p.is_file() and '__pycache__' not in p.parts)
    return sum(sizes) / MEGABYTE


def messages_mb() -> float:
    """Return what the built carla_msgs takes [MB].

    Raises:
        PackageNotFoundError: it is not built here.
    """
    for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(':'):
        if prefix and Path(prefix, 'share', 'carla_msgs').is_dir():
            return folder_mb([Path(prefix)])
    raise PackageNotFoundError('carla_msgs')


def python_layers(files: Mapping[str, str], base: Iterable[str] = ()) -> list[Layer]:
    """Return the layers of requirements files that are installed one after the other.

    Args:
        files: their names, and what they bring.
        base: packages that are there before.
    """
    known = set(base)
    layers = []
    for name, text in files.items():
        packages = closure(requirements(name), known)
        known |= packages.keys()
        layers.append(Layer(text, sum(map(size_mb, packages.values())), len(packages)))
    return layers


def estimate(name: str, size_mb: float) -> Layer:
    """Return a layer that cannot be measured without Docker."""
    return Layer(name, size_mb, measured=False)


def agent_images() -> dict[str, Image]:
    """Return the targets of agent.Dockerfile, and the one for training on a GPU."""
    ros, torch, sim, ray = python_layers(AGENT_FILES)
    slim = estimate('base image python slim', PYTHON_SLIM_MB)
    agent = [slim, ros, torch, Layer('carla_msgs, built', messages_mb())]
    cuda = estimate('CUDA libraries of PyTorch', CUDA_MB)
    code = code_layer()
    return {
        'td3_agent': Image([*agent, code], noted='2.0 to 2.8'),
        'td3_agent-sim': Image([*agent, sim, code], noted='2.0 to 2.8'),
        'td3_agent-sim-cuda': Image([*agent, cuda, sim, code]),
        'td3_agent-ray': Image([*agent, sim, ray, code]),
    }


def code_layer() -> Layer:
    """Return the layer that a change of the code makes anew."""
    return Layer('this package and its weights', folder_mb(ROOT / name for name in CODE))


def workspace_layers() -> list[Layer]:
    """Return what "make setup" installs in the merged image; carla_msgs is the bridge's."""
    rest = Layer("PyTorch's tests and headers", size_mb(distribution('torch'), removed=True))
    return [*python_layers(WORKSPACE_FILES, WORKSPACE_BASE), rest, code_layer()]


def images() -> dict[str, Image]:
    """Return every image."""
    bridge = [
        estimate('base image ros-base', ROS_BASE_MB),
        estimate('apt: cv_bridge with OpenCV, messages, pip', BRIDGE_APT_MB),
        Layer('carla wheel', size_mb(distribution('carla')), 1),
        estimate('bridge, built', BRIDGE_BUILT_MB),
    ]
    compilers = estimate('apt: compilers, Python headers', COMPILERS_MB)
    workspace = workspace_layers()
    return {
        **agent_images(),
        'carla_ros_bridge': Image(bridge, rebuilt=0, noted='1.8'),
        'td3_agent-merged': Image(
            [*bridge, compilers, *workspace], len(workspace), '4.2 reckoned, 7.54 in fact'
        ),
    }


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def measure(_: argparse.Namespace) -> dict[str, Any]:
    """Return the layers of every image; ValueError if a package is not installed here."""
    try:
        return {'images': {name: asdict(image) for name, image in images().items()}}
    except PackageNotFoundError as error:
        raise ValueError(f'{error}; run "make setup" and source env.sh') from None


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return how large the image of the agent may be."""
    layers = report['images']['td3_agent']['layers']
    size_mb = sum(layer['size_mb'] for layer in layers)
    return [Limit('image of the agent', size_mb, 'MB', most=LIMIT_MB)]

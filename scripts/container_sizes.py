#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measures what each layer of the containers installs; writes the tables of docs/containers.md.

A layer is a requirements file. Which packages it brings, and how many bytes, is read from the
installed packages of this Python (``make setup`` has installed them all), files by files: the
tables are those of a real installation, made with another tool than Docker. What is not installed
here (base images, apt packages, CUDA) is an estimate, and marked so. With ``--check`` nothing is
written; the exit status is 1 if the image of the agent is larger than it may be.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
import os
from pathlib import Path
import sys
from typing import TYPE_CHECKING

from marked import renewed
from packaging.requirements import Requirement

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / 'docs' / 'containers.md'
LIMIT_MB = 1300.0
MEGABYTE = 1e6
CODE = ('config', 'interfaces', 'launch', 'resource', 'scripts', 'td3_agent', 'weights')
# Removed again in the layer that installs them.
REMOVED = ('torch/test/', 'torch/include/')
# Not to be measured without Docker: from what the images and packages say of themselves.
PYTHON_SLIM_MB = 125.0
ROS_BASE_MB = 900.0
BRIDGE_APT_MB = 650.0
COMPILERS_MB = 350.0
CUDA_MB = 5500.0


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


def python_layers() -> dict[str, Layer]:
    """Return the layers that install Python packages, and the code."""
    known: set[str] = set()
    layers = {}
    for key, name, text in (
        ('ros', 'ros_runtime.in', 'ROS 2 wheels (rclpy, Fast DDS, messages)'),
        ('torch', 'runtime.in', 'PyTorch for the CPU, NumPy, safetensors, PyYAML'),
        ('sim', 'sim.in', 'simulator: carla wheel, OpenCV, Matplotlib, Gymnasium'),
    ):
        packages = closure(requirements(name), known)
        known |= packages.keys()
        layers[key] = Layer(text, sum(map(size_mb, packages.values())), len(packages))
    layers['messages'] = Layer('carla_msgs, built', messages_mb())
    layers['code'] = Layer('this package and its weights', folder_mb(ROOT / f for f in CODE))
    return layers


def images() -> dict[str, list[Layer]]:
    """Return the layers of each image, the first at the bottom."""
    found = python_layers()
    slim = Layer('base image python slim', PYTHON_SLIM_MB, measured=False)
    agent = [slim, found['ros'], found['torch'], found['messages']]
    carla = Layer('carla wheel', size_mb(distribution('carla')), 1)
    bridge = [
        Layer('base image ros-base', ROS_BASE_MB, measured=False),
        Layer('apt: cv_bridge with OpenCV, messages, pip', BRIDGE_APT_MB, measured=False),
        carla,
        Layer('bridge, built', 30.0, measured=False),
    ]
    cuda = Layer('CUDA libraries of PyTorch', CUDA_MB, measured=False)
    torch_rest = Layer("PyTorch's tests and headers", size_mb(distribution('torch'), removed=True))
    rest = Layer('simulator without carla', found['sim'].size_mb - carla.size_mb, 24)
    workspace = [found['torch'], torch_rest, rest, found['messages'], found['code']]
    compilers = Layer('apt: compilers, Python headers', COMPILERS_MB, measured=False)
    return {
        'td3_agent': [*agent, found['code']],
        'td3_agent-sim': [*agent, found['sim'], found['code']],
        'td3_agent, CUDA': [*agent, cuda, found['code']],
        'carla_ros_bridge': bridge,
        'td3_agent-merged': [*bridge, compilers, *workspace],
    }


def total_mb(layers: Iterable[Layer]) -> float:
    """Return the size of an image [MB]."""
    return sum(layer.size_mb for layer in layers)


def layer_table(found: dict[str, list[Layer]]) -> str:
    """Return every layer of every image, as Markdown."""
    lines = ['| image | layer | packages | MB | |', '|---|---|---:|---:|---|']
    for image, layers in found.items():
        for layer in layers:
            how = 'measured' if layer.measured else 'estimate'
            count = layer.packages or ''
            lines.append(f'| {image} | {layer.name} | {count} | {layer.size_mb:.0f} | {how} |')
    return '\n'.join(lines)


def image_table(found: dict[str, list[Layer]]) -> str:
    """Return the images beside those of the reference design, as Markdown."""
    reference = {
        'td3_agent': '2.0 to 2.8',
        'td3_agent-sim': '2.0 to 2.8',
        'carla_ros_bridge': '1.8',
        'td3_agent-merged': '4.2',
    }
    lines = [
        '| image | GB | of which measured | design note [GB] | a change of the code rebuilds |',
        '|---|---:|---:|---:|---|',
    ]
    for image, layers in found.items():
        measured = total_mb(layer for layer in layers if layer.measured) / 1e3
        rebuilt = f'{layers[-1].size_mb:.0f} MB'
        if image.endswith('merged'):
            rebuilt = f'{total_mb(layers[5:]):.0f} MB, the whole workspace'
        elif image == 'carla_ros_bridge':
            rebuilt = 'nothing'
        lines.append(
            f'| {image} | {total_mb(layers) / 1e3:.2f} | {measured:.2f} | '
            f'{reference.get(image, "")} | {rebuilt} |'
        )
    return '\n'.join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the tables; return 1 if the image of the agent is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--check', action='store_true', help='write nothing')
    args = parser.parse_args(argv)
    try:
        found = images()
    except PackageNotFoundError as error:
        print(f'not installed here: {error}; run "make setup" and source env.sh', file=sys.stderr)
        return 2
    if not args.check:
        document = PAGE.read_text(encoding='utf-8')
        document = renewed(document, 'images', image_table(found))
        PAGE.write_text(renewed(document, 'layers', layer_table(found)), encoding='utf-8')
    print(image_table(found))
    agent_mb = total_mb(found['td3_agent'])
    if agent_mb > LIMIT_MB:
        print(f'the agent has {agent_mb:.0f} MB, expected <= {LIMIT_MB:.0f} MB', file=sys.stderr)
    return int(agent_mb > LIMIT_MB)


if __name__ == '__main__':
    sys.exit(main())

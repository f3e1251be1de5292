# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the images install, by requirements file.

Which packages a file brings, and how many bytes, is read from the installed packages of this
Python (``make setup`` has installed them all), files by files: the figures are those of a real
installation, made with another tool than Docker. Base images, apt packages and CUDA come on top.
"""

from __future__ import annotations

from importlib.metadata import Distribution, PackageNotFoundError, distribution
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement

from benchmarks.harness import ROOT, Limit

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

AGENT = 'td3_agent'
LIMIT_MB = 1175.0  # 1.3 GB with python:slim below
MEGABYTE = 1e6
CODE = ('config', 'interfaces', 'launch', 'resource', 'scripts', 'td3_agent')
# Removed again in the layer that installs them.
REMOVED = ('torch/test/', 'torch/include/')
# Requirements files of the layers; the merged image is set up by "make setup".
IMAGES = {
    AGENT: ('ros_runtime', 'runtime'),
    'td3_agent-sim': ('ros_runtime', 'runtime', 'sim'),
    'td3_agent-ray': ('ros_runtime', 'runtime', 'sim', 'ray'),
    'td3_agent-merged': ('runtime', 'sim', 'dev', 'onnx', 'ray', 'watch'),
}


def add_arguments(_: argparse.ArgumentParser) -> None:
    """Declare no arguments."""


def measure(_: argparse.Namespace) -> dict[str, Any]:
    """Return the layers of every image; ValueError if a package is not installed here."""
    try:
        layers = {image: python_layers(files) for image, files in IMAGES.items()}
        messages_mb = folder_mb([messages_prefix()])
    except PackageNotFoundError as error:
        raise ValueError(f'{error}; run "make setup" and source env.sh') from None
    own_mb = {'carla_msgs': messages_mb, 'code': folder_mb(ROOT / name for name in CODE)}
    own = {name: {'packages': 0, 'size_mb': size_mb} for name, size_mb in own_mb.items()}
    return {'images': {image: found | own for image, found in layers.items()}}


def python_layers(files: Iterable[str]) -> dict[str, dict[str, float]]:
    """Return packages and size [MB] of requirements files installed one after the other."""
    known: set[str] = set()
    layers = {}
    for name in files:
        lines = (ROOT / 'requirements' / f'{name}.in').read_text(encoding='utf-8').splitlines()
        packages = closure([line for line in lines if line and line[0] != '#'], known)
        known |= packages.keys()
        size = sum(map(size_mb, packages.values()))
        layers[name] = {'packages': len(packages), 'size_mb': size}
    return layers


def closure(lines: Sequence[str], known: set[str]) -> dict[str, Distribution]:
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


def size_mb(package: Distribution) -> float:
    """Return what the image keeps of a package's files [MB], compiled Python included."""
    files = [path for path in package.files or [] if not str(path).startswith(REMOVED)]
    places = [Path(str(path.locate())) for path in files]
    return sum(place.stat().st_size for place in places if place.is_file()) / MEGABYTE


def folder_mb(folders: Iterable[Path]) -> float:
    """Return what the files in folders take [MB]."""
    files = (path for folder in folders for path in folder.rglob('*'))
    sizes = (p.stat().st_size for p in files if p.is_file() and '__pycache__' not in p.parts)
    return sum(sizes) / MEGABYTE


def messages_prefix() -> Path:
    """Return where the built carla_msgs lies; PackageNotFoundError if it is not built here."""
    for prefix in os.environ.get('AMENT_PREFIX_PATH', '').split(':'):
        if prefix and Path(prefix, 'share', 'carla_msgs').is_dir():
            return Path(prefix)
    raise PackageNotFoundError('carla_msgs')


def limits(report: dict[str, Any]) -> list[Limit]:
    """Return how large the image of the agent may be."""
    size = sum(layer['size_mb'] for layer in report['images'][AGENT].values())
    return [Limit('image of the agent', size, 'MB', most=LIMIT_MB)]

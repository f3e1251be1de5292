#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Builds the agent's images, drives with four containers of them, and measures the images.

Needs buildah (packages buildah and podman) but no daemon and no cgroups: commands run in a chroot
with the host's network. Without buildah it says so and ends with 0. --debian makes the base image
with debootstrap, for machines without an image registry; for that it must be root. Words after
``--`` are options of "buildah bud", for example --volume, or --build-arg TORCH_INDEX_URL=.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack, contextmanager
from functools import partial
import json
import os
from pathlib import Path
import re
import shutil
import subprocess
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

from bench_tables import containers_text
import psutil
import yaml

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[1]
DEBIAN, DEBIAN_PYTHON = 'bookworm', '3.11'
PACKAGES = ('python3', 'python3-venv', 'python3-pip', 'python3-dev', 'ca-certificates')
TARGETS = {'td3_agent': 'agent', 'td3_agent-sim': 'sim', 'td3_agent-ray': 'ray'}
NODES = {'sim': '/carla_ros_bridge', 'agent': '/td3_agent', 'gate': '/gate'}
LIMIT_MB = 1300.0
MEGABYTE = 1e6
SHM = '/dev/shm'  # noqa: S108  shared by all nodes
PATIENCE_S = 120.0


def buildah(*words: object, quiet: bool = True) -> str:
    """Run buildah; return what it printed.

    Raises:
        subprocess.CalledProcessError: it failed; it has said why.
    """
    stdout = subprocess.PIPE if quiet else None
    done = subprocess.run(
        ['buildah', *map(str, words)], check=True, stdout=stdout, text=True, cwd=ROOT
    )
    return (done.stdout or '').strip()


@contextmanager
def container(image: str) -> Iterator[str]:
    """Make a container, and remove it afterwards."""
    name = buildah('from', '--pull-never', image)
    try:
        yield name
    finally:
        buildah('rm', name)


def make_base(image: str) -> None:
    """Make a stand-in for python:slim from Debian's packages."""
    with container('scratch') as name:
        place = Path(buildah('mount', name))
        included = f'--include={",".join(PACKAGES)}'
        subprocess.run(['debootstrap', '--variant=minbase', included, DEBIAN, place], check=True)
        for folder in ('var/cache/apt/archives', 'var/lib/apt/lists'):  # python:slim has neither
            shutil.rmtree(place / folder)
        (place / 'usr/bin/python').symlink_to('python3')
        buildah('umount', name)
        buildah('commit', name, image)


def layers(image: str) -> dict[str, float]:
    """Return the size [MB] of each large layer of an image, and of the others together."""
    about = json.loads(buildah('inspect', '--type', 'image', image))
    sizes = [layer['size'] / MEGABYTE for layer in json.loads(about['Manifest'])['layers']]
    steps = [s['created_by'] for s in about['OCIv1']['history'] if not s.get('empty_layer')]
    found: dict[str, float] = {}
    for step, size_mb in zip(steps, sizes, strict=True):
        name = layer_name(step, 'other' if found else 'base')
        found[name] = found.get(name, 0.0) + size_mb
    return found


def layer_name(step: str, default: str) -> str:
    """Return what a step of a Dockerfile adds: a requirements file, carla_msgs or the code."""
    if named := re.search(r'-r requirements/(\w+)\.in', step):
        return named[1]
    if 'carla_msgs' in step:
        return 'carla_msgs'
    return 'code' if re.search(r'(COPY|dir:\S+ in) \.', step) else default


def run(name: str, *words: object, results: Path) -> subprocess.Popen[bytes]:
    """Start a command in a container, as its user, with the host's network and shared memory."""
    volumes = ('--volume', f'{SHM}:{SHM}', '--volume', f'{results}:/results')
    command = ('buildah', 'run', '--isolation', 'chroot', *volumes, name, 'docker/entrypoint.sh')
    return subprocess.Popen([*command, *map(str, words)])


def embedded() -> dict[str, dict[str, Any]]:
    """Return the services of the profile ``embedded``, variables replaced by their defaults."""
    text = (ROOT / 'docker' / 'compose.yaml').read_text(encoding='utf-8')
    text = re.sub(r'\$\{\w+:-([^}]*)\}', r'\1', text)
    services = yaml.safe_load(text)['services']
    return {name: s for name, s in services.items() if 'embedded' in s.get('profiles', ())}


def drive(frames: int, results: Path) -> int:
    """Drive with a container for each service of the profile ``embedded``; return their number.

    Raises:
        ValueError: a node is not healthy, or the drive failed.
    """
    services = embedded()
    results.chmod(0o777)  # the user of the containers writes the ledger
    with ExitStack() as stack:
        for service, about in services.items():
            name = stack.enter_context(container(about['image']))
            start = partial(run, name, 'env', *environment(about), results=results)
            command = about.get('command') or default_command(about['image'])
            if service == 'synchronizer':
                command = [*command, '-p', f'max_frames:={frames}']
            process = start(*command)
            stack.callback(stop, process)
            if node := NODES.get(service):
                wait_healthy(partial(start, 'python', 'docker/healthcheck.py', node), node)
        if process.wait(PATIENCE_S + frames) != 0:
            raise ValueError(f'the synchronizer ended with {process.returncode}')
        check = start('python', '-m', 'td3_agent', 'ledger', 'check', '/results/ledger.jsonl')
        if check.wait(PATIENCE_S) != 0:
            raise ValueError('the ledger of the drive does not hold')
    return len(services)


def environment(service: dict[str, Any]) -> list[str]:
    """Return the variables of a service, with this shell's domain if it has one."""
    given = {key: os.environ[key] for key in ('ROS_DOMAIN_ID',) if key in os.environ}
    return [f'{key}={value}' for key, value in {**service['environment'], **given}.items()]


def default_command(image: str) -> list[str]:
    """Return the command that an image runs."""
    about = json.loads(buildah('inspect', '--type', 'image', image))
    return list(about['OCIv1']['config']['Cmd'])


def wait_healthy(check: Callable[[], subprocess.Popen[bytes]], node: str) -> None:
    """Repeat a health check until it passes; ValueError if it does not in time."""
    end_s = time.monotonic() + PATIENCE_S
    while check().wait(PATIENCE_S) != 0:
        if time.monotonic() > end_s:
            raise ValueError(f'{node} is not healthy after {PATIENCE_S:.0f} s')


def stop(process: subprocess.Popen[bytes]) -> None:
    """End the program of a container in order; a signal to buildah would kill it."""
    if process.poll() is None:
        *_, program = psutil.Process(process.pid).children(recursive=True)
        program.terminate()
        process.wait(PATIENCE_S)


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Build, drive and return the record."""
    options = ['--isolation', 'chroot', '--layers', '--pull=false', *args.options]
    if args.debian:
        base = f'python:{DEBIAN_PYTHON}-slim-{DEBIAN}'
        options += ['--build-arg', f'PYTHON_VERSION={DEBIAN_PYTHON}']
        names = buildah('images', '--format', '{{.Name}}:{{.Tag}}').split()
        if not any(name.endswith(f'/{base}') for name in names):
            make_base(base)
    images = {}
    for image, target in TARGETS.items():
        dockerfile = ('--file', 'docker/agent.Dockerfile', '--target', target, '--tag', image)
        buildah('bud', *options, *dockerfile, '.', quiet=False)
        images[image] = layers(image)
    with tempfile.TemporaryDirectory() as folder:
        count = drive(args.frames, Path(folder))
    tool = buildah('--version').partition(' (')[0]
    base = f'debootstrap {DEBIAN}' if args.debian else 'python:slim'
    return {
        'tool': tool,
        'base': base,
        'images': images,
        'drive': {'containers': count, 'frames': args.frames},
    }


def main() -> int:
    """Measure and print; return the exit status, which is 1 if the agent's image is too large."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--debian', action='store_true', help='make the base with debootstrap')
    parser.add_argument('--frames', type=int, default=200, help='of the drive')
    parser.add_argument('--out', type=Path, help='JSON file for the record')
    parser.add_argument('options', nargs='*', help='for "buildah bud"')
    args = parser.parse_args()
    needed = ('buildah', 'debootstrap') if args.debian else ('buildah',)
    if missing := [program for program in needed if shutil.which(program) is None]:
        names = ' '.join(missing)
        print(f'containers: skipped, no {names} here (apt install {names})')
        return 0
    try:
        report = measure(args)
    except (ValueError, subprocess.SubprocessError) as error:
        sys.stderr.write(f'containers: {error}\n')
        return 2
    if args.out:
        args.out.write_text(json.dumps(report, indent=1) + '\n', encoding='utf-8')
    print(containers_text(report))
    agent_mb = sum(report['images']['td3_agent'].values())
    if agent_mb > LIMIT_MB:
        sys.stderr.write(f'containers: the agent has {agent_mb:.0f} MB, over {LIMIT_MB:.0f} MB\n')
    return int(agent_mb > LIMIT_MB)


if __name__ == '__main__':
    sys.exit(main())

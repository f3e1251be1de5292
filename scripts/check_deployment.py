#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks docker/, deploy/ and the CI workflows without Docker and without a cluster.

Dockerfiles by hadolint, the compose files and the workflows by their published schemas, Kubernetes
manifests by the schemas of the oldest and the newest version that are meant. The tools bring the
schemas with them: nothing is downloaded. ``--tools DIR`` says where their programs are.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import shutil
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[1]
# The first with sidecars without a feature gate, and the newest that the pinned tool knows.
KUBERNETES_VERSIONS = ('1.29', '1.37')


def commands() -> list[list[str]]:
    """Return every check as a command line."""
    dockerfiles = sorted(map(str, ROOT.glob('docker/*.Dockerfile')))
    compose_files = sorted(map(str, ROOT.glob('docker/compose*.yaml')))
    manifests = sorted(map(str, ROOT.glob('deploy/*.yaml')))
    workflows = sorted(map(str, ROOT.glob('.github/workflows/*.yaml')))
    schema = ['check-jsonschema', '--builtin-schema']
    return [
        ['hadolint', '--config', str(ROOT / '.hadolint.yaml'), *dockerfiles],
        [*schema, 'vendor.compose-spec', *compose_files],
        *([*schema, 'vendor.github-workflows', *workflows] for _ in workflows[:1]),
        *(
            ['kubernetes-validate', '--strict', '--quiet', '-k', version, *manifests]
            for version in KUBERNETES_VERSIONS
        ),
    ]


def main() -> int:
    """Run all checks; return 1 if one has failed, 2 if its tool is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--tools', type=Path, default=ROOT / '.venv' / 'tools' / 'bin')
    tools = parser.parse_args().tools
    status = 0
    for name, *words in commands():
        program = shutil.which(name, path=str(tools)) or shutil.which(name)
        if program is None:
            print(f'{name} is missing: pip install -r requirements/deploy.in, in {tools.parent}')
            status = max(status, 2)
            continue
        done = subprocess.run([program, *words], check=False)  # noqa: S603  our own files
        print(f'{name} {words[0]}: {"failed" if done.returncode else "ok"}')
        status = max(status, int(done.returncode != 0))
    return status


if __name__ == '__main__':
    sys.exit(main())

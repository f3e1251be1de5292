# SPDX-License-Identifier: Apache-2.0
"""Imports what the programs need, together and in processes of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from td3_agent.doctor.checks import NOT_IN_TIME
from td3_agent.doctor.facts import Import, Torch

if TYPE_CHECKING:
    from collections.abc import Sequence

# The same modules are found as from here, wherever the program was started.
PROBE = (
    'import json, sys; sys.path[:] = json.loads(sys.argv[1]); '
    'from td3_agent.doctor.import_probe import main; main()'
)
# Torch last: it takes longest, and loads libraries that others may stumble over.
MODULES = (
    'numpy',
    'yaml',
    'rclpy',
    'geometry_msgs.msg',
    'carla_msgs.msg',
    'google.protobuf',
    'cv2',
    'carla',
    'torch',
)


def gather_imports(
    modules: Sequence[str] = MODULES, patience_s: float = 4.0
) -> tuple[dict[str, Import], Torch | None]:
    """Return what became of each import, and what torch says of itself.

    All are imported in one process, as the programs do. After one that ends the process, another
    goes on with the rest. What failed is tried again alone: so a clash can be told from a module
    that is broken by itself.
    """
    end_s = time.monotonic() + patience_s
    answers: dict[str, dict[str, Any]] = {}
    left = list(modules)
    while left:
        answers |= _probe(left, end_s)
        left = left[left.index(next(reversed(answers))) + 1 :]
    found = {name: _import_of(answer) for name, answer in answers.items()}
    suspects = [name for name, it in found.items() if it.error and not it.missing]
    with ThreadPoolExecutor(max_workers=2) as pool:
        again = pool.map(lambda name: _probe([name], end_s)[name], suspects)
    for name, answer in zip(suspects, again, strict=True):
        found[name] = replace(found[name], alone='error' not in answer)
    torch = answers.get('torch', {}).get('torch')
    return found, Torch(**torch) if torch else None


def _probe(names: Sequence[str], end_s: float) -> dict[str, dict[str, Any]]:
    """Import in one process, as far as it gets; the last answer is that of the end, if any."""
    process = subprocess.Popen(  # noqa: S603  our own program
        [sys.executable, '-c', PROBE, json.dumps(sys.path), *names],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        out, _ = process.communicate(timeout=max(end_s - time.monotonic(), 0.01))
        why = f'the import was ended by signal {-process.returncode}'
        if process.returncode >= 0:
            why = f'the import ended the program with {process.returncode}'
    except subprocess.TimeoutExpired:
        process.kill()
        out, _ = process.communicate()
        why = NOT_IN_TIME
    lines = [line for line in out.splitlines() if line.startswith('{')]
    answers = {answer['name']: answer for answer in map(json.loads, lines)}
    if len(answers) < len(names):
        answers[names[len(answers)]] = {'error': why}
    return answers


def _import_of(answer: dict[str, Any]) -> Import:
    return Import(
        version=answer.get('version', ''),
        path=answer.get('path', ''),
        error=answer.get('error', ''),
        missing=answer.get('missing', False),
    )

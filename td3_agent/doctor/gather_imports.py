# SPDX-License-Identifier: Apache-2.0
"""Imports what the programs need, together and in processes of their own."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
import time
from typing import TYPE_CHECKING, Any

from td3_agent.doctor.facts import NOT_IN_TIME, NOT_TRIED, Import, Torch
from td3_agent.doctor.probe import Probe, how_it_ended

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    goes on with the rest; after one that takes all the time, nothing does. What failed is tried
    again alone: so a clash can be told from a module that is broken by itself.
    """
    end_s = time.monotonic() + patience_s
    answers = _answers(modules, end_s)
    found = {name: _import_of(answer) for name, answer in answers.items()}
    suspects = [name for name, it in found.items() if it.failed and not it.missing]
    with ThreadPoolExecutor(max_workers=2) as pool:
        again = pool.map(lambda name: _probe([name], end_s)[name], suspects)
    for name, answer in zip(suspects, again, strict=True):
        if answer.get('error') != NOT_IN_TIME:
            found[name] = replace(found[name], alone='error' not in answer)
    torch = answers.get('torch', {}).get('torch')
    return found, Torch(**torch) if torch else None


def _answers(modules: Sequence[str], end_s: float) -> dict[str, dict[str, Any]]:
    """Import all, in as many processes as it takes."""
    answers: dict[str, dict[str, Any]] = {}
    left = list(modules)
    while left:
        answers |= _probe(left, end_s)
        last = next(reversed(answers))
        left = left[left.index(last) + 1 :]
        if answers[last].get('error') == NOT_IN_TIME:
            return answers | {name: {'error': NOT_TRIED} for name in left}
    return answers


def _probe(names: Sequence[str], end_s: float) -> dict[str, dict[str, Any]]:
    """Import in one process, as far as it gets; the last answer is that of the end, if any."""
    left_s = end_s - time.monotonic()
    with Probe('td3_agent.doctor.import_probe', *names, patience_s=left_s) as probe:
        status = probe.wait()
        answers = {answer['name']: answer for answer in probe.answers()}
    if len(answers) < len(names):
        why = NOT_IN_TIME if status is None else f'the import {how_it_ended(status)}'
        answers[names[len(answers)]] = {'error': why}
    return answers


def _import_of(answer: dict[str, Any]) -> Import:
    return Import(
        version=answer.get('version', ''),
        path=answer.get('path', ''),
        error=answer.get('error', ''),
        missing=answer.get('missing', False),
    )

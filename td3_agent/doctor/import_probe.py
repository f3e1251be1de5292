# SPDX-License-Identifier: Apache-2.0
"""Imports modules one after the other and says what became of each, a line of JSON for each.

A process of its own: an import may end it. Its first argument was ``sys.path``, the others are the
names of the modules.
"""

from __future__ import annotations

from importlib import import_module
import os
import sys
from typing import Any

from td3_agent.doctor.probe import Channel

# On standard error, from an import that went on regardless.
HALF_BROKEN = ('_ARRAY_API', 'compiled using NumPy')


def probe(name: str) -> dict[str, Any]:
    """Import one module; what it writes to standard error is looked at, not shown."""
    with os.fdopen(os.memfd_create('stderr'), 'rb') as said:
        kept = os.dup(2)
        os.dup2(said.fileno(), 2)
        try:
            found = _import(name)
        finally:
            sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
        said.seek(0)
        lines = said.read().decode(errors='replace').splitlines()
    broken = [line.strip() for line in lines if any(sign in line for sign in HALF_BROKEN)]
    if broken and 'error' not in found:
        found['error'] = broken[0]
    return {'name': name, **found}


def _import(name: str) -> dict[str, Any]:
    try:
        module = import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name is not None and f'{name}.'.startswith(f'{error.name}.')
        return {'missing': missing, 'error': str(error)}
    except BaseException as error:  # noqa: BLE001  whatever it is, it is the answer
        return {'error': f'{type(error).__name__}: {error}'.splitlines()[0][:300]}
    paths = [getattr(module, '__file__', None), *getattr(module, '__path__', [])]
    found: dict[str, Any] = {
        'version': str(getattr(module, '__version__', '')),
        'path': next((path for path in paths if path), ''),
    }
    if name == 'torch':
        cuda = getattr(module, 'cuda', None)
        found['torch'] = {
            'cuda_build': getattr(getattr(module, 'version', None), 'cuda', None) or '',
            'cuda_runs': bool(cuda and cuda.is_available()),
        }
    return found


def main() -> None:
    """Import what the arguments name."""
    channel = Channel()
    for name in sys.argv[2:]:
        channel.answer(probe(name))
    os._exit(0)  # an end that crashes is not what was asked about

# SPDX-License-Identifier: Apache-2.0
"""Parts of the doctor in processes of their own: what is broken may end them, or hold them.

A part answers in lines of JSON, on a descriptor that nothing else writes to.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

# The same modules are found as from here, wherever the program was started.
PROGRAM = (
    'import json, sys; sys.path[:] = json.loads(sys.argv[1]); from {module} import main; main()'
)


class Probe:
    """A part at work; it is killed at the end of the block, if it has not ended by itself."""

    def __init__(self, module: str, *words: str, patience_s: float) -> None:
        """Start ``main`` of a module.

        Args:
            module: its full name.
            words: its arguments, from ``sys.argv[2]`` on.
            patience_s: longest time that it may take from now on [s].
        """
        self.patience_s = patience_s
        self._end_s = time.monotonic() + patience_s
        # In memory: no pipe that a grandchild holds open, no disk that is full.
        self._said = os.fdopen(os.memfd_create('answers'), 'rb')
        self._process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, '-c', PROGRAM.format(module=module), json.dumps(sys.path), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the part."""
        self._process.kill()
        self._process.wait()
        self._said.close()

    def wait(self) -> int | None:
        """Return the exit status; None where the time is up first, and the part is killed."""
        try:
            return self._process.wait(timeout=max(self._end_s - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            return None

    def answers(self) -> list[dict[str, Any]]:
        """Return what it has answered so far, whole lines only."""
        self._said.seek(0)
        return [json.loads(line) for line in self._said.read().split(b'\n')[:-1]]


def how_it_ended(status: int) -> str:
    """Say what an exit status means: of a signal, or of the program."""
    return f'was ended by signal {-status}' if status < 0 else f'ended the program with {status}'


class Channel:
    """The part's side: where answers go, and nothing else."""

    def __init__(self) -> None:
        """Keep standard output to ourselves: what is printed from here on goes nowhere."""
        self._out = os.fdopen(os.dup(1), 'w', encoding='utf-8')
        with open(os.devnull, 'wb') as nowhere:  # noqa: PTH123  a device
            os.dup2(nowhere.fileno(), 1)

    def answer(self, row: dict[str, Any]) -> None:
        """Write a line, at once: the next step may be the last."""
        self._out.write(json.dumps(row) + '\n')
        self._out.flush()

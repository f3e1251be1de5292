# SPDX-License-Identifier: Apache-2.0
"""Programs of a benchmark that answer in lines of JSON, each a process of its own."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Self

ENDING_S = 10.0


class ProgramError(ValueError):
    """A program ended, or said nothing, where an answer was expected."""


class ProgramSilentError(ProgramError):
    """A program said nothing where an answer was expected, and goes on."""


class Program:
    """``python -m MODULE WORDS``; it ends when its input does, so leaving the context ends it."""

    def __init__(self, module: str, *words: str, environment: Mapping[str, str]) -> None:
        """Start it in an environment."""
        self._name = ' '.join((module, *words))
        self._heard = b''
        self._process = subprocess.Popen(  # noqa: S603  our own program; no shell
            [sys.executable, '-m', module, *words],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is ours alone
        )

    def ask(self, text: str, patience_s: float) -> Any:  # noqa: ANN401  whatever it answers
        """Say one line, and return the answer.

        Raises:
            ProgramError: there was none in time [s], or the program has ended.
        """
        self.say(text)
        return self.hear(patience_s)

    def say(self, text: str) -> None:
        """Say one line.

        Raises:
            ProgramError: the program has ended.
        """
        assert self._process.stdin is not None  # noqa: S101  for the type checker
        try:
            self._process.stdin.write(f'{text}\n'.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            raise ProgramError(f'{self._name} has ended; what it said is above') from None

    def hear(self, patience_s: float) -> Any:  # noqa: ANN401  whatever it says
        """Return the next thing that it says; lines that are not JSON are the middleware's.

        Raises:
            ProgramSilentError: nothing in time [s].
            ProgramError: the program has ended.
        """
        end_s = time.monotonic() + patience_s
        while True:
            line, newline, rest = self._heard.partition(b'\n')
            if not newline:
                self._read(end_s, patience_s)
                continue
            self._heard = rest
            if line.startswith((b'{', b'[')):
                return json.loads(line)
            sys.stderr.write(f'{line.decode(errors="replace")}\n')

    def _read(self, end_s: float, patience_s: float) -> None:
        assert self._process.stdout is not None  # noqa: S101  for the type checker
        left_s = max(end_s - time.monotonic(), 0.0)
        if not select.select([self._process.stdout], [], [], left_s)[0]:
            what = f'{self._name} must answer within {patience_s:g} s, and did not'
            raise ProgramSilentError(what)
        part = os.read(self._process.stdout.fileno(), 1 << 16)
        if not part:
            raise ProgramError(f'{self._name} has ended; what it said is above')
        self._heard += part

    def end(self) -> int:
        """Close its input and return its exit status; one that does not end is killed."""
        try:
            self._process.communicate(timeout=ENDING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        return self._process.returncode

    def __enter__(self) -> Self:
        """Return the program itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End it; in the middle of what it does if nobody wants the answer any more."""
        if kind is not None:
            self._process.terminate()
        self.end()

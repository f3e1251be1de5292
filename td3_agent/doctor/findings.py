# SPDX-License-Identifier: Apache-2.0
"""What the doctor says: one finding, one line, one way to mend it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

MEGABYTE = 1_000_000


class Level(IntEnum):
    """How bad a finding is; an error keeps the vehicle from driving."""

    OK = 0
    NOTE = 1
    WARNING = 2
    ERROR = 3


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        level: how bad it is.
        check: name of the check, one word.
        text: what was found.
        fix: what to do about it; empty where there is nothing to do.
    """

    level: Level
    check: str
    text: str
    fix: str = ''

    def line(self) -> str:
        """Return the finding as one line."""
        fix = f'; fix: {self.fix}' if self.fix else ''
        return f'{self.level.name.lower():<8}{self.check:<11}{self.text}{fix}'.replace('\n', ' ')


def megabytes(size_bytes: int) -> str:
    """Return a size as people read it."""
    return f'{size_bytes / MEGABYTE:.1f} MB'

# SPDX-License-Identifier: Apache-2.0
"""What a row of the table of faults is, and what comes of running one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

Figure = float | int | str


@dataclass(frozen=True)
class Check:
    """One thing that must hold.

    Attributes:
        name: what was looked at.
        passed: whether it holds.
        found: what was found, for people.
        wanted: what it must be, for people.
    """

    name: str
    passed: bool
    found: str
    wanted: str


@dataclass
class Outcome:
    """What came of one run of a row.

    Attributes:
        checks: what was looked at; the row passes when every one holds, and there is one.
        figures: numbers or words by name; units are part of the names.
        duration_s: how long it took [s, wall].
        patience: what limits in seconds are multiplied by; above 1 where other work is beside.
    """

    patience: ClassVar[float] = 1.0

    checks: list[Check] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    duration_s: float = 0.0

    @property
    def passed(self) -> bool:
        """Whether every check holds; a row that has checked nothing does not pass."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failed(self) -> list[Check]:
        """The checks that do not hold."""
        return [check for check in self.checks if not check.passed]

    def check(self, name: str, passed: object, found: object, wanted: object) -> bool:
        """Note one check; return whether it holds."""
        self.checks.append(Check(name, bool(passed), str(found), str(wanted)))
        return bool(passed)

    def equal(self, name: str, found: object, wanted: object) -> bool:
        """Note that ``found`` must be equal to ``wanted``."""
        return self.check(name, found == wanted, repr(found), repr(wanted))

    def most(self, name: str, found: float | None, limit: float, unit: str = '') -> bool:
        """Note that a number must be there, and at most ``limit``; NaN is more than anything."""
        limit *= self.patience if unit == 's' else 1.0
        passed = found is not None and found <= limit
        text = 'nothing' if found is None else f'{found:.6g} {unit}'.rstrip()
        return self.check(name, passed, text, f'<= {limit:g} {unit}'.rstrip())

    def least(self, name: str, found: float | None, limit: float, unit: str = '') -> bool:
        """Note that a number must be there, and at least ``limit``."""
        passed = found is not None and found >= limit
        text = 'nothing' if found is None else f'{found:.6g} {unit}'.rstrip()
        return self.check(name, passed, text, f'>= {limit:g} {unit}'.rstrip())

    def none(self, name: str, faults: Iterable[object]) -> bool:
        """Note that there must be no fault among ``faults``; the first ones are told."""
        told = [str(fault) for fault in faults]
        more = f' and {len(told) - 3} more' if len(told) > 3 else ''
        return self.check(name, not told, '; '.join(told[:3]) + more or 'none', 'none')

    def add(self, part: Outcome, prefix: str = '') -> None:
        """Take over checks and figures of a part, under its own name."""
        space = f'{prefix}: ' if prefix else ''
        self.checks += [
            Check(space + check.name, check.passed, check.found, check.wanted)
            for check in part.checks
        ]
        under = f'{prefix.replace(" ", "_")}_' if prefix else ''
        self.figures |= {under + name: value for name, value in part.figures.items()}


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Attributes:
        name: as in the table, such as ``F7``.
        title: what is done to the system.
        case: readable name, such as ``bridge_plays``; empty where there is none.
        run: does it, given a :class:`td3_agent.faults.scene.Scene`.
        quick: whether it takes a few seconds, and runs with the tests.
    """

    name: str
    title: str
    run: Callable[[Any], Outcome]
    quick: bool = True
    case: str = ''


class Registry:
    """Rows by name; modules add theirs with :meth:`row`."""

    def __init__(self) -> None:
        """Know no row yet."""
        self._rows: dict[str, Row] = {}

    def row(
        self, name: str, title: str, *, quick: bool = True, case: str = ''
    ) -> Callable[[Callable[[Any], Outcome]], Callable[[Any], Outcome]]:
        """Return a decorator that registers the function that runs row ``name``."""
        if name in self._rows:
            raise ValueError(f'row {name} is registered twice')

        def register(run: Callable[[Any], Outcome]) -> Callable[[Any], Outcome]:
            self._rows[name] = Row(name, title, run, quick, case)
            return run

        return register

    def rows(self) -> list[Row]:
        """Return all rows in the order of the table: L1, L2, ..., F1, F2, ..."""
        return sorted(self._rows.values(), key=lambda row: order(row.name))


def order(name: str) -> tuple[int, int]:
    """Return where a row stands in the table: loads first, then faults, by number."""
    return (0 if name.startswith('L') else 1, int(name[1:]))


REGISTRY = Registry()
row = REGISTRY.row

# SPDX-License-Identifier: Apache-2.0
"""The table: every row there is, in order. A module of rows is named here, once."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from td3_agent.faults.row import REGISTRY

if TYPE_CHECKING:
    from collections.abc import Sequence

    from td3_agent.faults.row import Row

ROW_MODULES = (
    'td3_agent.faults.rows_loads',
    'td3_agent.faults.rows_machine',
    'td3_agent.faults.rows_messages',
    'td3_agent.faults.rows_inputs',
    'td3_agent.faults.rows_policy',
    'td3_agent.faults.rows_graph',
    'td3_agent.faults.rows_fuzz',
    'td3_agent.faults.rows_training',
    'td3_agent.faults.rows_processes',
    'td3_agent.faults.rows_vehicles',
    'td3_agent.faults.rows_bags',
    'td3_agent.faults.rows_bridge',
)


def table() -> list[Row]:
    """Return all rows in the order of the table."""
    for name in ROW_MODULES:
        import_module(name)
    return REGISTRY.rows()


def chosen(names: Sequence[str], *, everything: bool = False, quick: bool = False) -> list[Row]:
    """Return the rows of these names, in the order of the table.

    Args:
        names: as in the table, numbered or readable; letters may be small.
        everything: all rows.
        quick: the quick ones; with names, those of them that are quick.

    Raises:
        ValueError: a name is not in the table, or nothing was asked for.
    """
    rows = table()
    numbers = {row.case: row.name for row in rows if row.case}
    known = [row.name for row in rows]
    wanted = [numbers.get(name.lower(), name.upper()) for name in names]
    if unknown := [name for name in wanted if name not in known]:
        choices = ', '.join([*known, *numbers])
        raise ValueError(f'row must be one of {choices}; got {", ".join(unknown)}')
    if not (wanted or everything or quick):
        raise ValueError('name rows, or give --quick, --all or --list')
    return [
        row
        for row in rows
        if (not wanted or everything or row.name in wanted) and (row.quick or not quick)
    ]

# SPDX-License-Identifier: Apache-2.0
"""Logs of a run: CSV always, TensorBoard where it is installed."""

from __future__ import annotations

import csv
import importlib
from importlib.util import find_spec
import logging
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LOG = logging.getLogger(__name__)


class CsvLog:
    """A table whose rows survive a crash; a resumed run goes on with it."""

    def __init__(self, path: Path) -> None:
        """Append to ``path``; the first row decides on the columns."""
        self._path = path

    def write(self, row: Mapping[str, float | str]) -> None:
        """Add a row."""
        fresh = not self._path.exists() or self._path.stat().st_size == 0
        with self._path.open('a', newline='', encoding='utf-8') as file:
            writer = csv.DictWriter(file, list(row))
            if fresh:
                writer.writeheader()
            writer.writerow(row)

    def rewind(self, step: int) -> None:
        """Drop rows of later steps, and a last one that was cut off: they will come again."""
        if not self._path.exists():
            return
        with self._path.open(newline='', encoding='utf-8') as file:
            header, *rows = list(csv.reader(file)) or [[]]
        kept = [row for row in rows if len(row) == len(header) and int(row[0]) <= step]
        beside = self._path.with_suffix('.tmp')
        with beside.open('w', newline='', encoding='utf-8') as file:
            csv.writer(file).writerows([header, *kept] if kept else [])
        os.replace(beside, self._path)  # noqa: PTH105  says best what is meant


class TensorBoard:
    """Scalars and texts for TensorBoard; does nothing, and says so, where it is not installed."""

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """Write to ``folder``; steps from ``purge_step`` on are written anew."""
        self._writer: Any = None
        if find_spec('tensorboard') is None:
            LOG.info('tensorboard is not installed: the logs are the CSV files alone')
        else:
            module = importlib.import_module('torch.utils.tensorboard')
            self._writer = module.SummaryWriter(str(folder), purge_step=purge_step)

    def write(self, group: str, row: Mapping[str, float | str], step: int) -> None:
        """Add every number and text of a row."""
        if self._writer is not None:
            for name, value in row.items():
                if isinstance(value, (int, float)):
                    self._writer.add_scalar(f'{group}/{name}', value, step)
                elif value:
                    self._writer.add_text(f'{group}/{name}', value, step)

    def close(self) -> None:
        """Flush what is left."""
        if self._writer is not None:
            self._writer.close()

#!/usr/bin/env python3
# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Prints the measures of the source tree beside their targets, as a Markdown table.

Everything is read from the files, nothing is imported. ``python scripts/house.py [ROOT]``.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from pathlib import Path
import re
import sys

NAME = 'td3_agent'
LONGEST_FILE, SHORTEST_MODULE = 450, 60
# A second drive loop, task tracker or seat of a driver: classes that one loop makes unnecessary.
SECOND_LOOPS = ('DirectDrive', '_Seat', '_Player', 'Referee')
PRIVATE_USE = re.compile(r'(?m).*SLF001.*|^ *(?:from|import) (?!td3_agent)[\w.]*\._\w.*')
NOT_A_REASON = re.compile(r'noqa:[ A-Z0-9,]*|#')
PRIVATE_IN_TESTS = re.compile(r'\b(?!self\b|cls\b)\w+\._[a-z]')


@dataclass(frozen=True)
class House:
    """The checkout at ``root``."""

    root: Path

    def files(self, folder: str, pattern: str = '*.py') -> list[Path]:
        """Return the files below a folder of the checkout."""
        return sorted(path for path in (self.root / folder).rglob(pattern) if path.is_file())

    def lines(self, *folders: str) -> int:
        """Return the number of lines of all programs below some folders."""
        paths = (path for name in folders for path in self.files(name, '*.*'))
        return sum(line_count(path) for path in paths if path.suffix in {'.py', '.sh'})

    @cached_property
    def modules(self) -> dict[str, Path]:
        """Modules of the package by their dotted names, packages themselves left out."""
        paths = (path for path in self.files(NAME) if path.name != '__init__.py')
        return {'.'.join(p.relative_to(self.root).with_suffix('').parts): p for p in paths}

    @cached_property
    def imports(self) -> dict[str, set[str]]:
        """Modules that each module imports, those for types only included."""
        return {
            name: {found for found in imported(path) if found in self.modules} - {name}
            for name, path in self.modules.items()
        }

    def single_importer(self) -> list[str]:
        """Return modules that one other module imports, and that are no programs."""
        counts = dict.fromkeys(self.modules, 0)
        for names in self.imports.values():
            for name in names:
                counts[name] += 1
        places = ('setup.py', f'{NAME}/__main__.py', f'{NAME}/programs.py')
        listed = ''.join((self.root / place).read_text('utf-8') for place in places)
        once = [name for name, count in counts.items() if count == 1 and name not in listed]
        mark = "__name__ == '__main__'"
        return [name for name in once if mark not in self.modules[name].read_text('utf-8')]

    def mutual_rooms(self) -> list[tuple[str, str]]:
        """Return the pairs of sub-packages that import each other."""
        arrows = {(room(a), room(b)) for a, others in self.imports.items() for b in others}
        rooms = sorted({one for arrow in arrows for one in arrow} - {''})
        return [(a, b) for a, b in combinations(rooms, 2) if {(a, b), (b, a)} <= arrows]

    def text(self, folder: str) -> str:
        return '\n'.join(path.read_text('utf-8') for path in self.files(folder))

    def walk(self) -> int | str:
        """Return the number of modules on the walk of a frame in docs/architecture.md."""
        page = (self.root / 'docs' / 'architecture.md').read_text('utf-8')
        walk = re.search(r'^## [^\n]*\b[Ww]alk\b(?s:.*?)(?=^## |\Z)', page, re.MULTILINE)
        return len(set(re.findall(r'[\w/]+\.py\b', walk[0]))) if walk else 'no section'

    def synchronizer_attributes(self) -> int:
        """Return how many attributes SynchronizerNode has of its own."""
        path = self.modules[f'{NAME}.nodes.synchronizer_node']
        found = (n for n in ast.walk(tree(path)) if isinstance(n, ast.Attribute))
        return len({node.attr for node in found if isinstance(node.ctx, ast.Store)})

    def rows(self) -> list[tuple[str, object, str]]:
        """Return what is measured, the figure and the target."""
        code, tests = self.text(NAME), self.text('test')
        sizes = {name: line_count(path) for name, path in self.modules.items()}
        lengths = [line_count(p) for folder in (NAME, 'test') for p in self.files(folder)]
        nodes = [size for name, size in sizes.items() if name.endswith('_node')]
        private = PRIVATE_USE.findall(code)
        bare = [line for line in private if not reason(line)]
        second = ', '.join(n for n in SECOND_LOOPS if re.search(rf'class {n}\b', code))
        mutual = ', '.join(map(' and '.join, self.mutual_rooms()))
        fakes = re.findall(r'^class \w*Bridge\b', tests, re.MULTILINE)
        owners = [p for p in self.files(NAME) if 'rclpy.init(' in p.read_text('utf-8')]
        short = sum(size < SHORTEST_MODULE for size in sizes.values())
        return [
            (f'lines in `{NAME}/`', self.lines(NAME), '≤ 26 000'),
            ('modules', len(self.modules), '≤ 140'),
            ('modules with one importer, no programs', len(self.single_importer()), '≤ 15'),
            ('lines in `test/`', self.lines('test'), '≤ 23 000'),
            ('`benchmarks/` and `scripts/`', self.lines('benchmarks', 'scripts'), '≤ 3 500'),
            (f'files over {LONGEST_FILE} lines', sum(n > LONGEST_FILE for n in lengths), '0'),
            (f'modules under {SHORTEST_MODULE} lines', short, 'each with a reason'),
            ('modules on the walk of a frame', self.walk(), '≤ 16'),
            ('classes of a second drive loop', second or 0, '0'),
            ('modules that own an rclpy context', len(owners), '1'),
            ('fakes of the bridge in tests', len(fakes), '1'),
            ('longest node file', max(nodes), '≤ 220'),
            ('attributes of `SynchronizerNode`', self.synchronizer_attributes(), '≤ 14'),
            ('pairs of sub-packages that import each other', mutual or 0, '0'),
            ('uses of private API of others', len(private), ''),
            ('the same without a reason at the line', len(bare), '0'),
            ('private attributes in tests', len(PRIVATE_IN_TESTS.findall(tests)), '≤ 80'),
        ]


def reason(line: str) -> str:
    """Return the comment of a line without the codes of checks."""
    return NOT_A_REASON.sub('', line.partition('#')[2]).strip()


def line_count(path: Path) -> int:
    return path.read_bytes().count(b'\n')


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text('utf-8'))


def room(module: str) -> str:
    """Return the sub-package of a module; empty for those of the package itself."""
    parts = module.split('.')
    return parts[1] if len(parts) > 2 else ''


def imported(path: Path) -> set[str]:
    """Return the names that a file imports, of which some may be no modules."""
    found = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f'{node.module}.{alias.name}' for alias in node.names)}
    return found


if __name__ == '__main__':
    house = House(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parents[1])
    print('| measure | now | target |\n|---|---:|---:|')
    for what, figure, target in house.rows():
        print(f'| {what} | {figure} | {target} |')

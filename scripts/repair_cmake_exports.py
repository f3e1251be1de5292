# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Point the CMake targets exported by the ROS wheels at this Python's and this NumPy's headers.

The wheels carry the include paths of the machine that built them, and CMake refuses to import
a target whose include directory does not exist. Run with the Python of the environment to repair;
a second run changes nothing.
"""

from __future__ import annotations

from pathlib import Path
import re
import sys
import sysconfig

import numpy as np

# One entry of a CMake list: neither a quote nor a semicolon belongs to it.
PYTHON_INCLUDE = re.compile(r'(?<=[";])/[^";]*/include/python3\.\d+(?=[";])')
NUMPY_INCLUDE = re.compile(r'(?<=[";])/[^";]*/numpy/_?core/include(?=[";])')


def repaired(text: str, python_include: str, numpy_include: str) -> str:
    """Return the CMake file ``text`` with both kinds of include path replaced."""
    text = PYTHON_INCLUDE.sub(lambda _: python_include, text)
    return NUMPY_INCLUDE.sub(lambda _: numpy_include, text)


def repair(prefix: Path, python_include: str, numpy_include: str) -> int:
    """Repair every export file below ``prefix``; return how many changed."""
    changed = 0
    for path in sorted(prefix.glob('share/*/cmake/*Export.cmake')):
        before = path.read_text(encoding='utf-8')
        after = repaired(before, python_include, numpy_include)
        if after != before:
            path.write_text(after, encoding='utf-8')
            changed += 1
    return changed


def main() -> int:
    """Repair the environment of the running Python."""
    changed = repair(Path(sys.prefix), sysconfig.get_paths()['include'], np.get_include())
    print(f'repaired {changed} CMake export files')
    return 0


if __name__ == '__main__':
    sys.exit(main())

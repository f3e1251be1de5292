# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Where the files that come with the package lie, installed or in a checkout."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
import sysconfig


def shared_path(name: str) -> Path:
    """Return the path of a shipped file or folder, such as ``config/demo.yaml``.

    Raises:
        FileNotFoundError: there is none, neither beside the sources nor in the package's share.
    """
    candidates = [
        Path(__file__).resolve().parents[2] / name,  # a checkout
        Path(sysconfig.get_path('data')) / 'share' / 'td3_agent' / name,  # pip install
    ]
    # No ROS 2, none that is sourced, or a checkout that is not installed.
    with suppress(ImportError, OSError, LookupError):
        from ament_index_python.packages import get_package_share_directory  # noqa: PLC0415

        candidates.append(Path(get_package_share_directory('td3_agent')) / name)
    for path in candidates:
        if path.exists():
            return path
    places = ' or '.join(str(path) for path in candidates)
    raise FileNotFoundError(f'{name!r} must exist as {places}')

# SPDX-License-Identifier: Apache-2.0
"""Where the package's configuration files lie, installed or in a checkout."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory


def config_path(name: str) -> Path:
    """Return the path of ``config/<name>``.

    Raises:
        FileNotFoundError: there is none, neither beside the sources nor in the package's share.
    """
    candidates = [Path(__file__).resolve().parents[2] / 'config' / name]
    with suppress(PackageNotFoundError):
        share = Path(get_package_share_directory('td3_agent'))
        candidates.append(share / 'config' / name)
    for path in candidates:
        if path.is_file():
            return path
    places = ' or '.join(str(path) for path in candidates)
    raise FileNotFoundError(f'config {name!r} must exist as {places}')

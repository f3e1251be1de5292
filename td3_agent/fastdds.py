# SPDX-License-Identifier: Apache-2.0
"""Which Fast DDS profile a process gets: the one that its user named, or one that ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROFILE_VARIABLES = (
    'FASTRTPS_DEFAULT_PROFILES_FILE',  # Fast DDS 2
    'FASTDDS_DEFAULT_PROFILES_FILE',  # Fast DDS 3
)
LOOPBACK_PROFILE = 'config/fastdds_loopback.xml'  # nothing leaves the machine
CAMERA_PROFILE = 'config/fastdds_camera.xml'  # the bridge may be on another one


def profile_variables(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the variables that name the profile at ``path``; none where one is named already.

    All or none: a version that reads both names must not find two profiles.
    """
    if any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return dict.fromkeys(PROFILE_VARIABLES, str(path))

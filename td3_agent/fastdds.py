# SPDX-License-Identifier: Apache-2.0
"""Which Fast DDS profile a process gets: the one that its user named, or one that ships."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FAST_DDS_2, FAST_DDS_3 = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILE_VARIABLES = (FAST_DDS_2, FAST_DDS_3)
DISTROS_WITH_FAST_DDS_2 = ('humble', 'iron', 'jazzy')
LOOPBACK_PROFILE = 'config/fastdds_loopback.xml'  # nothing leaves the machine
CAMERA_PROFILE = 'config/fastdds_camera.xml'  # the bridge may be on another one


def profile_variables(environment: Mapping[str, str], path: Path) -> dict[str, str]:
    """Return the variable that names the profile at ``path``; none where one is named already.

    Which one depends on ``ROS_DISTRO``: Fast DDS 3 complains of the name that its predecessor
    reads, and obeys it.
    """
    if any(environment.get(name) for name in PROFILE_VARIABLES):
        return {}
    return {profile_variable(environment): str(path)}


def profile_variable(environment: Mapping[str, str]) -> str:
    """Return the variable that the Fast DDS of an environment's ROS 2 reads."""
    distro = environment.get('ROS_DISTRO')
    return FAST_DDS_2 if distro in DISTROS_WITH_FAST_DDS_2 else FAST_DDS_3

# SPDX-License-Identifier: Apache-2.0
"""Which Fast DDS profile a process gets: the one that its user named, or one that ships."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

FAST_DDS_2, FAST_DDS_3 = 'FASTRTPS_DEFAULT_PROFILES_FILE', 'FASTDDS_DEFAULT_PROFILES_FILE'
PROFILE_VARIABLES = (FAST_DDS_2, FAST_DDS_3)
DISTROS_WITH_FAST_DDS_2 = ('humble', 'iron', 'jazzy')
LOOPBACK_PROFILE = 'config/fastdds_loopback.xml'  # nothing leaves the machine
CAMERA_PROFILE = 'config/fastdds_camera.xml'  # the bridge may be on another one
# Each without shared memory, beside it.
UDP_LOOPBACK = 'fastdds_loopback_udp.xml'
UDP_PROFILES = {
    'fastdds_loopback.xml': UDP_LOOPBACK,
    'fastdds_camera.xml': 'fastdds_camera_udp.xml',
}
DISCOVERY_RANGE, LOCALHOST_ONLY = 'ROS_AUTOMATIC_DISCOVERY_RANGE', 'ROS_LOCALHOST_ONLY'
BUILTIN_TRANSPORTS = 'FASTDDS_BUILTIN_TRANSPORTS'  # heeded where no profile names transports


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


def udp_variables(environment: Mapping[str, str], config: Path) -> dict[str, str]:
    """Return the variables with which a process shares no memory with others.

    The lock of a shared memory that a killed process was writing into stays closed for up to 3 s,
    and so long everybody waits who publishes to its reader. A profile of the user's own stays.

    Args:
        environment: of the process.
        config: folder of the profiles that ship.
    """
    named = [environment[name] for name in PROFILE_VARIABLES if environment.get(name)]
    if any(Path(path).name not in UDP_PROFILES for path in named):
        return {}
    if stays_on_this_machine(environment):
        # Told so, rmw_fastrtps adds shared memory of its own; this profile says so by itself.
        profile = {profile_variable(environment): str(config / UDP_LOOPBACK)}
        old = {LOCALHOST_ONLY: '0'} if environment.get(LOCALHOST_ONLY) else {}
        return profile | old | {DISCOVERY_RANGE: 'SYSTEM_DEFAULT'}
    if named:
        path = Path(named[0])
        return {profile_variable(environment): str(path.with_name(UDP_PROFILES[path.name]))}
    return {BUILTIN_TRANSPORTS: environment.get(BUILTIN_TRANSPORTS) or 'UDPv4'}


def stays_on_this_machine(environment: Mapping[str, str]) -> bool:
    """Whether the environment keeps discovery on this machine."""
    if environment.get(LOCALHOST_ONLY) == '1':
        return True
    return environment.get(DISCOVERY_RANGE, '').upper() == 'LOCALHOST'

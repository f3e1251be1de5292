# SPDX-License-Identifier: Apache-2.0
"""Definitions of message types: of what is installed, for writing; of what is known, for reading.

The definitions that a bag brings along are never used: ``rosbags`` makes Python source of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from td3_agent.bags.errors import BagError

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

# carla_msgs 1.3.0, as far as replay reads it; a machine without ROS 2 has no other copy.
CARLA_TYPES = {
    'carla_msgs/msg/CarlaEgoVehicleControl': """
        std_msgs/Header header
        float32 throttle
        float32 steer
        float32 brake
        bool hand_brake
        bool reverse
        int32 gear
        bool manual_gear_shift
    """,
    'carla_msgs/msg/CarlaEgoVehicleInfoWheel': """
        float32 tire_friction
        float32 damping_rate
        float32 max_steer_angle
        float32 radius
        float32 max_brake_torque
        float32 max_handbrake_torque
        geometry_msgs/Vector3 position
    """,
    'carla_msgs/msg/CarlaEgoVehicleInfo': """
        uint32 id
        string type
        string rolename
        carla_msgs/CarlaEgoVehicleInfoWheel[] wheels
        float32 max_rpm
        float32 moi
        float32 damping_rate_full_throttle
        float32 damping_rate_zero_throttle_clutch_engaged
        float32 damping_rate_zero_throttle_clutch_disengaged
        bool use_gear_autobox
        float32 gear_switch_time
        float32 clutch_strength
        float32 mass
        float32 drag_coefficient
        geometry_msgs/Vector3 center_of_mass
    """,
}


@cache
def known_types() -> Typestore:
    """Return the types that replay reads; needs no ROS 2."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in CARLA_TYPES.items():
        store.register(get_types_from_msg(text, name))
    return store


@dataclass(frozen=True)
class Definition:
    """What a bag says of a message type.

    Attributes:
        text: the definition and those of all types within, as ROS 2 concatenates them.
        digest: the type's hash (REP 2011), ``RIHS01_`` and 64 hexadecimal digits.
    """

    text: str
    digest: str


class InstalledTypes:
    """Definitions of the message types that are installed on this machine."""

    def __init__(self) -> None:
        """Start with none; each is read when it is asked for."""
        self._store = get_typestore(Stores.EMPTY)

    def definition(self, msgtype: str) -> Definition:
        """Return the definition of a type such as ``sensor_msgs/msg/Image``.

        Raises:
            BagError: its package, or that of a type within, is not installed.
        """
        self._learn(msgtype)
        text, _ = self._store.generate_msgdef(msgtype, ros_version=2)
        return Definition(text, self._store.hash_rihs01(msgtype))

    def _learn(self, msgtype: str) -> None:
        """Read a type and those within it."""
        if msgtype in self._store.fielddefs:
            return
        found = get_types_from_msg(_definition_file(msgtype).read_text('utf-8'), msgtype)
        self._store.register(found)
        for _, fields in found.values():
            for _, kind in fields:
                for name in _named(kind):
                    self._learn(name)


def _named(kind: Any) -> list[str]:  # noqa: ANN401  rosbags' nested tuples
    """Return the message types that a field's type names."""
    node, about = kind
    if node == Nodetype.NAME:
        return [about]
    if node in {Nodetype.ARRAY, Nodetype.SEQUENCE}:
        return _named(about[0])
    return []


def _definition_file(msgtype: str) -> Path:
    """Return the installed ``.msg`` file of a type.

    Raises:
        BagError: there is none.
    """
    from ament_index_python.packages import (  # noqa: PLC0415  writing alone needs ROS 2
        PackageNotFoundError,
        get_package_share_directory,
    )

    package, _, name = msgtype.split('/')
    try:
        path = Path(get_package_share_directory(package)) / 'msg' / f'{name}.msg'
    except PackageNotFoundError as error:
        raise BagError(f'package {package!r} of message type {msgtype} is not there') from error
    if not path.is_file():
        raise BagError(f'message type {msgtype} has no definition at {path}')
    return path

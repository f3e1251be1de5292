# SPDX-License-Identifier: Apache-2.0
"""Which Python belongs to which ROS 2 and to which CARLA wheel.

A distribution's apt packages are built for one Python. The wheels of rclpy on PyPI are built for
several. CARLA's wheels name theirs.
"""

from __future__ import annotations

Version = tuple[int, int]

# The distribution's own Python, of its Ubuntu.
PYTHON_OF_DISTRO: dict[str, Version] = {
    'foxy': (3, 8),
    'galactic': (3, 8),
    'humble': (3, 10),
    'iron': (3, 10),
    'jazzy': (3, 12),
    'kilted': (3, 12),
}
ENDED_DISTROS = ('foxy', 'galactic', 'iron')
PYTHONS_OF_ROS_WHEELS: tuple[Version, ...] = ((3, 10), (3, 11), (3, 12))  # and of this package
# Major version of NumPy that a distribution's packages are compiled against.
NUMPY_OF_DISTRO = {'foxy': 1, 'galactic': 1, 'humble': 1, 'iron': 1, 'jazzy': 1, 'kilted': 1}
PYTHONS_OF_CARLA: dict[str, tuple[Version, ...]] = {
    '0.9.13': ((3, 6), (3, 7), (3, 8)),
    '0.9.14': ((3, 7), (3, 8)),
    '0.9.15': ((3, 7), (3, 8), (3, 9), (3, 10)),
    '0.9.16': ((3, 10), (3, 11), (3, 12)),
}
SIM_CARLA = '0.9.16'  # the one that the embedded simulator is tested with

# Type hashes (REP 2011) of carla_msgs 1.3.0, of what this package sends and reads.
CARLA_MSGS_HASHES = {
    'carla_msgs/msg/CarlaCollisionEvent': (
        'RIHS01_d77acb472c5effb98998bfb2e176ae3ffac0a84ce33a79f90e999544e3fcfeff'
    ),
    'carla_msgs/msg/CarlaControl': (
        'RIHS01_7053e4e9ec21223b8f3a67944cc19fac0e419791a87e59438a56ba9efce2a9ac'
    ),
    'carla_msgs/msg/CarlaEgoVehicleControl': (
        'RIHS01_4f251fa2a554e8ed996f77eb1d5b65515af1369eceb04d5122cb5761f7801be3'
    ),
    'carla_msgs/msg/CarlaEgoVehicleInfo': (
        'RIHS01_b8dc3866014924ce7fe57e0cff05a5448ec18f27156656b3b1b69f4da558e956'
    ),
    'carla_msgs/msg/CarlaEgoVehicleStatus': (
        'RIHS01_3565cc74470f5c37eb316a36426effd811ac1baf835df3fc2bb7a88574bb3e07'
    ),
    'carla_msgs/msg/CarlaLaneInvasionEvent': (
        'RIHS01_ec4d0e28a97c4a7952a100d47a801996d0463ad7fe0e08a96049de4b19656508'
    ),
    'carla_msgs/msg/CarlaStatus': (
        'RIHS01_a3f7fb6fc4b673840e0c092c3c9e52a8120885ba603e0125a23f58ac279c0c13'
    ),
    'carla_msgs/msg/CarlaWorldInfo': (
        'RIHS01_b7093c2a34078b682bef09c0e60c76b06542f8ab4ea69756f9505ca06655e9ab'
    ),
}


def text(version: Version) -> str:
    """Return a version as people write it."""
    return f'{version[0]}.{version[1]}'


def carla_pythons(version: str) -> tuple[Version, ...]:
    """Return the Pythons that a CARLA wheel exists for; none where the version is unknown."""
    return PYTHONS_OF_CARLA.get(version, ())


def distros_for_carla(version: str) -> list[str]:
    """Return the distributions whose own Python has a wheel of this CARLA."""
    pythons = carla_pythons(version)
    return [distro for distro, python in PYTHON_OF_DISTRO.items() if python in pythons]

# SPDX-License-Identifier: Apache-2.0
"""Parameters of the agent node."""

from __future__ import annotations

from dataclasses import dataclass

from td3_agent.driving.parameters import param
from td3_agent.nodes.drivers import DriverParams


@dataclass(frozen=True, kw_only=True)
class Td3AgentParams(DriverParams):
    """Parameters of td3_agent_node."""

    role_name: str = param('ego_vehicle', 'role name of the vehicle')
    camera_id: str = param('camera', 'id of the camera in the objects file')
    mode: str = param(
        'lockstep',
        'one command per frame, or at a fixed rate from the newest frame',
        choices=('lockstep', 'free_running'),
    )
    twist_convention: str = param(
        'velocity',
        'how linear.x and angular.z are meant',
        choices=('velocity', 'carla_twist_to_control'),
    )
    camera_reliability: str = param(
        'reliable',
        'reliable loses no large frame; best_effort matches every known publisher',
        choices=('reliable', 'best_effort'),
    )
    image_topic: str = param('', 'image topic; empty: /carla/<role_name>/<camera_id>/image')
    odometry_topic: str = param('', 'odometry topic; empty: /carla/<role_name>/odometry')
    rate_hz: float = param(20.0, 'command rate when free-running', unit='Hz', low=0.1, high=1000.0)
    max_frame_age_s: float = param(
        0.4,
        'free-running: stop the car when the newest frame arrived longer ago (steady clock)',
        unit='s',
        low=0.01,
        high=60.0,
    )
    default_wheelbase_m: float = param(
        2.87, 'wheelbase when vehicle_info does not tell', unit='m', low=1.0, high=10.0
    )
    autostart: bool = param(True, 'configure and activate at start, without a lifecycle manager')

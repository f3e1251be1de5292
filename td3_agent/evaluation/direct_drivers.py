# SPDX-License-Identifier: Apache-2.0
"""Drivers of the direct path: those of the node, and one that is told the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from td3_agent.driving.following import FollowingDriver
from td3_agent.driving.observation import ObservationSpec
from td3_agent.driving.parameters import param
from td3_agent.driving.pure_pursuit import PurePursuitDriver, PurePursuitParams
from td3_agent.nodes.drivers import DriverParams, Equipment, make_driver
from td3_agent.sim.lookout import lead_of

if TYPE_CHECKING:
    from td3_agent.sim.world import World

FOLLOWING = 'pure_pursuit_idm'
DIRECT_DRIVERS = ('td3', 'pure_pursuit', FOLLOWING)


@dataclass(frozen=True, kw_only=True)
class DirectDriverParams(DriverParams):
    """Which driver, on the direct path."""

    driver: str = param(
        'td3',
        'a TD3 policy, pure pursuit, or pure pursuit with IDM following',
        choices=DIRECT_DRIVERS,
    )


def equip(params: DirectDriverParams, world: World) -> Equipment:
    """Return the driver that the parameters name, for the first car of a world.

    Raises:
        ValueError: the checkpoint was refused; the text says which file, field and value.
    """
    if params.driver != FOLLOWING:
        return make_driver(params)
    pursuit = PurePursuitDriver(PurePursuitParams(cruise_speed_mps=params.cruise_speed_mps))
    driver = FollowingDriver(pursuit, lambda: lead_of(world, world.ego))
    return Equipment(driver, ObservationSpec(), 'pure pursuit with IDM', needs_route=True)

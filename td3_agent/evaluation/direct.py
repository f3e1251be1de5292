# SPDX-License-Identifier: Apache-2.0
"""The direct path: world, agent and gate in one process, frame by frame as over ROS.

Every value is rounded where the wire would round it, so the ledger of a direct drive equals,
hash by hash, that of the same drive over ROS.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.gate import Outcome
from td3_agent.driving.ledger import FrameLog
from td3_agent.driving.observation import ImageView
from td3_agent.driving.vehicle import geometry_from_wheels

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.driving.agent import Agent, Decision
    from td3_agent.driving.gate import TwistConverter
    from td3_agent.driving.vehicle import VehicleGeometry
    from td3_agent.sim.world import World

DEFAULT_WHEELBASE_M = 2.87


class DirectDrive:
    """One vehicle driven without ROS.

    The world is taken as it is: the first frame answered is the one after its present frame,
    as when a synchronizer sends its first step.
    """

    def __init__(
        self,
        world: World,
        agent: Agent,
        converter: TwistConverter,
        role_name: str = 'ego_vehicle',
    ) -> None:
        """Put ``agent`` in charge of the world's vehicle."""
        self._world = world
        self._agent = agent
        self._converter = converter
        self._geometry = geometry_on_the_wire(world)
        self._log = FrameLog(role_name)
        self._control = world.control

    def drive(self, frames: int) -> Iterator[dict[str, Any]]:
        """Drive ``frames`` frames and yield their ledger records."""
        for _ in range(frames):
            self._world.tick(self._control)
            decision = self._decide()
            self._note(decision)
            yield from self._log.close_frame(self._world.frame, self._world.stamp_ns)
        yield from self._log.flush()

    def _decide(self) -> Decision:
        """Let the agent answer the world's newest frame, and the gate convert its answer."""
        pixels = self._world.render()
        height, width, channels = pixels.shape
        image = ImageView(
            data=pixels.data, height=height, width=width, encoding='bgra8', step=width * channels
        )
        state = self._world.state.as_odometry()
        decision = self._agent.decide(self._agent.see(image), state)
        self._control = self._converter.convert(decision.twist, state, self._geometry)
        return decision

    def _note(self, decision: Decision) -> None:
        """Enter the frame into the log."""
        world, stamp_ns = self._world, self._world.stamp_ns
        facts = asdict(world.state.as_odometry())
        del facts['stamp_ns']
        for collision in world.collisions:
            facts['collision'] = collision.other_actor_id
        for invasion in world.lane_invasions:
            facts['lane_invasion'] = list(invasion.crossed_lane_markings)
        self._log.note_status(stamp_ns, world.control)
        self._log.note_command(stamp_ns, self._control, heard_ns=0)
        self._log.note(stamp_ns, outcome=Outcome.OK.value, **decision.facts(), **facts)


def geometry_on_the_wire(world: World) -> VehicleGeometry:
    """Return the vehicle's geometry as a reader of vehicle_info gets it."""
    wheels = world.vehicle_info.wheels
    return geometry_from_wheels(
        [wheel.position[:2] for wheel in wheels],
        float(np.float32(wheels[0].max_steer_angle)),
        DEFAULT_WHEELBASE_M,
    )

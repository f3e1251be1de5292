# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""A CARLA ROS bridge as a world to drive in, and the environments over it.

What ``td3_agent/Driving-v0`` is on the embedded simulator, ``td3_agent/RosDriving-v0`` and
``td3_agent/RosDrivingRunning-v0`` are on a bridge, stepped in lockstep: the same environment, see
:class:`td3_agent.sim.env.DrivingEnv`. With ``bridge='embedded'`` each world starts a bridge of
its own, in a domain of its own, and a new one where that has died; it ends with the world or its
process, however that ends. With ``bridge='running'``, which is the second id, it uses the one
that is there. Several worlds of a process may share that one: the last to be reset has it, and a
step of another raises.

``td3_agent train --env td3_agent/RosDriving-v0`` trains through ROS.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
import math
import os
from pathlib import Path
import shutil
import tempfile
from typing import TYPE_CHECKING, Any
import weakref

import numpy as np

from td3_agent.driving.command import FULL_BRAKE
from td3_agent.driving.observation import ObservationSpec
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.task import STEP_S, Task
from td3_agent.nodes.lockstep_client import BridgeLostError, BridgeTakenError, LockstepClient
from td3_agent.processes import ProcessGroup, free_domain_id, ros_environment
from td3_agent.sim.env import CROP_TOP, DrivingEnv, register_envs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.loop import Frame
    from td3_agent.driving.route import Route
    from td3_agent.driving.task import TaskConfig
    from td3_agent.processes import NodeProcess

BRIDGES = {
    'embedded': 'td3_agent/RosDriving-v0',
    'running': 'td3_agent/RosDrivingRunning-v0',
}
# As td3_agent/Driving-v0: the oval, seen at the network's own size. A learner may think for long.
BRIDGE_SETTINGS = {
    'map': 'oval',
    'camera_width': 84,
    'camera_height': 84,
    'parked_vehicles': 0,
    'start_paused': True,
    'command_wait_s': 600.0,
}
END_MARGIN_M = 100.0  # an open route: no start closer to its end
SETTLED_MPS, NEAR_M = 0.1, 3.0
CLEARANCE_M = 0.2  # put down from there: in the road, a wheel would be pushed out of it
LEAST_SETTLING, MOST_SETTLING = 4, 200  # frames after the car was moved


class RosWorld:
    """One vehicle behind a bridge; see :class:`td3_agent.driving.loop.World`.

    A reset moves the car to a place on the route, drawn from the seed, and waits until it stands.

    Args:
        bridge: ``embedded`` or ``running``.
        bridge_settings: parameters of the embedded bridge that are not those of
            :data:`BRIDGE_SETTINGS`.
        client: arguments of :class:`td3_agent.nodes.lockstep_client.LockstepClient`.

    Attributes:
        client: steps the bridge; None while there is none.
        bridge: process of the embedded bridge; None while there is none.
        route: that the bridge has announced; None before the first reset.
    """

    step_s = STEP_S
    contract = None  # a bridge does not tell how its camera is mounted

    def __init__(
        self,
        bridge: str = 'embedded',
        bridge_settings: dict[str, Any] | None = None,
        client: dict[str, Any] | None = None,
    ) -> None:
        """Check the arguments; the bridge is looked for at the first reset."""
        if bridge not in BRIDGES:
            raise ParameterError(f'bridge must be {" or ".join(BRIDGES)}, got {bridge!r}')
        self._embedded = bridge == 'embedded'
        self._bridge_settings = BRIDGE_SETTINGS | (bridge_settings or {})
        self._client_arguments = dict(client or {})
        self._rng = np.random.default_rng()
        self._resources = ExitStack()
        # A program that forgets to close, or never comes to it, leaves no bridge behind.
        weakref.finalize(self, self._resources.close)
        self.client: LockstepClient | None = None
        self.bridge: NodeProcess | None = None
        self.route: Route | None = None

    def reset(self, seed: int | None = None) -> Frame:
        """Begin an episode; a bridge is started or looked for where there is none.

        An embedded one that has died since is replaced.

        Raises:
            BridgeLostError: the bridge is not there, or does not answer.
            ValueError: an argument of the client is refused.
        """
        if seed is not None:
            self._rng = np.random.default_rng(seed)
        share = float(self._rng.random())
        replaceable = self._embedded and self.client is not None
        try:
            return self._begin(share)
        except BridgeLostError:
            if not replaceable:
                raise
            return self._begin(share)

    def step(self, control: VehicleControl) -> Frame:
        """Answer the frame with a command and return the next one.

        Raises:
            BridgeTakenError: another environment has begun an episode on this bridge; the next
                reset takes it back.
            BridgeLostError: the bridge does not answer any more; everything is closed, and the
                next reset connects again.
        """
        if self.client is None:
            raise BridgeLostError('step() without a bridge: call reset() first')
        with self._closed_if_lost():
            self.client.respond(control)
            return self.client.advance()

    def close(self) -> None:
        """End the node, and the bridge where it is ours."""
        self.client = self.bridge = None
        self._resources.close()

    def _begin(self, share: float) -> Frame:
        """Connect, and put the car at this fraction of the route."""
        with self._closed_if_lost():
            client = self._connected()
            client.take()
            return self._placed(client, share)

    @contextmanager
    def _closed_if_lost(self) -> Iterator[None]:
        """Close everything when the block fails, and let the bridge say what it had to say."""
        try:
            yield
        except BridgeTakenError:
            raise  # the bridge is well
        except BridgeLostError as error:
            output = self._last_output()
            self.close()
            raise BridgeLostError(f'{error}{output}') from error
        except Exception:
            self.close()
            raise

    def _last_output(self) -> str:
        if self.bridge is None or self.bridge.process.poll() is None:
            return ''
        return f'; its last output: {self.bridge.last_output() or "none"}'

    def _connected(self) -> LockstepClient:
        """Return the client; make one, and a bridge for it, where there is none."""
        if self.client is not None:
            return self.client
        arguments = dict(self._client_arguments)
        if self._embedded:
            arguments |= self._start_bridge()
        client = self._resources.enter_context(LockstepClient(**arguments))
        client.connect(paused=self._embedded and bool(self._bridge_settings['start_paused']))
        client.start()
        self.client, self.route = client, client.route
        return client

    def _start_bridge(self) -> dict[str, Any]:
        """Start an embedded bridge; return what a client has to know of it."""
        domain_id = free_domain_id()
        environment = ros_environment(domain_id)
        for name, value in environment.items():  # our node needs the same profile and reach
            if name != 'ROS_DOMAIN_ID' and name not in os.environ:
                os.environ[name] = value
        folder = tempfile.mkdtemp()
        self._resources.callback(shutil.rmtree, folder, ignore_errors=True)
        group = self._resources.enter_context(ProcessGroup(Path(folder), environment))
        self.bridge = group.start('sim_bridge_node', self._bridge_settings)
        process = self.bridge.process
        return {'domain_id': domain_id, 'alive': lambda: process.poll() is None}

    def _placed(self, client: LockstepClient, share: float) -> Frame:
        """Move the car to a place on the route, let it come to rest, and return that frame."""
        route = client.route
        last_m = route.length_m - (0.0 if route.closed else END_MARGIN_M)
        x_m, y_m, yaw_rad = route.sample(share * max(last_m, 0.0))
        road_m = client.height_m(x_m, y_m)
        z_m = client.newest.state.z_m if road_m is None else road_m + CLEARANCE_M
        client.move(x_m, y_m, z_m, yaw_rad)
        for number in range(1, MOST_SETTLING + 1):
            if client.awaits():
                client.respond(FULL_BRAKE)
            frame = client.advance()
            state = frame.state
            there = math.dist((state.x_m, state.y_m), (x_m, y_m)) < NEAR_M
            if there and abs(state.speed_mps) < SETTLED_MPS and number >= LEAST_SETTLING:
                return frame
        raise BridgeLostError(
            f'{MOST_SETTLING} frames after it was moved, the car must stand at ({x_m:.1f}, '
            f'{y_m:.1f}) [m], got ({state.x_m:.1f}, {state.y_m:.1f}) at {state.speed_mps:.1f} m/s'
        )


def ros_env(  # noqa: PLR0913  all with defaults
    *,
    bridge: str = 'embedded',
    bridge_settings: dict[str, Any] | None = None,
    client: dict[str, Any] | None = None,
    task: TaskConfig | None = None,
    observation: ObservationSpec | None = None,
    render_mode: str | None = None,
) -> DrivingEnv:
    """Return the environment over ROS 2; see :class:`RosWorld` and ``DrivingEnv``."""
    world = RosWorld(bridge, bridge_settings, client)
    return DrivingEnv(world, Task(task, step_s=world.step_s), observation, render_mode)


def register() -> None:
    """Make the environments known to ``gymnasium.make``."""
    seen = ObservationSpec(crop_top=CROP_TOP)  # as the policies that ship, to go on from them
    ids = {env_id: {'bridge': name, 'observation': seen} for name, env_id in BRIDGES.items()}
    register_envs(ids, ros_env)


register()

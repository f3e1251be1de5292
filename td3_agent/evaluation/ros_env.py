# SPDX-License-Identifier: Apache-2.0
"""Gymnasium environments over ROS 2: ``td3_agent/RosDriving-v0`` and ``RosDrivingRunning-v0``.

What :class:`td3_agent.sim.env.DrivingEnv` is on the embedded world, this is on a CARLA ROS bridge,
stepped in lockstep: the same observation, command, reward and rules, the world behind topics. With
``bridge='embedded'`` each environment starts a bridge of its own, in a domain of its own, and a
new one where that has died; it ends with the environment or its process, however that ends. With
``bridge='running'``, which is the second id, it uses the one that is there. Several environments
of a process may share that one: the last to be reset has it, and a step of another raises.

``td3_agent train --env td3_agent/RosDriving-v0`` trains through ROS.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
import math
import os
from pathlib import Path
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, ClassVar
import weakref

import gymnasium
from gymnasium import spaces
import numpy as np

from td3_agent.driving.command import ACTION_SIZE, FULL_BRAKE, twist_from_action
from td3_agent.driving.observation import ObservationBuilder, ObservationSpec
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.task import Ending, Situation, TaskConfig, ending, follow, reward
from td3_agent.driving.velocity_control import VelocityController
from td3_agent.evaluation.processes import ProcessGroup, free_domain_id, ros_environment
from td3_agent.nodes.lockstep_client import (
    BridgeLostError,
    BridgeTakenError,
    Frame,
    LockstepClient,
)
from td3_agent.sim.env import observation_space

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from td3_agent.driving.command import VehicleControl
    from td3_agent.driving.route import Route
    from td3_agent.evaluation.processes import NodeProcess

BRIDGES = {
    'embedded': 'td3_agent/RosDriving-v0',
    'running': 'td3_agent/RosDrivingRunning-v0',
}
STEP_S = 0.05
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

Observed = dict[str, 'NDArray[Any]']


class RosDrivingEnv(gymnasium.Env[Observed, 'NDArray[np.float32]']):
    """Follow the route by camera, speed and yaw rate, over ROS 2; see the module.

    Observation, action, reward and endings are those of ``td3_agent/Driving-v0``. A reset moves
    the car to a place on the route, drawn from the seed, and waits until it stands.

    Args:
        bridge: ``embedded`` or ``running``.
        bridge_settings: parameters of the embedded bridge that are not those of
            :data:`BRIDGE_SETTINGS`.
        task: reward and episode rules.
        observation: how images become observations.
        client: arguments of :class:`td3_agent.nodes.lockstep_client.LockstepClient`.
    """

    metadata: ClassVar[dict[str, Any]] = {'render_modes': []}  # type: ignore[misc]

    def __init__(  # noqa: PLR0913  all with defaults
        self,
        *,
        bridge: str = 'embedded',
        bridge_settings: dict[str, Any] | None = None,
        task: TaskConfig | None = None,
        observation: ObservationSpec | None = None,
        client: dict[str, Any] | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Check the arguments; the bridge is looked for at the first reset."""
        if bridge not in BRIDGES:
            raise ParameterError(f'bridge must be {" or ".join(BRIDGES)}, got {bridge!r}')
        if render_mode is not None:
            raise ParameterError(f'render_mode must be None, got {render_mode!r}')
        self._embedded = bridge == 'embedded'
        self._bridge_settings = BRIDGE_SETTINGS | (bridge_settings or {})
        self._client_arguments = dict(client or {})
        self.task = task or TaskConfig()
        self.spec_of_observation = observation or ObservationSpec()
        self._builder = ObservationBuilder(self.spec_of_observation)
        self._controller = VelocityController()
        self._resources = ExitStack()
        # Who forgets to close, or never comes to it, leaves no bridge behind.
        weakref.finalize(self, self._resources.close)
        self._client: LockstepClient | None = None
        self._bridge: NodeProcess | None = None
        self.observation_space = observation_space(  # type: ignore[assignment]
            self.spec_of_observation, privileged=0
        )
        self.action_space = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode; a bridge is started or looked for where there is none.

        An embedded one that has died since is replaced.

        Raises:
            BridgeLostError: the bridge is not there, or does not answer.
            ValueError: an argument of the client is refused.
        """
        super().reset(seed=seed, options=options)
        share = float(self.np_random.random())
        replaceable = self._embedded and self._client is not None
        try:
            self._begin(share)
        except BridgeLostError:
            if not replaceable:
                raise
            self._begin(share)
        self._builder.set_route(self._route)
        self._builder.reset()
        self._controller.reset()
        self._action = np.zeros(ACTION_SIZE, dtype=np.float32)
        self.situation = self._first_situation()
        return self._observed(), self._info(Ending.NONE)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Answer the frame with a command and take the next one.

        Raises:
            BridgeTakenError: another environment has begun an episode on this bridge; the next
                reset takes it back.
            BridgeLostError: the bridge does not answer any more; everything is closed, and the
                next reset begins anew.
            ValueError: the action is not two finite numbers.
        """
        if self._client is None:
            raise BridgeLostError('step() without a bridge: call reset() first')
        twist = twist_from_action(action)
        control = self._controller.control(twist, self._frame.state, self._client.geometry)
        with self._closed_if_lost():
            self._client.answer(control)
            self._frame = self._client.advance()
        self._action = np.clip(action, -1.0, 1.0).astype(np.float32)
        before, self.situation = self.situation, self._next_situation(control)
        how = ending(self.situation, self.task)
        info = self._info(how) | {'executed': self._frame.applied == control.as_float32()}
        earned = reward(before, self.situation, self.task)
        return self._observed(), earned, how.terminated, how.truncated, info

    def close(self) -> None:
        """End the node, and the bridge where it is ours."""
        self._client = self._bridge = None
        self._resources.close()

    def _begin(self, share: float) -> None:
        """Connect, and put the car at this share of the route."""
        with self._closed_if_lost():
            client = self._connected()
            client.take()
            self._place(client, share)

    @contextmanager
    def _closed_if_lost(self) -> Iterator[None]:
        """Close everything when the block fails, and let the bridge say what it had to say."""
        try:
            yield
        except BridgeTakenError:
            raise  # the bridge is well
        except BridgeLostError as error:
            last_words = self._last_words()
            self.close()
            raise BridgeLostError(f'{error}{last_words}') from error
        except Exception:
            self.close()
            raise

    def _last_words(self) -> str:
        if self._bridge is None or self._bridge.process.poll() is None:
            return ''
        return f'; its last words: {self._bridge.last_words() or "none"}'

    def _connected(self) -> LockstepClient:
        """Return the client; make one, and a bridge for it, where there is none."""
        if self._client is not None:
            return self._client
        arguments = dict(self._client_arguments)
        if self._embedded:
            arguments |= self._start_bridge()
        client = self._resources.enter_context(LockstepClient(**arguments))
        client.connect(paused=self._embedded and bool(self._bridge_settings['start_paused']))
        self._frame = client.start()
        self._route: Route = client.route
        self._client = client
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
        self._bridge = group.start('sim_bridge_node', self._bridge_settings)
        process = self._bridge.process
        return {'domain_id': domain_id, 'alive': lambda: process.poll() is None}

    def _place(self, client: LockstepClient, share: float) -> None:
        """Move the car to a place on the route and let it come to rest there."""
        route = self._route
        last_m = route.length_m - (0.0 if route.closed else END_MARGIN_M)
        x_m, y_m, yaw_rad = route.sample(share * max(last_m, 0.0))
        road_m = client.height_m(x_m, y_m)
        z_m = self._frame.state.z_m if road_m is None else road_m + CLEARANCE_M
        client.move(x_m, y_m, z_m, yaw_rad)
        for number in range(1, MOST_SETTLING + 1):
            if client.awaits():
                client.answer(FULL_BRAKE)
            self._frame = client.advance()
            state = self._frame.state
            there = math.dist((state.x_m, state.y_m), (x_m, y_m)) < NEAR_M
            if there and abs(state.speed_mps) < SETTLED_MPS and number >= LEAST_SETTLING:
                return
        raise BridgeLostError(
            f'{MOST_SETTLING} frames after it was moved, the car must stand at ({x_m:.1f}, '
            f'{y_m:.1f}) [m], got ({state.x_m:.1f}, {state.y_m:.1f}) at {state.speed_mps:.1f} m/s'
        )

    def _observed(self) -> Observed:
        seen = self._builder.build(self._frame.image, self._frame.state, self._action)
        return {'image': seen.image, 'state': seen.state}

    def _first_situation(self) -> Situation:
        state = self._frame.state
        seen = self._route.project(state.x_m, state.y_m)
        return Situation(s_m=seen.s_m, lateral_m=seen.lateral_m, to_goal_m=self._to_goal(seen.s_m))

    def _next_situation(self, control: VehicleControl) -> Situation:
        before, frame, route = self.situation, self._frame, self._route
        seen = route.project(frame.state.x_m, frame.state.y_m, before.s_m)
        return follow(
            before,
            self.task,
            step_s=STEP_S,
            advance_m=route.advance(before.s_m, seen.s_m),
            s_m=seen.s_m,
            lateral_m=seen.lateral_m,
            steer=control.steer,
            acceleration_mps2=_in_car_axes(frame),
            collided=frame.collided,
            to_goal_m=self._to_goal(seen.s_m),
        )

    def _to_goal(self, s_m: float) -> float:
        return math.inf if self._route.closed else self._route.length_m - s_m

    def _info(self, how: Ending) -> dict[str, Any]:
        return {
            'ending': how.name.lower(),
            'stamp_ns': self._frame.stamp_ns,
            'progress_m': self.situation.progress_m,
            'lateral_m': self.situation.lateral_m,
            'speed_mps': self._frame.state.speed_mps,
        }


def _in_car_axes(frame: Frame) -> tuple[float, float]:
    """Return (forward, left) acceleration [m/s^2]."""
    x, y = frame.acceleration_mps2
    cos, sin = math.cos(frame.state.yaw_rad), math.sin(frame.state.yaw_rad)
    return cos * x + sin * y, cos * y - sin * x


def register() -> None:
    """Make the environments known to ``gymnasium.make``; doing it twice is harmless."""
    entry_point = f'{__name__}:{RosDrivingEnv.__name__}'
    for bridge, env_id in BRIDGES.items():
        gymnasium.registry.pop(env_id, None)  # of td3_agent.envs
        gymnasium.register(id=env_id, entry_point=entry_point, kwargs={'bridge': bridge})


register()

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The Gymnasium environment: a world, a task, and the functions that the ROS nodes use.

One class for every world, see :mod:`td3_agent.driving.loop`: a policy sees and does the same in
the embedded simulator and behind a bridge. Importing this module registers
``td3_agent/Driving-v0``; ``gymnasium.make('td3_agent.sim.env:td3_agent/Driving-v0')`` imports it
by itself.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
from gymnasium import spaces
import numpy as np

from td3_agent.driving.command import ACTION_SIZE, TwistConvention, twist_from_action
from td3_agent.driving.observation import (
    ENCODINGS,
    STATE_SIZE,
    ObservationBuilder,
    ObservationSpec,
)
from td3_agent.driving.task import Ending, Task, TaskConfig
from td3_agent.driving.velocity_control import TwistConverter
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.embedded import EmbeddedWorld
from td3_agent.sim.privileged import Privileged
from td3_agent.sim.simulator import Simulator, SimulatorConfig

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from td3_agent.driving.loop import Frame, World
    from td3_agent.driving.loop_check import Contract
    from td3_agent.driving.observation import Observation

ENV_ID = 'td3_agent/Driving-v0'
CROP_TOP = 0.35  # of the policies that ship: the sky says nothing about the road

Observed = dict[str, 'NDArray[Any]']


class DrivingEnv(gymnasium.Env[Observed, 'NDArray[np.float32]']):
    """Follow the route with camera, speed and yaw rate.

    Observation, a dict:

    =======  =========================  ===============================================
    image    (4, 84, 84) uint8          grey frames, oldest first
    state    (4,) float32               speed / 8.33 m/s, yaw rate [rad/s], last action,
                                        and the route ahead where ``observation.path`` is set
    =======  =========================  ===============================================

    and what ``privileged`` adds. Action, (2,) float32 in [-1, 1]: target speed (0 .. 8.33 m/s)
    and yaw rate (+-1 rad/s, left positive). Reward and endings: :mod:`td3_agent.driving.task`.

    Args:
        world: to drive in; it is closed with the environment.
        task: follows each episode; by default with the rules' own limits.
        observation: how images become observations.
        render_mode: ``'rgb_array'`` or None.
        privileged: what only the simulator knows, for critic and expert.
        success: endings that count as success, told as ``is_success``; none: nothing is told.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium leaves it open
        'render_modes': ['rgb_array'],
        'render_fps': 20,
    }

    def __init__(  # noqa: PLR0913  what a task is made of
        self,
        world: World,
        task: Task | None = None,
        observation: ObservationSpec | None = None,
        render_mode: str | None = None,
        *,
        privileged: Privileged | None = None,
        success: tuple[Ending, ...] = (),
    ) -> None:
        """Take the world as it is; the first reset begins to drive."""
        if render_mode not in (None, *self.metadata['render_modes']):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.render_mode = render_mode
        self.world = world
        self.task = task or Task(step_s=world.step_s)
        self.spec_of_observation = observation or ObservationSpec()
        self._builder = ObservationBuilder(self.spec_of_observation)
        self._converter = TwistConverter(TwistConvention.VELOCITY)
        self._privileged = privileged
        self._success = success
        self._frame: Frame | None = None
        self._action = np.zeros(ACTION_SIZE, dtype=np.float32)
        # A Dict of Boxes gives dicts of arrays, which Gymnasium's types cannot say.
        self.observation_space = observation_space(  # type: ignore[assignment]
            self.spec_of_observation, privileged.spaces if privileged else {}
        )
        self.action_space = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    @property
    def contract(self) -> Contract | None:
        """What a policy that learns here is trained with."""
        return self.world.contract

    @property
    def observation(self) -> Observation:
        """The last observation as drivers outside Gymnasium take it."""
        return self._observation

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode; what is drawn follows from the seed."""
        super().reset(seed=seed, options=options)
        self._frame = frame = self.world.reset(seed)
        route = self.world.route
        if route is None:
            raise ValueError('the world has no route')
        self._builder.set_route(route)
        self._builder.reset()
        self._converter.reset()
        self._action = np.zeros(ACTION_SIZE, dtype=np.float32)
        self.task.begin(route, (frame.state.x_m, frame.state.y_m))
        if self._privileged is not None:
            self._privileged.begin(self.task.situation)
        return self._observed(frame), self._info(frame)

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Answer the frame with a command and take the next one.

        Raises:
            ValueError: the action is not two finite numbers, or no episode has begun.
        """
        if self._frame is None:
            raise ValueError('step() before reset()')
        twist = twist_from_action(action)
        control = self._converter.convert(twist, self._frame.state, self._frame.geometry)
        self._frame = frame = self.world.step(control)
        self._action = np.clip(action, -1.0, 1.0).astype(np.float32)
        headway_s = math.inf
        if self._privileged is not None:
            headway_s = self._privileged.look(self.task.situation)
        earned = self.task.step(
            (frame.state.x_m, frame.state.y_m),
            collided=frame.collision is not None,
            steer=(frame.applied or control).steer,
            acceleration_mps2=frame.acceleration_in_car_mps2,
            headway_s=headway_s,
        )
        how = self.task.ending
        info = self._info(frame) | {'executed': frame.applied == control}
        return self._observed(frame), earned, how.terminated, how.truncated, info

    def render(self) -> NDArray[np.uint8] | None:
        """Return the last camera image, (H, W, 3) uint8 RGB, in mode ``'rgb_array'``."""
        if self.render_mode is None or self._frame is None:
            return None
        image = self._frame.image
        return np.ascontiguousarray(image.pixels()[..., list(ENCODINGS[image.encoding][1])])

    def close(self) -> None:
        """Close the world."""
        self.world.close()

    def _observed(self, frame: Frame) -> Observed:
        """Build and keep the observation of a frame."""
        self._observation = seen = self._builder.build(frame.image, frame.state, self._action)
        observed: Observed = {'image': seen.image, 'state': seen.state}
        if self._privileged is not None:
            observed |= self._privileged.parts(seen, self.task.situation)
        return observed

    def _info(self, frame: Frame) -> dict[str, Any]:
        situation, how = self.task.situation, self.task.ending
        info = {
            'ending': how.name.lower(),
            'frame': frame.number,
            'stamp_ns': frame.stamp_ns,
            'progress_m': situation.progress_m,
            'lateral_m': situation.lateral_m,
            'speed_mps': frame.state.speed_mps,
            'lane_invasions': int(bool(frame.crossed_markings)),
        }
        if frame.on_road is not None:
            info['on_road'] = frame.on_road
        if self._success:
            info['is_success'] = how in self._success
        return info


def observation_space(
    spec: ObservationSpec, others: dict[str, spaces.Space[Any]] | None = None
) -> spaces.Dict:
    """Return the bounds of an observation; all of them keep a margin over the usual.

    Args:
        spec: how observations are made.
        others: further parts.
    """
    image_shape = (spec.frame_stack, spec.image_height_px, spec.image_width_px)
    largest = np.full(spec.state_size, 2.0, dtype=np.float32)  # route points are 24 m at most
    largest[:STATE_SIZE] = (10.0, 10.0, 1.0, 1.0)
    return spaces.Dict(
        {
            'image': spaces.Box(0, 255, image_shape, np.uint8),
            'state': spaces.Box(-largest, largest, dtype=np.float32),
            **(others or {}),
        }
    )


def default_world() -> SimulatorConfig:
    """Return the world of ``td3_agent/Driving-v0``: the oval, seen at the network's own size."""
    return SimulatorConfig(camera=CameraConfig(width=84, height=84))


def embedded_env(
    world: SimulatorConfig | None = None,
    task: TaskConfig | None = None,
    observation: ObservationSpec | None = None,
    render_mode: str | None = None,
    *,
    privileged: bool = False,
) -> DrivingEnv:
    """Return the environment on the embedded simulator; the map is loaded and painted once.

    Args:
        world: map, camera, traffic; its ``seed`` counts only until the first reset with one.
        task: reward and episode rules.
        observation: how images become observations.
        render_mode: ``'rgb_array'`` or None.
        privileged: also show, as ``privileged``, what only the simulator knows; for critics.
    """
    embedded = EmbeddedWorld(Simulator(world or default_world()), as_on_the_wire=False)
    return DrivingEnv(
        embedded,
        Task(task, step_s=embedded.step_s),
        observation,
        render_mode,
        privileged=Privileged(embedded) if privileged else None,
    )


def register_envs(
    ids: dict[str, dict[str, Any]], make: Callable[..., gymnasium.Env[Any, Any]]
) -> None:
    """Make environments known to ``gymnasium.make``; doing it twice is harmless.

    Args:
        ids: arguments of each, by its id.
        make: called with them.
    """
    for env_id, arguments in ids.items():
        gymnasium.registry.pop(env_id, None)  # of td3_agent.envs
        entry_point = f'{make.__module__}:{make.__name__}'
        gymnasium.register(id=env_id, entry_point=entry_point, kwargs=arguments)


def register() -> None:
    """Make the environment of this module known to ``gymnasium.make``."""
    register_envs({ENV_ID: {}}, embedded_env)


register()

# SPDX-License-Identifier: Apache-2.0
"""Gymnasium environment on the embedded world, registered as ``td3_agent/Driving-v0``.

Observation, command and speed loop are the functions the ROS nodes use, so a policy sees and
does the same here as behind the bridge. Importing this module registers the environment;
``gymnasium.make('td3_agent.sim.env:td3_agent/Driving-v0')`` imports it by itself.
"""

from __future__ import annotations

from dataclasses import replace
import math
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import gymnasium
from gymnasium import spaces
import numpy as np

from td3_agent.driving.command import ACTION_SIZE, VehicleControl, twist_from_action
from td3_agent.driving.loop_check import Contract
from td3_agent.driving.observation import (
    STATE_SIZE,
    ImageView,
    Observation,
    ObservationBuilder,
    ObservationSpec,
)
from td3_agent.driving.parameters import ParameterError
from td3_agent.driving.task import Ending, Situation, TaskConfig, ending, follow, reward
from td3_agent.driving.velocity_control import VelocityController
from td3_agent.sim.camera import CameraConfig
from td3_agent.sim.world import World, WorldConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.randomisation import Randomisation

ENV_ID = 'td3_agent/Driving-v0'
SEED_BOUND = 2**31
BGRA_BYTES = 4
CURVATURE_STEP_M = 5.0
CURVATURE_AHEAD_M = np.arange(0.0, 41.0, CURVATURE_STEP_M)
PRIVILEGED_SIZE = 9 + len(CURVATURE_AHEAD_M)
GOAL_IN_SIGHT_M = 50.0

Observed = dict[str, 'NDArray[Any]']


def default_world() -> WorldConfig:
    """Return the world of the environment: the oval, seen at the network's own size."""
    return WorldConfig(camera=CameraConfig(width=84, height=84))


class DrivingEnv(gymnasium.Env[Observed, 'NDArray[np.float32]']):
    """Follow the route with camera, speed and yaw rate.

    Observation, a dict:

    =======  =========================  ===============================================
    image    (4, 84, 84) uint8          grey frames, oldest first
    state    (4,) float32               speed / 8.33 m/s, yaw rate [rad/s], last action,
                                        and the route ahead where ``observation.path`` is set
    =======  =========================  ===============================================

    Action, (2,) float32 in [-1, 1]: target speed (0 .. 8.33 m/s) and yaw rate (+-1 rad/s, left
    positive). Reward and endings: :mod:`td3_agent.driving.task`.

    Args:
        world: map, seeds, camera; ``seed`` is used only until the first ``reset(seed=...)``.
        task: reward and episode rules.
        observation: how images become observations.
        privileged: also show, as ``privileged``, what only the simulator knows; for critics.
        limits: of what is drawn in a world with ``random_style``.
        render_mode: ``'rgb_array'`` or None.
    """

    metadata: ClassVar[dict[str, Any]] = {  # type: ignore[misc]  # Gymnasium leaves it open
        'render_modes': ['rgb_array'],
        'render_fps': 20,
    }
    privileged_size = PRIVILEGED_SIZE

    def __init__(  # noqa: PLR0913  what a task is made of
        self,
        world: WorldConfig | None = None,
        task: TaskConfig | None = None,
        observation: ObservationSpec | None = None,
        render_mode: str | None = None,
        *,
        privileged: bool = False,
        limits: Randomisation | None = None,
    ) -> None:
        """Build the world; the map is loaded and painted once."""
        if render_mode not in (None, *self.metadata['render_modes']):
            raise ValueError(f"render_mode must be 'rgb_array' or None, got {render_mode!r}")
        self.render_mode = render_mode
        config = world or default_world()
        if config.vehicles != 1:
            raise ParameterError(
                f'vehicles must be 1 in an environment of one driver, got {config.vehicles}'
            )
        self.world = World(config, limits)
        self.task = task or TaskConfig()
        self.spec_of_observation = observation or ObservationSpec()
        self._builder = ObservationBuilder(self.spec_of_observation)
        self._privileged = privileged
        self._controller = VelocityController()
        self._image: NDArray[np.uint8] | None = None
        self._action = np.zeros(ACTION_SIZE, dtype=np.float32)
        self.situation = Situation()
        # A Dict of Boxes gives dicts of arrays, which Gymnasium's types cannot say.
        self.observation_space = self._observation_space()  # type: ignore[assignment]
        self.action_space = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)

    @property
    def contract(self) -> Contract:
        """What a policy that learns here is trained with."""
        world = self.world.config
        return Contract(rate_hz=1.0 / world.fixed_delta_seconds, camera=world.camera.view)

    def _observation_space(self) -> spaces.Dict:
        """Return the bounds of what is observed."""
        size = self.privileged_size if self._privileged else 0
        return observation_space(self.spec_of_observation, privileged=size)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin an episode: spawn point, route, parked vehicles and light are drawn anew."""
        super().reset(seed=seed, options=options)
        self._place()
        self._builder.set_route(self.world.ego.route)
        self._builder.reset()
        self._controller.reset()
        self._action = np.zeros(ACTION_SIZE, dtype=np.float32)
        self.situation = self._first_situation()
        return self._observed(), self._info(Ending.NONE)

    def _place(self) -> None:
        """Put the car on the road."""
        self.world.reset(int(self.np_random.integers(SEED_BOUND)))

    def step(
        self, action: NDArray[np.float32]
    ) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """Drive one step of ``fixed_delta_seconds``.

        Raises:
            ValueError: the action is not two finite numbers.
        """
        world = self.world
        twist = twist_from_action(action)
        geometry = world.ego.vehicle_info.geometry
        world.tick(self._actuated(self._controller.control(twist, world.ego.state, geometry)))
        self._action = np.clip(action, -1.0, 1.0).astype(np.float32)
        before, self.situation = self.situation, self._next_situation(world.ego.control)
        how = ending(self.situation, self.task)
        return (
            self._observed(),
            reward(before, self.situation, self.task),
            how.terminated,
            how.truncated,
            self._info(how),
        )

    def _actuated(self, control: VehicleControl) -> VehicleControl:
        """Return what the car executes when it is told ``control``."""
        return control

    def _seen(self) -> NDArray[np.uint8]:
        """Return the camera image of this frame, (H, W, 4) BGRA."""
        return self.world.render()

    def render(self) -> NDArray[np.uint8] | None:
        """Return the last camera image, (H, W, 3) uint8 RGB, in mode ``'rgb_array'``."""
        if self.render_mode is None or self._image is None:
            return None
        return np.asarray(cv2.cvtColor(self._image, cv2.COLOR_BGRA2RGB))

    @property
    def observation(self) -> Observation:
        """The last observation as drivers outside Gymnasium take it."""
        return self._observation

    def _observed(self) -> Observed:
        """Render, build and keep the observation of this frame."""
        image = self._image = self._seen()
        height, width = image.shape[:2]
        view = ImageView(
            data=image.data, height=height, width=width, encoding='bgra8', step=BGRA_BYTES * width
        )
        self._observation = self._builder.build(view, self.world.ego.state, self._action)
        seen = self._observation
        observed: Observed = {'image': seen.image, 'state': seen.state}
        if self._privileged:
            observed['privileged'] = self._known()
        return observed

    def _known(self) -> NDArray[np.float32]:
        """Return what only the simulator knows, each number around [-1, 1].

        Lateral error, sine and cosine of the heading error, slip, both accelerations, way to the
        goal, half the lane width, then the curvature of the route from here to 40 m ahead.
        """
        world, situation = self.world, self.situation
        route = world.ego.route
        heading = route.sample(situation.s_m)[2]
        error_rad = world.ego.state.yaw_rad - heading
        forward, left = situation.acceleration_mps2
        ahead = route.curvature_array(situation.s_m + CURVATURE_AHEAD_M, CURVATURE_STEP_M)
        known = (
            situation.lateral_m / 2.0,
            math.sin(error_rad),
            math.cos(error_rad),
            world.ego.motion.slip_rad * 10.0,
            forward / 5.0,
            left / 5.0,
            min(situation.to_goal_m, GOAL_IN_SIGHT_M) / GOAL_IN_SIGHT_M,
            world.ego.control.steer * 2.0,
            world.ego.control.throttle - world.ego.control.brake,
            *(ahead * 20.0),
        )
        return np.clip(np.array(known, dtype=np.float32), -5.0, 5.0)

    def _first_situation(self) -> Situation:
        state, route = self.world.ego.state, self.world.ego.route
        seen = route.project(state.x_m, state.y_m)
        return replace(
            Situation(), s_m=seen.s_m, lateral_m=seen.lateral_m, to_goal_m=self._to_goal(seen.s_m)
        )

    def _next_situation(self, control: VehicleControl) -> Situation:
        world, previous = self.world, self.situation
        seen = world.ego.route.project(world.ego.state.x_m, world.ego.state.y_m, previous.s_m)
        return follow(
            previous,
            self.task,
            step_s=world.config.fixed_delta_seconds,
            advance_m=world.ego.route.advance(previous.s_m, seen.s_m),
            s_m=seen.s_m,
            lateral_m=seen.lateral_m,
            steer=control.steer,
            acceleration_mps2=self._acceleration(),
            headway_s=self._headway_s(),
            collided=bool(world.ego.collisions),
            to_goal_m=self._to_goal(seen.s_m),
        )

    def _acceleration(self) -> tuple[float, float]:
        """Return (forward, left) over the last step, in the car's axes [m/s^2]."""
        x, y, _ = self.world.ego.acceleration
        cos, sin = math.cos(self.world.ego.state.yaw_rad), math.sin(self.world.ego.state.yaw_rad)
        return cos * x + sin * y, cos * y - sin * x

    def _headway_s(self) -> float:
        """Return the time to the vehicle ahead [s]; nobody looks for one here."""
        return math.inf

    def _to_goal(self, s_m: float) -> float:
        route = self.world.ego.route
        return float('inf') if route.closed else route.length_m - s_m

    def _info(self, how: Ending) -> dict[str, Any]:
        world, situation = self.world, self.situation
        return {
            'ending': how.name.lower(),
            'frame': world.frame,
            'progress_m': situation.progress_m,
            'lateral_m': situation.lateral_m,
            'speed_mps': world.ego.state.speed_mps,
            'on_road': world.ego.on_road,
            'lane_invasions': len(world.ego.lane_invasions),
        }


def observation_space(spec: ObservationSpec, *, privileged: int) -> spaces.Dict:
    """Return the bounds of an observation; all of them keep a margin over the usual.

    Args:
        spec: how observations are made.
        privileged: how many numbers only the simulator knows; 0: none are shown.
    """
    image_shape = (spec.frame_stack, spec.image_height_px, spec.image_width_px)
    largest = np.full(spec.state_size, 2.0, dtype=np.float32)  # route points are 24 m at most
    largest[:STATE_SIZE] = (10.0, 10.0, 1.0, 1.0)
    parts: dict[str, spaces.Space[Any]] = {
        'image': spaces.Box(0, 255, image_shape, np.uint8),
        'state': spaces.Box(-largest, largest, dtype=np.float32),
    }
    if privileged:
        parts['privileged'] = spaces.Box(-5.0, 5.0, (privileged,), np.float32)
    return spaces.Dict(parts)


def register() -> None:
    """Make the environment known to ``gymnasium.make``; doing it twice is harmless."""
    gymnasium.registry.pop(ENV_ID, None)  # of td3_agent.envs
    gymnasium.register(id=ENV_ID, entry_point=f'{__name__}:{DrivingEnv.__name__}')


register()

# SPDX-License-Identifier: Apache-2.0
"""The driving task on many roads that all look different, to train on and to validate with.

Drawn anew for every episode, all from the seed of its reset: the road of a family (its geometry,
lane width, markings, colours), the place on it, light, the start (beside the lane's centre,
askew, moving), the mounting of the camera, its noise, and whether commands arrive a frame late.

==============================  =================================================
td3_agent/LaneTraining-v0       winding roads of the training family
td3_agent/LaneValidation-v0     winding roads of the validation family, as they are
td3_agent/RouteTraining-v0      towns of the training family, with the route ahead
td3_agent/RouteValidation-v0    towns of the validation family, as they are
==============================  =================================================

``gymnasium.make('td3_agent.sim.random_env:td3_agent/LaneTraining-v0')`` imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import gymnasium
import numpy as np

from td3_agent.driving.command import VehicleControl
from td3_agent.driving.observation import ObservationSpec
from td3_agent.driving.parameters import Params, param
from td3_agent.sim.env import SEED_BOUND, DrivingEnv
from td3_agent.sim.seeds import map_seed
from td3_agent.sim.task import TaskConfig
from td3_agent.sim.traffic import TrafficConfig
from td3_agent.sim.world import World, WorldConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

GRAIN_FRAMES, GRAIN_LEVELS, GRAIN_CENTRE = 32, 25.0, 128
SPAWN_TRIES, SHORT_ROUTE_M = 12, 210.0
CROP_TOP = 0.35  # the sky says nothing about the road
# A little below the largest command, so that the best answer is not at its limit, where a tanh
# has no gradient; and gentler than the task's own weights: noise on pixels must not be steered.
TASK = TaskConfig(
    reference_speed_mps=8.0,
    lateral_weight=0.45,
    steer_weight=0.1,
    jerk_weight=0.45,
    jerk_scale_mps3=10.0,
)


@dataclass(frozen=True, kw_only=True)
class Randomisation(Params):
    """How far every episode is from the ideal; each is drawn uniformly within +- its limit."""

    lateral_m: float = param(0.8, 'start beside the centre', unit='m', low=0.0, high=2.0)
    heading_rad: float = param(0.15, 'start askew', unit='rad', low=0.0, high=1.0)
    moving_share: float = param(0.7, 'share of starts at speed', low=0.0, high=1.0)
    camera_height_m: float = param(0.1, 'mounting', unit='m', low=0.0, high=1.0)
    camera_pitch_deg: float = param(1.0, 'mounting', unit='deg', low=0.0, high=10.0)
    camera_yaw_deg: float = param(0.7, 'mounting', unit='deg', low=0.0, high=10.0)
    noise_levels: float = param(
        6.0, 'largest standard deviation of pixel noise', unit='of 255', low=0.0, high=50.0
    )
    road_end_share: float = param(
        0.3, 'share of episodes that are sought to reach the end of the road', low=0.0, high=1.0
    )
    late_share: float = param(
        0.3, 'share of episodes whose commands arrive a frame late', low=0.0, high=1.0
    )


NOTHING_RANDOM = Randomisation(
    lateral_m=0.0,
    heading_rad=0.0,
    moving_share=0.0,
    camera_height_m=0.0,
    camera_pitch_deg=0.0,
    camera_yaw_deg=0.0,
    noise_levels=0.0,
    road_end_share=0.0,
    late_share=0.0,
)


class RandomDrivingEnv(DrivingEnv):
    """The driving task with another road and another car every time.

    Observation, action and reward: :class:`~td3_agent.sim.env.DrivingEnv`, with its
    ``privileged`` part.

    Args:
        map: name of a built-in map.
        family: of its seeds, a key of :data:`~td3_agent.sim.seeds.FAMILIES`.
        roads: how many roads there are; each is loaded and painted once.
        path: whether the observation holds the route ahead.
        random: how far from the ideal.
        random_style: whether lane widths, markings and colours differ from road to road.
        time_limit_s: longest episode [s].
        task: reward and the other episode rules.
    """

    def __init__(  # noqa: PLR0913  what a task is made of
        self,
        map: str = 'winding',  # noqa: A002  as WorldConfig calls it
        family: str = 'training',
        *,
        roads: int = 24,
        path: bool = False,
        random: Randomisation | None = None,
        random_style: bool = True,
        time_limit_s: float = 30.0,
        task: TaskConfig = TASK,
    ) -> None:
        """Load the first road; the others when they are drawn."""
        self._configs = [
            WorldConfig(map=map, map_seed=map_seed(family, 0, n), random_style=random_style)
            for n in range(roads)
        ]
        self._worlds: dict[int, World] = {}
        self._random = random or Randomisation()
        self._grain: NDArray[np.uint8] | None = None
        self._noise_levels = 0.0
        self._is_late = False
        self._waiting = VehicleControl()
        super().__init__(
            self._configs[0],
            replace(task, time_limit_s=time_limit_s),
            ObservationSpec(crop_top=CROP_TOP, path=path),
            privileged=True,
        )
        self._worlds[0] = self.world

    def _place(self) -> None:
        """Draw road and place, then disturb everything."""
        rng, limits = self.np_random, self._random
        number = int(rng.integers(len(self._configs)))
        if number not in self._worlds:
            self._worlds[number] = World(self._configs[number])
        world = self.world = self._worlds[number]
        # Few drives would get there by chance, and grass ahead must have been seen.
        seeks_end = rng.random() < limits.road_end_share
        for _ in range(SPAWN_TRIES if seeks_end else 1):
            world.reset(int(rng.integers(SEED_BOUND)), self._traffic(rng))
            if world.ego.route.length_m < SHORT_ROUTE_M:
                break
        x_m, y_m, yaw_rad = world.ego.route.sample(0.0)
        left_m = rng.uniform(-limits.lateral_m, limits.lateral_m)
        askew_rad = rng.uniform(-limits.heading_rad, limits.heading_rad)
        world.ego.set_pose(
            x_m - left_m * np.sin(yaw_rad), y_m + left_m * np.cos(yaw_rad), yaw_rad + askew_rad
        )
        moving = rng.random() < limits.moving_share
        speed_mps = rng.uniform(0.0, self.task.reference_speed_mps)
        if moving:
            world.ego.set_velocity(speed_mps)
        self._disturb_camera(rng)
        self._noise_levels = rng.uniform(0.0, limits.noise_levels)
        self._is_late = bool(rng.random() < limits.late_share)
        self._waiting = VehicleControl()

    def _traffic(self, rng: np.random.Generator) -> TrafficConfig:  # noqa: ARG002  others draw
        """Return the traffic of the next episode: none."""
        return TrafficConfig()

    def _disturb_camera(self, rng: np.random.Generator) -> None:
        limits, ideal = self._random, self.world.config.camera
        height_m = rng.uniform(-limits.camera_height_m, limits.camera_height_m)
        pitch_deg = rng.uniform(-limits.camera_pitch_deg, limits.camera_pitch_deg)
        yaw_deg = rng.uniform(-limits.camera_yaw_deg, limits.camera_yaw_deg)
        self.world.mount_camera(
            replace(
                ideal,
                z=ideal.z + height_m,
                pitch=ideal.pitch + pitch_deg,
                yaw=ideal.yaw + yaw_deg,
            )
        )

    def _actuated(self, control: VehicleControl) -> VehicleControl:
        """Return the command, or the last one where they arrive late."""
        self._waiting, last = control, self._waiting
        return last if self._is_late else control

    def _seen(self) -> NDArray[np.uint8]:
        """Return the camera image with its noise."""
        image = super()._seen()
        if self._noise_levels == 0.0:
            return image
        if self._grain is None:
            self._grain = _grain(image.shape[:2])
        drawn = self._grain[self.np_random.integers(GRAIN_FRAMES)]
        weight = self._noise_levels / GRAIN_LEVELS
        # The grain is centred on 128; saturates, and leaves alpha as it was.
        noisy = cv2.addWeighted(image, 1.0, drawn, weight, -GRAIN_CENTRE * weight)
        return np.asarray(noisy, dtype=np.uint8)


def _grain(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (GRAIN_FRAMES, H, W, 4) grey noise; the same always: only its use is random."""
    rng = np.random.default_rng(0)
    grain = np.full((GRAIN_FRAMES, *shape, 4), GRAIN_CENTRE, np.uint8)
    noise = rng.normal(GRAIN_CENTRE, GRAIN_LEVELS, (GRAIN_FRAMES, *shape, 1))
    grain[..., :3] = np.clip(noise, 0.0, 255.0)
    return grain


def _makers() -> dict[str, dict[str, Any]]:
    """Return the registered tasks: id, arguments."""
    tasks: dict[str, dict[str, Any]] = {}
    towns = Randomisation(road_end_share=0.0)  # their streets do not end
    for name, road, path, random in (
        ('Lane', 'winding', False, Randomisation()),
        ('Route', 'town', True, towns),
    ):
        common = {'map': road, 'path': path}
        training = {'family': 'training', 'random': random}
        tasks[f'td3_agent/{name}Training-v0'] = {**common, **training}
        tasks[f'td3_agent/{name}Validation-v0'] = {
            **common,
            'family': 'validation',
            'roads': 10,
            'random': NOTHING_RANDOM,
            'random_style': False,
            'time_limit_s': 60.0,
        }
    return tasks


def register() -> None:
    """Make the tasks known to ``gymnasium.make``; doing it twice is harmless."""
    for env_id, arguments in _makers().items():
        gymnasium.registry.pop(env_id, None)  # of td3_agent.envs
        entry_point = f'{__name__}:{RandomDrivingEnv.__name__}'
        gymnasium.register(id=env_id, entry_point=entry_point, kwargs=arguments)


register()

# SPDX-License-Identifier: Apache-2.0
"""The driving task on many roads that all look different, to train on and to validate with.

Drawn for every episode, all from the seed of its reset: the road of a family (its geometry, lanes,
markings, roadside), the place on it, the start (beside the lane's centre, askew, moving), colours,
textures, shadows, the camera's mounting, exposure, blur and noise, and whether commands arrive a
frame late. :class:`~td3_agent.sim.randomisation.Randomisation` says how far.

==============================  =================================================
td3_agent/LaneTraining-v0       winding, country roads and highways of the training family
td3_agent/LaneValidation-v0     winding roads of the validation family, as they are
==============================  =================================================

``gymnasium.make('td3_agent.sim.random_env:td3_agent/LaneTraining-v0')`` imports this module.
"""

from __future__ import annotations

from dataclasses import replace
import math
from typing import TYPE_CHECKING, Any

import gymnasium
from gymnasium import spaces
import numpy as np

from td3_agent.driving.command import ACTION_SIZE, VehicleControl
from td3_agent.driving.following import FollowingDriver
from td3_agent.driving.observation import STATE_SIZE, ObservationSpec
from td3_agent.driving.pure_pursuit import PurePursuitDriver
from td3_agent.sim.env import SEED_BOUND, DrivingEnv
from td3_agent.sim.photometry import Photometry
from td3_agent.sim.randomisation import NOTHING_RANDOM, Randomisation
from td3_agent.sim.seeds import map_seed
from td3_agent.sim.task import TaskConfig
from td3_agent.sim.traffic import TrafficConfig
from td3_agent.sim.world import World, WorldConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.driving.following import Lead
    from td3_agent.sim.env import Observed
    from td3_agent.sim.task import Situation

SPAWN_TRIES, SHORT_ROUTE_M = 12, 210.0
WITH_ENDS = ('winding', 'country', 'highway')
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


class RandomDrivingEnv(DrivingEnv):
    """The driving task with another road and another car every time.

    Observation, action and reward: :class:`~td3_agent.sim.env.DrivingEnv`, with its
    ``privileged`` part. One more part is ``expert``, (2,) float32: the action that pure pursuit
    takes here, with IDM behind a lead vehicle (:mod:`td3_agent.driving.following`). The learner
    may imitate it; a policy never sees it.

    Args:
        maps: names of built-in maps; roads take turns.
        family: of their seeds, a key of :data:`~td3_agent.sim.seeds.FAMILIES`.
        roads: how many roads there are; each is loaded and painted once.
        path: whether the observation holds the route ahead.
        random: how far from the ideal.
        random_style: whether lanes, markings and roadsides differ from road to road, and colours
            from episode to episode.
        time_limit_s: longest episode [s].
        task: reward and the other episode rules.
    """

    def __init__(  # noqa: PLR0913  what a task is made of
        self,
        maps: tuple[str, ...] = ('winding',),
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
            WorldConfig(
                map=maps[n % len(maps)],
                map_seed=map_seed(family, 0, n),
                random_style=random_style,
            )
            for n in range(roads)
        ]
        self._worlds: dict[int, World] = {}
        self._random = random or Randomisation()
        self._photometry = Photometry()
        self._is_late = False
        self._shows_motion = True
        self._longest_s = time_limit_s
        self._waiting = VehicleControl()
        self._lead: Lead | None = None
        self._expert = FollowingDriver(PurePursuitDriver(), lambda: self._lead)
        super().__init__(
            self._configs[0],
            replace(task, time_limit_s=time_limit_s),
            ObservationSpec(crop_top=CROP_TOP, path=path),
            privileged=True,
            limits=self._random,
        )
        self._worlds[0] = self.world

    def _place(self) -> None:
        """Draw road, place, length of the episode and everything that disturbs."""
        rng, limits = self.np_random, self._random
        self._draw_road(rng)
        self._disturb_camera(rng)
        self._photometry = Photometry.drawn(limits, rng)
        self._shows_motion = bool(rng.random() >= limits.picture_share)
        self._is_late = bool(rng.random() < limits.late_share)
        self._waiting = VehicleControl()
        if limits.episode_shortest_s > 0.0:
            spread = math.log(self._longest_s / limits.episode_shortest_s)
            time_limit_s = self._longest_s * math.exp(-spread * rng.random())
            self.task = replace(self.task, time_limit_s=time_limit_s)

    def _draw_road(self, rng: np.random.Generator) -> None:
        """Begin a drive on a road, with a route, traffic and a start of its own."""
        limits = self._random
        number = int(rng.integers(len(self._configs)))
        if number not in self._worlds:
            self._worlds[number] = World(self._configs[number], self._random)
        world = self.world = self._worlds[number]
        # Few drives would get there by chance, and grass ahead must have been seen.
        seeks_end = rng.random() < limits.road_end_share and world.config.map in WITH_ENDS
        for _ in range(SPAWN_TRIES if seeks_end else 1):
            world.reset(int(rng.integers(SEED_BOUND)), self._traffic(rng))
            if world.ego.route.length_m < SHORT_ROUTE_M:
                break
        self._set_beside(self._start_m(rng))
        moving = rng.random() < limits.moving_share
        speed_mps = rng.uniform(0.0, self.task.reference_speed_mps)
        if moving:
            world.ego.set_velocity(speed_mps)

    def _start_m(self, rng: np.random.Generator) -> float:  # noqa: ARG002  others draw
        """Return where on its route the car starts [m]."""
        return 0.0

    def _set_beside(self, s_m: float) -> None:
        """Put the car beside a place of its route, askew, within the limits."""
        rng, limits, ego = self.np_random, self._random, self.world.ego
        x_m, y_m, yaw_rad = ego.route.sample(s_m)
        left_m = rng.uniform(-limits.lateral_m, limits.lateral_m)
        askew_rad = rng.uniform(-limits.heading_rad, limits.heading_rad)
        ego.set_pose(
            x_m - left_m * np.sin(yaw_rad), y_m + left_m * np.cos(yaw_rad), yaw_rad + askew_rad
        )

    def _first_situation(self) -> Situation:
        self._expert.reset()
        self._expert.set_route(self.world.ego.route)
        return super()._first_situation()

    def _observation_space(self) -> spaces.Dict:
        expert = spaces.Box(-1.0, 1.0, (ACTION_SIZE,), np.float32)
        return spaces.Dict({**super()._observation_space().spaces, 'expert': expert})

    def _observed(self) -> Observed:
        """Add the action of the expert; hide yaw rate and last action in some episodes."""
        observed = super()._observed()
        if not self._shows_motion:
            state = observed['state'].copy()
            state[1:STATE_SIZE] = 0.0
            observed['state'] = state
        return observed | {'expert': self._expert.act(self.observation)}

    def _traffic(self, rng: np.random.Generator) -> TrafficConfig:  # noqa: ARG002  others draw
        """Return the traffic of the next episode: none."""
        return TrafficConfig()

    def _disturb_camera(self, rng: np.random.Generator) -> None:
        limits, ideal = self._random, self.world.config.camera

        def near(value: float, limit: float) -> float:
            return value + float(rng.uniform(-limit, limit))

        self.world.mount_camera(
            replace(
                ideal,
                x=near(ideal.x, limits.camera_forward_m),
                y=near(ideal.y, limits.camera_left_m),
                z=near(ideal.z, limits.camera_height_m),
                roll=near(ideal.roll, limits.camera_roll_deg),
                pitch=near(ideal.pitch, limits.camera_pitch_deg),
                yaw=near(ideal.yaw, limits.camera_yaw_deg),
                fov_deg=near(ideal.fov_deg, limits.camera_fov_deg),
            )
        )

    def _actuated(self, control: VehicleControl) -> VehicleControl:
        """Return the command, or the last one where they arrive late."""
        self._waiting, last = control, self._waiting
        return last if self._is_late else control

    def _seen(self) -> NDArray[np.uint8]:
        """Return the camera image as this episode takes it."""
        return self._photometry.applied(super()._seen(), self.np_random)


VALIDATION: dict[str, Any] = {
    'family': 'validation',
    'roads': 10,
    'random': NOTHING_RANDOM,
    'random_style': False,
    'time_limit_s': 60.0,
}


def register_tasks(tasks: dict[str, dict[str, Any]], env: type[RandomDrivingEnv]) -> None:
    """Make tasks, arguments by id, known to ``gymnasium.make``; doing it twice is harmless."""
    for env_id, arguments in tasks.items():
        gymnasium.registry.pop(env_id, None)  # of td3_agent.envs
        entry_point = f'{env.__module__}:{env.__name__}'
        gymnasium.register(id=env_id, entry_point=entry_point, kwargs=arguments)


def register() -> None:
    """Make the tasks of this module known to ``gymnasium.make``."""
    tasks: dict[str, dict[str, Any]] = {
        'td3_agent/LaneTraining-v0': {
            'maps': ('winding', 'country', 'highway'),
            'roads': 36,
            'time_limit_s': 1.0,
            'random': Randomisation(episode_shortest_s=0.1, picture_share=0.5),
        },
        'td3_agent/LaneValidation-v0': VALIDATION,
    }
    register_tasks(tasks, RandomDrivingEnv)


register()

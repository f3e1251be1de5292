# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""The driving task on many roads that all look different, to train on and to validate with.

Drawn for every episode, all from the seed of its reset: the road of a family (its geometry, lanes,
markings, roadside), the place on it, the start (beside the lane's centre, askew, moving), colours,
textures, shadows, the camera's mounting, exposure, blur and noise, and whether commands arrive a
frame late. :class:`~td3_agent.sim.randomisation.Randomisation` says how far. On a route, what is
ahead of it is part of the observation, and the traffic is drawn too: how many vehicles, and in
some episodes a lead vehicle that is slow, stops or stands.

==============================  =================================================
td3_agent/LaneTraining-v0       winding, country roads and highways of the training family
td3_agent/LaneValidation-v0     winding roads of the validation family, as they are
td3_agent/RouteTraining-v0      roads of every kind of the training family, 0 to 50 vehicles
td3_agent/RouteValidation-v0    towns and country roads of the validation family, always 20
==============================  =================================================

``gymnasium.make('td3_agent.sim.random_env:td3_agent/LaneTraining-v0')`` imports this module.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.command import FULL_BRAKE, VehicleControl
from td3_agent.driving.observation import STATE_SIZE, ObservationSpec
from td3_agent.driving.task import Ending, Task, TaskConfig
from td3_agent.sim.embedded import SEED_BOUND, EmbeddedWorld, EpisodeSetup
from td3_agent.sim.env import CROP_TOP, DrivingEnv, register_envs
from td3_agent.sim.lead import BEHAVIOURS, NO_LEADER, lead_of
from td3_agent.sim.look import Photometry
from td3_agent.sim.privileged import Privileged
from td3_agent.sim.randomisation import NOTHING_RANDOM, Randomisation, map_seed
from td3_agent.sim.simulator import Simulator, SimulatorConfig
from td3_agent.sim.textures import SHADOW_COUNT
from td3_agent.sim.traffic import TrafficConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

SPAWN_TRIES, SHORT_ROUTE_M = 12, 210.0
HIDDEN = STATE_SIZE - 1  # all of the state but the speed
CLOSEST_M, FARTHEST_M = 0.5, 30.0  # to the vehicle ahead, where an episode begins near it
WITH_ENDS = ('winding', 'country', 'highway')
# A little below the largest command, so that the best answer is not at its limit, where a tanh
# has no gradient; and gentler than the task's own weights: noise on pixels must not be steered.
TASK = TaskConfig(
    reference_speed_mps=8.0,
    lateral_weight=0.45,
    steer_weight=0.1,
    jerk_weight=0.45,
    jerk_scale_mps3=10.0,
)
USUAL_VEHICLES, MOST_VEHICLES = 20, 50
CROWDED_PROBABILITY = 0.15  # of the episodes; many vehicles cost time
LEADER_PROBABILITY = 0.5
# An accident costs more than the way that is gained by not braking: some metres earn several
# rewards at once, and what comes after a long stand is discounted.
TRAFFIC_TASK = replace(
    TASK,
    lateral_weight=0.35,
    jerk_weight=0.3,
    headway_weight=0.25,
    collision_penalty=8.0,
    stall_time_s=30.0,
)
VALIDATION: dict[str, Any] = {
    'family': 'validation',
    'roads': 10,
    'random': NOTHING_RANDOM,
    'random_style': False,
    'time_limit_s': 60.0,
}


@dataclass(frozen=True, kw_only=True)
class DrawnTraffic:
    """Draws how many vehicles there are in an episode, and who is ahead.

    Attributes:
        least: fewest vehicles of an episode.
        most: most vehicles, but in few episodes.
        crowd: most vehicles in those few.
        leader_probability: fraction of the episodes with a vehicle ahead that slows or stops.
        even_kinds: whether each kind of vehicle is as frequent as any other.
    """

    least: int = 0
    most: int = USUAL_VEHICLES
    crowd: int = MOST_VEHICLES
    leader_probability: float = LEADER_PROBABILITY
    even_kinds: bool = False

    def __call__(self, rng: np.random.Generator) -> TrafficConfig:
        """Draw the traffic of an episode."""
        behaviours = list(BEHAVIOURS)
        behaviour = behaviours[int(rng.integers(len(behaviours)))]
        led = rng.random() < self.leader_probability
        most = max(self.crowd, self.most) if rng.random() < CROWDED_PROBABILITY else self.most
        vehicles = int(rng.integers(self.least, most, endpoint=True))
        leader = behaviour if led else NO_LEADER
        return TrafficConfig(vehicles=vehicles, leader=leader, even_kinds=self.even_kinds)


class RandomSetup(EpisodeSetup):
    """Another road and another car every time.

    Args:
        roads: what they are made of; each is loaded and painted once, when it is drawn first.
        random: how far from the ideal.
        task: follows the episodes; the time limit of each is drawn too.
        traffic: draws the traffic of an episode; None: there is none.
    """

    def __init__(
        self,
        roads: Sequence[SimulatorConfig],
        random: Randomisation,
        task: Task,
        traffic: Callable[[np.random.Generator], TrafficConfig] | None = None,
    ) -> None:
        """Load the first road."""
        self._configs = roads
        self._random = random
        self._task = task
        self._longest_s = task.config.time_limit_s
        self._traffic = traffic
        self._simulators = {0: Simulator(roads[0], random)}
        self._photometry = Photometry()
        self._disguises: np.random.Generator | None = None
        self._is_late = self._is_held = False
        self._waiting = VehicleControl()

    @property
    def first_road(self) -> Simulator:
        """Simulator of the first road."""
        return self._simulators[0]

    def begin(self, simulator: Simulator, rng: np.random.Generator) -> Simulator:
        """Draw road, place, length of the episode and everything that disturbs."""
        limits = self._random
        simulator = self._drawn_road(rng)
        simulator.mount_camera(simulator.config.camera)
        self._photometry = Photometry()
        if rng.random() >= limits.plain_probability:
            self._disturb_camera(simulator, rng)
            self._photometry = Photometry.drawn(limits, rng)
        is_disguised = rng.random() < limits.disguise_probability
        self._disguises = np.random.default_rng(rng.integers(SEED_BOUND)) if is_disguised else None
        self._is_late = bool(rng.random() < limits.late_probability)
        self._waiting = VehicleControl()
        if limits.episode_shortest_s > 0.0:
            spread = math.log(self._longest_s / limits.episode_shortest_s)
            time_limit_s = self._longest_s * math.exp(-spread * rng.random())
            self._task.config = replace(self._task.config, time_limit_s=time_limit_s)
        return simulator

    def executed(self, control: VehicleControl) -> VehicleControl:
        """Return the command, or the last one where they arrive late."""
        if self._is_held:
            return FULL_BRAKE
        self._waiting, last = control, self._waiting
        return last if self._is_late else control

    def pictured(self, pixels: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the camera image as this episode takes it."""
        return self._photometry.applied(pixels, rng)

    def disguise(self) -> NDArray[np.float64] | None:
        """Return random numbers in the episodes whose state is to tell the speed alone."""
        return None if self._disguises is None else self._disguises.uniform(-1.0, 1.0, HIDDEN)

    def _drawn_road(self, rng: np.random.Generator) -> Simulator:
        """Begin a drive on a road, with a route, traffic and a start of its own."""
        limits = self._random
        number = int(rng.integers(len(self._configs)))
        if number not in self._simulators:
            self._simulators[number] = Simulator(self._configs[number], limits)
        simulator = self._simulators[number]
        # Few drives would get there by chance, and grass ahead must have been seen.
        seeks_end = (
            rng.random() < limits.road_end_probability and simulator.config.map in WITH_ENDS
        )
        for _ in range(SPAWN_TRIES if seeks_end else 1):
            place = int(rng.integers(limits.places or SEED_BOUND))
            _, trace = simulator.start_at(place)
            if trace.route.length_m < SHORT_ROUTE_M:
                break
        seed = int(rng.integers(SEED_BOUND))
        simulator.reset(seed, self._traffic(rng) if self._traffic else TrafficConfig(), place)
        if not simulator.config.random_style and rng.random() < limits.plain_shadow_probability:
            simulator.look = replace(simulator.look, shadows=int(rng.integers(SHADOW_COUNT)))
        self._set_beside(simulator, self._start_m(simulator, rng), rng)
        moving = rng.random() < limits.moving_probability
        speed_mps = rng.uniform(0.0, self._task.config.reference_speed_mps)
        self._is_held = bool(rng.random() < limits.held_probability)
        if moving and not self._is_held:
            simulator.ego.set_velocity(speed_mps)
        return simulator

    def _start_m(self, simulator: Simulator, rng: np.random.Generator) -> float:
        """Return where on its route the car starts [m]: short episodes reach no vehicle ahead."""
        if self._random.approach_probability == 0.0:
            return 0.0
        lead = lead_of(simulator, simulator.ego, 0.0)
        if lead is None or rng.random() >= self._random.approach_probability:
            return 0.0
        # Log-uniform: what is near needs an answer at once.
        gap_m: float = CLOSEST_M * (FARTHEST_M / CLOSEST_M) ** rng.random()
        return max(lead.gap_m - gap_m, 0.0)

    def _set_beside(self, simulator: Simulator, s_m: float, rng: np.random.Generator) -> None:
        """Put the car beside a place of its route, askew, within the limits."""
        limits = self._random
        x_m, y_m, yaw_rad = simulator.ego.route.sample(s_m)
        left_m = rng.uniform(-limits.lateral_m, limits.lateral_m)
        askew_rad = rng.uniform(-limits.heading_rad, limits.heading_rad)
        simulator.ego.set_pose(
            x_m - left_m * np.sin(yaw_rad), y_m + left_m * np.cos(yaw_rad), yaw_rad + askew_rad
        )

    def _disturb_camera(self, simulator: Simulator, rng: np.random.Generator) -> None:
        limits, ideal = self._random, simulator.config.camera

        def near(value: float, limit: float) -> float:
            return value + float(rng.uniform(-limit, limit))

        simulator.mount_camera(
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


def random_env(  # noqa: PLR0913  what a task is made of
    maps: tuple[str, ...] = ('winding',),
    family: str = 'training',
    *,
    roads: int = 24,
    path: bool = False,
    random: Randomisation | None = None,
    random_style: bool = True,
    plain_roads: bool = False,
    time_limit_s: float = 30.0,
    task: TaskConfig = TASK,
    traffic: Callable[[np.random.Generator], TrafficConfig] | None = None,
) -> DrivingEnv:
    """Return the driving task with another road and another car every time.

    Its observations have the parts of :class:`~td3_agent.sim.privileged.Privileged`. Among
    traffic, ``is_success`` in the info of the last step is whether the episode went on to its
    goal or its time limit.

    Args:
        maps: names of built-in maps; roads take turns.
        family: of their seeds, a key of :data:`~td3_agent.sim.randomisation.FAMILIES`.
        roads: how many roads there are.
        path: whether the observation holds the route ahead.
        random: how far from the ideal.
        random_style: whether lanes, markings and roadsides differ from road to road, and colours
            from episode to episode.
        plain_roads: whether every other round of the maps keeps the default look.
        time_limit_s: longest episode [s].
        task: reward and the other episode rules.
        traffic: draws the traffic of an episode; None: there is none.
    """
    configs = [
        SimulatorConfig(
            map=maps[n % len(maps)],
            map_seed=map_seed(family, 0, n),
            random_style=random_style and not (plain_roads and n // len(maps) % 2),
        )
        for n in range(roads)
    ]
    following = Task(replace(task, time_limit_s=time_limit_s))
    setup = RandomSetup(configs, random or Randomisation(), following, traffic)
    world = EmbeddedWorld(setup.first_road, as_on_the_wire=False, setup=setup)
    return DrivingEnv(
        world,
        following,
        ObservationSpec(crop_top=CROP_TOP, path=path),
        privileged=Privileged(world, expert=True, traffic=traffic is not None),
        success=(Ending.GOAL, Ending.TIME_LIMIT) if traffic is not None else (),
    )


ENVS: dict[str, dict[str, Any]] = {
    'td3_agent/LaneTraining-v0': {
        'maps': ('winding', 'country', 'highway'),
        'roads': 36,
        'time_limit_s': 1.0,
        'random': Randomisation(episode_shortest_s=0.1, disguise_probability=0.5),
    },
    'td3_agent/LaneValidation-v0': VALIDATION,
    'td3_agent/RouteTraining-v0': {
        'maps': ('town', 'arterial', 'town', 'country', 'town', 'highway'),
        'roads': 36,
        'plain_roads': True,
        'path': True,
        'task': TRAFFIC_TASK,
        'traffic': DrawnTraffic(leader_probability=0.7, even_kinds=True),
        'time_limit_s': 1.0,
        'random': Randomisation(
            episode_shortest_s=0.1,
            approach_probability=0.8,
            places=12,
            disguise_probability=1.0,
            held_probability=0.25,
            plain_probability=0.5,
            plain_shadow_probability=0.6,
        ),
    },
    'td3_agent/RouteValidation-v0': {
        **VALIDATION,
        'maps': ('town', 'country'),
        'path': True,
        'task': TRAFFIC_TASK,
        'traffic': DrawnTraffic(least=USUAL_VEHICLES, crowd=USUAL_VEHICLES),
    },
}


def register() -> None:
    """Make the environments of this module known to ``gymnasium.make``."""
    register_envs(ENVS, random_env)


register()

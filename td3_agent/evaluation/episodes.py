# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes of an evaluation: which roads, how long they may take, and when they end.

An episode ends by the rules of :mod:`td3_agent.driving.task`, applied to the records of its ledger
alone. Whatever drove it, over ROS or not, the same records end at the same frame.
"""

from __future__ import annotations

from dataclasses import dataclass
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from td3_agent.driving.ledger import LAG_FRAMES, LedgerWriter
from td3_agent.driving.parameters import Params, param
from td3_agent.driving.task import STEP_S, Ending, Task, TaskConfig
from td3_agent.nodes.sim_bridge_params import SimBridgeParams, simulator_config
from td3_agent.sim.lead import LEADERS, NO_LEADER
from td3_agent.sim.maps import BUILT_IN
from td3_agent.sim.randomisation import map_seed
from td3_agent.sim.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from td3_agent.driving.route import Route

WORLD_SEEDS = 2**31
WORLD_STREAM = 1  # tells the seeds of worlds from those of maps, which are drawn alike


class EvaluationError(RuntimeError):
    """An episode could not be driven to its end; the text says which and why."""


@dataclass(frozen=True, kw_only=True)
class EpisodePlan(Params):
    """Which episodes are driven, and how long each may take."""

    map: str = param(
        'winding',
        'oval, winding, country, town, highway, arterial, or the path of an OpenDRIVE file',
        path=True,
    )
    family: str = param(
        'test',
        'family of seeds that the roads come from',
        choices=('test', 'validation', 'training'),
    )
    episodes: int = param(20, 'how many', low=1, high=10000)
    seed: int = param(0, 'chooses roads, spawn points, parked cars, light and traffic', low=0)
    route_length_m: float = param(
        400.0, 'length at which a route ends', unit='m', low=20.0, high=1e5
    )
    parked_vehicles: int = param(6, 'vehicles parked beside the road', low=0, high=200)
    traffic_vehicles: int = param(0, 'vehicles that drive by themselves', low=0, high=200)
    traffic_leader: str = param(
        NO_LEADER, 'what one more vehicle, ahead of the car, does', choices=LEADERS
    )
    camera_width: int = param(160, 'image columns', unit='px', low=8, high=4096)
    camera_height: int = param(120, 'image rows', unit='px', low=8, high=4096)
    least_mean_speed_mps: float = param(
        2.0, 'slower than this over the whole route is too late', unit='m/s', low=0.1, high=60.0
    )
    time_allowance_s: float = param(
        10.0, 'added to the time that this speed takes', unit='s', low=0.0, high=1e4
    )
    stall_time_s: float = param(
        6.0, 'standing this long ends the episode', unit='s', low=0.5, high=600.0
    )

    def task(self, route: Route) -> TaskConfig:
        """Return the episode rules on ``route``: the task's own, with the time limit it needs."""
        limit_s = route.length_m / self.least_mean_speed_mps + self.time_allowance_s
        return TaskConfig(time_limit_s=limit_s, stall_time_s=self.stall_time_s)

    def episode(self, number: int) -> Episode:
        """Return one episode; equal plans and numbers give equal episodes."""
        drawn = np.random.SeedSequence((self.seed, number, WORLD_STREAM)).generate_state(1)[0]
        built_in = self.map in BUILT_IN
        return Episode(
            number=number,
            bridge=SimBridgeParams(
                map=str(Path(self.map).resolve()) if self.map.endswith('.xodr') else self.map,
                map_seed=map_seed(self.family, self.seed, number) if built_in else 0,
                seed=int(drawn) % WORLD_SEEDS,
                spawn_index=-1,
                route_length_m=self.route_length_m,
                parked_vehicles=self.parked_vehicles,
                traffic_vehicles=self.traffic_vehicles,
                traffic_leader=self.traffic_leader,
                camera_width=self.camera_width,
                camera_height=self.camera_height,
            ),
        )


@dataclass(frozen=True, kw_only=True)
class Episode:
    """One start on one road.

    Attributes:
        number: in its plan, from 0.
        bridge: parameters of the bridge process; in process, the same simulator is built of them.
    """

    number: int
    bridge: SimBridgeParams

    def simulator(self) -> Simulator:
        """Return the simulator at its first frame; the map is not painted yet.

        Raises:
            ValueError: the map cannot be used.
        """
        return Simulator(simulator_config(self.bridge))

    @property
    def settings(self) -> dict[str, Any]:
        """What makes this episode this one: parameters of the bridge node."""
        road = ('map', 'map_seed', 'seed', 'spawn_index', 'route_length_m')
        others = ('parked_vehicles', 'traffic_vehicles', 'traffic_leader')
        camera = ('camera_width', 'camera_height')
        return {name: getattr(self.bridge, name) for name in (*road, *others, *camera)}


def frames_to_drive(task: TaskConfig) -> int:
    """Return how many frames the longest episode takes, and those that confirm its last one."""
    return math.ceil(task.time_limit_s / STEP_S) + LAG_FRAMES


def begun(task: TaskConfig, route: Route, start: tuple[float, float]) -> Task:
    """Return the task of an episode at ``start`` (x [m], y [m]), before the first record."""
    following = Task(task, one_lap=True)
    following.begin(route, start)
    return following


def take(task: Task, record: dict[str, Any]) -> Ending:
    """Let a task take the ledger record of the next frame; return whether that ends it."""
    place = (record['x_m'], record['y_m']) if 'x_m' in record else None
    task.step(place, collided='collision' in record)
    return task.ending


def up_to_the_ending(records: Iterable[dict[str, Any]], task: Task) -> list[dict[str, Any]]:
    """Return the records up to the frame that ends the episode; later ones are dropped."""
    kept = []
    for record in records:
        kept.append(record)
        if take(task, record) is not Ending.NONE:
            break
    return kept


def write_ledger(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Write records as a ledger file."""
    with LedgerWriter(path) as ledger:
        for record in records:
            ledger.write(record)

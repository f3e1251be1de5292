# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""List the scenarios that td3_agent evaluate --scenario NAME drives."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
import json
import sys
from typing import TYPE_CHECKING, Any

from td3_agent.driving.parameters import ParameterError
from td3_agent.evaluation.episodes import EpisodePlan
from td3_agent.evaluation.result_tables import aligned
from td3_agent.sim.lead import NO_LEADER
from td3_agent.sim.maps import BUILT_IN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from td3_agent.sim.simulator import Simulator

PATIENT_S = 30.0  # standing behind others is no stalling
UNHURRIED_MPS = 1.0
DECIDED = ('map', 'least_mean_speed_mps')  # arguments that are for episodes without a scenario


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """A kind of episodes with a name.

    Attributes:
        about: what happens in them, one line.
        map: where they are driven.
        traffic_vehicles: how many vehicles drive by themselves.
        traffic_leader: what one more, ahead on the route, does.
    """

    about: str
    map: str = 'winding'
    traffic_vehicles: int = 0
    traffic_leader: str = NO_LEADER

    def plan(self, plan: EpisodePlan) -> EpisodePlan:
        """Return a plan of as many episodes, of the same family and seed, of this kind.

        A map from a file is kept: only the traffic is the scenario's then.
        """
        own = {name: getattr(self, name) for name in ('map', 'traffic_vehicles', 'traffic_leader')}
        if plan.map not in BUILT_IN:
            own['map'] = plan.map
        if self.traffic_vehicles or self.traffic_leader != NO_LEADER:
            own |= {'stall_time_s': PATIENT_S, 'least_mean_speed_mps': UNHURRIED_MPS}
        return replace(plan, **own)


SCENARIOS = {
    'lane-following': Scenario(about='an empty country road'),
    'leader-slow': Scenario(
        about='a vehicle ahead drives at 3 m/s all the time', traffic_leader='slow'
    ),
    'leader-stop-and-go': Scenario(
        about='a vehicle ahead stops gently and drives on, again and again',
        traffic_leader='stop_and_go',
    ),
    'leader-sudden-stop': Scenario(
        about='a vehicle ahead brakes at 6 m/s^2 without a reason, again and again',
        traffic_leader='sudden_stop',
    ),
    'parked-obstacle': Scenario(
        about='a vehicle stands in the lane for 25 s before it drives away',
        traffic_leader='standing',
    ),
    'traffic-20': Scenario(
        about='a route through a town with 20 vehicles', map='town', traffic_vehicles=20
    ),
    'traffic-50': Scenario(
        about='a route through a town with 50 vehicles', map='town', traffic_vehicles=50
    ),
    'traffic-100': Scenario(
        about='a route through a town with 100 vehicles', map='town', traffic_vehicles=100
    ),
}


def check_undecided(given: Mapping[str, object]) -> None:
    """Raise ParameterError for each value that the scenario decides."""
    faults = [
        f'{name} is decided by the scenario{", or an .xodr file" if name == "map" else ""}, '
        f'got {value!r}'
        for name, value in given.items()
        if name != 'map' or value in BUILT_IN
    ]
    if faults:
        raise ParameterError('; '.join(faults))


def check_traffic(scenario: str, number: int, simulator: Simulator) -> None:
    """Check that a world has the traffic of its scenario.

    Args:
        scenario: its name.
        number: of the episode.
        simulator: at its first frame.

    Raises:
        ParameterError: the map has no room for it.
    """
    wanted = simulator.config.traffic
    there = 0 if simulator.traffic is None else len(simulator.traffic.fleet)
    if there < wanted.count:
        lead = f', one of them ahead of the car ({wanted.leader})'
        raise ParameterError(
            f'scenario {scenario} needs room for {wanted.count} vehicles'
            f'{lead if wanted.leader != NO_LEADER else ""}; map {simulator.map.name!r} has '
            f'room for {there} in episode {number}: take a larger map, or a longer --route-length'
        )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument('--json', action='store_true', help='print JSON, the whole plan of each')


def run(args: argparse.Namespace) -> int:
    """Print the list and return the exit status."""
    sys.stdout.write((json.dumps(described(), indent=2) if args.json else listed()) + '\n')
    return 0


def described() -> dict[str, dict[str, Any]]:
    """Return, by name, what each scenario is about, and its plan."""
    return {
        name: {'about': scenario.about, 'plan': asdict(scenario.plan(EpisodePlan()))}
        for name, scenario in SCENARIOS.items()
    }


def listed() -> str:
    """Return one line per scenario."""
    rows = [['scenario', 'map', 'vehicles', 'leader']]
    rows += [
        [name, scenario.map, str(scenario.traffic_vehicles), scenario.traffic_leader]
        for name, scenario in SCENARIOS.items()
    ]
    lines = aligned(rows).splitlines()
    about = ['', *(scenario.about for scenario in SCENARIOS.values())]
    width = max(map(len, lines))
    return '\n'.join(
        f'{line.ljust(width)}  {text}'.rstrip() for line, text in zip(lines, about, strict=True)
    )

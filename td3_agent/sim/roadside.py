# SPDX-License-Identifier: Apache-2.0
"""What lies and stands beside a map's roads: kerb, pavement, paint, and how dense the scenery is.

It belongs to the map: equal seeds give equal roadsides. How it is coloured belongs to the
episode (:mod:`td3_agent.sim.look`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from td3_agent.sim.randomisation import Randomisation

STREAM = 2  # apart from geometry and markings


@dataclass(frozen=True, kw_only=True)
class Roadside:
    """Widths, paint and densities of one map.

    Attributes:
        kerb_m: width of the kerb [m].
        pavement_m: width of the pavement behind it [m]; 0: none but what the map has itself.
        marking_m: width of a painted line [m].
        dash_m: length of a dash, and of the gap after it [m].
        stop_lines: whether there are lines before junctions.
        arrows: whether there are arrows before junctions.
        crossings: whether there are zebra crossings before junctions.
        trees: density, 0 .. 1.
        houses: density, 0 .. 1.
        walls: density of walls and fences, 0 .. 1.
        hedges: density, 0 .. 1.
        poles: density of street lights and poles, 0 .. 1.
        near_m: distance from the road's edge at which the scenery begins [m].
        sun_rad: direction that light comes from, in the map frame [rad].
        shadow_per_height: length of a shadow by height.
        seed: of everything that is placed.
    """

    kerb_m: float = 0.3
    pavement_m: float = 0.0
    marking_m: float = 0.16
    dash_m: float = 3.0
    stop_lines: bool = False
    arrows: bool = False
    crossings: bool = False
    trees: float = 0.6
    houses: float = 0.25
    walls: float = 0.15
    hedges: float = 0.25
    poles: float = 0.3
    near_m: float = 3.2
    sun_rad: float = 0.507
    shadow_per_height: float = 0.8
    seed: int = 0

    @classmethod
    def drawn(cls, limits: Randomisation, seed: int) -> Roadside:
        """Return the roadside that belongs to the seed of a map."""
        rng = np.random.default_rng((seed, STREAM))
        paved = rng.random() < limits.pavement_share
        signs = (rng.random(3) < limits.sign_share).tolist()
        densities = rng.uniform(0.0, limits.scenery_most, 5) * (rng.random(5) < 0.75)
        width_m = rng.uniform(limits.pavement_least_m, limits.pavement_most_m)
        return cls(
            kerb_m=rng.uniform(limits.kerb_least_m, limits.kerb_most_m),
            pavement_m=width_m if paved else 0.0,
            marking_m=rng.uniform(limits.marking_width_least_m, limits.marking_width_most_m),
            dash_m=rng.uniform(limits.dash_least_m, limits.dash_most_m),
            stop_lines=signs[0],
            arrows=signs[1],
            crossings=signs[2],
            trees=float(densities[0]),
            houses=float(densities[1]),
            walls=float(densities[2]),
            hedges=float(densities[3]),
            poles=float(densities[4]),
            near_m=rng.uniform(0.6, 5.0),
            sun_rad=rng.uniform(-math.pi, math.pi),
            shadow_per_height=rng.uniform(0.2, 1.6),
            seed=seed,
        )


STREET = Roadside(
    pavement_m=2.2,
    stop_lines=True,
    crossings=True,
    arrows=True,
    trees=0.5,
    houses=0.8,
    walls=0.15,
    hedges=0.3,
    poles=0.6,
    near_m=2.8,
)
VILLAGE = Roadside(
    pavement_m=1.6, trees=0.6, houses=0.4, walls=0.2, hedges=0.4, poles=0.4, near_m=3.0
)
OPEN_COUNTRY = Roadside(trees=0.6, houses=0.05, walls=0.6, hedges=0.1, poles=0.5)
OF_BUILT_IN = {
    'oval': STREET,
    'town': STREET,
    'arterial': STREET,
    'winding': VILLAGE,
    'highway': OPEN_COUNTRY,
}


def default_roadside(map_name: str, seed: int) -> Roadside:
    """Return the fixed roadside of a map; what stands where still follows the seed."""
    return replace(OF_BUILT_IN.get(map_name, Roadside()), seed=seed)

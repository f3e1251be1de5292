# SPDX-License-Identifier: Apache-2.0
"""How the world looks in one episode: colours, textures, shadows, sky.

Colours are BGR at the *dullest* light, 0 .. 255: the world's light gain only brightens.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from td3_agent.sim.textures import (
    CLUMPS,
    COARSE,
    SHADOW_COUNT,
    SLABS,
    TEXTURE_COUNT,
)

if TYPE_CHECKING:
    import numpy as np

    from td3_agent.sim.randomisation import Randomisation

Bgr = tuple[float, float, float]

GRASS_BGR: Bgr = (42.0, 98.0, 74.0)
DRY_GRASS_BGR: Bgr = (70.0, 110.0, 122.0)
ASPHALT_BGR: Bgr = (56.0, 54.0, 53.0)
PAVEMENT_BGR: Bgr = (96.0, 98.0, 100.0)
KERB_BGR: Bgr = (112.0, 116.0, 118.0)
WHITE_BGR: Bgr = (182.0, 184.0, 184.0)
YELLOW_BGR: Bgr = (50.0, 150.0, 190.0)
BLUE_BGR: Bgr = (150.0, 90.0, 40.0)
SKY_TOP_BGR: Bgr = (190.0, 142.0, 100.0)
SKY_LOW_BGR: Bgr = (190.0, 182.0, 172.0)
BRIGHTEST = 190.0  # leaves room for the light gain
NO_SHADOWS = -1

# What stands beside the road is made of these; the order is that of ``Look.scenery``.
MATERIALS: dict[str, Bgr] = {
    'render': (150.0, 172.0, 182.0),
    'brick': (70.0, 84.0, 128.0),
    'stone': (128.0, 136.0, 138.0),
    'tiles': (50.0, 58.0, 104.0),
    'slate': (70.0, 66.0, 62.0),
    'glass': (92.0, 78.0, 66.0),
    'leaf': (32.0, 86.0, 52.0),
    'needle': (36.0, 62.0, 34.0),
    'bark': (40.0, 56.0, 70.0),
    'hedge': (30.0, 74.0, 48.0),
    'timber': (60.0, 84.0, 104.0),
    'metal': (104.0, 106.0, 104.0),
}


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the camera's picture is made of; the default is a fresh summer day.

    Attributes:
        verge: ground beside the road.
        road: what vehicles drive on.
        pavement: beside the road, for pedestrians.
        kerb: edge of the road.
        white: paint.
        yellow: paint.
        other: paint of any other colour.
        textures: numbers of the textures of verge, road and pavement.
        strengths: of these textures, 0: even.
        shadows: number of the scattered shadows, ``NO_SHADOWS``: none.
        shadow_depth: of all shadows; 0: none, 1: black.
        sky_top: high above the horizon.
        sky_low: at the horizon.
        scenery: colour of each of ``MATERIALS``.
        visible_m: distance at which things appear.
    """

    verge: Bgr = GRASS_BGR
    road: Bgr = ASPHALT_BGR
    pavement: Bgr = PAVEMENT_BGR
    kerb: Bgr = KERB_BGR
    white: Bgr = WHITE_BGR
    yellow: Bgr = YELLOW_BGR
    other: Bgr = BLUE_BGR
    textures: tuple[int, int, int] = (CLUMPS, COARSE, SLABS)
    strengths: tuple[float, float, float] = (0.35, 0.25, 0.3)
    shadows: int = NO_SHADOWS
    shadow_depth: float = 0.45
    sky_top: Bgr = SKY_TOP_BGR
    sky_low: Bgr = SKY_LOW_BGR
    scenery: tuple[Bgr, ...] = field(default=tuple(MATERIALS.values()))
    visible_m: float = 100.0

    @classmethod
    def drawn(cls, limits: Randomisation, rng: np.random.Generator) -> Look:
        """Return the look of one episode."""
        free = rng.random() < limits.free_colour_share
        road, *sides = _free_greys(limits, rng) if free else _natural_greys(rng)
        wear = rng.uniform(0.0, 0.4)
        scattered = rng.random() < limits.shadow_share
        return cls(
            verge=sides[0],
            road=road,
            pavement=sides[1],
            kerb=sides[2],
            **_paints(limits, rng, road, wear, free=free),
            textures=tuple(rng.integers(TEXTURE_COUNT, size=3).tolist()),
            strengths=tuple(rng.uniform(0.1, 1.0, 3) * limits.texture_strength),
            shadows=int(rng.integers(SHADOW_COUNT)) if scattered else NO_SHADOWS,
            shadow_depth=float(rng.uniform(0.2, 1.0) * limits.shadow_depth),
            sky_top=_grey(limits, rng),
            sky_low=_grey(limits, rng),
            scenery=tuple(_grey(limits, rng) if free else _near(colour, 0.4, rng)
                          for colour in MATERIALS.values()),
            visible_m=float(rng.uniform(limits.visible_least_m, limits.visible_most_m)),
        )  # fmt: skip


def _grey(limits: Randomisation, rng: np.random.Generator) -> Bgr:
    """Return a grey with a colour cast."""
    level = rng.uniform(limits.grey_least, limits.grey_most)
    cast = rng.uniform(-limits.chroma_levels, limits.chroma_levels, 3)
    b, g, r = (min(max(level + value - cast.mean(), 0.0), BRIGHTEST) for value in cast)
    return float(b), float(g), float(r)


def _free_greys(limits: Randomisation, rng: np.random.Generator) -> list[Bgr]:
    """Return road, verge, pavement and kerb, each from the same range: no order between them."""
    return [_grey(limits, rng) for _ in range(4)]


def _natural_greys(rng: np.random.Generator) -> list[Bgr]:
    grass = GRASS_BGR if rng.random() < 0.7 else DRY_GRASS_BGR
    return [_near(colour, 0.3, rng) for colour in (ASPHALT_BGR, grass, PAVEMENT_BGR, KERB_BGR)]


def _near(colour: Bgr, spread: float, rng: np.random.Generator) -> Bgr:
    """Return a colour that is lighter or darker, and slightly off in hue."""
    shade = rng.uniform(1.0 - spread, 1.0 + spread)
    b, g, r = (shade * rng.uniform(0.9, 1.1) * value for value in colour)
    return float(b), float(g), float(r)


def _paints(
    limits: Randomisation, rng: np.random.Generator, road: Bgr, wear: float, *, free: bool
) -> dict[str, Bgr]:
    """Return the paints by name: worn to the road, or so much brighter or darker than it."""
    if not free:
        return {
            name: _mixed(paint, road, wear)
            for name, paint in (('white', WHITE_BGR), ('yellow', YELLOW_BGR), ('other', BLUE_BGR))
        }
    paints = {}
    for name, hue in (('white', (1.0, 1.0, 1.0)), ('yellow', (0.5, 1.0, 1.2)),
                      ('other', (1.3, 0.9, 0.6))):  # fmt: skip
        over = rng.uniform(limits.paint_over_least, limits.paint_over_most)
        if rng.random() < limits.paint_darker_share:
            over = -over
        b, g, r = (
            min(max(level + over * share, 0.0), 255.0)
            for level, share in zip(road, hue, strict=True)
        )
        paints[name] = (float(b), float(g), float(r))
    return paints


def _mixed(one: Bgr, other: Bgr, share: float) -> Bgr:
    b, g, r = (a + share * (z - a) for a, z in zip(one, other, strict=True))
    return b, g, r

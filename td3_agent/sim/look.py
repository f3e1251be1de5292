# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""How the world looks in one episode, and how its pictures are taken.

Colours are BGR at the *dullest* light, 0 .. 255: the world's light gain only brightens. Exposure,
blur, noise, night and rain are applied to the image that the policy sees, after it is rendered;
all of it is constant over an episode but for the noise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from td3_agent.sim.textures import (
    CLUMPS,
    COARSE,
    SHADOW_COUNT,
    SLABS,
    TEXTURE_COUNT,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

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
GRAIN_FRAMES, GRAIN_LEVELS, GRAIN_CENTRE = 32, 25.0, 128
LEAST_BLUR_PX = 0.25  # less cannot be seen
OPAQUE = 255


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
        free = rng.random() < limits.free_colour_probability
        # Free ones are each from the same range: there is no order between them.
        greys = [_grey(limits, rng) for _ in range(4)] if free else _natural_greys(rng)
        road, *sides = greys
        wear = rng.uniform(0.0, 0.4)
        scattered = rng.random() < limits.shadow_probability
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


def _natural_greys(rng: np.random.Generator) -> list[Bgr]:
    """Return road, verge, pavement and kerb."""
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
        if rng.random() < limits.paint_darker_probability:
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


@dataclass(frozen=True, kw_only=True)
class Photometry:
    """How one episode's pictures are taken; by default as they are.

    Attributes:
        gamma: exponent of brightness, 1: unchanged.
        contrast: about the middle grey, 1: unchanged.
        offset_levels: added [of 255].
        blur_px: standard deviation of the lens blur [px].
        trail_px: length of the motion blur, sideways [px].
        noise_levels: standard deviation of pixel noise [of 255].
        darkness: how much light is missing far from the headlamps, 0: day.
        mist: how much of the picture's upper half is washed out, 0: none.
    """

    gamma: float = 1.0
    contrast: float = 1.0
    offset_levels: float = 0.0
    blur_px: float = 0.0
    trail_px: float = 0.0
    noise_levels: float = 0.0
    darkness: float = 0.0
    mist: float = 0.0

    @classmethod
    def drawn(cls, limits: Randomisation, rng: np.random.Generator) -> Photometry:
        """Return the photometry of one episode."""
        night = rng.random() < limits.night_probability
        rain = rng.random() < limits.rain_probability
        return cls(
            gamma=math.exp(rng.uniform(-limits.gamma_log, limits.gamma_log)),
            contrast=math.exp(rng.uniform(-limits.contrast_log, limits.contrast_log)),
            offset_levels=rng.uniform(-limits.offset_levels, limits.offset_levels),
            blur_px=rng.uniform(limits.blur_least_px, limits.blur_most_px),
            trail_px=rng.uniform(0.0, limits.motion_blur_px),
            noise_levels=rng.uniform(0.0, limits.noise_levels),
            darkness=rng.uniform(0.4, 0.75) * night,
            mist=rng.uniform(0.2, 0.7) * rain,
        )

    def applied(self, image: NDArray[np.uint8], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Return the picture as it is taken; alpha stays 255.

        Args:
            image: (H, W, 4) uint8 BGRA.
            rng: chooses the frame's noise.
        """
        shape = image.shape[0], image.shape[1]
        image = self._exposed(self._blurred(self._lit(image)))
        if not self.noise_levels:
            return image
        drawn = _grain(shape)[rng.integers(GRAIN_FRAMES)]
        weight = self.noise_levels / GRAIN_LEVELS
        # The grain is centred on 128; saturates, and leaves alpha as it was.
        return _bytes(cv2.addWeighted(image, 1.0, drawn, weight, -GRAIN_CENTRE * weight))

    def _lit(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if not (self.darkness or self.mist):
            return image
        light, glare = _weather((image.shape[0], image.shape[1]), self.darkness, self.mist)
        return _bytes(cv2.add(cv2.multiply(image, light, scale=1.0 / OPAQUE), glare))

    def _blurred(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self.blur_px <= LEAST_BLUR_PX and self.trail_px <= 1.0:
            return image
        return _bytes(cv2.sepFilter2D(image, -1, *_kernels(self.blur_px, self.trail_px)))

    def _exposed(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if (self.gamma, self.contrast, self.offset_levels) == (1.0, 1.0, 0.0):
            return image
        return _bytes(cv2.LUT(image, _table(self.gamma, self.contrast, self.offset_levels)))


def _bytes(image: cv2.typing.MatLike) -> NDArray[np.uint8]:
    return np.asarray(image, dtype=np.uint8)


@lru_cache(maxsize=4)
def _table(gamma: float, contrast: float, offset_levels: float) -> NDArray[np.uint8]:
    """Return (1, 256, 4): what becomes of each level of each channel."""
    levels = np.arange(256) / 255.0
    bent = 255.0 * (contrast * (levels**gamma - 0.5) + 0.5) + offset_levels
    table = np.full((1, 256, 4), OPAQUE, dtype=np.uint8)
    table[..., :3] = np.clip(np.rint(bent), 0.0, 255.0)[np.newaxis, :, np.newaxis]
    return table


@lru_cache(maxsize=4)
def _kernels(blur_px: float, trail_px: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the kernels across and along the picture, sum 1 each."""
    reach = math.ceil(3.0 * max(blur_px, LEAST_BLUR_PX))
    place = np.arange(-reach, reach + 1)
    lens = np.exp(-0.5 * (place / max(blur_px, 0.1)) ** 2)
    half = 0.5 * max(trail_px, 1.0)
    span = math.ceil(half - 0.5)
    edges = np.abs(np.arange(-span, span + 1))
    trail = np.clip(half + 0.5 - edges, 0.0, 1.0)
    across = np.convolve(lens, trail)
    return (
        np.asarray(across / across.sum(), dtype=np.float32),
        np.asarray(lens / lens.sum(), dtype=np.float32),
    )


@lru_cache(maxsize=4)
def _weather(
    shape: tuple[int, int], darkness: float, mist: float
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return (H, W, 4) light that falls on each pixel, and glare that is added to it."""
    height, width = shape
    v = (np.arange(height)[:, np.newaxis] + 0.5) / height
    u = (np.arange(width)[np.newaxis] + 0.5) / width - 0.5
    beam = np.exp(-((u / 0.45) ** 2) - ((v - 0.85) / 0.35) ** 2)
    haze = mist * np.exp(-(((v - 0.4) / 0.3) ** 2)) * np.ones_like(u)
    light = (1.0 - darkness * (1.0 - 0.9 * beam)) * (1.0 - haze)
    glare = 150.0 * haze * (1.0 - darkness)
    planes = []
    for plane, alpha in ((255.0 * light, OPAQUE), (glare, 0)):
        image = np.full((height, width, 4), alpha, dtype=np.uint8)
        image[..., :3] = np.rint(plane)[..., np.newaxis]
        planes.append(image)
    return planes[0], planes[1]


@lru_cache(maxsize=2)
def _grain(shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Return (GRAIN_FRAMES, H, W, 4) grey noise; the same always: only its use is random."""
    rng = np.random.default_rng(0)
    grain = np.full((GRAIN_FRAMES, *shape, 4), GRAIN_CENTRE, np.uint8)
    noise = rng.normal(GRAIN_CENTRE, GRAIN_LEVELS, (GRAIN_FRAMES, *shape, 1))
    grain[..., :3] = np.clip(noise, 0.0, 255.0)
    return grain

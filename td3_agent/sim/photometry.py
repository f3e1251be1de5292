# SPDX-License-Identifier: Apache-2.0
"""What a camera and the weather make of a picture: exposure, blur, noise, night, rain.

Applied to the image that the policy sees, after it is rendered. All of it is constant over an
episode but for the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from td3_agent.sim.randomisation import Randomisation

GRAIN_FRAMES, GRAIN_LEVELS, GRAIN_CENTRE = 32, 25.0, 128
LEAST_BLUR_PX = 0.25  # less cannot be seen
OPAQUE = 255


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
        night = rng.random() < limits.night_share
        rain = rng.random() < limits.rain_share
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

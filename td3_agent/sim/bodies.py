# SPDX-License-Identifier: Apache-2.0
"""Bodies of vehicles: kinds, sizes, paints, and the blocks that each is drawn with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

GLASS_BGR = (58, 50, 44)
DARK_BGR = (34, 34, 36)
SKIN_BGR = (90, 112, 150)
PAINTS_BGR = (
    (150, 40, 30), (36, 36, 140), (150, 150, 152), (40, 40, 42), (60, 110, 120),
    (178, 178, 178), (20, 20, 22), (96, 96, 98), (70, 100, 40), (50, 130, 170),
)  # fmt: skip
PAINTED, GLASS, DARK, SKIN, LIGHT = range(5)


class Part(NamedTuple):
    """A block of a body, in shares of its half length, half width and height.

    Attributes:
        back: where it begins, -1: at the rear.
        front: where it ends, 1: at the front.
        half_w: half its width.
        bottom: above the ground.
        top: above the ground.
        tint: ``PAINTED``, ``GLASS``, ``DARK``, ``SKIN`` or ``LIGHT``.
        storey: parts of a higher one stand on those below; side by side in one, none does.
    """

    back: float
    front: float
    half_w: float
    bottom: float
    top: float
    tint: int
    storey: int


@dataclass(frozen=True, kw_only=True)
class Body:
    """A kind of vehicle.

    Attributes:
        lengths_m: shortest and longest [m].
        widths_m: narrowest and widest [m].
        heights_m: lowest and highest [m].
        parts: blocks it is drawn with.
        share: of all vehicles.
        parked_share: of those that are parked.
    """

    lengths_m: tuple[float, float]
    widths_m: tuple[float, float]
    heights_m: tuple[float, float]
    parts: tuple[Part, ...]
    share: float
    parked_share: float


SALOON, HATCHBACK, VAN, TRUCK, BUS = 'car', 'hatchback', 'van', 'truck', 'bus'
MOTORCYCLE, BICYCLE = 'motorcycle', 'bicycle'
BODIES = {
    SALOON: Body(
        lengths_m=(4.1, 4.8), widths_m=(1.7, 1.95), heights_m=(1.35, 1.55),
        parts=(Part(-1.0, 1.0, 1.0, 0.12, 0.58, PAINTED, 0),
               Part(-0.8, 0.45, 0.88, 0.58, 1.0, GLASS, 1),
               Part(-0.55, 0.2, 0.8, 0.98, 1.02, PAINTED, 2)),
        share=0.42, parked_share=0.45,
    ),
    HATCHBACK: Body(
        lengths_m=(3.5, 4.2), widths_m=(1.6, 1.85), heights_m=(1.45, 1.75),
        parts=(Part(-1.0, 1.0, 1.0, 0.12, 0.55, PAINTED, 0),
               Part(-0.98, 0.5, 0.9, 0.55, 0.96, GLASS, 1),
               Part(-0.9, 0.25, 0.86, 0.94, 1.0, PAINTED, 2)),
        share=0.26, parked_share=0.3,
    ),
    VAN: Body(
        lengths_m=(4.9, 6.0), widths_m=(1.9, 2.1), heights_m=(2.0, 2.7),
        parts=(Part(-1.0, 0.72, 1.0, 0.1, 1.0, PAINTED, 0),
               Part(0.72, 1.0, 0.96, 0.1, 0.5, PAINTED, 0),
               Part(0.72, 0.88, 0.92, 0.5, 0.9, GLASS, 0),
               Part(-1.01, -1.0, 0.8, 0.55, 0.85, GLASS, 1)),
        share=0.1, parked_share=0.12,
    ),
    TRUCK: Body(
        lengths_m=(6.8, 9.0), widths_m=(2.1, 2.4), heights_m=(2.9, 3.7),
        parts=(Part(-1.0, 0.45, 1.0, 0.28, 1.0, LIGHT, 1),
               Part(-1.0, 0.95, 0.8, 0.1, 0.28, DARK, 0),
               Part(0.52, 1.0, 0.94, 0.12, 0.45, PAINTED, 1),
               Part(0.52, 0.98, 0.9, 0.45, 0.78, GLASS, 2)),
        share=0.07, parked_share=0.04,
    ),
    BUS: Body(
        lengths_m=(9.0, 10.5), widths_m=(2.3, 2.4), heights_m=(2.9, 3.2),
        parts=(Part(-1.0, 1.0, 1.0, 0.1, 0.45, PAINTED, 0),
               Part(-0.99, 0.99, 0.98, 0.45, 0.8, GLASS, 1),
               Part(-1.0, 1.0, 1.0, 0.8, 1.0, PAINTED, 2)),
        share=0.03, parked_share=0.0,
    ),
    MOTORCYCLE: Body(
        lengths_m=(1.9, 2.3), widths_m=(0.7, 0.9), heights_m=(1.55, 1.75),
        parts=(Part(-1.0, 1.0, 0.22, 0.0, 0.38, DARK, 0),
               Part(-0.6, 0.5, 0.4, 0.3, 0.55, PAINTED, 1),
               Part(-0.4, 0.2, 0.7, 0.5, 0.86, DARK, 2),
               Part(-0.25, 0.15, 0.35, 0.86, 1.0, LIGHT, 3)),
        share=0.06, parked_share=0.05,
    ),
    BICYCLE: Body(
        lengths_m=(1.6, 1.85), widths_m=(0.55, 0.7), heights_m=(1.6, 1.8),
        parts=(Part(-1.0, 1.0, 0.1, 0.0, 0.38, DARK, 0),
               Part(-0.35, 0.25, 0.45, 0.38, 0.55, DARK, 1),
               Part(-0.3, 0.3, 0.75, 0.52, 0.86, PAINTED, 2),
               Part(-0.1, 0.2, 0.32, 0.86, 1.0, SKIN, 3)),
        share=0.06, parked_share=0.04,
    ),
}  # fmt: skip
LONGEST_M = max(body.lengths_m[1] for body in BODIES.values())
WIDEST_M = max(body.widths_m[1] for body in BODIES.values())


class Looks(NamedTuple):
    """Kind, size [m] and paint of one vehicle."""

    kind: str
    length_m: float
    width_m: float
    height_m: float
    bgr: tuple[int, int, int]


def drawn_vehicle(
    rng: np.random.Generator, *, parked: bool = False, kinds: Sequence[str] = tuple(BODIES)
) -> Looks:
    """Return a vehicle as the road has them."""
    shares = np.array([
        BODIES[kind].parked_share if parked else BODIES[kind].share for kind in kinds
    ])  # fmt: skip
    kind = kinds[int(np.searchsorted(np.cumsum(shares) / shares.sum(), rng.random(), 'right'))]
    body = BODIES[kind]
    return Looks(
        kind,
        float(rng.uniform(*body.lengths_m)),
        float(rng.uniform(*body.widths_m)),
        float(rng.uniform(*body.heights_m)),
        PAINTS_BGR[int(rng.integers(len(PAINTS_BGR)))],
    )


def tint_bgr(tint: int, paint: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return the colour of a part of a vehicle with a paint."""
    if tint == PAINTED:
        return paint
    return {GLASS: GLASS_BGR, DARK: DARK_BGR, SKIN: SKIN_BGR, LIGHT: (150, 152, 152)}[tint]

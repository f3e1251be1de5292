# SPDX-License-Identifier: Apache-2.0
"""Families of roads: what is trained on is never validated or tested on.

The seed of a built-in map decides on the road; the families are disjoint ranges of it.
"""

from __future__ import annotations

import numpy as np

FAMILY_SIZE = 100_000
FAMILIES = {
    'training': range(FAMILY_SIZE),
    'validation': range(FAMILY_SIZE, 2 * FAMILY_SIZE),
    'test': range(2 * FAMILY_SIZE, 3 * FAMILY_SIZE),
}


def map_seed(family: str, seed: int, number: int) -> int:
    """Return the map seed of one road of a family.

    Args:
        family: a key of :data:`FAMILIES`.
        seed: chooses another series of roads, >= 0.
        number: of the road in its series, >= 0.

    Raises:
        ValueError: there is no such family.
    """
    if family not in FAMILIES:
        raise ValueError(f'family must be one of {", ".join(FAMILIES)}, got {family!r}')
    drawn = np.random.SeedSequence((seed, number)).generate_state(1)[0]
    return FAMILIES[family][int(drawn) % FAMILY_SIZE]

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Everything that is drawn, declared in one place: per map, per episode, and per frame.

A map keeps the geometry, paint and roadside that its seed gives it; its colours, textures,
shadows and light are drawn again for every episode. Roads are of families, disjoint ranges of
seeds: what is trained on is never validated or tested on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from td3_agent.driving.parameters import ParameterError, Params, param

PAIRED = '_least'
FAMILY_SIZE = 100_000
FAMILIES = {
    'training': range(FAMILY_SIZE),
    'validation': range(FAMILY_SIZE, 2 * FAMILY_SIZE),
    'test': range(2 * FAMILY_SIZE, 3 * FAMILY_SIZE),
}


def _fraction(default: float, text: str) -> Any:  # noqa: ANN401  as param
    return param(default, text, low=0.0, high=1.0)


@dataclass(frozen=True, kw_only=True)
class Randomisation(Params):
    """How far episodes and maps differ; a single number is drawn uniformly within +- it.

    Raises:
        ParameterError: a value out of range, or a ``least`` above its ``most``.
    """

    # Per episode: the start, and the actuators.
    places: int = param(
        0,
        'places on each road that episodes begin at, so that a road is painted where they are; '
        '0: anywhere',
        low=0,
        high=10_000,
    )
    lateral_m: float = param(1.0, 'start beside the centre', unit='m', low=0.0, high=2.0)
    heading_rad: float = param(0.2, 'start askew', unit='rad', low=0.0, high=1.0)
    moving_probability: float = _fraction(0.7, 'share of starts at speed')
    road_end_probability: float = _fraction(
        0.3, 'share of episodes that are sought to reach the end of the road'
    )
    approach_probability: float = _fraction(
        0.0, 'share of episodes that begin near the vehicle ahead, where there is one'
    )
    episode_shortest_s: float = param(
        0.0,
        'shortest episode; the time limit is the longest; 0: all last that long',
        unit='s',
        low=0.0,
        high=60.0,
    )
    disguise_probability: float = _fraction(
        0.0,
        'share of episodes with random numbers for yaw rate and last action, so that the policy '
        'must look at the picture',
    )
    held_probability: float = _fraction(
        0.0,
        'share of episodes in which the car cannot move, so that standing does not mean that a '
        'vehicle is ahead',
    )
    plain_probability: float = _fraction(
        0.0, 'share of episodes with the picture as the camera takes it, from its usual place'
    )
    late_probability: float = _fraction(
        0.3, 'share of episodes whose commands arrive a frame late'
    )

    # Per episode: the camera's mounting. Left and yaw stay small: a picture cannot tell a camera
    # that is mounted askew from a car that drives askew.
    camera_forward_m: float = param(0.4, 'camera, forward', unit='m', low=0.0, high=2.0)
    camera_left_m: float = param(0.05, 'camera, left', unit='m', low=0.0, high=1.0)
    camera_height_m: float = param(0.4, 'camera, up', unit='m', low=0.0, high=1.0)
    camera_pitch_deg: float = param(3.0, 'camera, nose down', unit='deg', low=0.0, high=10.0)
    camera_yaw_deg: float = param(0.7, 'camera, turned left', unit='deg', low=0.0, high=10.0)
    camera_roll_deg: float = param(1.0, 'camera, right side down', unit='deg', low=0.0, high=10.0)
    camera_fov_deg: float = param(5.0, 'camera, field of view', unit='deg', low=0.0, high=20.0)

    # Per episode: the picture. Noise is drawn again for every frame.
    gamma_log: float = param(0.6, 'logarithm of the exponent of brightness', low=0.0, high=1.5)
    contrast_log: float = param(0.3, 'logarithm of the contrast', low=0.0, high=1.5)
    offset_levels: float = param(25.0, 'brightness', unit='of 255', low=0.0, high=100.0)
    blur_least_px: float = param(0.3, 'deviation of the blur', unit='px', low=0.0, high=5.0)
    blur_most_px: float = param(1.8, 'deviation of the blur', unit='px', low=0.0, high=5.0)
    motion_blur_px: float = param(5.0, 'longest trail, sideways', unit='px', low=0.0, high=20.0)
    noise_levels: float = param(
        8.0, 'largest standard deviation of pixel noise', unit='of 255', low=0.0, high=50.0
    )
    night_probability: float = _fraction(0.1, 'share of episodes in the light of headlamps')
    rain_probability: float = _fraction(
        0.1, 'share of episodes with rain, mist and a road that glares'
    )

    # Per episode: colours of the ground, each drawn freely and independently of the others, so
    # that the road is as often brighter as darker than what lies beside it.
    free_colour_probability: float = _fraction(
        0.9, 'share of episodes with free colours; the others are near the natural ones'
    )
    grey_least: float = param(15.0, 'darkest ground', unit='of 255', low=0.0, high=255.0)
    grey_most: float = param(185.0, 'brightest ground', unit='of 255', low=0.0, high=255.0)
    chroma_levels: float = param(25.0, 'colour cast', unit='of 255', low=0.0, high=100.0)
    paint_over_least: float = param(
        10.0, 'paint over the road, faintest', unit='of 255', low=0.0, high=255.0
    )
    paint_over_most: float = param(
        120.0, 'paint over the road, strongest', unit='of 255', low=0.0, high=255.0
    )
    paint_darker_probability: float = _fraction(
        0.1, 'share of episodes whose paint is darker than the road'
    )

    # Per episode: textures and shadows.
    texture_strength: float = _fraction(
        1.0, 'strongest texture; 1 spans from black to double brightness'
    )
    shadow_probability: float = _fraction(
        0.6, 'share of episodes with shadows scattered over the ground'
    )
    plain_shadow_probability: float = _fraction(
        0.0, 'the same on roads in the default look, where a shadow resembles a vehicle the most'
    )
    shadow_depth: float = _fraction(0.75, 'darkest shadow; 1 is black')

    # Per episode: other vehicles.
    visible_least_m: float = param(
        60.0, 'distance at which things appear', unit='m', low=20.0, high=300.0
    )
    visible_most_m: float = param(
        120.0, 'distance at which things appear', unit='m', low=20.0, high=300.0
    )

    # Per map: lanes and markings of built-in maps.
    lane_width_least_m: float = param(2.8, 'width of a lane', unit='m', low=2.5, high=6.0)
    lane_width_most_m: float = param(4.0, 'width of a lane', unit='m', low=2.5, high=6.0)
    lanes_most: int = param(
        3, 'most lanes per direction, on maps that have several', low=2, high=4
    )
    marking_width_least_m: float = param(
        0.1, 'width of a painted line', unit='m', low=0.05, high=0.5
    )
    marking_width_most_m: float = param(
        0.3, 'width of a painted line', unit='m', low=0.05, high=0.5
    )
    edge_unmarked_probability: float = _fraction(0.4, 'share of roads without a line at the edge')
    dash_least_m: float = param(1.5, 'length of a dash', unit='m', low=0.5, high=10.0)
    dash_most_m: float = param(4.5, 'length of a dash', unit='m', low=0.5, high=10.0)

    # Per map: what lies and stands beside the road.
    kerb_least_m: float = param(0.1, 'width of a kerb', unit='m', low=0.0, high=1.0)
    kerb_most_m: float = param(0.45, 'width of a kerb', unit='m', low=0.0, high=1.0)
    pavement_probability: float = _fraction(0.6, 'share of roads with a pavement strip')
    pavement_least_m: float = param(0.8, 'width of a pavement', unit='m', low=0.0, high=10.0)
    pavement_most_m: float = param(4.0, 'width of a pavement', unit='m', low=0.0, high=10.0)
    sign_probability: float = _fraction(
        0.7, 'share of maps with each of stop lines, arrows and zebra crossings'
    )
    scenery_most: float = _fraction(
        1.0, 'largest density of each: trees, houses, walls, hedges, poles'
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        faults = []
        for name in (name for name in self.__dict__ if PAIRED in name):
            other = name.replace(PAIRED, '_most')
            low, high = getattr(self, name), getattr(self, other)
            if low > high:
                faults.append(f'{name} must be <= {other}, got {low:g} and {high:g}')
        if faults:
            raise ParameterError('; '.join(faults))


NOTHING_RANDOM = Randomisation(
    lateral_m=0.0,
    heading_rad=0.0,
    moving_probability=0.0,
    road_end_probability=0.0,
    late_probability=0.0,
    camera_forward_m=0.0,
    camera_left_m=0.0,
    camera_height_m=0.0,
    camera_pitch_deg=0.0,
    camera_yaw_deg=0.0,
    camera_roll_deg=0.0,
    camera_fov_deg=0.0,
    gamma_log=0.0,
    contrast_log=0.0,
    offset_levels=0.0,
    blur_least_px=0.0,
    blur_most_px=0.0,
    motion_blur_px=0.0,
    noise_levels=0.0,
    night_probability=0.0,
    rain_probability=0.0,
)


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

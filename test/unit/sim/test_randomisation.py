# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What is drawn stays within its ranges and families, and shows roads of both polarities."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.parameters import ParameterError, describe
from td3_agent.sim.look import BRIGHTEST, MATERIALS, NO_SHADOWS, Look, Photometry
from td3_agent.sim.randomisation import FAMILIES, NOTHING_RANDOM, Randomisation, map_seed
from td3_agent.sim.roadside import Roadside

LIMITS = Randomisation()
naturals = st.integers(0, 2**32)


def looks(count, **limits):
    return [Look.drawn(Randomisation(**limits), np.random.default_rng(i)) for i in range(count)]


def test_every_range_has_a_unit_or_is_a_probability():
    for name, _, unit, allowed, text in describe(Randomisation):
        assert text
        assert unit or 'in [0, ' in allowed or name == 'lanes_most', name


@pytest.mark.parametrize(
    ('faulty', 'text'),
    [
        ({'blur_least_px': 2.0, 'blur_most_px': 1.0}, 'blur_least_px must be <= blur_most_px'),
        ({'lane_width_least_m': 5.0}, 'lane_width_least_m must be <= lane_width_most_m, got 5'),
        ({'night_probability': 1.5}, r'night_probability must be in \[0, 1\], got 1.5'),
    ],
)
def test_contradictory_ranges_are_refused(faulty, text):
    with pytest.raises(ParameterError, match=text):
        Randomisation(**faulty)


@pytest.mark.parametrize('side', ['verge', 'pavement', 'kerb'])
def test_road_is_as_often_brighter_as_darker_than_its_sides(side):
    drawn = looks(400, free_colour_probability=1.0)
    brighter = np.mean([np.mean(look.road) > np.mean(getattr(look, side)) for look in drawn])
    assert brighter == pytest.approx(0.5, abs=0.08)


def test_greys_are_independent_of_each_other():
    drawn = looks(400, free_colour_probability=1.0)
    greys = np.array([[np.mean(c) for c in (k.road, k.verge, k.pavement, k.kerb)] for k in drawn])
    apart = np.corrcoef(greys.T) - np.eye(4)
    assert np.abs(apart).max() < 0.2
    assert greys.min() < 30.0
    assert greys.max() > 160.0
    assert greys.max() <= BRIGHTEST


def test_paint_stands_out_from_the_road_by_the_declared_levels():
    drawn = looks(200, free_colour_probability=1.0, chroma_levels=0.0)
    over = np.array([np.mean(look.white) - np.mean(look.road) for look in drawn])
    darker = over < 0.0
    assert darker.mean() == pytest.approx(LIMITS.paint_darker_probability, abs=0.05)
    assert over.max() <= LIMITS.paint_over_most
    bright = np.array([np.mean(look.white) for look in drawn]) >= 255.0
    assert over[~darker & ~bright].min() >= LIMITS.paint_over_least - 1e-6


def test_looks_follow_their_seed_and_name_textures_that_exist():
    one, other = looks(2), looks(2)
    assert one == other
    assert one[0] != one[1]
    assert all(len(look.scenery) == len(MATERIALS) for look in one)


def test_shadows_can_be_left_out():
    assert all(look.shadows == NO_SHADOWS for look in looks(20, shadow_probability=0.0))
    assert all(look.shadows != NO_SHADOWS for look in looks(20, shadow_probability=1.0))


def test_nothing_random_takes_pictures_as_they_are():
    assert Photometry.drawn(NOTHING_RANDOM, np.random.default_rng(0)) == Photometry()


def test_roadsides_belong_to_the_seed_of_their_map():
    drawn = [Roadside.drawn(LIMITS, seed) for seed in range(40)]
    assert drawn[3] == Roadside.drawn(LIMITS, 3)
    assert len(set(drawn)) == 40
    assert {side.stop_lines for side in drawn} == {True, False}
    assert all(LIMITS.kerb_least_m <= side.kerb_m <= LIMITS.kerb_most_m for side in drawn)
    assert {side.pavement_m == 0.0 for side in drawn} == {True, False}


@given(seed=naturals, number=naturals, family=st.sampled_from(tuple(FAMILIES)))
def test_road_is_of_its_family_and_always_the_same(seed, number, family):
    road = map_seed(family, seed, number)
    assert road in FAMILIES[family]
    assert road == map_seed(family, seed, number)


def test_families_are_disjoint():
    for one, other in combinations(FAMILIES.values(), 2):
        assert not set(one) & set(other)


def test_series_differ():
    series = {seed: [map_seed('test', seed, n) for n in range(50)] for seed in (0, 1)}
    assert len(set(series[0])) == 50
    assert not set(series[0]) & set(series[1])


def test_unknown_family_is_refused():
    with pytest.raises(ValueError, match=r"family must be one of .* got 'holiday'"):
        map_seed('holiday', 0, 0)

# SPDX-License-Identifier: Apache-2.0
"""No road belongs to two families."""

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.sim.randomisation import FAMILIES, map_seed

naturals = st.integers(0, 2**32)


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

# SPDX-License-Identifier: Apache-2.0
"""Noise on actions: how large, and how it fades."""

from hypothesis import given
from hypothesis import strategies as st
import pytest

from td3_agent.td3.params import Td3Params
from td3_agent.training.exploration import noise_at

FADING = Td3Params(exploration_noise=0.3, exploration_noise_end=0.1, exploration_decay_steps=1000)


@pytest.mark.parametrize(
    ('step', 'noise'), [(0, 0.3), (250, 0.25), (500, 0.2), (1000, 0.1), (10**9, 0.1)]
)
def test_noise_fades_evenly(step, noise):
    assert noise_at(step, FADING) == pytest.approx(noise)


@given(step=st.integers(0, 10**9))
def test_noise_stays_where_it_does_not_fade(step):
    assert noise_at(step, Td3Params(exploration_noise=0.3)) == 0.3

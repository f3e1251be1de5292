# SPDX-License-Identifier: Apache-2.0
"""Exposure, blur and noise against their closed forms."""

import numpy as np
import pytest

from td3_agent.sim.look import Photometry


def flat(level, shape=(40, 60)):
    image = np.full((*shape, 4), level, dtype=np.uint8)
    image[..., 3] = 255
    return image


def taken(image, **settings):
    return Photometry(**settings).applied(image, np.random.default_rng(0))


def test_by_default_a_picture_is_left_as_it_is():
    image = flat(77)
    assert np.array_equal(taken(image), image)


@pytest.mark.parametrize(
    ('settings', 'expected'),
    [
        ({'gamma': 2.0}, 255.0 * (100 / 255) ** 2),
        ({'contrast': 0.5}, 127.5 + 0.5 * (100 - 127.5)),
        ({'offset_levels': 30.0}, 130.0),
        ({'offset_levels': -200.0}, 0.0),
    ],
)
def test_exposure_follows_its_formula(settings, expected):
    image = taken(flat(100), **settings)
    assert np.abs(image[..., :3] - round(expected)).max() <= 1
    assert (image[..., 3] == 255).all()


def test_blur_has_the_deviation_and_the_trail_that_it_is_given():
    image = flat(0, (61, 61))
    image[30, 30, :3] = 255
    wide = np.zeros_like(image)
    wide[..., 3] = 255
    wide[:, 30, :3] = 255  # a line: only its columns are spread
    seen = taken(wide, blur_px=1.5)[30, :, 0].astype(float)
    place = np.arange(61) - 30.0
    assert (seen * place).sum() == pytest.approx(0.0, abs=1.0)
    assert np.sqrt((seen * place**2).sum() / seen.sum()) == pytest.approx(1.5, rel=0.1)
    trail = taken(wide, trail_px=9.0)[30, :, 0]
    assert np.count_nonzero(trail) == pytest.approx(9, abs=2)
    upright = taken(np.swapaxes(wide, 0, 1).copy(), trail_px=9.0)
    assert np.count_nonzero(upright[:, 30, 0]) <= 3


def test_night_is_darkest_away_from_the_beam_and_mist_is_brightest_at_the_horizon():
    night = taken(flat(120), darkness=0.8)[..., 0]
    assert night[33, 30] > 2 * night[2, 2]
    misty = taken(flat(20), mist=0.6)[..., 0]
    assert misty[16, 30] > misty[39, 30] + 20


def test_noise_depends_on_the_generator_alone():
    image = flat(120)
    one, other = (
        Photometry(noise_levels=6.0).applied(image, np.random.default_rng(seed)) for seed in (1, 1)
    )
    assert np.array_equal(one, other)
    assert (one[..., 3] == 255).all()

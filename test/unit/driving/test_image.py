# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Images: exact pixels, and messages that are rejected."""

from fractions import Fraction
import hashlib
import math
import tracemalloc

from harness.images import ORDER, SMALL, STOPPED, moving, pixels_of, view
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from td3_agent.driving.observation import (
    ENCODINGS,
    ImageError,
    ImageView,
    ObservationBuilder,
    ObservationSpec,
    grey_from_image,
    resize_area,
)


def bt601(pixels, encoding):
    """Return the real-valued luma of ITU-R BT.601."""
    at = ORDER[encoding].index
    red, green, blue = (pixels[:, :, at(colour)].astype(float) for colour in 'rgb')
    return 0.299 * red + 0.587 * green + 0.114 * blue


@pytest.mark.parametrize('encoding', ORDER)
def test_grey_is_within_one_level_of_the_real_valued_formula(encoding):
    pixels = pixels_of(64, 64, len(ORDER[encoding]))
    grey = grey_from_image(view(pixels, encoding))
    assert grey.dtype == np.uint8
    assert np.abs(grey - bt601(pixels, encoding)).max() < 1.0


@pytest.mark.parametrize('encoding', ORDER)
def test_grey_of_every_corner_of_the_colour_cube(encoding):
    channels = len(ORDER[encoding])
    corners = np.array(
        [[0 if i >> c & 1 == 0 else 255 for c in range(channels)] for i in range(8)], np.uint8
    )[np.newaxis]
    grey = grey_from_image(view(corners, encoding))
    assert np.abs(grey - bt601(corners, encoding)).max() < 1.0
    assert (grey.min(), grey.max()) == (0, 255) or channels == 4


@pytest.mark.parametrize('encoding', ['bgra8', 'rgba8'])
def test_alpha_does_not_matter(encoding):
    pixels = pixels_of(8, 8, 4)
    other = pixels.copy()
    other[:, :, 3] = 255 - other[:, :, 3]
    np.testing.assert_array_equal(
        grey_from_image(view(pixels, encoding)), grey_from_image(view(other, encoding))
    )


def test_same_scene_is_the_same_grey_in_every_colour_encoding():
    rgb = pixels_of(16, 16, 3)
    opaque = np.full((16, 16, 1), 255, np.uint8)
    scenes = {
        'rgb8': rgb,
        'bgr8': rgb[:, :, ::-1],
        'rgba8': np.concatenate((rgb, opaque), axis=2),
        'bgra8': np.concatenate((rgb[:, :, ::-1], opaque), axis=2),
    }
    greys = [grey_from_image(view(pixels, encoding)) for encoding, pixels in scenes.items()]
    for grey in greys[1:]:
        np.testing.assert_array_equal(grey, greys[0])


def test_mono_is_taken_as_it_is():
    pixels = pixels_of(16, 24, 1)
    np.testing.assert_array_equal(grey_from_image(view(pixels, 'mono8')), pixels[:, :, 0])


@pytest.mark.parametrize('encoding', ENCODINGS)
@pytest.mark.parametrize('padding', [1, 3, 64])
def test_row_padding_is_skipped(encoding, padding):
    pixels = pixels_of(10, 13, ENCODINGS[encoding][0])
    np.testing.assert_array_equal(
        grey_from_image(view(pixels, encoding, padding)), grey_from_image(view(pixels, encoding))
    )


@given(
    st.sampled_from(list(ENCODINGS)),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.integers(0, 9),
    st.floats(0.0, 0.9),
    st.integers(0, 2**32 - 1),
)
def test_grey_is_the_integer_formula_from_any_row_on(enc, size, padding, cut, seed):
    height, width = size
    pixels = pixels_of(height, width, ENCODINGS[enc][0], seed)
    first_row = int(height * cut)
    red, green, blue = (pixels[:, :, at].astype(int) for at in ENCODINGS[enc][1])
    luma = (77 * red + 150 * green + 29 * blue + 128) >> 8
    grey = grey_from_image(view(pixels, enc, padding), first_row)
    np.testing.assert_array_equal(grey, luma[first_row:])


@pytest.mark.parametrize('shift', [0, 1, 2, 3])
def test_pixels_may_begin_at_any_address(shift):
    pixels = pixels_of(9, 11, 4)
    data = memoryview(bytes(shift) + pixels.tobytes())[shift:]
    image = ImageView(data=data, height=9, width=11, encoding='bgra8', step=44)
    np.testing.assert_array_equal(grey_from_image(image), grey_from_image(view(pixels, 'bgra8')))


@pytest.mark.parametrize('kind', [bytes, bytearray, memoryview, np.frombuffer])
def test_any_buffer_will_do(kind):
    raw = pixels_of(8, 8, 3).tobytes()
    data = np.frombuffer(raw, dtype=np.uint8) if kind is np.frombuffer else kind(raw)
    image = ImageView(data=data, height=8, width=8, encoding='rgb8', step=24)
    assert image.pixels().tobytes() == raw


def area_reference(grey, height, width):
    """Return area means by summing: every input pixel split exactly over what it covers."""
    return split(split(grey.astype(np.float64), height).T, width).T


def split(values, size):
    source = values.shape[0]
    total = np.zeros((size, values.shape[1]))
    for out in range(size):
        low, high = Fraction(out * source, size), Fraction((out + 1) * source, size)
        for row in range(math.floor(low), math.ceil(high)):
            share = (min(high, row + 1) - max(low, row)) / (high - low)
            total[out] += float(share) * values[row]
    return total


@pytest.mark.parametrize(
    ('height', 'width'),
    [(120, 160), (600, 800), (1080, 1920), (60, 50), (84, 85), (1, 1), (7, 500)],
)
def test_resize_is_the_area_mean_within_one_level(height, width):
    grey = pixels_of(height, width, 1)[:, :, 0]
    small = resize_area(grey, 84, 84)
    assert small.shape == (84, 84)
    assert small.dtype == np.uint8
    assert np.abs(small - area_reference(grey, 84, 84)).max() <= 0.51


def test_resize_agrees_with_opencv_within_one_level():
    cv2 = pytest.importorskip('cv2', reason='OpenCV is the reference here, and nowhere else')
    for height, width in ((120, 160), (600, 800), (1080, 1920)):
        grey = pixels_of(height, width, 1)[:, :, 0]
        reference = cv2.resize(grey, (84, 84), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(resize_area(grey, 84, 84) - reference).max() <= 1


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.integers(8, 100),
    st.integers(8, 100),
    st.integers(0, 2**32 - 1),
)
def test_resize_is_exact_in_integers(height, width, out_height, out_width, seed):
    """However it is computed, not one level may differ: policies were trained on these."""
    grey = pixels_of(height, width, 1, seed)[:, :, 0]
    rows, columns = integer_weights(height, out_height), integer_weights(width, out_width)
    exact = (rows @ grey.astype(np.int64) @ columns.T + (1 << 31)) >> 32
    if (height, width) != (out_height, out_width):
        np.testing.assert_array_equal(resize_area(grey, out_height, out_width), exact)


def integer_weights(source, size):
    """Return the share of each input row in each output row, (size, source), in 1/65536."""
    edges = np.arange(size + 1) * source / size
    low, high = edges[:-1, np.newaxis], edges[1:, np.newaxis]
    row = np.arange(source)
    overlap = np.clip(np.minimum(row + 1, high) - np.maximum(row, low), 0.0, None)
    bounds = np.rint(np.cumsum(overlap * (size / source), axis=1) * 65536)
    return np.diff(bounds, axis=1, prepend=0.0).astype(np.int64)


# Hashes of observations of seeded noise, with crop_top 0 and 0.35: what the policies that ship
# were trained on. A change here asks for new policies.
PINNED = {
    ('bgra8', 120, 160): 'fb2844e5b6294ee6',
    ('bgra8', 600, 800): 'fd1570bde858560a',
    ('bgra8', 1080, 1920): 'b396cf706c249b5c',
    ('bgra8', 84, 84): '5aecf2a02c0ed4a0',
    ('bgra8', 50, 60): '6cd09e4d1d42ade3',
    ('rgba8', 120, 160): 'e08a784c4182c9f6',
    ('rgba8', 600, 800): 'db21aa3d14267ec5',
    ('rgba8', 1080, 1920): '16f58a51c0475f52',
    ('rgba8', 84, 84): '588ee1c691949564',
    ('rgba8', 50, 60): 'c9c1be8a255780c4',
    ('bgr8', 120, 160): 'eb653749becb47a6',
    ('bgr8', 600, 800): '34c1eac01c30ae94',
    ('bgr8', 1080, 1920): '4bf7a9232a52d721',
    ('bgr8', 84, 84): '2e6bb7f43c306408',
    ('bgr8', 50, 60): '892be3269cb8d556',
    ('rgb8', 120, 160): '2125ea3f97496d2b',
    ('rgb8', 600, 800): 'f47bdb9b2fd52463',
    ('rgb8', 1080, 1920): '40f4a80fac479683',
    ('rgb8', 84, 84): 'e9544cbcf9ca06fc',
    ('rgb8', 50, 60): '7fb41c052c14b1a8',
    ('mono8', 120, 160): 'da24f8219a9e57b9',
    ('mono8', 600, 800): '84a38ac24b9530ab',
    ('mono8', 1080, 1920): '04eb4aa44dfc8a5c',
    ('mono8', 84, 84): 'eceb7b0a212447f0',
    ('mono8', 50, 60): '0e8c06ae1c9dde92',
}


@pytest.mark.parametrize(('encoding', 'height', 'width'), PINNED)
def test_observations_are_what_the_policies_were_trained_on(encoding, height, width):
    image = view(pixels_of(height, width, ENCODINGS[encoding][0]), encoding, padding=5)
    digest = hashlib.sha256()
    for crop_top in (0.0, 0.35):
        builder = ObservationBuilder(ObservationSpec(crop_top=crop_top, frame_stack=1))
        digest.update(builder.build(image, moving(), STOPPED).image.tobytes())
    assert digest.hexdigest()[:16] == PINNED[encoding, height, width]


def test_resize_by_a_whole_factor_is_the_mean_of_blocks():
    grey = pixels_of(168, 336, 1)[:, :, 0]
    means = grey.reshape(84, 2, 84, 4).mean(axis=(1, 3))
    assert np.abs(resize_area(grey, 84, 84) - means).max() <= 0.5


def test_image_of_the_wanted_size_is_not_touched():
    grey = pixels_of(84, 84, 1)[:, :, 0]
    np.testing.assert_array_equal(resize_area(grey, 84, 84), grey)


@given(
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(8, 100),
    st.integers(8, 100),
    st.sampled_from([0, 1, 127, 128, 254, 255]),
)
def test_constant_image_stays_constant(height, width, out_height, out_width, level):
    grey = np.full((height, width), level, dtype=np.uint8)
    assert (resize_area(grey, out_height, out_width) == level).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(8, 40), st.integers(0, 2**32 - 1))
def test_resized_levels_stay_between_darkest_and_brightest(height, width, size, seed):
    grey = pixels_of(height, width, 1, seed)[:, :, 0]
    small = resize_area(grey, size, size)
    assert grey.min() <= small.min()
    assert small.max() <= grey.max()


def test_resize_keeps_left_left_and_top_top():
    grey = np.zeros((120, 160), dtype=np.uint8)
    grey[:60, :80] = 200  # upper left quarter
    small = resize_area(grey, 84, 84)
    assert (small[:41, :41] == 200).all()
    assert (small[43:] == 0).all()
    assert (small[:, 43:] == 0).all()


def message(**fields):
    """Return a good 4 x 4 message with some fields replaced."""
    good = {'data': bytes(64), 'height': 4, 'width': 4, 'encoding': 'bgra8', 'step': 16}
    return ImageView(**(good | fields))


def test_the_message_that_the_others_spoil_is_good():
    assert message().pixels().shape == (4, 4, 4)


@pytest.mark.parametrize('encoding', ['', '16UC1', '32FC1', 'yuv422', 'BGRA8', 'bayer_rggb8'])
def test_other_encodings_are_rejected_by_name(encoding):
    with pytest.raises(ImageError, match=f'encoding must be one of bgra8, .* got {encoding!r}'):
        message(encoding=encoding)


@pytest.mark.parametrize(
    ('fields', 'text'),
    [
        ({'height': 0}, r'height must be in \[1, 8192\] \[px\], got 0'),
        ({'width': 0, 'step': 0}, r'width must be in \[1, 8192\] \[px\], got 0'),
        ({'height': 0, 'width': 0, 'step': 0, 'data': b''}, 'height must be'),
        ({'height': -4}, 'height must be'),
        ({'step': 15, 'data': bytes(60)}, r'step must be >= 16 \[bytes\] .* got 15'),
        ({'step': 0, 'data': b''}, r'step must be >= 16'),
        ({'data': bytes(63)}, r'data must hold step \* height = 64 bytes, got 63'),
        ({'data': b''}, r'data must hold step \* height = 64 bytes, got 0'),
        ({'data': bytes(65)}, r'data must hold step \* height = 64 bytes, got 65'),
        ({'data': bytes(128)}, r'data must hold step \* height = 64 bytes, got 128'),
        ({'encoding': 'rgb8', 'step': 11, 'data': bytes(44)}, r'step must be >= 12 .* rgb8'),
        ({'height': 8193, 'data': bytes(8193 * 16)}, 'height must be'),
    ],
)
def test_fields_that_contradict_each_other_are_rejected(fields, text):
    with pytest.raises(ImageError, match=text):
        message(**fields)


def test_huge_header_over_tiny_data_is_rejected_before_anything_is_allocated():
    tracemalloc.start()
    try:
        for side in (65535, 8192):
            with pytest.raises(ImageError):
                message(height=side, width=side, step=4 * side, data=bytes(4))
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@given(
    st.binary(max_size=200),
    st.integers(0, 2**32 - 1) | st.integers(0, 12),
    st.integers(0, 2**32 - 1) | st.integers(0, 12),
    st.sampled_from([*ENCODINGS, 'mono16', '']),
    st.integers(0, 2**32 - 1) | st.integers(0, 50),
)
def test_any_header_is_either_rejected_or_an_image(data, height, width, encoding, step):
    try:
        image = ImageView(data=data, height=height, width=width, encoding=encoding, step=step)
    except ImageError:
        return
    observation = ObservationBuilder(SMALL).build(image, moving(), STOPPED)
    assert observation.image.shape == (3, 8, 8)

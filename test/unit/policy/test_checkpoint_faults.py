# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Every fault in the content of a checkpoint is rejected by name."""

import contextlib
from pathlib import Path
import tempfile

from harness.checkpoints import (
    IMAGE,
    NAME,
    SMALL,
    STATE,
    edit,
    nested,
    parts_of,
    rejection,
    set_tensors,
    tensors_of,
    vouch,
    write,
)
from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import safetensors.torch
import torch

from td3_agent.driving.loop_check import CameraView, Contract
from td3_agent.driving.observation import ENCODINGS
from td3_agent.policy.checkpoint import load_checkpoint
from td3_agent.policy.manifest import (
    DRIVING,
)
from td3_agent.policy.policy_file import CheckpointError


def test_the_camera_of_the_training_may_be_missing_and_is_read_where_it_is_not(broken):
    _, manifest = load_checkpoint(broken)
    assert manifest.inputs.contract() == Contract(rate_hz=20.0, encodings=tuple(ENCODINGS))
    camera = {'width_px': 160, 'height_px': 120, 'fov_deg': 90.0}
    edit(broken, nested('inputs', 'image', 'camera', value=camera))
    _, manifest = load_checkpoint(broken)
    assert manifest.inputs.contract().camera == CameraView(**camera)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (nested('schema', value=3), 'schema is 3, expected 2'),
        (nested('schema', value='1'), "schema is '1', expected 2"),
        (nested('schema', value=True), 'schema is True, expected 2'),
        (nested('surprise', value=1), "'surprise' is unknown"),
        (nested('actor', 'surprise', value=1), "actor.'surprise' is unknown"),
        (nested('inputs', 'state', 0, 'surprise', value=1), "inputs.state.0.'surprise' is unk"),
        (lambda c: c.pop('actor'), 'missing required field `actor`'),
        (lambda c: c['inputs']['image'].pop('crop_top'), 'missing required field `crop_top`'),
        (lambda c: c['inputs']['image'].pop('colour'), "inputs.image.'colour' is missing"),
        (lambda c: c['actor'].pop('hidden'), "actor.'hidden' is missing"),
        (nested('kind', value=3), 'Expected `str`, got `int` - at `$.kind`'),
        (nested('kind', value='other'), "kind is 'other', expected"),
        (nested('trained', value=1), 'Expected `bool`, got `int` - at `$.trained`'),
        (nested('training', value=[]), 'Expected `object`, got `array` - at `$.training`'),
        (nested('created_by', value='me'), 'at `$.created_by`'),
        (nested('inputs', value=None), 'at `$.inputs`'),
        (nested('inputs', 'rate_hz', value=None), 'expected a rate'),
        (nested('inputs', 'rate_hz', value=0), 'inputs.rate_hz is 0.0, expected > 0'),
        (nested('inputs', 'rate_hz', value=10**400), 'manifest: not valid'),
        (nested('inputs', 'image', value=None), 'inputs.image is None, expected an image'),
        (nested('inputs', 'image', 'encodings', value=[]), 'encodings is (), expected of bgra8'),
        (nested('inputs', 'image', 'encodings', value=['yuv']), "('yuv',), expected of bgra8"),
        (nested('inputs', 'image', 'colour', value='rgb'), "colour is 'rgb', expected grey"),
        (nested('inputs', 'image', 'normalisation', value='x'), "normalisation is 'x'"),
        (nested('inputs', 'image', 'frame_stack', value=99), 'frame_stack must be in [1, 32]'),
        (nested('inputs', 'image', 'crop_top', value=1), 'crop_top must be in [0, 0.9], got 1'),
        (
            nested(
                *('inputs', 'image', 'camera'),
                value={'width_px': 0, 'height_px': 120, 'fov_deg': None},
            ),
            'width_px must be >= 1 [px], got 0 - at `$.inputs.image.camera`',
        ),
        (nested('inputs', 'image', 'camera', value=90), 'at `$.inputs.image.camera`'),
        (nested('inputs', 'state', 0, 'unit', value='km/h'), 'inputs.state is '),
        (nested('inputs', 'state', 0, 'scale', value=0), 'inputs.state[0].scale is 0.0'),
        (nested('inputs', 'state', 0, 'scale', value='8'), 'at `$.inputs.state[0].scale`'),
        (nested('outputs', 'actions', 0, 'high', value=10.0), 'outputs.actions is '),
        (nested('outputs', 'actions', 0, 'high', value=-1.0), 'outputs.actions[0].low is 0.0'),
        (nested('outputs', 'twist_convention', value='upstream'), 'expected velocity'),
        (nested('outputs', 'speed_smoothing_s', value=-0.1), 'outputs.speed_smoothing_s is -0.1'),
        (nested('outputs', 'speed_smoothing_s', value=9.0), 'expected in [0, 2] [s] for driving'),
        (
            nested('outputs', 'yaw_rate_smoothing_s', value=9.0),
            'outputs.yaw_rate_smoothing_s is 9',
        ),
        (nested('actor', 'image_shape', value=[4, 84]), 'length 3 - at `$.actor.image_shape`'),
        (nested('actor', 'image_shape', value=[4, 85, 84]), 'actor.image_shape is (4, 85, 84)'),
        (nested('actor', 'image_shape', value=[4, 1 << 30, 84]), 'image_shape must be within'),
        (nested('actor', 'image_shape', value=None), 'actor.image_shape is None'),
        (nested('actor', 'state_size', value=4.5), 'at `$.actor.state_size`'),
        (nested('actor', 'state_size', value=5), 'actor.state_size is 5, expected 4'),
        (nested('actor', 'hidden', value=[-1]), 'hidden must have'),
        (nested('actor', 'hidden', value='256'), 'at `$.actor.hidden`'),
        (nested('actor', 'hidden', value=[10**30]), 'hidden must have'),
        (nested('actor', 'conv', value=[[4, 8]]), 'length 3 - at `$.actor.conv[0]`'),
        (nested('actor', 'conv', value=[[4096, 1, 1]] * 8), 'multiplications'),
        (nested('actor', 'action_high', value=[2.0, 1.0]), 'actor.action_high is (2.0, 1.0)'),
        (nested('weights_sha256', value='0' * 64), 'SHA-256 of the weights is'),
    ],
)
def test_wrong_manifest_is_rejected_by_field_and_value(broken, change, message):
    edit(broken, change)
    assert message in rejection(broken)


def test_all_contradictions_of_a_manifest_are_named_at_once(broken):
    def change(content):
        content['kind'] = 'other'
        content['actor']['state_size'] = 5
        content['inputs']['rate_hz'] = -1

    edit(broken, change)
    reason = rejection(broken)
    for field in ('kind is', 'actor.state_size is', 'inputs.rate_hz is'):
        assert f'manifest: {field}' in reason


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('not json', 'manifest: not valid: JSON is malformed'),
        ('[]', 'manifest: not valid: Expected `object`, got `array`'),
        ('{"schema": NaN}', 'manifest: not valid: JSON is malformed'),
        ('{"schema": 1e999}', 'manifest: not valid'),
        ('[' * 100_000, 'manifest: not valid'),
        ('{"schema": 2, "training": ' + '[' * 900 + ']' * 900 + '}', 'manifest: '),
    ],
)
def test_manifest_that_is_no_json_object(broken, text, message):
    header, body = parts_of(broken)
    header['__metadata__']['manifest'] = text
    write(broken, header, body)
    assert message in rejection(broken)


@pytest.mark.parametrize('header', [b'not json', b'\xff\xfe{}', b'[]', b'null', b'[' * 100_000])
def test_header_that_is_no_json_object(broken, header):
    write(broken, header, b'')
    assert 'header: not valid' in rejection(broken)


def test_file_without_a_manifest(broken):
    broken.write_bytes(safetensors.torch.save(tensors_of(broken)))
    assert "its metadata has no 'manifest'" in rejection(broken)


# ---- Reading: the weights, with a manifest that vouches for them --------------------------------


def test_wrong_shape_missing_and_foreign_tensors_are_all_named(broken):
    tensors = tensors_of(broken)
    tensors['head.weight'] = tensors['head.weight'].reshape(8, 2)
    tensors['foreign'] = tensors.pop('head.bias')
    set_tensors(broken, tensors)
    reason = rejection(broken)
    assert "tensor 'foreign' is ('F32', [2]), expected no such tensor" in reason
    assert "tensor 'head.bias' is 'missing', expected ('F32', [2])" in reason
    assert "tensor 'head.weight' is ('F32', [8, 2]), expected ('F32', [2, 8])" in reason


@pytest.mark.parametrize('dtype', [torch.int32, torch.float32, torch.float64])
def test_wrong_dtype(broken, dtype):
    tensors = tensors_of(broken)
    tensors['head.bias'] = tensors['head.bias'].to(dtype)
    set_tensors(broken, tensors)
    if dtype == torch.float32:
        load_checkpoint(broken)
    else:
        assert "tensor 'head.bias' is (" in rejection(broken)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(broken, bad):
    tensors = tensors_of(broken)
    tensors['head.bias'][0] = bad
    set_tensors(broken, tensors)
    assert 'weight head.bias is not finite' in rejection(broken)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (nested('head.bias', 'data_offsets', value=[0, 8]), ''),
        (nested('head.bias', 'data_offsets', value=[10**12, 10**12 + 8]), ''),
        (nested('head.bias', 'data_offsets', value=['a', 'b']), ''),
        (nested('head.bias', 'data_offsets', value=None), ''),
        (nested('head.bias', value=[]), 'header: not valid'),
        (nested('head.bias', value={}), "tensor 'head.bias' is (None, None)"),
        (nested('head.bias', 'shape', value=[10**18]), "tensor 'head.bias' is ("),
        (nested('__metadata__', value=[1, 2]), 'header: not valid'),
    ],
)
def test_forged_header(broken, change, message):
    header, body = parts_of(broken)
    change(header)
    write(broken, header, body)
    assert message in rejection(broken)


def test_forged_header_length(broken):
    data = broken.read_bytes()
    for length in (0, len(data), 1 << 40, (1 << 64) - 1):
        broken.write_bytes(length.to_bytes(8, 'little') + data[8:])
        assert f'header length is {length}' in rejection(broken)


def test_bytes_left_over(broken):
    broken.write_bytes(broken.read_bytes() + b'\0' * 16)
    vouch(broken)
    assert 'bytes of weights, but the architecture needs' in rejection(broken)


# ---- Any damage ---------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    place=st.floats(0.0, 1.0, exclude_max=True),
    in_header=st.booleans(),
    junk=st.binary(min_size=1, max_size=40),
    insert=st.booleans(),
    vouched=st.booleans(),
)
def test_random_damage_is_rejected_or_harmless(  # noqa: PLR0913
    good, good_action, place, in_header, junk, insert, vouched
):
    """A rejection by name, or the very same policy; who fixes the hash too gets a finite one."""
    data = good.read_bytes()
    reach = len(data) - len(parts_of(good)[1]) if in_header else len(data)
    start = int(place * reach)
    end = start if insert else start + len(junk)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / NAME
        path.write_bytes(data[:start] + junk + data[end:])
        with contextlib.suppress(ValueError, LookupError, TypeError, AttributeError):
            if vouched:
                vouch(path)
        try:
            policy, _ = load_checkpoint(path, kind=DRIVING)
        except CheckpointError as error:
            assert error.faults  # noqa: PT017  either outcome is right
        else:
            assert policy.config == SMALL
            if not vouched:
                np.testing.assert_array_equal(policy.action(STATE, IMAGE), good_action)

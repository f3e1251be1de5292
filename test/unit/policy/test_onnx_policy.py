# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Exports to ONNX: the same answers, or no export; and none that belongs to other weights."""

import dataclasses
import hashlib
import json
import shutil
import sys

import numpy as np
import pytest
import torch

from td3_agent.__main__ import main
from td3_agent.policy import onnx_policy
from td3_agent.policy.checkpoint import load_checkpoint, save_checkpoint
from td3_agent.policy.manifest import (
    DRIVING,
    DRIVING_ACTOR,
    GYMNASIUM,
    ActionField,
    ActorConfig,
    InputContract,
    OutputContract,
    StateField,
    driving_inputs,
    driving_outputs,
)
from td3_agent.policy.onnx_policy import (
    TOLERANCE,
    export_policy,
    load_onnx_policy,
    onnx_file,
    record_file,
    sample_observations,
)
from td3_agent.policy.policy import PolicyError, build_actor
from td3_agent.policy.policy_file import CheckpointError

NAME = 'policy.safetensors'
SMALL = dataclasses.replace(DRIVING_ACTOR, conv=((4, 8, 4), (4, 4, 2)), features=4, hidden=(8,))
BLIND = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0, 0.0), action_high=(2.0, 9.0), hidden=(8,)
)
BLIND_CONTRACT = {
    'kind': GYMNASIUM,
    'inputs': InputContract(
        image=None, state=tuple(StateField(name=n, unit='1') for n in 'abc'), rate_hz=None
    ),
    'outputs': OutputContract(
        actions=(
            ActionField(name='u', unit='1', low=-2.0, high=2.0),
            ActionField(name='v', unit='1', low=0.0, high=9.0),
        ),
        twist_convention=None,
    ),
}


def save(path, config=SMALL, seed=0, **changes):
    actor = build_actor(config, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        actor.head.weight.mul_(300.0)  # fresh ones hardly answer anything but zero
    parts = {'kind': DRIVING, 'inputs': driving_inputs(), 'outputs': driving_outputs()}
    return save_checkpoint(path, actor, trained=True, **{**parts, **changes})


@pytest.fixture(scope='module')
def needs_onnx():
    for name in ('onnx', 'onnxruntime'):
        pytest.importorskip(name, reason=f'{name} is optional, and not installed')


@pytest.fixture(scope='module')
def good(tmp_path_factory, request):
    """One exported checkpoint; tests copy it before they break it."""
    request.getfixturevalue('needs_onnx')
    path = tmp_path_factory.mktemp('exported') / NAME
    save(path)
    export_policy(path)
    return path


@pytest.fixture
def exported(good, tmp_path):
    for file in (good, onnx_file(good), record_file(good)):
        shutil.copy(file, tmp_path)
    return tmp_path / NAME


def test_answers_are_those_of_torch(good):
    torch_policy, _ = load_checkpoint(good)
    policy, manifest = load_onnx_policy(good, kind=DRIVING)
    assert manifest.kind == DRIVING
    assert policy.trained
    rng = np.random.default_rng(3)
    answers = []
    for _ in range(50):
        state = rng.normal(0.0, 1.0, 4).astype(np.float32)
        image = rng.integers(0, 256, (4, 84, 84), dtype=np.uint8)
        answers.append(policy.action(state, image))
        np.testing.assert_allclose(
            answers[-1], torch_policy.action(state, image), rtol=0.0, atol=TOLERANCE
        )
        assert answers[-1].dtype == np.float32
    assert np.std(answers, axis=0).min() > 0.01  # it does answer


@pytest.mark.usefixtures('needs_onnx')
def test_policy_without_eyes_and_with_unequal_bounds(tmp_path):
    save(tmp_path / NAME, BLIND, **BLIND_CONTRACT)
    record = export_policy(tmp_path / NAME)
    assert record.largest_difference <= record.tolerance
    policy, _ = load_onnx_policy(tmp_path / NAME)
    action = policy.action(np.ones(3, dtype=np.float32))
    expected, _ = load_checkpoint(tmp_path / NAME)
    np.testing.assert_allclose(action, expected.action(np.ones(3, dtype=np.float32)), atol=1e-3)


def test_it_refuses_what_does_not_fit_as_torch_does(good):
    policy, _ = load_onnx_policy(good)
    with pytest.raises(PolicyError, match=r'state must be \(4,\) float32'):
        policy.action(np.zeros(5, dtype=np.float32), np.zeros((4, 84, 84), dtype=np.uint8))
    with pytest.raises(PolicyError, match='action is not finite'):
        policy.action(np.full(4, np.nan, np.float32), np.zeros((4, 84, 84), dtype=np.uint8))


def test_record_says_what_was_compared(good):
    record = json.loads(record_file(good).read_text('utf-8'))
    _, manifest = load_checkpoint(good)
    assert record['weights_sha256'] == manifest.weights_sha256
    assert record['observations'] > 64
    assert 0.0 <= record['largest_difference'] <= record['tolerance'] == TOLERANCE


def test_exporting_again_gives_the_same(exported):
    before = {file: file.read_bytes() for file in (onnx_file(exported), record_file(exported))}
    export_policy(exported)
    assert before == {file: file.read_bytes() for file in before}


def refused(path, text):
    with pytest.raises(CheckpointError, match=text) as error:
        load_onnx_policy(path)
    assert 'td3_agent export' in str(error.value)


def test_missing_export_says_how_to_make_one(exported):
    record_file(exported).unlink()
    refused(exported, r'policy\.onnx\.json: missing')


def test_stale_export_is_refused_by_name(exported):
    save(exported, seed=1)
    refused(exported, r'export: stale, exported from weights \w{12}, expected \w{12}')


def test_changed_export_is_refused(exported):
    data = bytearray(onnx_file(exported).read_bytes())
    data[len(data) // 2] ^= 1
    onnx_file(exported).write_bytes(data)
    refused(exported, r'export: SHA-256 is \w{64}, expected \w{64}')


def test_export_of_another_network_is_refused_although_its_digest_fits(exported, tmp_path):
    """A digest can be recomputed by whoever changes the file; the answers cannot."""
    other = tmp_path / 'other.safetensors'
    save(other, seed=1)
    export_policy(other)
    shutil.copyfile(onnx_file(other), onnx_file(exported))
    record = json.loads(record_file(exported).read_text('utf-8'))
    record['onnx_sha256'] = json.loads(record_file(other).read_text('utf-8'))['onnx_sha256']
    record_file(exported).write_text(json.dumps(record), 'utf-8')
    refused(exported, r'export: observation 1 is answered .* expected <= 0\.0001')


@pytest.mark.parametrize(
    ('change', 'text'),
    [
        ({'schema': 2}, 'schema is 2, expected 1'),
        ({'opset': 'x'}, r'Expected `int`, got `str` - at `\$.opset`'),
    ],
)
def test_record_of_another_kind_is_refused(exported, change, text):
    record = json.loads(record_file(exported).read_text('utf-8')) | change
    record_file(exported).write_text(json.dumps(record), 'utf-8')
    with pytest.raises(CheckpointError, match=text):
        load_onnx_policy(exported)


def test_rubbish_with_the_right_digest_is_refused_by_the_runtime(exported):
    onnx_file(exported).write_bytes(b'no model')
    record = json.loads(record_file(exported).read_text('utf-8'))
    record['onnx_sha256'] = hashlib.sha256(b'no model').hexdigest()
    record_file(exported).write_text(json.dumps(record), 'utf-8')
    refused(exported, 'ONNX Runtime refused it')


def test_model_with_other_inputs_is_refused(exported, tmp_path):
    save(tmp_path / 'blind.safetensors', BLIND, **BLIND_CONTRACT)
    actor = load_checkpoint(tmp_path / 'blind.safetensors')[0].actor
    policy, _ = load_checkpoint(exported)
    with pytest.raises(ValueError, match='inputs and outputs are'):
        onnx_policy.OnnxPolicy(policy.actor, onnx_policy.onnx_model(actor), trained=True)


@pytest.mark.usefixtures('needs_onnx')
def test_nothing_is_written_where_the_answers_differ(tmp_path, monkeypatch):
    path = tmp_path / NAME
    save(path)
    save(tmp_path / 'seed1.safetensors', seed=1)
    wrong = onnx_policy.onnx_model(load_checkpoint(tmp_path / 'seed1.safetensors')[0].actor)
    monkeypatch.setattr(onnx_policy, 'onnx_model', lambda _: wrong)
    with pytest.raises(CheckpointError, match='not exported: observation'):
        export_policy(path)
    assert not onnx_file(path).exists()
    assert not record_file(path).exists()


def test_without_the_library_the_sentence_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'onnxruntime', None)
    save(tmp_path / NAME)
    for use in (load_onnx_policy, export_policy):
        with pytest.raises(ValueError, match=r'needs the package onnx.*, which is not'):
            use(tmp_path / NAME)


def test_sample_observations_reach_the_edges_and_repeat():
    states, images = zip(*sample_observations(SMALL, 4), strict=True)
    assert {int(image.min()) for image in images} >= {0, 255}
    assert max(float(np.abs(state).max()) for state in states) == 100.0
    again = [image for _, image in sample_observations(SMALL, 4)]
    for one, other in zip(images, again, strict=True):
        np.testing.assert_array_equal(one, other)


class TestVerb:
    def test_copy_with_export(self, good, tmp_path, capsys):
        out = tmp_path / 'out'
        with pytest.raises(SystemExit) as ended:
            main(['export', str(good), '--out', str(out)])
        assert ended.value.code == 0
        assert 'largest difference' in capsys.readouterr().out
        load_onnx_policy(out / NAME)

    def test_folder_in_use_is_refused(self, good, tmp_path, capsys):
        (tmp_path / 'file').touch()
        with pytest.raises(SystemExit) as ended:
            main(['export', str(good), '--out', str(tmp_path)])
        assert ended.value.code == 2
        assert '--out must name a folder that is new or empty' in capsys.readouterr().err

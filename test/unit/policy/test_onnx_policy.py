# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime, NumPy and PyTorch give the same actions, or no policy and no export."""

import dataclasses
import sys

import numpy as np
import pytest

pytest.importorskip('onnxruntime', reason='onnxruntime is optional, and not installed')
torch = pytest.importorskip('torch')

from td3_agent.__main__ import main  # noqa: E402
from td3_agent.evaluation.export import export_policy  # noqa: E402
from td3_agent.policy import onnx_policy  # noqa: E402
from td3_agent.policy.checkpoint import load_checkpoint, save_checkpoint  # noqa: E402
from td3_agent.policy.manifest import (  # noqa: E402
    DRIVING,
    DRIVING_ACTOR,
    ActorConfig,
    driving_inputs,
    driving_outputs,
)
from td3_agent.policy.network_driver import PolicyError  # noqa: E402
from td3_agent.policy.onnx_policy import (  # noqa: E402
    TOLERANCE,
    OnnxPolicy,
    numpy_action,
    sample_observations,
)
from td3_agent.policy.policy import Policy, build_actor  # noqa: E402
from td3_agent.policy.policy_file import CheckpointError  # noqa: E402

NAME = 'policy.safetensors'
SMALL = dataclasses.replace(DRIVING_ACTOR, conv=((4, 8, 4), (4, 4, 2)), features=4, hidden=(8,))
BLIND = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0, 0.0), action_high=(2.0, 9.0), hidden=(8,)
)
STATELESS = dataclasses.replace(SMALL, state_size=0, conv=((3, 5, 3),), hidden=(8, 8, 8))


def actor_of(config, seed=0):
    actor = build_actor(config, torch.Generator().manual_seed(seed))
    with torch.no_grad():
        actor.head.weight.mul_(300.0)  # fresh ones hardly answer anything but zero
    return actor


def weights_of(actor):
    return {name: tensor.detach().numpy() for name, tensor in actor.state_dict().items()}


def onnx_of(actor):
    return OnnxPolicy(actor.config, weights_of(actor), trained=True)


@pytest.fixture
def saved(tmp_path):
    contract = {'inputs': driving_inputs(), 'outputs': driving_outputs()}
    save_checkpoint(tmp_path / NAME, actor_of(SMALL), kind=DRIVING, trained=True, **contract)
    return tmp_path / NAME


@pytest.mark.parametrize('config', [SMALL, BLIND, STATELESS, DRIVING_ACTOR])
def test_actions_are_those_of_torch_and_of_numpy(config):
    actor = actor_of(config)
    policy = onnx_of(actor)
    expected = Policy(actor, trained=True)
    observations = [*sample_observations(config, 20)]
    largest, count = policy.compare(expected.action, observations)
    assert largest <= TOLERANCE
    assert count == len(observations) == 29
    answers = [policy.action(*observation) for observation in observations]
    assert np.std(answers, axis=0).min() > 0.01  # it does answer
    assert {answer.dtype for answer in answers} == {np.dtype(np.float32)}
    for observation in observations:
        in_numpy = numpy_action(config, weights_of(actor), *observation)
        np.testing.assert_allclose(in_numpy, expected.action(*observation), rtol=0.0, atol=1e-4)


def test_it_rejects_what_does_not_fit_as_torch_does():
    policy = onnx_of(actor_of(SMALL))
    image = np.zeros((4, 84, 84), dtype=np.uint8)
    with pytest.raises(PolicyError, match=r'state must be \(4,\) float32'):
        policy.action(np.zeros(5, dtype=np.float32), image)
    with pytest.raises(PolicyError, match='action is not finite'):
        policy.action(np.full(4, np.nan, np.float32), image)


@pytest.mark.parametrize('change', [1.001, float('nan')])
def test_a_runtime_with_other_actions_is_rejected(monkeypatch, change):
    monkeypatch.setattr(onnx_policy, 'numpy_action', lambda *a: change * numpy_action(*a))
    with pytest.raises(ValueError, match=r'action of ONNX Runtime for observation \d+ is \['):
        onnx_of(actor_of(SMALL))


def test_a_model_that_the_runtime_rejects_is_told(monkeypatch):
    monkeypatch.setattr(onnx_policy, 'onnx_model', lambda *_: b'no model')
    with pytest.raises(ValueError, match='ONNX Runtime rejects the model'):
        onnx_of(actor_of(SMALL))


def test_sample_observations_reach_the_edges_and_repeat():
    states, images = zip(*sample_observations(SMALL, 4), strict=True)
    assert {int(image.min()) for image in images} >= {0, 255}
    assert max(float(np.abs(state).max()) for state in states) == 100.0
    again = [image for _, image in sample_observations(SMALL, 4)]
    for one, other in zip(images, again, strict=True):
        np.testing.assert_array_equal(one, other)


# ---- Export -------------------------------------------------------------------------------------


def test_export_answers_as_torch_does(saved, tmp_path, capsys):
    out = tmp_path / 'new' / 'folder'
    with pytest.raises(SystemExit) as ended:
        main(['export', str(saved), '--out', str(out)])
    assert ended.value.code == 0
    assert 'largest difference' in capsys.readouterr().out
    import onnxruntime

    session = onnxruntime.InferenceSession(out / 'policy.onnx')
    policy, _ = load_checkpoint(saved)
    for state, image in sample_observations(SMALL, 3):
        feeds = {'state': state[np.newaxis], 'image': image[np.newaxis]}
        (found,) = session.run(['action'], feeds)[0]
        np.testing.assert_allclose(found, policy.action(state, image), rtol=0.0, atol=TOLERANCE)


def test_nothing_is_written_where_the_actions_differ(saved, tmp_path, monkeypatch):
    other = Policy(actor_of(SMALL, seed=1), trained=True)
    monkeypatch.setattr('td3_agent.evaluation.export.load_checkpoint', lambda _: (other, None))
    with pytest.raises(CheckpointError, match='not exported: action of ONNX Runtime'):
        export_policy(saved, tmp_path / 'new.onnx')
    assert [*tmp_path.iterdir()] == [saved]


@pytest.mark.parametrize('name', ['onnx', 'onnxruntime'])
def test_without_a_library_the_sentence_says_what_is_missing(saved, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=f'export needs {name}, which is not installed'):
        export_policy(saved, saved.with_suffix('.onnx'))

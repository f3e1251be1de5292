# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what is written is read back exactly, and anything else is rejected by name."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from pathlib import Path
import pickle
import runpy
import shutil
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import safetensors.torch
import torch

from td3_agent.driving.loop_check import CameraView, Contract
from td3_agent.driving.observation import ENCODINGS, ObservationSpec
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
from td3_agent.policy.policy import build_actor
from td3_agent.policy.policy_file import CheckpointError, policy_file, read_manifest

ROOT = Path(__file__).parents[3]
SMALL = dataclasses.replace(DRIVING_ACTOR, conv=((4, 8, 4), (4, 4, 2)), features=4, hidden=(8,))
PENDULUM = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0,), action_high=(2.0,), hidden=(8,)
)
RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 256, (4, 84, 84), dtype=np.uint8)
STATE = np.array([0.5, 0.1, -1.0, 0.0], dtype=np.float32)
NAME = 'policy.safetensors'


def actor_of(config=SMALL, seed=0):
    return build_actor(config, torch.Generator().manual_seed(seed))


def save(path, actor=None, **changes):
    parts = {
        'kind': DRIVING,
        'trained': True,
        'inputs': driving_inputs(),
        'outputs': driving_outputs(),
        'training': {'steps': 1000, 'seed': 3},
    }
    return save_checkpoint(path, actor or actor_of(), **{**parts, **changes})


@pytest.fixture(scope='module')
def good(tmp_path_factory):
    """One good checkpoint; tests copy it before they break it."""
    path = tmp_path_factory.mktemp('good') / NAME
    save(path)
    return path


@pytest.fixture(scope='module')
def good_action(good):
    """What the good policy answers."""
    return load_checkpoint(good)[0].action(STATE, IMAGE)


@pytest.fixture
def broken(good, tmp_path):
    return Path(shutil.copy(good, tmp_path / NAME))


def rejection(path, **kwargs):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **kwargs)
    assert repr(str(path)) in str(caught.value)
    return '; '.join(caught.value.faults)


def parts_of(path):
    """Return header and tensors' bytes of a file."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], 'little')
    return json.loads(data[8:end]), data[end:]


def write(path, header, body):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, 'little') + text + body)


def edit(path, change):
    """Change the manifest with ``change(content)`` and write it back."""
    header, body = parts_of(path)
    content = json.loads(header['__metadata__']['manifest'])
    change(content)
    header['__metadata__']['manifest'] = json.dumps(content)
    write(path, header, body)


def vouch(path):
    """Have the manifest vouch for the bytes that are there."""
    digest = hashlib.sha256(parts_of(path)[1]).hexdigest()
    edit(path, lambda content: content.update(weights_sha256=digest))


def set_tensors(path, tensors):
    """Put other tensors there, with a manifest that vouches for them."""
    manifest = parts_of(path)[0]['__metadata__']
    path.write_bytes(safetensors.torch.save(tensors, manifest))
    vouch(path)


def tensors_of(path):
    return safetensors.torch.load(path.read_bytes())


# ---- What is written is read back ---------------------------------------------------------------


@pytest.mark.parametrize('config', [SMALL, DRIVING_ACTOR])
def test_loaded_policy_acts_bit_for_bit_like_the_saved_one(tmp_path, config):
    actor = actor_of(config, seed=5).eval()
    with torch.no_grad():
        actor.head.weight.mul_(300.0)
        expected = actor(torch.from_numpy(STATE)[None], torch.from_numpy(IMAGE)[None])[0].numpy()
    save(tmp_path / NAME, actor)
    policy, manifest = load_checkpoint(tmp_path / NAME, kind=DRIVING)
    np.testing.assert_array_equal(policy.action(STATE, IMAGE), expected)
    assert policy.trained
    assert policy.config == config
    assert manifest == read_manifest(tmp_path / NAME)


def test_policy_that_sees_its_route_says_so(tmp_path):
    spec = ObservationSpec(path=True, crop_top=0.25)
    config = dataclasses.replace(SMALL, state_size=spec.state_size)
    manifest = save(tmp_path / NAME, actor_of(config), inputs=driving_inputs(spec))
    assert load_checkpoint(tmp_path / NAME, kind=DRIVING)[1] == manifest
    assert manifest.observation_spec == spec
    assert [field.name for field in manifest.inputs.state[4:6]] == ['route_x_0', 'route_y_0']


def test_route_points_of_another_kind_are_rejected(tmp_path):
    spec = ObservationSpec(path=True)
    save(
        tmp_path / NAME,
        actor_of(dataclasses.replace(SMALL, state_size=spec.state_size)),
        inputs=driving_inputs(spec),
    )
    edit(tmp_path / NAME, lambda c: c['inputs']['state'][5].update(scale=12.0))
    assert 'inputs.state' in rejection(tmp_path / NAME)


def test_manifest_says_what_the_policy_needs_and_means(good):
    manifest = read_manifest(good)
    assert manifest.inputs == driving_inputs()
    assert manifest.inputs.rate_hz == 20.0
    assert manifest.observation_spec == ObservationSpec()
    assert [field.name for field in manifest.outputs.actions] == ['linear_x', 'angular_z']
    assert manifest.outputs.twist_convention == 'velocity'
    assert manifest.created_by.torch == torch.__version__
    assert manifest.training == {'steps': 1000, 'seed': 3}
    assert manifest.weights_sha256 == hashlib.sha256(parts_of(good)[1]).hexdigest()


def test_manifest_is_readable_where_there_is_only_safetensors(good):
    with safetensors.safe_open(good, 'np') as file:
        text = file.metadata()['manifest']
    assert text.count('\n') > 40
    assert json.loads(text)['training'] == {'steps': 1000, 'seed': 3}


def test_same_actor_same_bytes(good, tmp_path):
    save(tmp_path / NAME)
    assert (tmp_path / NAME).read_bytes() == good.read_bytes()


def test_another_task_than_driving(tmp_path):
    save_checkpoint(
        tmp_path / 'pendulum.safetensors',
        actor_of(PENDULUM),
        kind=GYMNASIUM,
        trained=False,
        inputs=InputContract(
            image=None, state=tuple(StateField(name=n, unit='1') for n in 'xyv'), rate_hz=None
        ),
        outputs=OutputContract(
            actions=(ActionField(name='torque', unit='N m', low=-2.0, high=2.0),),
            twist_convention=None,
        ),
    )
    policy, manifest = load_checkpoint(tmp_path / 'pendulum.safetensors')
    assert not policy.trained
    assert manifest.training == {}
    with pytest.raises(ValueError, match='takes no image'):
        _ = manifest.observation_spec
    assert policy.action(np.zeros(3, dtype=np.float32)).shape == (1,)
    reason = rejection(tmp_path / 'pendulum.safetensors', kind=DRIVING)
    assert "kind is 'gymnasium', expected 'driving'" in reason


def test_loading_leaves_the_global_generator_alone(good):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_checkpoint(good)
    assert torch.equal(torch.rand(3), expected)


def test_link_to_a_checkpoint_is_followed(good, tmp_path):
    (tmp_path / 'latest.safetensors').symlink_to(good)
    load_checkpoint(tmp_path / 'latest.safetensors')


# ---- Writing: whole or not at all ---------------------------------------------------------------


def test_new_checkpoint_replaces_the_old_one(tmp_path):
    save(tmp_path / NAME, actor_of(seed=0))
    save(tmp_path / NAME, actor_of(seed=1))
    policy, _ = load_checkpoint(tmp_path / NAME)
    assert torch.equal(policy.actor.head.weight, actor_of(seed=1).head.weight)
    assert [path.name for path in tmp_path.iterdir()] == [NAME]


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('failing', ['write', 'fsync', 'move'])
def test_full_disk_leaves_the_old_checkpoint_as_it_was(tmp_path, monkeypatch, failing):
    save(tmp_path / NAME)
    before = snapshot(tmp_path)

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    where = {'write': (os, 'fdopen'), 'fsync': (os, 'fsync'), 'move': (Path, 'replace')}[failing]
    monkeypatch.setattr(*where, full)
    with pytest.raises(CheckpointError, match=r'cannot be written: .*No space left'):
        save(tmp_path / NAME, actor_of(seed=1))
    monkeypatch.undo()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'training': {'loss': float('nan')}}, 'manifest: Out of range float'),
        ({'training': {'actor': object()}}, 'manifest: .*not JSON serializable'),
        ({'kind': 'other'}, "kind is 'other', expected"),
        ({'inputs': driving_inputs(rate_hz=-1.0)}, 'inputs.rate_hz is -1.0'),
        ({'inputs': driving_inputs(ObservationSpec(frame_stack=3))}, 'actor.image_shape is'),
        ({'training': {'log': 'x' * (1 << 20)}}, 'header length is'),
    ],
)
def test_what_could_not_be_loaded_is_not_written(tmp_path, changes, message):
    save(tmp_path / NAME)
    before = snapshot(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / NAME, **changes)
    assert snapshot(tmp_path) == before


def test_broken_weights_are_not_written(tmp_path):
    actor = actor_of()
    with torch.no_grad():
        actor.trunk[0].weight[0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r'weight trunk.0.weight is not finite'):
        save(tmp_path / NAME, actor)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_is_never_replaced(tmp_path):
    (tmp_path / 'file.safetensors').write_text('precious')
    (tmp_path / 'model.safetensors').write_bytes(safetensors.torch.save({'a': torch.ones(2)}))
    (tmp_path / 'folder.safetensors').mkdir()
    (tmp_path / 'link.safetensors').symlink_to(tmp_path / 'file.safetensors')
    before = snapshot(tmp_path)
    for name in ('file', 'model', 'folder', 'link'):
        with pytest.raises(CheckpointError, match='is there'):
            save(tmp_path / f'{name}.safetensors')
    with pytest.raises(CheckpointError, match=r"ends in '.pt', expected .safetensors"):
        save(tmp_path / 'policy.pt')
    assert snapshot(tmp_path) == before


# ---- Reading: files -----------------------------------------------------------------------------


def test_missing(tmp_path):
    assert 'No such file or directory, expected a .safetensors file' in rejection(tmp_path / NAME)
    assert rejection(tmp_path) == 'a folder, expected a .safetensors file'
    assert 'null' in rejection('with\0null')


@pytest.mark.parametrize('share', [0.0, 0.001, 0.1, 0.5, 0.99])
def test_truncated(broken, share):
    data = broken.read_bytes()
    broken.write_bytes(data[: int(share * len(data))])
    reason = rejection(broken)
    assert 'empty (0 bytes)' in reason or 'header length is' in reason or 'bytes of w' in reason
    assert share > 0.0 or 'empty (0 bytes)' in reason


def test_one_flipped_bit_in_the_weights(broken):
    data = bytearray(broken.read_bytes())
    data[-3] ^= 1
    broken.write_bytes(data)
    assert 'SHA-256 of the weights is ' in rejection(broken)


def test_pipe_in_the_place_of_a_file(tmp_path):
    os.mkfifo(tmp_path / NAME)
    assert rejection(tmp_path / NAME) == 'not a regular file'


def test_git_lfs_pointer(broken):
    broken.write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    assert rejection(broken) == 'a Git LFS pointer in the place of the file: git lfs pull'


class TestAnotherFileIsMeant:
    """A folder was named: the text ends with where a policy is, or what the folder is."""

    def test_the_run_of_a_training(self, good, tmp_path):
        run = tmp_path / 'train' / 'lane'
        names = ('best', 'policies/step_000001000', 'policies/step_000002000', '.half')
        for name in (*names, 'snapshots/step_000002000/state'):
            (run / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(good, run / f'{name}.safetensors')
        assert rejection(run).endswith(
            f'; did you mean {run}/best.safetensors? also there: '
            f'{run}/policies/step_000001000.safetensors, '
            f'{run}/policies/step_000002000.safetensors'
        )
        assert f'; did you mean {run}/best.safetensors?' in rejection(tmp_path / 'train')

    @pytest.mark.parametrize('name', ['metadata.yaml', 'drive_0.mcap', 'bag_0.db3.zstd'])
    def test_a_bag(self, name, tmp_path):
        (tmp_path / name).touch()
        assert rejection(tmp_path).endswith(f'{tmp_path} is a bag: td3_agent replay {tmp_path}')

    def test_nothing_is_made_up(self, tmp_path):
        (tmp_path / 'logs').mkdir()
        (tmp_path / 'link').symlink_to('/')
        assert rejection(tmp_path) == 'a folder, expected a .safetensors file'


def two_files(folder, actor):
    """Write a policy as earlier versions did: weights, and beside them a manifest of schema 1."""
    folder.mkdir()
    save(folder / NAME, actor)
    content = json.loads(parts_of(folder / NAME)[0]['__metadata__']['manifest'])
    (folder / NAME).unlink()
    weights = safetensors.torch.save(actor.state_dict())
    del content['weights_sha256']
    digest = hashlib.sha256(weights).hexdigest()
    content['weights'] = {'file': 'actor.safetensors', 'sha256': digest, 'bytes': len(weights)}
    (folder / 'manifest.json').write_text(json.dumps(content | {'schema': 1}))
    (folder / 'actor.safetensors').write_bytes(weights)
    return folder


class TestTwoFiles:
    """The form of earlier versions is rejected, and converted with the same actions."""

    def test_it_is_rejected_with_what_converts_it(self, tmp_path):
        folder = two_files(tmp_path / 'old', actor_of())
        for path in (folder, folder / 'actor.safetensors'):
            assert 'scripts/convert_policy.py FOLDER POLICY.safetensors' in rejection(path)

    def test_it_is_converted(self, tmp_path):
        actor = actor_of(seed=3).eval()
        with torch.no_grad():
            actor.head.weight.mul_(300.0)
            expected = actor(torch.from_numpy(STATE)[None], torch.from_numpy(IMAGE)[None])[0]
        folder = two_files(tmp_path / 'old', actor)
        script = runpy.run_path(str(ROOT / 'scripts' / 'convert_policy.py'))
        script['convert'](folder, tmp_path / NAME)
        policy, manifest = load_checkpoint(tmp_path / NAME, kind=DRIVING)
        np.testing.assert_array_equal(policy.action(STATE, IMAGE), expected.numpy())
        assert manifest.training == {'steps': 1000, 'seed': 3}

    def test_a_damaged_one_is_not(self, tmp_path):
        folder = two_files(tmp_path / 'old', actor_of())
        with (folder / 'actor.safetensors').open('ab') as file:
            file.write(b'.')
        script = runpy.run_path(str(ROOT / 'scripts' / 'convert_policy.py'))
        for damage in (lambda: None, (folder / 'manifest.json').unlink):
            damage()
            with pytest.raises(ValueError, match=str(folder)):
                script['convert'](folder, tmp_path / NAME)
        assert not (tmp_path / NAME).exists()


def test_shipped_policies_lie_in_the_package():
    assert policy_file('lane') == ROOT / 'td3_agent' / 'weights' / 'lane.safetensors'
    assert policy_file('other.safetensors') == Path('other.safetensors')


def test_writable_by_everyone(broken):
    broken.parent.chmod(0o777)
    assert 'its folder is writable by everyone, expected chmod o-w' in rejection(broken)
    broken.parent.chmod(0o1777)  # as /tmp is
    load_checkpoint(broken)
    broken.chmod(0o777)
    assert rejection(broken).startswith('writable by everyone, expected chmod o-w')


class Bomb:
    """Leaves a canary behind when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f'touch {self.canary}',)


@pytest.mark.parametrize('suffix', ['.pt', '.pth', '.pkl', '.PT', '.bin'])
def test_pickle_is_rejected_by_name_and_never_opened(tmp_path, suffix):
    file, canary = tmp_path / f'policy{suffix}', tmp_path / 'canary'
    torch.save({'actor': Bomb(canary)}, file)
    assert 'it is never opened' in rejection(file)
    assert not canary.exists()


def test_pickle_under_another_name_is_rejected_and_never_run(broken, tmp_path):
    canary = tmp_path / 'canary'
    pickled = pickle.dumps(Bomb(canary)).ljust(broken.stat().st_size, b'.')
    broken.write_bytes(pickled)
    assert 'header length is' in rejection(broken)
    save(tmp_path / 'other.safetensors')
    header, body = parts_of(tmp_path / 'other.safetensors')
    write(broken, header, pickled[: len(body)])
    vouch(broken)
    with contextlib.suppress(CheckpointError):  # bytes of a pickle are weights like others
        load_checkpoint(broken)
    assert not canary.exists()


def test_huge_file_is_rejected_before_it_is_read(broken, monkeypatch):
    with broken.open('ab') as file:
        file.truncate(1 << 38)  # sparse
    read = []
    monkeypatch.setattr(os, 'read', count(read, os.read))
    assert 'but the architecture needs' in rejection(broken)
    assert sum(read) < 10_000


def test_architecture_beyond_the_limit_is_rejected_whatever_the_file_has(broken):
    edit(broken, nested('actor', 'hidden', value=[4096] * 8))
    with broken.open('ab') as file:
        file.truncate(1 << 29)
    assert f'at most {1 << 28}' in rejection(broken)


def count(sizes, function):
    def counted(handle, size):
        sizes.append(size)
        return function(handle, size)

    return counted


# ---- Reading: the manifest ----------------------------------------------------------------------


def nested(*keys, value):
    def change(content):
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


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


@settings(max_examples=60, deadline=None)
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

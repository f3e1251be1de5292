# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what is written is read back exactly, and anything else is refused by name."""

import dataclasses
import errno
import hashlib
import json
import os
from pathlib import Path
import pickle
import shutil
import tempfile
import zipfile

from hypothesis import given, settings
from hypothesis import strategies as st
import numpy as np
import pytest
import safetensors.torch
import torch

from td3_agent.driving.loop_check import CameraView, Contract
from td3_agent.driving.observation import ENCODINGS, ObservationSpec
from td3_agent.policy import checkpoint
from td3_agent.policy.checkpoint import (
    DRIVING,
    GYMNASIUM,
    MANIFEST_NAME,
    WEIGHTS_NAME,
    ActionField,
    CheckpointError,
    InputContract,
    OutputContract,
    StateField,
    driving_inputs,
    driving_outputs,
    load_checkpoint,
    read_manifest,
    save_checkpoint,
)
from td3_agent.policy.networks import DRIVING_ACTOR, ActorConfig, build_actor

SMALL = dataclasses.replace(DRIVING_ACTOR, conv=((4, 8, 4), (4, 4, 2)), features=4, hidden=(8,))
PENDULUM = ActorConfig(
    image_shape=None, state_size=3, action_low=(-2.0,), action_high=(2.0,), hidden=(8,)
)
RNG = np.random.default_rng(7)
IMAGE = RNG.integers(0, 256, (4, 84, 84), dtype=np.uint8)
STATE = np.array([0.5, 0.1, -1.0, 0.0], dtype=np.float32)


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
    path = tmp_path_factory.mktemp('good') / 'policy'
    save(path)
    return path


@pytest.fixture(scope='module')
def good_action(good):
    """What the good policy answers."""
    return load_checkpoint(good)[0].action(STATE, IMAGE)


@pytest.fixture
def broken(good, tmp_path):
    return shutil.copytree(good, tmp_path / 'policy')


def refusal(path, **kwargs):
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **kwargs)
    assert repr(str(path)) in str(caught.value)
    return '; '.join(caught.value.faults)


def edit(path, change):
    """Change the manifest with ``change(content)`` and write it back."""
    file = path / MANIFEST_NAME
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def set_weights(path, data):
    """Put other weight bytes there, with a manifest that vouches for them."""
    (path / WEIGHTS_NAME).write_bytes(data)

    def vouch(content):
        content['weights'].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))

    edit(path, vouch)


def tensors_of(path):
    return safetensors.torch.load((path / WEIGHTS_NAME).read_bytes())


# ---- What is written is read back ---------------------------------------------------------------


@pytest.mark.parametrize('config', [SMALL, DRIVING_ACTOR])
def test_loaded_policy_acts_bit_for_bit_like_the_saved_one(tmp_path, config):
    actor = actor_of(config, seed=5).eval()
    with torch.no_grad():
        actor.head.weight.mul_(300.0)
        expected = actor(torch.from_numpy(STATE)[None], torch.from_numpy(IMAGE)[None])[0].numpy()
    save(tmp_path / 'policy', actor)
    policy, manifest = load_checkpoint(tmp_path / 'policy', kind=DRIVING)
    np.testing.assert_array_equal(policy.action(STATE, IMAGE), expected)
    assert policy.trained
    assert policy.config == config
    assert manifest == read_manifest(tmp_path / 'policy')


def test_policy_that_sees_its_route_says_so(tmp_path):
    spec = ObservationSpec(path=True, crop_top=0.25)
    config = dataclasses.replace(SMALL, state_size=spec.state_size)
    manifest = save(tmp_path / 'policy', actor_of(config), inputs=driving_inputs(spec))
    assert load_checkpoint(tmp_path / 'policy', kind=DRIVING)[1] == manifest
    assert manifest.observation_spec == spec
    assert [field.name for field in manifest.inputs.state[4:6]] == ['route_x_0', 'route_y_0']


def test_route_points_of_another_kind_are_refused(tmp_path):
    spec = ObservationSpec(path=True)
    save(
        tmp_path / 'policy',
        actor_of(dataclasses.replace(SMALL, state_size=spec.state_size)),
        inputs=driving_inputs(spec),
    )
    edit(tmp_path / 'policy', lambda c: c['inputs']['state'][5].update(scale=12.0))
    assert 'inputs.state' in refusal(tmp_path / 'policy')


def test_manifest_says_what_the_policy_needs_and_means(good):
    manifest = read_manifest(good)
    assert manifest.inputs == driving_inputs()
    assert manifest.inputs.rate_hz == 20.0
    assert manifest.observation_spec == ObservationSpec()
    assert [field.name for field in manifest.outputs.actions] == ['linear_x', 'angular_z']
    assert manifest.outputs.twist_convention == 'velocity'
    assert manifest.created_by.torch == torch.__version__
    assert manifest.training == {'steps': 1000, 'seed': 3}
    weights = (good / WEIGHTS_NAME).read_bytes()
    assert manifest.weights.sha256 == hashlib.sha256(weights).hexdigest()
    assert manifest.weights.bytes == len(weights)


def test_manifest_can_be_read_by_a_person(good):
    text = (good / MANIFEST_NAME).read_text()
    assert text.count('\n') > 40
    assert text.endswith('}\n')


def test_another_task_than_driving(tmp_path):
    save_checkpoint(
        tmp_path / 'pendulum',
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
    policy, manifest = load_checkpoint(tmp_path / 'pendulum')
    assert not policy.trained
    assert manifest.training == {}
    with pytest.raises(ValueError, match='takes no image'):
        _ = manifest.observation_spec
    assert policy.action(np.zeros(3, dtype=np.float32)).shape == (1,)
    reason = refusal(tmp_path / 'pendulum', kind=DRIVING)
    assert "kind is 'gymnasium', expected 'driving'" in reason


def test_loading_leaves_the_global_generator_alone(good):
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    load_checkpoint(good)
    assert torch.equal(torch.rand(3), expected)


def test_link_to_a_checkpoint_directory_is_followed(good, tmp_path):
    (tmp_path / 'latest').symlink_to(good)
    load_checkpoint(tmp_path / 'latest')


# ---- Writing: whole or not at all ---------------------------------------------------------------


def test_new_checkpoint_replaces_the_old_one(tmp_path):
    save(tmp_path / 'policy', actor_of(seed=0))
    save(tmp_path / 'policy', actor_of(seed=1))
    policy, _ = load_checkpoint(tmp_path / 'policy')
    assert torch.equal(policy.actor.head.weight, actor_of(seed=1).head.weight)
    assert [path.name for path in tmp_path.iterdir()] == ['policy']


def test_replacing_works_where_directories_cannot_be_exchanged(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, '_exchange', lambda *_: False)
    test_new_checkpoint_replaces_the_old_one(tmp_path)


def test_old_checkpoint_comes_back_when_the_new_one_cannot_follow(tmp_path, monkeypatch):
    save(tmp_path / 'policy')
    before = snapshot(tmp_path)
    monkeypatch.setattr(checkpoint, '_exchange', lambda *_: False)
    rename = Path.rename

    def failing(self, target):
        if self.suffix == '.tmp' and not Path(target).exists():
            raise OSError(errno.EIO, 'I/O error')
        return rename(self, target)

    monkeypatch.setattr(Path, 'rename', failing)
    with pytest.raises(CheckpointError, match=r'cannot be written: .*I/O error'):
        save(tmp_path / 'policy', actor_of(seed=1))
    assert snapshot(tmp_path) == before


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob('*') if p.is_file()}


@pytest.mark.parametrize('failing', ['write', 'fsync', 'mkdir'])
def test_full_disk_leaves_the_old_checkpoint_as_it_was(tmp_path, monkeypatch, failing):
    save(tmp_path / 'policy')
    before = snapshot(tmp_path)

    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, 'No space left on device')

    where = {'write': (os, 'fdopen'), 'fsync': (os, 'fsync'), 'mkdir': (Path, 'mkdir')}[failing]
    monkeypatch.setattr(*where, full)
    with pytest.raises(CheckpointError, match=r'cannot be written: .*No space left'):
        save(tmp_path / 'policy', actor_of(seed=1))
    monkeypatch.undo()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        ({'training': {'loss': float('nan')}}, 'manifest.json: Out of range float'),
        ({'training': {'actor': object()}}, 'manifest.json: .*not JSON serializable'),
        ({'kind': 'other'}, "kind is 'other', expected"),
        ({'inputs': driving_inputs(rate_hz=-1.0)}, 'inputs.rate_hz is -1.0'),
        ({'inputs': driving_inputs(ObservationSpec(frame_stack=3))}, 'actor.image_shape is'),
        ({'training': {'log': 'x' * (1 << 20)}}, 'bytes, expected <='),
    ],
)
def test_what_could_not_be_loaded_is_not_written(tmp_path, changes, message):
    save(tmp_path / 'policy')
    before = snapshot(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        save(tmp_path / 'policy', **changes)
    assert snapshot(tmp_path) == before


def test_broken_weights_are_not_written(tmp_path):
    actor = actor_of()
    with torch.no_grad():
        actor.trunk[0].weight[0, 0] = np.nan
    with pytest.raises(CheckpointError, match=r'trunk.0.weight holds 1 values that are not fin'):
        save(tmp_path / 'policy', actor)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_checkpoint_is_never_replaced(tmp_path):
    (tmp_path / 'file').write_text('precious')
    (tmp_path / 'folder').mkdir()
    (tmp_path / 'folder' / 'thesis.tex').write_text('precious')
    (tmp_path / 'link').symlink_to(tmp_path / 'folder')
    before = snapshot(tmp_path)
    for name in ('file', 'folder', 'link'):
        with pytest.raises(CheckpointError, match='stands there'):
            save(tmp_path / name)
    assert snapshot(tmp_path) == before


def test_missing_parent_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match='No such file'):
        save(tmp_path / 'nowhere' / 'policy')


# ---- Reading: files -----------------------------------------------------------------------------


def test_missing(tmp_path):
    assert 'No such file' in refusal(tmp_path / 'nothing')
    (tmp_path / 'empty').mkdir()
    assert 'manifest.json: No such file' in refusal(tmp_path / 'empty')
    assert 'null' in refusal('with\0null')


@pytest.mark.parametrize('name', [MANIFEST_NAME, WEIGHTS_NAME])
@pytest.mark.parametrize('share', [0.0, 0.1, 0.5, 0.99])
def test_truncated(broken, name, share):
    data = (broken / name).read_bytes()
    (broken / name).write_bytes(data[: int(share * len(data))])
    reason = refusal(broken)
    assert name in reason
    assert share > 0.0 or 'empty (0 bytes)' in reason


@pytest.mark.parametrize('name', [MANIFEST_NAME, WEIGHTS_NAME])
def test_file_missing(broken, name):
    (broken / name).unlink()
    assert f'{name}: No such file' in refusal(broken)


def test_one_flipped_bit_in_the_weights(broken):
    data = bytearray((broken / WEIGHTS_NAME).read_bytes())
    data[-3] ^= 1
    (broken / WEIGHTS_NAME).write_bytes(data)
    assert 'actor.safetensors: SHA-256 is ' in refusal(broken)


@pytest.mark.parametrize('name', [MANIFEST_NAME, WEIGHTS_NAME])
def test_link_in_the_place_of_a_file(broken, tmp_path, name):
    (broken / name).rename(tmp_path / 'elsewhere')
    (broken / name).symlink_to(tmp_path / 'elsewhere')
    assert f'{name}: is a symbolic link' in refusal(broken)


@pytest.mark.parametrize('name', [MANIFEST_NAME, WEIGHTS_NAME])
def test_pipe_or_directory_in_the_place_of_a_file(broken, name):
    (broken / name).unlink()
    os.mkfifo(broken / name)
    assert f'{name}: not a regular file' in refusal(broken)
    (broken / name).unlink()
    (broken / name).mkdir()
    assert f'{name}: not a regular file' in refusal(broken)


@pytest.mark.parametrize('name', [MANIFEST_NAME, WEIGHTS_NAME])
def test_git_lfs_pointer(broken, name):
    (broken / name).write_text('version https://git-lfs.github.com/spec/v1\noid sha256:0\n')
    assert f'{name}: a Git LFS pointer in the place of the file: git lfs pull' in refusal(broken)


class TestAnotherFolderIsMeant:
    """No manifest is there: the text ends with where one is, or what the folder is."""

    def test_the_run_of_a_training(self, good, tmp_path):
        run = tmp_path / 'train' / 'lane'
        for name in ('best', 'policies/step_000002000', 'policies/step_000001000'):
            shutil.copytree(good, run / name)
        assert refusal(run).endswith(
            f'; did you mean {run}/best? also there: {run}/policies/step_000001000, '
            f'{run}/policies/step_000002000'
        )
        assert f'; did you mean {run}/best?' in refusal(tmp_path / 'train')

    def test_a_file_of_it(self, good):
        for name in (MANIFEST_NAME, WEIGHTS_NAME):
            assert refusal(good / name).endswith(f'; {good} is a policy: --policy {good}')

    @pytest.mark.parametrize('name', ['metadata.yaml', 'drive_0.mcap', 'bag_0.db3.zstd'])
    def test_a_bag(self, name, tmp_path):
        (tmp_path / name).touch()
        assert refusal(tmp_path).endswith(f'{tmp_path} is a bag: td3_agent replay {tmp_path}')

    def test_nothing_is_made_up(self, tmp_path):
        (tmp_path / 'logs').mkdir()
        (tmp_path / 'link').symlink_to('/')
        assert refusal(tmp_path) == 'manifest.json: No such file or directory'


@pytest.mark.parametrize('name', [MANIFEST_NAME, WEIGHTS_NAME, '.'])
def test_writable_by_everyone(broken, name):
    (broken / name).chmod(0o777)
    assert 'writable by everyone, expected chmod o-w' in refusal(broken)


class Bomb:
    """Leaves a canary behind when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f'touch {self.canary}',)


@pytest.mark.parametrize('suffix', ['.pt', '.pth', '.pkl', '.PT', '.bin'])
def test_pickle_is_refused_by_name_and_never_opened(tmp_path, suffix):
    file, canary = tmp_path / f'policy{suffix}', tmp_path / 'canary'
    torch.save({'actor': Bomb(canary)}, file)
    assert 'it is never opened' in refusal(file)
    assert not canary.exists()


def test_file_in_the_place_of_the_directory(tmp_path):
    for name in ('policy.zip', 'policy.safetensors', 'policy'):
        (tmp_path / name).write_bytes(b'anything')
        assert 'Not a directory, expected a directory with' in refusal(tmp_path / name)


def test_pickle_beside_the_weights_is_refused(broken):
    (broken / 'actor.pt').write_bytes(b'')
    assert 'actor.pt: a .pt file can hold a pickle' in refusal(broken)


@pytest.mark.parametrize('vouched', [False, True])
def test_pickle_under_another_name_is_refused_and_never_run(broken, tmp_path, vouched):
    canary = tmp_path / 'canary'
    size = len((broken / WEIGHTS_NAME).read_bytes())
    data = pickle.dumps(Bomb(canary)).ljust(size, b'.')
    if vouched:
        set_weights(broken, data)
    else:
        (broken / WEIGHTS_NAME).write_bytes(data)
    assert 'actor.safetensors: header length is' in refusal(broken).replace('; ', '')
    assert not canary.exists()


def test_zip_bomb_is_refused_by_its_size(broken):
    with zipfile.ZipFile(broken / 'bomb', 'w', zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr('data.pkl', b'\0' * 10_000_000)
    (broken / 'bomb').rename(broken / WEIGHTS_NAME)
    assert 'but the architecture needs' in refusal(broken)


def test_huge_file_is_refused_before_it_is_read(broken, monkeypatch):
    def vouch(content):
        content['weights']['bytes'] = 1 << 28

    edit(broken, vouch)
    with (broken / WEIGHTS_NAME).open('ab') as file:
        file.truncate(1 << 28)  # sparse
    read = []
    monkeypatch.setattr(os, 'read', count(read, os.read))
    assert f'{1 << 28} bytes, but the architecture needs' in refusal(broken)
    assert sum(read) < 10_000


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
    edit(broken, lambda content: content['inputs']['image'].pop('camera', None))
    _, manifest = load_checkpoint(broken)
    assert manifest.inputs.contract() == Contract(rate_hz=20.0, encodings=tuple(ENCODINGS))
    camera = {'width_px': 160, 'height_px': 120, 'fov_deg': 90.0}
    edit(broken, nested('inputs', 'image', 'camera', value=camera))
    _, manifest = load_checkpoint(broken)
    assert manifest.inputs.contract().camera == CameraView(**camera)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (nested('schema', value=2), 'schema is 2, expected 1'),
        (nested('schema', value='1'), "schema is '1', expected 1"),
        (nested('schema', value=True), 'schema is True, expected 1'),
        (nested('surprise', value=1), "'surprise' is unknown"),
        (nested('actor', 'surprise', value=1), "actor.'surprise' is unknown"),
        (lambda c: c.pop('actor'), 'actor is missing'),
        (lambda c: c['inputs']['image'].pop('crop_top'), 'inputs.image.crop_top is missing'),
        (nested('kind', value=3), 'kind is 3, expected a text'),
        (nested('trained', value=1), 'trained is 1, expected true or false'),
        (nested('training', value=[]), 'training is [], expected an object'),
        (nested('created_by', value='me'), "created_by is 'me', expected an object"),
        (nested('inputs', value=None), 'inputs is None, expected an object'),
        (nested('inputs', 'rate_hz', value=None), 'expected a rate'),
        (nested('inputs', 'rate_hz', value=0), 'inputs.rate_hz is 0.0, expected > 0'),
        (nested('inputs', 'rate_hz', value=10**300), 'expected a number'),
        (nested('inputs', 'image', value=None), 'inputs.image is None, expected an image'),
        (nested('inputs', 'image', 'encodings', value=[]), 'encodings is (), expected of bgra8'),
        (nested('inputs', 'image', 'encodings', value=['yuv']), "('yuv',), expected of bgra8"),
        (nested('inputs', 'image', 'colour', value='rgb'), "colour is 'rgb', expected grey"),
        (nested('inputs', 'image', 'normalisation', value='x'), "normalisation is 'x'"),
        (nested('inputs', 'image', 'frame_stack', value=99), 'frame_stack must be in [1, 32]'),
        (nested('inputs', 'image', 'crop_top', value=1), 'crop_top must be in [0, 0.9], got 1'),
        (
            nested('inputs', 'image', 'camera', value={'width_px': 0, 'height_px': 120}),
            'inputs.image.camera: width_px must be >= 1 [px], got 0',
        ),
        (nested('inputs', 'image', 'camera', value=90), 'camera is 90, expected an object'),
        (nested('inputs', 'state', 0, 'unit', value='km/h'), 'inputs.state is '),
        (nested('inputs', 'state', 0, 'scale', value=0), 'inputs.state[0].scale is 0.0'),
        (nested('inputs', 'state', 0, 'scale', value='8'), "inputs.state[0].scale is '8'"),
        (nested('outputs', 'actions', 0, 'high', value=10.0), 'outputs.actions is '),
        (nested('outputs', 'actions', 0, 'high', value=-1.0), 'outputs.actions[0].low is 0.0'),
        (nested('outputs', 'twist_convention', value='upstream'), 'expected velocity'),
        (nested('actor', 'image_shape', value=[4, 84]), 'image_shape has 2 elements, expected 3'),
        (nested('actor', 'image_shape', value=[4, 85, 84]), 'actor.image_shape is (4, 85, 84)'),
        (nested('actor', 'image_shape', value=None), 'actor.image_shape is None'),
        (nested('actor', 'state_size', value=4.0), 'actor.state_size is 4.0, expected a whole'),
        (nested('actor', 'state_size', value=5), 'actor.state_size is 5, expected 4'),
        (nested('actor', 'hidden', value=[-1]), 'actor: hidden must have'),
        (nested('actor', 'hidden', value='256'), "actor.hidden is '256', expected a list"),
        (nested('actor', 'hidden', value=[10**30]), 'actor: hidden must have'),
        (nested('actor', 'conv', value=[[4, 8]]), 'actor.conv[0] has 2 elements, expected 3'),
        (nested('actor', 'conv', value=[[4096, 1, 1]] * 8), 'multiplications'),
        (nested('actor', 'action_high', value=[2.0, 1.0]), 'actor.action_high is (2.0, 1.0)'),
        (nested('weights', 'bytes', value=-5), 'weights.bytes is -5'),
        (nested('weights', 'bytes', value=1 << 40), 'weights.bytes is 1099511627776'),
        (nested('weights', 'sha256', value='abc'), "weights.sha256 is 'abc', expected 64 hex"),
        (nested('weights', 'sha256', value='0' * 64), 'actor.safetensors: SHA-256 is'),
        (nested('weights', 'file', value='../../other'), "weights.file is '../../other'"),
        (nested('weights', 'file', value='/etc/passwd'), "weights.file is '/etc/passwd'"),
        (nested('weights', 'file', value='actor.pt'), "weights.file is 'actor.pt'"),
    ],
)
def test_wrong_manifest_is_refused_by_field_and_value(broken, change, message):
    edit(broken, change)
    assert message in refusal(broken)


def test_all_faults_of_a_manifest_are_named_at_once(broken):
    def change(content):
        content['kind'] = 3
        content['actor']['hidden'] = ['a', 'b']
        del content['weights']['sha256']

    edit(broken, change)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(broken)
    assert caught.value.faults == (
        'manifest.json: kind is 3, expected a text',
        "manifest.json: actor.hidden[0] is 'a', expected a whole number",
        "manifest.json: actor.hidden[1] is 'b', expected a whole number",
        'manifest.json: weights.sha256 is missing',
    )


@pytest.mark.parametrize(
    ('data', 'message'),
    [
        (b'not json', 'not valid JSON'),
        (b'\xff\xfe{}', 'not valid JSON'),
        (b'[]', 'content is [], expected an object'),
        (b'null', 'content is None, expected an object'),
        (b'{"schema": 1, "schema": 1}', 'an object has a key twice'),
        (b'{"schema": NaN}', 'NaN is not JSON'),
        (b'{"schema": 1e999}', 'number 1e999 is beyond every float'),
        (b'{"schema": ' + b'9' * 9999 + b'}', ''),
        (b'[' * 100_000, 'not valid JSON'),
        (b' ' * (1 << 21), 'bytes, expected <= 1048576'),
    ],
)
def test_manifest_that_is_no_json_object(broken, data, message):
    (broken / MANIFEST_NAME).write_bytes(data)
    assert message in refusal(broken)


# ---- Reading: the weights, with a manifest that vouches for them --------------------------------


def test_wrong_shape_missing_and_foreign_tensors_are_all_named(broken):
    tensors = tensors_of(broken)
    tensors['head.weight'] = tensors['head.weight'].reshape(8, 2)
    tensors['foreign'] = tensors.pop('head.bias')
    set_weights(broken, safetensors.torch.save(tensors))
    reason = refusal(broken)
    assert "tensor 'foreign' is not part of the actor" in reason
    assert 'tensor head.bias is missing' in reason
    assert 'shape of head.weight is [8, 2], expected [2, 8]' in reason


@pytest.mark.parametrize('dtype', [torch.int32, torch.float32, torch.float64])
def test_wrong_dtype(broken, dtype):
    tensors = tensors_of(broken)
    tensors['head.bias'] = tensors['head.bias'].to(dtype)
    set_weights(broken, safetensors.torch.save(tensors))
    if dtype == torch.float32:
        load_checkpoint(broken)
    else:
        assert 'dtype of head.bias is ' in refusal(broken)


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_weights_that_are_no_numbers(broken, bad):
    tensors = tensors_of(broken)
    tensors['head.bias'][0] = bad
    set_weights(broken, safetensors.torch.save(tensors))
    assert 'tensor head.bias holds 1 values that are not finite' in refusal(broken)


def with_header(path, change):
    """Change the header of the weights with ``change(header)``, data as it was."""
    data = (path / WEIGHTS_NAME).read_bytes()
    length = int.from_bytes(data[:8], 'little')
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, 'little') + text + data[8 + length :]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (nested('head.bias', 'data_offsets', value=[0, 8]), 'data_offsets of '),
        (nested('head.bias', 'data_offsets', value=[10**12, 10**12 + 8]), 'data_offsets of '),
        (nested('head.bias', 'data_offsets', value=['a', 'b']), 'data_offsets are not all'),
        (nested('head.bias', 'data_offsets', value=None), 'data_offsets are not all'),
        (nested('head.bias', value=[]), 'tensor head.bias is [], expected dtype'),
        (nested('head.bias', 'shape', value=[10**18]), 'shape of head.bias is'),
        (nested('head.bias', 'more', value=1), 'tensor head.bias is '),
        (nested('__metadata__', value=[1, 2]), ''),
    ],
)
def test_forged_header(broken, change, message):
    set_weights(broken, with_header(broken, change))
    assert message in refusal(broken)


def test_forged_header_length(broken):
    data = (broken / WEIGHTS_NAME).read_bytes()
    for length in (0, len(data), 1 << 40, (1 << 64) - 1):
        set_weights(broken, length.to_bytes(8, 'little') + data[8:])
        assert f'header length is {length}' in refusal(broken)


def test_bytes_left_over(broken):
    set_weights(broken, (broken / WEIGHTS_NAME).read_bytes() + b'\0' * 16)
    assert 'the data at byte' in refusal(broken)


# ---- Any damage ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    name=st.sampled_from([MANIFEST_NAME, WEIGHTS_NAME]),
    place=st.floats(0.0, 1.0, exclude_max=True),
    junk=st.binary(min_size=1, max_size=40),
    insert=st.booleans(),
)
def test_random_damage_is_refused_or_harmless(  # noqa: PLR0913
    good, good_action, name, place, junk, insert
):
    """Whatever is overwritten or inserted: a refusal by name, or the very same policy."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(good, Path(folder) / 'policy'))
        data = (path / name).read_bytes()
        start = int(place * len(data))
        end = start if insert else start + len(junk)
        (path / name).write_bytes(data[:start] + junk + data[end:])
        try:
            policy, _ = load_checkpoint(path, kind=DRIVING)
        except CheckpointError as error:
            assert error.faults  # noqa: PT017  either outcome is right
        else:
            np.testing.assert_array_equal(policy.action(STATE, IMAGE), good_action)


@settings(max_examples=60, deadline=None)
@given(place=st.floats(0.0, 1.0, exclude_max=True), junk=st.binary(min_size=1, max_size=40))
def test_random_damage_that_the_manifest_vouches_for_does_no_harm(good, place, junk):
    """A forger fixes the hash too; then a finite policy of the right shape is all he gets."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copytree(good, Path(folder) / 'policy'))
        data = (path / WEIGHTS_NAME).read_bytes()
        start = int(place * len(data) / 4) if len(junk) % 2 else int(place * len(data))
        set_weights(path, data[:start] + junk + data[start + len(junk) :])
        try:
            policy, _ = load_checkpoint(path, kind=DRIVING)
        except CheckpointError as error:
            assert error.faults  # noqa: PT017  either outcome is right
        else:
            assert policy.config == SMALL

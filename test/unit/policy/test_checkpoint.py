# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints: what is written is read back exactly, and other files are rejected."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import os
from pathlib import Path
import pickle
import shutil

from harness.checkpoints import (
    IMAGE,
    NAME,
    PENDULUM,
    SMALL,
    STATE,
    actor_of,
    edit,
    nested,
    parts_of,
    rejection,
    save,
    vouch,
    write,
)
import numpy as np
import pytest
import safetensors.torch
import torch

from td3_agent.driving.observation import ObservationSpec
from td3_agent.policy.checkpoint import load_checkpoint, save_checkpoint
from td3_agent.policy.manifest import (
    DRIVING,
    DRIVING_ACTOR,
    GYMNASIUM,
    ActionField,
    InputContract,
    OutputContract,
    StateField,
    driving_inputs,
)
from td3_agent.policy.policy_file import CheckpointError, policy_file, read_manifest

ROOT = Path(__file__).parents[3]


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

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Snapshots: whole or not there, and damage is told."""

import json
import os

import pytest
import torch

from td3_agent.td3.snapshot import (
    FACTS_NAME,
    TENSORS_NAME,
    SnapshotError,
    load_newest,
    load_snapshot,
    save_snapshot,
    snapshots,
)

TENSORS = {'a': torch.arange(4.0), 'flags': torch.tensor([True, False])}
FACTS = {'step': 3, 'rng': {'state': 2**120}}


def save(parent, step=3, keep=2):
    return save_snapshot(parent, step, TENSORS, FACTS | {'step': step}, keep=keep)


def test_what_is_saved_is_loaded(tmp_path):
    tensors, facts = load_snapshot(save(tmp_path))
    assert facts == FACTS
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_last_ones_are_kept(tmp_path):
    for step in (1, 2, 30):
        save(tmp_path, step)
    assert [path.name[-2:] for path in snapshots(tmp_path)] == ['02', '30']
    assert load_newest(tmp_path)[1]['step'] == 30


def test_half_written_one_is_not_seen_and_swept_away(tmp_path):
    save(tmp_path, 1)
    (tmp_path / '.step_0000000002.tmp').mkdir()
    assert load_newest(tmp_path)[1]['step'] == 1
    save(tmp_path, 3)
    assert not list(tmp_path.glob('.step*'))


def flip(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def age(path):
    path.write_text(json.dumps(json.loads(path.read_text()) | {'schema': 99}))


def link(path):
    path.rename(path.parent.parent / 'elsewhere')
    path.symlink_to(path.parent.parent / 'elsewhere')


def pipe(path):
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize(
    ('file', 'damage'),
    [
        (TENSORS_NAME, lambda path: os.truncate(path, path.stat().st_size - 1)),
        (TENSORS_NAME, flip),
        (TENSORS_NAME, link),
        (TENSORS_NAME, lambda path: path.unlink()),
        (FACTS_NAME, age),
        (FACTS_NAME, lambda path: path.write_text('{')),
        (FACTS_NAME, lambda path: path.write_text('[' * 100_000)),
        (FACTS_NAME, lambda path: path.write_bytes(b'\xff\xfe')),
        (FACTS_NAME, lambda path: os.truncate(path, 1 << 33)),  # sparse: 8 GB if it were read
        (FACTS_NAME, pipe),
    ],
)
def test_damaged_one_is_rejected_and_the_one_before_is_taken(tmp_path, file, damage):
    save(tmp_path, 1)
    path = save(tmp_path, 2)
    damage(path / file)
    with pytest.raises(SnapshotError, match='step_0000000002'):
        load_snapshot(path)
    assert load_newest(tmp_path)[1]['step'] == 1


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(SnapshotError, match='holds no snapshot'):
        load_newest(tmp_path / 'none')


def test_failure_leaves_the_older_one(tmp_path, monkeypatch):
    save(tmp_path, 1)

    def full(*_):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('safetensors.torch.save_file', full)
    with pytest.raises(OSError, match='No space'):
        save(tmp_path, 2)
    assert load_newest(tmp_path)[1]['step'] == 1

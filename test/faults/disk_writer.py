# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Writes a checkpoint and a snapshot, then again on a full disk: ``disk_writer.py FOLDER``.

Prints one JSON object: what was rejected and how, and whether the old ones are as they were.
"""

from contextlib import suppress
import json
from pathlib import Path
import shutil
import sys

import torch

from td3_agent.policy.checkpoint import load_checkpoint, save_checkpoint
from td3_agent.policy.policy_file import CheckpointError, policy_file
from td3_agent.td3.snapshot import load_newest, save_snapshot

TENSOR = torch.arange(16_384, dtype=torch.float32)  # 64 KiB


def main(folder):
    source = policy_file('lane')
    policy, manifest = load_checkpoint(source)
    checkpoint, snapshots = folder / 'checkpoint.safetensors', folder / 'snapshots'
    shutil.copyfile(source, checkpoint)
    save_snapshot(snapshots, 1, {'a': TENSOR}, {'step': 1}, keep=2)
    with suppress(OSError), (folder / 'full').open('wb', buffering=0) as file:
        while True:
            file.write(bytes(4096))
    rejected = []
    about = {name: getattr(manifest, name) for name in ('kind', 'trained', 'inputs', 'outputs')}
    try:
        save_checkpoint(checkpoint, policy.actor, **about)
    except CheckpointError as error:
        rejected.append(str(error))
    try:
        save_snapshot(snapshots, 2, {'a': TENSOR + 1.0}, {'step': 2}, keep=2)
    except OSError as error:
        rejected.append(str(error))
    _, kept = load_checkpoint(checkpoint)
    tensors, facts = load_newest(snapshots)
    found = {
        'rejected': rejected,
        'checkpoint_kept': kept.weights_sha256 == manifest.weights_sha256,
        'snapshot_kept': facts['step'] == 1 and torch.equal(tensors['a'], TENSOR),
        'leftovers': sorted(path.name for path in folder.rglob('.*')),
    }
    print(json.dumps(found))


if __name__ == '__main__':
    main(Path(sys.argv[1]))

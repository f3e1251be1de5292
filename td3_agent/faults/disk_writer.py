# SPDX-License-Identifier: Apache-2.0
"""Writes a checkpoint and a snapshot, then tries it again on a full disk.

``python -m td3_agent.faults.disk_writer FOLDER``, the folder on a small file system. Prints one
JSON object: what was refused and how, and whether the old ones are as they were.
"""

from __future__ import annotations

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


def main() -> None:
    """Do it, and print what came of it."""
    folder = Path(sys.argv[1])
    source = policy_file('lane')
    policy, manifest = load_checkpoint(source)
    checkpoint, snapshots = folder / 'checkpoint.safetensors', folder / 'snapshots'
    shutil.copyfile(source, checkpoint)
    save_snapshot(snapshots, 1, {'a': TENSOR}, {'step': 1}, keep=2)
    with suppress(OSError), (folder / 'full').open('wb', buffering=0) as file:
        while True:
            file.write(bytes(4096))
    found = {'checkpoint_refused': '', 'snapshot_refused': ''}
    try:
        save_checkpoint(
            checkpoint,
            policy.actor,
            kind=manifest.kind,
            trained=manifest.trained,
            inputs=manifest.inputs,
            outputs=manifest.outputs,
        )
    except CheckpointError as error:
        found['checkpoint_refused'] = str(error)
    try:
        save_snapshot(snapshots, 2, {'a': TENSOR + 1.0}, {'step': 2}, keep=2)
    except OSError as error:
        found['snapshot_refused'] = str(error)
    _, kept = load_checkpoint(checkpoint)
    tensors, facts = load_newest(snapshots)
    found['checkpoint_kept'] = kept.weights_sha256 == manifest.weights_sha256
    found['snapshot_kept'] = facts['step'] == 1 and torch.equal(tensors['a'], TENSOR)
    found['leftovers'] = sorted(path.name for path in folder.rglob('.*'))
    print(json.dumps(found))


if __name__ == '__main__':
    main()

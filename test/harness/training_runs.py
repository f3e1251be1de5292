# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Short training runs, and what they leave."""

import csv
import hashlib
import json

from td3_agent.td3.params import Td3Params
from td3_agent.training.params import TrainParams
from td3_agent.training.trainer import Trainer

IDENTITY = 'td3_agent.training.tasks:td3_agent/Identity-v0'
SPOT = 'td3_agent.training.tasks:td3_agent/Spot-v0'
TINY = {'hidden_units': 8, 'hidden_layers': 1, 'batch_size': 4, 'start_steps': 10}
TINY |= {'exploration_decay_steps': 30}
TINY |= {'encoder': 'small_images', 'features': 4, 'buffer_capacity': 40}
SHORT = {'steps': 60, 'eval_every': 30, 'eval_episodes': 1, 'eval_steps': 20, 'log_every': 20}
SHORT |= {'device': 'cpu'}
TIMES = ('steps_per_s',)  # columns in which runs always differ


def trainer_of(out, env=IDENTITY, td3=None, **train):
    return Trainer((env,), Td3Params(**(td3 or TINY)), TrainParams(**{**SHORT, **train}), out)


def fingerprint(trainer):
    """Hash of everything that a snapshot of the trainer would hold."""
    tensors, facts = trainer.state()
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode() + tensors[name].detach().contiguous().numpy().tobytes())
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()


def rows(path):
    with path.open(newline='') as file:
        return [
            {name: value for name, value in row.items() if name not in TIMES}
            for row in csv.DictReader(file)
        ]

# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""What the tests of Ray share: a small run, and a look away from what Ray leaves open."""

from contextlib import contextmanager
import gc
import warnings

from td3_agent.td3.params import Td3Params
from td3_agent.training.params import RayParams, TrainParams
from td3_agent.training.trainer import Trainer

TD3 = {'hidden_units': 8, 'batch_size': 4, 'start_steps': 20, 'buffer_capacity': 2000}
TD3 |= {'updates_per_step': 0.5}


@contextmanager
def unclosed_files_ignored():
    """Ray leaves some to the garbage collector, which is called before others could be blamed."""
    with warnings.catch_warnings():
        warnings.simplefilter('ignore', ResourceWarning)
        yield
        gc.collect()


def trainer_of(out, steps, *envs, **ray):
    train = {'eval_every': 0, 'snapshot_every': 1000, 'log_every': 20, 'device': 'cpu'}
    params = {'workers': len(envs), 'fragment_steps': 5, 'broadcast_every': 2}
    return Trainer(
        tuple(f'scale_envs:scale/{name}-v0' for name in envs),
        Td3Params(**TD3),
        TrainParams(steps=steps, **train),
        out,
        RayParams(**params | ray),
    )

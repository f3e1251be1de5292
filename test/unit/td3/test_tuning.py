# SPDX-License-Identifier: Apache-2.0
"""Freed memory is kept where the C library can be told so, and nothing breaks elsewhere."""

import subprocess
import sys

import pytest
import torch

from td3_agent.td3 import tuning

PROGRAM = """
import resource
import numpy as np
from td3_agent.td3.tuning import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2 ** 20)  # 8 MB, 2048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if keep_freed_memory():
    faults()
    print(faults())
"""


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='of glibc')
def test_kept_memory_is_not_cleared_again():
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM], capture_output=True, check=True, text=True
    )
    assert not done.stdout or int(done.stdout) < 2048


def test_other_systems_are_left_alone(monkeypatch):
    monkeypatch.setattr(tuning.sys, 'platform', 'darwin')
    assert tuning.keep_freed_memory() is False
    monkeypatch.setattr(tuning.sys, 'platform', 'linux')
    monkeypatch.setattr(tuning.ctypes, 'CDLL', lambda _: object())
    assert tuning.keep_freed_memory() is False


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason='of some processors')
def test_denormals_are_zero_within_and_back_after():
    tiny = torch.full((64,), 1e-40)
    with tuning.flushed_denormals():
        assert (tiny * 0.9 == 0.0).all()
    assert (tiny * 0.9 != 0.0).all()


@pytest.mark.skipif(not torch.set_flush_denormal(False), reason='of some processors')
def test_moments_of_idle_weights_do_not_stay_denormal():
    """A unit that no input wakes has no gradient, and Adam's moments fade for ever."""
    from td3_agent.td3.learner import Learner
    from td3_agent.td3.params import Td3Params
    from td3_agent.td3.replay import ObservationShape, Sample

    shape = ObservationShape(state_size=1)
    learner = Learner(Td3Params(hidden_units=4), shape, (-1.0,), (1.0,), seed=0)
    one = torch.ones(2, 1).numpy()
    learner.update(learner.batch(Sample(one, None, one, one, one, one, None)))
    moments = learner._critic_adam.state
    moments['exp_avg'].fill_(1e-40)
    learner.update(learner.batch(Sample(0 * one, None, 0 * one, one, one, one, None)))
    first_layer = moments['exp_avg'][: 2 * 3 * 4].view(2, 3, 4)
    assert (first_layer[:, :2] == 0.0).all()  # nothing came in; the last row is the bias

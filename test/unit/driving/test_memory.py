# Copyright 2026 td3_agent authors
# SPDX-License-Identifier: Apache-2.0
"""Freed memory is kept where the C library can be told so, and nothing breaks elsewhere."""

import subprocess
import sys

import pytest

from td3_agent.driving import memory

PROGRAM = """
import resource
import numpy as np
from td3_agent.driving.memory import keep_freed_memory

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
    monkeypatch.setattr(memory.sys, 'platform', 'darwin')
    assert memory.keep_freed_memory() is False
    monkeypatch.setattr(memory.sys, 'platform', 'linux')
    monkeypatch.setattr(memory.ctypes, 'CDLL', lambda _: object())
    assert memory.keep_freed_memory() is False

# SPDX-License-Identifier: Apache-2.0
"""A node program keeps the memory of its images: the system does not clear it again and again."""

import subprocess
import sys

import pytest

from td3_agent.processes import free_domain_id, ros_environment

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(not sys.platform.startswith('linux'), reason='of glibc'),
]

PROGRAM = """
import ctypes
import resource
import numpy as np
from rclpy.node import Node
from rclpy.task import Future
from td3_agent.nodes.runtime import run_program

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(2**20)  # 8 MB, 2048 pages
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

class Measuring(Node):
    def __init__(self):
        super().__init__('measuring')
        self.finished = Future()
        self.create_timer(0.01, self.measure)

    def measure(self):
        faults()
        print('faults', faults() if hasattr(ctypes.CDLL(None), 'mallopt') else 0, flush=True)
        self.finished.set_result(None)

run_program(Measuring)
"""


def test_pages_are_not_cleared_again():
    done = subprocess.run(
        [sys.executable, '-c', PROGRAM],
        env=ros_environment(free_domain_id()),
        capture_output=True,
        check=True,
        text=True,
        timeout=60.0,
    )
    counts = [int(line.split()[1]) for line in done.stdout.splitlines() if line[:6] == 'faults']
    assert counts
    assert counts[0] < 2048
